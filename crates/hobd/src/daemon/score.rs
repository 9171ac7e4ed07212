//! Likelihoods, gathered; and why they were not told, as clients are told.

use futures_util::StreamExt as _;
use hob_api::event::{Timings, Usage};
use hob_api::score::Likelihood;
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::score::{SINGLE_TOKENS_MAX, ScoreFailure};

use crate::answer::Answer;

/// The likelihoods of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Of each part, one for each of its continuations.
    pub parts: Vec<Vec<Likelihood>>,
    /// Tokens of all prompts and continuations; what several have in common was computed once and
    /// counts as cached beyond that.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
    /// The model that was asked.
    pub model: String,
}

/// All likelihoods of one request: as many as were asked for, as [`crate::engine::Ledger`] sees to.
pub(super) async fn gathered(mut events: Answer) -> Result<Scores, ApiError> {
    let mut parts = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Scored { likelihoods, .. } => parts.push(likelihoods),
            Event::Done(done) => {
                return Ok(Scores {
                    parts,
                    usage: done.usage,
                    timings: done.timings,
                    model: done.model,
                });
            }
            Event::Error { error } => return Err(error),
            Event::Queued { .. }
            | Event::Prefill { .. }
            | Event::Reasoning { .. }
            | Event::Delta { .. }
            | Event::ToolCall { .. }
            | Event::ToolArguments { .. }
            | Event::Embedding { .. } => {}
        }
    }
    Err(super::internal("hobd lost track of this request"))
}

/// The error of a request for likelihoods. The engine's own words are not handed on.
pub(super) fn failure(code: ScoreFailure, tokens: u32, n_ctx: u32) -> ApiError {
    match code {
        ScoreFailure::TooLong { .. } => {
            let message = format!(
                "a prompt has {tokens} tokens or more with what may follow it, and the context holds \
                 {n_ctx}"
            );
            let mut error = ApiError::new(ErrorCode::ContextOverflow, message)
                .hint("shorten it; engine.n_ctx sets the context's size");
            error.prompt_tokens = Some(tokens);
            error.n_ctx = Some(n_ctx);
            error
        }
        ScoreFailure::Empty { .. } => ApiError::new(
            ErrorCode::InvalidRequest,
            "a prompt, or what may follow it, has no tokens",
        )
        .hint("give it text that the model's vocabulary has"),
        ScoreFailure::TooManyTokens { .. } => ApiError::new(
            ErrorCode::InvalidRequest,
            format!("more than {SINGLE_TOKENS_MAX} tokens of one prompt can't be told one by one"),
        )
        .hint("ask for fewer at once, or for sums alone"),
    }
}
