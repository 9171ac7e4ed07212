//! Progress on stderr: a bar with rate and time left on a terminal, else a line now and
//! then.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use hob_models::source::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clean::clean_line;
use crate::render::{bytes, span};

/// Between the lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    /// Work of no unit that means something to people.
    Share,
}

/// How far a model has come.
pub(crate) struct Meter {
    bar: ProgressBar,
    what: String,
    unit: Unit,
    /// When the last line was written; none on a terminal.
    line: Option<Instant>,
}

impl Meter {
    /// Progress of a model.
    pub(crate) fn new(name: &str) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_prefix(name.to_owned());
        Self {
            bar,
            what: name.to_owned(),
            unit: Unit::Bytes,
            line: (!is_terminal).then(Instant::now),
        }
    }

    /// A file of this many bytes is being hashed.
    pub(super) fn checking(&mut self, total: u64) {
        self.stage("checking", total);
    }

    /// This many bytes are to be gone through next, to this end.
    pub(super) fn stage(&mut self, what: &'static str, total: u64) {
        self.begin(what, total, Unit::Bytes);
    }

    /// So much work, of which only the share that is done is shown, is to be done next.
    pub(crate) fn share(&mut self, what: &'static str, total: u64) {
        self.begin(what, total, Unit::Share);
    }

    fn begin(&mut self, what: &'static str, total: u64, unit: Unit) {
        if self.unit != unit {
            // The next total chooses how it is shown.
            self.unit = unit;
            self.bar.unset_length();
        }
        self.progress(0, Some(total));
        self.bar.reset_eta();
        self.bar.set_message(what);
    }

    /// This many bytes more, or so much work.
    pub(crate) fn advance(&mut self, more: u64) {
        self.progress(self.bar.position() + more, self.bar.length());
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        let text = clean_line(text);
        if self.line.is_some() {
            // Nobody to tell if stderr is closed.
            let _ = writeln!(std::io::stderr(), "{}: {text}", self.what);
        } else {
            self.bar.println(format!("{}: {text}", self.what));
        }
    }

    fn set_total(&self, total: u64) {
        if self.bar.length() == Some(total) {
            return;
        }
        self.bar.set_length(total);
        let template = match self.unit {
            Unit::Bytes => {
                "{prefix}  {bar:24}  {binary_bytes} of {binary_total_bytes}  \
                 {binary_bytes_per_sec}  {eta} left  {msg}"
            }
            Unit::Share => "{prefix}  {bar:24}  {percent} %  {eta} left  {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━━ "));
        }
    }
}

impl Watch for Meter {
    fn source(&mut self, source: &str) {
        self.say(&format!("from {source}"));
    }

    fn progress(&mut self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.set_total(total);
        }
        self.bar.set_position(done);
        if self.line.is_some_and(|last| last.elapsed() >= LINE_EVERY) {
            let percent = |total: u64| done.saturating_mul(100) / total.max(1);
            let so_far = match (total, self.unit) {
                (Some(total), Unit::Bytes) => {
                    let percent = percent(total);
                    format!("{} of {} ({percent} %)", bytes(done), bytes(total))
                }
                (Some(total), Unit::Share) => {
                    let left = self.bar.eta().as_secs();
                    format!("{} % ({} left)", percent(total), span(left))
                }
                (None, _) => bytes(done),
            };
            self.say(&so_far);
            self.line = Some(Instant::now());
        }
    }

    fn retrying(&mut self, cause: &str) {
        self.say(&format!("{cause}; trying again"));
    }
}
