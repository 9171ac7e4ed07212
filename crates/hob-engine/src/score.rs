//! Likelihoods under way: which tokens are read next, and what the model's scores say of those that
//! might follow. Pure.
//!
//! Every continuation behind its prompt is a path, and the paths, in order, are a tree that is walked
//! depth first in one sequence: what two of them have in common at their beginning is read once,
//! whether it is prompt or continuation, and the sequence is cut back to where they part. The last
//! token of a path is never read: its score comes with the token before it.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use hob_api::chat::Class;
use hob_api::score::Likelihood;
use hob_ipc::RequestId;
use hob_ipc::message::FailureCode;
use hob_ipc::score::{LOG_PROBABILITY_MIN, Scored};

use crate::prompt::Token;
use crate::serve::{Failure, Row};
use crate::slots::{self, GRID};

/// Most rows of one step whose scores over the vocabulary are looked at: so many are in the memory
/// budget (`hob-models`' `gguf/memory.rs`).
pub const SCORED_ROWS_MAX: usize = 16;

/// A prompt and what may follow it, in tokens: at least one in the prompt and in each continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The prompt.
    pub prompt: Vec<Token>,
    /// What may follow.
    pub continuations: Vec<Vec<Token>>,
}

/// What is wanted beside the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How likely an answer ends behind each continuation.
    pub ends: bool,
    /// Each token's log-probability.
    pub single_tokens: bool,
}

/// One continuation behind its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    part: usize,
    continuation: usize,
    /// How many tokens it has in common with the path before it.
    common: usize,
}

/// The parts of one request as a tree of paths, and how far the walk is.
#[derive(Debug)]
pub struct Walk {
    parts: Vec<Part>,
    wanted: Wanted,
    paths: Vec<Path>,
    /// The path under way; as many as there are when all are done.
    at: usize,
    /// How many rows of it were looked at, or need not be.
    taken: usize,
    likelihoods: Vec<Vec<Likelihood>>,
}

impl Walk {
    /// The walk over these parts, at its beginning.
    pub fn new(parts: Vec<Part>, wanted: Wanted) -> Self {
        let mut paths: Vec<Path> = Vec::new();
        for part in in_order(&parts) {
            let continuations = &parts[part].continuations;
            let mut sorted: Vec<usize> = (0..continuations.len()).collect();
            sorted.sort_by_key(|at| &continuations[*at]);
            paths.extend(sorted.into_iter().map(|continuation| Path {
                part,
                continuation,
                common: 0,
            }));
        }
        for at in 1..paths.len() {
            paths[at].common = common(&parts, paths[at - 1], paths[at]);
        }
        let nothing_yet = Likelihood {
            log_probability: 0.0,
            tokens: 0,
            greedy: true,
            end: None,
            token_log_probabilities: None,
        };
        let likelihoods = parts.iter().map(|part| {
            let each = part.continuations.iter().map(|tokens| Likelihood {
                tokens: slots::count(tokens.len()),
                token_log_probabilities: wanted.single_tokens.then(Vec::new),
                ..nothing_yet.clone()
            });
            each.collect()
        });
        Self {
            likelihoods: likelihoods.collect(),
            parts,
            wanted,
            paths,
            at: 0,
            taken: 0,
        }
    }

    /// Tokens of all prompts and continuations.
    pub fn tokens(&self) -> u32 {
        let parts = self.parts.iter();
        let each = parts.flat_map(|part| {
            let continuations = part.continuations.iter().map(Vec::len);
            continuations.chain([part.prompt.len()])
        });
        slots::count(each.fold(0, usize::saturating_add))
    }

    /// The beginning of the first path, up to and with the first token whose scores are needed.
    pub fn beginning(&self) -> Vec<Token> {
        let mut beginning = usize::MAX;
        let mut shared = usize::MAX;
        for (at, path) in self.paths.iter().enumerate() {
            if at > 0 {
                shared = shared.min(path.common);
            }
            let prompt = self.parts[path.part].prompt.len();
            if prompt <= shared {
                beginning = beginning.min(prompt);
            }
        }
        self.held(beginning)
    }

    /// Tells that the sequence knows the first `cached` tokens of the first path, fewer than
    /// [`Walk::beginning`] gave.
    pub fn begin(&mut self, cached: usize) {
        self.taken = cached;
    }

    /// Whether all is known.
    pub fn is_done(&self) -> bool {
        self.at == self.paths.len()
    }

    /// Goes on to the next path, and tells how many tokens it has in common with the last one.
    pub fn next_path(&mut self) -> usize {
        self.at += 1;
        let common = self.paths.get(self.at).map_or(0, |path| path.common);
        self.taken = self.taken.min(common);
        common
    }

    /// Tokens of the prompt of the path under way.
    pub fn prompt_len(&self) -> usize {
        let path = self.paths.get(self.at);
        path.map_or(0, |path| self.parts[path.part].prompt.len())
    }

