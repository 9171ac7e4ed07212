//! Requests under way, and which of their tokens go into the next step. Pure.

use std::time::{Duration, Instant};

use hob_ipc::RequestId;
use hob_ipc::message::Finished;

use crate::prompt::Token;
use crate::serve::Row;
use crate::text::Answer;

/// Longest that a step with prefill should take while several requests are under way: they wait
/// for one another.
pub const STEP_SHARED: Duration = Duration::from_millis(200);
/// The same for a request alone. A cancel ends such a step at once, so only a request that
/// arrives meanwhile waits for it, and larger steps are somewhat faster.
pub const STEP_ALONE: Duration = Duration::from_secs(1);
/// Prompts are computed in pieces that begin and end at multiples of this. llama.cpp's kernels
/// work on some rows at a time and on what is left over in another way, with other last digits.
pub const GRID: usize = 16;
/// Prefill tokens in the first step, before anything is measured.
const CHUNK_FIRST: usize = 64;
/// Prefill tokens that a step takes at least, however slow the board: fewer would leave the grid.
const CHUNK_MIN: usize = GRID;

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
    /// How many of the prompt's the model knew from before.
    pub cached: usize,
    /// How many of all the model has seen: the next one's position.
    pub seen: usize,
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
    /// Tokens of the prompt that are not computed yet.
    pub fn prompt_left(&self) -> usize {
        self.prompt_len.saturating_sub(self.seen)
    }

    /// How many tokens of the prompt go into a step with so much room.
    ///
    /// Steps end on the grid or with the prompt: so a prompt is computed in the same way however
    /// quick the board happened to be.
    fn prompt_share(&self, room: usize) -> usize {
        let end = self.seen + room;
        if end >= self.prompt_len {
            return self.prompt_left();
        }
        let on_grid = end - end % GRID;
        let end = if on_grid > self.seen { on_grid } else { end };
        end - self.seen
    }

    /// The answer's last token, if the model has not seen it yet.
    fn unseen_answer(&self) -> Option<Token> {
        let answer = self.prompt_left() == 0;
        self.tokens.get(self.seen).copied().filter(|_| answer)
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
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Finished {
            id: self.id,
            reason,
            prompt_tokens: self.prompt_tokens(),
            cached_tokens: count(self.cached),
            completion_tokens: self.answered(),
            prefill_us: micros(prompt_done.saturating_duration_since(self.received)),
            decode_us: micros(now.saturating_duration_since(prompt_done)),
        }
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// One slot's share of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The slot's place in the list.
    pub slot: usize,
    /// How many rows are its own.
    pub rows: usize,
    /// Its row that has logits, if any.
    pub logits: Option<usize>,
}

/// The next step: rows for the model, and whose they are.
#[derive(Debug, Default)]
pub struct Plan {
    /// At most the model's batch.
    pub rows: Vec<Row>,
    /// In the order of the rows.
    pub shares: Vec<Share>,
    /// Rows that belong to prompts.
    pub prefill: usize,
}

/// Plans a step: one token for every answer first, so that none of them waits for a prompt, then
/// up to `chunk` tokens of prompts, the oldest request first.
pub fn plan<S>(slots: &[Option<Slot<S>>], chunk: usize, batch_max: usize) -> Plan {
    let mut plan = Plan::default();
    for (place, slot) in occupied(slots) {
        if let Some(token) = slot.unseen_answer()
            && plan.rows.len() < batch_max
        {
            plan.push(place, slot.seen, &[token], true);
        }
    }
    let mut prompts: Vec<_> = occupied(slots)
        .filter(|(_, slot)| slot.prompt_left() > 0)
        .collect();
    prompts.sort_by_key(|(_, slot)| slot.arrival);
    let mut room = chunk.min(batch_max - plan.rows.len());
    for (place, slot) in prompts {
        let count = slot.prompt_share(room);
        if count == 0 {
            break;
        }
        let tokens = &slot.tokens[slot.seen..slot.seen + count];
        plan.push(place, slot.seen, tokens, count == slot.prompt_left());
        plan.prefill += count;
        room -= count;
    }
    plan
}

fn occupied<S>(slots: &[Option<Slot<S>>]) -> impl Iterator<Item = (usize, &Slot<S>)> {
    slots
        .iter()
        .enumerate()
        .filter_map(|(place, slot)| Some((place, slot.as_ref()?)))
}

impl Plan {
    fn push(&mut self, place: usize, seen: usize, tokens: &[Token], sample: bool) {
        // Both are below numbers that came as u32: requests at once, and tokens of context.
        let sequence = u32::try_from(place).unwrap_or(u32::MAX);
        let positions = u32::try_from(seen).unwrap_or(u32::MAX)..;
        let last = tokens.len() - 1;
        for (at, (token, position)) in tokens.iter().zip(positions).enumerate() {
            self.rows.push(Row {
                token: *token,
                position,
                sequence,
                logits: sample && at == last,
            });
        }
        self.shares.push(Share {
            slot: place,
            rows: tokens.len(),
            logits: sample.then(|| self.rows.len() - 1),
        });
    }
}

