//! What the daemon's task does about scarce memory: the prefix cache goes first, then new requests
//! are refused, then the model goes.

use std::time::Instant;

use super::Daemon;
use crate::pressure::Level;
use crate::scheduler::Input;

impl Daemon {
    /// Gives up or takes back what scarcity of memory demands or allows.
    pub(super) fn look_at_memory(&mut self) {
        let Some(level) = self.memory.look(Instant::now()) else {
            return;
        };
        tracing::warn!(
            giving_up = level.as_str(),
            "memory is scarcer or easier to come by"
        );
        self.shown
            .modify(|status| level.as_str().clone_into(&mut status.memory.given_up));
        let limit = self.pins.limit_cache(self.cache_allowed());
        self.tell_of_pins(vec![limit]);
        self.step(Input::Pressure(level));
    }

    /// What the engine's prefix cache may take now, in bytes: its part of the budget, or nothing
    /// while memory is scarce.
    pub(super) fn cache_allowed(&self) -> u64 {
        if self.memory.level() >= Level::Cache {
            0
        } else {
            self.cache_planned
        }
    }
}
