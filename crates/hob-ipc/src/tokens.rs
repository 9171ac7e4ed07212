//! Tokens of a text: what the engine is asked for, and what comes back. Not by hobd, but by hob, where
//! it makes a model with another vocabulary.

use serde::{Deserialize, Serialize};

use crate::RequestId;

/// Longest text in bytes that is made tokens of at once: as many tokens fit one event's frame.
pub const TEXT_BYTES_MAX: usize = 4096;

/// A request for a text's tokens, answered at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenize {
    /// Its number.
    pub id: RequestId,
    /// At most [`TEXT_BYTES_MAX`] bytes; never a source of control tokens.
    pub text: String,
}

/// A text's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenized {
    /// Which request.
    pub id: RequestId,
    /// The tokens, those of its text alone.
    pub tokens: Vec<i32>,
    /// Whether the tokens' texts are the text again, byte for byte, but for a space before it that some
    /// tokenizers add.
    pub exact: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineEvent;
    use crate::frame::{EVENT_BYTES_MAX, encode};

    #[test]
    fn as_many_tokens_as_a_text_has_bytes_fit_a_frame() {
        let event = EngineEvent::Tokenized(Tokenized {
            id: RequestId(u64::MAX),
            tokens: vec![i32::MIN; TEXT_BYTES_MAX + 1],
            exact: false,
        });
        assert!(encode(&event, EVENT_BYTES_MAX).is_ok());
    }
}
