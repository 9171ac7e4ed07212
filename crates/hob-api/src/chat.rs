//! `POST /v1/chat/completions`: `OpenAI`'s request and response shapes.
//!
//! The request lists every field that `OpenAI` documents, so that a misspelt one is told apart
//! from one that hob does not support yet. Fields below "hob's own" are extensions.

use serde::{Deserialize, Serialize};

use crate::conversation::{Kept, Truncate};
use crate::event::{FinishReason, Timings, Usage};
use crate::format::FormFields;
use crate::tools::{Tool, ToolCall, ToolCallDelta, ToolChoice};

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model.
    #[serde(alias = "developer")]
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a call that the model made.
    Tool,
}

impl Role {
    /// The role's name on the wire and in chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said: a string, or `OpenAI`'s list of text parts. Only a message with calls may have
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// A participant's name; accepted from `OpenAI` clients and not shown to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The calls that the model made with this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// Which call this message is the result of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(Content::Text(text.into())),
            name: None,
            tool_calls: None,
            tool_call_id: None,
        }
    }
}

/// A message's text, in either of `OpenAI`'s encodings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// A list of parts, read as their concatenation.
    Parts(Vec<Part>),
}

/// One part of a message. hob reads text only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
}

impl Content {
    /// The text as one string.
    pub fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().map(|Part::Text { text }| text).collect(),
        }
    }
}

/// How urgent a request is; the most urgent first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Somebody has spoken and stands there.
    Voice,
    /// Somebody reads along.
    #[default]
    Chat,
    /// Nobody waits.
    Batch,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Voice, Self::Chat, Self::Batch];

    /// The class's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Chat => "chat",
            Self::Batch => "batch",
        }
    }
}

/// hob's own fields about how a request is handled, alike in chat and text completion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    /// How urgent it is; absent means `chat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Whether what the model remembers of your earlier requests may be used, and this one be
    /// remembered; absent means yes. Others' requests are never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_prompt: Option<bool>,
    /// How long the model stays in memory after this request, in milliseconds; 0 for ever. Absent
    /// means as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_ms: Option<u64>,
    /// Whether the answer may be written by drafts of what came up before, checked several tokens
    /// at once where that is faster; absent means yes. How tokens are chosen stays the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculative: Option<bool>,
}

/// One stop string, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stop {
    /// One string.
    One(String),
    /// Up to four strings.
    Many(Vec<String>),
}

/// `OpenAI`'s options for streaming.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Send one more chunk, with the usage and no choice, before `[DONE]`.
    #[serde(default)]
    pub include_usage: bool,
    /// Pad chunks against traffic analysis; accepted and ignored on a local socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_obfuscation: Option<bool>,
}

/// How much the model thinks before it answers. `OpenAI` knows other words, which mean nothing to
/// models that either think or don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningEffort {
    /// Not at all.
    None,
}

/// What a chat template is told beside the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateFields {
    /// Whether the model thinks before it answers. Templates that don't know of it don't look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_thinking: Option<bool>,
}

/// The sampling fields, alike in chat and text completion. All are optional; the defaults are
/// `hobd`'s settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SamplingFields {
    /// Randomness, 0 (always the likeliest token) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus: the smallest set of tokens whose probabilities reach this, above 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// hob's own: only the k likeliest tokens, 0 (all) to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// hob's own: only tokens with at least this share of the likeliest one's probability, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Penalty for each earlier occurrence of a token, -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Penalty for a token that occurred at all, -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// hob's own: divides the logit of tokens that occurred, 0.5 to 2, 1 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    /// The random generator's seed; the same seed gives the same answer on the same engine, whatever
    /// the prefix cache holds. Also where the most probable token is taken: the answer is not drafted,
    /// and a conversation's earlier answers are read again for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

/// The body of `POST /v1/chat/completions`.
///
/// Unknown fields are refused by `hobd::request`, which can name them; serde can't do so here
/// beside a flattened part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model's name, or `default`; absent means the one that is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The conversation so far; at least one message.
    pub messages: Vec<Message>,
    /// Stream the answer.
    #[serde(default)]
    pub stream: bool,
    /// Options for streaming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// The answer's length limit in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// `OpenAI`'s newer name of `max_tokens`; both at once is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<u32>,
    /// Texts that end the answer; not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// How tokens are chosen.
    #[serde(flatten)]
    pub sampling: SamplingFields,
    /// What the answer must be.
    #[serde(flatten)]
    pub form: FormFields,
    /// What the model may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// Whether it calls; absent means as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may make several calls at once; absent means yes, but for a tool that `tool_choice`
    /// names, which is called once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// Whether the model thinks before it answers; absent means as its template has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<ReasoningEffort>,
    /// The same in the words of templates, as llama.cpp's server and others have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template_kwargs: Option<TemplateFields>,
    /// How the request is handled.
    #[serde(flatten)]
    pub handling: Handling,
    /// hob's own: the whole request's deadline in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// hob's own: the id of a conversation that hobd keeps. `messages` are then the new ones
    /// alone; the stored ones go before them, and the turn is stored with its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// hob's own, with `conversation`: what to do when it has outgrown the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<Truncate>,
}

/// The answer to a chat request that does not stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// `chatcmpl-` and the request's number.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// One choice.
    pub choices: Vec<ChatChoice>,
    /// Tokens read and written.
    pub usage: Usage,
    /// hob's own: how long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// hob's own: within a conversation that hobd keeps.
    #[serde(flatten)]
    pub kept: Option<Kept>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChoice {
    /// 0: hob gives one choice.
    pub index: u32,
    /// The answer.
    pub message: AssistantMessage,
    /// Always null: log-probabilities are not reported yet.
    pub logprobs: Option<()>,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
}

/// The model's message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssistantMessage {
    /// Always `assistant`.
    pub role: Role,
    /// The answer's text; null if it is calls alone.
    pub content: Option<String>,
    /// What the model thought before it answered, as llama.cpp's server and others name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The calls that it makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
}

/// One `data:` record of a streamed chat answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The same in every chunk of an answer.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// One choice; none in the usage chunk.
    pub choices: Vec<ChatChunkChoice>,
    /// In the usage chunk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// hob's own: in the last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// hob's own: in the last chunk, within a conversation that hobd keeps.
    #[serde(flatten)]
    pub kept: Option<Kept>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChunkChoice {
    /// 0: hob gives one choice.
    pub index: u32,
    /// What is new.
    pub delta: ChatDelta,
    /// Always null: log-probabilities are not reported yet.
    pub logprobs: Option<()>,
    /// Why the answer ended; in the last chunk only.
    pub finish_reason: Option<FinishReason>,
}

/// What is new in a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatDelta {
    /// In the first chunk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The next piece of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The next piece of what the model thinks before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The next piece of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallDelta>>,
}
