//! What a model expects of the kind of text that it is made smaller for: which tokens might well come up
//! there, beside those that did.
//!
//! A corpus lacks most of the words that will be said, and which of them are likelier, the model itself
//! knows better than any list: at every place of a text it says how likely each token is. Summed over some
//! places these are the counts that the tokens would have on average, if it wrote on from there.

use hob_ipc::passages::{Cut, Piece};
use hob_models::surgery::Demand;

use super::yardstick::parted;
use super::{Shop, Source};
use crate::engine::Engine;
use crate::failure::Failure;

/// Bytes that are read of an excerpt, no more tokens than an engine's context has. More of them chose no
/// better: of the tokens of other articles of WikiText-2, a vocabulary of 24,576 of SmolLM2's lacked 1.15 %
/// whether 2,600 places were summed or 26,000, and 1.70 % without.
const READ_BYTES: usize = 1024;
/// Of these, what goes before.
const BEFORE_BYTES: usize = 128;

impl Shop {
    /// How much each token is needed for text such as the corpus, in which it came up so often.
    pub(super) fn demand(
        &mut self,
        source: &Source<'_>,
        seen: Vec<u64>,
    ) -> Result<Demand, Failure> {
        let texts = self.excerpts.iter();
        let texts = texts.map(|text| parted(text, READ_BYTES).0);
        // Of less, nothing is asked.
        let texts: Vec<_> = texts.filter(|text| text.len() > 2 * BEFORE_BYTES).collect();
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
