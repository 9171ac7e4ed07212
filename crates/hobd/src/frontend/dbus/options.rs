//! The arguments of `Ask`, `Stream` and `Complete`, read into `OpenAI`'s request once, at the edge.
//! Bounds that both doors share are checked after that, by `crate::request`.

use std::collections::BTreeMap;

use hob_api::chat::{ChatRequest, Class, Message, Role, Stop, TemplateFields};
use hob_api::conversation::{ConversationFields, Truncate};
use hob_api::dbus::TEXT_BYTES_MAX;
use hob_api::format::ResponseFormat;
use hob_api::home::{HomeRequest, Language};
use hob_api::tools::{FunctionName, NamedTool, ToolChoice, ToolKind, ToolMode};
use hob_api::{ApiError, ErrorCode};
use serde_json::Value;
use zbus::{Type, Variant};

use super::messages;
use crate::request;

/// An `a{sv}` argument, in the order of its keys so that the first fault found is always the same.
pub(super) type Dict<'a> = BTreeMap<String, Variant<'a>>;

/// Longest handle token in characters.
const HANDLE_TOKEN_MAX: usize = 64;
/// How much of a word that is not understood is shown back.
const SHOWN_CHARS_MAX: usize = 64;
/// Options of `Ask` and `Stream` for what is said at home.
const HOME: [&str; 7] = [
    "area",
    "device",
    "follow_ups",
    "language",
    "provider",
    "reader",
    "rounds",
];
/// The provider's name that stands for all of the caller's.
const ALL_PROVIDERS: &str = "*";

/// Which method the options are for: not all take the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Ask,
    Stream,
    Complete,
}

impl Method {
    /// The options it takes, for hints.
    fn options(self) -> &'static str {
        match self {
            Self::Ask => {
                "area, class, conversation, device, enable_thinking, follow_ups, handle_token, \
                 language, max_tokens, model, provider, reader, response_schema, rounds, seed, \
                 stop, system, temperature, timeout_ms, truncate"
            }
            Self::Stream => {
                "area, class, conversation, device, enable_thinking, follow_ups, format, \
                 handle_token, language, max_tokens, model, provider, reader, response_schema, \
                 rounds, seed, stop, system, temperature, timeout_ms, truncate"
            }
            Self::Complete => {
                "class, enable_thinking, format, handle_token, max_tokens, model, \
                 parallel_tool_calls, response_schema, seed, stop, temperature, timeout_ms, \
                 tool_choice, tools"
            }
        }
    }
}

/// What the file descriptor carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// The answer's text and nothing else.
    #[default]
    Text,
    /// One event a line.
    Events,
}

/// The last part of a request's path: 1 to 64 of `A-Z a-z 0-9 _`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HandleToken(String);

impl HandleToken {
    pub(super) fn parse(token: String) -> Result<Self, ApiError> {
        let valid = (1..=HANDLE_TOKEN_MAX).contains(&token.len())
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if valid {
            Ok(Self(token))
        } else {
            Err(invalid(
                "handle_token",
                "option `handle_token` is not a valid end of an object path",
            )
            .hint("give 1 to 64 of the characters A-Z, a-z, 0-9 and _"))
        }
    }

