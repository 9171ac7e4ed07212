//! How long what an engine is asked may be.

use hob_api::{ApiError, ErrorCode};
use hob_ipc::frame::{self, COMMAND_BYTES_MAX};

use super::Order;
use crate::forms;

/// Refuses what is longer than any message to an engine: it would wait for an answer that never comes.
pub(super) fn check(order: &Order) -> Result<(), ApiError> {
    let checked = match order {
        Order::Whole(command) => frame::check(command, COMMAND_BYTES_MAX),
        Order::Calling(_, calling, thinking) => forms::check_frame(calling, *thinking),
    };
    checked.map_err(|error| {
        let message = format!("the request is longer than an engine reads: {error}");
        ApiError::new(ErrorCode::ContextOverflow, message)
            .hint("send less at once, or begin another conversation")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use hob_api::chat::Class;
    use hob_ipc::embedding::{Embed, EmbedInput};
    use hob_ipc::{Command, RequestId};

    use super::*;

    #[test]
    fn what_no_engine_reads_is_refused_at_once() {
        let command = |bytes| {
            Order::Whole(Command::Embed(Box::new(Embed {
                id: RequestId(1),
                inputs: vec![EmbedInput::Text("x".repeat(bytes))],
                dimensions: None,
                class: Class::Batch,
            })))
        };
        check(&command(COMMAND_BYTES_MAX - 1000)).unwrap();
        let error = check(&command(COMMAND_BYTES_MAX)).unwrap_err();
        assert_eq!(error.code, ErrorCode::ContextOverflow);
        assert!(error.hint.is_some());
    }
}
