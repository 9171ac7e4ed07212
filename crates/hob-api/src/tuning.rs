//! `/hob/v1/tuning`: what hobd measured on this board, and what it loads models with since.

use serde::{Deserialize, Serialize};

use crate::ApiError;

/// How fast a model is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Tokens of a prompt read in a second.
    pub read_per_second: f64,
    /// Tokens of an answer written in a second, without drafts.
    pub written_per_second: f64,
}

/// A way to load the model, and how fast it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Threads for computing.
    pub threads: u32,
    /// Where the weights lie: `mapped` or `copied`.
    pub weights: String,
    /// How contexts are kept: `f16`, `q8_0` or `q4_0`.
    pub kv_type: String,
    /// How fast it was.
    #[serde(flatten)]
    pub speed: Speed,
}

/// What was measured, and what hobd loads models with since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The version of hob that measured.
    pub version: String,
    /// The model that it was measured with.
    pub model: String,
    /// That model's sha256, in hexadecimal.
    pub sha256: String,
    /// When, in seconds since the Unix epoch.
    pub time: u64,
    /// In place of `engine.threads`' default; absent if that was the best, or is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// In place of `engine.weights`' default; absent if that was the best, or is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// How fast the model is so.
    #[serde(flatten)]
    pub speed: Speed,
    /// Whether all was tried; not if somebody stopped it, or the time was over.
    pub complete: bool,
    /// What was tried, in order.
    pub trials: Vec<Trial>,
    /// How fast a later version was at its first load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
}

/// How fast a later version is with the same settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The version.
    pub version: String,
    /// How fast it was.
    #[serde(flatten)]
    pub speed: Speed,
    /// Whether that is clearly slower than before.
    pub slower: bool,
}

/// One record of a measurement under way. The last is `done` or `error`; a client that goes away
/// ends the measurement, and what was tried until then counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TuneEvent {
    /// The model is being loaded in another way.
    Trying {
        /// Which one, from 1.
        number: u32,
        /// How many there are at most.
        of: u32,
        /// About how long all will take from now, in seconds; 0 while that is not known.
        seconds_left: u32,
    },
    /// That way was measured.
    Tried(Trial),
    /// The end: what was chosen is in force.
    Done(Tuning),
    /// The end: nothing was measured, and nothing changed.
    Error {
        /// Why.
        error: ApiError,
    },
}

/// The reply to `GET` and `DELETE /hob/v1/tuning`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuningReply {
    /// What is stored; null for nothing.
    pub tuning: Option<Tuning>,
}
