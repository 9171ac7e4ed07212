//! Exit codes: the one place that gives them numbers.

use std::process::ExitCode;

use hob_api::ErrorCode;

/// How `hob` ended, for scripts. The numbers are stable and stand in `--help` and the man page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// It did what was asked.
    Success,
    /// It failed for a reason that has no number of its own.
    Failure,
    /// The command line or the question is not acceptable.
    Usage,
    /// No daemon answers, or its socket may not be used.
    NoDaemon,
    /// The daemon can't answer now: loading, or too busy.
    NotReady,
    /// The question, with the conversation before it, does not fit the context.
    ContextOverflow,
    /// The time allowed for the answer is over.
    Deadline,
    /// No such model, or the model or its engine failed.
    Model,
    /// A model was measured, and may not take another's place, or get no control vector.
    Gate,
    /// Ctrl-C.
    Interrupted,
}

impl ExitStatus {
    /// Every status with its meaning, in the order of the numbers.
    pub(crate) const ALL: [(Self, &'static str); 10] = [
        (Self::Success, "success"),
        (Self::Failure, "failed for another reason"),
        (
            Self::Usage,
            "the command line or the question is not acceptable",
        ),
        (
            Self::NoDaemon,
            "no daemon answers, or its socket may not be used",
        ),
        (Self::NotReady, "not ready or too busy: try again later"),
        (
            Self::ContextOverflow,
            "the question does not fit the model's context",
        ),
        (Self::Deadline, "the time allowed (--timeout) is over"),
        (Self::Model, "no such model, or the model failed"),
        (
            Self::Gate,
            "the model, or a control vector for it, has not passed its comparison",
        ),
        (Self::Interrupted, "stopped by Ctrl-C"),
    ];

    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NoDaemon => 3,
            Self::NotReady => 4,
            Self::ContextOverflow => 5,
            Self::Deadline => 6,
            Self::Model => 7,
            Self::Gate => 8,
            // What a shell reports for a process that SIGINT ended.
            Self::Interrupted => 130,
        }
    }
}

impl From<ErrorCode> for ExitStatus {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidRequest | ErrorCode::Unsupported | ErrorCode::PayloadTooLarge => {
                Self::Usage
            }
            ErrorCode::AccessDenied => Self::NoDaemon,
            ErrorCode::NotReady | ErrorCode::Busy => Self::NotReady,
            ErrorCode::ContextOverflow => Self::ContextOverflow,
            ErrorCode::DeadlineExceeded | ErrorCode::RequestTimeout => Self::Deadline,
            ErrorCode::ModelNotFound
            | ErrorCode::EngineLost
            | ErrorCode::InsufficientMemory
            | ErrorCode::ModelFailed => Self::Model,
            // Also codes that a newer daemon may add.
            _ => Self::Failure,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// The table of exit codes for `--help` and the man page.
pub(crate) fn table() -> String {
    use std::fmt::Write as _;

    let mut table = String::new();
    for (status, meaning) in ExitStatus::ALL {
        // Writing to a string can't fail.
        let _ = writeln!(table, "  {:>3}  {meaning}", status.code());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_rising() {
        let codes: Vec<u8> = ExitStatus::ALL.iter().map(|(s, _)| s.code()).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }

    #[test]
    fn no_error_code_means_success() {
        for code in ErrorCode::ALL {
            assert_ne!(ExitStatus::from(code), ExitStatus::Success);
        }
    }
}
