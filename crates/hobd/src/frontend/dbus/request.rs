//! `org.hobd.Hob1.Request`: one request under way, to the eyes of its caller alone.

#![allow(
    clippy::doc_markdown,
    reason = "members' comments are served to bus clients as plain text"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "zbus hands headers over by value"
)]

use std::collections::HashMap;
use std::sync::Arc;

use hob_api::event::Done;
use hob_api::home::Outcome;
use hob_api::{ApiError, ErrorCode};
use tokio_util::sync::CancellationToken;
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, Variant, fdo, interface};

use super::callers::Place;
use super::delivery::{Ending, Progress};
use super::failure::{Failure, without_nul};
use super::homes;

/// What a reply or a signal tells beside its main value.
pub(super) type Details = HashMap<&'static str, Variant<'static>>;

/// The object. It holds no answer: cancelling is all that can be done to it.
#[derive(Debug)]
pub(super) struct Request {
    caller: OwnedUniqueName,
    cancel: CancellationToken,
    progress: Arc<Progress>,
}

#[interface(name = "org.hobd.Hob1.Request")]
impl Request {
    /// Ends the request. `Finished` follows, with outcome 2 unless the answer was complete
    /// already. The object exists until `Finished`, and for its caller alone: to any other it is
    /// UnknownObject, and so it is to its caller afterwards.
    fn cancel(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<()> {
        check_caller(&self.caller, Some(&header))?;
        self.cancel.cancel();
        Ok(())
    }

    /// How far the request is: 0 unknown, 1 queued, 2 reading the prompt, 3 answering. No signal
    /// tells of changes; a stream of format `events` has them as they happen.
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self, #[zbus(header)] header: Option<Header<'_>>) -> fdo::Result<u32> {
        check_caller(&self.caller, header.as_ref())?;
        Ok(self.progress.state())
    }

    /// How many requests are before this one; 0 unless queued.
    #[zbus(property(emits_changed_signal = "false"))]
    fn position(&self, #[zbus(header)] header: Option<Header<'_>>) -> fdo::Result<u32> {
        check_caller(&self.caller, header.as_ref())?;
        Ok(self.progress.position())
    }

    /// The request ended; sent to its caller alone, after the last byte of the answer was written
    /// to the file descriptor. Requests by Ask have none, as the reply tells all.
    ///
    /// `outcome` is 0 unknown, 1 done, 2 cancelled (by `Cancel`, by the reader who closed the file
    /// descriptor or stopped reading, or by an administrator), 3 failed.
    ///
    /// With outcome 1 `details` are those of the method Ask. Otherwise they are `error s`, the
    /// name of a D-Bus error, and `message s`, the cause.
    #[zbus(signal)]
    async fn finished(
        emitter: &SignalEmitter<'_>,
        outcome: u32,
        details: Details,
    ) -> zbus::Result<()>;
}

impl Request {
    /// The object at `place`, for as long as the [`Published`] lives on; `None` if there is one
    /// already.
    pub(super) async fn publish(
        connection: &Connection,
        place: Place,
    ) -> Result<Published, ApiError> {
        let progress = Arc::new(Progress::default());
        let object = Self {
            caller: place.caller().clone(),
            cancel: place.cancel().clone(),
            progress: Arc::clone(&progress),
        };
        match connection.object_server().at(place.path(), object).await {
            Ok(None) => Ok(Published {
                connection: connection.clone(),
                place,
                progress,
            }),
            Ok(Some(_)) | Err(_) => Err(ApiError::new(
                ErrorCode::Internal,
                "the request's object could not be made",
            )),
        }
    }
}

/// A foreign object is as one that does not exist.
pub(super) fn check_caller(
    caller: &OwnedUniqueName,
    header: Option<&Header<'_>>,
) -> fdo::Result<()> {
    let sender = header.and_then(|header| header.sender());
    if sender.is_some_and(|sender| sender.as_str() == caller.as_str()) {
        return Ok(());
    }
    let path = header.and_then(|header| header.path());
    let path = path.map(zbus::ObjectPath::as_str).unwrap_or_default();
    // The words that the object server itself has for it.
    Err(fdo::Error::UnknownObject(format!(
        "Unknown object '{path}'"
    )))
}

