//! One answer's way from the daemon to a front door.
//!
//! The two ends enforce hob's promise in their types: [`AnswerSender::finish`] consumes the
//! sender, so there is one terminal event, and dropping [`Answer`] cancels the request.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use hob_api::home::HomeAnswer;
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::RequestId;
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for a reader. At one token each this is a few seconds of a fast answer,
/// beyond what the reader's socket holds.
pub const PENDING_EVENTS_MAX: usize = 512;

/// The reader's end of one answer. Dropping it before the terminal event cancels the request.
#[derive(Debug)]
pub struct Answer {
    id: RequestId,
    progress: mpsc::Receiver<Event>,
    terminal: Option<oneshot::Receiver<Event>>,
    /// What is told at the end of what was said at home.
    home: Option<Box<HomeAnswer>>,
    cancel: CancelOnDrop,
}

/// The daemon's end of one answer.
#[derive(Debug)]
pub struct AnswerSender {
    progress: mpsc::Sender<Event>,
    terminal: oneshot::Sender<Event>,
}

/// Why progress could not be handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// [`PENDING_EVENTS_MAX`] events wait already: the reader is too slow.
    ReaderTooSlow,
    /// The reader is gone.
    ReaderGone,
}

#[derive(Debug)]
struct CancelOnDrop {
    id: RequestId,
    /// Unbounded, yet holds at most one message per admitted request, and those are bounded.
    cancelled: Option<mpsc::UnboundedSender<RequestId>>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancelled) = self.cancelled.take() {
            // A daemon that is gone has nothing left to cancel.
            let _ = cancelled.send(self.id);
        }
    }
}

/// Both ends of the answer to request `id`; `cancelled` hears of it if the reader's end is
/// dropped early.
pub fn channel(
    id: RequestId,
    cancelled: mpsc::UnboundedSender<RequestId>,
) -> (AnswerSender, Answer) {
    let (progress_sender, progress) = mpsc::channel(PENDING_EVENTS_MAX);
    let (terminal_sender, terminal) = oneshot::channel();
    let sender = AnswerSender {
        progress: progress_sender,
        terminal: terminal_sender,
    };
    let answer = Answer {
        id,
        progress,
        terminal: Some(terminal),
        home: None,
        cancel: CancelOnDrop {
            id,
            cancelled: Some(cancelled),
        },
    };
    (sender, answer)
}

/// Both ends of an answer that passes on another one, under that one's number: whoever passes it
/// on drops the other when [`AnswerSender::reader_gone`] returns.
pub(crate) fn relay(id: RequestId) -> (AnswerSender, Answer) {
    let (nobody, _) = mpsc::unbounded_channel();
    channel(id, nobody)
}

/// The error of a request whose reader does not keep up.
pub(crate) fn too_slow() -> ApiError {
    ApiError::new(
        ErrorCode::Cancelled,
        "the client reads its answer too slowly",
    )
    .hint("read events as they come")
}

impl Answer {
    /// The request that this answers.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The same answer, which tells at its end how what was said at home was read.
    #[must_use]
    pub(crate) fn about(mut self, home: HomeAnswer) -> Self {
        self.home = Some(Box::new(home));
        self
    }
}

/// Progress events, then exactly one terminal event, then the end.
impl Stream for Answer {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Poll::Ready(Some(event)) = self.progress.poll_recv(cx) {
            return Poll::Ready(Some(event));
        }
        // The terminal event is sent after all progress, but on another channel: look at it only
        // when the sender's end of progress is gone too, so that nothing is overtaken.
        if !self.progress.is_closed() || !self.progress.is_empty() {
            return Poll::Pending;
        }
        let Some(terminal) = self.terminal.as_mut() else {
            return Poll::Ready(None);
        };
        let Poll::Ready(event) = Pin::new(terminal).poll(cx) else {
            return Poll::Pending;
        };
        self.terminal = None;
        self.cancel.cancelled = None;
        let mut event = event.unwrap_or_else(|_| Event::Error {
            error: ApiError::new(ErrorCode::Internal, "hobd lost track of this request"),
        });
        if let (Event::Done(done), Some(home)) = (&mut event, self.home.take()) {
            done.home = Some(home);
        }
        Poll::Ready(Some(event))
    }
}

impl AnswerSender {
    /// Hands on an event that is not terminal, without waiting.
    ///
    /// # Errors
    /// [`Undelivered`]; the caller then cancels the request.
    pub fn progress(&self, event: Event) -> Result<(), Undelivered> {
        debug_assert!(!event.is_terminal());
        self.progress.try_send(event).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undelivered::ReaderTooSlow,
            mpsc::error::TrySendError::Closed(_) => Undelivered::ReaderGone,
        })
    }

    /// Returns when the reader's end is dropped.
    pub(crate) async fn reader_gone(&self) {
        self.progress.closed().await;
    }

    /// Ends the answer.
    pub fn finish(self, event: Event) {
        debug_assert!(event.is_terminal());
        // A reader that is gone does not miss it.
        let _ = self.terminal.send(event);
    }

    /// Ends the answer with an error.
    pub fn fail(self, error: ApiError) {
        self.finish(Event::Error { error });
    }
}
