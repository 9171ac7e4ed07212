//! How long what an engine is asked may be.

use hob_api::ApiError;
use hob_ipc::frame::{self, COMMAND_BYTES_MAX};

use super::Order;
use crate::request::unsendable;

/// Refuses what is longer than any message to an engine: it would wait for an answer that never comes.
/// A request with calls was looked at when it was read, in the form that all requests fit.
pub(super) fn check(order: &Order) -> Result<(), ApiError> {
    match order {
        Order::Whole(command) => {
            frame::check(command, COMMAND_BYTES_MAX).map_err(|error| unsendable(&error))
        }
        Order::Calling(..) => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use hob_api::ErrorCode;
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
