//! The requests that hobd owes an answer, and the readers waiting for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hob_api::chat::Class;
use hob_api::event::{Done, FinishReason, Timings, Usage};
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::constraint::{Constraint, ConstraintFailure};
use hob_ipc::message::{Dialogue, FailureCode, Finished, Generate, Prompt};
use hob_ipc::{Command, RequestId};
use hob_models::ToolFormat;
use tracing::Span;

use super::metrics::Metrics;
use super::{embedding, score};
use crate::answer::{self, AnswerSender, Undelivered};
use crate::request::Calling;
use crate::{forms, output};

/// One request that is owed an answer.
#[derive(Debug)]
struct Live {
    sender: AnswerSender,
    /// What the log says of it is said within this.
    span: Span,
    /// Until it is given to the engine.
    order: Option<Order>,
    /// The model that it insists on.
    model: Option<String>,
    submitted: Instant,
    dispatched: Option<Instant>,
    /// When the first text was on its way.
    first_token: Option<Instant>,
    /// Tells what its text means, if it may be more than an answer's words.
    reader: Option<output::Reader>,
}

/// What a request asks of the engine.
#[derive(Debug)]
pub(super) enum Order {
    /// As it is.
    Whole(Command),
    /// An answer to a conversation with calls, whose form the model decides: all but prompt and
    /// constraint.
    Calling(Box<Generate>, Box<Calling>, Option<bool>),
}

impl Live {
    /// Hands on what is left of a complete answer, and says why it ended.
    fn ending(&mut self, reason: FinishReason) -> FinishReason {
        let Some(reader) = &mut self.reader else {
            return reason;
        };
        for event in reader.finish(reason == FinishReason::Length) {
            // A reader that is gone or slow gets the end, if anything.
            let _ = self.sender.progress(event);
        }
        match reason {
            FinishReason::Stop if reader.has_called() => FinishReason::ToolCalls,
            reason => reason,
        }
    }
}

/// All requests that are owed an answer. The scheduler decides; this only keeps the readers.
#[derive(Debug)]
pub(super) struct LiveRequests {
    live: HashMap<RequestId, Live>,
    metrics: Arc<Metrics>,
}

