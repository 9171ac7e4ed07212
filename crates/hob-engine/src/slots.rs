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
    /// How many of the prompt's the model knew from before.
    pub cached: usize,
    /// How many of all the model has seen: the next one's position.
    pub seen: usize,
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
            1 if self.is_answered() => 0,
            left => left,
        }
    }

    fn is_answered(&self) -> bool {
        self.tokens.len() > self.prompt_len
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
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Finished {
            id: self.id,
            reason,
            prompt_tokens: self.prompt_tokens(),
            cached_tokens: count(self.cached),
            completion_tokens: self.answered(),
            drafted_tokens: self.acceptance.drafted(),
            accepted_tokens: self.acceptance.accepted(),
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
}

/// The next step: rows for the model, and whose they are.
#[derive(Debug, Default)]
pub struct Plan {
    /// At most the model's batch.
    pub rows: Vec<Row>,
    /// In the order of the rows.
    pub shares: Vec<Share>,
}

/// Plans a step that writes: the last token of every answer, and what `draft` gives for each place
/// and so many tokens at most.
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
        let mut tokens = slot.tokens[slot.seen..].to_vec();
        let drafted = draft(place, room);
        room -= drafted.len();
        tokens.extend(drafted);
        plan.push(place, slot.seen, &tokens, tokens.len());
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
        plan.push(place, slot.seen, tokens, last);
    }
    plan
}

/// Whose prompt is read next: the most urgent one's, and in turns among equals. Who has just come
/// comes before who was just read.
pub fn next_to_read<S>(slots: &[Option<Slot<S>>], now: Instant) -> Option<usize> {
    occupied(slots)
        .filter(|(_, slot)| slot.to_read() > 0)
        .min_by_key(|(_, slot)| (slot.urgency(now), slot.turn, slot.arrival))
        .map(|(place, _)| place)
}

fn occupied<S>(slots: &[Option<Slot<S>>]) -> impl Iterator<Item = (usize, &Slot<S>)> {
    slots
        .iter()
        .enumerate()
        .filter_map(|(place, slot)| Some((place, slot.as_ref()?)))
}

