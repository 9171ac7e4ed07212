//! What a model expects of the kind of text that it is made smaller for: which tokens might well come up
//! there, beside those that did.
//!
//! A corpus lacks most of the words that will be said, and which of them are likelier, the model itself
//! knows better than any list: at every place of a text it says how likely each token is. Summed over some
//! places these are the counts that the tokens would have on average, if it wrote on from there.
//!
//! Each file of the corpus counts alike, as each may be another kind of text, and the longest need not be
//! what matters most.

use hob_ipc::passages::{Cut, Piece};
use hob_models::surgery::{Demand, Token};

use super::cutting::Cutting;
use super::yardstick::parted;
use super::{Shop, Source};
use crate::failure::Failure;

/// Bytes that are read of an excerpt, no more tokens than an engine's context has. More of them chose no
/// better: of the tokens of other articles of WikiText-2, a vocabulary of 24,576 of SmolLM2's, chosen by its
/// validation text alone, lacked 1.15 % whether 2,600 places were summed or 26,000, and 1.70 % without.
const READ_BYTES: usize = 1024;
/// Of these, what goes before.
const BEFORE_BYTES: usize = 128;
/// What was expected counts less than what came up by this factor. Of SmolLM2's vocabularies of 16,384,
/// 24,576 and 32,768, chosen by WikiText-2's validation text and 60 % of its test text, 2.81, 1.00 and 0.40 %
/// of the tokens of the rest were missing with 0.3; 2.76, 1.05 and 0.40 % with 1; 3.10, 1.12 and 0.40 % with
/// 3; and 2.89, 1.21 and 0.64 % by what came up alone.
const EXPECTED_WEIGHT: f64 = 0.3;

/// What was neither, as it is about something else, counts by how common it was in the tokenizer's own
/// training; all of it this much, beside all that came up. Of 24,576 of SmolLM2's tokens, chosen by WikiText-2's
/// validation text alone, 1.21 % of other articles' and 5.7 % of chat's tokens were missing with 0.1; 1.35 and
/// 5.0 % with 0.3; and 1.15 and 7.8 % with none.
const GENERAL_WEIGHT: f64 = 0.2;
/// How common: by Zipf's law with Mandelbrot's shift, which keeps the first few from having most of it.
const SHIFT: f64 = 100.0;

impl Shop {
    /// How much each token is needed for text such as the corpus, in which it came up so often.
    pub(super) fn demand(
        &mut self,
        source: &Source<'_>,
        cutting: &Cutting,
    ) -> Result<Demand, Failure> {
        let mut demand = Demand {
            seen: cutting.counts.clone(),
            weights: cutting.shares.clone(),
        };
        if let Some(vocabulary) = source.vocabulary {
            let all = GENERAL_WEIGHT * share(cutting.files.len(), 1);
            add_common(&mut demand.weights, &vocabulary.learned(), all);
        }
        let excerpts = self.excerpts.iter();
        let read = excerpts.map(|excerpt| (excerpt.file, parted(&excerpt.text, READ_BYTES).0));
        // Of less, nothing is asked.
        let read: Vec<_> = read
            .filter(|(_, text)| text.len() > 2 * BEFORE_BYTES)
            .collect();
        if source.vocabulary.is_none() || read.is_empty() {
            return Ok(demand);
        }
        self.meter.stage(
            "asking the model which other words belong there",
            read.iter().map(|(_, text)| text.len() as u64).sum(),
        );
        let mut engine = self.engine(&source.open.file, source.all())?;
        let text: String = read.iter().map(|(_, text)| *text).collect();
        let pieces = read.iter().map(|(_, text)| cut(text)).collect();
        engine.open_text(&text, Cut::Pieces(pieces))?;
        let of_files = read.chunk_by(|(one, _), (other, _)| one == other);
        let each = EXPECTED_WEIGHT * share(cutting.files.len(), of_files.clone().count());
        let mut passages = 0..;
        for of_file in of_files {
            let (mut sums, mut rows) = (vec![0.0; source.all()], 0.0);
            for ((_, text), passage) in of_file.iter().zip(passages.by_ref()) {
                self.interrupt.check()?;
                rows += f64::from(engine.expected(passage, &mut sums)?);
                self.meter.advance(text.len() as u64);
            }
            for (weight, sum) in demand.weights.iter_mut().zip(sums) {
                *weight += each * sum / rows;
            }
        }
        Ok(demand)
    }
}

/// Adds what tokens count by how common they are, the commonest first, `all` together.
fn add_common(weights: &mut [f64], learned: &[Token], all: f64) {
    let common = |rank: u32| 1.0 / (f64::from(rank) + SHIFT);
    let sum: f64 = (0..).zip(learned).map(|(rank, _)| common(rank)).sum();
    for (rank, token) in (0..).zip(learned) {
        if let Some(weight) = weights.get_mut(*token as usize) {
            *weight += all * common(rank) / sum;
        }
    }
}

/// How much one file counts of those that were read, in place of those that were not.
#[allow(clippy::cast_precision_loss, reason = "a number of files")]
fn share(all: usize, read: usize) -> f64 {
    all as f64 / read as f64
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_common_counts_more_and_all_of_it_as_much_as_is_said() {
        let mut weights = [0.0, 1.0, 0.0, 0.0];
        add_common(&mut weights, &[2, 1, 3, 9], 0.5);
        assert!(weights[2] > weights[3] && weights[0] == 0.0, "{weights:?}");
        // Token 9 has no place.
        let sum: f64 = weights.iter().sum();
        assert!((1.35..1.5).contains(&sum), "{sum}");
    }
}
