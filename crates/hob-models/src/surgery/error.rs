//! Why no smaller model can be made of a model.

use super::{ARCHITECTURES, LAYERED_ARCHITECTURES};

/// Why no smaller model can be made of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SurgeryError {
    /// It is not known which of its tensors have a row for each token.
    #[error("models of the architecture `{0}` cannot be made smaller")]
    Architecture(String),
    /// It is not known that its layers are alike wherever they stand.
    #[error("layers of the architecture `{0}` cannot be left out")]
    Layered(String),
    /// A tensor of a layer that there is not.
    #[error("the tensor `{0}` belongs to a layer that the metadata does not count")]
    LayerTensor(String),
    /// A layer that there is not.
    #[error("there is no layer {layer}: the model has {all}, from 0")]
    NoSuchLayer {
        /// Its number.
        layer: u32,
        /// The model's layers.
        all: usize,
    },
    /// Nothing would be left.
    #[error("the model has {all} layers, and one at least has to stay")]
    AllLayers {
        /// The model's layers.
        all: usize,
    },
    /// A tokenizer of another kind.
    #[error("models with the tokenizer `{0}` cannot be made smaller")]
    Tokenizer(String),
    /// What a vocabulary needs is missing, or does not fit the rest.
    #[error("the metadata's `{key}` {why}")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A tensor that has a row for each token, and is not known to.
    #[error("the tensor `{0}` has one part for each token, and hob does not know what it is")]
    Tensor(String),
    /// The embedding does not fit the vocabulary.
    #[error("the tensor `token_embd.weight` does not have one row for each token")]
    Embedding,
    /// Without tokens for single bytes not all text could be written with fewer words.
    #[error(
        "the tokenizer has no tokens for single bytes, so fewer tokens could not write all text"
    )]
    NoBytes,
    /// Fewer tokens than have to stay.
    #[error("{wanted} tokens are too few: {least} have to stay")]
    TooFew {
        /// As many were asked for.
        wanted: usize,
        /// The least.
        least: usize,
    },
    /// Nothing would be left out.
    #[error("the model has {all} tokens, and all of them are to stay")]
    Nothing {
        /// The model's tokens.
        all: usize,
    },
}

impl SurgeryError {
    /// What to do about it, in one sentence, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Architecture(_) => format!("It works with {}.", ARCHITECTURES.join(", ")),
            Self::Layered(_) => format!(
                "It works with {}: of others, llama.cpp knows by a layer's number what it is.",
                LAYERED_ARCHITECTURES.join(", ")
            ),
            Self::AllLayers { .. } => "Ask for fewer with --drop-layers.".to_owned(),
            Self::Tokenizer(_) => {
                "It works with `gpt2` (byte-pair encoding) and `llama` (SentencePiece).".to_owned()
            }
            Self::TooFew { .. } => "Ask for more with --vocab, or say --vocab auto.".to_owned(),
            Self::Nothing { .. } => {
                "Ask for fewer with --vocab, or give a corpus of what the model is for.".to_owned()
            }
            _ => return None,
        })
    }
}
