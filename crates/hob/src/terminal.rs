//! What a terminal does with keys that are pressed while nobody reads them.

use std::io;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// A terminal that does not show what is typed ahead: the keys are kept for the next prompt, which
/// shows them, instead of standing in the middle of an answer. Dropping it shows keys again.
#[derive(Debug)]
pub(crate) struct Quiet(Termios);

impl Quiet {
    /// Of stdin; `None` if that is no terminal.
    pub(crate) fn stdin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
