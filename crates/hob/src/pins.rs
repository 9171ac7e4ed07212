//! `hob pins`: what the daemon keeps ready for this user.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};
use hob_api::chat::{Message, Role};
use hob_api::pin::{PIN_OF_PROVIDER, PIN_TEXT_BYTES_MAX, Pin, PinFields, PinList, PinState};

use crate::ask::to_json;
use crate::clean::clean_line;
use crate::cli::Global;
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::bytes;
use crate::source;

/// What to do with pins.
#[derive(Debug, Subcommand)]
pub(crate) enum PinsCommand {
    /// List them
    List {
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Keep instructions ready, in place of what had the name before
    Add {
        /// A name of your choice
        name: String,
        /// A file with the instructions as text [default: stdin]
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "-")]
        file: PathBuf,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Stop keeping one ready
    Remove {
        /// Its name
        name: String,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Does what the command says.
///
/// # Errors
/// No daemon, no such pin, or what the daemon refuses.
pub(crate) async fn run(
    command: PinsCommand,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let client = Client::find(global.socket.as_deref()).await?;
    match command {
        PinsCommand::List { json } => {
            let data = client.pins().await?;
            if json {
                let object = "list".to_owned();
                output.write(&to_json(&PinList { object, data })?)?;
            } else {
                output.write(&table(&data))?;
            }
        }
        PinsCommand::Add { name, file, json } => {
            let fields = PinFields {
                messages: vec![Message::text(Role::System, read(&file, output)?)],
            };
            let pin = client.put_pin(&name, &fields).await?;
            if json {
                output.write(&to_json(&pin)?)?;
            } else {
                output.remark(&format!("(pinned {})", clean_line(&pin.name)));
            }
        }
        PinsCommand::Remove { name, json } => {
            let deleted = client.delete_pin(&name).await?;
            if json {
                output.write(&to_json(&deleted)?)?;
            } else {
                output.remark(&format!("(unpinned {})", clean_line(&deleted.name)));
            }
        }
    }
    Ok(ExitStatus::Success)
}

/// The text of a file, or of stdin for `-`.
fn read(file: &Path, output: &mut Output) -> Result<String, Failure> {
    let shown = source::shown(file);
    if source::is_stdin(file) && io::stdin().is_terminal() {
        output.remark("(type or paste the text; Ctrl-D on a line of its own ends it)");
    }
    let text = source::read(file, PIN_TEXT_BYTES_MAX)?;
    if text.len() > PIN_TEXT_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{shown} has more than {PIN_TEXT_BYTES_MAX} bytes, the most that can be pinned"
        ))
        .hint("pin the part that questions have in common"));
    }
    let mut text = String::from_utf8(text).map_err(|_| {
        Failure::usage(format!("{shown} is not UTF-8 text")).hint("give a text file")
    })?;
    // As a shell's $(…) does: instructions that a program sends end without the file's last newline.
    text.truncate(text.trim_end_matches('\n').len());
    Ok(text)
}

/// One line for each.
fn table(pins: &[Pin]) -> String {
    let mut text = String::new();
    for pin in pins {
        let name = clean_line(&pin.name);
        let whose = match (pin.shared, pin.name.starts_with(PIN_OF_PROVIDER)) {
            (_, true) => ", your provider's",
            (true, false) => ", for everybody",
            (false, false) => "",
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name:<24}  {}{whose}", state(pin));
    }
    text
}

fn state(pin: &Pin) -> String {
    let saved = if pin.saved { ", saved" } else { "" };
    match pin.state {
        PinState::Waiting => format!("waiting{saved}"),
        PinState::Reading => format!("reading, {} of {} tokens", pin.processed, pin.tokens),
        PinState::Ready => {
            let source = pin.source.map_or("", |source| source.as_str());
            format!(
                "ready, {} tokens, {}, {source}{saved}",
                pin.tokens,
                bytes(pin.bytes)
            )
        }
        PinState::Failed => {
            let problem = pin.problem.as_deref().unwrap_or("no reason given");
            format!("failed: {}", clean_line(problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_api::pin::PinSource;

    #[test]
    fn a_table_for_people() {
        let pin = |name: &str, state| Pin {
            name: name.to_owned(),
            state,
            processed: 64,
            tokens: 2000,
            ..Pin::default()
        };
        let ready = Pin {
            bytes: 47 << 20,
            source: Some(PinSource::Restored),
            saved: true,
            shared: true,
            ..pin("persona", PinState::Ready)
        };
        let failed = Pin {
            problem: Some("no \u{1b}[2Jroom".to_owned()),
            ..pin("z", PinState::Failed)
        };
        let pins = [
            ready,
            pin("b", PinState::Reading),
            pin("w", PinState::Waiting),
            pin("provider:house", PinState::Waiting),
            failed,
        ];
        insta::assert_snapshot!(table(&pins), @r"
        persona                   ready, 2000 tokens, 47.0 MiB, restored, saved, for everybody
        b                         reading, 64 of 2000 tokens
        w                         waiting
        provider:house            waiting, your provider's
        z                         failed: no ␛[2Jroom
        ");
    }
}
