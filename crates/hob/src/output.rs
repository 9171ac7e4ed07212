//! The one way to stdout and stderr: locked, cleaned, flushed.

use std::borrow::Cow;
use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use crate::clean::{clean, clean_line};
use crate::cli::ColorChoice;
use crate::exit::ExitStatus;
use crate::failure::Failure;

/// Back to the first column, and clear the line.
const ERASE_LINE: &str = "\r\x1b[2K";

/// A colour or weight; what it means to a terminal, not to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Headings and names.
    Bold,
    /// What can be overlooked.
    Dim,
    /// What went well.
    Green,
    /// What is not as it should be.
    Yellow,
    /// What failed.
    Red,
}

impl Style {
    /// The escape sequence that turns it on.
    fn sequence(self) -> &'static str {
        match self {
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
        }
    }

    /// `text` in this style if `color`, else as it is.
    pub(crate) fn paint(self, text: &str, color: bool) -> Cow<'_, str> {
        if color {
            Cow::Owned(format!("{}{text}\x1b[0m", self.sequence()))
        } else {
            Cow::Borrowed(text)
        }
    }
}

/// Where `hob` writes.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Sink,
    stderr: Sink,
    status_shown: bool,
}

/// What reads one of the two streams.
#[derive(Clone, Copy, Debug)]
struct Sink {
    is_terminal: bool,
    color: bool,
}

impl Output {
    /// The process's stdout and stderr.
    pub(crate) fn new(choice: ColorChoice) -> Self {
        let sink = |is_terminal: bool| Sink {
            is_terminal,
            color: match choice {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => is_terminal && environment_allows_color(),
            },
        };
        Self {
            stdout: sink(io::stdout().is_terminal()),
            stderr: sink(io::stderr().is_terminal()),
            status_shown: false,
        }
    }

    /// Whether stdout gets colours.
    pub(crate) fn color(&self) -> bool {
        self.stdout.color
    }

    /// Whether a person reads stdout.
    pub(crate) fn stdout_is_terminal(&self) -> bool {
        self.stdout.is_terminal
    }

    /// Characters of a line of stdout's terminal; `None` if there is none, or it does not know.
    pub(crate) fn columns(&self) -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        (self.stdout.is_terminal && columns > 0).then_some(columns)
    }

    /// Writes what hob itself made, colours included. What others made goes through
    /// [`crate::clean`] first.
    ///
    /// # Errors
    /// A quiet failure if the reader is gone, as in `hob … | head -1`.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.clear_status();
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(|error| stdout_failure(&error))
    }

    /// [`Output::write`], cleaned.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn write_clean(&mut self, text: &str) -> Result<(), Failure> {
        self.write(&clean(text))
    }

    /// A remark on stderr, on a line of its own.
    pub(crate) fn remark(&mut self, text: &str) {
        self.clear_status();
        let text = clean(text);
        // There is nobody to tell if stderr is closed.
        let _ = writeln!(
            io::stderr(),
            "{}",
            Style::Dim.paint(&text, self.stderr.color)
        );
    }

    /// A failure on stderr: the cause, and below it the hint. Quiet failures show nothing.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.clear_status();
        if matches!(
            failure.status,
            ExitStatus::Success | ExitStatus::Interrupted
        ) {
            return;
        }
        let error = Style::Red.paint("error:", self.stderr.color);
        let mut text = format!("{error} {}\n", clean(&failure.message));
        if let Some(hint) = &failure.hint {
            let label = Style::Green.paint("hint:", self.stderr.color);
            // Writing to a string can't fail.
            let _ = writeln!(text, " {label} {}", clean(hint));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// Shows what hob waits for, on one line of the terminal that the next output replaces.
    pub(crate) fn show_status(&mut self, text: &str) {
        if !self.stderr.is_terminal {
            return;
        }
        let line: String = clean_line(text).chars().take(stderr_columns()).collect();
        let line = Style::Dim.paint(&line, self.stderr.color);
        let _ = write!(io::stderr(), "{ERASE_LINE}{line}");
        self.status_shown = true;
    }

    /// Removes what [`Output::show_status`] shows.
    pub(crate) fn clear_status(&mut self) {
        if std::mem::take(&mut self.status_shown) {
            let _ = write!(io::stderr(), "{ERASE_LINE}");
        }
    }
}

/// A failed write to stdout. That the reader has seen enough is no failure to speak of.
fn stdout_failure(error: &io::Error) -> Failure {
    let failure = Failure::io("stdout could not be written", error);
    match error.kind() {
        io::ErrorKind::BrokenPipe => failure.status(ExitStatus::Success),
        _ => failure,
    }
}

fn environment_allows_color() -> bool {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
    !no_color && !dumb
}

/// Characters that fit on a line of stderr's terminal without wrapping.
fn stderr_columns() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    match columns {
        // A terminal that does not know its size.
        0 => 79,
        columns => usize::from(columns) - 1,
    }
}
