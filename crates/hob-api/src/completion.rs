//! `POST /v1/completions`: `OpenAI`'s older text completion, with no chat template.

use serde::{Deserialize, Serialize};

use crate::chat::{Handling, SamplingFields, Stop, StreamOptions};
use crate::event::{FinishReason, Timings, Usage};
use crate::format::FormFields;

/// The body of `POST /v1/completions`. Unknown fields are refused by `hobd::request`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletionRequest {
    /// The model's name, or `default`; absent means the one that is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The text to go on from. It is tokenized as plain text: no control token can come from it.
    pub prompt: String,
    /// Stream the answer.
    #[serde(default)]
    pub stream: bool,
    /// Options for streaming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// The answer's length limit in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Texts that end the answer; not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// How tokens are chosen.
    #[serde(flatten)]
    pub sampling: SamplingFields,
    /// What the answer must be.
    #[serde(flatten)]
    pub form: FormFields,
    /// How the request is handled.
    #[serde(flatten)]
    pub handling: Handling,
    /// hob's own: the whole request's deadline in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A whole answer, or one `data:` record of a streamed one: the shapes are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// `cmpl-` and the request's number.
    pub id: String,
    /// `text_completion`.
    pub object: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// One choice; none in a streamed answer's usage record.
    pub choices: Vec<CompletionChoice>,
    /// Tokens read and written; in a streamed answer only in the usage record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// hob's own: how long it took; in a streamed answer only in the last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// A completion's text, whole or in part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletionChoice {
    /// 0: hob gives one choice.
    pub index: u32,
    /// The text, or the next piece of it.
    pub text: String,
    /// Always null: log-probabilities are not reported yet.
    pub logprobs: Option<()>,
    /// Why the text ended; null until it has.
    pub finish_reason: Option<FinishReason>,
}
