//! The messages of `Complete` and `PinPrefix`, read into `OpenAI`'s.

use hob_api::ApiError;
use hob_api::chat::{Content, Message, Role};
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;

use super::options::{Dict, invalid, shown, typed};
use crate::request;

/// One message, and how many bytes of text it has.
pub(super) fn read(
    index: usize,
    role: &str,
    fields: Dict<'_>,
) -> Result<(Message, usize), ApiError> {
    let role = read_role(role).ok_or_else(|| {
        invalid(
            "messages",
            format!("message {index} has the unknown role `{}`", shown(role)),
        )
        .hint("the roles are system, user, assistant and tool")
    })?;
    let mut message = Message {
        role,
        content: None,
        name: None,
        tool_calls: None,
        tool_call_id: None,
    };
    let mut bytes = 0;
    for (key, value) in fields {
        let text: String = match key.as_str() {
            "content" | "tool_calls" | "tool_call_id" => {
                typed(&format!("messages[{index}].{key}"), value)?
            }
            _ => {
                let error = format!("message {index} has the unknown key `{}`", shown(&key));
                return Err(invalid("messages", error).hint(
                    "a message has `content`, `tool_calls` and `tool_call_id`, each of type `s`",
                ));
            }
        };
        bytes += text.len();
        match key.as_str() {
            "content" => message.content = Some(Content::Text(text)),
            "tool_calls" => message.tool_calls = Some(request::parse_calls(text.as_bytes())?),
            _ => message.tool_call_id = Some(text),
        }
    }
    if message.content.is_none() && message.tool_calls.is_none() {
        let error = format!("message {index} has no `content`");
        return Err(
            invalid("messages", error).hint("give its text under the key `content`, of type `s`")
        );
    }
    Ok((message, bytes))
}

fn read_role(role: &str) -> Option<Role> {
    let role: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        role.into_deserializer();
    Role::deserialize(role).ok()
}