impl LiveRequests {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            live: HashMap::new(),
            metrics,
        }
    }

    pub(super) fn admit(
        &mut self,
        now: Instant,
        (id, order): (RequestId, Order),
        (uid, class): (u32, Class),
        model: Option<String>,
        sender: AnswerSender,
    ) {
        let span = tracing::info_span!("request", %id, uid, class = class.as_str());
        span.in_scope(|| tracing::debug!("handed in"));
        let live = Live {
            sender,
            span,
            model,
            submitted: now,
            dispatched: None,
            first_token: None,
            reader: None,
            order: Some(order),
        };
        self.live.insert(id, live);
    }

    /// Tells reasoning from the words of a request's answer, of which nothing has come yet.
    pub(super) fn read_output(&mut self, id: RequestId) {
        if let Some(live) = self.live.get_mut(&id) {
            live.reader = Some(output::Reader::new(id.0, None));
        }
    }

    /// Forgets a request that was not admitted after all.
    pub(super) fn withdraw(&mut self, id: RequestId, why: ErrorCode) {
        self.metrics.failed(why);
        if let Some(live) = self.live.remove(&id) {
            live.span
                .in_scope(|| tracing::debug!(code = ?why, "refused"));
        }
    }

    /// Takes the request out for the engine, whose model knows calls in this form.
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        id: RequestId,
        format: ToolFormat,
    ) -> Option<Command> {
        let live = self.live.get_mut(&id)?;
        live.dispatched = Some(now);
        let queue_ms = milliseconds(now.saturating_duration_since(live.submitted));
        live.span
            .in_scope(|| tracing::debug!(queue_ms, "dispatched"));
        match live.order.take()? {
            Order::Whole(command) => Some(command),
            Order::Calling(mut generate, calling, thinking) => {
                let given = forms::give(&calling, format, thinking);
                generate.prompt = Prompt::Dialogue(Dialogue {
                    turns: given.turns,
                    thinking,
                });
                let own = generate.constraint.is_some();
                let (rules, form) = given.answer.unzip();
                if let Some(rules) = rules {
                    generate.constraint = Some(Constraint::Calls(rules));
                }
                // A form of the caller's own is the whole answer's.
                live.reader = (!own).then(|| output::Reader::new(id.0, form));
                Some(Command::Generate(generate))
            }
        }
    }

    /// Requests that wait and insist on a model other than `name`.
    pub(super) fn insisting_on_other_than(&self, name: &str) -> Vec<(RequestId, String)> {
        let waiting = self.live.iter().filter(|(_, l)| l.order.is_some());
        let others = waiting.filter_map(|(id, l)| Some((*id, l.model.clone()?)));
        others.filter(|(_, model)| model != name).collect()
    }

    /// Hands an event to the request's reader. An answer that was ended already swallows it.
    pub(super) fn progress(&mut self, id: RequestId, event: Event) -> Result<(), ApiError> {
        let Some(live) = self.live.get_mut(&id) else {
            return Ok(());
        };
        if matches!(event, Event::Delta { .. }) && live.first_token.is_none() {
            let now = Instant::now();
            live.first_token = Some(now);
            let first_token_ms = milliseconds(now.saturating_duration_since(live.submitted));
            live.span
                .in_scope(|| tracing::debug!(first_token_ms, "first token"));
        }
        let told = match (&mut live.reader, event) {
            (Some(reader), Event::Delta { text }) => {
                let mut events = reader.push(&text).into_iter();
                events.try_for_each(|event| live.sender.progress(event))
            }
            (_, event) => live.sender.progress(event),
        };
        told.map_err(|why| match why {
            Undelivered::ReaderGone => cancelled(),
            Undelivered::ReaderTooSlow => answer::too_slow(),
        })
    }

    /// Ends an answer well.
    pub(super) fn finish(&mut self, finished: &Finished, model: &str) {
        let Some(mut live) = self.live.remove(&finished.id) else {
            return;
        };
        let reason = live.ending(finished.reason);
        let usage = Usage::new(
            finished.prompt_tokens,
            finished.cached_tokens,
            finished.completion_tokens,
        )
        .with_drafts(finished.drafted_tokens, finished.accepted_tokens)
        .with_passes(finished.forced_tokens, finished.passes);
        let dispatched = live.dispatched.unwrap_or(live.submitted);
        let queued = dispatched.saturating_duration_since(live.submitted);
        let timings = timings(finished, milliseconds(queued));
        let first_token = live.first_token.unwrap_or_else(Instant::now);
        let first_token = first_token.saturating_duration_since(live.submitted);
        self.metrics.answered(&usage, &timings, first_token);
        let _within = live.span.enter();
        tracing::info!(
            prompt_tokens = usage.prompt_tokens,
            completion_tokens = usage.completion_tokens,
            queue_ms = timings.queue_ms,
            prefill_ms = timings.prefill_ms,
            decode_ms = timings.decode_ms,
            "answered"
        );
        live.sender.finish(Event::Done(Done {
            reason,
            usage,
            timings,
            model: model.to_owned(),
            kept: None,
            home: None,
        }));
    }

    /// Ends an answer with an error.
    pub(super) fn fail(&mut self, id: RequestId, error: ApiError) {
        if let Some(live) = self.live.remove(&id) {
            live.span
                .in_scope(|| tracing::info!(code = ?error.code, "not answered"));
            self.metrics.failed(error.code);
            live.sender.fail(error);
        }
    }
}

/// The error of a request whose caller ended it.
pub(super) fn cancelled() -> ApiError {
    ApiError::new(ErrorCode::Cancelled, "the request was cancelled")
}

