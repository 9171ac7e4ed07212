//! Pinned prefixes in the decode loop: read when there is nothing else to do, kept on the shelf,
//! handed to hobd.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use hob_ipc::EngineEvent;
use hob_ipc::message::{PINS_MAX, Pin, PinFailure, PinId, PinState};

use super::{Model, PREFILL_REPORT_INTERVAL, Row, Server, Step};
use crate::memories::{Memory, Reader};
use crate::pins::{Reading, Stage};
use crate::recall::{self, Place, sequence_id};
use crate::saved::{self, Saved};
use crate::shelf::{NoRoom, Owner};
use crate::{prefix, slots};

impl<M: Model> Server<'_, M> {
    /// Pins a prefix: restored if its state came along and fits, else to be read.
    pub(super) fn pin(&mut self, pin: &Pin, saved: Option<Saved>) -> io::Result<()> {
        self.pulse.advance();
        let offered = pin.state_bytes.is_some();
        let owner = Owner::new(pin.owner);
        self.unpin(pin.id)?;
        let tokens = match prefix::common_tokens(self.model, &pin.messages) {
            _ if self.pins.len() >= PINS_MAX => return self.fail_pin(pin.id, PinFailure::NoRoom),
            Ok(tokens) => tokens,
            Err(reason) => return self.fail_pin(pin.id, reason),
        };
        self.pins.add(pin.id, owner, tokens.clone());
        if self.memories.shelf.bytes_max() == 0 {
            return self.no_room(pin.id);
        }
        match saved.filter(|saved| saved.tokens == tokens) {
            Some(saved) => self.shelve(pin.id, saved.state, true),
            None if offered => self.tell(pin.id, PinState::Refused),
            None => Ok(()),
        }
    }

    /// Lets go of a prefix, however far it is.
    pub(super) fn unpin(&mut self, id: PinId) -> io::Result<()> {
        let known = self.pins.get(id);
        let ready = known.is_some_and(|pin| pin.stage == Stage::Ready);
        let everyones = known.filter(|pin| pin.owner == Owner::Everyone);
        let tokens = everyones.map(|pin| pin.tokens.clone());
        if let Some(reading) = self.pins.remove(id) {
            self.model.forget(sequence_id(reading.sequence));
        }
        if ready {
            // What it took is free for those that the shelf had no room for.
            self.pins.try_again();
        }
        self.memories.shelf.unpin(id);
        // A sequence may still hold it, for users who would not have it without the pin.
        for sequence in tokens.map_or_else(Vec::new, |t| self.memories.forget_everyones(&t)) {
            self.model.forget(sequence_id(sequence));
        }
        self.report_cache()
    }

    /// Writes a prefix's state where hobd can store it.
    pub(super) fn save_pin(&mut self, id: PinId, memory: &OwnedFd) -> io::Result<()> {
        let entry = self.memories.shelf.pinned(id);
        let written =
            entry.is_some_and(|entry| saved::write(memory, &entry.tokens, &entry.state).is_ok());
        self.pulse.advance();
        self.events.send(EngineEvent::PinSaved { id, written })
    }

    /// Keeps at most so many bytes from now on.
    pub(super) fn limit_cache(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes > self.memories.shelf.bytes_max() {
            self.pins.try_again();
        }
        for id in self.memories.shelf.limit(bytes) {
            self.no_room(id)?;
        }
        self.report_cache()
    }

    /// A request comes first: what was read of a prefix stays in its sequence, and goes to the
    /// shelf if that is needed.
    pub(super) fn pause_reading(&mut self) {
        let Some(reading) = self.pins.reading.take() else {
            return;
        };
        let memory = self.pins.get(reading.id).map(|pin| Memory {
            owner: pin.owner,
            tokens: pin.tokens[..reading.seen].to_vec(),
            prompt_len: reading.seen,
            read_len: reading.seen,
        });
        let Reading { sequence, seen, .. } = reading;
        recall::remember(self.model, &mut self.memories, sequence, seen, memory);
    }

    /// Reads one step's worth of a prefix, if one waits. No request may be under way.
    pub(super) fn read_pins(&mut self) -> io::Result<()> {
        let reading = match self.pins.reading.take() {
            Some(reading) => reading,
            None => match self.begin_reading()? {
                Some(reading) => reading,
                None => return Ok(()),
            },
        };
        let Some(pin) = self.pins.get(reading.id) else {
            return Ok(());
        };
        // A long step may be lost to who arrives. After one was, they are short: where requests come
        // often, there would not be time for a long one ever.
        let long = self.limits.goes_back && !self.pins.stopped;
        let batch_max = self.limits.n_batch as usize;
        let room = self.paces.of(long).chunk().min(batch_max);
        let count = slots::share(reading.seen, pin.tokens.len(), room, batch_max);
        let sequence = sequence_id(reading.sequence);
        let positions = sequence_id(reading.seen)..;
        let rows = pin.tokens[reading.seen..].iter().take(count).zip(positions);
        let rows: Vec<_> = rows
            .map(|(token, position)| Row {
                token: *token,
                position,
                sequence,
                logits: false,
            })
            .collect();
        // A model that can't go back would lose all with a step that is stopped.
        if self.limits.goes_back {
            self.inbox.interrupt().begin_idle();
        } else {
            self.inbox.interrupt().begin(None);
        }
        let started = Instant::now();
        let decoded = self.model.decode(&rows);
        self.pulse.advance();
        match decoded {
            Ok(Step::Done) => {
                self.paces.of(long).learn(count, started.elapsed());
                self.pins.stopped = false;
                let seen = reading.seen + count;
                self.read_on(Reading { seen, ..reading })
            }
            Ok(Step::Stopped) => {
                self.pins.stopped = true;
                self.pins.reading = Some(reading);
                self.pause_reading();
                Ok(())
            }
            Err(_) => {
                self.model.forget(sequence);
                self.pins.remove(reading.id);
                self.fail_pin(reading.id, PinFailure::Decode)
            }
        }
    }

    fn begin_reading(&mut self) -> io::Result<Option<Reading>> {
        let Some(pin) = self.pins.next_waiting() else {
            return Ok(None);
        };
        let (id, owner) = (pin.id, pin.owner);
        let reader = Some(Reader { owner, exact: true });
        let is_free = |_| true;
        let place = recall::place(self.model, &mut self.memories, reader, &pin.tokens, is_free);
        let Some(Place {
            sequence,
            cached,
            lost,
            ..
        }) = place
        else {
            return Ok(None);
        };
        if let Some(lost) = lost {
            self.spoilt(lost)?;
        }
        Ok(Some(Reading {
            id,
            sequence,
            seen: cached,
            reported: None,
        }))
    }

    /// Notes what was read, and shelves the prefix when that is all of it.
    fn read_on(&mut self, mut reading: Reading) -> io::Result<()> {
        let id = reading.id;
        let Some(whole) = self.pins.get(id).map(|pin| pin.tokens.len()) else {
            return Ok(());
        };
        if reading.seen < whole {
            let now = Instant::now();
            let recent = |at: Instant| now.duration_since(at) < PREFILL_REPORT_INTERVAL;
            if !reading.reported.is_some_and(recent) {
                reading.reported = Some(now);
                let processed = slots::count(reading.seen);
                let total = slots::count(whole);
                self.tell(id, PinState::Reading { processed, total })?;
            }
            self.pins.reading = Some(reading);
            return Ok(());
        }
        let state = self.model.save(sequence_id(reading.sequence));
        self.pins.reading = Some(reading);
        self.pause_reading();
        match state {
            Some(state) => self.shelve(id, state, false),
            None => self.no_room(id),
        }
    }

    /// Puts a whole prefix on the shelf.
    fn shelve(&mut self, id: PinId, state: Vec<u8>, restored: bool) -> io::Result<()> {
        let Some(pin) = self.pins.get(id) else {
            return Ok(());
        };
        let ready = PinState::Ready {
            tokens: sequence_id(pin.tokens.len()),
            bytes: saved::bytes(&pin.tokens, &state) as u64,
            restored,
        };
        let (owner, tokens) = (pin.owner, pin.tokens.clone());
        match self.memories.shelf.pin(id, owner, tokens, state) {
            Ok(lost) => {
                self.pins.set(id, Stage::Ready);
                self.tell(id, ready)?;
                for id in lost {
                    self.no_room(id)?;
                }
                self.report_cache()
            }
            Err(NoRoom) => self.no_room(id),
        }
    }

    fn no_room(&mut self, id: PinId) -> io::Result<()> {
        self.pins.set(id, Stage::NoRoom);
        self.fail_pin(id, PinFailure::NoRoom)
    }

    fn fail_pin(&mut self, id: PinId, reason: PinFailure) -> io::Result<()> {
        self.tell(id, PinState::Failed { reason })
    }

    /// A prefix whose state could not be restored after all is read.
    pub(super) fn spoilt(&mut self, id: PinId) -> io::Result<()> {
        self.pins.set(id, Stage::Waiting);
        self.tell(id, PinState::Refused)
    }

    fn tell(&mut self, id: PinId, state: PinState) -> io::Result<()> {
        self.events.send(EngineEvent::Pin { id, state })
    }

    /// Reports what lies on the shelf, if that has changed.
    pub(super) fn report_cache(&mut self) -> io::Result<()> {
        let kept = &self.memories.shelf;
        let entries = u32::try_from(kept.entries().len()).unwrap_or(u32::MAX);
        let now = (entries, kept.bytes() as u64);
        if now == self.cache_reported {
            return Ok(());
        }
        self.cache_reported = now;
        let (entries, bytes) = now;
        self.events.send(EngineEvent::Cache { entries, bytes })
    }
}
