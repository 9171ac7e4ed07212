//! What a model expects of the kind of text that it is made smaller for: which tokens might well come up
//! there, beside those that did.
//!
//! A corpus lacks most of the words that will be said, and which of them are likelier, the model itself
//! knows better than any list: at every place of a text it says how likely each token is. Summed over some
//! places these are the counts that the tokens would have on average, if it wrote on from there.

use hob_ipc::passages::{Cut, Piece};
use hob_models::surgery::Demand;

use super::trial::parted;
use super::{Shop, Source};
use crate::engine::Engine;
use crate::failure::Failure;

/// Excerpts that are read, spread evenly over what tokens are chosen by. More of them chose no better: of
/// the tokens of other articles of WikiText-2, a vocabulary of 24,576 of SmolLM2's lacked 1.15 % whether
/// 2,600 places were summed or 26,000, and 1.70 % without.
const EXCERPTS: u64 = 12;
/// Bytes of each, no more tokens than an engine's context has.
const EXCERPT_BYTES: usize = 1024;
/// Of these, what goes before.
const BEFORE_BYTES: usize = 128;
/// Of less, nothing is asked.
const LEAST_BYTES: usize = 2 * BEFORE_BYTES;

/// Excerpts of a corpus that is read piece by piece.
#[derive(Debug)]
pub(super) struct Excerpts {
    texts: Vec<String>,
    /// Bytes of the corpus from one excerpt's beginning to the next one's.
    stride: u64,
    /// How many bytes went by.
    passed: u64,
}

impl Excerpts {
    /// None yet, of a corpus of so many bytes.
    pub(super) fn of(bytes: u64) -> Self {
        Self {
            texts: Vec::new(),
            stride: (bytes / EXCERPTS).max(EXCERPT_BYTES as u64),
            passed: 0,
        }
    }

    /// Those that were taken.
    pub(super) fn texts(self) -> Vec<String> {
        self.texts
    }

    /// Takes what the next piece of the corpus has.
    pub(super) fn take(&mut self, piece: &str) {
        let begins = self.passed;
        self.passed += piece.len() as u64;
        let mut next = self.texts.len() as u64 * self.stride;
        while next < self.passed {
            let at = usize::try_from(next.saturating_sub(begins)).unwrap_or(usize::MAX);
            let Some(text) = excerpt(piece, at) else {
                // The next piece has one that is long enough.
                return;
            };
            self.texts.push(text.to_owned());
            next += self.stride;
        }
    }
}

/// What a text has from about `at` on, if that is enough.
fn excerpt(text: &str, at: usize) -> Option<&str> {
    let (_, rest) = parted(text, at);
    let (found, _) = parted(rest, EXCERPT_BYTES);
    (found.len() >= LEAST_BYTES).then_some(found)
}

impl Shop {
    /// How much each token is needed for text such as the corpus, in which it came up so often.
    pub(super) fn demand(
        &mut self,
        source: &Source<'_>,
        seen: Vec<u64>,
    ) -> Result<Demand, Failure> {
        let texts = std::mem::take(&mut self.excerpts);
        let mut expected = vec![0.0; seen.len()];
        if source.vocabulary.is_none() || texts.is_empty() {
            return Ok(Demand {
                seen,
                expected: Vec::new(),
            });
        }
        self.meter.stage(
            "asking the model which other words belong there",
            texts.iter().map(|text| text.len() as u64).sum(),
        );
        let tokens = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let mut engine = Engine::load(&source.open.file, tokens, &self.interrupt)?;
        let pieces = texts.iter().map(|text| cut(text)).collect();
        engine.open_text(&texts.concat(), Cut::Pieces(pieces))?;
        let mut rows = 0;
        for (passage, text) in (0..).zip(&texts) {
            self.interrupt.check()?;
            rows += u64::from(engine.expected(passage, &mut expected)?);
            self.meter.advance(text.len() as u64);
        }
        scale(&mut expected, seen.iter().sum(), rows);
        Ok(Demand { seen, expected })
    }
}

/// An excerpt's parts.
fn cut(text: &str) -> Piece {
    let before = parted(text, BEFORE_BYTES).0.len();
    let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    Piece {
        before: bytes(before),
        scored: bytes(text.len() - before),
    }
}

/// Makes of sums over so many rows what a corpus of so many tokens would have.
#[allow(clippy::cast_precision_loss, reason = "counts of tokens")]
fn scale(sums: &mut [f64], tokens: u64, rows: u64) {
    let scale = tokens as f64 / rows.max(1) as f64;
    for sum in sums {
        *sum *= scale;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn excerpts_are_spread_over_all_of_the_text(
            text in "([a-zäö€]{1,9}[ \n]){40,6000}",
            most in 300usize..9000,
        ) {
            let bytes = text.len() as u64;
            let mut excerpts = Excerpts::of(bytes);
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (piece, more) = parted(rest, most);
                excerpts.take(piece);
                rest = more;
            }
            let found = excerpts.texts();
            prop_assert!(found.len() as u64 <= EXCERPTS + 1);
            prop_assert!(!found.is_empty() || bytes < LEAST_BYTES as u64);
            for text in &found {
                let cut = cut(text);
                prop_assert!((LEAST_BYTES..=EXCERPT_BYTES).contains(&text.len()));
                prop_assert!(cut.before > 0 && cut.scored > 0);
                prop_assert_eq!((cut.before + cut.scored) as usize, text.len());
                prop_assert!(text.is_char_boundary(cut.before as usize));
            }
            let enough = most >= EXCERPT_BYTES && bytes >= 2 * EXCERPTS * EXCERPT_BYTES as u64;
            prop_assert!(!enough || found.len() as u64 >= EXCERPTS - 2, "{}", found.len());
        }
    }
}
