//! Ctrl-C and what else ends a program, for commands that work by themselves: it is asked for between two
//! steps, so that what is half done can be taken back.

use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::ExitStatus;
use crate::failure::Failure;

/// Whether this program was started with a signal ignored, as `/proc/self/status` tells.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

/// Waits for a signal; for ever, if none is watched.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the program is to end, and by what: Ctrl-C, `SIGTERM`, or a terminal that is gone. Clones know of
/// the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<OnceLock<&'static str>>);

impl Interrupt {
    /// Watches from now on, until the program ends; the signals do nothing else meanwhile.
    ///
    /// # Errors
    /// When the system gives no thread or signal.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let failed = |error| Failure::io("Ctrl-C can't be watched", &error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let signals = {
            let _entered = runtime.enter();
            // Under nohup(1) it goes on without its terminal.
            let gone = (!is_ignored(SignalKind::hangup())).then(SignalKind::hangup);
            let [key, end] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
            (key, end, gone.map(signal).transpose())
        };
        let (key, end, gone) = signals;
        let (mut key, mut end) = (key.map_err(failed)?, end.map_err(failed)?);
        let mut gone = gone.map_err(failed)?;
        let interrupt = Self::default();
        let told = Arc::clone(&interrupt.0);
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                let by = runtime.block_on(async {
                    tokio::select! {
                        _ = key.recv() => "Ctrl-C",
                        _ = end.recv() => "SIGTERM",
                        () = received(&mut gone) => "the end of its terminal",
                    }
                });
                // It is the first, and so the only one.
                let _ = told.set(by);
            })
            .map_err(failed)?;
        Ok(interrupt)
    }

    /// Goes on unless there was a signal.
    ///
    /// # Errors
    /// [`ExitStatus::Interrupted`].
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.0.get() {
            Some(by) => Err(
                Failure::new(format!("stopped by {by}; nothing was changed"))
                    .status(ExitStatus::Interrupted),
            ),
            None => Ok(()),
        }
    }
}
