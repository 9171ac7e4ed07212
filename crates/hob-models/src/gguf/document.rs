//! All that a model file says before its weights.

use std::io::{Read, Seek};

use super::bounded::BoundedReader;
use super::metadata::{MAX_KEY_BYTES, MAX_KEYS};
use super::tensors::{self, MAX_TENSORS, Tensor};
use super::value::Value;
use super::{GgufError, Header, read_version};

/// All that a model file says before its weights, and where these lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) pairs: Vec<(String, Value)>,
    pub(super) tensors: Vec<Tensor>,
    /// Where the weights start in the file.
    pub(super) data: u64,
    header: Header,
}

impl Document {
    /// Forgets what the file says of the model, which takes most of the memory; what is left tells where the
    /// weights lie, as [`super::Rewrite::replace`] needs it.
    pub fn forget_metadata(&mut self) {
        self.pairs = Vec::new();
    }

    /// Reads what stands at the start of `file`, which is `size` bytes long, into memory: at most one
    /// and a half times its bytes, of [`super::MAX_HEADER_BYTES`] at most.
    ///
    /// # Errors
    /// As [`Header::read`]: whatever that refuses is refused here.
    pub fn read<R: Read + Seek>(mut file: R, size: u64) -> Result<Self, GgufError> {
        let header = Header::read(&mut file, size)?;
        let mut reader = BoundedReader::new(file, size)?;
        let version = read_version(&mut reader)?;
        let tensor_count = reader.count("tensor count", MAX_TENSORS)?;
        let key_count = reader.count("metadata count", MAX_KEYS)?;
        let mut pairs = Vec::new();
        for _ in 0..key_count {
            let key = reader.string("metadata key", MAX_KEY_BYTES)?;
            pairs.push((key, Value::read(&mut reader)?));
        }
        let alignment = alignment(&pairs);
        let tensors = tensors::read(&mut reader, tensor_count, alignment)?;
        Ok(Self {
            version,
            alignment,
            pairs,
            tensors,
            data: reader.at().next_multiple_of(alignment),
            header,
        })
    }

    /// What it says in short.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the weights start in the file.
    #[cfg(test)]
    pub(crate) fn data(&self) -> u64 {
        self.data
    }

    /// The metadata, in the file's order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let pair = self.pairs.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value)
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The tensors, in the order of their data.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }
}

/// The alignment of tensor data in bytes, which [`Header::read`] has found to be one.
fn alignment(pairs: &[(String, Value)]) -> u64 {
    let said = pairs.iter().find(|(key, _)| key == "general.alignment");
    match said {
        Some((_, Value::Scalar(alignment))) => alignment.unsigned().unwrap_or(32),
        _ => 32,
    }
}
