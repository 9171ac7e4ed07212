//! From wire types to valid requests: the only way in.
//!
//! A body goes through two checks. [`parse_chat`] and its like see to its shape: fields, types,
//! words. [`ValidRequest::chat`] and [`ValidRequest::completion`] see to its bounds; the D-Bus
//! door starts there. Every refusal names the field, the bound, and what was given.

mod constraint;
mod decision;
mod embedding;
mod fields;
mod fulfilment;
mod home;
mod messages;
mod score;
mod shape;
#[cfg(test)]
mod tests;
mod tools;

use std::ops::RangeInclusive;
use std::time::Duration;

use hob_api::ApiError;
use hob_api::chat::{ChatRequest, Class, Message, SamplingFields, Stop};
use hob_api::completion::CompletionRequest;
use hob_api::conversation::{ConversationFields, Truncate};
use hob_api::model::{DEFAULT_MODEL, LoadRequest};
use hob_api::pin::{PIN_TEXT_BYTES_MAX, PinFields};
use hob_api::tools::{Tool, ToolCall};
use hob_ipc::constraint::Constraint;
use hob_ipc::message::{ChatMessage, Prompt, Sampling};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use self::constraint::spacing;
pub(crate) use self::decision::decision_of;
pub use self::decision::{OPTIONS_MAX, QUESTIONS_MAX, ValidDecision, parse_decision};
pub use self::embedding::{ValidEmbedding, parse_embedding};
pub use self::fulfilment::{ValidFulfilment, check_only_read};
pub use self::home::{ValidHome, parse_home, parse_provider, parse_targets};
pub(crate) use self::messages::unsendable;
pub use self::score::ValidScore;
pub(crate) use self::score::too_long;
pub(crate) use self::shape::echo;
use self::shape::{Fields, invalid};
pub use self::tools::{Callable, Called, Calling, Spoken, Tools};
use crate::conversations::{self, Belonging, ConversationId};
use crate::settings::{Limits, SamplingDefaults};

/// Most messages of a conversation.
pub const MESSAGES_MAX: usize = 1000;
/// Longest text of a request in bytes, all messages together: a frame to the engine holds it,
/// whatever has to be escaped in it.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// The longest time that a request may keep the engine: a week, in milliseconds.
pub const KEEP_ALIVE_MS_MAX: u64 = 7 * 24 * 3600 * 1000;
/// Most stop strings.
pub const STOP_MAX: usize = 4;
/// Longest stop string in bytes.
pub const STOP_BYTES_MAX: usize = 256;
/// Longest name of a model in bytes.
pub const MODEL_BYTES_MAX: usize = 128;

/// Who asks, as the kernel or the bus says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The effective user id.
    pub uid: u32,
}

/// A request that is within all bounds that do not depend on the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidRequest {
    /// Who asks.
    pub caller: Caller,
    /// The model asked for; `None` for whichever is loaded.
    pub model: Option<String>,
    /// The conversation whose stored turns go before `prompt`.
    pub conversation: Option<Belonging>,
    /// What to answer.
    pub prompt: Asked,
    /// Whether the model is to think before it answers, if its template knows of that; `None` for as
    /// the template has it.
    pub thinking: Option<bool>,
    /// Longest answer in tokens, at least 1.
    pub max_tokens: u32,
    /// Texts that end the answer: at most 4, each 1 to 256 bytes.
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Until when the answer must be complete, from now.
    pub timeout: Duration,
    /// How urgent it is.
    pub class: Class,
    /// Whether the model may use what it remembers of the caller's requests, and remember this.
    pub cache: bool,
    /// How long the engine stays after it, at most a week, zero for ever; `None` for the usual.
    pub keep_alive: Option<Duration>,
    /// Whether it may be written by drafts.
    pub drafts: bool,
    /// What the answer must be; of a form of the caller's own.
    pub constraint: Option<Constraint>,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// What every model is given alike.
    Plain(Prompt),
    /// What each model is given in a form of its own.
    Calling(Box<Calling>),
}

/// The body of `POST /v1/chat/completions`.
///
/// # Errors
/// `invalid_request` or `unsupported`, naming the field.
pub fn parse_chat(body: &[u8]) -> Result<ChatRequest, ApiError> {
    parse(body, fields::CHAT)
}

/// The body of `POST /v1/completions`.
///
/// # Errors
/// `invalid_request` or `unsupported`, naming the field.
pub fn parse_completion(body: &[u8]) -> Result<CompletionRequest, ApiError> {
    parse(body, fields::COMPLETION)
}

