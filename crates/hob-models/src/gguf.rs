//! Reads the header of a GGUF model file without trusting it.
//!
//! llama.cpp's own loader is C++ with a history of memory-safety bugs, so that every
//! file is first walked here: each count, length and offset is capped and compared with
//! the size of the file before anything is allocated or skipped. What llama.cpp would
//! refuse later is refused here, with a cause that a person can act on. Arrays, such as
//! a vocabulary, are streamed through; only what is shown or needed is kept.
//!
//! Who makes another model of a model reads all of it, a [`Document`], and says in a [`Rewrite`] what
//! becomes of it; weights are copied as they are, byte for byte.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2
//! and 3, little endian.

mod bounded;
mod descent;
mod document;
mod error;
mod memory;
mod metadata;
mod repack;
mod rewrite;
mod tensors;
mod value;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use bounded::BoundedReader;
pub use descent::Descent;
pub use document::Document;
pub use error::GgufError;
pub use memory::{Memory, Shape};
use metadata::Metadata;
pub use repack::Kernels;
pub use rewrite::{Rewrite, RewriteError};
pub use tensors::Tensor;
use tensors::Tensors;
pub use value::{Scalar, Scalars, Texts, Value};

/// Bytes that a header may take, of which all but a few are the vocabulary.
pub const MAX_HEADER_BYTES: u64 = 128 << 20;
/// Longest chat template in bytes.
pub const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

const MAGIC: [u8; 4] = *b"GGUF";

/// What a model file's header says.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The architecture by llama.cpp's name, such as `llama` or `gemma3`.
    pub architecture: String,
    /// The model's own name for itself.
    pub name: Option<String>,
    /// Sum of the tensors' elements.
    pub parameters: u64,
    /// How the weights are stored, such as `Q4_K_M`: what the file says, else the tensor
    /// type that holds most bytes.
    pub quantization: String,
    /// The tensor type that holds most bytes, such as `Q4_K`.
    pub main_tensor_type: &'static str,
    /// Tokens of context that the model was trained for.
    pub n_ctx_train: u32,
    /// Layers.
    pub n_layer: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Width of the feed-forward layers; 0 if not said.
    pub n_ff: u32,
    /// Query heads, of the layer that has most.
    pub n_head: u32,
    /// KV heads of each layer; 0 where a layer keeps no KV cache.
    pub n_head_kv: Vec<u32>,
    /// Elements of one key head.
    pub key_length: u32,
    /// Elements of one value head.
    pub value_length: u32,
    /// Tokens that a sliding-window layer looks back.
    pub sliding_window: Option<u32>,
    /// Whether each layer uses the sliding window; as long as `n_layer`.
    pub windowed: Vec<bool>,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// The Jinja chat template; base models have none.
    pub chat_template: Option<String>,
    /// Bytes of tensor data.
    pub weights_bytes: u64,
    /// Those of the layers, in bytes: all but what comes before the first and after the last.
    pub layers_bytes: u64,
    /// Bytes of tensor data of each type.
    pub bytes_by_type: BTreeMap<&'static str, u64>,
    /// Tensors in the file.
    pub tensors: u32,
    /// What it was made of, if hob made it.
    pub descent: Option<Descent>,
}

impl Header {
    /// Reads a header from the start of `file`, which is `size` bytes long.
    ///
    /// Leaves the position of `file` undefined. Takes milliseconds and a few megabytes
    /// for a vocabulary of 50,000 tokens; at most [`MAX_HEADER_BYTES`] are read.
    ///
    /// # Errors
    /// [`GgufError`] for anything but a whole, single, little-endian GGUF language model.
    pub fn read<R: Read + Seek>(file: R, size: u64) -> Result<Self, GgufError> {
        if size == 0 {
            return Err(GgufError::Empty);
        }
        let mut reader = BoundedReader::new(file, size)?;
        read_version(&mut reader)?;
        let tensor_count = reader.count("tensor count", tensors::MAX_TENSORS)?;
        let key_count = reader.count("metadata count", metadata::MAX_KEYS)?;
        let metadata = Metadata::read(&mut reader, key_count)?;
        if let Some(parts) = metadata.unsigned("split.count")?.filter(|parts| *parts > 1) {
            return Err(GgufError::Split { parts });
        }
        let tensors = tensors::read(&mut reader, tensor_count, metadata.alignment()?)?;
        metadata.describe(&Tensors::of(&tensors)?)
    }
}

/// Magic and version.
fn read_version<R: Read + Seek>(reader: &mut BoundedReader<R>) -> Result<u32, GgufError> {
    let magic = reader.bytes::<4>("magic")?;
    if magic != MAGIC {
        return Err(GgufError::NotGguf { magic });
    }
    let version = reader.u32("version")?;
    match version {
        2 | 3 => Ok(version),
        // A big-endian file's version read the wrong way round has its low half empty.
        other if matches!(other.swap_bytes(), 1..=0xffff) => Err(GgufError::BigEndian),
        other => Err(GgufError::Version { version: other }),
    }
}
