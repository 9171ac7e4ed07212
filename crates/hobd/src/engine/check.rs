//! What an engine may say when. It parses untrusted models, so hobd believes nothing that does
//! not fit what it asked for.

use std::collections::{HashMap, HashSet};

use hob_ipc::constraint::REASON_BYTES_MAX;
use hob_ipc::gpu::{Found, Offload};
use hob_ipc::message::{
    FailureCode, Finished, Generate, LAYERS_MAX, NAME_BYTES_MAX, PARALLEL_MAX, PinId, PinState,
    STATE_FORMAT_BYTES_MAX,
};
use hob_ipc::{Command, EngineEvent, RequestId};

mod embedding;
mod score;

/// Longest token of any vocabulary, in bytes, with much room: bounds how much text may come.
const TOKEN_BYTES_MAX: u64 = 1024;

/// How an engine broke the protocol. Carries no text of the engine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An event for a request that it does not have.
    #[error("an event for request {0}, which it does not have")]
    ForeignRequest(RequestId),
    /// More text than the tokens asked for could make.
    #[error("more text for request {0} than its tokens could make")]
    TooMuchText(RequestId),
    /// An empty delta.
    #[error("an empty delta for request {0}")]
    EmptyDelta(RequestId),
    /// Numbers that can't be.
    #[error("impossible figures for request {0}")]
    Figures(RequestId),
    /// An event that does not fit the engine's phase.
    #[error("an event out of turn")]
    OutOfTurn,
    /// An event for a pinned prefix that it was not given, or not asked about.
    #[error("an event for pin {0}, which it was not asked about")]
    ForeignPin(PinId),
    /// More memory than it was allowed, or more tokens than there are.
    #[error("impossible figures of the cache")]
    Cache,
    /// A name that is too long, or too many of them.
    #[error("an oversized or malformed description of itself")]
    Description,
}

/// What an engine was asked, and how far it is.
#[derive(Debug, Default)]
pub struct Ledger {
    ready: bool,
    percent: u8,
    n_ctx: u32,
    /// What it was asked to compute on a GPU, until it says what it found.
    offload: Option<Offload>,
    requests: HashMap<RequestId, Account>,
    embeddings: HashMap<RequestId, embedding::Account>,
    scores: HashMap<RequestId, score::Account>,
    /// Pinned prefixes that it was ever given: events about one may cross its `Unpin`.
    pins: HashSet<PinId>,
    /// Pinned prefixes that it was asked to save.
    saves: HashSet<PinId>,
    /// Most bytes that its cache was ever allowed.
    cache_bytes_max: u64,
}

#[derive(Debug)]
struct Account {
    max_tokens: u32,
    text_bytes: u64,
    constrained: bool,
}

impl Ledger {
    fn asked(&mut self, request: &Generate) {
        let account = Account {
            max_tokens: request.max_tokens,
            text_bytes: 0,
            constrained: request.constraint.is_some(),
        };
        self.requests.insert(request.id, account);
    }

    /// Notes that the engine was given a command.
    pub fn told(&mut self, command: &Command) {
        match command {
            Command::Load(load) => {
                self.cache_bytes_max = load.cache_bytes_max;
                self.offload = load.gpu;
            }
            Command::Pin(pin) => drop(self.pins.insert(pin.id)),
            Command::SavePin { id } => drop(self.saves.insert(*id)),
            Command::LimitCache { bytes } => {
                self.cache_bytes_max = self.cache_bytes_max.max(*bytes);
            }
            Command::Generate(request) => self.asked(request),
            Command::Embed(request) => {
                let account = embedding::Account::new(request);
                self.embeddings.insert(request.id, account);
            }
            Command::Score(request) => {
                let account = score::Account::new(request);
                self.scores.insert(request.id, account);
            }
            // hobd never asks for tokens or other weights, or opens texts, so that an answer is out of turn.
            Command::Tokenize(_)
            | Command::Quantize(_)
            | Command::Observe(_)
            | Command::OpenText(_)
            | Command::OpenTokens(_)
            | Command::ReadText(_)
            | Command::ReadResidual(_)
            | Command::Cancel { .. }
            | Command::Unpin { .. } => {}
        }
    }