    /// The first `count` tokens of the path under way.
    pub fn held(&self, count: usize) -> Vec<Token> {
        let at = self.at.min(self.paths.len().saturating_sub(1));
        let count = count.min(self.length(at));
        (0..count).map(|place| self.token(at, place)).collect()
    }

    /// The next `count` rows after the first `seen`, or so many of them that no more than
    /// [`SCORED_ROWS_MAX`] are looked at.
    pub fn rows(&self, sequence: u32, seen: usize, count: usize) -> Vec<Row> {
        let mut rows = Vec::with_capacity(count);
        let mut scored = 0;
        for place in seen..seen + count {
            let logits = place >= self.taken && self.is_needed(place);
            if logits && scored == SCORED_ROWS_MAX {
                break;
            }
            scored += usize::from(logits);
            rows.push(Row {
                token: self.token(self.at, place),
                position: slots::count(place),
                sequence,
                logits,
            });
        }
        rows
    }

    /// Takes in what the model computed of the row at `place` of the path under way: its scores of
    /// all tokens, of which `ends` end an answer.
    ///
    /// # Errors
    /// [`FailureCode::Decode`] if the scores are no numbers.
    pub fn take(&mut self, place: usize, scores: &[f32], ends: &[Token]) -> Result<(), Failure> {
        let next = Next::new(scores)?;
        for at in self.sharing(place + 1) {
            let path = self.paths[at];
            let Part {
                prompt,
                continuations,
            } = &self.parts[path.part];
            let Some(behind) = (place + 1).checked_sub(prompt.len()) else {
                continue;
            };
            let likelihood = &mut self.likelihoods[path.part][path.continuation];
            match continuations[path.continuation].get(behind) {
                Some(token) => {
                    let log_probability = next.log_probability(std::slice::from_ref(token));
                    likelihood.log_probability += log_probability;
                    likelihood.greedy &= next.likeliest == Some(*token);
                    if let Some(single) = &mut likelihood.token_log_probabilities {
                        #[allow(clippy::cast_possible_truncation, reason = "it came of an f32")]
                        single.push(log_probability as f32);
                    }
                }
                None if self.wanted.ends => likelihood.end = Some(next.log_probability(ends)),
                None => {}
            }
        }
        Ok(())
    }

    /// Notes that the first `seen` tokens of the path under way were read, and those of them that
    /// had to be looked at were.
    pub fn have_read(&mut self, seen: usize) {
        self.taken = self.taken.max(seen);
    }

    /// What came of it all, part by part.
    pub fn scored(self, id: RequestId) -> impl Iterator<Item = Scored> {
        let parts = (0..).zip(self.likelihoods);
        parts.map(move |(part, likelihoods)| Scored {
            id,
            part,
            likelihoods,
        })
    }

    /// The paths from the one under way on that share its first `count` tokens.
    fn sharing(&self, count: usize) -> std::ops::Range<usize> {
        let later = self.paths.iter().skip(self.at + 1);
        let sharing = later.take_while(|path| path.common >= count).count();
        self.at..(self.at + 1 + sharing).min(self.paths.len())
    }

    /// Whether some path needs the scores that come with the token at `place` of the one under way.
    fn is_needed(&self, place: usize) -> bool {
        let next = place + 1;
        self.sharing(next).any(|at| {
            let behind_prompt = next >= self.parts[self.paths[at].part].prompt.len();
            let whole = self.length(at);
            behind_prompt && (next < whole || (next == whole && self.wanted.ends))
        })
    }

    /// How many tokens of the path under way are read.
    pub fn target(&self) -> usize {
        let unread = usize::from(!self.wanted.ends);
        self.length(self.at).saturating_sub(unread)
    }

    fn length(&self, at: usize) -> usize {
        self.paths.get(at).map_or(0, |path| {
            let part = &self.parts[path.part];
            part.prompt.len() + part.continuations[path.continuation].len()
        })
    }

    fn token(&self, at: usize, place: usize) -> Token {
        let path = self.paths[at];
        let part = &self.parts[path.part];
        match place.checked_sub(part.prompt.len()) {
            None => part.prompt[place],
            Some(behind) => part.continuations[path.continuation][behind],
        }
    }
}

fn whole(parts: &[Part], path: Path) -> impl Iterator<Item = &Token> {
    let part = &parts[path.part];
    let continuation = &part.continuations[path.continuation];
    part.prompt.iter().chain(continuation)
}

/// The places of parts, by their prompts; the first part's comes first, so that the sequence that knows
/// most of it is taken.
fn in_order(parts: &[Part]) -> Vec<usize> {
    let first = parts.first().map_or(&[][..], |part| &part.prompt);
    let shared = |part: &Part| {
        let pairs = first.iter().zip(&part.prompt);
        pairs.take_while(|(one, other)| one == other).count()
    };
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_cached_key(|at| (Reverse(shared(&parts[*at])), parts[*at].prompt.clone()));
    order
}

