//! Why no smaller model can be made of a model.

use super::ARCHITECTURES;

/// Why no smaller model can be made of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SurgeryError {
    /// It is not known which of its tensors have a row for each token.
    #[error("models of the architecture `{0}` cannot be made smaller")]
    Architecture(String),
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