    /// Checks an event, and notes what follows from it.
    ///
    /// # Errors
    /// [`Violation`]; the engine must then be killed.
    pub fn check(&mut self, event: &EngineEvent) -> Result<(), Violation> {
        match event {
            EngineEvent::Sandboxed { layers } => self.describes(layers),
            EngineEvent::Gpu(found) => self.found(found),
            EngineEvent::Loading { percent } => self.loading(*percent),
            EngineEvent::Ready(ready) => {
                self.loading(100)?;
                let sane = (1..=PARALLEL_MAX).contains(&ready.parallel) && ready.n_ctx > 0;
                let format = &ready.state_format;
                let described =
                    is_name(&ready.architecture) && is_text(format, STATE_FORMAT_BYTES_MAX);
                if !sane || !described {
                    return Err(Violation::Description);
                }
                self.ready = true;
                self.n_ctx = ready.n_ctx;
                Ok(())
            }
            EngineEvent::LoadFailed { .. } if self.ready => Err(Violation::OutOfTurn),
            EngineEvent::LoadFailed { .. } | EngineEvent::Heartbeat { .. } => Ok(()),
            EngineEvent::Prefill {
                id,
                processed,
                total,
            } => {
                self.account(*id)?;
                let sane = processed <= total && *total <= self.n_ctx;
                sane.then_some(()).ok_or(Violation::Figures(*id))
            }
            EngineEvent::Delta { id, text } => self.delta(*id, text),
            EngineEvent::Embedding(made) => {
                let account = self.embeddings.get_mut(&made.id);
                let account = account.ok_or(Violation::ForeignRequest(made.id))?;
                let sane = account.takes(made, self.n_ctx);
                sane.then_some(()).ok_or(Violation::Figures(made.id))
            }
            EngineEvent::Scored(scored) => {
                let account = self.scores.get_mut(&scored.id);
                let account = account.ok_or(Violation::ForeignRequest(scored.id))?;
                let sane = account.takes(scored, self.n_ctx);
                sane.then_some(()).ok_or(Violation::Figures(scored.id))
            }
            EngineEvent::Tokenized(_)
            | EngineEvent::Quantized
            | EngineEvent::Observed(_)
            | EngineEvent::TextOpened(_)
            | EngineEvent::TextRead(_)
            | EngineEvent::ResidualRead(_) => Err(Violation::OutOfTurn),
            EngineEvent::Finished(finished) => self.finished(finished),
            EngineEvent::Failed {
                id, code, message, ..
            } => self.failed(*id, *code, message),
            EngineEvent::Pin { id, state } => self.pin(*id, *state),
            EngineEvent::PinSaved { id, .. } => {
                let asked = self.saves.remove(id);
                asked.then_some(()).ok_or(Violation::ForeignPin(*id))
            }
            EngineEvent::Cache { entries, bytes } => {
                // Each entry has some bytes.
                let sane = *bytes <= self.cache_bytes_max && u64::from(*entries) <= *bytes;
                sane.then_some(()).ok_or(Violation::Cache)
            }
        }
    }

    fn describes(&self, layers: &[String]) -> Result<(), Violation> {
        if self.ready {
            return Err(Violation::OutOfTurn);
        }
        let sane = layers.len() <= LAYERS_MAX && layers.iter().all(|layer| is_name(layer));
        sane.then_some(()).ok_or(Violation::Description)
    }

    fn found(&mut self, found: &Found) -> Result<(), Violation> {
        // It is said before the model is parsed.
        let offload = self
            .offload
            .take()
            .filter(|_| !self.ready && self.percent == 0);
        let offload = offload.ok_or(Violation::OutOfTurn)?;
        let sane = match found {
            Found::NotBuilt | Found::NoDevice { .. } => true,
            Found::Device(device) => is_name(&device.name) && device.layers <= offload.layers,
        };
        sane.then_some(()).ok_or(Violation::Description)
    }

