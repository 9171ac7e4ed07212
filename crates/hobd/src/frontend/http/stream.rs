//! Answers as they come: as server-sent events in `OpenAI`'s shapes, or as hob's own events, one
//! a line; and answers gathered into one object.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hob_api::error::ErrorBody;
use hob_api::tools::{FunctionCall, ToolCall, ToolKind};
use hob_api::{ApiError, ErrorCode, Event};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::openai::{Heading, Said, Whole};
use super::reply;
use crate::frontend::event_line;

/// How long the head of a streamed answer waits for the first text, so that an early error still
/// gets its own status.
const HEAD_DELAY_MAX: Duration = Duration::from_secs(1);
/// The same for hob's own events: shorter, as their reader shows progress to somebody.
const LINES_DELAY_MAX: Duration = Duration::from_millis(200);
/// Events that may gather meanwhile.
const EARLY_EVENTS_MAX: usize = 16;
/// Silence after which a client is told that its answer is still being worked on.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Longest answer that is gathered, in bytes: far above any that `max_tokens` allows, so that an
/// engine gone wrong can't fill hobd's memory.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The events of one answer.
pub(super) trait Events: Stream<Item = Event> + Unpin + Send + 'static {}
impl<S: Stream<Item = Event> + Unpin + Send + 'static> Events for S {}

/// Waits for the end of the answer and gives it whole.
///
/// # Errors
/// What the answer's last event says.
pub(super) async fn gathered(
    mut events: impl Events,
    heading: impl FnOnce() -> Heading,
) -> Result<Whole, ApiError> {
    let mut said = Said::default();
    let mut bytes = 0_usize;
    while let Some(event) = events.next().await {
        bytes = bytes.saturating_add(match &event {
            Event::Reasoning { text }
            | Event::Delta { text }
            | Event::ToolArguments { text, .. } => text.len(),
            Event::ToolCall { name, .. } => name.len(),
            _ => 0,
        });
        if bytes > ANSWER_BYTES_MAX {
            return Err(too_long());
        }
        match event {
            Event::Queued { .. }
            | Event::Prefill { .. }
            | Event::Embedding { .. }
            | Event::Scored { .. } => {}
            Event::Reasoning { text } => said.reasoning.push_str(&text),
            Event::Delta { text } => said.text.push_str(&text),
            Event::ToolCall { id, name, .. } => said.calls.push(ToolCall {
                id,
                kind: ToolKind::Function,
                function: FunctionCall {
                    name,
                    arguments: String::new(),
                },
            }),
            Event::ToolArguments { text, .. } => {
                if let Some(call) = said.calls.last_mut() {
                    call.function.arguments.push_str(&text);
                }
            }
            Event::Done(done) => return Ok(heading().whole(said, done)),
            Event::Error { error } => return Err(error),
        }
    }
    Err(cut())
}

/// The answer as events, one JSON object a line, from the first one on.
///
/// # Errors
/// What the answer's last event says, if it comes before any text and at once.
pub(super) async fn event_lines(mut events: impl Events) -> Result<Response, ApiError> {
    let mut early = Vec::new();
    let deadline = Instant::now() + LINES_DELAY_MAX;
    while early.len() < EARLY_EVENTS_MAX {
        match timeout_at(deadline, events.next()).await {
            Ok(Some(Event::Error { error })) => return Err(error),
            Ok(Some(event)) => {
                let progress = matches!(event, Event::Queued { .. } | Event::Prefill { .. });
                early.push(event);
                if !progress {
                    break;
                }
            }
            Ok(None) | Err(_) => break,
        }
    }
    let lines = stream::iter(early)
        .chain(events)
        .map(|event| Ok::<_, Infallible>(Bytes::from(event_line(&event))));
    Ok(reply::body(
        "application/x-ndjson",
        Body::from_stream(lines),
    ))
}

