//! `hob`: the command line of hobd, the assistant on this board.
//!
//! [`cli`] parses, [`client`] talks to the daemon, [`answer`] gets one answer, and [`ask`],
//! [`chat`], [`status`] and [`doctor`] are the commands. Whatever others made (the model, the
//! daemon, a file) passes [`clean`] before a terminal sees it, and everything is written by
//! [`output`].

mod answer;
mod ask;
mod clean;
mod cli;
mod client;
mod exit;
mod failure;
mod lines;
mod output;
mod question;
mod render;

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Asking, Cli, Command};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(cli.global.color);
    let status = run(cli, &mut output).unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.status
    });
    output.clear_status();
    status.into()
}

fn run(cli: Cli, output: &mut Output) -> Result<ExitStatus, Failure> {
    let Cli {
        command,
        question,
        asking,
        format,
        global,
    } = cli;
    let (words, asking, format) = match command {
        None => (question, asking, format),
        Some(Command::Ask {
            question,
            asking: inner,
            format: inner_format,
        }) => (question, inner.or(asking), inner_format),
        _ => return Err(Failure::new("not yet")),
    };
    let question = question::read(&words, output)?;
    block_on(ask::run(question, &asking, format, &global, output))?
}

/// Runs `future` to its end on this thread. Chats read their lines between such runs.
fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the runtime could not be started", &error))?;
    Ok(runtime.block_on(future))
}