/// The request that has the model to itself, if one has.
pub fn alone<S>(slots: &[Option<Slot<S>>]) -> Option<RequestId> {
    let mut slots = occupied(slots);
    let (_, only) = slots.next()?;
    slots.next().is_none().then_some(only.id)
}

/// How many prompt tokens a step takes, from how long steps took.
#[derive(Debug)]
pub struct Pace {
    target: Duration,
    chunk: usize,
    chunk_max: usize,
}

impl Pace {
    /// The pace of steps that should take `target`, before anything is measured; never above
    /// `chunk_max`.
    pub fn new(target: Duration, chunk_max: usize) -> Self {
        Self {
            target,
            chunk: CHUNK_FIRST.min(chunk_max),
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
            .clamp(CHUNK_MIN.min(self.chunk_max), self.chunk_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(arrival: u64, prompt: usize, seen: usize, last: Option<Token>) -> Slot<()> {
        let now = Instant::now();
        Slot {
            id: RequestId(arrival),
            owner: None,
            tokens: (0..).take(prompt).chain(last).collect(),
            prompt_len: prompt,
            cached: 0,
            seen,
            max_tokens: 1,
            answer: Answer::default(),
            sampler: (),
            received: now,
            prompt_done: None,
            reported: now,
            arrival,
        }
    }

    #[test]
    fn answers_come_before_prompts_and_old_prompts_before_new_ones() {
        let slots = [
            slot(3, 50, 0, None),
            slot(1, 4, 4, Some(7)),
            slot(2, 10, 4, None),
        ]
        .map(Some);
        let plan = plan(&slots, 8, 512);
        let shares: Vec<_> = plan
            .shares
            .iter()
            .map(|s| (s.slot, s.rows, s.logits))
            .collect();
        assert_eq!(shares, [(1, 1, Some(0)), (2, 6, Some(6)), (0, 2, None)]);
        assert_eq!(plan.prefill, 8);
        assert_eq!(plan.rows[1].position, 4);
        assert_eq!(plan.rows[1].token, 4);
    }

    #[test]
    fn a_prompt_is_cut_on_the_grid_whatever_the_pace() {
        let shares = |seen: usize, room: usize| {
            let mut slot = slot(1, 200, seen, None);
            let mut shares = Vec::new();
            while slot.prompt_left() > 0 {
                let share = slot.prompt_share(room);
                slot.seen += share;
                shares.push(share);
            }
            shares
        };
        assert_eq!(shares(0, 512), [200]);
        assert_eq!(shares(0, 150), [144, 56]);
        assert_eq!(shares(70, 100), [90, 40]);
        assert_eq!(shares(195, 512), [5]);
        assert_eq!(shares(130, 16), [14, 16, 16, 16, 8], "a slow board");
    }

    #[test]
    fn the_pace_settles_where_a_step_takes_its_target() {
        let mut pace = Pace::new(STEP_SHARED, 512);
        for _ in 0..20 {
            // A board with 100 tokens a second.
            pace.learn(
                pace.chunk(),
                Duration::from_millis(10) * u32::try_from(pace.chunk()).unwrap_or(0),
            );
        }
        assert_eq!(pace.chunk(), 16, "20, on the grid");
        pace.learn(1, Duration::from_secs(9));
        assert_eq!(pace.chunk(), 16, "a small step says little");
    }

    proptest! {
        #[test]
        fn no_plan_is_out_of_bounds(
            slots in proptest::collection::vec(
                (0_u64..9, 1_usize..40, 0_usize..50, any::<bool>(), any::<bool>()), 1..6),
            chunk in 1_usize..64,
            batch in 8_usize..64,
        ) {
            let slots: Vec<_> = slots
                .into_iter()
                .map(|(arrival, prompt, seen, answering, there)| {
                    let last = answering.then_some(1);
                    let seen = if answering { prompt } else { seen.min(prompt - 1) };
                    there.then(|| slot(arrival, prompt, seen, last))
                })
                .collect();
            let plan = plan(&slots, chunk, batch);
            prop_assert!(plan.rows.len() <= batch);
            prop_assert!(plan.prefill <= chunk);
            prop_assert_eq!(plan.rows.len(), plan.shares.iter().map(|s| s.rows).sum::<usize>());
            let work = slots.iter().flatten().count();
            prop_assert_eq!(plan.rows.is_empty(), work == 0);
            for share in &plan.shares {
                if let Some(row) = share.logits {
                    prop_assert!(plan.rows[row].logits);
                }
            }
            let logits = plan.rows.iter().filter(|row| row.logits).count();
            prop_assert_eq!(logits, plan.shares.iter().filter(|s| s.logits.is_some()).count());
        }

        #[test]
        fn the_pace_stays_in_bounds(
            steps in proptest::collection::vec((0_usize..600, 0_u64..5000), 0..40),
            chunk_max in 1_usize..600,
        ) {
            let mut pace = Pace::new(STEP_SHARED, chunk_max);
            for (prefill, took) in steps {
                pace.learn(prefill, Duration::from_millis(took));
                prop_assert!(pace.chunk() <= chunk_max);
                prop_assert!(pace.chunk() >= CHUNK_MIN.min(chunk_max));
            }
        }
    }
}
