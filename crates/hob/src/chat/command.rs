//! What a person types in a chat: a question, or a command that starts with `/`.

use std::path::PathBuf;

/// One entry at the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing but blanks.
    Blank,
    /// A question for the model.
    Question(String),
    /// A command for hob.
    Command(Command),
}

/// A chat's commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `/help`
    Help,
    /// `/model`: list them; `/model NAME`: load it.
    Model(Option<String>),
    /// `/new`
    New,
    /// `/system`: show it; `/system TEXT`: set it; `/system off`: remove it.
    System(Option<String>),
    /// `/resume`: list the conversations; `/resume NAME`: go on with that one.
    Resume(Option<String>),
    /// `/rename NAME`
    Rename(String),
    /// `/save FILE`
    Save(PathBuf),
    /// `/stats`
    Stats,
    /// `/quit`
    Quit,
}

/// Every command's name, what follows it, and what it does.
pub(super) const COMMANDS: [(&str, &str, &str); 9] = [
    ("/help", "", "this list"),
    (
        "/model",
        "[NAME]",
        "list the models, or load NAME for everyone who uses this daemon",
    ),
    ("/new", "", "leave this conversation and start another"),
    (
        "/resume",
        "[NAME]",
        "list the conversations that hobd keeps for you, or go on with NAME",
    ),
    ("/rename", "NAME", "give this conversation another name"),
    (
        "/system",
        "[TEXT]",
        "show or set the instructions to the model; `/system off` removes them",
    ),
    (
        "/save",
        "FILE",
        "write the conversation to FILE as Markdown",
    ),
    (
        "/stats",
        "",
        "tokens and speed of the last answer, and how full the context is",
    ),
    ("/quit", "", "leave (so does Ctrl-D)"),
];

/// An entry that is neither a question nor a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    /// No such command.
    #[error("there is no command {name}{}", .nearest.map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// What was typed.
        name: String,
        /// The command that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A command without what it needs.
    #[error("{0} needs {1} after it")]
    Incomplete(&'static str, &'static str),
    /// A command with more than it takes.
    #[error("{0} takes nothing after it")]
    Surplus(&'static str),
}

/// Reads an entry. `//` at its start stands for a question that begins with `/`.
///
/// # Errors
/// A command that can't be carried out.
pub(super) fn parse(entry: &str) -> Result<Entry, EntryError> {
    let text = unfold(entry);
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(Entry::Blank);
    }
    if let Some(question) = trimmed.strip_prefix("//") {
        return Ok(Entry::Question(format!("/{question}")));
    }
    if !trimmed.starts_with('/') {
        return Ok(Entry::Question(trimmed.to_owned()));
    }
    let (name, rest) = trimmed
        .split_once(char::is_whitespace)
        .unwrap_or((trimmed, ""));
    let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
    let alone = |name, command| match rest {
        None => Ok(command),
        Some(_) => Err(EntryError::Surplus(name)),
    };
    let command = match name {
        "/help" | "/?" => alone("/help", Command::Help),
        "/model" => Ok(Command::Model(rest.map(str::to_owned))),
        "/new" => alone("/new", Command::New),
        "/system" => Ok(Command::System(rest.map(str::to_owned))),
        "/resume" => Ok(Command::Resume(rest.map(str::to_owned))),
        "/rename" => match rest {
            Some(name) => Ok(Command::Rename(name.to_owned())),
            None => Err(EntryError::Incomplete("/rename", "a name")),
        },
        "/save" => match rest {
            Some(file) => Ok(Command::Save(PathBuf::from(file))),
            None => Err(EntryError::Incomplete("/save", "a file's name")),
        },
        "/stats" => alone("/stats", Command::Stats),
        "/quit" | "/exit" => alone("/quit", Command::Quit),
        _ => Err(EntryError::Unknown {
            name: name.to_owned(),
            nearest: nearest(name),
        }),
    };
    command.map(Entry::Command)
}

