//! What the daemon's task does about pinned prefixes: it carries between [`crate::pins::Pins`] and
//! the engine.

use std::time::Instant;

use super::Daemon;
use crate::engine::Engine;
use crate::pins::{Call, Done, Outgoing};
use crate::scheduler::Input;

impl Daemon {
    /// Does what a door asks. While the engine has not read what it was told before, nothing is
    /// pinned or unpinned: who does so without end would have it killed for not reading.
    pub(super) fn pins_called(&mut self, call: Call) {
        let behind = self.engine.as_ref().is_some_and(Engine::is_behind);
        let call = if behind {
            call.refuse_change()
        } else {
            Some(call)
        };
        let outgoing = call.map_or_else(Vec::new, |call| self.pins.call(call));
        self.tell_of_pins(outgoing);
    }

    /// Has the pins of homes follow, unless the engine has not read what it was told before.
    pub(super) fn settle_homes(&mut self) {
        let now = Instant::now();
        if self.engine.as_ref().is_some_and(Engine::is_behind) {
            return self.pins.postpone_homes(now);
        }
        let outgoing = self.pins.settle_homes(now);
        self.tell_of_pins(outgoing);
    }

    /// Takes in what the disk has done.
    pub(super) fn pins_done(&mut self, done: Done) {
        let outgoing = self.pins.take_in(done);
        self.tell_of_pins(outgoing);
        self.release_engine();
    }

    /// Lets an engine that waited for snapshots begin, if it need not wait any more.
    pub(super) fn release_engine(&mut self) {
        if let Some((ready, outgoing)) = self.pins.released(Instant::now()) {
            self.tell_of_pins(outgoing);
            self.ready(&ready);
        }
    }

    /// Tells the engine of pins.
    pub(super) fn tell_of_pins(&mut self, outgoing: Vec<Outgoing>) {
        for (command, fd) in outgoing {
            self.ledger.told(&command);
            let Some(engine) = &self.engine else { return };
            if engine.send_with(command, fd).is_err() {
                tracing::error!("the engine does not read its commands");
                return self.step(Input::Misbehaved);
            }
        }
    }

    /// Shows figures of the cache to whoever looks.
    pub(super) fn show_cache(&self) {
        let figures = self.pins.figures();
        self.shown.show_cache(figures);
    }
}
