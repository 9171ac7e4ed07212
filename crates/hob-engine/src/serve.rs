//! The decode loop: takes commands, runs steps, reports. Exactly one terminal event for every
//! request, on every path.
//!
//! It knows llama.cpp only as a [`Model`], so that tests run it with one of their own.

use std::io;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use hob_api::event::FinishReason;
use hob_ipc::embedding::EmbedFailure;
use hob_ipc::message::{Drafts, FailureCode, Generate, Prompt, Sampling};
use hob_ipc::{EngineEvent, RequestId};

use crate::drafts::{Acceptance, StepCosts};
use crate::embed::{self, Embedder};
use crate::grammar::compiler::Compiling;
use crate::grammar::{Grammar, GrammarError, TokenSet, Wanted};
use crate::inbox::{Inbound, Inbox};
use crate::memories::{Memories, Memory, Reader};
use crate::outgoing::Outgoing;
use crate::pins::Pins;
use crate::prompt::Token;
use crate::pulse::Pulse;
use crate::recall::{self, Place, sequence_id};
use crate::shelf::Owner;
use crate::slots::{Paces, Slot};
use crate::text::{self, Answer};
use crate::wire::Events;

mod constrained;
mod embedding;
mod passages;
mod reading;
mod residual;
mod scoring;
mod step;
mod words;

/// Time between reports of progress with one prompt, and before the first.
const PREFILL_REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// A model's bounds, all at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of context for each request.
    pub n_ctx: u32,
    /// Rows of one step.
    pub n_batch: u32,
    /// Requests at once.
    pub parallel: u32,
    /// Whether a sequence can go back by the rows of one step. One that can't loses all that it
    /// knew with a step that is stopped, and can try no drafts.
    pub goes_back: bool,
    /// Most bytes of what sequences held before that are kept beside them; any number.
    pub cache_bytes: usize,
}

/// One token for the model to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The token.
    pub token: Token,
    /// Its place in its sequence, below `n_ctx`.
    pub position: u32,
    /// Its sequence, below `parallel`.
    pub sequence: u32,
    /// Whether a token will be sampled after it.
    pub logits: bool,
}

/// Why a request fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub code: FailureCode,
    /// One sentence.
    pub message: String,
    /// Tokens of the prompt, if they are the reason.
    pub prompt_tokens: u32,
}

impl Failure {
    /// A failure that has nothing to do with the prompt's length.
    pub fn new(code: FailureCode, message: impl std::fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
            prompt_tokens: 0,
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All rows are computed.
    Done,
    /// The interrupt was raised; the model has seen none of the rows, and may have lost what it
    /// knew of their sequences.
    Stopped,
}

/// What serving needs of a model.
pub trait Model {
    /// A way to choose tokens, for one request.
    type Sampler;

    /// Its bounds.
    fn limits(&self) -> Limits;

    /// Tokens of a prompt.
    ///
    /// # Errors
    /// [`FailureCode::NoChatTemplate`] or [`FailureCode::Template`].
    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<Token>, Failure>;

    /// Tokens of a text of any length, beginning with the one that begins every prompt if the model wants
    /// that; no other control token is among them.
    ///
    /// # Errors
    /// As of [`Model::tokenize`].
    fn text(&self, text: &str) -> Result<Vec<Token>, Failure> {
        self.tokenize(&Prompt::Text(text.to_owned()))
    }

    /// Tokens of a text that follows a prompt; no control token is among them.
    ///
    /// # Errors
    /// [`FailureCode::ContextOverflow`] if it can't fit the context whatever its tokens are.
    fn continuation(&self, text: &str) -> Result<Vec<Token>, Failure>;

    /// The way to choose tokens after `prompt`.
    fn sampler(&self, sampling: &Sampling, prompt: &[Token]) -> Self::Sampler;

    /// Computes one step: 1 to `n_batch` rows. It may stop early when the interrupt is raised.
    ///
    /// # Errors
    /// [`FailureCode::Decode`].
    fn decode(&mut self, rows: &[Row]) -> Result<Step, Failure>;

    /// Chooses the token after row `row` of the last step, which must have logits: one of `allowed`,
    /// if that is given.
    ///
    /// # Errors
    /// [`FailureCode::Decode`].
    fn sample(
        &mut self,
        row: usize,
        sampler: &mut Self::Sampler,
        allowed: Option<&TokenSet>,
    ) -> Result<Token, Failure>;

    /// The scores of all tokens after row `row` of the last step, which must have logits.
    ///
    /// # Errors
    /// [`FailureCode::Decode`].
    fn scores(&self, row: usize) -> Result<&[f32], Failure>;

