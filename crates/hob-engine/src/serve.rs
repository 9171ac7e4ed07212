//! The decode loop: takes commands, runs steps, reports. Exactly one terminal event for every
//! request, on every path.
//!
//! It knows llama.cpp only as a [`Model`], so that tests run it with one of their own.

use std::io;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use hob_api::event::FinishReason;
use hob_ipc::message::{FailureCode, Generate, Prompt, Sampling};
use hob_ipc::{EngineEvent, RequestId};

use crate::inbox::{Inbound, Inbox};
use crate::memories::{Choice, Memories};
use crate::prompt::Token;
use crate::pulse::Pulse;
use crate::slots::{self, Pace, Plan, Slot};
use crate::text::{self, Answer};
use crate::wire::Events;

/// Time between reports of progress with one prompt, and before the first.
const PREFILL_REPORT_INTERVAL: Duration = Duration::from_millis(250);
/// Longest text in one delta, in bytes: a vocabulary may hold tokens of any length, an event
/// may not.
const DELTA_BYTES_MAX: usize = 8 << 10;

/// A model's bounds, all at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of context for each request.
    pub n_ctx: u32,
    /// Rows of one step.
    pub n_batch: u32,
    /// Requests at once.
    pub parallel: u32,
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
    /// knew of their sequence.
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

    /// The way to choose tokens after `prompt`.
    fn sampler(&self, sampling: &Sampling, prompt: &[Token]) -> Self::Sampler;

    /// Computes one step: 1 to `n_batch` rows. It may stop early when the interrupt is raised.
    ///
    /// # Errors
    /// [`FailureCode::Decode`].
    fn decode(&mut self, rows: &[Row]) -> Result<Step, Failure>;

    /// Chooses the token after row `row` of the last step, which must have logits.
    ///
    /// # Errors
    /// [`FailureCode::Decode`].
    fn sample(&mut self, row: usize, sampler: &mut Self::Sampler) -> Result<Token, Failure>;

    /// Whether the token ends an answer.
    fn is_end(&self, token: Token) -> bool;

    /// Appends the token's text, which may be a part of a character, or nothing.
    fn piece(&self, token: Token, bytes: &mut Vec<u8>);

    /// Drops what the model remembers of a sequence beyond its first `tokens`. False if it can't
    /// do so, or might not remember all of those: then the sequence must be forgotten.
    fn keep(&mut self, sequence: u32, tokens: usize) -> bool;

    /// Drops what the model remembers of a sequence.
    fn forget(&mut self, sequence: u32);
}

/// Serves until the commands end, with `Ok`, or hobd is gone.
///
/// # Errors
/// The one with which `events` failed.
pub fn serve<M: Model>(
    model: &mut M,
    inbox: &Inbox,
    events: &dyn Events,
    pulse: &Pulse,
) -> io::Result<()> {
    let limits = model.limits();
    let mut server = Server {
        slots: (0..limits.parallel).map(|_| None).collect(),
        memories: Memories::new(limits.parallel as usize),
        pace_alone: Pace::new(slots::STEP_ALONE, limits.n_batch as usize),
        pace_shared: Pace::new(slots::STEP_SHARED, limits.n_batch as usize),
        model,
        limits,
        inbox,
        events,
        pulse,
        arrivals: 0,
        bytes: Vec::new(),
    };
    loop {
        let working = server.slots.iter().any(Option::is_some);
        pulse.set_working(working);
        let command = if working {
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
            Some(Inbound::Generate(request, received)) => {
                pulse.set_working(true);
                server.start(*request, received)?;
            }
            Some(Inbound::Cancel(id)) => server.cancel(id)?,
            None => {}
        }
        // Also after a command: making tokens of a long prompt takes a while, and a burst of them
        // must not stop the answers under way.
        if server.slots.iter().any(Option::is_some) {
            server.step()?;
        }
    }
}

struct Server<'a, M: Model> {
    model: &'a mut M,
    limits: Limits,
    inbox: &'a Inbox,
    events: &'a dyn Events,
    pulse: &'a Pulse,
    slots: Vec<Option<Slot<M::Sampler>>>,
    memories: Memories,
    pace_alone: Pace,
    pace_shared: Pace,
    arrivals: u64,
    /// The bytes of one piece, kept to spare allocations.
    bytes: Vec<u8>,
}

