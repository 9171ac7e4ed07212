//! `hob`: the command line of hobd, the assistant on this board.
//!
//! [`cli`] parses, [`client`] talks to the daemon, [`mod@answer`] gets one answer, and [`mod@ask`],
//! [`mod@decide`], [`chat`], [`mod@conversations`], [`mod@pins`],
//! [`mod@home`], [`providers`], [`evaluate`], [`status`], [`doctor`], [`mod@plan`], [`tune`] and [`fairness`] are the commands.
//! [`engine`] and [`daemon`] are those that work on models start for themselves. Whatever others made (the model, the
//! daemon, a file) passes [`clean`] before a terminal sees it, and everything is written by
//! [`output`].

mod answer;
mod ask;
mod chat;
mod clean;
mod cli;
mod client;
mod conversations;
mod daemon;
mod decide;
mod doctor;
mod engine;
mod evaluate;
mod exit;
mod failure;
mod fairness;
mod generate;
mod home;
mod interrupt;
mod kept;
mod lines;
mod models;
mod output;
mod page;
mod pins;
mod plan;
mod providers;
mod question;
mod render;
mod source;
mod status;
mod table;
mod terminal;
mod tune;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use hob_models::locations::{Scope, socket_path};
use tokio::runtime::Runtime;

use crate::cli::{Asking, Cli, Command, Format, Generate, Global, Keeping};
use crate::client::Client;
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
            chat::run(&runtime()?, asking, &Keeping::default(), &global, output)
        }
        None => ask(&question, &asking, format, &global, output),
        Some(Command::Chat {
            keeping,
            asking: inner,
        }) => chat::run(&runtime()?, inner.or(asking), &keeping, &global, output),
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
        Some(Command::Decide(deciding)) => {
            let state = question::read(&deciding.text, output)?;
            runtime()?.block_on(decide::run(state, deciding, &global, output))
        }
        Some(Command::Conversations { command }) => {
            runtime()?.block_on(conversations::run(command, &global, output))
        }
        Some(Command::Status { json, watch }) => {
            runtime()?.block_on(status::run(json, watch, &global, output))
        }
        Some(Command::Pins { command }) => runtime()?.block_on(pins::run(command, &global, output)),
        Some(Command::Home(arguments)) => {
            runtime()?.block_on(home::run(arguments, &global, output))
        }
        Some(Command::Providers { command }) => {
            runtime()?.block_on(providers::run(command, &global, output))
        }
        Some(Command::Evaluate { command }) => {
            runtime()?.block_on(evaluate::run(command, &global, output))
        }
        Some(Command::Doctor { json, plan }) if plan.plan => {
            runtime()?.block_on(plan::run(&plan, json, &global, output))
        }
        Some(Command::Doctor { json, .. }) => {
            runtime()?.block_on(doctor::run(json, &global, output))
        }
        Some(Command::Tune(options)) => runtime()?.block_on(tune::run(options, &global, output)),
        Some(Command::Models { command, options }) => {
            let outcome = models::run(command, &options, output)?;
            let scope = if options.system {
                Scope::System
            } else {
                Scope::User
            };
            // The other scope's daemon has models of its own.
            let socket = global.socket.or_else(|| socket_path(scope).ok());
            if let (Some(name), Some(socket)) = (outcome.default_changed, &socket) {
                runtime()?.block_on(tell_daemon(name.as_str(), socket, output));
            }
            if let (Some(name), Some(socket)) = (outcome.removed, &socket) {
                runtime()?.block_on(say_if_loaded(name.as_str(), socket, output));
            }
            Ok(ExitStatus::Success)
        }
        Some(Command::Fairness { command, options }) => fairness::run(command, &options, output),
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

/// Lets a daemon that runs load the new default model. The store has it in any case, so that a
/// daemon that does not run, or may not be told, is worth a remark at most.
async fn tell_daemon(name: &str, socket: &Path, output: &mut Output) {
    let Ok(client) = Client::find(Some(socket)).await else {
        return;
    };
    let told = chat::load(&client, name, output).await;
    match told {
        Ok(false) => output.remark(&format!("(hobd has loaded {name})")),
        Ok(true) => output.remark("(stopped waiting; hobd may still be loading it)"),
        Err(failure) => {
            output.remark(&format!("(the running hobd did not load it: {failure})"));
        }
    }
}

/// Says so if a daemon goes on answering with a model that was removed: it holds the file open.
async fn say_if_loaded(name: &str, socket: &Path, output: &mut Output) {
    let Ok(client) = Client::find(Some(socket)).await else {
        return;
    };
    let Ok(status) = client.status().await else {
        return;
    };
    let loaded = status.engine.and(status.model);
    if loaded.is_some_and(|model| model.name == name) {
        output.remark(&format!(
            "(the running hobd answers with {name} until another model is loaded or it is restarted)"
        ));
    }
}

/// One thread is enough for one question; a chat reads its lines between the runs of this.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the runtime could not be started", &error))
}
