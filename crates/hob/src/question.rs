//! What to ask: the words of the command line, and what comes in on stdin.

use std::io::{self, IsTerminal as _, Read};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;
use crate::output::Output;

/// Most that is read from stdin, in bytes. It is far more than fits a small model's context.
const STDIN_BYTES_MAX: usize = 256 * 1024;
/// How long stdin may be silent before hob says that it waits for it.
const STDIN_PATIENCE: Duration = Duration::from_secs(2);

/// The whole question: the words, and below them what stdin holds unless it is a terminal.
///
/// # Errors
/// Nothing to ask, or stdin holds too much or can't be read.
pub(crate) fn read(words: &[String], output: &mut Output) -> Result<String, Failure> {
    let question = words.join(" ");
    let context = if io::stdin().is_terminal() {
        String::new()
    } else {
        wait_for_stdin(output);
        read_text(io::stdin().lock(), output)?
    };
    join(&question, &context).ok_or_else(|| {
        Failure::usage("there is no question")
            .hint("write it after `hob`, or pipe it in; `hob` alone on a terminal chats")
    })
}

/// The question and its context as one text; `None` if both are blank.
fn join(question: &str, context: &str) -> Option<String> {
    match (question.trim(), context.trim_end()) {
        ("", "") => None,
        ("", context) => Some(context.to_owned()),
        (question, "") => Some(question.to_owned()),
        (question, context) => Some(format!("{question}\n\n{context}")),
    }
}

/// Scripts often leave stdin open without meaning to; a silent hang would be a riddle.
fn wait_for_stdin(output: &mut Output) {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let patience = Timespec::try_from(STDIN_PATIENCE).ok();
    // If it can't be polled, the read that follows says why.
    if let Ok(0) = poll(&mut fds, patience.as_ref()) {
        output.remark("(waiting for stdin; use `hob … < /dev/null` if nothing is to be read)");
    }
}

fn read_text(input: impl Read, output: &mut Output) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    input
        .take(STDIN_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("stdin could not be read", &error))?;
    if bytes.len() > STDIN_BYTES_MAX {
        return Err(Failure::usage(format!(
            "stdin holds more than {} KiB",
            STDIN_BYTES_MAX / 1024
        ))
        .hint("choose what matters, for example with `tail` or `grep`; nothing is cut silently"));
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            output.remark("(stdin is not all UTF-8; other bytes are replaced by �)");
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ColorChoice;
    use crate::exit::ExitStatus;

    #[test]
    fn context_follows_the_question() {
        assert_eq!(join("sum up", "a\nb\n").as_deref(), Some("sum up\n\na\nb"));
        assert_eq!(join("", "what?\n").as_deref(), Some("what?"));
        assert_eq!(join(" what? ", "").as_deref(), Some("what?"));
        assert_eq!(join(" ", "\n"), None);
    }

    #[test]
    fn stdin_is_bounded_and_never_cut() {
        let mut output = Output::new(ColorChoice::Never);
        let exact = vec![b'x'; STDIN_BYTES_MAX];
        assert!(read_text(&exact[..], &mut output).is_ok_and(|t| t.len() == STDIN_BYTES_MAX));
        let failure = read_text(io::repeat(b'x'), &mut output);
        assert!(failure.is_err_and(|f| f.status == ExitStatus::Usage));
    }
}
