//! A request's messages: within their bounds, and words or calls.

use hob_api::chat::{Message, ReasoningEffort, TemplateFields};
use hob_api::{ApiError, ErrorCode};
use hob_ipc::FrameError;
use hob_ipc::constraint::CONSTRAINT_BYTES_MAX;
use hob_ipc::message::{ChatMessage, Prompt};

use super::shape::invalid;
use super::tools::{self, Calling, Spoken, Tools};
use super::{Asked, MESSAGES_MAX, check_no_nul, check_text_bytes, constraint};
use crate::forms;

/// The messages, checked, with their calls and results.
///
/// # Errors
/// `invalid_request`, naming the field.
pub(super) fn bounded(messages: Vec<Message>) -> Result<Vec<Spoken>, ApiError> {
    if !(1..=MESSAGES_MAX).contains(&messages.len()) {
        return Err(invalid(format!(
            "`messages` must have 1 to {MESSAGES_MAX} messages, not {}",
            messages.len()
        ))
        .hint("send the latest messages only, at least one")
        .param("messages"));
    }
    let spoken = tools::spoken(messages)?;
    let says = |spoken: &Spoken| match spoken {
        Spoken::Words { text, .. } => !text.is_empty(),
        Spoken::Calls { .. } | Spoken::Result { .. } => true,
    };
    if !spoken.iter().any(says) {
        return Err(invalid("`messages` hold no text")
            .hint("give at least one message some `content`")
            .param("messages"));
    }
    for (index, spoken) in spoken.iter().enumerate() {
        let (Spoken::Words { text, .. } | Spoken::Calls { text, .. } | Spoken::Result { text, .. }) =
            spoken;
        check_no_nul(&format!("messages[{index}].content"), text)?;
    }
    Ok(spoken)
}

/// The messages of a pin, which are words.
///
/// # Errors
/// Those of [`bounded`], and `unsupported` for calls or results.
pub(super) fn words(messages: Vec<Message>) -> Result<Vec<ChatMessage>, ApiError> {
    let spoken = bounded(messages)?;
    if !are_words(&spoken) {
        let message = "`messages` of a pin can't have calls or their results";
        return Err(ApiError::new(ErrorCode::Unsupported, message)
            .hint("pin what comes before the first call")
            .param("messages"));
    }
    let messages = in_words(spoken);
    check_text_bytes("messages", bytes_of(&messages))?;
    Ok(messages)
}

fn are_words(spoken: &[Spoken]) -> bool {
    spoken.iter().all(|s| matches!(s, Spoken::Words { .. }))
}

/// What is asked by messages with these tools; `kept` within a conversation that hobd keeps.
///
/// # Errors
/// `invalid_request` or `invalid_schema` for what is too long, `unsupported` for calls that would have to
/// be kept.
pub(super) fn asked(
    spoken: Vec<Spoken>,
    tools: Option<Tools>,
    kept: bool,
) -> Result<Asked, ApiError> {
    if are_words(&spoken) && tools.is_none() {
        let messages = in_words(spoken);
        check_text_bytes("messages", bytes_of(&messages))?;
        return Ok(Asked::Plain(Prompt::Chat(messages)));
    }
    if kept {
        return Err(calls_not_kept("messages"));
    }
    let calling = Calling { spoken, tools };
    let least = forms::in_json(&calling, None);
    check_text_bytes("messages", least.text_bytes())?;
    constraint::check_bytes("tools", least.rules_bytes(), CONSTRAINT_BYTES_MAX)?;
    least.check_frame().map_err(|error| unsendable(&error))?;
    Ok(Asked::Calling(Box::new(calling)))
}

/// The error of what is longer than any message to an engine.
pub(crate) fn unsendable(error: &FrameError) -> ApiError {
    let message = format!("the request is longer than an engine reads: {error}");
    ApiError::new(ErrorCode::ContextOverflow, message)
        .hint("send less at once, or begin another conversation")
}

/// The messages that are words.
fn in_words(spoken: Vec<Spoken>) -> Vec<ChatMessage> {
    let words = spoken.into_iter().filter_map(|spoken| match spoken {
        Spoken::Words { role, text } => Some(ChatMessage {
            role,
            content: text,
        }),
        Spoken::Calls { .. } | Spoken::Result { .. } => None,
    });
    words.collect()
}

/// Whether the model is to think, by either of the two fields that say so.
///
/// # Errors
/// `invalid_request` if they contradict each other.
pub(super) fn thinking(
    kwargs: Option<TemplateFields>,
    effort: Option<ReasoningEffort>,
) -> Result<Option<bool>, ApiError> {
    let told = kwargs.and_then(|fields| fields.enable_thinking);
    let none = effort.map(|ReasoningEffort::None| false);
    if told == Some(true) && none.is_some() {
        let message = "`reasoning_effort` is \"none\", and `enable_thinking` is true";
        return Err(invalid(message)
            .hint("give one of them")
            .param("reasoning_effort"));
    }
    Ok(told.or(none))
}

pub(super) fn bytes_of(messages: &[ChatMessage]) -> usize {
    messages.iter().map(|message| message.content.len()).sum()
}

/// An answer with calls is in their form, and hobd keeps turns of text alone.
///
/// # Errors
/// `invalid_request` or `unsupported`.
pub(super) fn check_tools(constrained: bool, kept: bool) -> Result<(), ApiError> {
    if constrained {
        return Err(
            invalid("`tools` are given with a form that the answer must have")
                .hint("set `tool_choice` to \"none\", or leave `response_format`, `regex` and `grammar` out")
                .param("tools"),
        );
    }
    if kept {
        return Err(calls_not_kept("tools"));
    }
    Ok(())
}

fn calls_not_kept(param: &str) -> ApiError {
    let message = "tools can't be called within a conversation that hobd keeps";
    ApiError::new(ErrorCode::Unsupported, message)
        .hint("send the whole conversation as `messages`, and no `conversation`")
        .param(param)
}