/// The body of `POST /hob/v1/load`: the model's name, `default` included.
///
/// # Errors
/// `invalid_request`, naming the field.
pub fn parse_load(body: &[u8]) -> Result<String, ApiError> {
    let request: LoadRequest = parse(body, fields::LOAD)?;
    check_model(&request.model)?;
    Ok(request.model)
}

/// The body of `POST /hob/v1/conversations`, which may be empty, and of `PATCH` below it.
///
/// # Errors
/// `invalid_request`, naming the field.
pub fn parse_conversation(body: &[u8]) -> Result<ConversationFields, ApiError> {
    if body.is_empty() {
        return Ok(ConversationFields::default());
    }
    parse(body, fields::CONVERSATION)
}

/// The body of `PUT /hob/v1/pins/NAME`.
///
/// # Errors
/// `invalid_request`, naming the field.
pub fn parse_pin(body: &[u8]) -> Result<Vec<Message>, ApiError> {
    let fields: PinFields = parse(body, fields::PIN)?;
    Ok(fields.messages)
}

/// The messages of a pin, checked.
///
/// # Errors
/// `invalid_request` if they are out of bounds.
pub fn pin_messages(messages: Vec<Message>) -> Result<Vec<ChatMessage>, ApiError> {
    let messages = messages::words(messages)?;
    let bytes = messages::bytes_of(&messages);
    if bytes <= PIN_TEXT_BYTES_MAX {
        return Ok(messages);
    }
    let message = format!("`messages` of a pin must be at most {PIN_TEXT_BYTES_MAX} bytes of text");
    Err(invalid(format!("{message}, not {bytes}"))
        .hint("pin the part that conversations have in common")
        .param("messages"))
}

/// Tools as a door that has no body gets them: a JSON list.
///
/// # Errors
/// `invalid_request` or `unsupported`, naming the field.
pub(crate) fn parse_tools(text: &[u8]) -> Result<Vec<Tool>, ApiError> {
    parse_list(text, "tools", fields::TOOLS)
}

/// Calls of a message in the same way.
///
/// # Errors
/// `invalid_request`, naming the field.
pub(crate) fn parse_calls(text: &[u8]) -> Result<Vec<ToolCall>, ApiError> {
    parse_list(text, "tool_calls", fields::CALLS)
}

fn parse_list<T: DeserializeOwned>(text: &[u8], name: &str, fields: Fields) -> Result<T, ApiError> {
    // There is no body to speak of.
    let list: Value = serde_json::from_slice(text).map_err(|error| {
        invalid(format!("`{name}` is not valid JSON: {error}"))
            .hint("give a JSON list as text")
            .param(name)
    })?;
    let mut value = json!({ name: list });
    shape::check(&mut value, fields)?;
    from_value(value[name].take())
}

fn parse<T: DeserializeOwned>(body: &[u8], fields: Fields) -> Result<T, ApiError> {
    from_value(shape::read(body, fields)?)
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    // The shape leaves serde little to refuse: a text part without its text.
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        invalid(format!("`{path}` can't be read: {}", error.inner()))
            .hint("look the field up in the API's reference")
            .param(path)
    })
}

impl ValidRequest {
    /// A chat request, checked. A conversation may end with the assistant's message: the model
    /// then gives another one, it does not go on with that.
    ///
    /// # Errors
    /// `invalid_request` if a field is out of bounds, naming it.
    pub fn chat(
        request: ChatRequest,
        caller: Caller,
        defaults: &SamplingDefaults,
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        if request.max_tokens.is_some() && request.max_completion_tokens.is_some() {
            return Err(
                invalid("`max_tokens` and `max_completion_tokens` are given both")
                    .hint("they mean the same: give one")
                    .param("max_completion_tokens"),
            );
        }
        let max_tokens = match request.max_completion_tokens {
            Some(tokens) => bounded_tokens("max_completion_tokens", Some(tokens), defaults, limits),
            None => bounded_tokens("max_tokens", request.max_tokens, defaults, limits),
        }?;
        let spoken = messages::bounded(request.messages)?;
        let constraint = constraint::of(request.form)?;
        let tools = tools::checked(
            request.tools.as_deref().unwrap_or_default(),
            request.tool_choice,
            request.parallel_tool_calls,
        )?;
        if tools.is_some() {
            messages::check_tools(constraint.is_some(), request.conversation.is_some())?;
        }
        Ok(Self {
            caller,
            model: bounded_model(request.model)?,
            conversation: belonging(request.conversation.as_deref(), request.truncate)?,
            prompt: messages::asked(spoken, tools, request.conversation.is_some())?,
            thinking: messages::thinking(request.chat_template_kwargs, request.reasoning_effort)?,
            max_tokens,
            stop: bounded_stop(request.stop)?,
            sampling: bounded_sampling(&request.sampling, defaults)?,
            timeout: bounded_timeout(request.timeout_ms, limits)?,
            class: request.handling.class.unwrap_or_default(),
            cache: request.handling.cache_prompt.unwrap_or(true),
            keep_alive: bounded_keep_alive(request.handling.keep_alive_ms)?,
            drafts: request.handling.speculative.unwrap_or(true),
            constraint,
        })
    }

