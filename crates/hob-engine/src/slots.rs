//! Requests under way, and which of their tokens go into the next step. Pure.
//!
//! There are two kinds of steps. One that writes takes the last token of every answer, and a draft
//! behind it. One that reads takes a piece of one prompt: it can be stopped at the cost of that
//! prompt alone, and computes it as if nobody else were there.

use std::time::{Duration, Instant};

use hob_api::chat::Class;
use hob_ipc::RequestId;
use hob_ipc::message::Finished;

use crate::drafts::Acceptance;
use crate::grammar::{Grammar, GrammarError, TokenSet};
use crate::prompt::Token;
use crate::serve::Row;
use crate::text::Answer;

/// Longest that a step should read while several requests are under way: they wait for one
/// another.
pub const STEP_SHARED: Duration = Duration::from_millis(200);
/// The same for a request alone. Its cancel ends such a step at once, and so does a request
/// that arrives; larger steps are somewhat faster.
pub const STEP_ALONE: Duration = Duration::from_secs(1);
/// A request becomes one class more urgent each time that it has waited so long, as in hobd's
/// queue.
pub const AGEING: Duration = Duration::from_secs(15);
/// Prompts are computed in pieces that begin at multiples of this. llama.cpp's kernels work on some
/// rows at a time and on what is left over in another way, with other last digits.
pub const GRID: usize = 16;
/// Pieces have at least so many tokens if the prompt has. Flash attention computes fewer rows in
/// another way (`GGML_FA_TILE_Q`), with other last digits.
pub const PIECE_MIN: usize = 64;
/// Prefill tokens in the first step, before anything is measured.
const CHUNK_FIRST: usize = 64;
/// Prefill tokens that a step takes at least while several requests are under way, however slow the
/// board.
pub const CHUNK_MIN: usize = GRID;

/// A request under way. Its place in the list is its sequence.
#[derive(Debug)]
pub struct Slot<S> {
    /// The request.
    pub id: RequestId,
    /// Whose it is, if what the model computes may serve a later request.
    pub owner: Option<u32>,
    /// The prompt, then the answer's tokens as they are chosen.
    pub tokens: Vec<Token>,
    /// How many of them are the prompt.
    pub prompt_len: usize,
    /// How many of the prompt's will be as in a prompt that is read whole, once all are read.
    pub read_len: usize,
    /// How many of the prompt's the model knew from before.
    pub cached: usize,
    /// How many of all the model has seen: the next one's position.
    pub seen: usize,
    /// How many of the answer's, at its end, are to be written next: the one that was chosen last,
    /// and those that had to follow.
    pub fresh: usize,
    /// What the answer must be.
    pub grammar: Option<Grammar>,
    /// Whether the answer's limit cut off what had to follow.
    pub cut: bool,
    /// Tokens of the answer that had to follow.
    pub forced: u32,
    /// Steps that computed a part of the answer, or what it begins with.
    pub passes: u32,
    /// How urgent the request is.
    pub class: Class,
    /// Whether it wants drafts.
    pub drafts: bool,
    /// How they fared.
    pub acceptance: Acceptance,
    /// When, in steps that read, a piece of its prompt was last read. Before that: one step before
    /// the latest when it came, so that it comes before who was just read, and no stream of
    /// newcomers comes before who waits for longer.
    pub turn: u64,
    /// What was computed for it in vain since it last had time to itself.
    pub owed: Duration,
    /// Longest answer.
    pub max_tokens: u32,
    /// The answer's text.
    pub answer: Answer,
    /// How tokens are chosen.
    pub sampler: S,
    /// When the request was read.
    pub received: Instant,
    /// When the last token of the prompt was computed.
    pub prompt_done: Option<Instant>,
    /// When progress with the prompt was last reported.
    pub reported: Instant,
    /// Order of arrival.
    pub arrival: u64,
}

impl<S> Slot<S> {
    /// Tokens that the model must read before the next one can be chosen: of the prompt, or of all
    /// if it lost what it knew.
    pub fn to_read(&self) -> usize {
        match self.tokens.len() - self.seen {
            left if left <= self.fresh => 0,
            left => left,
        }
    }

    /// Which tokens may come next; `None` for all.
    ///
    /// # Errors
    /// As of [`Grammar::allowed`].
    pub fn allowed(&mut self) -> Result<Option<TokenSet>, GrammarError> {
        self.grammar.as_mut().map(Grammar::allowed).transpose()
    }

    /// Adds the chosen token and, if `forces`, those that must follow it, in a context of `n_ctx`
    /// tokens.
    ///
    /// # Errors
    /// As of [`Grammar::take`].
    pub fn push(&mut self, token: Token, forces: bool, n_ctx: usize) -> Result<(), GrammarError> {
        self.tokens.push(token);
        let Some(grammar) = &mut self.grammar else {
            return Ok(());
        };
        grammar.take(token)?;
        if forces {
            let must = grammar.forced()?;
            self.fresh += self.push_forced(&must, n_ctx);
        }
        Ok(())
    }

