//! The one error type that crosses hob's public doors.

use serde::{Deserialize, Serialize};

/// What went wrong, as a closed and stable set: programs match on it.
///
/// The table in `hobd::frontend::error` maps each code to an HTTP status and a D-Bus name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request can't be understood or breaks a documented bound.
    InvalidRequest,
    /// The schema, grammar or regular expression that the answer must keep to can't be used.
    InvalidSchema,
    /// The request asks for something that this version of hob does not do.
    Unsupported,
    /// The body or argument is larger than the door accepts.
    PayloadTooLarge,
    /// The request did not arrive within the time allowed for it.
    RequestTimeout,
    /// No such path, request or object; a foreign one counts as none.
    NotFound,
    /// The named model is not installed, or is not the one loaded.
    ModelNotFound,
    /// The caller has no such conversation; a foreign one counts as none.
    ConversationNotFound,
    /// The caller has as many conversations, or as much text in them, as it may.
    QuotaExceeded,
    /// A call can't be made, as no hub is there to make it.
    NoHub,
    /// The caller may not do this.
    AccessDenied,
    /// No model is loaded and none can be loaded now.
    NotReady,
    /// The queue, or the caller's share of it, is full.
    Busy,
    /// The prompt, with room for an answer, does not fit the context.
    ContextOverflow,
    /// The caller, or an administrator, cancelled the request.
    Cancelled,
    /// The request's deadline passed before the answer was complete.
    DeadlineExceeded,
    /// The engine process ended or hung while it worked on this request.
    EngineLost,
    /// The model does not fit the memory that there is for it.
    InsufficientMemory,
    /// The model could not be loaded or could not process the request.
    ModelFailed,
    /// A fault in hob itself.
    Internal,
}

impl ErrorCode {
    /// Every code, for tables and tests that must cover all of them.
    pub const ALL: [Self; 20] = [
        Self::InvalidRequest,
        Self::InvalidSchema,
        Self::Unsupported,
        Self::PayloadTooLarge,
        Self::RequestTimeout,
        Self::NotFound,
        Self::ModelNotFound,
        Self::ConversationNotFound,
        Self::QuotaExceeded,
        Self::NoHub,
        Self::AccessDenied,
        Self::NotReady,
        Self::Busy,
        Self::ContextOverflow,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::EngineLost,
        Self::InsufficientMemory,
        Self::ModelFailed,
        Self::Internal,
    ];
}

/// An error as a client sees it: a stable code, the cause, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The stable code.
    pub code: ErrorCode,
    /// `OpenAI`'s coarse class, for clients that look at it: see [`ApiError::openai_type`].
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The cause, in one sentence for people.
    pub message: String,
    /// What the caller can do, in one sentence; absent when there is nothing to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request's field that is at fault, if one is.
    #[serde(default)]
    pub param: Option<String>,
    /// Tokens in the refused prompt, or a lower bound of them if it is far too long; with
    /// [`ErrorCode::ContextOverflow`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Tokens that the context holds; with [`ErrorCode::ContextOverflow`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_ctx: Option<u32>,
    /// When to try again, in milliseconds; with [`ErrorCode::Busy`] and [`ErrorCode::NotReady`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ApiError {
    /// An error with neither hint nor figures.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            kind: Self::openai_type(code).to_owned(),
            message: message.into(),
            hint: None,
            param: None,
            prompt_tokens: None,
            n_ctx: None,
            retry_after_ms: None,
        }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, blaming the request's field `param`.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error with a time after which to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// `OpenAI`'s `type` for a code: its clients choose an exception class by HTTP status, and
    /// show this string.
    pub fn openai_type(code: ErrorCode) -> &'static str {
        match code {
            ErrorCode::InvalidRequest
            | ErrorCode::InvalidSchema
            | ErrorCode::Unsupported
            | ErrorCode::PayloadTooLarge
            | ErrorCode::RequestTimeout
            | ErrorCode::NotFound
            | ErrorCode::ModelNotFound
            | ErrorCode::ConversationNotFound
            | ErrorCode::NoHub
            | ErrorCode::ContextOverflow => "invalid_request_error",
            ErrorCode::AccessDenied => "permission_error",
            ErrorCode::Busy => "rate_limit_error",
            ErrorCode::NotReady
            | ErrorCode::QuotaExceeded
            | ErrorCode::Cancelled
            | ErrorCode::DeadlineExceeded
            | ErrorCode::EngineLost
            | ErrorCode::InsufficientMemory
            | ErrorCode::ModelFailed
            | ErrorCode::Internal => "server_error",
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ApiError {}

/// The body of every HTTP error answer: `{"error": {…}}`, as `OpenAI`'s clients expect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}
