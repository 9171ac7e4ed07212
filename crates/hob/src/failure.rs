//! What `hob` tells a person when it can't do what was asked: a cause and a hint.

use std::io;

use hob_api::ApiError;

use crate::client::ClientError;
use crate::exit::ExitStatus;

/// A failed command, ready to be shown. The texts may hold what a daemon or a file said, and go
/// through [`crate::clean`] on their way to the terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: ExitStatus,
    /// The cause, in one sentence without the full stop.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure with status [`ExitStatus::Failure`] and no hint.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            status: ExitStatus::Failure,
            message: message.into(),
            hint: None,
        }
    }

    /// A command line or question that is not acceptable.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).status(ExitStatus::Usage)
    }

    /// A file or stream that could not be used.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::new(format!("{what}: {error}"))
    }

    /// The same failure with another status.
    #[must_use]
    pub(crate) fn status(mut self, status: ExitStatus) -> Self {
        self.status = status;
        self
    }

    /// The same failure with a hint.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let mut message = error.message;
        // The daemon's sentence may or may not give the figures; people need both.
        if let (Some(prompt), Some(n_ctx)) = (error.prompt_tokens, error.n_ctx)
            && !(message.contains(&prompt.to_string()) && message.contains(&n_ctx.to_string()))
        {
            message = format!("{message} ({prompt} tokens, the context holds {n_ctx})");
        }
        Self {
            status: error.code.into(),
            message,
            hint: error.hint,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Api(error) => Self::from(*error),
            other => Self {
                status: other.exit_status(),
                message: other.to_string(),
                hint: other.hint(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use hob_api::ErrorCode;

    use super::*;

    #[test]
    fn overflow_names_both_counts() {
        let mut error = ApiError::new(ErrorCode::ContextOverflow, "The prompt is too long");
        error.prompt_tokens = Some(5000);
        error.n_ctx = Some(4096);
        let failure = Failure::from(error);
        assert_eq!(failure.status, ExitStatus::ContextOverflow);
        assert_eq!(
            failure.message,
            "The prompt is too long (5000 tokens, the context holds 4096)"
        );
    }
}
