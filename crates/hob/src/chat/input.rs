//! The prompt: line editing, history, completion.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use hob_models::locations::{Scope, state_dir};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ColorMode, CompletionType, Config, Context, Editor, Helper, KeyCode, KeyEvent, Modifiers,
};

use super::command::{COMMANDS, is_complete};
use crate::clean::clean_line;
use crate::failure::Failure;
use crate::output::Style;

/// Lines that the history keeps.
const HISTORY_LINES_MAX: usize = 1000;

/// The line editor of a chat.
pub(super) struct Input {
    editor: Editor<Words, FileHistory>,
    /// `None` if there is no place for it, or it can't be used.
    history: Option<PathBuf>,
    prompt: (String, String),
}

/// What happened at the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// An entry, of one line or several.
    Entry(String),
    /// Ctrl-C: the line is gone.
    Interrupt,
    /// Ctrl-D, or the terminal is gone.
    End,
}

impl Input {
    /// An editor with the history of earlier chats. A history that can't be used is given as a
    /// remark beside it: a chat works without.
    ///
    /// # Errors
    /// The terminal can't be used.
    pub(super) fn new(color: bool) -> Result<(Self, Option<String>), Failure> {
        let config = Config::builder()
            .max_history_size(HISTORY_LINES_MAX)
            .map_err(terminal_failure)?
            .history_ignore_dups(true)
            .map_err(terminal_failure)?
            // A way to keep a line out of the history, as in shells.
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .color_mode(if color {
                ColorMode::Enabled
            } else {
                ColorMode::Disabled
            })
            .build();
        let mut editor = Editor::with_config(config).map_err(terminal_failure)?;
        editor.set_helper(Some(Words::default()));
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        let (history, remark) = match open_history(&mut editor) {
            Ok(history) => (Some(history), None),
            Err(problem) => (None, Some(format!("(no history is kept: {problem})"))),
        };
        let prompt = ("> ".to_owned(), Style::Bold.paint("> ", color).into_owned());
        Ok((
            Self {
                editor,
                history,
                prompt,
            },
            remark,
        ))
    }

    /// Sets the names that complete after `/model`.
    pub(super) fn set_models(&mut self, models: Vec<String>) {
        if let Some(words) = self.editor.helper_mut() {
            words.models = models;
        }
    }

    /// Sets the names that complete after `/resume`.
    pub(super) fn set_conversations(&mut self, names: Vec<String>) {
        if let Some(words) = self.editor.helper_mut() {
            words.conversations = names;
        }
    }

    /// Waits for an entry and keeps it in the history.
    ///
    /// # Errors
    /// The terminal fails.
    pub(super) fn read(&mut self) -> Result<Typed, Failure> {
        let entry = match self.editor.readline(&self.prompt) {
            Ok(entry) => entry,
            Err(error) => return typed(error),
        };
        // A history that fails half-way is not worth ending a chat.
        if self.editor.add_history_entry(&entry).unwrap_or(false)
            && let Some(history) = &self.history
            && self.editor.append_history(history).is_err()
        {
            self.history = None;
        }
        Ok(Typed::Entry(entry))
    }

    /// Asks a question that `y` answers with yes.
    ///
    /// # Errors
    /// The terminal fails.
    pub(super) fn confirm(&mut self, question: &str) -> Result<bool, Failure> {
        match self
            .editor
            .readline(&format!("{} [y/N] ", clean_line(question)))
        {
            Ok(reply) => Ok(matches!(reply.trim(), "y" | "Y" | "yes" | "Yes")),
            Err(error) => typed(error).map(|_| false),
        }
    }
}

/// What an interrupted read means.
fn typed(error: ReadlineError) -> Result<Typed, Failure> {
    match error {
        ReadlineError::Interrupted => Ok(Typed::Interrupt),
        ReadlineError::Eof => Ok(Typed::End),
        error => Err(terminal_failure(error)),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "fits map_err")]
fn terminal_failure(error: ReadlineError) -> Failure {
    Failure::new(format!("the terminal can't be read: {error}"))
}

fn open_history(editor: &mut Editor<Words, FileHistory>) -> Result<PathBuf, String> {
    let folder = state_dir(Scope::User).map_err(|error| error.to_string())?;
    let path = folder.join("history");
    let named = |path: &Path, error: String| format!("{}: {error}", path.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| named(&folder, error.to_string()))?;
    match editor.load_history(&path) {
        Ok(()) => Ok(path),
        Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(path),
        Err(error) => Err(named(&path, error.to_string())),
    }
}

/// What the editor knows about a chat's entries.
#[derive(Default)]
struct Words {
    models: Vec<String>,
    conversations: Vec<String>,
    files: FilenameCompleter,
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        match typed.split_once(' ') {
            Some(("/save", _)) => self.files.complete(line, pos, context),
            Some(("/model", name)) => {
                let start = pos - name.len();
                Ok((start, matching(name, self.models.iter().cloned())))
            }
            Some(("/resume", name)) => {
                let start = pos - name.len();
                Ok((start, matching(name, self.conversations.iter().cloned())))
            }
            None if typed.starts_with('/') => {
                // A command that takes something is completed up to where that begins.
                let commands = COMMANDS
                    .iter()
                    .map(|(command, argument, _)| match *argument {
                        "" => (*command).to_owned(),
                        _ => format!("{command} "),
                    });
                Ok((0, matching(typed, commands)))
            }
            _ => Ok((pos, Vec::new())),
        }
    }
}

fn matching(start: &str, words: impl Iterator<Item = String>) -> Vec<Pair> {
    words
        .filter(|word| word.starts_with(start))
        .map(|word| Pair {
            display: word.clone(),
            replacement: word,
        })
        .collect()
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use rustyline::history::DefaultHistory;

    use super::*;

    fn complete(line: &str) -> (usize, Vec<String>) {
        let words = Words {
            models: vec!["smollm2-135m".to_owned(), "qwen3-0.6b".to_owned()],
            conversations: vec!["My garden".to_owned(), "Money".to_owned()],
            files: FilenameCompleter::new(),
        };
        let history = DefaultHistory::new();
        let found = words.complete(line, line.len(), &Context::new(&history));
        let (start, pairs) = found.unwrap_or_default();
        (
            start,
            pairs.into_iter().map(|pair| pair.replacement).collect(),
        )
    }

    #[test]
    fn commands_and_models_complete() {
        assert_eq!(
            complete("/s"),
            (0, vec!["/system ".into(), "/save ".into(), "/stats".into()])
        );
        assert_eq!(complete("/model q"), (7, vec!["qwen3-0.6b".into()]));
        assert_eq!(complete("/resume My"), (8, vec!["My garden".into()]));
        assert_eq!(complete("/resume My g"), (8, vec!["My garden".into()]));
        assert_eq!(complete("what is /m"), (10, vec![]));
        assert_eq!(complete("/system q"), (9, vec![]));
    }

    #[test]
    fn files_complete_after_save() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let path = folder.path().join("notes.md");
        assert!(std::fs::write(&path, "").is_ok());
        let (_, found) = complete(&format!("/save {}/no", folder.path().display()));
        assert!(
            found.iter().any(|file| file.ends_with("notes.md")),
            "{found:?}"
        );
    }
}
