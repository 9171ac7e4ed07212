//! What hobd tells systemd. Every call does nothing when systemd didn't ask.

use std::time::Duration;

use sd_notify::NotifyState;

/// Longest status line in characters; `systemctl status` shows one line.
const STATUS_CHARS_MAX: usize = 256;

/// The way to the process supervisor, by the variables that it set. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Notifier {
    asked: bool,
    watchdog_interval: Option<Duration>,
}

impl Notifier {
    /// Reads what systemd asks for: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_env() -> Self {
        let asked = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty());
        Self {
            asked,
            // Twice as often as needed, as sd_watchdog_enabled(3) advises.
            watchdog_interval: sd_notify::watchdog_enabled()
                .filter(|limit| asked && !limit.is_zero())
                .map(|limit| limit / 2),
        }
    }

    /// How often [`Notifier::watchdog`] must be called; `None` if nobody watches.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog_interval
    }

    /// The front doors are open.
    pub fn ready(&self) {
        self.send(&NotifyState::Ready);
    }

    /// One line for `systemctl status`. Must not hold anything that a user wrote.
    pub fn status(&self, line: &str) {
        // A line break would begin the next variable.
        let line: String = line
            .chars()
            .take(STATUS_CHARS_MAX)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        self.send(&NotifyState::Status(&line));
    }

    /// hobd is still at work. To be called by the daemon's own loop alone: a timer elsewhere would
    /// vouch for a loop that hangs.
    pub fn watchdog(&self) {
        self.send(&NotifyState::Watchdog);
    }

    /// hobd is about to end.
    pub fn stopping(&self) {
        self.send(&NotifyState::Stopping);
    }

    fn send(&self, state: &NotifyState<'_>) {
        if !self.asked {
            return;
        }
        if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
            tracing::warn!(%error, "systemd can't be told about hobd's state");
        }
    }
}
