//! Drafts without a second model: what followed the latest tokens when they came up before, in the
//! prompt or in the answer, is likely to follow again. Pure.
//!
//! A step computes the answer's last token and the draft at once; each row then gives the token
//! after it, chosen as without drafts, and the draft holds as far as it is what was chosen. So a
//! draft changes how long an answer takes, and not how its tokens are chosen. The scheme is known
//! as prompt lookup decoding (Saxena, 2023), the check as speculative decoding (Leviathan et al.,
//! 2023).

use std::time::Duration;

use crate::prompt::Token;

/// Longest draft. Each row takes time, and memory for a score of every token of the vocabulary.
pub const DRAFT_MAX: usize = 15;
/// Tokens that must have come up before. Fewer repeat in any text.
const MATCH_MIN: usize = 3;
/// Tokens compared at most: a longer match is no better.
const MATCH_MAX: usize = 16;
/// Draft of a probe, where drafts seem to be slower or nothing is known yet.
const PROBE: usize = 2;
/// What a draft must promise: this many times the plain speed. Less is lost in what the
/// estimate does not see.
const GAIN_MIN: f64 = 1.05;
/// Share of the latest measurement in a mean.
const WEIGHT: f64 = 0.2;
/// Share of a step that a drafted token is taken to add at least. No measurement counts for more than
/// twice the mean, so that a mean of nothing would stay so.
const ADDED_MIN: f64 = 0.01;
/// Kinds of matches, by how many tokens are the same at least, and the share of drafted tokens that
/// hold before anything is known: a match of three tokens is more often right than wrong, and what
/// has repeated for long goes on.
const KINDS: [(usize, f64); 3] = [(MATCH_MIN, 0.7), (6, 0.8), (12, 0.9)];
/// Matches left alone after a probe that failed, first and at most. The number doubles.
const PAUSE_FIRST: u32 = 4;
const PAUSE_MAX: u32 = 128;

/// An earlier occurrence of the latest tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The place after it.
    after: usize,
    /// How many tokens are the same: at most [`MATCH_MAX`] are compared.
    same: usize,
}

impl Occurrence {
    /// `length` tokens that followed it in `tokens`. Where they reach the end, they go on with
    /// themselves: what repeats once may go on repeating.
    pub fn draft(self, tokens: &[Token], length: usize) -> Vec<Token> {
        let period = tokens.len() - self.after;
        (0..length)
            .map(|at| tokens[self.after + at % period])
            .collect()
    }

    /// Its kind's place in [`KINDS`].
    fn kind(self) -> usize {
        let kinds = KINDS.iter().take_while(|(same, _)| *same <= self.same);
        kinds.count().saturating_sub(1)
    }
}

/// The longest earlier occurrence of the latest tokens, and of equal ones the latest.
pub fn lookup(tokens: &[Token]) -> Option<Occurrence> {
    let mut best = None;
    let mut longest = MATCH_MIN - 1;
    for after in (MATCH_MIN..tokens.len()).rev() {
        let pairs = tokens[..after].iter().rev().zip(tokens.iter().rev());
        let same = pairs.take(MATCH_MAX).take_while(|(a, b)| a == b).count();
        if same > longest {
            longest = same;
            best = Some(Occurrence { after, same });
        }
        if longest == MATCH_MAX {
            break;
        }
    }
    best
}

/// What steps cost on this board: learned from steps for one answer alone.
#[derive(Debug, Default)]
pub struct StepCosts {
    /// A step without a draft, in seconds.
    plain: Option<f64>,
    /// What each drafted token adds, in seconds.
    added: Option<f64>,
}

impl StepCosts {
    /// Learns from a step with so many drafted tokens. No single one counts for more than twice
    /// what was known: the board may have been busy with something else.
    pub fn learn(&mut self, drafted: usize, took: Duration) {
        let took = took.as_secs_f64();
        let Some(plain) = self.plain.filter(|_| drafted > 0) else {
            if drafted == 0 {
                self.plain = Some(mean(self.plain, took));
            }
            return;
        };
        #[allow(clippy::cast_precision_loss, reason = "at most DRAFT_MAX")]
        let added = ((took - plain) / drafted as f64).max(plain * ADDED_MIN);
        self.added = Some(mean(self.added, added));
    }

    /// What a drafted token adds, in steps without a draft; `None` before both are known.
    fn of_draft(&self) -> Option<f64> {
        let (plain, added) = (self.plain?, self.added?);
        (plain > 0.0).then(|| added / plain)
    }

    /// Whether a step without a draft was measured.
    fn is_begun(&self) -> bool {
        self.plain.is_some()
    }
}

fn mean(known: Option<f64>, new: f64) -> f64 {
    match known {
        None => new,
        Some(known) => known + WEIGHT * (new.min(known * 2.0) - known),
    }
}