    /// A text completion, checked.
    ///
    /// # Errors
    /// `invalid_request` if a field is out of bounds, naming it.
    pub fn completion(
        request: CompletionRequest,
        caller: Caller,
        defaults: &SamplingDefaults,
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        if request.prompt.is_empty() {
            return Err(invalid("`prompt` is empty")
                .hint("give the text to go on from")
                .param("prompt"));
        }
        check_text_bytes("prompt", request.prompt.len())?;
        check_no_nul("prompt", &request.prompt)?;
        Ok(Self {
            caller,
            model: bounded_model(request.model)?,
            conversation: None,
            prompt: Asked::Plain(Prompt::Text(request.prompt)),
            thinking: None,
            max_tokens: bounded_tokens("max_tokens", request.max_tokens, defaults, limits)?,
            stop: bounded_stop(request.stop)?,
            sampling: bounded_sampling(&request.sampling, defaults)?,
            timeout: bounded_timeout(request.timeout_ms, limits)?,
            class: request.handling.class.unwrap_or_default(),
            cache: request.handling.cache_prompt.unwrap_or(true),
            keep_alive: bounded_keep_alive(request.handling.keep_alive_ms)?,
            drafts: request.handling.speculative.unwrap_or(true),
            constraint: constraint::of(request.form)?,
        })
    }
}

fn belonging(
    conversation: Option<&str>,
    truncate: Option<Truncate>,
) -> Result<Option<Belonging>, ApiError> {
    let Some(id) = conversation else {
        return match truncate {
            None => Ok(None),
            Some(_) => Err(invalid("`truncate` is given without `conversation`")
                .hint("hobd leaves out turns of conversations that it keeps, and no others")
                .param("truncate")),
        };
    };
    // What can't be an id is one that the caller does not have.
    let id = ConversationId::parse(id).ok_or_else(conversations::not_found)?;
    Ok(Some(Belonging {
        id,
        truncate: truncate.unwrap_or_default(),
    }))
}

/// `None`, the empty name and `default` all mean the model that is loaded.
fn bounded_model(model: Option<String>) -> Result<Option<String>, ApiError> {
    let model = model.filter(|name| !name.is_empty() && name != DEFAULT_MODEL);
    if let Some(name) = &model {
        check_model(name)?;
    }
    Ok(model)
}

fn check_model(name: &str) -> Result<(), ApiError> {
    let printable = !name.chars().any(char::is_control);
    if (1..=MODEL_BYTES_MAX).contains(&name.len()) && printable {
        return Ok(());
    }
    Err(invalid(format!(
        "`model` must be a name of 1 to {MODEL_BYTES_MAX} bytes without control characters"
    ))
    .hint("`hob models list` or GET /v1/models lists the names")
    .param("model"))
}

fn check_text_bytes(field: &str, bytes: usize) -> Result<(), ApiError> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(invalid(format!(
        "`{field}` must be at most {TEXT_BYTES_MAX} bytes of text, not {bytes}"
    ))
    .hint("send less text")
    .param(field))
}

/// A NUL ends a text in C, which llama.cpp is close to: no prompt has a use for one.
fn check_no_nul(field: &str, text: &str) -> Result<(), ApiError> {
    match text.find('\0') {
        None => Ok(()),
        Some(at) => Err(
            invalid(format!("`{field}` has a NUL character at byte {at}"))
                .hint("send text, not binary data")
                .param(field),
        ),
    }
}

fn bounded_tokens(
    field: &str,
    tokens: Option<u32>,
    defaults: &SamplingDefaults,
    limits: &Limits,
) -> Result<u32, ApiError> {
    let Some(tokens) = tokens else {
        return Ok(defaults.max_tokens.clamp(1, limits.max_tokens.max(1)));
    };
    check_range(field, &tokens, &(1..=limits.max_tokens)).map(|()| tokens)
}

