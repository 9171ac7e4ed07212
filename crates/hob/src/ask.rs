//! `hob "question"`: one question, one answer.

use hob_api::chat::Role;
use hob_api::event::{Done, FinishReason, Timings, Usage};
use serde::Serialize;

use crate::answer::{self, End};
use crate::clean::escape_json;
use crate::cli::{Asking, Format, Global};
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::render;

/// What `--json` writes for an answer.
#[derive(Debug, Serialize)]
struct JsonAnswer<'a> {
    text: &'a str,
    finish_reason: FinishReason,
    usage: Usage,
    timings: Timings,
    model: &'a str,
}

/// What `--json` writes for a failure.
#[derive(Debug, Serialize)]
struct JsonFailure<'a> {
    error: JsonError<'a>,
}

/// The failure, and what came of the answer before it.
#[derive(Debug, Serialize)]
struct JsonError<'a> {
    exit_code: u8,
    message: &'a str,
    hint: Option<&'a str>,
    partial_text: &'a str,
}

/// Asks and writes the answer.
///
/// # Errors
/// No daemon, its error, or stdout's.
pub(crate) async fn run(
    question: String,
    asking: &Asking,
    format: Format,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    if format.raw && output.stdout_is_terminal() {
        return Err(Failure::usage("--raw does not write to a terminal")
            .hint("the answer may hold escape sequences; send it to a file or a pipe"));
    }
    let mut text = String::new();
    let end = exchange(question, asking, format, global, output, &mut text).await;
    if format.json {
        let end = end.and_then(|end| match end {
            End::Done(done) => Ok(done),
            End::Stopped => Err(Failure::new("stopped by Ctrl-C").status(ExitStatus::Interrupted)),
        });
        return write_json(&text, &end, output);
    }
    // What came stays readable, whatever ended it.
    if !format.raw && !text.is_empty() && !text.ends_with('\n') {
        output.write("\n")?;
    }
    match end? {
        End::Stopped => {
            if text.is_empty() {
                output.write("\n")?;
            }
            Ok(ExitStatus::Interrupted)
        }
        End::Done(done) => {
            if let Some(remark) = render::incomplete(done.reason) {
                output.remark(remark);
            }
            if global.verbose {
                output.remark(&render::cost(&done.usage, &done.timings));
            }
            Ok(ExitStatus::Success)
        }
    }
}

async fn exchange(
    question: String,
    asking: &Asking,
    format: Format,
    global: &Global,
    output: &mut Output,
    text: &mut String,
) -> Result<End, Failure> {
    let client = Client::find(global.socket.as_deref()).await?;
    if global.verbose {
        output.remark(&format!("(hobd on {})", client.socket().display()));
    }
    let mut messages = Vec::new();
    if let Some(system) = &asking.system {
        messages.push(answer::message(Role::System, system));
    }
    messages.push(answer::message(Role::User, question));
    let request = answer::request(messages, asking);
    answer::stream(&client, &request, output, text, |output, piece| {
        match (format.json, format.raw) {
            (true, _) => Ok(()),
            (_, true) => output.write(piece),
            (_, false) => output.write_clean(piece),
        }
    })
    .await
}

/// One JSON object, whether the answer is complete or not.
fn write_json(
    text: &str,
    end: &Result<Done, Failure>,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let (json, status) = match end {
        Ok(done) => {
            let answer = JsonAnswer {
                text,
                finish_reason: done.reason,
                usage: done.usage,
                timings: done.timings,
                model: &done.model,
            };
            (to_json(&answer), ExitStatus::Success)
        }
        Err(failure) => {
            let error = JsonError {
                exit_code: failure.status.code(),
                message: &failure.message,
                hint: failure.hint.as_deref(),
                partial_text: text,
            };
            (to_json(&JsonFailure { error }), failure.status)
        }
    };
    output.write(&json?)?;
    Ok(status)
}

/// `value` as indented JSON with a newline, fit for a terminal.
///
/// # Errors
/// Only if a value can't be expressed in JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(format!("JSON could not be written: {error}")))?;
    Ok(escape_json(&json) + "\n")
}
