//! `hob`: the command line of hobd, the assistant on this board.
//!
//! [`cli`] parses, [`client`] talks to the daemon, [`answer`] gets one answer, and [`ask`],
//! [`chat`], [`status`] and [`doctor`] are the commands. Whatever others made (the model, the
//! daemon, a file) passes [`clean`] before a terminal sees it, and everything is written by
//! [`output`].

mod answer;
mod ask;
mod chat;
mod clean;
mod cli;
mod client;
mod doctor;
mod exit;
mod failure;
mod generate;
mod lines;
mod models;
mod output;
mod question;
mod render;
mod status;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime::Runtime;

use crate::cli::{Asking, Cli, Command, Format, Generate, Global};
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
    cli.check()?;
    let Cli {
        command,
        question,
        asking,
        format,
        global,
    } = cli;
    match command {
        None if question.is_empty() && io::stdin().is_terminal() => {
            chat::run(&runtime()?, asking, &global, output)
        }
        None => ask(&question, &asking, format, &global, output),
        Some(Command::Chat { asking: inner }) => {
            chat::run(&runtime()?, inner.or(asking), &global, output)
        }
        Some(Command::Ask {
            question,
            asking: inner,
            format: inner_format,
        }) => ask(
            &question,
            &inner.or(asking),
            inner_format.or(format),
            &global,
            output,
        ),
        Some(Command::Status { json }) => runtime()?.block_on(status::run(json, &global, output)),
        Some(Command::Doctor { json }) => runtime()?.block_on(doctor::run(json, &global, output)),
        Some(Command::Models { command, options }) => {
            models::run(command, &options, output).map(|_| ExitStatus::Success)
        }
        Some(Command::Completions { shell }) => {
            generate::completions(shell, output).map(|()| ExitStatus::Success)
        }
        Some(Command::Generate {
            what: Generate::Man { folder },
        }) => generate::man(&folder).map(|()| ExitStatus::Success),
    }
}

fn ask(
    words: &[String],
    asking: &Asking,
    format: Format,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let question = question::read(words, output)?;
    runtime()?.block_on(ask::run(question, asking, format, global, output))
}

/// One thread is enough for one question; a chat reads its lines between the runs of this.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the runtime could not be started", &error))
}
