//! Ctrl-C for commands that work by themselves: it is asked for between two steps, so that what is half
//! done can be taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::ExitStatus;
use crate::failure::Failure;

/// Whether Ctrl-C was pressed. Clones know of the same key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches from now on, until the program ends; the key does nothing else meanwhile.
    ///
    /// # Errors
    /// When the system gives no thread or signal.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let failed = |error| Failure::io("Ctrl-C can't be watched", &error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let signal = {
            let _entered = runtime.enter();
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        };
        let mut signal = signal.map_err(failed)?;
        let interrupt = Self::default();
        let pressed = Arc::clone(&interrupt.0);
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                runtime.block_on(signal.recv());
                pressed.store(true, Ordering::Relaxed);
            })
            .map_err(failed)?;
        Ok(interrupt)
    }

    /// Goes on unless the key was pressed.
    ///
    /// # Errors
    /// [`ExitStatus::Interrupted`].
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) {
            Err(Failure::new("stopped by Ctrl-C; nothing was changed")
                .status(ExitStatus::Interrupted))
        } else {
            Ok(())
        }
    }
}
