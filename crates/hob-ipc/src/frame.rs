//! Frames: a little-endian `u32` length, then that many bytes of JSON. Pure, no I/O.

use serde::{Serialize, de::DeserializeOwned};

/// Longest frame from hobd, in bytes: a request body of 1 MiB, re-encoded, with room to spare.
pub const COMMAND_BYTES_MAX: usize = 4 << 20;
/// Longest frame from the engine, in bytes. A delta is a few characters; an error, a sentence.
pub const EVENT_BYTES_MAX: usize = 64 << 10;

const HEADER_BYTES: usize = 4;

/// Why a frame can't be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is above the side's limit; the stream can't be trusted any more.
    #[error("frame of {bytes} bytes is above the limit of {max}")]
    TooLong {
        /// The length announced or needed.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The frame's JSON is not a message.
    #[error("frame is not a message: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// `message` as one frame of at most `max` bytes after its header.
///
/// # Errors
/// [`FrameError::TooLong`] if it does not fit.
pub fn encode<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let bytes = frame.len() - HEADER_BYTES;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= max => {
            frame[..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
            Ok(frame)
        }
        _ => Err(FrameError::TooLong { bytes, max }),
    }
}

/// Whether `message` is a frame of at most `max` bytes, found without making it.
///
/// # Errors
/// As of [`encode`].
pub fn check<T: Serialize>(message: &T, max: usize) -> Result<(), FrameError> {
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, message)?;
    let Counted(bytes) = counted;
    if bytes <= max {
        Ok(())
    } else {
        Err(FrameError::TooLong { bytes, max })
    }
}

/// Counts what is written.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Cuts a byte stream into frames. It buffers at most one frame and one read beyond it.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were already handed out.
    consumed: usize,
    max: usize,
}

impl Decoder {
    /// A decoder that refuses frames above `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            consumed: 0,
            max,
        }
    }

    /// Takes in what was read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`FrameError`]; the stream must then be dropped, since frame boundaries are lost.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator has one item type, and this has the caller's"
    )]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let pending = &self.buffer[self.consumed..];
        let Some((header, rest)) = pending.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let bytes = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if bytes > self.max {
            return Err(FrameError::TooLong {
                bytes,
                max: self.max,
            });
        }
        let Some(body) = rest.get(..bytes) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        self.consumed += HEADER_BYTES + bytes;
        Ok(Some(message))
    }

    /// Whether the stream could end here without losing part of a frame.
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == self.consumed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_arrive() {
        let mut decoder = Decoder::new(16);
        decoder.push(&17_u32.to_le_bytes());
        assert!(matches!(
            decoder.next::<String>(),
            Err(FrameError::TooLong { bytes: 17, max: 16 })
        ));
    }

    #[test]
    fn a_message_above_the_limit_is_not_encoded() {
        assert!(matches!(
            encode(&"0123456789", 4),
            Err(FrameError::TooLong { bytes: 12, max: 4 })
        ));
        assert!(matches!(
            check(&"0123456789", 11),
            Err(FrameError::TooLong { bytes: 12, max: 11 })
        ));
        check(&"0123456789", 12).unwrap();
    }

    #[test]
    fn garbage_is_malformed() {
        let mut decoder = Decoder::new(16);
        decoder.push(&[3, 0, 0, 0, b'}', b'{', 0xff]);
        assert!(matches!(
            decoder.next::<String>(),
            Err(FrameError::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut_of_the_stream(
            messages in proptest::collection::vec(".{0,40}", 0..8),
            cut in 1_usize..23,
        ) {
            let stream: Vec<u8> = messages
                .iter()
                .flat_map(|m| encode(m, EVENT_BYTES_MAX).unwrap())
                .collect();
            let mut decoder = Decoder::new(EVENT_BYTES_MAX);
            let mut got: Vec<String> = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.push(piece);
                while let Some(message) = decoder.next().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, messages);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut decoder = Decoder::new(64);
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next::<serde_json::Value>() {}
        }
    }
}
