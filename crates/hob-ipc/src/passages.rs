//! A text that a model reads passage by passage: what the engine is asked for, and what comes back. Not
//! by hobd, but by hob, where it tells how well models foresee a text.
//!
//! A text is opened once and made tokens of once. Then its passages are read, each in one step or in
//! several, so that the scores of all tokens, which two engines hand each other where they are
//! compared, need no more memory than one step's. They lie in memory whose descriptor comes with the
//! command: 32-bit floats, little-endian, for each row as many as there are tokens.

use serde::{Deserialize, Serialize};

use crate::RequestId;

/// Longest text in bytes.
pub const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Most pieces of a text.
pub const PIECES_MAX: usize = 16 << 10;
/// Least tokens of a window: half of them are looked at, but for the last.
pub const WINDOW_TOKENS_MIN: u32 = 4;
/// Most passages of tokens that are handed over at once.
pub const TOKEN_PASSAGES_MAX: usize = 1 << 10;
/// Most tokens of these together, and most that are kept of a vocabulary: all fit a frame.
pub const TOKENS_MAX: usize = 1 << 18;
/// Most rows of one step.
pub const ROWS_MAX: u32 = 256;
/// Most nats of one row's divergence that are told; more is told as this.
pub const DIVERGENCE_MAX: f64 = 1000.0;

/// A request to open a text in place of the one before. Its bytes lie in the memory whose descriptor comes
/// with it. Answered by [`crate::EngineEvent::TextOpened`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenText {
    /// Its number.
    pub id: RequestId,
    /// Its bytes, 1 to [`TEXT_BYTES_MAX`], of UTF-8; never a source of control tokens.
    pub bytes: u64,
    /// What its passages are.
    pub cut: Cut,
}

/// How a text is cut into passages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The whole text is made tokens of, and every so many are a passage, [`WINDOW_TOKENS_MIN`] to the
    /// context's; what is left over at the end is none. Where the model wants a token that begins a text,
    /// that stands in place of each window's first. The second half is scored.
    Windows {
        /// Tokens of each.
        tokens: u32,
    },
    /// Each piece of text is a passage, made tokens of by itself; 1 to [`PIECES_MAX`], which are the
    /// text together.
    Pieces(Vec<Piece>),
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Bytes of what goes before, at least 1.
    pub before: u32,
    /// Bytes of what is scored, at least 1.
    pub scored: u32,
}

/// A request to open a text of which another engine made the tokens, in place of the one before. Its
/// passages begin with the token that begins a text where the model wants one. Answered by
/// [`crate::EngineEvent::TextOpened`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTokens {
    /// Its number.
    pub id: RequestId,
    /// Its passages, 1 to [`TOKEN_PASSAGES_MAX`], of at most [`TOKENS_MAX`] tokens together.
    pub passages: Vec<TokenPassage>,
    /// The numbers that the tokens of another model, which has no others, have here, in that model's order; at
    /// most [`TOKENS_MAX`]. With them, the scores that are written are those of these tokens alone. Empty for all
    /// tokens.
    pub kept: Vec<i32>,
}

/// A passage of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPassage {
    /// How many go before what is scored, at least 1 and fewer than there are.
    pub before: u32,
    /// The tokens.
    pub tokens: Vec<i32>,
}

/// An open text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextOpened {
    /// Which request.
    pub id: RequestId,
    /// Its passages; at least one.
    pub passages: u32,
    /// Tokens of all passages.
    pub tokens: u32,
    /// A digest of the passages' tokens, to tell whether two models read the same.
    pub digest: u64,
}

/// A request to read one step's worth of a passage. Answered by [`crate::EngineEvent::TextRead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadText {
    /// Its number.
    pub id: RequestId,
    /// Which passage, from 0.
    pub passage: u32,
    /// How many of its rows were scored before: 0 begins the passage, and otherwise nothing else may
    /// have been asked for since.
    pub from: u32,
    /// How many are scored now, 1 to [`ROWS_MAX`]; the rest of the passage, if those are fewer.
    pub rows: u32,
    /// What is done with the scores of all tokens.
    pub scores: Scores,
}

/// What is done with the scores of all tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// They are dropped.
    Drop,
    /// They are written into the memory that comes with the request: as large as what this many rows
    /// have.
    Write,
    /// They are compared with those in the memory that comes with the request, of so many rows.
    Compare,
    /// The probability of each token, summed over the rows, is written into the memory that comes with the
    /// request: how often the model expects each. As large as the scores of one row.
    Expect,
}

/// What a step told of a passage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextRead {
    /// Which request.
    pub id: RequestId,
    /// Rows that were scored, as many as tokens.
    pub rows: u32,
    /// Rows of the passage that are left.
    pub left: u32,
    /// The sum of the tokens' log-probabilities, each behind all before it in the passage.
    pub log_probability: f64,
    /// Bytes that these tokens stand for.
    pub bytes: u64,
    /// With [`Scores::Compare`]: how far it is from what the other model expected.
    pub apart: Option<Apart>,
    /// With [`Scores::Write`] where not all tokens are kept: the sum over rows of how probable the others are.
    pub others: Option<f64>,
}

/// How far what a model expects is from what a reference does, summed over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Apart {
    /// The Kullback-Leibler divergence from the reference, in nats; at most [`DIVERGENCE_MAX`] a row.
    pub divergence: f64,
    /// Rows of which both find the same token likeliest.
    pub agree: u32,
}

/// The bytes of the scores of `rows` rows.
pub fn scores_bytes(rows: u32, vocabulary: u32) -> u64 {
    u64::from(rows) * u64::from(vocabulary) * size_of::<f32>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::frame::{COMMAND_BYTES_MAX, encode};

    #[test]
    fn as_many_pieces_as_there_may_be_fit_a_frame() {
        let longest = Piece {
            before: u32::MAX,
            scored: u32::MAX,
        };
        let command = Command::OpenText(OpenText {
            id: RequestId(u64::MAX),
            bytes: TEXT_BYTES_MAX,
            cut: Cut::Pieces(vec![longest; PIECES_MAX]),
        });
        assert!(encode(&command, COMMAND_BYTES_MAX).is_ok());
        assert!(command.brings_descriptor());
    }

    #[test]
    fn as_many_tokens_as_there_may_be_fit_a_frame() {
        // No vocabulary has so many tokens that their numbers are longer.
        let longest = 999_999;
        let passage = TokenPassage {
            before: u32::MAX,
            tokens: vec![longest; TOKENS_MAX / TOKEN_PASSAGES_MAX],
        };
        let command = Command::OpenTokens(OpenTokens {
            id: RequestId(u64::MAX),
            passages: vec![passage; TOKEN_PASSAGES_MAX],
            kept: vec![longest; TOKENS_MAX],
        });
        assert!(encode(&command, COMMAND_BYTES_MAX).is_ok());
        assert!(!command.brings_descriptor());
    }
}
