//! Where llguidance's panics end.

use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use llguidance::panic_utils;

thread_local! {
    /// Whether this thread is at work of llguidance's.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it is an error.
pub(super) fn contained<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    silence();
    let outer = WITHIN.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    WITHIN.set(outer);
    done.unwrap_or_else(|_| Err(anyhow::anyhow!("panic")))
}

/// llguidance catches panics, too, and its hook looks their frames up in files, for which the sandbox
/// would end the process. And what such a panic says may quote the caller's text: only its place is
/// logged.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        // It sets its hook with its first work, and once.
        let _ = panic_utils::catch_unwind(|| Ok(()));
        std::panic::set_hook(Box::new(move |panic| {
            if !WITHIN.get() {
                others(panic);
            } else if let Some(place) = panic.location() {
                // Nobody is left to tell if standard error is closed.
                let _ = writeln!(io::stderr(), "hob-engine: a panic at {place}");
            }
        }));
    });
}
