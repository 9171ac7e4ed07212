//! Which pins there are, how far each is, and what follows from what the engine and the disk report;
//! `doors` has what follows from what users ask. No I/O: jobs go to the [`Disk`], commands for the
//! engine are returned.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hob_api::pin::{PinSource, PinState};
use hob_api::status::CacheStatus;
use hob_ipc::Command;
use hob_ipc::message::{PinId, PinState as EngineState, Ready};
use hob_ipc::shared;

use super::disk::{Disk, Done, Found, Job, PutReply};
use super::entry::{Entry, Stored};
use super::snapshot::Header;
use super::{Definition, Owner, PinName, definitions};
use crate::settings::Settings;

mod doors;
mod homes;

pub use doors::Call;
use doors::not_stored;
pub use homes::HomePrefix;

/// How long a ready engine waits for snapshots to be read. The 64 MiB of a default cache take an SD
/// card some 6 s; a disk that needs longer may hang, and a pin that is read anew costs less than
/// answers that don't come.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// A command for the engine, and the descriptor that goes with it.
pub type Outgoing = (Command, Option<OwnedFd>);

/// The pins, as the daemon's task holds them.
#[derive(Debug)]
pub struct Pins {
    disk: Disk,
    entries: BTreeMap<(Owner, PinName), Entry>,
    next_id: u64,
    /// Puts that are on their way to the disk.
    pending: Vec<(Owner, PinName)>,
    /// What becomes of the pins of homes.
    homes: BTreeMap<(Owner, PinName), homes::Change>,
    /// The sha256 of the model that is loaded or loading.
    model: Option<String>,
    /// The engine, once it is ready and was told of the pins.
    engine: Option<Ready>,
    /// A ready engine that waits for snapshots to be read, and until when.
    held: Option<(Ready, Instant)>,
    cache_bytes: u64,
    /// Bytes of memory that the disk has yet to write.
    unwritten: u64,
    snapshots: bool,
    figures: CacheStatus,
}

impl Pins {
    /// The pins that were stored before. Reads their definitions, which is quick.
    pub fn open(settings: &Settings) -> Self {
        let stored = definitions::read_all(&settings.pins.dir);
        let known: Vec<_> = stored.iter().map(Definition::text_id).collect();
        let mut pins = Self {
            disk: Disk::start(&settings.pins, &settings.snapshots, &known),
            entries: BTreeMap::new(),
            next_id: 1,
            pending: Vec::new(),
            homes: BTreeMap::new(),
            model: None,
            engine: None,
            held: None,
            cache_bytes: settings.engine.cache_bytes,
            unwritten: 0,
            snapshots: settings.snapshots.bytes > 0,
            figures: CacheStatus {
                bytes_max: settings.engine.cache_bytes,
                ..CacheStatus::default()
            },
        };
        for definition in stored {
            pins.insert(definition);
        }
        pins
    }

    /// The next thing that the disk has done.
    pub(crate) async fn done(&mut self) -> Done {
        self.disk.done().await
    }

    /// Figures for the daemon's status.
    pub fn figures(&self) -> CacheStatus {
        let ready = self.entries.values().filter(|e| e.state == PinState::Ready);
        CacheStatus {
            pins: count(self.entries.values().filter(|e| !e.home.dormant).count()),
            pins_ready: count(ready.count()),
            ..self.figures.clone()
        }
    }

    /// Lowers or raises the bound on what the engine keeps, which it obeys at once.
    pub fn limit_cache(&mut self, bytes: u64) -> Outgoing {
        let raised = bytes > self.cache_bytes;
        self.cache_bytes = bytes;
        self.figures.bytes_max = bytes;
        if raised {
            self.look_again();
        }
        (Command::LimitCache { bytes }, None)
    }

    /// A model was opened, and an engine starts with it: its snapshots are read meanwhile.
    pub fn model_opened(&mut self, sha256: &str) {
        self.engine_gone();
        self.model = Some(sha256.to_owned());
        for entry in self.entries.values_mut() {
            entry.stored = Stored::Unknown;
            entry.home.late = false;
        }
        self.read_next();
    }