    /// The tokens that end an answer.
    fn end_tokens(&self) -> &[Token];

    /// Whether the token ends an answer.
    fn is_end(&self, token: Token) -> bool;

    /// Appends the token's text, which may be a part of a character, or nothing.
    fn piece(&self, token: Token, bytes: &mut Vec<u8>);

    /// Drops what the model remembers of a sequence beyond its first `tokens`. False if it can't
    /// do so, or might not remember all of those: then the sequence must be forgotten.
    fn keep(&mut self, sequence: u32, tokens: usize) -> bool;

    /// Drops what the model remembers of a sequence.
    fn forget(&mut self, sequence: u32);

    /// Whether [`Model::keep`] can be expected to cut a sequence of `held` tokens back to `to`.
    fn cuts(&self, held: usize, to: usize) -> bool;

    /// How many bytes [`Model::save`] would give.
    fn saved_bytes(&self, sequence: u32) -> usize;

    /// What the model remembers of a sequence, as bytes; `None` if there is no memory for them.
    fn save(&mut self, sequence: u32) -> Option<Vec<u8>>;

    /// Puts what was saved of `tokens` tokens into a sequence, in place of what it holds. False if
    /// that failed: then the sequence must be forgotten.
    fn restore(&mut self, sequence: u32, tokens: usize, state: &[u8]) -> bool;

    /// Begins to compile what the answer to request `id` must be; the end comes by the inbox, as
    /// [`Inbound::Compiled`].
    ///
    /// # Errors
    /// [`GrammarError::Unsupported`].
    fn compile(&mut self, id: RequestId, wanted: Wanted) -> Result<Compiling, GrammarError> {
        let _ = (id, wanted);
        Err(GrammarError::Unsupported)
    }

    /// The residual stream behind each layer at the last of these tokens, one layer behind the other;
    /// `None` if the interrupt was raised meanwhile.
    ///
    /// # Errors
    /// [`FailureCode::Decode`].
    fn residual(&mut self, tokens: &[Token]) -> Result<Option<Vec<f32>>, Failure> {
        let _ = tokens;
        let message = "the layers of this model can't be looked at";
        Err(Failure::new(FailureCode::Decode, message))
    }

    /// The model as one that makes embeddings: its context for them is made when first asked for.
    ///
    /// # Errors
    /// [`EmbedFailure::Unsupported`] or [`EmbedFailure::Memory`].
    fn embedder(&mut self) -> Result<&mut dyn Embedder, Failure> {
        let message = "this model makes no embeddings";
        Err(embed::failure(EmbedFailure::Unsupported, message))
    }
}

/// A request with the tokens of its prompt.
#[derive(Debug)]
struct Asked {
    request: Generate,
    prompt: Vec<Token>,
    /// What the prompt's template has said of the answer already, for its text.
    lead: &'static str,
}

/// Serves until the commands end, with `Ok`, or hobd is gone.
///
/// # Errors
/// The one with which `events` failed.
pub fn serve<M: Model>(
    model: &mut M,
    drafts: Drafts,
    inbox: &Inbox,
    events: &dyn Events,
    pulse: &Pulse,
) -> io::Result<()> {
    let limits = model.limits();
    let mut server = Server {
        slots: (0..limits.parallel).map(|_| None).collect(),
        memories: Memories::new(limits.parallel as usize, limits.cache_bytes),
        pins: Pins::default(),
        embeddings: embedding::Jobs::default(),
        parked: Vec::new(),
        scorings: scoring::Jobs::default(),
        text: None,
        cache_reported: (0, 0),
        paces: Paces::new(limits.n_batch as usize),
        model,
        limits,
        inbox,
        events: Outgoing::new(events),
        pulse,
        drafts,
        costs: StepCosts::default(),
        arrivals: 0,
        turns: 0,
        bytes: Vec::new(),
    };
    loop {
        let working = server.is_working();
        let reading = !working && server.pins.has_work();
        pulse.set_working(working || reading || !server.parked.is_empty());
        let command = if working || reading {
            match inbox.try_receive() {
                Ok(command) => Some(command),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        } else {
            match inbox.receive() {
                Ok(command) => Some(command),
                Err(_) => return Ok(()),
            }
        };
        match command {
            Some(command) => {
                let another = command.is_request();
                server.obey(command)?;
                if !another {
                    server.events.flush()?;
                    continue;
                }
            }
            None if reading => {
                server.leave_passage();
                server.read_pins()?;
            }
            None => {}
        }
        // Also after a request: making tokens of a long prompt takes a while, and a burst of them
        // must not stop the answers under way.
        if server.is_working() {
            server.step()?;
        }
        server.events.flush()?;
    }
}

struct Server<'a, M: Model> {
    model: &'a mut M,
    limits: Limits,
    inbox: &'a Inbox,
    events: Outgoing<'a>,
    pulse: &'a Pulse,
    slots: Vec<Option<Slot<M::Sampler>>>,
    memories: Memories,
    paces: Paces,
    drafts: Drafts,
    costs: StepCosts,
    pins: Pins,
    embeddings: embedding::Jobs,
    /// Requests whose grammars are being compiled.
    parked: Vec<constrained::Parked>,
    scorings: scoring::Jobs,
    text: Option<passages::Text>,
    /// Entries and bytes on the shelf, as hobd knows them.
    cache_reported: (u32, u64),
    arrivals: u64,
    /// Steps that read.
    turns: u64,
    /// The bytes of one piece, kept to spare allocations.
    bytes: Vec<u8>,
}

impl<M: Model> Server<'_, M> {
    /// Whether any request is under way.
    fn is_working(&self) -> bool {
        self.under_way() > 0
    }

