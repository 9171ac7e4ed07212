//! Lines out of a byte stream, whatever its chunks: bounded, and whole or not at all.

/// Longest line that the daemon may send, in bytes. A record holds a few tokens or one error.
pub(crate) const LINE_BYTES_MAX: usize = 256 * 1024;

/// Bytes that arrived and are not read as lines yet.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the first unread line starts.
    start: usize,
    /// Up to where there is no newline, so that long lines are not searched again and again.
    searched: usize,
}

/// A line is longer than [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {LINE_BYTES_MAX} bytes")]
pub(crate) struct LineTooLong;

impl LineBuffer {
    /// Adds a chunk. Read all lines with [`LineBuffer::next_line`] before the next one: what is
    /// kept is then at most one line and one chunk.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// The next whole line without its newline, or `None` until more arrives.
    ///
    /// # Errors
    /// [`LineTooLong`], also for a line whose end has not arrived.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let newline = self.bytes[self.searched..].iter().position(|b| *b == b'\n');
        let end = newline.map_or(self.bytes.len(), |n| self.searched + n);
        if end - self.start > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        if newline.is_none() {
            self.searched = end;
            return Ok(None);
        }
        let line = self.start..end;
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(&self.bytes[line]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(buffer: &mut LineBuffer) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while let Ok(Some(line)) = buffer.next_line() {
            lines.push(line.to_vec());
        }
        lines
    }

    #[test]
    fn a_line_in_two_chunks() {
        let mut buffer = LineBuffer::default();
        buffer.push(b"ab");
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"c\n\nd");
        assert_eq!(all(&mut buffer), [b"abc".to_vec(), b"".to_vec()]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut buffer = LineBuffer::default();
        buffer.push(&vec![b'x'; LINE_BYTES_MAX]);
        assert_eq!(buffer.next_line(), Ok(None));
        buffer.push(b"x");
        assert_eq!(buffer.next_line(), Err(LineTooLong));
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            lines in proptest::collection::vec("[a-z]{0,9}", 0..8),
            sizes in proptest::collection::vec(1_usize..7, 1..8),
        ) {
            let stream: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            let mut rest = stream.as_bytes();
            let mut buffer = LineBuffer::default();
            let mut read = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*size).min(rest.len()));
                rest = after;
                buffer.push(chunk);
                read.extend(all(&mut buffer));
            }
            prop_assert_eq!(read, lines.iter().map(|l| l.as_bytes().to_vec()).collect::<Vec<_>>());
        }
    }
}