    fn loading(&mut self, percent: u8) -> Result<(), Violation> {
        if self.ready || percent < self.percent || percent > 100 {
            return Err(Violation::OutOfTurn);
        }
        self.percent = percent;
        Ok(())
    }

    fn pin(&self, id: PinId, state: PinState) -> Result<(), Violation> {
        if !self.pins.contains(&id) {
            return Err(Violation::ForeignPin(id));
        }
        let sane = match state {
            PinState::Reading { processed, total } => processed <= total && total <= self.n_ctx,
            PinState::Ready { tokens, bytes, .. } => {
                // The state's bytes lie within the cache, and so do the tokens that are saved with
                // it but for their number.
                let room = self.cache_bytes_max.saturating_add(size_of::<u32>() as u64);
                tokens <= self.n_ctx && (1..=room).contains(&bytes)
            }
            PinState::Refused | PinState::Failed { .. } => true,
        };
        sane.then_some(()).ok_or(Violation::Cache)
    }

    fn account(&mut self, id: RequestId) -> Result<&mut Account, Violation> {
        self.requests
            .get_mut(&id)
            .ok_or(Violation::ForeignRequest(id))
    }

    fn delta(&mut self, id: RequestId, text: &str) -> Result<(), Violation> {
        if text.is_empty() {
            return Err(Violation::EmptyDelta(id));
        }
        let account = self.account(id)?;
        account.text_bytes = account.text_bytes.saturating_add(text.len() as u64);
        if account.text_bytes > u64::from(account.max_tokens) * TOKEN_BYTES_MAX {
            return Err(Violation::TooMuchText(id));
        }
        Ok(())
    }

    fn failed(&mut self, id: RequestId, code: FailureCode, message: &str) -> Result<(), Violation> {
        if let Some(account) = self.embeddings.remove(&id) {
            let sane = account.fails(code);
            return sane.then_some(()).ok_or(Violation::Figures(id));
        }
        if let Some(account) = self.scores.remove(&id) {
            let sane = account.fails(code);
            return sane.then_some(()).ok_or(Violation::Figures(id));
        }
        let account = self.requests.remove(&id);
        let account = account.ok_or(Violation::ForeignRequest(id))?;
        let sane = match code {
            FailureCode::Embed(_) | FailureCode::Score(_) | FailureCode::Text => false,
            // These words go to the client.
            FailureCode::Constraint(_) => {
                let plain = !message.chars().any(char::is_control);
                account.constrained && plain && message.len() <= REASON_BYTES_MAX
            }
            _ => true,
        };
        sane.then_some(()).ok_or(Violation::Figures(id))
    }

    fn finished(&mut self, finished: &Finished) -> Result<(), Violation> {
        let id = finished.id;
        if let Some(account) = self.embeddings.remove(&id) {
            let sane = account.ends(finished);
            return sane.then_some(()).ok_or(Violation::Figures(id));
        }
        if let Some(account) = self.scores.remove(&id) {
            let sane = account.ends(finished, self.n_ctx);
            return sane.then_some(()).ok_or(Violation::Figures(id));
        }
        let account = self.requests.remove(&id);
        let account = account.ok_or(Violation::ForeignRequest(id))?;
        let sane = finished.cached_tokens <= finished.prompt_tokens
            && finished.prompt_tokens <= self.n_ctx
            && finished.completion_tokens <= account.max_tokens
            && finished.accepted_tokens <= finished.drafted_tokens
            && finished.accepted_tokens <= finished.completion_tokens
            && finished.forced_tokens <= finished.completion_tokens
            && finished.passes <= finished.completion_tokens.saturating_add(1);
        sane.then_some(()).ok_or(Violation::Figures(id))
    }
}

/// Names go to clients and terminals: short, printable ASCII.
fn is_name(text: &str) -> bool {
    is_text(text, NAME_BYTES_MAX)
}

fn is_text(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}
