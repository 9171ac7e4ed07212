//! `POST /v1/systemone`: typed questions about a state, answered with probabilities and without a
//! word being written.
//!
//! The shape is that of the `TypeSafe` API, as llama.cpp's server documents it for its decision
//! models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chat::Class;
use crate::event::Timings;

/// The body of `POST /v1/systemone`, after what may be given in other ways was made text. Unknown
/// fields are refused by `hobd::request`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRequest {
    /// The model's name, or `default`; absent means the one that is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the questions are about.
    pub state: String,
    /// 1 to 16 questions by the ids that their answers have.
    pub questions: BTreeMap<String, Question>,
    /// hob's own: how urgent the request is; `chat` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// hob's own: whether the model may use what it remembers of your requests, and remember this
    /// one; absent means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_prompt: Option<bool>,
    /// hob's own: how long the engine stays after the request, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_ms: Option<u64>,
    /// hob's own: the whole request's deadline in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Question {
    /// Which of some options.
    Choice {
        /// What is asked.
        instructions: String,
        /// 1 to 64 options, and what each means, if that needs saying.
        criteria: BTreeMap<String, Option<String>>,
    },
    /// How far on a scale.
    Score {
        /// What is asked.
        instructions: String,
        /// What each of 2 to 10 levels means, the lowest first.
        criteria: Vec<String>,
    },
    /// Whether something is so: how likely yes, and not no.
    Noul {
        /// What is asked.
        instructions: String,
        /// What either answer means, if that needs saying.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        criteria: Option<NoulCriteria>,
    },
}

/// What the answers of a [`Question::Noul`] mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoulCriteria {
    /// That it is so.
    #[serde(default, rename = "true", skip_serializing_if = "Option::is_none")]
    pub so: Option<String>,
    /// That it is not.
    #[serde(default, rename = "false", skip_serializing_if = "Option::is_none")]
    pub not_so: Option<String>,
}

/// The answers to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    /// The model that decided.
    pub model: String,
    /// One for each question, by its id.
    pub answers: BTreeMap<String, Answer>,
    /// Tokens read.
    pub usage: DecisionUsage,
    /// hob's own: how long it took.
    pub timings: Timings,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Answer {
    /// To a [`Question::Choice`].
    Choice {
        /// The likeliest option, the first by its name of equals.
        choice: String,
        /// How likely each is; they sum to 1.
        probabilities: BTreeMap<String, f64>,
        /// From 0, where all are equally likely, to 1.
        confidence: f64,
    },
    /// To a [`Question::Score`].
    Score {
        /// The expected level: the mean of all, weighted by how likely each is; from 0.
        score: f64,
        /// What each level means, by its number.
        legend: BTreeMap<String, String>,
        /// How likely each is, by its number; they sum to 1.
        probabilities: BTreeMap<String, f64>,
        /// From 0 to 1, the higher the nearer the levels lie together that are likely.
        confidence: f64,
    },
    /// To a [`Question::Noul`].
    Noul {
        /// How likely it is so.
        noul: f64,
    },
}

/// Tokens read for decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionUsage {
    /// Tokens of all prompts and options. A question has several prompts, one for each order in
    /// which its options are shown.
    pub input_tokens: u32,
    /// 0: nothing is written.
    pub output_tokens: u32,
    /// hob's own: those of `input_tokens` that were not computed, as they begin several prompts or
    /// are remembered.
    pub cached_tokens: u32,
    /// hob's own: steps of the model.
    pub forward_passes: u32,
}
