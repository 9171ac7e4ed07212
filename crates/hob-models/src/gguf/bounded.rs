//! A reader that knows where it is and where the file ends, so that no length from the
//! file is believed before it is compared with both.

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::{GgufError, MAX_HEADER_BYTES};

/// Reads little-endian values from a header and never past its end.
pub(super) struct BoundedReader<R> {
    inner: BufReader<R>,
    at: u64,
    size: u64,
}

impl<R: Read + Seek> BoundedReader<R> {
    /// Starts at the beginning of `file`, which is `size` bytes long.
    pub(super) fn new(mut file: R, size: u64) -> Result<Self, GgufError> {
        file.seek(SeekFrom::Start(0))?;
        Ok(Self {
            inner: BufReader::with_capacity(64 << 10, file),
            at: 0,
            size,
        })
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The file's size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Accounts for `length` bytes that are about to be read or skipped.
    fn claim(&mut self, what: &'static str, length: u64) -> Result<(), GgufError> {
        let truncated = GgufError::Truncated {
            what,
            at: self.at,
            size: self.size,
        };
        let Some(end) = self.at.checked_add(length).filter(|end| *end <= self.size) else {
            return Err(truncated);
        };
        if end > MAX_HEADER_BYTES {
            return Err(GgufError::TooMany {
                what: "header's size",
                at: 0,
                value: end,
                limit: MAX_HEADER_BYTES,
            });
        }
        self.at = end;
        Ok(())
    }

    /// The file may have shrunk since its size was taken; that is truncation too.
    fn fill(&mut self, what: &'static str, buffer: &mut [u8]) -> Result<(), GgufError> {
        let start = self.at - buffer.len() as u64;
        self.inner.read_exact(buffer).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                GgufError::Truncated {
                    what,
                    at: start,
                    size: self.size,
                }
            } else {
                GgufError::Io(error)
            }
        })
    }

    /// The next `N` bytes.
    pub(super) fn bytes<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], GgufError> {
        self.claim(what, N as u64)?;
        let mut bytes = [0; N];
        self.fill(what, &mut bytes)?;
        Ok(bytes)
    }

    /// The next 32-bit number.
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    /// The next 64-bit number.
    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// The next 64-bit number, of at most `limit`.
    pub(super) fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, GgufError> {
        let at = self.at;
        let value = self.u64(what)?;
        if value > limit {
            return Err(GgufError::TooMany {
                what,
                at,
                value,
                limit,
            });
        }
        Ok(value)
    }

    /// The next `length` bytes. The file has them, so that a lie costs no memory.
    pub(super) fn run(&mut self, what: &'static str, length: u64) -> Result<Vec<u8>, GgufError> {
        self.claim(what, length)?;
        // A header's length fits any machine's.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.fill(what, &mut bytes)?;
        Ok(bytes)
    }

    /// The next string, of at most `limit` bytes of UTF-8.
    pub(super) fn string(&mut self, what: &'static str, limit: u64) -> Result<String, GgufError> {
        let length = self.count(what, limit)?;
        let start = self.at;
        let bytes = self.run(what, length)?;
        String::from_utf8(bytes).map_err(|error| GgufError::Invalid {
            what,
            at: start,
            why: error.utf8_error().to_string(),
        })
    }

    /// Passes over a string of at most `limit` bytes.
    pub(super) fn skip_string(&mut self, what: &'static str, limit: u64) -> Result<(), GgufError> {
        let length = self.count(what, limit)?;
        self.skip(what, length)
    }

    /// Passes over `length` bytes.
    pub(super) fn skip(&mut self, what: &'static str, length: u64) -> Result<(), GgufError> {
        self.claim(what, length)?;
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        self.inner.seek_relative(length)?;
        Ok(())
    }
}
