//! What an engine may say when. It parses untrusted models, so hobd believes nothing that does
//! not fit what it asked for.

use std::collections::HashMap;

use hob_ipc::message::{Finished, Generate, LAYERS_MAX, NAME_BYTES_MAX, PARALLEL_MAX};
use hob_ipc::{EngineEvent, RequestId};

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
    requests: HashMap<RequestId, Account>,
}

#[derive(Debug)]
struct Account {
    max_tokens: u32,
    text_bytes: u64,
}

impl Ledger {
    /// Notes that the engine was given a request.
    pub fn asked(&mut self, request: &Generate) {
        let account = Account {
            max_tokens: request.max_tokens,
            text_bytes: 0,
        };
        self.requests.insert(request.id, account);
    }

    /// Checks an event, and notes what follows from it.
    ///
    /// # Errors
    /// [`Violation`]; the engine must then be killed.
    pub fn check(&mut self, event: &EngineEvent) -> Result<(), Violation> {
        match event {
            EngineEvent::Sandboxed { layers } => self.describes(layers),
            EngineEvent::Loading { percent } => self.loading(*percent),
            EngineEvent::Ready(ready) => {
                self.loading(100)?;
                let sane = (1..=PARALLEL_MAX).contains(&ready.parallel) && ready.n_ctx > 0;
                if !sane || !is_name(&ready.architecture) {
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
            EngineEvent::Finished(finished) => self.finished(finished),
            EngineEvent::Failed { id, .. } => {
                let gone = self.requests.remove(id);
                gone.map(drop).ok_or(Violation::ForeignRequest(*id))
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

    fn loading(&mut self, percent: u8) -> Result<(), Violation> {
        if self.ready || percent < self.percent || percent > 100 {
            return Err(Violation::OutOfTurn);
        }
        self.percent = percent;
        Ok(())
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

    fn finished(&mut self, finished: &Finished) -> Result<(), Violation> {
        let id = finished.id;
        let account = self.requests.remove(&id);
        let account = account.ok_or(Violation::ForeignRequest(id))?;
        let sane = finished.cached_tokens <= finished.prompt_tokens
            && finished.prompt_tokens <= self.n_ctx
            && finished.completion_tokens <= account.max_tokens
            && finished.accepted_tokens <= finished.drafted_tokens
            && finished.accepted_tokens <= finished.completion_tokens;
        sane.then_some(()).ok_or(Violation::Figures(id))
    }
}

/// Names go to clients and terminals: short, printable ASCII.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}
