//! Names and instructions of conversations: which are taken, and the name of one that has none.

use hob_api::chat::Role;
use hob_api::conversation::{ConversationFields, NAME_BYTES_MAX};
use hob_api::{ApiError, ErrorCode};
use hob_ipc::message::ChatMessage;

use crate::request::TEXT_BYTES_MAX;

/// Characters of the first question that name a conversation.
const OWN_NAME_CHARS: usize = 40;
/// The name of a conversation whose first question has no words.
const NAMELESS: &str = "conversation";

/// Checked fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// 1 to [`NAME_BYTES_MAX`] bytes without control characters or spaces at the ends.
    pub(super) name: Option<String>,
    /// At most [`TEXT_BYTES_MAX`] bytes without a NUL; empty for none.
    pub(super) system: Option<String>,
}

impl Fields {
    /// # Errors
    /// `invalid_request`, naming the field.
    pub(super) fn check(fields: ConversationFields) -> Result<Self, ApiError> {
        let name = fields.name.as_deref().map(check_name).transpose()?;
        if let Some(system) = &fields.system {
            check_system(system)?;
        }
        Ok(Self {
            name,
            system: fields.system,
        })
    }
}

fn check_name(name: &str) -> Result<String, ApiError> {
    let trimmed = name.trim();
    let invalid = |message: String| {
        ApiError::new(ErrorCode::InvalidRequest, message)
            .param("name")
            .hint("give a few words, or leave it out: the first question then names it")
    };
    if !(1..=NAME_BYTES_MAX).contains(&trimmed.len()) {
        return Err(invalid(format!(
            "`name` must be 1 to {NAME_BYTES_MAX} bytes, not {}",
            trimmed.len()
        )));
    }
    if trimmed.chars().any(is_invisible) {
        return Err(invalid(
            "`name` must have no control characters or line breaks".to_owned(),
        ));
    }
    Ok(trimmed.to_owned())
}

fn check_system(system: &str) -> Result<(), ApiError> {
    let message = if system.len() > TEXT_BYTES_MAX {
        format!(
            "`system` must be at most {TEXT_BYTES_MAX} bytes, not {}",
            system.len()
        )
    } else if system.contains('\0') {
        "`system` has a NUL character".to_owned()
    } else {
        return Ok(());
    };
    Err(ApiError::new(ErrorCode::InvalidRequest, message)
        .param("system")
        .hint("send a shorter text, without binary data"))
}

/// Controls, line and paragraph separators, and what turns the direction of text: a name must look
/// like what it is.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The name that a conversation takes from its first question.
pub(super) fn of_messages(messages: &[ChatMessage]) -> String {
    let question = messages.iter().find(|message| message.role == Role::User);
    let text = question.map_or("", |message| message.content.as_str());
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || is_invisible(c))
        .filter(|word| !word.is_empty())
        .take(OWN_NAME_CHARS)
        .collect();
    let words = words.join(" ");
    let mut name: String = words.chars().take(OWN_NAME_CHARS).collect();
    name.truncate(name.trim_end().len());
    if name.is_empty() {
        return NAMELESS.to_owned();
    }
    if name.len() < words.len() {
        name.push('…');
    }
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn named(name: &str) -> Result<Fields, ApiError> {
        Fields::check(ConversationFields {
            name: Some(name.to_owned()),
            system: None,
        })
    }

    fn own(text: &str) -> String {
        of_messages(&[ChatMessage {
            role: Role::User,
            content: text.to_owned(),
        }])
    }

    #[test]
    fn good_names_pass_without_the_spaces_around_them() {
        assert_eq!(
            named("  Der Garten 🌱 ").unwrap().name.unwrap(),
            "Der Garten 🌱"
        );
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(named(&longest).unwrap().name, Some(longest));
    }

    #[test]
    fn bad_names_are_refused_and_not_repeated() {
        let long = "é".repeat(NAME_BYTES_MAX / 2 + 1);
        for name in [
            "",
            " \t",
            &long,
            "a\nb",
            "a\u{1b}[2J",
            "a\0",
            "a\u{202e}b",
            "a\u{2028}b",
        ] {
            let error = named(name).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{name:?}");
            assert_eq!(error.param.as_deref(), Some("name"));
            assert!(error.hint.is_some());
            assert!(!error.message.chars().any(char::is_control));
        }
    }

    #[test]
    fn instructions_have_bounds() {
        for system in ["a\0b".to_owned(), "x".repeat(TEXT_BYTES_MAX + 1)] {
            let fields = ConversationFields {
                name: None,
                system: Some(system),
            };
            let error = Fields::check(fields).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("system"));
        }
    }

    #[test]
    fn the_first_question_names_a_conversation() {
        assert_eq!(own("What is a\n dew point?"), "What is a dew point?");
        assert_eq!(own("\u{1b}\u{202e} \n"), NAMELESS);
        let long = own(&"word ".repeat(100));
        assert_eq!(long.chars().count(), 40);
        assert!(long.ends_with("word…"), "{long}");
        assert!(named(&own(&"😀".repeat(1000))).is_ok());
    }
}
