//! Ordinary text that a model may not foresee worse for what was done to it.

use std::path::PathBuf;

use hob_ipc::message::Prompt;
use hob_ipc::score::ScorePart;

use super::corpus::Corpus;
use super::estimate::{self, BEFORE_BYTES, PIECE_BYTES, Piece};
use crate::engine::{Engine, EngineError};
use crate::failure::Failure;

/// Most pieces that are read, spread over the text. The difference between a model and the same model with a
/// vector is told by few.
const PIECES_MAX: usize = 6;
/// Fewer would tell nothing.
const PIECES_MIN: usize = 4;

/// Pieces of ordinary text: what goes before, and what is to be foreseen.
#[derive(Debug)]
pub(crate) struct Ordinary(Vec<(String, String)>);

/// How a model foresees it.
#[derive(Debug)]
pub(crate) struct Foreseen(Vec<Piece>);

impl Ordinary {
    /// Pieces of these files.
    ///
    /// # Errors
    /// When they can't be read, or are too short.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, Failure> {
        let corpus = Corpus::open(files)?;
        let mut pieces = Vec::new();
        corpus.read(PIECE_BYTES, |_, text| {
            let ends = (0..=BEFORE_BYTES.min(text.len())).rev();
            let mut ends = ends.filter(|end| text.is_char_boundary(*end));
            let (before, rest) = text.split_at(ends.next().unwrap_or(0));
            if !before.is_empty() && rest.len() >= BEFORE_BYTES {
                pieces.push((before.to_owned(), rest.to_owned()));
            }
            Ok(())
        })?;
        if pieces.len() < PIECES_MIN {
            return Err(Failure::new("the text is too short to measure a loss on")
                .hint("Give ten kilobytes or more."));
        }
        let every = pieces.len().div_ceil(PIECES_MAX);
        Ok(Self(pieces.into_iter().step_by(every).collect()))
    }

    /// How an engine's model foresees it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn foresee(&self, engine: &mut Engine) -> Result<Foreseen, EngineError> {
        let each = self.0.iter().map(|(before, rest)| {
            let part = ScorePart {
                prompt: Prompt::Text(before.clone()),
                continuations: vec![rest.clone()],
            };
            let told = engine.likelihoods(vec![part], false)?;
            let likelihood = told.iter().flatten().map(|one| one.log_probability).sum();
            let bytes = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            Ok(Piece::foreseen(bytes, likelihood))
        });
        Ok(Foreseen(each.collect::<Result<_, EngineError>>()?))
    }
}

impl Foreseen {
    /// By what share more bits for a byte it takes than `base`.
    pub(crate) fn loss(&self, base: &Self) -> Option<f64> {
        let more = estimate::difference(&base.0, &self.0)?.value;
        Some(more / estimate::rate(&base.0)?.value)
    }
}
