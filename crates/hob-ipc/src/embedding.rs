//! Embeddings: what the engine is asked for, and what comes back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hob_api::chat::Class;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::RequestId;

/// Most inputs of one request.
pub const INPUTS_MAX: usize = 64;
/// Most numbers of one embedding: in base64 they fit an event's frame.
pub const DIMENSIONS_MAX: usize = 8192;

/// A request for embeddings, validated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embed {
    /// Its number.
    pub id: RequestId,
    /// 1 to [`INPUTS_MAX`], none of them empty.
    pub inputs: Vec<EmbedInput>,
    /// How many numbers the client wants; others than the model's are refused.
    pub dimensions: Option<u32>,
    /// How urgent it is.
    pub class: Class,
}

/// What one embedding is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedInput {
    /// Plain text: the engine makes tokens of it, and adds those that the model wants around it.
    Text(String),
    /// Tokens as they are, none below 0.
    Tokens(Vec<i32>),
}

/// One input's embedding. They come in the order of the inputs, each once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// Which request.
    pub id: RequestId,
    /// Which of its inputs, from 0.
    pub index: u32,
    /// Tokens of that input.
    pub tokens: u32,
    /// Of length 1: 1 to [`DIMENSIONS_MAX`] finite numbers, as many as any other's of the model.
    pub vector: Vector,
}

/// Numbers that travel as base64 of their little-endian bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vector(pub Vec<f32>);

impl Vector {
    /// Base64, as `OpenAI`'s `encoding_format` has it.
    pub fn to_base64(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|n| n.to_le_bytes()).collect();
        STANDARD.encode(bytes)
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom("not a whole number of numbers"));
        }
        Ok(Self(
            numbers
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
        ))
    }
}

/// Why no embeddings are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedFailure {
    /// The model makes none: it pools otherwise than by the mean or the last token, or its tokens
    /// look at those after them.
    Unsupported,
    /// The model makes embeddings of another length.
    Dimensions {
        /// Of this.
        model: u32,
    },
    /// There is no memory for a context of their own.
    Memory,
    /// An input does not fit the context.
    TooLong {
        /// Which.
        index: u32,
    },
    /// An input has no tokens.
    Empty {
        /// Which.
        index: u32,
    },
    /// A token is not in the model's vocabulary.
    Token {
        /// Of which input.
        index: u32,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::frame::{EVENT_BYTES_MAX, encode};
    use crate::{Decoder, EngineEvent};
    use proptest::prelude::*;

    #[test]
    fn the_longest_embedding_fits_an_event() {
        let event = EngineEvent::Embedding(Embedding {
            id: RequestId(u64::MAX),
            index: u32::MAX,
            tokens: u32::MAX,
            vector: Vector(vec![f32::MIN_POSITIVE; DIMENSIONS_MAX]),
        });
        assert!(encode(&event, EVENT_BYTES_MAX).is_ok());
    }

    #[test]
    fn half_a_number_is_refused() {
        assert!(serde_json::from_str::<Vector>("\"AAAA\"").is_err());
        assert!(serde_json::from_str::<Vector>("\"AACAPw==\"").is_ok());
        assert!(serde_json::from_str::<Vector>("\"?\"").is_err());
    }

    proptest! {
        #[test]
        fn every_bit_arrives(numbers in proptest::collection::vec(any::<u32>(), 1..100)) {
            let embedding = EngineEvent::Embedding(Embedding {
                id: RequestId(1),
                index: 0,
                tokens: 1,
                vector: Vector(numbers.iter().map(|bits| f32::from_bits(*bits)).collect()),
            });
            let mut decoder = Decoder::new(EVENT_BYTES_MAX);
            decoder.push(&encode(&embedding, EVENT_BYTES_MAX).unwrap());
            let Some(EngineEvent::Embedding(got)) = decoder.next().unwrap() else {
                panic!("another event");
            };
            let bits: Vec<u32> = got.vector.0.iter().map(|number| number.to_bits()).collect();
            prop_assert_eq!(bits, numbers);
        }
    }
}