    /// The engine is ready. Returns what to tell it before any request, or `None` if that has to wait
    /// for a snapshot that is being read; then [`Pins::released`] says so.
    pub fn engine_ready(&mut self, now: Instant, ready: Ready) -> Option<Vec<Outgoing>> {
        self.figures.entries = 0;
        self.figures.bytes = 0;
        if self.is_reading() {
            self.held = Some((ready, now + HOLD_MAX));
            return None;
        }
        self.engine = Some(ready);
        Some(self.tell_all())
    }

    /// When an engine that waits for snapshots is released though they are not read, or something
    /// about homes is due.
    pub fn wakeup(&self) -> Option<Instant> {
        let held = self.held.as_ref().map(|(_, until)| *until);
        held.into_iter().chain(self.homes_due()).min()
    }

    /// The engine that waited for snapshots, if it need not wait any more, and what to tell it.
    pub fn released(&mut self, now: Instant) -> Option<(Ready, Vec<Outgoing>)> {
        let until = self.held.as_ref().map(|(_, until)| *until)?;
        if self.is_reading() {
            if now < until {
                return None;
            }
            self.give_up_reading();
        }
        let (ready, _) = self.held.take()?;
        self.engine = Some(ready.clone());
        Some((ready, self.tell_all()))
    }

    /// The engine is gone, and with it what it held.
    pub fn engine_gone(&mut self) {
        self.engine = None;
        self.held = None;
        self.model = None;
        (self.figures.entries, self.figures.bytes) = (0, 0);
        for entry in self.entries.values_mut() {
            entry.forget_engine();
        }
    }

    /// What the engine keeps beside its sequences.
    pub fn cache(&mut self, entries: u32, bytes: u64) {
        (self.figures.entries, self.figures.bytes) = (entries, bytes);
    }

    /// The engine says how far a pin is.
    pub fn progress(&mut self, id: PinId, state: EngineState) -> Vec<Outgoing> {
        let snapshots = self.snapshots;
        let Some(entry) = self.entries.values_mut().find(|entry| entry.id == id) else {
            // It was unpinned meanwhile.
            return Vec::new();
        };
        entry.problem = None;
        match state {
            EngineState::Refused => {
                entry.state = PinState::Waiting;
                if !matches!(entry.stored, Stored::Settled { saved: true }) {
                    // There is no snapshot to refuse, and nothing to tell of.
                    return Vec::new();
                }
                entry.stored = Stored::Settled { saved: false };
                entry.source = None;
                self.figures.damaged += 1;
                tracing::warn!(pin = %id, "the engine can't use a pin's snapshot; it is read again");
                if let Some(model) = self.model.clone() {
                    let text = entry.text.clone();
                    // With a disk that is that far behind, the next engine refuses it again.
                    let _ = self.disk.submit(Job::Discard { model, text });
                }
            }
            EngineState::Reading { processed, total } => {
                entry.state = PinState::Reading;
                (entry.processed, entry.tokens) = (processed, total);
            }
            EngineState::Failed { reason } => {
                entry.state = PinState::Failed;
                entry.problem = Some(reason);
                entry.bytes = 0;
            }
            EngineState::Ready {
                tokens,
                bytes,
                restored,
            } => {
                entry.state = PinState::Ready;
                (entry.processed, entry.tokens, entry.bytes) = (tokens, tokens, bytes);
                if entry.source.is_none() {
                    tracing::info!(pin = %id, tokens, bytes, restored, "a pin is ready");
                }
                if restored {
                    entry.source = Some(PinSource::Restored);
                    self.figures.restored += 1;
                } else {
                    entry.source = Some(PinSource::Computed);
                    self.figures.computed += 1;
                }
                let saved = matches!(entry.stored, Stored::Settled { saved: true });
                if snapshots && !saved {
                    return entry.save(bytes).into_iter().collect();
                }
            }
        }
        Vec::new()
    }