/// A request that can be seen on the bus.
#[derive(Debug)]
pub(super) struct Published {
    connection: Connection,
    place: Place,
    progress: Arc<Progress>,
}

impl Published {
    pub(super) fn cancel(&self) -> &CancellationToken {
        self.place.cancel()
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(super) fn path(&self) -> String {
        self.place.path()
    }

    /// Takes the object off the bus, then tells the caller how the request ended.
    pub(super) async fn finish(mut self, ending: &Ending) {
        let path = self.path();
        let caller = self.place.caller().clone();
        let (outcome, details) = describe(ending, &path);
        self.remove().await;
        self.place.release();
        let emitter = SignalEmitter::new(&self.connection, path.as_str())
            .map(|emitter| emitter.set_destination(BusName::Unique(caller.into_inner())));
        if let Ok(emitter) = emitter {
            // A caller, or a bus, that is gone does not miss it.
            let _ = Request::finished(&emitter, outcome, details).await;
        }
    }

    /// Takes the object off the bus.
    pub(super) async fn remove(&self) {
        let server = self.connection.object_server();
        if let Err(error) = server.remove::<Request, _>(self.path()).await {
            tracing::warn!(%error, "a request's object could not be removed");
        }
    }
}

fn describe(ending: &Ending, path: &str) -> (u32, Details) {
    match ending {
        Ok(completed) => (1, completed_details(completed, path)),
        Err(error) => {
            let outcome = if error.code == ErrorCode::Cancelled {
                2
            } else {
                3
            };
            let failure = Failure::from(error.clone());
            let details = Details::from([
                ("error", Variant::from(failure.name())),
                ("message", Variant::from(failure.into_text())),
            ]);
            (outcome, details)
        }
    }
}

/// What a complete answer tells about itself, documented at `Ask`.
pub(super) fn completed_details(completed: &Done, path: &str) -> Details {
    let Done {
        reason,
        usage,
        timings,
        model,
        kept,
        home,
    } = completed;
    let mut home_details = home.as_deref().map(homes::done_details).unwrap_or_default();
    if home
        .as_ref()
        .is_some_and(|home| home.outcome != Outcome::Talk)
    {
        // No model took part.
        home_details.insert("request", object_path(path));
        return home_details;
    }
    let reason = match reason {
        hob_api::event::FinishReason::Stop => "stop",
        hob_api::event::FinishReason::Length => "length",
        hob_api::event::FinishReason::ToolCalls => "tool_calls",
    };
    let cached = usage.prompt_tokens_details.cached_tokens;
    let mut details = Details::from([
        ("finish_reason", Variant::from(reason)),
        ("model", Variant::from(without_nul(model.clone()))),
        ("prompt_tokens", Variant::from(usage.prompt_tokens)),
        ("completion_tokens", Variant::from(usage.completion_tokens)),
        ("cached_tokens", Variant::from(cached)),
        ("queue_ms", Variant::from(timings.queue_ms)),
        ("prefill_ms", Variant::from(timings.prefill_ms)),
        ("decode_ms", Variant::from(timings.decode_ms)),
        ("request", object_path(path)),
    ]);
    if let Some(kept) = kept {
        details.extend([
            ("conversation", Variant::from(kept.conversation.clone())),
            ("stored", Variant::from(kept.stored)),
            ("dropped_turns", Variant::from(kept.dropped_turns)),
        ]);
        let problem = kept.store_problem.clone();
        details.extend(problem.map(|why| ("store_problem", Variant::from(without_nul(why)))));
    }
    details.extend(home_details);
    details
}

fn object_path(path: &str) -> Variant<'static> {
    match zbus::OwnedObjectPath::try_from(path.to_owned()) {
        Ok(path) => Variant::from(path.into_inner()),
        // Paths are made of checked parts.
        Err(_) => Variant::from(path.to_owned()),
    }
}
