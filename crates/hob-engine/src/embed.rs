//! Embeddings under way: which tokens are read next, and how what the model made of each becomes
//! one vector. Pure.
//!
//! llama.cpp pools within one pass, and a long input takes several. So it is asked for what it made
//! of each token, and the pooling is done here.

use std::time::Instant;

use hob_api::chat::Class;
use hob_ipc::RequestId;
use hob_ipc::embedding::{EmbedFailure, EmbedInput, Embedding, Vector};
use hob_ipc::message::FailureCode;

use crate::prompt::Token;
use crate::serve::{Failure, Row, Step};

/// Most tokens of one step. llama.cpp computes scores over the whole vocabulary for each, whether
/// they are wanted or not: more would cost memory (1 MiB for each token with Gemma's vocabulary,
/// twice) and gain little speed on a board.
pub const ROWS_MAX: usize = 64;
/// Most inputs of one step.
pub const SEQUENCES: usize = 8;

/// How what a model made of an input's tokens becomes one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The last one's, which has seen all others.
    Last,
}

/// A model that makes embeddings, in a context that holds nothing else.
pub trait Embedder {
    /// How it pools.
    fn pooling(&self) -> Pooling;

    /// Numbers of one vector, at least 1.
    fn dimensions(&self) -> usize;

    /// Tokens of an input, within the vocabulary.
    ///
    /// # Errors
    /// [`EmbedFailure::TooLong`], [`EmbedFailure::Token`] or [`EmbedFailure::Empty`], with `index`.
    fn tokens(&self, input: EmbedInput, index: u32) -> Result<Vec<Token>, Failure>;

    /// Drops what the context holds.
    fn start_over(&mut self);

    /// Computes one step: 1 to [`ROWS_MAX`] rows of at most [`SEQUENCES`] sequences. It may stop
    /// early when the interrupt is raised.
    ///
    /// # Errors
    /// [`FailureCode::Decode`].
    fn read(&mut self, rows: &[Row]) -> Result<Step, Failure>;

    /// What the model made of row `row` of the last step: [`Embedder::dimensions`] numbers.
    ///
    /// # Errors
    /// [`FailureCode::Decode`].
    fn state(&self, row: usize) -> Result<&[f32], Failure>;
}

/// The failure of a request for embeddings.
pub fn failure(code: EmbedFailure, message: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::Embed(code), message)
}

/// A request for embeddings under way.
#[derive(Debug)]
pub struct Job {
    /// The request.
    pub id: RequestId,
    /// How urgent it is.
    pub class: Class,
    /// When it was read from the socket.
    pub received: Instant,
    /// Order of arrival.
    pub arrival: u64,
    /// When, in steps that read, it was last worked on; 0 for never.
    pub turn: u64,
    inputs: Vec<Vec<Token>>,
    /// Inputs that are done.
    done: usize,
    /// Tokens of the next one that were read.
    seen: usize,
    /// The sum over those, or the last one.
    pooled: Vec<f64>,
}

/// A part of a step: tokens `from..to` of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    input: usize,
    from: usize,
    to: usize,
}

impl Job {
    /// A request for the embeddings of `inputs`, none of them empty.
    pub fn new(id: RequestId, class: Class, received: Instant, inputs: Vec<Vec<Token>>) -> Self {
        Self {
            id,
            class,
            received,
            arrival: 0,
            turn: 0,
            inputs,
            done: 0,
            seen: 0,
            pooled: Vec::new(),
        }
    }

    /// Whether all embeddings are made.
    pub fn is_done(&self) -> bool {
        self.done == self.inputs.len()
    }

    /// Tokens of all inputs.
    pub fn tokens(&self) -> u32 {
        let tokens = self.inputs.iter().map(Vec::len).sum::<usize>();
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// Whether the next step goes on with an input, so that the context must be as it is.
    pub fn goes_on(&self) -> bool {
        self.seen > 0
    }

    /// The next step of at most `room` tokens, at least 1: a piece of one input, or several whole
    /// ones.
    pub fn next(&self, room: usize) -> Vec<Piece> {
        let room = room.clamp(1, ROWS_MAX);
        let mut left = room;
        let mut pieces = Vec::new();
        for (input, tokens) in self.inputs.iter().enumerate().skip(self.done) {
            if pieces.len() == SEQUENCES || tokens.len() > left {
                break;
            }
            if self.goes_on() {
                break;
            }
            left -= tokens.len();
            let (from, to) = (0, tokens.len());
            pieces.push(Piece { input, from, to });
        }
        if pieces.is_empty()
            && let Some(tokens) = self.inputs.get(self.done)
        {
            let (input, from) = (self.done, self.seen);
            let to = tokens.len().min(from + room);
            pieces.push(Piece { input, from, to });
        }
        pieces
    }

    /// The rows of a step, each piece with a sequence of its own.
    pub fn rows(&self, pieces: &[Piece]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (sequence, piece) in (0..).zip(pieces) {
            let tokens = self.inputs[piece.input][piece.from..piece.to].iter();
            // A context's tokens are counted in u32.
            let positions = u32::try_from(piece.from).unwrap_or(u32::MAX)..;
            rows.extend(positions.zip(tokens).map(|(position, token)| Row {
                token: *token,
                position,
                sequence,
                logits: true,
            }));
        }
        rows
    }

    /// Takes in what the model made of a step, and gives the embeddings that are done with it.
    ///
    /// # Errors
    /// [`FailureCode::Decode`] if the model computed numbers that are none, or nothing but zeros.
    pub fn take(
        &mut self,
        pieces: &[Piece],
        embedder: &dyn Embedder,
    ) -> Result<Vec<Embedding>, Failure> {
        let mut made = Vec::new();
        let mut row = 0;
        for piece in pieces {
            for _ in piece.from..piece.to {
                self.pool(embedder.pooling(), embedder.state(row)?);
                row += 1;
            }
            self.seen = piece.to;
            let tokens = self.inputs[piece.input].len();
            if self.seen == tokens {
                made.push(Embedding {
                    id: self.id,
                    index: u32::try_from(piece.input).unwrap_or(u32::MAX),
                    tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
                    vector: normalized(&self.pooled)?,
                });
                self.pooled.clear();
                self.seen = 0;
                self.done += 1;
            }
        }
        Ok(made)
    }

    fn pool(&mut self, pooling: Pooling, state: &[f32]) {
        if self.pooled.is_empty() || pooling == Pooling::Last {
            self.pooled.clear();
            self.pooled.extend(state.iter().copied().map(f64::from));
            return;
        }
        for (sum, number) in self.pooled.iter_mut().zip(state) {
            *sum += f64::from(*number);
        }
    }
}

/// The vector of length 1 in the same direction: of a sum the same as of a mean.
fn normalized(vector: &[f64]) -> Result<Vector, Failure> {
    let length = vector.iter().map(|n| n * n).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(Failure::new(
            FailureCode::Decode,
            "the model computed numbers that are none, or nothing but zeros",
        ));
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "between -1 and 1, and the last digits do not matter"
    )]
    let numbers = vector.iter().map(|n| (n / length) as f32);
    Ok(Vector(numbers.collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