    /// Adds tokens that must follow, as far as there is room for them; how many that are.
    pub fn push_forced(&mut self, forced: &[Token], n_ctx: usize) -> usize {
        let answer = self.max_tokens.saturating_sub(self.answered()) as usize;
        let room = answer.min(n_ctx.saturating_sub(self.tokens.len()));
        let taken = &forced[..forced.len().min(room)];
        self.cut |= taken.len() < forced.len();
        self.tokens.extend_from_slice(taken);
        self.forced = self.forced.saturating_add(count(taken.len()));
        taken.len()
    }

    /// Whether the answer is what it must be, and nothing may follow.
    pub fn is_complete(&self) -> bool {
        !self.cut && self.grammar.as_ref().is_some_and(Grammar::is_complete)
    }

    /// How urgent the request is by now.
    pub fn urgency(&self, now: Instant) -> Class {
        urgency(self.class, self.received, now)
    }

    /// How many tokens are read in a step with so much room.
    ///
    /// Steps end on the grid or with the prompt, and leave a whole piece or nothing: so a prompt is
    /// computed in the same way however quick the board happened to be.
    fn share(&self, room: usize, batch_max: usize) -> usize {
        share(self.seen, self.tokens.len(), room, batch_max)
    }

    /// Tokens of the answer so far.
    pub fn answered(&self) -> u32 {
        count(self.tokens.len() - self.prompt_len)
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> u32 {
        count(self.prompt_len)
    }

    /// The report of a complete answer.
    pub fn finished(&self, reason: hob_api::event::FinishReason, now: Instant) -> Finished {
        let prompt_done = self.prompt_done.unwrap_or(now);
        Finished {
            id: self.id,
            reason,
            prompt_tokens: self.prompt_tokens(),
            cached_tokens: count(self.cached),
            completion_tokens: self.answered(),
            drafted_tokens: self.acceptance.drafted(),
            accepted_tokens: self.acceptance.accepted(),
            forced_tokens: self.forced,
            passes: self.passes,
            prefill_us: micros(prompt_done.saturating_duration_since(self.received)),
            decode_us: micros(now.saturating_duration_since(prompt_done)),
        }
    }
}

/// How urgent a request of `class` is that was received at `received`.
pub fn urgency(class: Class, received: Instant, now: Instant) -> Class {
    let waited = now.saturating_duration_since(received);
    let classes = waited.as_secs() / AGEING.as_secs();
    let more_urgent = Class::ALL.into_iter().rev();
    let more_urgent = more_urgent.skip_while(|of| *of != class);
    let classes = usize::try_from(classes).unwrap_or(usize::MAX);
    let aged = more_urgent.take(classes.saturating_add(1)).last();
    aged.unwrap_or(class)
}

/// A span as messages count it.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// So many tokens as messages count them.
pub fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// How many of `whole` tokens go into a step with so much room, after the first `seen`. A few more
/// than that if they would not make a piece of their own, but never more than `batch_max`.
pub fn share(seen: usize, whole: usize, room: usize, batch_max: usize) -> usize {
    let left = whole.saturating_sub(seen);
    let piece = PIECE_MIN.min(room).min(batch_max / 2).max(1);
    if left <= room || left < 2 * piece {
        return left;
    }
    let end = whole.saturating_sub(piece).min(seen + room);
    let on_grid = end - end % GRID;
    // A piece that begins beside the grid may be too short to reach it with as many rows.
    let end = if on_grid >= seen + piece {
        on_grid
    } else {
        end
    };
    end - seen
}

/// One slot's share of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The slot's place in the list.
    pub slot: usize,
    /// How many rows are its own.
    pub rows: usize,
    /// Its first row with logits, if any; all that follow have them, too.
    pub logits: Option<usize>,
    /// How many of its rows are drafted: the last ones.
    pub drafted: usize,
}

/// The next step: rows for the model, and whose they are.
#[derive(Debug, Default)]
pub struct Plan {
    /// At most the model's batch.
    pub rows: Vec<Row>,
    /// In the order of the rows.
    pub shares: Vec<Share>,
}

/// Plans a step that writes, of `batch_max` rows at most: the last token of every answer with what had
/// to follow it, and what `draft` gives for each place and so many tokens at most. What there is no
/// room for comes in a later step.
pub fn writing<S>(
    slots: &[Option<Slot<S>>],
    batch_max: usize,
    mut draft: impl FnMut(usize, usize) -> Vec<Token>,
) -> Plan {
    let mut plan = Plan::default();
    let writing: Vec<_> = occupied(slots)
        .filter(|(_, slot)| slot.to_read() == 0)
        .collect();
    let mut room = batch_max.saturating_sub(writing.len());
    for (place, slot) in writing.into_iter().take(batch_max) {
        let fresh = &slot.tokens[slot.seen..];
        let rows = fresh.len().min(room + 1);
        room -= rows - 1;
        let mut tokens = fresh[..rows].to_vec();
        if rows < fresh.len() {
            plan.push(place, slot.seen, &tokens, 0, 0);
            continue;
        }
        let drafted = draft(place, room);
        room -= drafted.len();
        tokens.extend_from_slice(&drafted);
        plan.push(place, slot.seen, &tokens, 1, drafted.len());
    }
    plan
}

