//! A text in passages of tokens, and what the model's scores say of them. Pure.
//!
//! Windows are cut, and their second halves scored, as llama.cpp's `llama-perplexity` does it, so that
//! figures can be compared. Of the divergence between two models each row's is computed from all scores
//! in 64-bit sums; that tool keeps the reference's scores in 16 bits.

use hob_ipc::message::FailureCode;
use hob_ipc::passages::{DIVERGENCE_MAX, WINDOW_TOKENS_MIN};

use crate::digest;
use crate::prompt::Token;
use crate::score::Next;
use crate::serve::{Failure, Row};
use crate::slots;

/// A text of which at least one passage can be read.
#[derive(Debug)]
pub struct Passages {
    tokens: Vec<Token>,
    passages: Vec<Passage>,
}

/// Tokens of a piece of text: what goes before, and what is scored.
pub type PieceTokens = (Vec<Token>, Vec<Token>);

/// A part of the tokens. At least one token of it is scored, and never the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passage {
    start: usize,
    end: usize,
    /// The first token that is scored, counted from `start`.
    scored: usize,
}

/// Why a text has no passages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPassages {
    /// Fewer tokens than a window, or windows that can't be.
    #[error("the text has {tokens} tokens, and a window {window}")]
    Window {
        /// The text's.
        tokens: usize,
        /// The window's.
        window: u32,
    },
    /// A piece has no tokens before what is scored, or none there, or more than the context.
    #[error("piece {0} has no tokens, or more than the context holds")]
    Piece(usize),
}

impl Passages {
    /// Windows of `window` tokens, beginning with `bos` if the model wants that, in a context of `n_ctx`.
    ///
    /// # Errors
    /// [`NoPassages::Window`].
    pub fn windows(
        mut tokens: Vec<Token>,
        window: u32,
        bos: Option<Token>,
        n_ctx: u32,
    ) -> Result<Self, NoPassages> {
        let length = window as usize;
        let possible = (WINDOW_TOKENS_MIN..=n_ctx).contains(&window) && tokens.len() >= length;
        if !possible {
            let tokens = tokens.len();
            return Err(NoPassages::Window { tokens, window });
        }
        tokens.truncate(tokens.len() / length * length);
        let starts = (0..tokens.len()).step_by(length);
        let passages: Vec<Passage> = starts
            .map(|start| Passage {
                start,
                end: start + length,
                scored: length / 2 + 1,
            })
            .collect();
        if let Some(bos) = bos {
            for passage in &passages {
                tokens[passage.start] = bos;
            }
        }
        Ok(Self { tokens, passages })
    }

    /// A passage of each piece, of what goes before and what is scored, in a context of `n_ctx`.
    ///
    /// # Errors
    /// [`NoPassages::Piece`].
    pub fn pieces(
        pieces: impl IntoIterator<Item = PieceTokens>,
        n_ctx: u32,
    ) -> Result<Self, NoPassages> {
        let mut all = Self {
            tokens: Vec::new(),
            passages: Vec::new(),
        };
        for (place, (before, scored)) in pieces.into_iter().enumerate() {
            let length = before.len() + scored.len();
            if before.is_empty() || scored.is_empty() || length > n_ctx as usize {
                return Err(NoPassages::Piece(place));
            }
            all.passages.push(Passage {
                start: all.tokens.len(),
                end: all.tokens.len() + length,
                scored: before.len(),
            });
            all.tokens.extend(before);
            all.tokens.extend(scored);
        }
        if all.passages.is_empty() {
            return Err(NoPassages::Piece(0));
        }
        Ok(all)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.passages.len()
    }

    /// Tokens of all.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// A digest of where passages end and of their tokens.
    pub fn digest(&self) -> u64 {
        let tokens = self
            .tokens
            .iter()
            .map(|token| u64::from(token.cast_unsigned()));
        let ends = self.passages.iter().map(|passage| passage.end as u64);
        digest::fnv(tokens.chain(ends).flat_map(u64::to_le_bytes))
    }

