//! How likely a model finds texts behind a prompt.

use serde::{Deserialize, Serialize};

/// How likely a model finds one continuation of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// The sum of its tokens' log-probabilities, each behind all tokens before it: a natural
    /// logarithm, finite and at most 0.
    pub log_probability: f64,
    /// Its tokens, at least 1.
    pub tokens: u32,
    /// Whether each of its tokens is the likeliest: what is said at a temperature of 0.
    pub greedy: bool,
    /// The log-probability that an answer ends behind it, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<f64>,
    /// Each token's log-probability, if these were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_log_probabilities: Option<Vec<f32>>,
}
