//! `hob providers`: what the daemon knows of this user's home.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Subcommand, ValueHint};
use hob_api::provider::{Provider, ProviderList};

use crate::ask::to_json;
use crate::clean::clean_line;
use crate::cli::Global;
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::source;

/// Longest definition in bytes: a little more than the daemon takes, so that it says why not.
const DEFINITION_BYTES_MAX: usize = 8 << 20;

/// What to do with providers.
#[derive(Debug, Subcommand)]
pub(crate) enum ProvidersCommand {
    /// List them
    List {
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write one with its tools and targets, as JSON
    Show {
        /// Its name
        name: String,
    },
    /// Tell the daemon what a home can do, in place of what had the name before
    Add {
        /// A name of your choice
        name: String,
        /// A JSON file with `tools` and `targets` [default: stdin]
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "-")]
        file: PathBuf,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Let the daemon forget one
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
/// No daemon, no such provider, or what the daemon refuses.
pub(crate) async fn run(
    command: ProvidersCommand,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let client = Client::find(global.socket.as_deref()).await?;
    match command {
        ProvidersCommand::List { json } => {
            let data = client.providers().await?;
            if json {
                let object = "list".to_owned();
                output.write(&to_json(&ProviderList { object, data })?)?;
            } else {
                output.write(&table(&data))?;
            }
        }
        ProvidersCommand::Show { name } => {
            output.write(&to_json(&client.provider(&name).await?)?)?;
        }
        ProvidersCommand::Add { name, file, json } => {
            let provider = client.put_provider(&name, read(&file)?).await?;
            if json {
                output.write(&to_json(&provider)?)?;
            } else {
                output.remark(&format!("(registered {})", line(&provider)));
            }
        }
        ProvidersCommand::Remove { name, json } => {
            let deleted = client.delete_provider(&name).await?;
            if json {
                output.write(&to_json(&deleted)?)?;
            } else {
                output.remark(&format!("(forgot {})", clean_line(&deleted.name)));
            }
        }
    }
    Ok(ExitStatus::Success)
}

/// The bytes of a file, or of stdin for `-`.
///
/// # Errors
/// If it can't be read, or is longer than any definition.
pub(crate) fn read(file: &Path) -> Result<Bytes, Failure> {
    let bytes = source::read(file, DEFINITION_BYTES_MAX)?;
    if bytes.len() > DEFINITION_BYTES_MAX {
        let shown = source::shown(file);
        let message = format!("{shown} has more than {DEFINITION_BYTES_MAX} bytes");
        return Err(Failure::usage(message).hint("a home has at most 64 tools and 1,000 targets"));
    }
    Ok(bytes.into())
}

/// One line for each.
fn table(providers: &[Provider]) -> String {
    let mut text = String::new();
    for provider in providers {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", line(provider));
    }
    text
}

fn line(provider: &Provider) -> String {
    let name = clean_line(&provider.name);
    let (tools, targets) = (provider.tools, provider.targets);
    format!(
        "{name:<24}  {tools} tools, {targets} targets, change {}",
        provider.generation
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people() {
        let providers = [Provider {
            name: "ho\u{1b}me".to_owned(),
            generation: 3,
            tools: 12,
            targets: 50,
            ..Provider::default()
        }];
        insta::assert_snapshot!(
            table(&providers),
            @"ho␛me                     12 tools, 50 targets, change 3"
        );
    }
}
