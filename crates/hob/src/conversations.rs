//! `hob conversations`: what the daemon keeps of this user's chats.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum, ValueHint};
use hob_api::conversation::{Conversation, ConversationFields, ConversationList};

use crate::ask::to_json;
use crate::clean::{clean, clean_line};
use crate::cli::Global;
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::{bytes, counted};

/// Fewest digits of an id that stand for it.
const ID_DIGITS_MIN: usize = 4;
/// Digits of an id that a list shows.
const ID_DIGITS_SHOWN: usize = 8;
/// Below this similarity (Jaro-Winkler, 0 to 1) another name is no suggestion.
const SIMILAR_MIN: f64 = 0.75;

/// What to do with conversations.
#[derive(Debug, Subcommand)]
pub(crate) enum ConversationsCommand {
    /// List them, the one last added to first
    List {
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show what was said in one
    Show {
        /// Its name, or the first digits of its id
        name: String,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Give one another name
    Rename {
        /// Its name, or the first digits of its id
        name: String,
        /// The new name
        new_name: String,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write one to a file or to stdout
    Export {
        /// Its name, or the first digits of its id
        name: String,
        /// How to write it
        #[arg(long, value_name = "FORMAT", default_value = "markdown")]
        format: ExportFormat,
        /// Write to this file, which must not exist yet
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
    /// Delete some for good: their text is overwritten in the daemon's database
    Delete {
        /// Their names, or the first digits of their ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// How a conversation is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// For people
    Markdown,
    /// For programs: exact, with times and models
    Json,
}

/// Does what the command says.
///
/// # Errors
/// No daemon, no such conversation, or the daemon keeps none.
pub(crate) async fn run(
    command: ConversationsCommand,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let client = Client::find(global.socket.as_deref()).await?;
    let all = client.conversations().await?;
    match command {
        ConversationsCommand::List { json: true } => output.write(&to_json(&list_of(all))?)?,
        ConversationsCommand::List { json: false } => output.write(&table(&all))?,
        ConversationsCommand::Show { name, json } => {
            let id = &find(&all, &name)?.id;
            if json {
                output.write(&to_json(&client.transcript(id).await?)?)?;
            } else {
                output.write_clean(&client.conversation_markdown(id).await?)?;
            }
        }
        ConversationsCommand::Rename {
            name,
            new_name,
            json,
        } => {
            let fields = ConversationFields {
                name: Some(new_name),
                system: None,
            };
            let renamed = client
                .change_conversation(&find(&all, &name)?.id, &fields)
                .await?;
            if json {
                output.write(&to_json(&renamed)?)?;
            } else {
                output.remark(&format!("(renamed to {})", title(&renamed)));
            }
        }
        ConversationsCommand::Export {
            name,
            format,
            output: file,
        } => {
            let id = &find(&all, &name)?.id;
            let text = match format {
                ExportFormat::Markdown => {
                    clean(&client.conversation_markdown(id).await?).into_owned()
                }
                ExportFormat::Json => to_json(&client.transcript(id).await?)?,
            };
            match file {
                None => output.write(&text)?,
                Some(file) => export_to(&file, &text)?,
            }
        }
        ConversationsCommand::Delete { names, json } => {
            // All are found before the first is gone.
            let found = names.iter().map(|name| find(&all, name));
            let mut found = found.collect::<Result<Vec<_>, _>>()?;
            found.dedup();
            for conversation in &found {
                client.delete_conversation(&conversation.id).await?;
                if !json {
                    output.remark(&format!("(deleted {})", title(conversation)));
                }
            }
            if json {
                let gone = found.into_iter().cloned().collect();
                output.write(&to_json(&list_of(gone))?)?;
            }
        }
    }
    Ok(ExitStatus::Success)
}

fn list_of(data: Vec<Conversation>) -> ConversationList {
    ConversationList {
        object: "list".to_owned(),
        data,
    }
}

/// The name that a person knows a conversation by.
pub(crate) fn title(conversation: &Conversation) -> String {
    match &conversation.name {
        Some(name) => clean_line(name),
        None => clean_line(&conversation.id),
    }
}

/// The conversation of that name, or else of an id that begins so.
///
/// # Errors
/// None, or several whose ids begin so.
pub(crate) fn find<'c>(all: &'c [Conversation], name: &str) -> Result<&'c Conversation, Failure> {
    let name = name.trim();
    // A name from a list or from completion is shown cleaned.
    let named = |c: &&Conversation| c.name.as_deref() == Some(name) || title(c) == name;
    if let Some(found) = all.iter().find(named) {
        return Ok(found);
    }
    let mut ids = all
        .iter()
        .filter(|c| name.len() >= ID_DIGITS_MIN && c.id.starts_with(name));
    match (ids.next(), ids.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "several conversations have an id that begins with {name}"
        ))
        .hint("give more digits; `hob conversations list --json` has all of them")),
        (None, _) => Err(
            Failure::new(format!("you have no conversation {name}")).hint(
                match nearest(all, name) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "`hob conversations list` shows what you have".to_owned(),
                },
            ),
        ),
    }
}

