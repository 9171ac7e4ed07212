//! Why a file is not a model that can be loaded.

/// Why a file is not a model that can be loaded. Offsets are bytes from the file's start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Something else, or a download's error page.
    #[error("not a GGUF file: it starts with \"{}\"", magic.escape_ascii())]
    NotGguf {
        /// The first four bytes.
        magic: [u8; 4],
    },
    /// Made for another kind of machine.
    #[error("a big-endian GGUF file, which llama.cpp cannot load here")]
    BigEndian,
    /// Too old or too new.
    #[error("GGUF version {version} is not supported, only 2 and 3")]
    Version {
        /// The version it gives.
        version: u32,
    },
    /// The file ends inside something.
    #[error("truncated: the file ends at byte {size}, inside the {what} at byte {at}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: u64,
        /// The file's size.
        size: u64,
    },
    /// More than any sane model has.
    #[error("the {what} at byte {at} is {value}, more than the {limit} allowed")]
    TooMany {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: u64,
        /// What the file says.
        value: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A value that the format does not allow.
    #[error("the {what} at byte {at} is invalid: {why}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// Where it ends or starts.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A key without which no language model can be loaded.
    #[error("the metadata has no `{key}`, so this is not a language model")]
    Missing {
        /// The key.
        key: String,
    },
    /// A key whose value has the wrong type or range.
    #[error("the metadata's `{key}` is not {expected}")]
    WrongValue {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A tensor that does not lie where it must.
    #[error("tensor `{name}`: {why}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// One part of several.
    #[error("one of {parts} parts of a split model; hob loads single files only")]
    Split {
        /// How many parts there are.
        parts: u64,
    },
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] std::io::Error),
}
