//! From wire types to valid requests: the only way in.

use std::time::Duration;

use hob_ipc::message::{Prompt, Sampling};

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
    /// What to answer.
    pub prompt: Prompt,
    /// Longest answer in tokens, at least 1.
    pub max_tokens: u32,
    /// Texts that end the answer: at most 4, each 1 to 256 bytes.
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Until when the answer must be complete, from now.
    pub timeout: Duration,
}