    /// A token for a caller that gave none.
    pub(super) fn numbered(number: u64) -> Self {
        Self(format!("r{number}"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The arguments of a call, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arguments {
    /// What to answer, and how.
    pub(super) chat: ChatRequest,
    /// What is to be done at home, if it was said there.
    pub(super) home: Option<HomeRequest>,
    /// The caller's choice of the request's path.
    pub(super) handle_token: Option<HandleToken>,
    /// What the file descriptor is to carry.
    pub(super) format: Format,
}

/// The arguments of `OpenConversation`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    /// The conversation to go on with; `None` for a new one.
    pub(super) id: Option<String>,
    /// What a new one has.
    pub(super) fields: ConversationFields,
    /// The caller's choice of the object's path.
    pub(super) handle_token: Option<HandleToken>,
}

impl Opening {
    pub(super) fn read(options: Dict<'_>) -> Result<Self, ApiError> {
        let mut opening = Self::default();
        for (key, value) in options {
            match key.as_str() {
                "handle_token" => {
                    opening.handle_token = Some(HandleToken::parse(typed(&key, value)?)?);
                }
                "id" => opening.id = Some(typed(&key, value)?),
                "name" => opening.fields.name = Some(typed(&key, value)?),
                "system" => {
                    let system: String = typed(&key, value)?;
                    check_length("system", system.len())?;
                    opening.fields.system = Some(system);
                }
                _ => {
                    return Err(invalid(&key, format!("unknown option `{}`", shown(&key)))
                        .hint("OpenConversation takes handle_token, id, name, system"));
                }
            }
        }
        if opening.id.is_some() && opening.fields != ConversationFields::default() {
            return Err(
                invalid("id", "option `id` is given with `name` or `system`")
                    .hint("give `id` alone to go on with a conversation; it has both already"),
            );
        }
        Ok(opening)
    }
}

impl Arguments {
    /// The arguments of a conversation's own `Ask` and `Stream`.
    pub(super) fn within(
        conversation: &str,
        method: Method,
        text: String,
        options: Dict<'_>,
    ) -> Result<Self, ApiError> {
        if options.contains_key("conversation") {
            return Err(invalid(
                "conversation",
                "option `conversation` is given to a conversation",
            )
            .hint("leave it out, or ask the object of the other one"));
        }
        let mut arguments = Self::question(method, text, options)?;
        arguments.chat.conversation = Some(conversation.to_owned());
        Ok(arguments)
    }

    /// The arguments of `Ask` and `Stream`: one question.
    pub(super) fn question(
        method: Method,
        text: String,
        options: Dict<'_>,
    ) -> Result<Self, ApiError> {
        check_length("text", text.len())?;
        let mut arguments = Self::empty();
        let (home, options): (Dict<'_>, Dict<'_>) =
            (options.into_iter()).partition(|(key, _)| HOME.contains(&key.as_str()));
        arguments.home = at_home(&text, home)?;
        let system = arguments.take_options(method, options)?;
        if let Some(system) = system {
            check_length("system", system.len())?;
            arguments.push(Role::System, system);
        }
        arguments.push(Role::User, text);
        Ok(arguments)
    }

    /// The arguments of `Complete`: a whole conversation.
    pub(super) fn conversation(
        messages: Vec<(String, Dict<'_>)>,
        options: Dict<'_>,
    ) -> Result<Self, ApiError> {
        let mut arguments = Self::empty();
        arguments.take_options(Method::Complete, options)?;
        let mut length = 0_usize;
        for (index, (role, fields)) in messages.into_iter().enumerate() {
            let (message, bytes) = messages::read(index, &role, fields)?;
            length = length.saturating_add(bytes);
            check_length("messages", length)?;
            arguments.chat.messages.push(message);
        }
        arguments.check_calls()?;
        Ok(arguments)
    }

    /// The arguments of `PinPrefix`: messages as those of `Complete`, and no options yet.
    pub(super) fn prefix(
        messages: Vec<(String, Dict<'_>)>,
        options: &Dict<'_>,
    ) -> Result<Vec<Message>, ApiError> {
        none(options)?;
        Ok(Self::conversation(messages, Dict::new())?.chat.messages)
    }

    fn empty() -> Self {
        Self {
            chat: ChatRequest {
                stream: true,
                ..ChatRequest::default()
            },
            home: None,
            handle_token: None,
            format: Format::default(),
        }
    }

    fn push(&mut self, role: Role, text: String) {
        self.chat.messages.push(Message::text(role, text));
    }

    /// Calls are events: a text has no room for them.
    fn check_calls(&self) -> Result<(), ApiError> {
        let none = self.chat.tool_choice == Some(ToolChoice::Mode(ToolMode::None));
        let tools = self.chat.tools.as_ref().is_some_and(|t| !t.is_empty());
        if !tools || none || self.format == Format::Events {
            return Ok(());
        }
        let message = "option `tools` is given, and `format` is `text`, which has no calls";
        Err(invalid("format", message).hint("set `format` to `events`"))
    }

    /// Reads all options; returns the system prompt, which is the caller's first message.
    fn take_options(
        &mut self,
        method: Method,
        options: Dict<'_>,
    ) -> Result<Option<String>, ApiError> {
        let mut system = None;
        for (key, value) in options {
            match key.as_str() {
                "class" => self.chat.handling.class = Some(class(&key, value)?),
                "handle_token" => {
                    self.handle_token = Some(HandleToken::parse(typed(&key, value)?)?);
                }
                "enable_thinking" => {
                    self.chat.chat_template_kwargs = Some(TemplateFields {
                        enable_thinking: Some(typed(&key, value)?),
                    });
                }
                "max_tokens" => self.chat.max_tokens = Some(typed(&key, value)?),
                "model" => self.chat.model = Some(typed(&key, value)?),
                "response_schema" => {
                    let schema = schema(&key, &typed::<String>(&key, value)?)?;
                    self.chat.form.response_format = Some(ResponseFormat::schema(schema));
                }
                "seed" => self.chat.sampling.seed = Some(seed(&key, value)?),
                "stop" => self.chat.stop = Some(Stop::Many(typed(&key, value)?)),
                "temperature" => self.chat.sampling.temperature = Some(typed(&key, value)?),
                "timeout_ms" => {
                    self.chat.timeout_ms = Some(u64::from(typed::<u32>(&key, value)?));
                }
                "parallel_tool_calls" if method == Method::Complete => {
                    self.chat.parallel_tool_calls = Some(typed(&key, value)?);
                }
                "tool_choice" if method == Method::Complete => {
                    self.chat.tool_choice = Some(tool_choice(typed(&key, value)?));
                }
                "tools" if method == Method::Complete => {
                    let text: String = typed(&key, value)?;
                    check_length("tools", text.len())?;
                    self.chat.tools = Some(request::parse_tools(text.as_bytes())?);
                }
                "conversation" if method != Method::Complete => {
                    self.chat.conversation = Some(typed(&key, value)?);
                }
                "truncate" if method != Method::Complete => {
                    self.chat.truncate = Some(truncate(&key, value)?);
                }
                "format" if method != Method::Ask => self.format = format(&key, value)?,
                "system" if method != Method::Complete => system = Some(typed(&key, value)?),
                _ => return Err(not_an_option(&key, method)),
            }
        }
        Ok(system)
    }
}

/// Refuses every option, for methods that take none yet.
pub(super) fn none(options: &Dict<'_>) -> Result<(), ApiError> {
    match options.keys().next() {
        None => Ok(()),
        Some(key) => {
            Err(invalid(key, format!("unknown option `{}`", shown(key)))
                .hint("this method has none"))
        }
    }
}

/// What is to be done at home, if a provider is given.
fn at_home(text: &str, options: Dict<'_>) -> Result<Option<HomeRequest>, ApiError> {
    let first = options.keys().next().cloned();
    let mut provider = None;
    let mut request = HomeRequest {
        text: text.to_owned(),
        execute: true,
        ..HomeRequest::default()
    };
    for (key, value) in options {
        match key.as_str() {
            "area" => request.area = Some(typed(&key, value)?),
            "device" => request.device = Some(typed(&key, value)?),
            "language" => request.language = Some(language(&key, value)?),
            "rounds" => request.rounds = Some(typed(&key, value)?),
            "follow_ups" => request.follow_ups = Some(typed(&key, value)?),
            "reader" => request.reader = super::homes::reader(&typed::<String>(&key, value)?)?,
            _ => provider = Some(typed::<String>(&key, value)?),
        }
    }
    match (first, provider) {
        (None, _) => Ok(None),
        (Some(key), None) => {
            let message = format!("option `{key}` is given without `provider`");
            Err(invalid(&key, message).hint("give the name of a provider, or `*` for all of yours"))
        }
        (Some(_), Some(name)) => {
            request.provider = Some(name).filter(|name| name != ALL_PROVIDERS);
            Ok(Some(request))
        }
    }
}

fn language(key: &str, value: Variant<'_>) -> Result<Language, ApiError> {
    let word = typed::<String>(key, value)?;
    let found = Language::ALL
        .into_iter()
        .find(|language| language.as_str() == word);
    found.ok_or_else(|| {
        let message = format!("option `language` has the unknown value `{}`", shown(&word));
        invalid(key, message).hint("it is `en` or `de`")
    })
}

/// One of the modes, or the name of the one tool to call.
fn tool_choice(word: String) -> ToolChoice {
    match word.as_str() {
        "none" => ToolChoice::Mode(ToolMode::None),
        "auto" => ToolChoice::Mode(ToolMode::Auto),
        "required" => ToolChoice::Mode(ToolMode::Required),
        _ => ToolChoice::Named(NamedTool {
            kind: ToolKind::Function,
            function: FunctionName { name: word },
        }),
    }
}

fn class(key: &str, value: Variant<'_>) -> Result<Class, ApiError> {
    let word = typed::<String>(key, value)?;
    let found = Class::ALL.into_iter().find(|class| class.as_str() == word);
    found.ok_or_else(|| {
        invalid(
            key,
            format!("option `class` has the unknown value `{}`", shown(&word)),
        )
        .hint("it is `voice`, `chat` or `batch`")
    })
}

fn format(key: &str, value: Variant<'_>) -> Result<Format, ApiError> {
    match typed::<String>(key, value)?.as_str() {
        "text" => Ok(Format::Text),
        "events" => Ok(Format::Events),
        other => Err(invalid(
            key,
            format!("option `format` has the unknown value `{}`", shown(other)),
        )
        .hint("it is `text` or `events`")),
    }
}

fn schema(key: &str, text: &str) -> Result<Value, ApiError> {
    check_length(key, text.len())?;
    let schema = serde_json::from_str::<Value>(text).map_err(|error| {
        invalid(key, format!("option `{key}` is not JSON: {error}"))
            .hint("give a JSON Schema as text")
    })?;
    if schema.is_object() || schema.is_boolean() {
        return Ok(schema);
    }
    Err(invalid(key, format!("option `{key}` is no JSON Schema"))
        .hint("a schema is an object, or true or false"))
}

fn truncate(key: &str, value: Variant<'_>) -> Result<Truncate, ApiError> {
    match typed::<String>(key, value)?.as_str() {
        "never" => Ok(Truncate::Never),
        "oldest" => Ok(Truncate::Oldest),
        other => Err(invalid(
            key,
            format!("option `truncate` has the unknown value `{}`", shown(other)),
        )
        .hint("it is `never` or `oldest`")),
    }
}

/// A seed may be of either type: shells write `u` with more ease, `OpenAI`'s seed is `x`.
fn seed(key: &str, value: Variant<'_>) -> Result<i64, ApiError> {
    match value {
        Variant::I64(seed) => Ok(seed),
        Variant::U32(seed) => Ok(i64::from(seed)),
        other => Err(wrong_type(key, "x` or `u", &other)),
    }
}

/// The value, if it is of exactly the type that `T` has on the bus.
pub(super) fn typed<'v, T>(key: &str, value: Variant<'v>) -> Result<T, ApiError>
where
    T: TryFrom<Variant<'v>> + Type,
{
    if value.value_signature() != T::SIGNATURE {
        return Err(wrong_type(key, &T::SIGNATURE.to_string(), &value));
    }
    let refused = wrong_type(key, &T::SIGNATURE.to_string(), &value);
    T::try_from(value).map_err(|_| refused)
}

fn wrong_type(key: &str, expected: &str, got: &Variant<'_>) -> ApiError {
    let got = got.value_signature();
    invalid(
        key,
        format!("option `{key}` must be of type `{expected}`, not `{got}`"),
    )
}

fn not_an_option(key: &str, method: Method) -> ApiError {
    let options = method.options();
    invalid(key, format!("unknown option `{}`", shown(key)))
        .hint(format!("{method:?} takes {options}"))
}

pub(super) fn check_length(name: &str, length: usize) -> Result<(), ApiError> {
    if length <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("`{name}` is longer than the {TEXT_BYTES_MAX} bytes that D-Bus may carry");
    Err(ApiError::new(ErrorCode::PayloadTooLarge, message)
        .param(name)
        .hint("send less, or use the HTTP API"))
}

pub(super) fn invalid(param: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message).param(shown(param))
}

pub(super) fn shown(word: &str) -> String {
    word.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