/// Plans a step that reads about `room` tokens, at least 1, for the slot at `place`; see [`share`].
pub fn reading<S>(slots: &[Option<Slot<S>>], place: usize, room: usize, batch_max: usize) -> Plan {
    let mut plan = Plan::default();
    if let Some(slot) = &slots[place] {
        let count = slot.share(room, batch_max);
        let last = usize::from(count == slot.to_read());
        let tokens = &slot.tokens[slot.seen..slot.seen + count];
        plan.push(place, slot.seen, tokens, last, 0);
    }
    plan
}

/// Where a request stands among those whose tokens are to be read: the most urgent first, then who
/// waited for the most steps, then who came first.
pub type Turn = (Class, u64, u64);

/// Whose prompt is read next, and where that stands among others: the most urgent one's, and in turns
/// among equals. Who has just come comes before who was just read.
pub fn next_to_read<S>(slots: &[Option<Slot<S>>], now: Instant) -> Option<(Turn, usize)> {
    occupied(slots)
        .filter(|(_, slot)| slot.to_read() > 0)
        .map(|(place, slot)| ((slot.urgency(now), slot.turn, slot.arrival), place))
        .min()
}

fn occupied<S>(slots: &[Option<Slot<S>>]) -> impl Iterator<Item = (usize, &Slot<S>)> {
    slots
        .iter()
        .enumerate()
        .filter_map(|(place, slot)| Some((place, slot.as_ref()?)))
}

impl Plan {
    /// Rows that are drafted.
    pub fn drafted(&self) -> usize {
        self.shares.iter().map(|share| share.drafted).sum()
    }

    /// Adds tokens, of which the last `drafted` are drafted, and these and the `chosen` ones before
    /// them are each followed by one that is chosen.
    fn push(&mut self, place: usize, seen: usize, tokens: &[Token], chosen: usize, drafted: usize) {
        let chosen = chosen + drafted;
        // Both are below numbers that came as u32: requests at once, and tokens of context.
        let sequence = u32::try_from(place).unwrap_or(u32::MAX);
        let positions = u32::try_from(seen).unwrap_or(u32::MAX)..;
        let plain = tokens.len() - chosen;
        let first = self.rows.len() + plain;
        for (at, (token, position)) in tokens.iter().zip(positions).enumerate() {
            self.rows.push(Row {
                token: *token,
                position,
                sequence,
                logits: at >= plain,
            });
        }
        self.shares.push(Share {
            slot: place,
            rows: tokens.len(),
            logits: (chosen > 0).then_some(first),
            drafted,
        });
    }
}

/// The request that has the model to itself, if one has.
pub fn alone<S>(slots: &[Option<Slot<S>>]) -> Option<RequestId> {
    let mut slots = occupied(slots);
    let (_, only) = slots.next()?;
    slots.next().is_none().then_some(only.id)
}

/// The paces of steps that may be long, and of those for which others wait.
#[derive(Debug)]
pub struct Paces {
    alone: Pace,
    shared: Pace,
}

impl Paces {
    /// The paces before anything is measured.
    pub fn new(batch_max: usize) -> Self {
        Self {
            alone: Pace::new(STEP_ALONE, PIECE_MIN, batch_max),
            shared: Pace::new(STEP_SHARED, CHUNK_MIN, batch_max),
        }
    }

    /// The pace of steps that may be long, or of others.
    pub fn of(&mut self, long: bool) -> &mut Pace {
        if long {
            &mut self.alone
        } else {
            &mut self.shared
        }
    }
}

/// How many prompt tokens a step takes, from how long steps took.
#[derive(Debug)]
pub struct Pace {
    target: Duration,
    chunk: usize,
    chunk_min: usize,
    chunk_max: usize,
}

impl Pace {
    /// The pace of steps that should take `target`, before anything is measured; never below
    /// `chunk_min`, and never above `chunk_max`.
    pub fn new(target: Duration, chunk_min: usize, chunk_max: usize) -> Self {
        Self {
            target,
            chunk: CHUNK_FIRST.min(chunk_max),
            chunk_min: chunk_min.min(chunk_max),
            chunk_max,
        }
    }

    /// Prompt tokens for the next step.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Learns from a step with `prefill` prompt tokens. Steps that were much smaller than
    /// allowed say little and are passed over, and no single step changes the pace by more than
    /// twice.
    pub fn learn(&mut self, prefill: usize, took: Duration) {
        if prefill * 2 < self.chunk {
            return;
        }
        let took_us = took.as_micros().max(1);
        let fitting = (prefill as u128 * self.target.as_micros()) / took_us;
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        let whole = fitting - fitting % GRID;
        self.chunk = if whole > 0 { whole } else { fitting }
            .clamp(self.chunk / 2, self.chunk * 2)
            .clamp(self.chunk_min, self.chunk_max);
    }
}

#[cfg(test)]
mod tests;
