//! Errors on the bus: a name from the one table, and one string of text.

use hob_api::ApiError;
use zbus::DBusError;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

use crate::frontend::error::appearance;

/// An [`ApiError`] as an error reply. D-Bus has one string for it: cause, then hint in brackets.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    name: &'static str,
    text: String,
}

impl Failure {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Polkit would have to ask somebody, and the call does not let it.
    pub(super) fn interaction_required() -> Self {
        Self {
            name: "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
            text: "somebody has to authorize this (hint: allow interactive authorization in the \
                   call)"
                .to_owned(),
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            name: appearance(error.code).dbus_name,
            text: without_nul(error.to_string()),
        }
    }
}

impl DBusError for Failure {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name).build(&(&self.text,))
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(self.name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.text)
    }
}

/// `text` as a D-Bus string may hold it. A bus cuts the connection of a sender whose string has a
/// NUL inside, and a model may well say one.
pub(super) fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{FFFD}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use hob_api::ErrorCode;

    use super::*;

    #[test]
    fn every_code_has_a_name_that_the_bus_accepts() {
        for code in ErrorCode::ALL {
            let failure = Failure::from(ApiError::new(code, "cause"));
            assert!(ErrorName::try_from(failure.name).is_ok(), "{code:?}");
        }
    }

    #[test]
    fn the_text_is_cause_and_hint_and_never_has_a_nul() {
        let error = ApiError::new(ErrorCode::Busy, "the\0queue is full").hint("try again");
        let text = Failure::from(error).into_text();
        assert_eq!(text, "the\u{FFFD}queue is full (hint: try again)");
    }
}