/// What a failure that the engine reports means to the client. The engine's own words are not
/// handed on: it parses untrusted models.
pub(super) fn failure(code: FailureCode, prompt_tokens: u32, n_ctx: u32) -> ApiError {
    match code {
        FailureCode::Cancelled => cancelled(),
        FailureCode::ContextOverflow => {
            let message = format!(
                "the prompt has {prompt_tokens} tokens or more, and the context holds {n_ctx} with the \
                 answer"
            );
            let mut error = ApiError::new(ErrorCode::ContextOverflow, message).hint(
                "shorten the prompt or start a new conversation; engine.n_ctx sets the context's \
                 size",
            );
            error.prompt_tokens = Some(prompt_tokens);
            error.n_ctx = Some(n_ctx);
            error
        }
        FailureCode::NoChatTemplate => ApiError::new(
            ErrorCode::Unsupported,
            "this model has no chat template, so it can't answer conversations",
        )
        .hint("use /v1/completions, or choose an instruction-tuned model"),
        FailureCode::Template => ApiError::new(
            ErrorCode::InvalidRequest,
            "the model's chat template refuses this conversation",
        )
        .param("messages")
        .hint("most templates want user and assistant to take turns, the user first and last"),
        FailureCode::Decode => ApiError::new(
            ErrorCode::ModelFailed,
            "the model could not process this request",
        )
        .hint("hobd's log may tell more; check the model with `hob models verify`"),
        FailureCode::Constraint(code) => unconstrained(code, ""),
        FailureCode::Embed(code) => embedding::failure(code, prompt_tokens, n_ctx),
        FailureCode::Score(code) => score::failure(code, prompt_tokens, n_ctx),
        FailureCode::Overcommitted => ApiError::new(
            ErrorCode::Internal,
            "the engine was given more requests than it takes",
        ),
        // Nothing in hobd opens texts.
        FailureCode::Text => ApiError::new(ErrorCode::Internal, "the engine lost its place"),
    }
}

/// What it means to the client that an answer can't be what it must be. `reason` is the engine's, of
/// words that the ledger has checked: they are about the client's own text, and it needs them.
pub(super) fn unconstrained(code: ConstraintFailure, reason: &str) -> ApiError {
    let (message, hint) = match code {
        ConstraintFailure::Refused => (
            format!("what the answer must be is refused: {reason}"),
            "leave out what is named, or describe the answer in another way",
        ),
        ConstraintFailure::TooComplex => (
            "what the answer must be takes more work than a request may".to_owned(),
            "use fewer alternatives, smaller bounds of repetition, or a simpler schema",
        ),
        ConstraintFailure::DeadEnd => (
            "the answer came to where nothing may follow".to_owned(),
            "look for parts of the schema or grammar that contradict each other",
        ),
        ConstraintFailure::Unsupported => {
            let message = "the answers of this model can't be constrained";
            return ApiError::new(ErrorCode::Unsupported, message)
                .hint("ask without a schema or grammar, or choose another model");
        }
    };
    ApiError::new(ErrorCode::InvalidSchema, message).hint(hint)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[allow(
    clippy::cast_precision_loss,
    reason = "microseconds and tokens of one answer are far below 2^52"
)]
fn timings(finished: &Finished, queue_ms: f64) -> Timings {
    let per_second = |tokens: u32, us: u64| match us {
        0 => 0.0,
        us => f64::from(tokens) * 1e6 / us as f64,
    };
    let computed = finished.prompt_tokens - finished.cached_tokens;
    // The first token of the answer comes from the last step of the prompt.
    let decoded = finished.completion_tokens.saturating_sub(1);
    Timings {
        queue_ms,
        prefill_ms: finished.prefill_us as f64 / 1e3,
        decode_ms: finished.decode_us as f64 / 1e3,
        prefill_per_second: per_second(computed, finished.prefill_us),
        decode_per_second: per_second(decoded, finished.decode_us),
    }
}