impl<M: Model> Server<'_, M> {
    fn start(&mut self, request: Generate, received: Instant) -> io::Result<()> {
        let id = request.id;
        self.pulse.advance();
        let admitted = self.admit(request, received);
        self.pulse.advance();
        match admitted {
            Ok(()) => Ok(()),
            Err(failure) => self.report(id, failure),
        }
    }

    fn admit(&mut self, request: Generate, received: Instant) -> Result<(), Failure> {
        if self.slots.iter().all(Option::is_some) {
            return Err(self.overcommitted());
        }
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
        let sampler = self.model.sampler(&request.sampling, &prompt);
        let (place, cached) = self.place(request.cache_owner, &prompt)?;
        self.arrivals += 1;
        self.slots[place] = Some(Slot {
            id: request.id,
            owner: request.cache_owner,
            prompt_len: prompt.len(),
            tokens: prompt,
            cached,
            seen: cached,
            max_tokens: request.max_tokens,
            answer: Answer::new(request.stop),
            sampler,
            received,
            prompt_done: None,
            reported: received,
            arrival: self.arrivals,
        });
        Ok(())
    }

    /// A sequence for a prompt, and how many of its tokens that holds already.
    fn place(&mut self, owner: Option<u32>, prompt: &[Token]) -> Result<(usize, usize), Failure> {
        let slots = &self.slots;
        let choice = self
            .memories
            .choose(owner, prompt, |place| slots[place].is_none());
        let Some(Choice { sequence, common }) = choice else {
            return Err(self.overcommitted());
        };
        let kept = common > 0 && self.model.keep(sequence_id(sequence), common);
        if !kept {
            self.model.forget(sequence_id(sequence));
        }
        Ok((sequence, if kept { common } else { 0 }))
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
            // It ended before the cancel arrived.
            None => Ok(()),
        }
    }

    fn step(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let alone = slots::alone(&self.slots);
        self.inbox.interrupt().begin(alone);
        let pace = match alone {
            Some(_) => &mut self.pace_alone,
            None => &mut self.pace_shared,
        };
        let plan = slots::plan(&self.slots, pace.chunk(), self.limits.n_batch as usize);
        let decoded = self.model.decode(&plan.rows);
        let done = Instant::now();
        self.pulse.advance();
        let failure = match decoded {
            Ok(Step::Done) => None,
            // When the cancel arrives as a command, there is nothing left to end.
            Ok(Step::Stopped) => Some(cancelled()),
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure {
            for share in &plan.shares {
                self.fail(share.slot, failure.clone())?;
            }
            return Ok(());
        }
        if plan.prefill > 0 {
            pace.learn(plan.prefill, done.saturating_duration_since(started));
        }
        self.account(&plan, done)?;
        for share in &plan.shares {
            if let Some(row) = share.logits {
                self.sample(share.slot, row)?;
            }
        }
        Ok(())
    }

    /// Notes what the model has seen, and reports progress with long prompts.
    fn account(&mut self, plan: &Plan, now: Instant) -> io::Result<()> {
        for share in &plan.shares {
            let Some(slot) = &mut self.slots[share.slot] else {
                continue;
            };
            slot.seen += share.rows;
            if slot.prompt_left() > 0 {
                if now.saturating_duration_since(slot.reported) >= PREFILL_REPORT_INTERVAL {
                    slot.reported = now;
                    self.events.send(&EngineEvent::Prefill {
                        id: slot.id,
                        processed: u32::try_from(slot.seen).unwrap_or(u32::MAX),
                        total: slot.prompt_tokens(),
                    })?;
                }
            } else if slot.prompt_done.is_none() {
                slot.prompt_done = Some(now);
            }
        }
        Ok(())
    }

    fn sample(&mut self, place: usize, row: usize) -> io::Result<()> {
        let Some(slot) = &mut self.slots[place] else {
            return Ok(());
        };
        let token = match self.model.sample(row, &mut slot.sampler) {
            Ok(token) => token,
            Err(failure) => return self.fail(place, failure),
        };
        slot.tokens.push(token);
        if self.model.is_end(token) {
            return self.finish(place, FinishReason::Stop);
        }
        self.bytes.clear();
        self.model.piece(token, &mut self.bytes);
        let step = slot.answer.push(&self.bytes);
        send_text(self.events, slot.id, &step.text)?;
        if step.stopped {
            // The text that is left is the stop string's.
            slot.answer = Answer::default();
            return self.finish(place, FinishReason::Stop);
        }
        let full = slot.tokens.len() >= self.limits.n_ctx as usize;
        if slot.answered() >= slot.max_tokens || full {
            return self.finish(place, FinishReason::Length);
        }
        Ok(())
    }

    fn finish(&mut self, place: usize, reason: FinishReason) -> io::Result<()> {
        let Some(slot) = self.release(place) else {
            return Ok(());
        };
        let finished = slot.finished(reason, Instant::now());
        send_text(self.events, slot.id, &slot.answer.finish())?;
        self.pulse.advance();
        self.events.send(&EngineEvent::Finished(finished))
    }

    fn fail(&mut self, place: usize, failure: Failure) -> io::Result<()> {
        match self.release(place) {
            Some(slot) => self.report(slot.id, failure),
            None => Ok(()),
        }
    }

    fn release(&mut self, place: usize) -> Option<Slot<M::Sampler>> {
        let slot = self.slots[place].take()?;
        let sequence = sequence_id(place);
        match slot.owner {
            Some(owner) if slot.seen > 0 && self.model.keep(sequence, slot.seen) => {
                let seen = slot.tokens[..slot.seen].to_vec();
                self.memories.keep(place, owner, seen);
            }
            _ => self.model.forget(sequence),
        }
        Some(slot)
    }

    fn report(&self, id: RequestId, failure: Failure) -> io::Result<()> {
        self.pulse.advance();
        self.events.send(&EngineEvent::Failed {
            id,
            code: failure.code,
            message: failure.message,
            prompt_tokens: failure.prompt_tokens,
        })
    }
}

fn sequence_id(place: usize) -> u32 {
    // Places are counted from a number that came as u32.
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn cancelled() -> Failure {
    Failure::new(FailureCode::Cancelled, "the request was cancelled")
}

fn send_text(events: &dyn Events, id: RequestId, delta: &str) -> io::Result<()> {
    let mut rest = delta;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(text::beginning(rest, DELTA_BYTES_MAX).len());
        events.send(&EngineEvent::Delta {
            id,
            text: now.to_owned(),
        })?;
        rest = later;
    }
    Ok(())
}