    /// The engine has written a pin's state, or has not.
    pub fn saved(&mut self, id: PinId, written: bool) {
        let (Some(model), Some(engine)) = (&self.model, &self.engine) else {
            return;
        };
        let Some(entry) = self.entries.values_mut().find(|entry| entry.id == id) else {
            return;
        };
        let Some(memory) = entry.saving.take().filter(|_| written) else {
            return;
        };
        // From here on not even the engine can change what is checked and stored.
        let sealed = shared::seal(&memory).and_then(|()| memory.metadata());
        let bytes = match sealed {
            // What the engine says of the pin by now may be of another state.
            Ok(metadata) => metadata.len(),
            Err(error) => {
                tracing::warn!(pin = %id, %error, "a pin's snapshot can't be taken");
                return;
            }
        };
        let header = Header {
            model: model.clone(),
            text: entry.text.clone(),
            format: engine.state_format.clone(),
            bytes,
        };
        // A disk that hangs must not make one engine after another leave as much as it can keep.
        let fits = self.unwritten.saturating_add(bytes) <= self.cache_bytes;
        let job = Job::Write {
            id,
            owner: entry.definition.owner,
            header,
            memory,
        };
        if fits && self.disk.submit(job).is_ok() {
            self.unwritten += bytes;
        } else {
            self.figures.unsaved += 1;
            tracing::warn!(pin = %id, "the disk is too far behind to save a pin's snapshot");
        }
    }

    /// Takes in what the disk has done, and returns what to tell the engine.
    pub(crate) fn take_in(&mut self, done: Done) -> Vec<Outgoing> {
        if let Done::Written { taken, .. } = &done {
            self.unwritten -= taken;
        }
        match done {
            Done::Stored(definition, result, reply) => self.stored(definition, result, reply),
            Done::Deleted(owner, name, Ok(()), reply) => {
                let outgoing = self.forget(&(owner, name));
                drop(reply.send(Ok(())));
                outgoing
            }
            Done::Deleted(_, _, Err(error), reply) => {
                tracing::warn!(%error, "a pin can't be deleted");
                drop(reply.send(Err(not_stored())));
                Vec::new()
            }
            Done::Read(id, found) => self.looked_for(id, found),
            Done::Written {
                id,
                result: Ok(bytes),
                ..
            } => {
                self.figures.written_bytes += bytes;
                tracing::info!(pin = %id, bytes, "a pin's snapshot is on the disk");
                let entry = self.entries.values_mut().find(|entry| entry.id == id);
                // If it is looked for already, for the next engine, that finds it.
                if let Some(stored @ (Stored::Settled { .. } | Stored::Skipped)) =
                    entry.map(|e| &mut e.stored)
                {
                    *stored = Stored::Settled { saved: true };
                }
                Vec::new()
            }
            Done::Written {
                id,
                result: Err(error),
                ..
            } => {
                self.figures.unsaved += 1;
                tracing::warn!(pin = %id, %error, "a pin's snapshot can't be written");
                Vec::new()
            }
        }
    }

    fn stored(
        &mut self,
        definition: Definition,
        result: io::Result<()>,
        reply: PutReply,
    ) -> Vec<Outgoing> {
        let key = (definition.owner, definition.name.clone());
        if let Some(at) = self.pending.iter().position(|pending| *pending == key) {
            self.pending.swap_remove(at);
        }
        if let Err(error) = result {
            tracing::warn!(%error, "a pin can't be stored");
            drop(reply.send(Err(not_stored())));
            return Vec::new();
        }
        let mut outgoing = self.forget(&key);
        let entry = self.insert(definition);
        // What is new has no snapshot. Looking for one all the same would let somebody who pins
        // without end keep a loaded engine waiting for the disk.
        entry.stored = Stored::Settled { saved: false };
        drop(reply.send(Ok(entry.shown_whole())));
        outgoing.extend(self.tell_all());
        outgoing
    }

    /// A snapshot was looked for.
    fn looked_for(&mut self, id: PinId, found: Found) -> Vec<Outgoing> {
        if matches!(found, Found::Damaged) {
            self.figures.damaged += 1;
        }
        let fits = |header: &Header| {
            let engine = self.engine.as_ref();
            self.model.as_ref() == Some(&header.model)
                && engine.is_none_or(|engine| engine.state_format == header.format)
        };
        if let Some(entry) = self.entries.values_mut().find(|entry| entry.id == id)
            && matches!(entry.stored, Stored::Reading)
        {
            entry.stored = match found {
                // The engine has read the text meanwhile.
                Found::Whole(s) if fits(&s.header) && entry.state == PinState::Ready => {
                    Stored::Settled { saved: true }
                }
                Found::Whole(s) if fits(&s.header) => {
                    // The engine may know of the pin, and have had no room for it.
                    entry.told = false;
                    Stored::Whole(s)
                }
                _ => Stored::Settled { saved: false },
            };
        }
        self.read_next();
        self.tell_all()
    }

