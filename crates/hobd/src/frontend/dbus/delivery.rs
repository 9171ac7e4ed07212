//! An answer's way to its caller: into one reply, or down a file descriptor as it comes.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use hob_api::event::Done;
use hob_api::{ApiError, ErrorCode, Event};
use tokio::io;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::options::Format;
use crate::answer::Answer;
use crate::frontend::event_line;

/// Longest answer in one reply, far beyond any model's context and well within what buses carry.
const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// How far a request is; what its object's properties tell.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: AtomicU32,
    position: AtomicU32,
}

/// How a request ended. A cancelled one has [`ErrorCode::Cancelled`].
pub(super) type Ending = Result<Done, ApiError>;

/// Where the answer's events go.
#[derive(Debug)]
pub(super) enum Sink {
    /// The text of one reply.
    Reply(String),
    /// A caller's file descriptor.
    Descriptor(Descriptor),
}

/// hobd's end of the socket pair whose other end the caller reads.
#[derive(Debug)]
pub(super) struct Descriptor {
    socket: UnixStream,
    format: Format,
    stall_timeout: Duration,
    /// Part of a record is written and the rest is not.
    broken_off: bool,
    /// The last record is written.
    ended: bool,
}

impl Progress {
    /// 1 queued, 2 reading the prompt, 3 answering.
    pub(super) fn state(&self) -> u32 {
        self.state.load(Ordering::Relaxed).max(1)
    }

    /// Requests before this one; 0 unless queued.
    pub(super) fn position(&self) -> u32 {
        self.position.load(Ordering::Relaxed)
    }

    fn note(&self, event: &Event) {
        let (state, position) = match event {
            Event::Queued { position } => (1, *position),
            Event::Prefill { .. } => (2, 0),
            Event::Reasoning { .. }
            | Event::Delta { .. }
            | Event::ToolCall { .. }
            | Event::ToolArguments { .. }
            | Event::Embedding { .. }
            | Event::Scored { .. }
            | Event::Done(_)
            | Event::Error { .. } => (3, 0),
        };
        self.state.store(state, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
    }
}

/// Hands `answer` to `sink`, to its end or until `cancel`; an answer that is cut short is
/// cancelled by being dropped.
pub(super) async fn deliver(
    mut answer: Answer,
    sink: &mut Sink,
    cancel: &CancellationToken,
    progress: &Progress,
) -> Ending {
    loop {
        let event = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled("the request was cancelled")),
            () = sink.abandoned() => return Err(cancelled("the reader closed its end")),
            event = answer.next() => event.unwrap_or_else(cut_short),
        };
        progress.note(&event);
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled("the request was cancelled")),
            taken = sink.take(&event) => taken?,
        }
        match event {
            Event::Done(done) => return Ok(done),
            Event::Error { error } => return Err(error),
            Event::Queued { .. }
            | Event::Prefill { .. }
            | Event::Reasoning { .. }
            | Event::Delta { .. }
            | Event::ToolCall { .. }
            | Event::ToolArguments { .. }
            | Event::Embedding { .. }
            | Event::Scored { .. } => {}
        }
    }
}

impl Sink {
    /// Returns when nobody reads any more.
    async fn abandoned(&self) {
        match self {
            // Whoever waits for a reply leaves by leaving the bus.
            Self::Reply(_) => std::future::pending().await,
            Self::Descriptor(descriptor) => descriptor.abandoned().await,
        }
    }

    async fn take(&mut self, event: &Event) -> Result<(), ApiError> {
        match self {
            Self::Reply(reply) => append(reply, event),
            Self::Descriptor(descriptor) => descriptor.take(event).await,
        }
    }
}

fn append(reply: &mut String, event: &Event) -> Result<(), ApiError> {
    let Event::Delta { text } = event else {
        return Ok(());
    };
    if reply.len().saturating_add(text.len()) > REPLY_BYTES_MAX {
        let message = format!("the answer is longer than {REPLY_BYTES_MAX} bytes");
        return Err(ApiError::new(ErrorCode::Unsupported, message)
            .param("max_tokens")
            .hint("use Stream, which has no such bound"));
    }
    reply.push_str(text);
    Ok(())
}

impl Descriptor {
    /// A socket pair: hobd's end, and the caller's. The caller's end blocks, as simple programs
    /// expect; whoever wants otherwise sets it so.
    pub(super) fn pair(format: Format, stall_timeout: Duration) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        let descriptor = Self {
            socket: ours,
            format,
            stall_timeout,
            broken_off: false,
            ended: false,
        };
        Ok((descriptor, theirs.into()))
    }

    /// Returns when the caller closes its end, or writes to it, which nobody should.
    async fn abandoned(&self) {
        loop {
            if self.socket.readable().await.is_err() {
                return;
            }
            match self.socket.try_read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    async fn take(&mut self, event: &Event) -> Result<(), ApiError> {
        match (self.format, event) {
            (Format::Text, Event::Delta { text }) => self.write(text.as_bytes()).await,
            (Format::Text, _) => Ok(()),
            (Format::Events, event) => {
                self.write(&event_line(event)).await?;
                self.ended = event.is_terminal();
                Ok(())
            }
        }
    }

    /// Writes a whole record. The kernel takes a small one all at once or not at all, so even a
    /// reader whose request is cancelled meanwhile gets no half character.
    async fn write(&mut self, record: &[u8]) -> Result<(), ApiError> {
        let mut rest = record;
        while !rest.is_empty() {
            let writable = tokio::time::timeout(self.stall_timeout, self.socket.writable()).await;
            if writable.is_err() {
                let seconds = self.stall_timeout.as_secs();
                return Err(cancelled(&format!(
                    "the reader took nothing for {seconds} s"
                )));
            }
            match self.socket.try_write(rest) {
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    self.broken_off = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(cancelled("the reader closed its end")),
            }
        }
        Ok(())
    }

    /// Ends the stream. `events` get their last record if they have none, unless the reader has
    /// no room for it; then comes the end of the file, which without a last record means failure.
    pub(super) fn close(self, ending: &Ending) {
        let Err(error) = ending else { return };
        if self.format == Format::Events && !self.ended && !self.broken_off {
            let error = error.clone();
            // One try without waiting: whoever is gone or full learns of it by the end.
            let _ = self.socket.try_write(&event_line(&Event::Error { error }));
        }
    }
}

fn cut_short() -> Event {
    Event::Error {
        error: ApiError::new(ErrorCode::Internal, "the answer ended without a reason"),
    }
}

fn cancelled(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Cancelled, message)
}
