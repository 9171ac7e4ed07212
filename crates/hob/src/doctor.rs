//! `hob doctor`: everything that an answer needs, checked, with a hint for each problem.

mod board;
mod daemon;

pub(crate) use board::meminfo_bytes;

use std::fmt::Write as _;

use serde::Serialize;

use crate::ask::to_json;
use crate::clean::clean;
use crate::cli::Global;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// What a check found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, with a loss.
    Warning,
    /// No answer is to be had before this is mended.
    Problem,
}

impl Verdict {
    fn mark(self) -> (&'static str, Style) {
        match self {
            Self::Ok => ("✓", Style::Green),
            Self::Warning => ("!", Style::Yellow),
            Self::Problem => ("✗", Style::Red),
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, finding: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            finding: finding.into(),
            hint: None,
        }
    }

    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, finding)
    }

    fn warning(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warning, finding)
    }

    fn problem(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, Verdict::Problem, finding)
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// Checks all and shows it. Succeeds if there is no problem; warnings are none.
///
/// # Errors
/// Only stdout's: what is wrong elsewhere is what it shows.
pub(crate) async fn run(
    json: bool,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let (mut checks, status) = daemon::checks(global.socket.as_deref()).await;
    checks.extend(board::checks(status.as_ref()));
    if json {
        output.write(&to_json(&checks)?)?;
    } else {
        output.write(&list(&checks, output.color()))?;
    }
    let problem = checks.iter().any(|check| check.verdict == Verdict::Problem);
    Ok(if problem {
        ExitStatus::Failure
    } else {
        ExitStatus::Success
    })
}

/// The checks for people, a line each and a second one for the hint.
fn list(checks: &[Check], color: bool) -> String {
    // Writing to a string can't fail.
    let mut text = String::new();
    for check in checks {
        let (mark, style) = check.verdict.mark();
        let mark = style.paint(mark, color);
        let _ = writeln!(text, "{mark} {:<12}{}", check.name, clean(&check.finding));
        if let Some(hint) = &check.hint {
            let _ = writeln!(text, "{:14}{}", "", Style::Dim.paint(&clean(hint), color));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_hints() {
        let checks = [
            Check::ok("daemon", "hobd 0.1.0"),
            Check::warning("memory", "little").hint("Close something."),
            Check::problem("model", "none\x1b[2J").hint("`hob models pull`"),
        ];
        insta::assert_snapshot!(list(&checks, false));
    }
}
