//! Signs of life: what the heartbeat tells hobd, from a thread that is not the decode thread.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hob_ipc::EngineEvent;

use crate::wire::Events;

/// Time between heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How far the work got; written by the decode thread, read by the heartbeat.
#[derive(Debug, Default)]
pub struct Pulse {
    progress: AtomicU64,
    working: AtomicBool,
}

impl Pulse {
    /// A pulse at zero that is not working.
    pub const fn new() -> Self {
        Self {
            progress: AtomicU64::new(0),
            working: AtomicBool::new(false),
        }
    }

    /// One more piece of work is done.
    pub fn advance(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether there is work.
    pub fn set_working(&self, working: bool) {
        self.working.store(working, Ordering::Relaxed);
    }

    /// The event that reports the pulse.
    pub fn heartbeat(&self) -> EngineEvent {
        EngineEvent::Heartbeat {
            progress: self.progress.load(Ordering::Relaxed),
            working: self.working.load(Ordering::Relaxed),
        }
    }

    /// Reports every [`HEARTBEAT_INTERVAL`] until hobd is gone.
    ///
    /// # Errors
    /// The one with which `events` failed.
    pub fn beat(&self, events: &dyn Events) -> io::Error {
        loop {
            if let Err(error) = events.send(&self.heartbeat()) {
                return error;
            }
            std::thread::sleep(HEARTBEAT_INTERVAL);
        }
    }
}
