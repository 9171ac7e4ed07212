//! A snapshot's file: what it was made from, the engine's bytes, and a checksum over all of it.
//!
//! ```text
//! 8 bytes              "hobsnap" and the version, 1
//! u32 little-endian    length of the header
//! JSON                 the header
//! the payload          as many bytes as the header says
//! 32 bytes             sha256 of everything before
//! ```

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};

use hob_ipc::message::STATE_FORMAT_BYTES_MAX;
use hob_ipc::shared;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{MEMORY, TextId};

const MAGIC: [u8; 8] = *b"hobsnap\x01";
const CHECKSUM_BYTES: usize = 32;
/// Longest header in bytes: two digests, a format and names.
const HEADER_BYTES_MAX: usize = 1024 + STATE_FORMAT_BYTES_MAX;
/// Bytes copied at a time.
const PIECE_BYTES: usize = 256 << 10;

/// What a snapshot was made from: it is of use for the same alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// The sha256 of the model's file.
    pub(super) model: String,
    /// The pin's owner and text.
    pub(super) text: TextId,
    /// What else the bytes depend on, as the engine says.
    pub(super) format: String,
    /// Bytes of the payload.
    pub(super) bytes: u64,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is damaged")]
    Damaged,
    #[error("it is larger than the cache")]
    TooLarge,
}

/// A snapshot that was read: sealed memory, whose bytes were those of the file and passed the check.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) header: Header,
    pub(super) memory: File,
}

/// Writes a snapshot of what `memory` holds, and returns the file's length.
///
/// # Errors
/// As the system says, and if the memory has other bytes than the header says.
pub(super) fn write(file: &mut File, header: &Header, memory: &File) -> io::Result<u64> {
    let mut to = Summed::new(file);
    let json = serde_json::to_vec(header)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    to.write_all(&MAGIC)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&json)?;
    let mut from = memory;
    from.rewind()?;
    copy(from, &mut to, header.bytes)?;
    let checksum = to.sum.finalize();
    to.inner.write_all(&checksum)?;
    Ok(to.bytes + CHECKSUM_BYTES as u64)
}

/// Reads and checks a snapshot of at most `bytes_max` bytes.
///
/// # Errors
/// [`ReadError`].
pub(super) fn read(file: File, bytes_max: u64) -> Result<Snapshot, ReadError> {
    let (header, mut memory) = check(file, bytes_max, |bytes| shared::fixed(MEMORY, bytes))?;
    memory.rewind()?;
    shared::seal(&memory)?;
    Ok(Snapshot { header, memory })
}

/// Whether the file is a whole snapshot of this header: of the same text, model and engine.
pub(super) fn is_whole(file: File, header: &Header) -> bool {
    let checked = check(file, header.bytes, |_| Ok(io::sink()));
    checked.is_ok_and(|(found, _)| found == *header)
}

/// Checks a snapshot, and copies its payload to what `to` makes for so many bytes.
fn check<W: Write>(
    mut file: File,
    bytes_max: u64,
    to: impl FnOnce(u64) -> io::Result<W>,
) -> Result<(Header, W), ReadError> {
    let length = file.metadata()?.len();
    let mut from = Summed::new(&mut file);
    let mut magic = [0; MAGIC.len()];
    let mut word = [0; size_of::<u32>()];
    from.read_exact(&mut magic).map_err(truncated)?;
    from.read_exact(&mut word).map_err(truncated)?;
    let header_bytes = usize::try_from(u32::from_le_bytes(word)).unwrap_or(usize::MAX);
    if magic != MAGIC || header_bytes > HEADER_BYTES_MAX {
        return Err(ReadError::Damaged);
    }
    let mut json = vec![0; header_bytes];
    from.read_exact(&mut json).map_err(truncated)?;
    let header: Header = serde_json::from_slice(&json).map_err(|_| ReadError::Damaged)?;
    let whole = header.bytes.checked_add(from.bytes + CHECKSUM_BYTES as u64);
    if whole != Some(length) || header.bytes == 0 {
        return Err(ReadError::Damaged);
    }
    if header.bytes > bytes_max {
        return Err(ReadError::TooLarge);
    }
    let mut payload = to(header.bytes)?;
    copy(&mut from, &mut payload, header.bytes).map_err(truncated)?;
    let checksum = from.sum.finalize();
    let mut expected = [0; CHECKSUM_BYTES];
    from.inner.read_exact(&mut expected).map_err(truncated)?;
    if checksum[..] != expected[..] {
        return Err(ReadError::Damaged);
    }
    Ok((header, payload))
}

/// A file that ends too early is damaged; other failures are the disk's.
fn truncated(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Damaged,
        _ => ReadError::Io(error),
    }
}

fn copy(mut from: impl Read, to: &mut impl Write, bytes: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left)
            .unwrap_or(PIECE_BYTES)
            .min(PIECE_BYTES);
        from.read_exact(&mut piece[..now])?;
        to.write_all(&piece[..now])?;
        left -= now as u64;
    }
    Ok(())
}

/// A file whose bytes are summed as they pass.
struct Summed<'f> {
    inner: &'f mut File,
    sum: Sha256,
    bytes: u64,
}

impl<'f> Summed<'f> {
    fn new(inner: &'f mut File) -> Self {
        Self {
            inner,
            sum: Sha256::new(),
            bytes: 0,
        }
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl Read for Summed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.passed(&buffer[..read]);
        Ok(read)
    }
}

impl Write for Summed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.passed(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