fn bounded_stop(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let stop = match stop {
        None => Vec::new(),
        Some(Stop::One(one)) => vec![one],
        Some(Stop::Many(many)) => many,
    };
    if stop.len() > STOP_MAX {
        return Err(invalid(format!(
            "`stop` must have at most {STOP_MAX} strings, not {}",
            stop.len()
        ))
        .hint("keep the ones that matter most")
        .param("stop"));
    }
    for text in &stop {
        if !(1..=STOP_BYTES_MAX).contains(&text.len()) {
            return Err(invalid(format!(
                "each of `stop` must be 1 to {STOP_BYTES_MAX} bytes, not {}",
                text.len()
            ))
            .hint("give a short text, or leave `stop` out")
            .param("stop"));
        }
        check_no_nul("stop", text)?;
    }
    Ok(stop)
}

fn bounded_timeout(timeout_ms: Option<u64>, limits: &Limits) -> Result<Duration, ApiError> {
    let Some(ms) = timeout_ms else {
        return Ok(limits.timeout_default.min(limits.timeout_max));
    };
    let max = u64::try_from(limits.timeout_max.as_millis()).unwrap_or(u64::MAX);
    check_range("timeout_ms", &ms, &(1..=max)).map(|()| Duration::from_millis(ms))
}

fn bounded_keep_alive(keep_alive_ms: Option<u64>) -> Result<Option<Duration>, ApiError> {
    let Some(ms) = keep_alive_ms else {
        return Ok(None);
    };
    check_range("keep_alive_ms", &ms, &(0..=KEEP_ALIVE_MS_MAX))?;
    Ok(Some(Duration::from_millis(ms)))
}

fn bounded_sampling(
    fields: &SamplingFields,
    defaults: &SamplingDefaults,
) -> Result<Sampling, ApiError> {
    let top_k = fields.top_k.unwrap_or(defaults.top_k);
    check_range("top_k", &top_k, &(0..=1000))?;
    Ok(Sampling {
        temperature: bounded(
            "temperature",
            fields.temperature,
            0.0..=2.0,
            defaults.temperature,
        )?,
        top_k,
        top_p: bounded_top_p(fields.top_p, defaults.top_p)?,
        min_p: bounded("min_p", fields.min_p, 0.0..=1.0, defaults.min_p)?,
        repeat_penalty: bounded(
            "repeat_penalty",
            fields.repeat_penalty,
            0.5..=2.0,
            defaults.repeat_penalty,
        )?,
        frequency_penalty: bounded(
            "frequency_penalty",
            fields.frequency_penalty,
            -2.0..=2.0,
            0.0,
        )?,
        presence_penalty: bounded("presence_penalty", fields.presence_penalty, -2.0..=2.0, 0.0)?,
        seed: fields.seed.and_then(folded_seed),
    })
}

fn bounded_top_p(value: Option<f64>, default: f32) -> Result<f32, ApiError> {
    if value == Some(0.0) {
        return Err(invalid("`top_p` must be above 0 and at most 1, not 0")
            .hint("for the likeliest token always, set `temperature` to 0")
            .param("top_p"));
    }
    // A value too small for f32 must not become the 0 that was just refused.
    bounded("top_p", value, 0.0..=1.0, default).map(|value| value.max(f32::MIN_POSITIVE))
}

fn bounded(
    field: &str,
    value: Option<f64>,
    range: RangeInclusive<f64>,
    default: f32,
) -> Result<f32, ApiError> {
    let Some(value) = value else {
        return Ok(default);
    };
    // A range contains neither infinities nor NaN.
    check_range(field, &value, &range)?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the range is small, and the last digits do not matter"
    )]
    Ok(value as f32)
}

fn check_range<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: &T,
    range: &RangeInclusive<T>,
) -> Result<(), ApiError> {
    if range.contains(value) {
        return Ok(());
    }
    Err(invalid(format!(
        "`{field}` must be from {} to {}, not {}",
        range.start(),
        range.end(),
        echo(&value.to_string())
    ))
    .hint("stay within these bounds, or leave it out")
    .param(field))
}

/// llama.cpp seeds its generator with 32 bits. Seeds that fit are used as they are, larger and
/// negative ones are folded; -1 asks for a random seed, as it does there. All bits set would ask
/// llama.cpp for a random seed too, so that one becomes 0.
fn folded_seed(seed: i64) -> Option<u32> {
    if seed == -1 {
        return None;
    }
    let bits = seed.cast_unsigned();
    #[allow(
        clippy::cast_possible_truncation,
        reason = "both halves are taken on purpose"
    )]
    let folded = (bits as u32) ^ ((bits >> 32) as u32);
    Some(if folded == u32::MAX { 0 } else { folded })
}
