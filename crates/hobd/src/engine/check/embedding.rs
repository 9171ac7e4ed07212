//! What an engine may say of embeddings: one for each input, in order, all of one length, each of
//! length 1.

use hob_ipc::embedding::{DIMENSIONS_MAX, Embed, EmbedFailure, Embedding};
use hob_ipc::message::{FailureCode, Finished};

/// How far the squares of an embedding's numbers may be from 1 in sum: they are rounded to 24 bits.
const LENGTH_TOLERANCE: f64 = 1e-3;

/// One request for embeddings.
#[derive(Debug)]
pub(super) struct Account {
    inputs: u32,
    /// Embeddings that came.
    made: u32,
    /// Numbers of each; 0 until the first came, or as many as were asked for.
    dimensions: usize,
    tokens: u32,
}

impl Account {
    pub(super) fn new(request: &Embed) -> Self {
        Self {
            inputs: u32::try_from(request.inputs.len()).unwrap_or(u32::MAX),
            made: 0,
            dimensions: request.dimensions.map_or(0, |wanted| wanted as usize),
            tokens: 0,
        }
    }

    /// Whether this can be the next one.
    pub(super) fn takes(&mut self, embedding: &Embedding, n_ctx: u32) -> bool {
        let numbers = &embedding.vector.0;
        if self.dimensions == 0 {
            self.dimensions = numbers.len();
        }
        let squares = numbers.iter().map(|n| f64::from(*n).powi(2)).sum::<f64>();
        let sane = embedding.index == self.made
            && self.made < self.inputs
            && (1..=DIMENSIONS_MAX).contains(&numbers.len())
            && numbers.len() == self.dimensions
            && (1..=n_ctx).contains(&embedding.tokens)
            // Not so of what is no number.
            && (squares - 1.0).abs() <= LENGTH_TOLERANCE;
        self.made += 1;
        self.tokens = self.tokens.saturating_add(embedding.tokens);
        sane
    }

    /// Whether the request can end so.
    pub(super) fn ends(&self, finished: &Finished) -> bool {
        self.made == self.inputs
            && finished.prompt_tokens == self.tokens
            && finished.cached_tokens == 0
            && finished.has_no_answer()
    }

    /// Whether the request can fail so.
    pub(super) fn fails(&self, code: FailureCode) -> bool {
        match code {
            FailureCode::Embed(
                EmbedFailure::TooLong { index }
                | EmbedFailure::Empty { index }
                | EmbedFailure::Token { index },
            ) => index < self.inputs,
            FailureCode::Score(_) | FailureCode::Text => false,
            _ => true,
        }
    }
}