fn nearest(name: &str) -> Option<&'static str> {
    COMMANDS
        .iter()
        .map(|(command, _, _)| (strsim::jaro_winkler(name, command), *command))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, command)| command)
}

/// Whether Enter ends the entry, or only its line: a backslash at the end and an open `"""`
/// ask for more.
pub(super) fn is_complete(entry: &str) -> bool {
    match entry.trim_start().strip_prefix(BLOCK) {
        Some(block) => block.trim_end().ends_with(BLOCK),
        None => !is_continued(entry),
    }
}

/// What encloses an entry of several lines.
const BLOCK: &str = "\"\"\"";

/// Whether a line ends with a backslash that is not itself escaped.
fn is_continued(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// The text that an entry stands for, without what made it several lines.
fn unfold(entry: &str) -> String {
    if let Some(block) = entry.trim_start().strip_prefix(BLOCK)
        && let Some(block) = block.trim_end().strip_suffix(BLOCK)
    {
        return block.trim_matches('\n').to_owned();
    }
    let mut lines: Vec<&str> = entry.split('\n').collect();
    // The last line's backslash continues nothing, and is the person's own.
    if let Some((_, continued)) = lines.split_last_mut() {
        for line in continued {
            if is_continued(line) {
                *line = &line[..line.len() - 1];
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(entry: &str) -> Option<Command> {
        match parse(entry) {
            Ok(Entry::Command(command)) => Some(command),
            _ => None,
        }
    }

    #[test]
    fn commands_are_told_from_questions() {
        assert_eq!(parse("  "), Ok(Entry::Blank));
        assert_eq!(
            parse("hello / there"),
            Ok(Entry::Question("hello / there".to_owned()))
        );
        assert_eq!(
            parse("//etc is what?"),
            Ok(Entry::Question("/etc is what?".to_owned()))
        );
        assert_eq!(command("/help"), Some(Command::Help));
        assert_eq!(command("/model"), Some(Command::Model(None)));
        assert_eq!(
            command("/model  tiny "),
            Some(Command::Model(Some("tiny".to_owned())))
        );
        assert_eq!(
            command("/resume my garden"),
            Some(Command::Resume(Some("my garden".to_owned())))
        );
        assert_eq!(
            command("/save a b.md"),
            Some(Command::Save("a b.md".into()))
        );
        assert_eq!(command("/exit"), Some(Command::Quit));
    }

    #[test]
    fn every_listed_command_is_known() {
        for (name, argument, _) in COMMANDS {
            let argument = if argument.is_empty() { "" } else { " x" };
            assert!(command(&format!("{name}{argument}")).is_some(), "{name}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        let message = |entry: &str| parse(entry).err().map(|error| error.to_string());
        assert_eq!(
            message("/hepl").as_deref(),
            Some("there is no command /hepl; did you mean /help?")
        );
        assert_eq!(message("/zzz").as_deref(), Some("there is no command /zzz"));
        assert_eq!(
            message("/save").as_deref(),
            Some("/save needs a file's name after it")
        );
        assert_eq!(
            message("/rename").as_deref(),
            Some("/rename needs a name after it")
        );
        assert_eq!(
            message("/new now").as_deref(),
            Some("/new takes nothing after it")
        );
    }

    #[test]
    fn several_lines_make_one_entry() {
        assert!(!is_complete("one \\"));
        assert!(is_complete("one \\\\"));
        assert!(is_complete("one \\\ntwo"));
        assert!(!is_complete("\"\"\"one"));
        assert!(!is_complete("\"\"\""));
        assert!(is_complete("\"\"\"one\ntwo\"\"\""));
        assert_eq!(unfold("one \\\ntwo"), "one \ntwo");
        assert_eq!(unfold("\"\"\"\none\n  two\n\"\"\""), "one\n  two");
        assert_eq!(unfold("one\\"), "one\\");
    }
}
