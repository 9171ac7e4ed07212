//! Likelihoods: what the engine is asked for, and what comes back.
//!
//! Nothing is generated. The engine reads each prompt, then each continuation behind it, and tells
//! how likely the model found the continuation's tokens. What prompts and continuations have in
//! common at their beginning is computed once.

use hob_api::chat::Class;
use hob_api::score::Likelihood;
use serde::{Deserialize, Serialize};

use crate::RequestId;
use crate::message::Prompt;

/// Most prompts of one request.
pub const PARTS_MAX: usize = 128;
/// Most continuations of one prompt: their likelihoods fit one event's frame.
pub const CONTINUATIONS_MAX: usize = 256;
/// Most continuations of one request, all prompts together.
pub const CONTINUATIONS_IN_ALL_MAX: usize = 2048;
/// Most tokens of one prompt's continuations together where each token's log-probability is asked
/// for: they fit one event's frame.
pub const SINGLE_TOKENS_MAX: usize = 1536;
/// The least log-probability of one token that is told. Less, and nothing at all, is told as this.
pub const LOG_PROBABILITY_MIN: f64 = -1000.0;

/// A request for likelihoods, validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Its number.
    pub id: RequestId,
    /// 1 to [`PARTS_MAX`], with at most [`CONTINUATIONS_IN_ALL_MAX`] continuations in all.
    pub parts: Vec<ScorePart>,
    /// Whether the likelihood of an answer's end behind each continuation is wanted, too.
    pub ends: bool,
    /// Whether each token's log-probability is wanted, too.
    pub single_tokens: bool,
    /// The user whose earlier requests' computed prefix may be used, and who may use this one's;
    /// `None` for no use of either.
    pub cache_owner: Option<u32>,
    /// How urgent it is.
    pub class: Class,
}

/// A prompt, and what may follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScorePart {
    /// What goes before.
    pub prompt: Prompt,
    /// 1 to [`CONTINUATIONS_MAX`] texts, none of them empty; never a source of control tokens. Each
    /// is made tokens of by itself: behind a conversation, it is how the assistant's answer begins.
    pub continuations: Vec<String>,
}

/// The likelihoods of one part's continuations. They come in the order of the parts, each once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Which request.
    pub id: RequestId,
    /// Which of its parts, from 0.
    pub part: u32,
    /// One for each continuation, in their order.
    pub likelihoods: Vec<Likelihood>,
}

/// Why no likelihoods are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreFailure {
    /// A prompt does not fit the context with one of its continuations.
    TooLong {
        /// Which part's.
        part: u32,
    },
    /// A prompt has no tokens, or one of its continuations has none.
    Empty {
        /// Which part's.
        part: u32,
    },
    /// More tokens than can be told one by one.
    TooManyTokens {
        /// Which part's.
        part: u32,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::EngineEvent;
    use crate::frame::{EVENT_BYTES_MAX, encode};

    /// As many bytes of JSON as a number takes at most.
    const LONGEST: f64 = -0.123_456_789_012_345_68e-300;

    fn scored(continuations: usize, tokens: usize) -> EngineEvent {
        let likelihood = Likelihood {
            log_probability: LONGEST,
            tokens: u32::MAX,
            greedy: false,
            end: Some(LONGEST),
            token_log_probabilities: (tokens > 0)
                .then(|| vec![-1.234_567_8e-30; tokens / continuations]),
        };
        EngineEvent::Scored(Scored {
            id: RequestId(u64::MAX),
            part: u32::MAX,
            likelihoods: vec![likelihood; continuations],
        })
    }

    #[test]
    fn the_longest_answers_fit_an_event() {
        for tokens in [0, SINGLE_TOKENS_MAX] {
            let event = scored(CONTINUATIONS_MAX, tokens);
            assert!(encode(&event, EVENT_BYTES_MAX).is_ok(), "{tokens} tokens");
        }
    }

    #[test]
    fn what_is_told_arrives() {
        let likelihood = Likelihood {
            log_probability: -1.25,
            tokens: 2,
            greedy: true,
            end: None,
            token_log_probabilities: Some(vec![-1.0, -0.25]),
        };
        let event = EngineEvent::Scored(Scored {
            id: RequestId(1),
            part: 2,
            likelihoods: vec![likelihood],
        });
        let json = serde_json::to_vec(&event).unwrap();
        assert_eq!(serde_json::from_slice::<EngineEvent>(&json).unwrap(), event);
    }
}
