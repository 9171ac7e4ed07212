//! The engine's standard error: each line goes to the debug log, and the last ones are kept for
//! when the engine is lost.

use std::collections::VecDeque;

use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;

/// Bytes kept.
const TAIL_BYTES_MAX: usize = 8 << 10;

/// Reads until the engine closes its standard error, and returns the end of what it wrote.
pub(super) async fn tail(mut stderr: ChildStderr) -> String {
    let mut tail = VecDeque::with_capacity(TAIL_BYTES_MAX);
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        tracing::debug!(stderr = printable(&buffer[..read]).as_str(), "engine");
        tail.extend(&buffer[..read]);
        let excess = tail.len().saturating_sub(TAIL_BYTES_MAX);
        tail.drain(..excess);
    }
    printable(tail.make_contiguous())
}

/// The bytes as text in which no control character but the line feed is left.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let keep = |c: &char| *c == '\n' || !c.is_control();
    text.trim_end().chars().filter(keep).collect()
}
