//! hob's own record of an answer in progress, and what an answer tells about itself.

use serde::{Deserialize, Serialize};

use crate::conversation::Kept;
use crate::error::ApiError;
use crate::home::HomeAnswer;
use crate::score::Likelihood;

/// One record of a streamed answer.
///
/// An answer is any number of [`Event::Queued`], [`Event::Prefill`], [`Event::Reasoning`] and
/// [`Event::Delta`], in that order, then exactly one of [`Event::Done`] and [`Event::Error`]. In place
/// of deltas may come calls: each a [`Event::ToolCall`] and any number of [`Event::ToolArguments`]. A
/// stream that ends without an end was cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The request waits: for its turn, or for the model to load.
    Queued {
        /// How many requests are before it.
        position: u32,
    },
    /// The prompt is being read.
    Prefill {
        /// Prompt tokens read so far, those from the cache included.
        processed: u32,
        /// Prompt tokens in all.
        total: u32,
    },
    /// More of what the model thinks before it answers, which is no part of the answer.
    Reasoning {
        /// Whole characters; never empty.
        text: String,
    },
    /// More of the answer.
    Delta {
        /// Whole characters; never empty.
        text: String,
    },
    /// A call of a tool begins.
    ToolCall {
        /// Which call of the answer, from 0.
        index: u32,
        /// What its result is sent back with.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of a call's arguments.
    ToolArguments {
        /// Which call of the answer.
        index: u32,
        /// Whole characters of a JSON object; never empty.
        text: String,
    },
    /// One input's embedding. A request for embeddings gets these, in the order of its inputs, in
    /// place of text.
    Embedding {
        /// Which input, from 0.
        index: u32,
        /// A vector of length 1.
        embedding: Vec<f32>,
        /// Tokens of that input.
        tokens: u32,
    },
    /// How likely one prompt's continuations are. A request for likelihoods gets these, in the order
    /// of its prompts, in place of text.
    Scored {
        /// Which prompt, from 0.
        part: u32,
        /// One for each continuation, in their order.
        likelihoods: Vec<Likelihood>,
    },
    /// The answer is complete.
    Done(Done),
    /// The answer failed; what came before is all there is.
    Error {
        /// Why.
        error: ApiError,
    },
}

impl Event {
    /// Whether this is the one last record of an answer.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Error { .. })
    }
}

/// What a complete answer tells about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens read and written.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
    /// The model that answered.
    pub model: String,
    /// Within a conversation that hobd keeps: `conversation`, `stored` and so on.
    #[serde(flatten)]
    pub kept: Option<Kept>,
    /// What was said at home, and what was done about it, if it was to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Box<HomeAnswer>>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string did.
    Stop,
    /// It reached its length limit, or the end of the context.
    Length,
    /// It calls tools, and waits for their results.
    ToolCalls,
}

/// Tokens read and written for one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, the chat template's included.
    pub prompt_tokens: u32,
    /// Tokens of the answer, its end mark included.
    pub completion_tokens: u32,
    /// The sum.
    pub total_tokens: u32,
    /// `OpenAI`'s details.
    #[serde(default)]
    pub prompt_tokens_details: PromptTokensDetails,
    /// `OpenAI`'s details.
    #[serde(default)]
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Details of [`Usage::prompt_tokens`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Prompt tokens that were not computed again.
    pub cached_tokens: u32,
}

/// Details of [`Usage::completion_tokens`]: how they came to be, and hob's own count of the model's
/// steps that this took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionTokensDetails {
    /// Tokens that were drafted for the answer, so that several could be checked at once, and are
    /// part of it.
    pub accepted_prediction_tokens: u32,
    /// Those that are not.
    pub rejected_prediction_tokens: u32,
    /// hob's own: tokens that had to follow, as the answer must be something; nobody chose them.
    #[serde(default)]
    pub forced_tokens: u32,
    /// hob's own: steps of the model for the answer, the one that ended the prompt included.
    #[serde(default)]
    pub forward_passes: u32,
}

impl Usage {
    /// The usage of an answer to `prompt` tokens, `cached` of them not computed again.
    pub fn new(prompt: u32, cached: u32, completion: u32) -> Self {
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt.saturating_add(completion),
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: cached,
            },
            completion_tokens_details: CompletionTokensDetails::default(),
        }
    }

    /// The same, where `drafted` tokens were drafted and `accepted` of them part of the answer.
    #[must_use]
    pub fn with_drafts(mut self, drafted: u32, accepted: u32) -> Self {
        self.completion_tokens_details = CompletionTokensDetails {
            accepted_prediction_tokens: accepted,
            rejected_prediction_tokens: drafted.saturating_sub(accepted),
            ..self.completion_tokens_details
        };
        self
    }

    /// The same, where `forced` tokens had to follow, in `passes` steps of the model.
    #[must_use]
    pub fn with_passes(mut self, forced: u32, passes: u32) -> Self {
        self.completion_tokens_details.forced_tokens = forced;
        self.completion_tokens_details.forward_passes = passes;
        self
    }
}

/// How long an answer took, in milliseconds; the engine's own clock but for `queue_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// From arrival at hobd until the engine got the request.
    pub queue_ms: f64,
    /// From the engine's receipt of the request to the end of the prompt.
    pub prefill_ms: f64,
    /// From the end of the prompt to the last token.
    pub decode_ms: f64,
    /// Prompt tokens computed per second.
    pub prefill_per_second: f64,
    /// Answer tokens per second, the first left out: it comes with the end of the prompt.
    pub decode_per_second: f64,
}
