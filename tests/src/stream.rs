//! Streamed answers: server-sent events as `OpenAI`'s clients read them, and hob's own records.

use bytes::Bytes;
use hob_api::event::Done;
use hob_api::{ApiError, Event};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::wait::patiently;

/// The body of a streamed reply, cut into records. Dropping it hangs up.
#[derive(Debug)]
pub struct Stream {
    /// `None` once there is nothing more to read.
    body: Option<Incoming>,
    pending: Vec<u8>,
    separator: &'static [u8],
}

/// A whole answer, put together from hob's own records.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Names and arguments of the calls that it makes.
    pub calls: Vec<(String, String)>,
    /// What came before as reasoning.
    pub reasoning: String,
    /// All deltas.
    pub text: String,
    /// How it ended.
    pub end: Option<Result<Done, ApiError>>,
}

impl Stream {
    pub(crate) fn new(body: Incoming, content_type: &str) -> Self {
        let separator: &[u8] = if content_type.starts_with("text/event-stream") {
            b"\n\n"
        } else {
            assert!(
                content_type.starts_with("application/x-ndjson"),
                "not a stream: {content_type}"
            );
            b"\n"
        };
        Self {
            body: Some(body),
            pending: Vec::new(),
            separator,
        }
    }

    /// The stream of hob's own records that an answer would have been which failed before it
    /// began, and so came as an HTTP error.
    pub(crate) fn refused(error: ApiError) -> Self {
        let event = Event::Error { error };
        let mut pending = serde_json::to_vec(&event).expect("events can be encoded");
        pending.push(b'\n');
        Self {
            body: None,
            pending,
            separator: b"\n",
        }
    }

    /// The next record's text without its framing; `None` at the end of the body.
    ///
    /// # Panics
    /// If the connection breaks, or the body ends inside a record.
    pub async fn record(&mut self) -> Option<String> {
        loop {
            if let Some(record) = self.cut() {
                return Some(record);
            }
            let frame = match self.body.as_mut() {
                Some(body) => patiently("the next record", body.frame()).await,
                None => None,
            };
            match frame {
                Some(Ok(frame)) => {
                    let data: Bytes = frame.into_data().unwrap_or_default();
                    self.pending.extend_from_slice(&data);
                }
                Some(Err(error)) => panic!("the stream broke: {error}"),
                None => {
                    assert!(
                        self.pending.is_empty(),
                        "the stream ends inside a record: {:?}",
                        String::from_utf8_lossy(&self.pending)
                    );
                    return None;
                }
            }
        }
    }

    fn cut(&mut self) -> Option<String> {
        loop {
            let at = self
                .pending
                .windows(self.separator.len())
                .position(|window| window == self.separator)?;
            let mut record: Vec<u8> = self.pending.drain(..at + self.separator.len()).collect();
            record.truncate(at);
            let record = String::from_utf8(record).expect("records are UTF-8");
            // Lines that begin with a colon are comments, which keep a connection alive.
            if self.separator == b"\n" {
                return Some(record);
            }
            if let Some(data) = record.strip_prefix("data:") {
                return Some(data.trim_start().to_owned());
            }
            assert!(record.starts_with(':'), "not an event: {record:?}");
        }
    }

    /// The next record as JSON; `None` at the end of the body, or at `[DONE]`.
    ///
    /// # Panics
    /// As [`Stream::record`], and if the record is not a `T`.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Option<T> {
        let record = self.record().await?;
        if record == "[DONE]" {
            assert_eq!(self.record().await, None, "records after [DONE]");
            return None;
        }
        Some(
            serde_json::from_str(&record)
                .unwrap_or_else(|error| panic!("unexpected record: {error}: {record}")),
        )
    }

    /// Reads hob's own records up to the first delta, and returns its text.
    ///
    /// # Panics
    /// As [`Stream::record`], and if the answer ends before.
    pub async fn first_delta(&mut self) -> String {
        loop {
            match self.json::<Event>().await {
                Some(Event::Delta { text }) => return text,
                Some(event) if !event.is_terminal() => {}
                other => panic!("the answer ends before its first delta: {other:?}"),
            }
        }
    }

    /// The rest of the answer in hob's own records.
    ///
    /// # Panics
    /// As [`Stream::record`], and unless there is exactly one terminal record, as the last.
    pub async fn answer(mut self) -> Answer {
        let mut answer = Answer::default();
        while let Some(event) = self.json::<Event>().await {
            assert!(answer.end.is_none(), "{event:?} after the terminal record");
            match event {
                Event::Queued { .. } | Event::Prefill { .. } => {}
                Event::Embedding { .. } | Event::Scored { .. } => panic!("numbers in an answer"),
                Event::ToolCall { name, .. } => answer.calls.push((name, String::new())),
                Event::ToolArguments { index, text } => {
                    assert_eq!(index as usize + 1, answer.calls.len());
                    if let Some((_, arguments)) = answer.calls.last_mut() {
                        arguments.push_str(&text);
                    }
                }
                Event::Reasoning { text } => {
                    assert!(!text.is_empty(), "an empty piece of reasoning");
                    assert!(answer.text.is_empty() && answer.calls.is_empty());
                    answer.reasoning.push_str(&text);
                }
                Event::Delta { text } => {
                    assert!(!text.is_empty(), "an empty delta");
                    answer.text.push_str(&text);
                }
                Event::Done(done) => answer.end = Some(Ok(done)),
                Event::Error { error } => answer.end = Some(Err(error)),
            }
        }
        assert!(answer.end.is_some(), "no terminal record: {answer:?}");
        answer
    }
}

impl Answer {
    /// The end of an answer that must be complete.
    ///
    /// # Panics
    /// If it failed.
    pub fn done(&self) -> &Done {
        match &self.end {
            Some(Ok(end)) => end,
            other => panic!("not complete: {other:?}"),
        }
    }

    /// The error of an answer that must have failed.
    ///
    /// # Panics
    /// If it did not.
    pub fn error(&self) -> &ApiError {
        match &self.end {
            Some(Err(error)) => error,
            other => panic!("not failed: {other:?}"),
        }
    }
}
