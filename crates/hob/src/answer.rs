//! One question on its way: sent, waited for, streamed, stopped.

use std::time::Duration;

use hob_api::chat::{ChatRequest, Handling, Message, Role, SamplingFields};
use hob_api::event::Done;
use hob_api::format::{FormFields, ResponseFormat};
use hob_api::{ErrorCode, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::{Asking, millis};
use crate::client::{Client, ClientError};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::render;

/// Longest answer that is kept, in bytes: beyond any context.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Silence after which the daemon is asked what it does. Also keeps quick answers free of
/// flickering progress.
const SILENCE: Duration = Duration::from_millis(400);
/// How much later than the daemon hob gives up, so that the daemon's own error comes first.
const DEADLINE_GRACE: Duration = Duration::from_secs(2);
/// Shortest pause before a daemon that is not ready is asked again.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    /// It is complete.
    Done(Done),
    /// Ctrl-C.
    Stopped,
}

/// A message of `role`.
pub(crate) fn message(role: Role, text: impl Into<String>) -> Message {
    Message::text(role, text)
}

/// The request for an answer to `messages`.
pub(crate) fn request(messages: Vec<Message>, asking: &Asking) -> ChatRequest {
    ChatRequest {
        model: asking.model.clone(),
        messages,
        stream: true,
        stream_options: None,
        max_tokens: asking.max_tokens,
        max_completion_tokens: None,
        stop: None,
        sampling: SamplingFields {
            temperature: asking.temperature,
            seed: asking.seed,
            ..SamplingFields::default()
        },
        form: FormFields {
            response_format: asking.schema.clone().map(ResponseFormat::schema),
            ..FormFields::default()
        },
        tools: None,
        tool_choice: None,
        parallel_tool_calls: None,
        reasoning_effort: None,
        chat_template_kwargs: None,
        handling: Handling::default(),
        timeout_ms: asking.timeout.map(millis),
        conversation: None,
        truncate: None,
    }
}

/// Gets an answer: each piece goes to `show` as it comes, and all of them to `text`, which holds
/// what came also if this fails or is stopped.
///
/// # Errors
/// The daemon's error, a broken connection, or whatever `show` fails with.
pub(crate) async fn stream(
    client: &Client,
    request: &ChatRequest,
    output: &mut Output,
    text: &mut String,
    show: impl FnMut(&mut Output, &str) -> Result<(), Failure>,
) -> Result<End, Failure> {
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::io("Ctrl-C could not be watched for", &error))?;
    let timeout = request.timeout_ms.map(Duration::from_millis);
    let end = tokio::select! {
        done = converse(client, request, output, text, show) => done.map(End::Done),
        _ = interrupts.recv() => Ok(End::Stopped),
        failure = give_up_after(timeout) => Err(failure),
    };
    output.clear_status();
    end
}

async fn give_up_after(timeout: Option<Duration>) -> Failure {
    let Some(timeout) = timeout else {
        return std::future::pending().await;
    };
    sleep(timeout + DEADLINE_GRACE).await;
    Failure::new("the time allowed for the answer is over")
        .status(ExitStatus::Deadline)
        .hint("allow more with --timeout")
}

/// Sends the request, again while the daemon gets ready, and reads the answer.
async fn converse(
    client: &Client,
    request: &ChatRequest,
    output: &mut Output,
    text: &mut String,
    mut show: impl FnMut(&mut Output, &str) -> Result<(), Failure>,
) -> Result<Done, Failure> {
    let started = Instant::now();
    let mut answer = loop {
        match client.chat(request).await {
            Ok(answer) => break answer,
            Err(ClientError::Api(error)) if error.code == ErrorCode::NotReady => {
                // Without a time to come back at, waiting would not help.
                let Some(ms) = error.retry_after_ms else {
                    return Err((*error).into());
                };
                let status = client.status().await?;
                output.show_status(&render::waiting(None, Some(&status)));
                sleep(Duration::from_millis(ms).clamp(RETRY_MIN, RETRY_MAX)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let mut last: Option<Event> = None;
    loop {
        let event = tokio::select! {
            event = answer.next() => event?,
            () = sleep_until(Instant::now() + SILENCE) => {
                ask_after(client, last.as_ref(), text.is_empty().then_some(&mut *output)).await?;
                continue;
            }
        };
        match event {
            Some(Event::Delta { text: piece }) => {
                if text.len() + piece.len() > ANSWER_BYTES_MAX {
                    return Err(Failure::new("the answer does not end"));
                }
                text.push_str(&piece);
                show(output, &piece)?;
                last = None;
            }
            Some(Event::Done(done)) => return Ok(done),
            Some(Event::Error { error }) => return Err(error.into()),
            Some(progress) => {
                if text.is_empty() && started.elapsed() > SILENCE {
                    output.show_status(&render::waiting(Some(&progress), None));
                }
                last = Some(progress);
            }
            None => return Err(ClientError::Cut.into()),
        }
    }
}

/// Makes sure that a silent daemon is alive, and shows on `output` what it does.
async fn ask_after(
    client: &Client,
    last: Option<&Event>,
    output: Option<&mut Output>,
) -> Result<(), Failure> {
    match client.status().await {
        Ok(status) => {
            if let Some(output) = output {
                output.show_status(&render::waiting(last, Some(&status)));
            }
            Ok(())
        }
        Err(error @ ClientError::Unresponsive { .. }) => Err(error.into()),
        // A daemon that is gone takes the answer's connection with it, which says it better.
        Err(_) => Ok(()),
    }
}
