//! Why embeddings were not made, as clients are told.

use hob_api::{ApiError, ErrorCode};
use hob_ipc::embedding::EmbedFailure;

/// The error of a request for embeddings. The engine's own words are not handed on.
pub(super) fn failure(code: EmbedFailure, tokens: u32, n_ctx: u32) -> ApiError {
    let field = |index: u32| format!("input[{index}]");
    match code {
        EmbedFailure::Unsupported => ApiError::new(
            ErrorCode::Unsupported,
            "this model makes no embeddings that hob can read",
        )
        .hint("load one that pools by the mean or the last token, and whose tokens look back only"),
        EmbedFailure::Dimensions { model } => ApiError::new(
            ErrorCode::Unsupported,
            format!("this model's embeddings have {model} numbers, and can't be cut"),
        )
        .hint(format!("leave `dimensions` out, or set it to {model}"))
        .param("dimensions"),
        EmbedFailure::Memory => ApiError::new(
            ErrorCode::InsufficientMemory,
            "there is no memory for embeddings beside the model and its answers",
        )
        .hint("set engine.n_ctx or engine.parallel lower, or give engine.memory more"),
        EmbedFailure::TooLong { index } => {
            let message = format!(
                "`{}` has {tokens} tokens or more, and the context holds {n_ctx}",
                field(index)
            );
            let mut error = ApiError::new(ErrorCode::ContextOverflow, message)
                .hint("cut it into several inputs; engine.n_ctx sets the context's size")
                .param(field(index));
            error.prompt_tokens = Some(tokens);
            error.n_ctx = Some(n_ctx);
            error
        }
        EmbedFailure::Empty { index } => ApiError::new(
            ErrorCode::InvalidRequest,
            format!("`{}` has no tokens", field(index)),
        )
        .hint("leave it out")
        .param(field(index)),
        EmbedFailure::Token { index } => ApiError::new(
            ErrorCode::InvalidRequest,
            format!(
                "`{}` has a token that this model does not know",
                field(index)
            ),
        )
        .hint("tokens are numbers of this very model; text needs none")
        .param(field(index)),
    }
}
