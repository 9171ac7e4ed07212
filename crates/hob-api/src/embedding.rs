//! `OpenAI`'s embeddings: texts as points, so that similar texts lie near each other.

use serde::{Deserialize, Serialize};

use crate::chat::Class;

/// The body of `POST /v1/embeddings`. Unknown fields are refused by `hobd::request`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingRequest {
    /// The model's name, or `default`; absent means the one that is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What to make embeddings of: 1 to 64 inputs, none of them empty.
    pub input: Input,
    /// How the numbers are written.
    #[serde(default)]
    pub encoding_format: EncodingFormat,
    /// Numbers of each embedding; others than the model's own are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// hob's own: how urgent the request is; `batch` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// hob's own: how long the engine stays after the request, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_ms: Option<u64>,
    /// hob's own: the whole request's deadline in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What embeddings are made of. Tokens are taken as they are; to text the model's own beginning and
/// end are added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// One input's tokens.
    Tokens(Vec<i32>),
    /// Several inputs' tokens.
    TokenLists(Vec<Vec<i32>>),
}

/// How an embedding's numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodingFormat {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of the numbers' bytes: 32 bits each, little-endian.
    Base64,
}

/// The embeddings of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingList {
    /// `list`.
    pub object: String,
    /// One for each input, in their order.
    pub data: Vec<EmbeddingEntry>,
    /// The model that made them.
    pub model: String,
    /// Tokens read.
    pub usage: EmbeddingUsage,
}

/// One input's embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingEntry {
    /// `embedding`.
    pub object: String,
    /// Which input, from 0.
    pub index: u32,
    /// The numbers: a vector of length 1.
    pub embedding: Numbers,
}

/// An embedding's numbers, in the format that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Numbers {
    /// A list.
    Float(Vec<f32>),
    /// Base64, as [`EncodingFormat::Base64`] says.
    Base64(String),
}

/// Tokens read for embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingUsage {
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
    /// The same: nothing is written.
    pub total_tokens: u32,
}