/// How well drafts fit one answer.
#[derive(Debug)]
pub struct Acceptance {
    /// For each of [`KINDS`].
    of: [OfKind; KINDS.len()],
    /// The kind of the latest match.
    kind: usize,
    drafted: u32,
    accepted: u32,
}

/// The same for matches of one kind.
#[derive(Clone, Copy, Debug)]
struct OfKind {
    /// Share of drafted tokens that held, of those whose predecessors held.
    rate: f64,
    /// Matches still to be left alone.
    pause: u32,
    /// How many to leave alone after the next probe that fails.
    pause_next: u32,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self {
            of: KINDS.map(|(_, rate)| OfKind {
                rate,
                pause: 0,
                pause_next: PAUSE_FIRST,
            }),
            kind: 0,
            drafted: 0,
            accepted: 0,
        }
    }
}

impl OfKind {
    /// The length of a draft that promises the most, if one does; 0 for none.
    fn best_length(&self, cost: f64) -> usize {
        let mut best = (0, GAIN_MIN);
        let (mut tokens, mut held, mut time) = (1.0, 1.0, 1.0);
        for length in 1..=DRAFT_MAX {
            held *= self.rate;
            tokens += held;
            time += cost;
            if tokens / time > best.1 {
                best = (length, tokens / time);
            }
        }
        best.0
    }
}

impl Acceptance {
    /// How long the draft after `found` should be; 0 for none, and then the match counts as left
    /// alone.
    pub fn length(&mut self, costs: &StepCosts, found: Occurrence) -> usize {
        self.kind = found.kind();
        let Some(cost) = costs.of_draft() else {
            // What a draft costs must be tried, and is compared with a step without.
            return if costs.is_begun() { PROBE } else { 0 };
        };
        let of = &mut self.of[self.kind];
        match (of.best_length(cost), of.pause) {
            (0, 0) => PROBE,
            (0, pause) => {
                of.pause = pause - 1;
                0
            }
            (length, _) => length,
        }
    }

    /// Tokens drafted for this answer.
    pub fn drafted(&self) -> u32 {
        self.drafted
    }

    /// Those of them that held.
    pub fn accepted(&self) -> u32 {
        self.accepted
    }

    /// So many tokens are drafted.
    pub fn begin(&mut self, drafted: usize) {
        let drafted = u32::try_from(drafted).unwrap_or(u32::MAX);
        self.drafted = self.drafted.saturating_add(drafted);
    }

    /// The next drafted token holds.
    pub fn hold(&mut self) {
        self.accepted = self.accepted.saturating_add(1);
        let of = &mut self.of[self.kind];
        of.rate += WEIGHT * (1.0 - of.rate);
        of.pause_next = PAUSE_FIRST;
    }