fn common(parts: &[Part], one: Path, other: Path) -> usize {
    let pairs = whole(parts, one).zip(whole(parts, other));
    pairs.take_while(|(one, other)| one == other).count()
}

/// What may come next, by one row's scores.
#[derive(Debug)]
pub struct Next<'a> {
    scores: &'a [f32],
    highest: f32,
    /// The logarithm of the sum of all tokens' exponentiated scores.
    log_sum: f64,
    likeliest: Option<Token>,
}

impl<'a> Next<'a> {
    /// Of these scores.
    ///
    /// # Errors
    /// [`FailureCode::Decode`] if they are no numbers.
    pub fn new(scores: &'a [f32]) -> Result<Self, Failure> {
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let likeliest = scores.iter().position(|score| *score >= highest);
        // `max` passes over what is no number, and the sum does not.
        let sum: f64 = scores
            .iter()
            .map(|score| f64::from((score - highest).exp()))
            .sum();
        if !highest.is_finite() || !sum.is_finite() {
            let message = "the model computed numbers that are none";
            return Err(Failure::new(FailureCode::Decode, message));
        }
        Ok(Self {
            scores,
            highest,
            log_sum: f64::from(highest) + sum.ln(),
            likeliest: likeliest.and_then(|token| Token::try_from(token).ok()),
        })
    }

    /// The highest score.
    pub fn highest(&self) -> f32 {
        self.highest
    }

    /// The logarithm of the sum of all tokens' exponentiated scores.
    pub fn log_sum(&self) -> f64 {
        self.log_sum
    }

    /// The first token of those with the highest score.
    pub fn likeliest(&self) -> Option<Token> {
        self.likeliest
    }

    /// How likely it is one of these.
    pub fn log_probability(&self, tokens: &[Token]) -> f64 {
        let each = tokens.iter().filter_map(|token| {
            let score = self.scores.get(usize::try_from(*token).ok()?)?;
            Some((f64::from(*score) - self.log_sum).exp())
        });
        let log_probability = match tokens {
            // Of one token without the way through its probability, which may be too small.
            [token] => usize::try_from(*token)
                .ok()
                .and_then(|token| self.scores.get(token))
                .map_or(f64::NEG_INFINITY, |score| f64::from(*score) - self.log_sum),
            _ => each.sum::<f64>().ln(),
        };
        log_probability.clamp(LOG_PROBABILITY_MIN, 0.0)
    }
}

/// One request under way.
#[derive(Debug)]
pub struct Job {
    /// The request.
    pub id: RequestId,
    /// Whose it is, if what the model computes may serve a later request.
    pub owner: Option<u32>,
    /// How urgent it is.
    pub class: Class,
    /// When it was read from the socket.
    pub received: Instant,
    /// When, in steps that read, one was last for it.
    pub turn: u64,
    /// Order of arrival.
    pub arrival: u64,
    /// Its sequence.
    pub place: usize,
    /// What is asked, and how far that is.
    pub walk: Walk,
    /// How many tokens of the path under way the sequence holds.
    pub seen: usize,
    /// How many of these were computed as a prompt's are: in its pieces, or known from before. Others
    /// have other last digits, and are not remembered.
    pub exact: usize,
    /// What was computed for it in vain since it last had time to itself.
    pub owed: Duration,
    /// Rows computed.
    pub computed: u32,
    /// Steps taken.
    pub passes: u32,
}

impl Job {
    /// How urgent the request is by now.
    pub fn urgency(&self, now: Instant) -> Class {
        slots::urgency(self.class, self.received, now)
    }

    /// The rows of the next step, with so much room. As long as nothing was cut, the prompt is read in
    /// pieces as any prompt; then all is read at once that fits.
    pub fn rows(&self, sequence: u32, room: usize, batch_max: usize) -> Vec<Row> {
        let prompt = self.walk.prompt_len();
        let count = if self.exact == self.seen && self.seen < prompt {
            slots::share(self.seen, prompt, room, batch_max)
        } else {
            self.walk.target().saturating_sub(self.seen).min(room)
        };
        self.walk.rows(sequence, self.seen, count)
    }

    /// Notes that so many rows more were read.
    pub fn have_read(&mut self, count: usize) {
        let (from, to) = (self.seen, self.seen + count);
        if self.exact == from {
            // What follows the prompt is no prompt's.
            let prompt = to.min(self.walk.prompt_len());
            self.exact = from.max(if prompt < to {
                prompt - prompt % GRID
            } else {
                prompt
            });
        }
        self.seen = to;
        self.passes += 1;
        self.computed = self.computed.saturating_add(slots::count(count));
        self.walk.have_read(to);
    }

    /// Notes that the sequence holds the first `seen` tokens alone.
    pub fn cut(&mut self, seen: usize) {
        self.seen = seen;
        if seen < self.exact {
            self.exact = seen - seen % GRID;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