impl Plan {
    /// Adds tokens, of which the last `chosen` are each followed by one that is chosen.
    fn push(&mut self, place: usize, seen: usize, tokens: &[Token], chosen: usize) {
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
            class: Class::Chat,
            drafts: true,
            acceptance: Acceptance::default(),
            turn: 0,
            owed: Duration::ZERO,
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
    fn every_answer_is_written_and_one_prompt_read() {
        let slots = [
            slot(3, 50, 0, None),
            slot(1, 4, 4, Some(7)),
            slot(2, 5, 5, Some(8)),
        ]
        .map(Some);
        let plan = writing(&slots, 512, |place, _| vec![9; place - 1]);
        let shares = |plan: &Plan| -> Vec<_> {
            let shares = plan.shares.iter();
            shares.map(|s| (s.slot, s.rows, s.logits)).collect()
        };
        assert_eq!(shares(&plan), [(1, 1, Some(0)), (2, 2, Some(1))]);
        let row = |row: &Row| (row.token, row.position, row.sequence, row.logits);
        let rows: Vec<_> = plan.rows.iter().map(row).collect();
        assert_eq!(rows, [(7, 4, 1, true), (8, 5, 2, true), (9, 6, 2, true)]);
        assert_eq!(shares(&reading(&slots, 0, 16, 256)), [(0, 16, None)]);
        assert_eq!(shares(&reading(&slots, 0, 64, 256)), [(0, 50, Some(49))]);
    }

    #[test]
    fn a_sequence_that_was_lost_is_read_again_with_its_answer() {
        let mut lost = slot(1, 4, 4, Some(7));
        lost.tokens.push(8);
        lost.seen = 0;
        assert_eq!(lost.to_read(), 6);
        let plan = reading(&[Some(lost)], 0, 64, 256);
        assert_eq!((plan.rows.len(), plan.shares[0].logits), (6, Some(5)));
    }

    #[test]
    fn the_most_urgent_prompt_is_read_first_and_equals_take_turns() {
        fn set(slots: &mut [Option<Slot<()>>], at: usize, change: impl FnOnce(&mut Slot<()>)) {
            if let Some(slot) = &mut slots[at] {
                change(slot);
            }
        }
        let mut slots = [slot(1, 50, 0, None), slot(2, 50, 0, None)].map(Some);
        let now = Instant::now();
        let mut order = Vec::new();
        for turn in 1..=4 {
            let place = next_to_read(&slots, now).unwrap_or(9);
            order.push(place);
            set(&mut slots, place, |slot| slot.turn = turn);
        }
        assert_eq!(order, [0, 1, 0, 1]);
        set(&mut slots, 1, |slot| slot.class = Class::Voice);
        assert_eq!(next_to_read(&slots, now), Some(1));
        set(&mut slots, 1, |slot| slot.class = Class::Batch);
        assert_eq!(next_to_read(&slots, now), Some(0));
        // Waiting counts: one class after so long, two after twice as long.
        assert_eq!(next_to_read(&slots, now + AGEING * 2), Some(0), "in turns");
        set(&mut slots, 0, |slot| slot.turn = 9);
        assert_eq!(next_to_read(&slots, now + AGEING), Some(0));
        assert_eq!(next_to_read(&slots, now + AGEING * 2), Some(1));
    }

    #[test]
    fn a_prompt_is_cut_on_the_grid_whatever_the_pace() {
        let shares = |seen: usize, room: usize| {
            let mut slot = slot(1, 200, seen, None);
            let mut shares = Vec::new();
            while slot.to_read() > 0 {
                let share = slot.share(room, 256);
                slot.seen += share;
                shares.push(share);
            }
            shares
        };
        assert_eq!(shares(0, 512), [200]);
        assert_eq!(shares(0, 192), [128, 72]);
        assert_eq!(shares(0, 150), [128, 72]);
        assert_eq!(shares(0, 64), [64, 64, 72]);
        assert_eq!(shares(80, 64), [120], "no piece is too short");
        assert_eq!(shares(70, 100), [66, 64]);
        assert_eq!(shares(195, 512), [5]);
        assert_eq!(shares(0, 16)[..11], [16; 11], "a slow board");
        assert_eq!(shares(130, 16), [16, 16, 16, 22], "a slow board");
    }

    #[test]
    fn the_pace_settles_where_a_step_takes_its_target() {
        let mut pace = Pace::new(STEP_SHARED, CHUNK_MIN, 512);
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
            room in 1_usize..64,
            batch in 8_usize..64,
            draft in 0_usize..12,
        ) {
            let slots: Vec<_> = slots
                .into_iter()
                .map(|(arrival, prompt, seen, answering, there)| {
                    let last = answering.then_some(1);
                    let seen = if answering { prompt } else { seen.min(prompt - 1) };
                    there.then(|| slot(arrival, prompt, seen, last))
                })
                .collect();
            let count = |reads: bool| {
                occupied(&slots).filter(|(_, slot)| (slot.to_read() > 0) == reads).count()
            };
            let plan = writing(&slots, batch, |_, max| vec![1; draft.min(max)]);
            prop_assert!(plan.rows.len() <= batch);
            prop_assert_eq!(plan.shares.len(), count(false));
            prop_assert!(plan.rows.iter().all(|row| row.logits));
            let own = plan.shares.iter().map(|share| share.rows);
            prop_assert_eq!(own.sum::<usize>(), plan.rows.len());
            let place = next_to_read(&slots, Instant::now());
            prop_assert_eq!(place.is_some(), count(true) > 0);
            if let Some(place) = place {
                let plan = reading(&slots, place, room.min(batch), batch);
                prop_assert!((1..=batch).contains(&plan.rows.len()));
                let chosen = plan.rows.iter().filter(|row| row.logits).count();
                prop_assert_eq!(chosen, usize::from(plan.shares[0].logits.is_some()));
            }
        }

        #[test]
        fn every_piece_is_whole_and_begins_on_the_grid(
            begin in 0_usize..20,
            length in 1_usize..900,
            rooms in proptest::collection::vec(4_usize..17, 1..20),
        ) {
            let mut seen = begin * GRID;
            let whole = seen + length;
            for room in rooms.iter().cycle() {
                let share = share(seen, whole, room * GRID, 256);
                prop_assert!(share >= PIECE_MIN.min(length));
                prop_assert!(share <= (room * GRID).max(2 * PIECE_MIN));
                prop_assert_eq!(seen % GRID, 0);
                seen += share;
                if seen == whole {
                    break;
                }
            }
        }

        #[test]
        fn the_pace_stays_in_bounds(
            steps in proptest::collection::vec((0_usize..600, 0_u64..5000), 0..40),
            chunk_max in 1_usize..600,
        ) {
            let mut pace = Pace::new(STEP_SHARED, CHUNK_MIN, chunk_max);
            for (prefill, took) in steps {
                pace.learn(prefill, Duration::from_millis(took));
                prop_assert!(pace.chunk() <= chunk_max);
                prop_assert!(pace.chunk() >= CHUNK_MIN.min(chunk_max));
            }
        }
    }
}