/// The answer as server-sent events. `heading` is asked for when the model is known.
///
/// # Errors
/// What the answer's last event says, if it comes before any text and soon.
pub(super) async fn server_sent(
    mut events: impl Events,
    heading: impl FnOnce() -> Heading,
    include_usage: bool,
) -> Result<Response, ApiError> {
    let first = first_of_substance(&mut events).await;
    if let Some(Event::Error { error }) = first {
        return Err(error);
    }
    let mut stream = ServerSent {
        events,
        heading: heading(),
        include_usage,
        opened: false,
        ended: false,
        ready: VecDeque::new(),
        ping_at: Instant::now() + PING_INTERVAL,
    };
    if let Some(event) = first {
        stream.take_in(event);
    }
    let body = stream::unfold(stream, |mut stream| async {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    });
    Ok(reply::body("text/event-stream", Body::from_stream(body)))
}

/// The first text or the end, or `None` if neither comes soon.
async fn first_of_substance(events: &mut impl Events) -> Option<Event> {
    let deadline = Instant::now() + HEAD_DELAY_MAX;
    loop {
        match timeout_at(deadline, events.next()).await.ok()? {
            Some(Event::Queued { .. } | Event::Prefill { .. }) => {}
            Some(event) => return Some(event),
            None => return Some(Event::Error { error: cut() }),
        }
    }
}

/// A stream of server-sent events under way.
struct ServerSent<E> {
    events: E,
    heading: Heading,
    include_usage: bool,
    /// Whether the opening record was sent.
    opened: bool,
    /// Whether the answer's last event was read.
    ended: bool,
    /// Records of the last event that are still to be sent: at most four.
    ready: VecDeque<Bytes>,
    ping_at: Instant,
}

impl<E: Events> ServerSent<E> {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                self.ping_at = Instant::now() + PING_INTERVAL;
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            match timeout_at(self.ping_at, self.events.next()).await {
                Ok(Some(event)) => self.take_in(event),
                Ok(None) => self.take_in(Event::Error { error: cut() }),
                // A comment: clients skip it, and know that the connection lives.
                Err(_) => self.ready.push_back(Bytes::from_static(b": ping\n\n")),
            }
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            // No answer in text has any.
            Event::Embedding { .. } | Event::Scored { .. } => {}
            // Comments too, for people who watch with curl.
            Event::Queued { position } => {
                self.ready
                    .push_back(format!(": queued, {position} before\n\n").into());
            }
            Event::Prefill { processed, total } => {
                self.ready
                    .push_back(format!(": prefill {processed}/{total}\n\n").into());
            }
            Event::Reasoning { text } => {
                self.open();
                let more = self.heading.reasoning(text);
                self.ready.extend(more.as_ref().map(record));
            }
            Event::Delta { text } => {
                self.open();
                self.ready.push_back(record(&self.heading.delta(text)));
            }
            Event::ToolCall { index, id, name } => {
                self.open();
                let call = self.heading.call(index, id, name);
                self.ready.push_back(record(&call));
            }
            Event::ToolArguments { index, text } => {
                self.open();
                let more = self.heading.arguments(index, text);
                self.ready.push_back(record(&more));
            }
            Event::Done(done) => {
                self.open();
                let usage = done.usage;
                self.ready.push_back(record(&self.heading.ending(&done)));
                if self.include_usage {
                    self.ready.push_back(record(&self.heading.usage(usage)));
                }
                self.ready
                    .push_back(Bytes::from_static(b"data: [DONE]\n\n"));
                self.ended = true;
            }
            // No `[DONE]` follows: the answer is not complete. `OpenAI`'s clients raise this.
            Event::Error { error } => {
                self.ready.push_back(record(&ErrorBody { error }));
                self.ended = true;
            }
        }
    }

    fn open(&mut self) {
        if !self.opened {
            self.opened = true;
            self.ready
                .extend(self.heading.opening().as_ref().map(record));
        }
    }
}

fn record(value: &impl Serialize) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    // hob-api's types always encode. JSON has no line breaks, so one `data:` line holds it.
    if serde_json::to_writer(&mut bytes, value).is_err() {
        bytes.extend_from_slice(b"{}");
    }
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

pub(super) fn too_long() -> ApiError {
    ApiError::new(
        ErrorCode::ModelFailed,
        "the answer is longer than any answer may be",
    )
}

pub(super) fn cut() -> ApiError {
    ApiError::new(ErrorCode::Internal, "the answer ended without an end")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