    /// How many rows of a passage are scored; `None` if there is no such passage.
    pub fn scored_rows(&self, passage: usize) -> Option<usize> {
        let passage = self.passages.get(passage)?;
        Some(passage.end - passage.start - passage.scored)
    }

    /// The next rows of a passage after the first `seen`, at most `batch_max`, and no more than are needed
    /// for `wanted` rows that are looked at.
    pub fn rows(
        &self,
        passage: usize,
        seen: usize,
        wanted: usize,
        batch_max: usize,
        sequence: u32,
    ) -> Vec<Row> {
        let Some(passage) = self.passages.get(passage) else {
            return Vec::new();
        };
        // What comes behind the last token is of no interest.
        let first = passage.scored - 1;
        let last = (seen.max(first) + wanted).min(passage.end - passage.start - 1);
        let end = last.min(seen + batch_max);
        (seen..end)
            .map(|place| Row {
                token: self.tokens[passage.start + place],
                position: slots::count(place),
                sequence,
                logits: place >= first,
            })
            .collect()
    }

    /// The token behind the one at `place` of a passage.
    pub fn next_token(&self, passage: usize, place: usize) -> Option<Token> {
        let passage = self.passages.get(passage)?;
        let within = passage.start + place + 1 < passage.end;
        within.then(|| self.tokens[passage.start + place + 1])
    }
}

/// The Kullback-Leibler divergence of what `own` expects from what `reference` does, in nats, and whether
/// both find the same token likeliest: sum of `p (ln p - ln q)` over all tokens.
///
/// # Errors
/// [`hob_ipc::message::FailureCode::Decode`] if the scores are no numbers.
pub fn apart(reference: &[f32], own: &[f32]) -> Result<(f64, bool), Failure> {
    let (one, other) = (Next::new(reference)?, Next::new(own)?);
    let highest = one.highest();
    let weighted = reference.iter().zip(own).map(|(reference, own)| {
        let weight = (reference - highest).exp();
        if weight > 0.0 {
            f64::from(weight) * (f64::from(*reference) - f64::from(*own))
        } else {
            0.0
        }
    });
    // The weights are probabilities but for one factor.
    let scale = (f64::from(highest) - one.log_sum()).exp();
    let divergence = weighted.sum::<f64>() * scale - one.log_sum() + other.log_sum();
    // What is the same may differ from nothing in its last digits.
    let divergence = divergence.clamp(0.0, DIVERGENCE_MAX);
    Ok((divergence, one.likeliest() == other.likeliest()))
}

/// Adds each token's probability to its sum.
///
/// # Errors
/// [`hob_ipc::message::FailureCode::Decode`] if the scores are no numbers.
pub fn expect(scores: &[f32], sums: &mut [f64]) -> Result<(), Failure> {
    let next = Next::new(scores)?;
    let highest = next.highest();
    let scale = (f64::from(highest) - next.log_sum()).exp();
    for (sum, score) in sums.iter_mut().zip(scores) {
        *sum += f64::from((score - highest).exp()) * scale;
    }
    Ok(())
}

/// The scores of some of all tokens, in the order in which these are given, and how probable all others are
/// together.
///
/// # Errors
/// [`hob_ipc::message::FailureCode::Decode`] if the scores are no numbers, and
/// [`hob_ipc::message::FailureCode::Text`] if there is no such token.
pub fn of_kept(scores: &[f32], kept: &[Token]) -> Result<(Vec<f32>, f64), Failure> {
    let score = |token: &Token| scores.get(usize::try_from(*token).ok()?).copied();
    let own: Option<Vec<f32>> = kept.iter().map(score).collect();
    let own = own.ok_or_else(|| Failure::new(FailureCode::Text, "there is no such token"))?;
    let share = (Next::new(&own)?.log_sum() - Next::new(scores)?.log_sum()).exp();
    Ok((own, (1.0 - share).clamp(0.0, 1.0)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