fn nearest(all: &[Conversation], name: &str) -> Option<String> {
    all.iter()
        .map(title)
        .map(|title| (strsim::jaro_winkler(name, &title), title))
        .filter(|(likeness, _)| *likeness > SIMILAR_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, title)| title)
}

/// One line for each.
pub(crate) fn table(all: &[Conversation]) -> String {
    let mut text = String::new();
    for conversation in all {
        let id: String = conversation.id.chars().take(ID_DIGITS_SHOWN).collect();
        let turns = counted(conversation.turns.into(), "turn");
        let size = bytes(conversation.bytes);
        let time = date(conversation.updated);
        let title = match &conversation.name {
            Some(name) => clean_line(name),
            None => "(nothing said yet)".to_owned(),
        };
        let id = clean_line(&id);
        // Writing to a string can't fail.
        let _ = writeln!(text, "{id}  {time}  {turns:>9}  {size:>9}  {title}");
    }
    text
}

/// The day and minute, in UTC.
fn date(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    let time = humantime::format_rfc3339_seconds(time).to_string();
    time.chars().take(16).collect::<String>().replace('T', " ")
}

/// What was said is for its owner's eyes.
fn export_to(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io(&file.display().to_string(), &error);
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(failed)?;
    opened.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(id: &str, name: Option<&str>) -> Conversation {
        Conversation {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            updated: 1_700_000_000,
            turns: 1,
            bytes: 1234,
            ..Conversation::default()
        }
    }

    fn some() -> Vec<Conversation> {
        vec![
            conversation("aaaa1111", Some("Garden")),
            conversation("aaaa2222", Some("Gar\u{1b}[2Jage")),
            conversation("bbbb3333", None),
        ]
    }

    #[test]
    fn names_and_beginnings_of_ids_are_found() {
        let all = some();
        let id = |name: &str| find(&all, name).map(|c| c.id.as_str());
        assert_eq!(id("Garden"), Ok("aaaa1111"));
        assert_eq!(id("Gar␛[2Jage"), Ok("aaaa2222"));
        assert_eq!(id("bbbb"), Ok("bbbb3333"));
        assert_eq!(id("bbbb3333"), Ok("bbbb3333"));
    }

    #[test]
    fn what_is_not_found_is_explained() {
        let all = some();
        let failure = |name: &str| find(&all, name).err();
        let hint = |name: &str| failure(name).and_then(|f| f.hint).unwrap_or_default();
        assert_eq!(hint("garden"), "did you mean Garden?");
        assert!(hint("zzz").contains("hob conversations list"));
        assert!(hint("aaaa").contains("more digits"));
        assert!(failure("bbb").is_some());
        assert!(failure("").is_some());
    }

    #[test]
    fn a_table_for_people() {
        insta::assert_snapshot!(table(&some()), @r"
        aaaa1111  2023-11-14 22:13     1 turn    1.2 KiB  Garden
        aaaa2222  2023-11-14 22:13     1 turn    1.2 KiB  Gar␛[2Jage
        bbbb3333  2023-11-14 22:13     1 turn    1.2 KiB  (nothing said yet)
        ");
    }
}
