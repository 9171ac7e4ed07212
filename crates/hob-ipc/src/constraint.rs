//! What an answer must be: private form of `response_format` and its like.

use serde::{Deserialize, Serialize};

/// Longest schema, grammar or expression, in bytes. Ones that people and libraries write have a few
/// thousand.
pub const CONSTRAINT_BYTES_MAX: usize = 64 << 10;
/// Longest reason that the engine gives for refusing one, in bytes.
pub const REASON_BYTES_MAX: usize = 300;

/// What an answer must be. Its bounds are hobd's to check; whether it means anything is the
/// engine's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// JSON that this schema allows, which is JSON itself.
    JsonSchema(String),
    /// Any JSON object.
    JsonObject,
    /// Text that this regular expression matches, from its beginning to its end.
    Regex(String),
    /// Text of the language that this grammar describes, in the variant of Lark that llguidance
    /// reads.
    Lark(String),
    /// Calls of tools, perhaps behind reasoning, or words instead.
    Calls(CallRules),
}

/// The language of answers that may call tools, in the marks of the model's own that they have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallRules {
    /// Rules as of [`Constraint::Lark`]. `answer` is a whole answer, and `reasoned` what is left of
    /// one whose reasoning the prompt has opened. `start` is the engine's to define, as is `mark_N`
    /// for the mark at place N.
    pub rules: String,
    /// Texts of which each is one token, if the vocabulary has a control token of this text, and else
    /// spelled. As hobd has them, never a caller.
    pub marks: Vec<String>,
}

impl Constraint {
    /// Its text, which is what may be refused.
    pub fn text(&self) -> &str {
        match self {
            Self::JsonObject => "",
            Self::JsonSchema(text) | Self::Regex(text) | Self::Lark(text) => text,
            Self::Calls(calls) => &calls.rules,
        }
    }
}

/// Why a request with a constraint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintFailure {
    /// It can't be read, or asks for something that is not supported, or nothing can satisfy it.
    /// The event's message says what, in at most [`REASON_BYTES_MAX`] bytes without control
    /// characters; it may quote the constraint.
    Refused,
    /// It needs more work or memory than one may take.
    TooComplex,
    /// The answer came to where nothing could follow.
    DeadEnd,
    /// The engine can't constrain answers of this model.
    Unsupported,
}