    fn insert(&mut self, definition: Definition) -> &mut Entry {
        let id = PinId(self.next_id);
        self.next_id += 1;
        let key = (definition.owner, definition.name.clone());
        let entry = Entry::new(id, definition);
        self.entries.remove(&key);
        self.entries.entry(key).or_insert(entry)
    }

    /// Forgets a pin, and its snapshots unless another has the same text.
    fn forget(&mut self, key: &(Owner, PinName)) -> Vec<Outgoing> {
        let Some(entry) = self.entries.remove(key) else {
            return Vec::new();
        };
        if self.entries.values().all(|other| other.text != entry.text) {
            let _ = self.disk.submit(Job::Forget(entry.text));
        }
        let unpin = (Command::Unpin { id: entry.id }, None);
        entry.told.then_some(unpin).into_iter().collect()
    }

    /// What was not read by now is computed; what the disk says of it later is dropped.
    fn give_up_reading(&mut self) {
        let undecided = |e: &&mut Entry| matches!(e.stored, Stored::Unknown | Stored::Reading);
        let given_up = self.entries.values_mut().filter(undecided);
        let pins = given_up.map(|e| e.stored = Stored::Settled { saved: false });
        let pins = pins.count();
        tracing::warn!(
            pins,
            "the disk does not give snapshots in time; they are computed"
        );
    }

    fn is_reading(&self) -> bool {
        // A home that is registered while a model loads does not keep it waiting: who does so without
        // end would keep it for ever.
        let undecided =
            |e: &Entry| !e.home.late && matches!(e.stored, Stored::Unknown | Stored::Reading);
        self.model.is_some() && self.entries.values().any(undecided)
    }

    /// Reads one more snapshot, if one has not been looked for: one at a time, and together no more
    /// than the engine can keep.
    fn read_next(&mut self) {
        let Some(model) = self.model.clone() else {
            return;
        };
        let reading = |e: &Entry| matches!(e.stored, Stored::Reading);
        if self.entries.values().any(reading) {
            return;
        }
        let held: u64 = self.entries.values().map(Entry::held_bytes).sum();
        let bytes_max = self.cache_bytes.saturating_sub(held);
        let snapshots = self.snapshots;
        for entry in self.entries.values_mut() {
            if !matches!(entry.stored, Stored::Unknown) {
                continue;
            }
            let job = Job::Read {
                id: entry.id,
                model: model.clone(),
                text: entry.text.clone(),
                bytes_max,
            };
            if snapshots && bytes_max > 0 && self.disk.submit(job).is_ok() {
                entry.stored = Stored::Reading;
                return;
            }
            entry.stored = if snapshots {
                Stored::Skipped
            } else {
                Stored::Settled { saved: false }
            };
        }
    }

    /// The engine may keep more: snapshots that it had no room for are of use again.
    fn look_again(&mut self) {
        if self.model.is_none() {
            return;
        }
        for entry in self.entries.values_mut() {
            let again = match entry.stored {
                Stored::Skipped => entry.state != PinState::Ready,
                Stored::Settled { saved } => saved && entry.state == PinState::Failed,
                _ => false,
            };
            if again {
                entry.stored = Stored::Unknown;
            }
        }
        self.read_next();
    }

    /// Tells the engine of every pin that it has not heard of and that is looked for.
    fn tell_all(&mut self) -> Vec<Outgoing> {
        let Some(engine) = &self.engine else {
            return Vec::new();
        };
        let format = &engine.state_format;
        let untold = self.entries.values_mut().filter(|entry| !entry.told);
        untold.filter_map(|entry| entry.tell(format)).collect()
    }
}

fn count(things: usize) -> u32 {
    u32::try_from(things).unwrap_or(u32::MAX)
}
