//! Smaller models made of models, without running one: what stays is copied byte for byte.
//!
//! Half of a small model is its vocabulary: a row of the embedding for each of up to 262,144 tokens, read
//! as a whole for every token that is written. Most of them stand for words of languages and subjects that
//! a board never hears of. [`Vocabulary`] reads a model's tokens, [`Vocabulary::choose`] says which of
//! them a corpus needs, and [`prune()`] makes the model that has no others. Every text can still be written:
//! the tokens that stand for single bytes always stay. Which words a text is cut into changes only where
//! one of its tokens is gone (see [`derivation`]).
//!
//! [`Layers`] leaves out whole layers.
//!
//! The idea of the former is that of "vocabulary trimming", as in <https://arxiv.org/abs/2311.09709>.

mod choice;
pub mod derivation;

mod error;
mod layers;
mod prune;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use choice::{Budget, Demand};
pub use error::SurgeryError;
pub use layers::{LAYERED_ARCHITECTURES, Layers};
pub use prune::{prune, prune_within};
pub use vocabulary::{ARCHITECTURES, Tokenizer, Vocabulary};

/// A token's number.
pub type Token = u32;
