//! The log on standard error: for people with the time, for the journal with priorities.

use std::io::{self, StderrLock, Write};
use std::os::unix::fs::MetadataExt;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;

/// What passes: a plain level is that of hob's own code, and libraries stay at warnings. Their
/// traces hold message bodies, and the log must not.
pub(crate) fn filter(verbose: u8, level: &str) -> Result<EnvFilter, ParseError> {
    let level = match verbose {
        // As everywhere, an empty variable is an unset one.
        0 if level.is_empty() => "info",
        0 => level,
        1 => "debug",
        _ => "trace",
    };
    let is_plain = level.parse::<Level>().is_ok();
    if is_plain {
        EnvFilter::try_new(format!("warn,hobd={level},hob_models={level}"))
    } else {
        EnvFilter::try_new(level)
    }
}

/// Starts logging to standard error.
pub(crate) fn init(filter: EnvFilter) {
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    if is_journal() {
        // The journal has its own clock, and reads the priority from the line's beginning.
        log.without_time()
            .with_level(false)
            .with_target(false)
            .with_writer(Journal)
            .init();
    } else {
        log.with_writer(io::stderr).init();
    }
}

/// Whether standard error is the very stream that systemd connected to the journal.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Writes `<N>` before each line, see sd-daemon(3).
struct Journal;

/// Where one event goes.
struct Prioritised<W> {
    out: W,
    priority: &'static [u8],
}

impl<W: Write> Write for Prioritised<W> {
    /// Takes a whole event. Lines within it, which may be the words of somebody else, get its
    /// priority and can't claim another.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let lines = event.split_inclusive(|byte| *byte == b'\n');
        let prioritised: Vec<u8> = lines
            .flat_map(|line| [self.priority, line])
            .flatten()
            .copied()
            .collect();
        self.out.write_all(&prioritised)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Prioritised<StderrLock<'a>>;

    fn make_writer(&'a self) -> Self::Writer {
        prioritised(Level::INFO)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        prioritised(*event.level())
    }
}

fn prioritised(level: Level) -> Prioritised<StderrLock<'static>> {
    Prioritised {
        out: io::stderr().lock(),
        priority: match level {
            Level::ERROR => b"<3>",
            Level::WARN => b"<4>",
            Level::INFO => b"<6>",
            Level::DEBUG | Level::TRACE => b"<7>",
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn no_line_within_an_event_claims_another_priority() {
        let mut out = Vec::new();
        let mut event = Prioritised {
            out: &mut out,
            priority: b"<7>",
        };
        event
            .write_all(b"the engine says\n<0>the house burns\n")
            .unwrap();
        assert_eq!(out, b"<7>the engine says\n<7><0>the house burns\n");
    }
}