    /// The next drafted token does not hold, after `held` that did: the rest is worth nothing.
    pub fn fail(&mut self, held: usize) {
        let of = &mut self.of[self.kind];
        of.rate -= WEIGHT * of.rate;
        if held == 0 {
            of.pause = of.pause_next;
            of.pause_next = (of.pause_next * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }

    fn draft(text: &str, length: usize) -> String {
        let tokens = tokens(text);
        let draft = lookup(&tokens).map_or_else(Vec::new, |found| found.draft(&tokens, length));
        let bytes = draft
            .iter()
            .map(|token| u8::try_from(*token).unwrap_or(b'?'));
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
    }

    /// A board on which each drafted token adds `added` of a step.
    fn costs(added: f64) -> StepCosts {
        let mut costs = StepCosts::default();
        for _ in 0..50 {
            costs.learn(0, Duration::from_millis(100));
            costs.learn(4, Duration::from_secs_f64(0.1 + 0.4 * added));
        }
        costs
    }

    #[test]
    fn what_followed_before_is_drafted() {
        assert_eq!(draft("the kettle is on. the ket", 6), "tle is");
        assert_eq!(draft("no such thing", 6), "");
        assert_eq!(draft("ab", 6), "");
        // The longest occurrence wins, and of equal ones the latest.
        assert_eq!(draft("xabc1 abc2 xabc", 1), "1");
        assert_eq!(draft("abc1 abc2 abc", 1), "2");
        // What repeats goes on.
        assert_eq!(draft("abcabcabc", 7), "abcabca");
        assert_eq!(draft("aaaa", 5), "aaaaa");
    }

    #[test]
    fn drafts_are_as_long_as_pays() {
        let mut good = Acceptance::default();
        let mut bad = Acceptance::default();
        for _ in 0..20 {
            learn(&mut good, 4, 4);
            learn(&mut bad, 4, 0);
        }
        assert_eq!(good.length(&costs(0.1), SHORT), DRAFT_MAX);
        assert_eq!(
            good.length(&costs(1.1), SHORT),
            PROBE,
            "rows as dear as steps"
        );
        assert_eq!(bad.length(&costs(0.1), SHORT), 0, "paused");
        assert_eq!((good.drafted, good.accepted), (80, 80));
    }

    #[test]
    fn long_matches_are_trusted_though_short_ones_failed() {
        let mut acceptance = Acceptance::default();
        for _ in 0..20 {
            acceptance.length(&costs(0.3), SHORT);
            learn(&mut acceptance, 4, 0);
        }
        assert_eq!(acceptance.length(&costs(0.3), SHORT), 0);
        let long = Occurrence {
            after: 20,
            same: MATCH_MAX,
        };
        let length = acceptance.length(&costs(0.3), long);
        assert!(length > 4, "{length}");
        // What is learned of long ones says nothing of short ones.
        learn(&mut acceptance, 4, 4);
        assert_eq!(acceptance.length(&costs(0.3), SHORT), 0);
    }

    #[test]
    fn nothing_is_drafted_before_a_plain_step_is_known() {
        let mut costs = StepCosts::default();
        assert_eq!(Acceptance::default().length(&costs, SHORT), 0);
        costs.learn(3, Duration::from_secs(1));
        assert_eq!(Acceptance::default().length(&costs, SHORT), 0);
        costs.learn(0, Duration::from_secs(1));
        assert_eq!(Acceptance::default().length(&costs, SHORT), PROBE);
    }

    #[test]
    fn a_draft_that_seemed_free_once_does_not_stay_so() {
        let mut costs = StepCosts::default();
        // The board was busy with something else during the step without.
        costs.learn(0, Duration::from_millis(300));
        costs.learn(2, Duration::from_millis(200));
        for _ in 0..60 {
            costs.learn(0, Duration::from_millis(100));
            costs.learn(2, Duration::from_millis(200));
        }
        let cost = costs.of_draft().unwrap_or_default();
        assert!((0.4..0.6).contains(&cost), "{cost}");
    }

    #[test]
    fn drafts_that_fail_are_probed_ever_more_rarely() {
        let costs = costs(0.4);
        let mut acceptance = Acceptance::default();
        let mut probes = 0;
        for _ in 0..1000 {
            let length = acceptance.length(&costs, SHORT);
            if length > 0 {
                probes += 1;
                learn(&mut acceptance, length, 0);
            }
        }
        assert!(probes <= 16, "{probes} of 1000");
        // A text that begins to repeat is noticed at the next probe or two.
        let mut passed = 0;
        loop {
            let length = acceptance.length(&costs, SHORT);
            if length > PROBE {
                break;
            }
            learn(&mut acceptance, length, length);
            passed += 1;
            assert!(passed <= 2 * PAUSE_MAX, "never again");
        }
    }

    /// A draft of which so many tokens hold.
    fn learn(acceptance: &mut Acceptance, drafted: usize, held: usize) {
        acceptance.begin(drafted);
        (0..held).for_each(|_| acceptance.hold());
        if held < drafted {
            acceptance.fail(held);
        }
    }

    const SHORT: Occurrence = Occurrence {
        after: 9,
        same: MATCH_MIN,
    };

    proptest! {
        #[test]
        fn a_draft_follows_an_earlier_occurrence(
            tokens in proptest::collection::vec(0_i32..3, 0..60),
            length in 0_usize..12,
        ) {
            let found = lookup(&tokens);
            let draft = found.map_or_else(Vec::new, |found| found.draft(&tokens, length));
            let end = &tokens[tokens.len().saturating_sub(MATCH_MIN)..];
            let occurs = tokens.len() > MATCH_MIN
                && tokens[..tokens.len() - 1].windows(MATCH_MIN).any(|window| window == end);
            prop_assert_eq!(draft.len(), if occurs { length } else { 0 });
            if let Some(first) = draft.first() {
                let mut expected = end.to_vec();
                expected.push(*first);
                prop_assert!(tokens.windows(MATCH_MIN + 1).any(|window| window == expected));
            }
        }

        #[test]
        fn no_history_gives_a_length_out_of_bounds(
            steps in proptest::collection::vec((0_usize..9, 0_usize..9, 0_u64..900, 3_usize..17), 0..60),
        ) {
            let mut costs = StepCosts::default();
            let mut acceptance = Acceptance::default();
            for (drafted, accepted, ms, same) in steps {
                costs.learn(drafted, Duration::from_millis(ms));
                let found = Occurrence { after: 1, same };
                prop_assert!(acceptance.length(&costs, found) <= DRAFT_MAX);
                learn(&mut acceptance, drafted, accepted.min(drafted));
                let possible = |of: &OfKind| (0.0..=1.0).contains(&of.rate);
                prop_assert!(acceptance.of.iter().all(possible));
                prop_assert!(acceptance.accepted <= acceptance.drafted);
            }
        }
    }
}
