//! Ctrl-C and what else ends a program, for commands that work by themselves: it is asked for between two
//! steps, so that what is half done can be taken back.

use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::ExitStatus;
use crate::failure::Failure;

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
            let signals = [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
            ];
            signals.map(signal)
        };
        let [key, end, gone] = signals;
        let (mut key, mut end, mut gone) = (
            key.map_err(failed)?,
            end.map_err(failed)?,
            gone.map_err(failed)?,
        );
        let interrupt = Self::default();
        let told = Arc::clone(&interrupt.0);
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                let by = runtime.block_on(async {
                    tokio::select! {
                        _ = key.recv() => "Ctrl-C",
                        _ = end.recv() => "SIGTERM",
                        _ = gone.recv() => "the end of its terminal",
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