    /// How many requests are under way.
    fn under_way(&self) -> usize {
        let answers = self.slots.iter().flatten().count();
        answers + self.embeddings.len() + self.scorings.len()
    }

    /// Refuses a request beyond those that were agreed on.
    fn check_room(&self) -> Result<(), Failure> {
        if self.under_way() + self.parked.len() < self.limits.parallel as usize {
            return Ok(());
        }
        Err(self.overcommitted())
    }

    fn obey(&mut self, command: Inbound) -> io::Result<()> {
        if !matches!(command, Inbound::ReadText(..) | Inbound::Tokenize(_)) {
            self.leave_passage();
        }
        match command {
            Inbound::Generate(request, received) => {
                self.pulse.set_working(true);
                self.pause_reading();
                self.start(*request, received)
            }
            Inbound::Embed(request, received) => {
                self.pause_reading();
                self.start_embedding(*request, received)
            }
            Inbound::Score(request, received) => {
                self.pause_reading();
                self.start_scoring(&request, received)
            }
            Inbound::Tokenize(request) => self.tell_tokens(&request),
            Inbound::OpenText(request, text) => self.open_text(request, text),
            Inbound::OpenTokens(request) => self.open_tokens(request),
            Inbound::ReadText(request, memory) => {
                self.pause_reading();
                self.read_text(request, memory)
            }
            Inbound::ReadResidual(request, memory) => {
                self.pause_reading();
                self.read_residual(*request, &memory)
            }
            Inbound::Cancel(id) => self.cancel(id),
            Inbound::Pin(pin, state) => self.pin(&pin, state),
            Inbound::Unpin(id) => self.unpin(id),
            Inbound::SavePin(id, memory) => self.save_pin(id, &memory),
            Inbound::LimitCache(bytes) => self.limit_cache(bytes),
            Inbound::Compiled(id, grammar) => {
                // Meanwhile a prefix may have been begun with.
                self.pause_reading();
                self.compiled(id, *grammar)
            }
        }
    }

    fn start(&mut self, request: Generate, received: Instant) -> io::Result<()> {
        let id = request.id;
        self.pulse.advance();
        let admitted = self.read_prompt(request).and_then(|asked| {
            if asked.request.constraint.is_some() {
                self.park(asked, received)
            } else {
                self.admit(asked, received, None)
            }
        });
        self.admitted(id, admitted)
    }

    /// Tells what became of a request that came.
    fn admitted(&mut self, id: RequestId, admitted: Result<(), Failure>) -> io::Result<()> {
        self.pulse.advance();
        match admitted {
            Ok(()) => self.report_cache(),
            Err(failure) => self.report(id, failure),
        }
    }

    /// Makes tokens of a request's prompt.
    fn read_prompt(&mut self, request: Generate) -> Result<Asked, Failure> {
        self.check_room()?;
        let prompt = self.model.tokenize(&request.prompt)?;
        if prompt.is_empty() {
            return Err(Failure::new(
                FailureCode::Decode,
                "the prompt has no tokens",
            ));
        }
        let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        if prompt_tokens >= self.limits.n_ctx {
            return Err(Failure {
                code: FailureCode::ContextOverflow,
                message: format!(
                    "the prompt has {prompt_tokens} tokens, the context {}",
                    self.limits.n_ctx
                ),
                prompt_tokens,
            });
        }
        let lead = if request.prompt.is_chat() {
            self.lead(&prompt)
        } else {
            ""
        };
        Ok(Asked {
            request,
            prompt,
            lead,
        })
    }

