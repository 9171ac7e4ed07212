//! `hob status --watch`: what the daemon is doing, again and again.
//!
//! On a terminal the same few lines are drawn over, within its size and without another screen or
//! a hidden cursor, so that nothing needs to be put back, however it ends. Elsewhere one line is
//! printed each time.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use hob_api::status::Status;
use tokio::signal::unix::{SignalKind, signal};

use super::{scarcity, state};
use crate::clean::clean_line;
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::render::{bytes, count, span};

/// Shows the status every so often until Ctrl-C, which is a success.
///
/// # Errors
/// The daemon is gone.
pub(super) async fn run(
    client: &Client,
    every: Duration,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let caught = signal(SignalKind::interrupt());
    let mut interrupt =
        caught.map_err(|error| Failure::io("Ctrl-C could not be caught", &error))?;
    let mut ticks = tokio::time::interval(every);
    // A slow daemon is not asked twice at once to make up for it.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut drawn = 0;
    loop {
        let status = tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok(ExitStatus::Success),
            status = async {
                ticks.tick().await;
                client.status().await
            } => status?,
        };
        if output.stdout_is_terminal() {
            let lines = frame(&status, size());
            output.write(&redraw(&lines, drawn, output.color()))?;
            drawn = lines.len();
        } else {
            output.write(&plain(&status))?;
        }
    }
}

/// Columns and rows of the terminal; a common size for one that does not know its own.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let (columns, rows) = size.map_or((0, 0), |size| (size.ws_col, size.ws_row));
    match (columns, rows) {
        (0, _) | (_, 0) => (80, 24),
        (columns, rows) => (columns.into(), rows.into()),
    }
}

/// Lines over those that were drawn before.
fn redraw(lines: &[(&str, String)], drawn: usize, color: bool) -> String {
    let mut text = String::new();
    if drawn > 0 {
        let _ = write!(text, "\x1b[{drawn}A");
    }
    text.push('\r');
    for (name, value) in lines {
        let name = Style::Bold.paint(name, color);
        // Each line ends what was longer before.
        let _ = writeln!(text, "{name}{value}\x1b[K");
    }
    text.push_str("\x1b[J");
    text
}

/// What is shown, the most important first: no line longer and no more lines than fit. The last
/// column and row stay free, so that nothing wraps or scrolls.
fn frame(status: &Status, (columns, rows): (usize, usize)) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("state     ", state_line(status)),
        ("questions ", questions(status)),
    ];
    if let Some(engine) = &status.engine {
        lines.push(("memory    ", memory(status, engine.rss_bytes)));
    }
    lines.extend(scarcity(&status.memory).map(|words| ("scarcity  ", words.to_owned())));
    if status.work.answered > 0 {
        lines.push(("speed     ", speed(status)));
        lines.push(("tokens    ", tokens(status)));
    }
    lines.push(("answers   ", answers(status)));
    lines.truncate(rows.saturating_sub(1).max(1));
    for (name, value) in &mut lines {
        let room = columns.saturating_sub(name.len() + 1);
        *value = clean_line(value).chars().take(room).collect();
    }
    lines
}

/// All of it on one line.
fn plain(status: &Status) -> String {
    let mut parts = vec![state_line(status), questions(status)];
    if let Some(engine) = &status.engine {
        parts.push(memory(status, engine.rss_bytes));
    }
    parts.extend(scarcity(&status.memory).map(str::to_owned));
    if status.work.answered > 0 {
        parts.push(speed(status));
        parts.push(tokens(status));
    }
    format!("{}\n", clean_line(&parts.join("; ")))
}

fn state_line(status: &Status) -> String {
    let mut parts = vec![state(status)];
    parts.extend(status.model.as_ref().map(|model| model.name.clone()));
    parts.extend(
        status
            .problem
            .as_ref()
            .map(|problem| problem.message.clone()),
    );
    parts.join(", ")
}

fn questions(status: &Status) -> String {
    let (active, queued, most) = (status.active, status.queued, status.queue_max);
    format!("{active} running, {queued} waiting (at most {most})")
}

fn memory(status: &Status, engine: u64) -> String {
    format!(
        "engine {}, hobd {}, available {}",
        bytes(engine),
        bytes(status.hobd_rss_bytes),
        bytes(status.memory.available_bytes)
    )
}

fn speed(status: &Status) -> String {
    let (read, written) = (status.work.read_per_second, status.work.written_per_second);
    format!("reading {read:.1} tokens/s, writing {written:.1} tokens/s (last answers)")
}

fn tokens(status: &Status) -> String {
    let work = &status.work;
    let prompts = work.read_tokens.saturating_add(work.cached_tokens);
    let share = work.cached_tokens.saturating_mul(100) / prompts.max(1);
    format!(
        "{} read, {} cached ({share} % of prompts), {} written",
        count(work.read_tokens),
        count(work.cached_tokens),
        count(work.written_tokens)
    )
}

fn answers(status: &Status) -> String {
    format!(
        "{} given, {} refused or failed; up {}",
        status.work.answered,
        status.work.failed,
        span(status.uptime_s)
    )
}

#[cfg(test)]
mod tests {
    use hob_api::status::{EngineStatus, MemoryStatus, ModelStatus, State, WorkStatus};

    use super::*;

    fn status() -> Status {
        Status {
            state: State::Ready,
            model: Some(ModelStatus {
                name: "smollm2\x1b[2J".to_owned(),
                ..Default::default()
            }),
            engine: Some(EngineStatus {
                rss_bytes: 220_000_000,
                ..Default::default()
            }),
            active: 1,
            queue_max: 32,
            uptime_s: 3700,
            hobd_rss_bytes: 10_000_000,
            memory: MemoryStatus {
                given_up: "admission".to_owned(),
                available_bytes: 1 << 30,
                ..Default::default()
            },
            work: WorkStatus {
                answered: 7,
                failed: 1,
                read_tokens: 3000,
                cached_tokens: 1000,
                written_tokens: 500,
                read_per_second: 210.04,
                written_per_second: 48.2,
            },
            ..Default::default()
        }
    }

    fn text(size: (usize, usize)) -> String {
        redraw(&frame(&status(), size), 3, false).replace('\x1b', "^")
    }

    #[test]
    fn a_frame_and_a_line() {
        insta::assert_snapshot!("frame", text((80, 24)));
        insta::assert_snapshot!("line", plain(&status()));
    }

    #[test]
    fn nothing_wraps_or_scrolls_in_a_small_terminal() {
        for size in [(80, 24), (30, 4), (12, 2), (1, 1)] {
            let lines = frame(&status(), size);
            assert!(!lines.is_empty() && lines.len() <= (size.1 - 1).max(1));
            let width = |(name, value): &(&str, String)| name.len() + value.chars().count();
            let fits = |line| width(line) < size.0.max(11);
            assert!(lines.iter().all(fits), "{size:?}: {lines:?}");
        }
    }
}
