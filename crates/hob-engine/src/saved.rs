//! A pinned prefix as bytes that outlive the engine: its tokens, then what the model remembers of
//! them. hobd stores them unread, with a checksum over all.
//!
//! ```text
//! u32 little-endian   tokens
//! i32 little-endian   each token
//! the rest            llama.cpp's own format
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use crate::prompt::Token;
use crate::raw;

const WORD: usize = size_of::<Token>();

/// A saved prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What the model has seen.
    pub tokens: Vec<Token>,
    /// What it remembers of them.
    pub state: Vec<u8>,
}

/// How many bytes a prefix has when saved.
pub fn bytes(tokens: &[Token], state: &[u8]) -> usize {
    WORD + tokens.len() * WORD + state.len()
}

/// Reads `bytes` bytes of a prefix from the memory behind `memory`. They were checked against their
/// checksum, so that only another build's are malformed; `None` for those.
///
/// # Errors
/// As of `read(2)`, and if there are fewer bytes.
pub fn read(memory: OwnedFd, bytes: u64) -> io::Result<Option<Saved>> {
    let mut file = File::from(memory);
    let mut word = [0; WORD];
    file.read_exact(&mut word)?;
    let count = u64::from(u32::from_le_bytes(word));
    let head = (count + 1) * WORD as u64;
    let (Ok(count), Some(rest)) = (usize::try_from(count), bytes.checked_sub(head)) else {
        return Ok(None);
    };
    let mut words = vec![0; count * WORD];
    file.read_exact(&mut words)?;
    let (words, _) = words.as_chunks::<WORD>();
    let tokens = words
        .iter()
        .map(|word| Token::from_le_bytes(*word))
        .collect();
    let too_large = |_| io::Error::from(io::ErrorKind::OutOfMemory);
    let mut state = Vec::new();
    let room = usize::try_from(rest).map_err(too_large)?;
    state
        .try_reserve_exact(room)
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(rest).read_to_end(&mut state)?;
    if state.len() < room {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Saved { tokens, state }))
}

/// Writes a prefix into the memory behind `memory`, which must be as large as it.
///
/// # Errors
/// If it is not, or can't be mapped.
pub fn write(memory: impl AsFd, tokens: &[Token], state: &[u8]) -> io::Result<()> {
    let count = u32::try_from(tokens.len()).map_err(io::Error::other)?;
    let mut head = Vec::with_capacity(WORD + tokens.len() * WORD);
    head.extend_from_slice(&count.to_le_bytes());
    for token in tokens {
        head.extend_from_slice(&token.to_le_bytes());
    }
    raw::fill(memory, &[&head, state])
}