    fn admit(
        &mut self,
        asked: Asked,
        received: Instant,
        grammar: Option<Grammar>,
    ) -> Result<(), Failure> {
        self.check_room()?;
        let Asked {
            request,
            prompt,
            lead,
        } = asked;
        let sampler = self.model.sampler(&request.sampling, &prompt);
        // Drafts come and go with the board's pace, and what was written with what was asked before,
        // and the last digits of the model's numbers with them: who asks for the same answer again
        // gets it without.
        let exact = request.sampling.seed.is_some();
        let owner = request.cache_owner.map(Owner::User);
        let reader = owner.map(|owner| Reader { owner, exact });
        let place = self.place(reader, &prompt)?;
        self.arrivals += 1;
        let opening = grammar.as_ref().map(|grammar| grammar.opening().to_vec());
        let mut slot = Slot {
            id: request.id,
            owner: request.cache_owner,
            prompt_len: prompt.len(),
            read_len: place.read_len,
            tokens: prompt,
            cached: place.cached,
            seen: place.cached,
            fresh: 0,
            grammar,
            cut: false,
            forced: 0,
            passes: 0,
            class: request.class,
            drafts: request.drafts && !exact,
            acceptance: Acceptance::default(),
            turn: self.turns.saturating_sub(1),
            owed: Duration::ZERO,
            max_tokens: request.max_tokens,
            answer: Answer::new(request.stop).led_by(lead),
            sampler,
            received,
            prompt_done: None,
            reported: received,
            arrival: self.arrivals,
        };
        // What every such answer begins with is read with the prompt.
        slot.push_forced(&opening.unwrap_or_default(), self.limits.n_ctx as usize);
        self.slots[place.sequence] = Some(slot);
        Ok(())
    }

    /// What the prompt's template has said of the answer already.
    fn lead(&mut self, prompt: &[Token]) -> &'static str {
        self.bytes.clear();
        let last = prompt.len().saturating_sub(text::LEAD_TOKENS_MAX);
        for token in &prompt[last..] {
            self.model.piece(*token, &mut self.bytes);
        }
        text::lead(&self.bytes)
    }

    /// A sequence for a prompt, and how many of its tokens that holds already.
    fn place(&mut self, reader: Option<Reader>, prompt: &[Token]) -> Result<Place, Failure> {
        let (slots, scorings) = (&self.slots, &self.scorings);
        let is_free = |place: usize| slots[place].is_none() && !scorings.hold(place);
        let place = recall::place(self.model, &mut self.memories, reader, prompt, is_free);
        let place = place.ok_or_else(|| self.overcommitted())?;
        if let Some(id) = place.lost {
            // hobd is gone if this fails, and the next event tells.
            let _ = self.spoilt(id);
        }
        Ok(place)
    }

    fn overcommitted(&self) -> Failure {
        Failure::new(
            FailureCode::Overcommitted,
            format!("{} requests are under way already", self.limits.parallel),
        )
    }

    fn cancel(&mut self, id: RequestId) -> io::Result<()> {
        let place = self
            .slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|slot| slot.id == id));
        match place {
            Some(place) => self.fail(place, cancelled()),
            None if self.unpark(id).is_some() => self.report(id, cancelled()),
            None if self.cancel_scoring(id)? => Ok(()),
            None => self.cancel_embedding(id),
        }
    }

    fn finish(&mut self, place: usize, reason: FinishReason) -> io::Result<()> {
        let Some(slot) = self.release(place) else {
            return Ok(());
        };
        let finished = slot.finished(reason, Instant::now());
        self.events.send_text(slot.id, &slot.answer.finish())?;
        self.pulse.advance();
        self.events.send(EngineEvent::Finished(finished))
    }

    fn fail(&mut self, place: usize, failure: Failure) -> io::Result<()> {
        match self.release(place) {
            Some(slot) => self.report(slot.id, failure),
            None => Ok(()),
        }
    }

    fn release(&mut self, place: usize) -> Option<Slot<M::Sampler>> {
        let slot = self.slots[place].take()?;
        let memory = slot.owner.map(|uid| Memory {
            owner: Owner::User(uid),
            tokens: slot.tokens[..slot.seen].to_vec(),
            prompt_len: slot.prompt_len,
            read_len: slot.read_len.min(slot.seen),
        });
        recall::remember(self.model, &mut self.memories, place, slot.seen, memory);
        Some(slot)
    }

    fn report(&mut self, id: RequestId, failure: Failure) -> io::Result<()> {
        self.pulse.advance();
        self.events.send(EngineEvent::Failed {
            id,
            code: failure.code,
            message: failure.message,
            prompt_tokens: failure.prompt_tokens,
        })
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureCode::Cancelled, "the request was cancelled")
}
