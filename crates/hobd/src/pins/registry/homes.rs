//! What homes in force have pinned: the beginning of every question about them.
//!
//! Providers are in memory alone, so their pins are, too: they follow the providers. Only their
//! snapshots stay on the disk for a while, so that a hub which registers the same home again, after
//! a restart of it or of hobd, has it restored. A home that no model was ever asked about is not
//! pinned at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hob_ipc::Command;
use hob_ipc::message::ChatMessage;

use super::{Outgoing, Pins};
use crate::pins::entry::{Entry, OfHome};
use crate::pins::{Definition, Owner, PinName};
use crate::providers::ProviderName;

/// Most pins of homes, and most of one user's: the rest of an engine's places is for what users pin.
pub(in crate::pins) const HOMES_MAX: usize = 16;
const HOMES_PER_OWNER_MAX: usize = 4;
/// For how long a home has to stay the same before its pin follows: a hub that adds its devices one
/// by one must not have each of the homes in between read.
const QUIET: Duration = Duration::from_secs(1);

/// What conversations about a home in force begin with.
#[derive(Clone, Debug)]
pub struct HomePrefix {
    /// Whose home it is.
    pub uid: u32,
    /// The provider.
    pub name: ProviderName,
    /// What they begin with.
    pub messages: Arc<[ChatMessage]>,
    /// Whether a model was asked about it.
    pub wanted: bool,
}

/// What a pin becomes, and when.
#[derive(Debug)]
pub(super) struct Change {
    due: Instant,
    /// `None` if its home is gone.
    prefix: Option<HomePrefix>,
}

type Key = (Owner, PinName);

impl Pins {
    /// The homes in force are these. What follows is done by [`Pins::settle_homes`].
    pub fn homes_changed(&mut self, now: Instant, homes: Vec<HomePrefix>) {
        let key = |home: &HomePrefix| (Some(home.uid), PinName::of_provider(&home.name));
        let homes: BTreeMap<Key, HomePrefix> = homes.into_iter().map(|h| (key(&h), h)).collect();
        let there = self
            .entries
            .iter()
            .filter(|(key, _)| key.1.is_of_provider());
        let gone: Vec<Key> = there
            .filter(|(key, _)| !homes.contains_key(key))
            .map(|(key, _)| key.clone())
            .collect();
        self.homes
            .retain(|key, change| change.prefix.is_none() || homes.contains_key(key));
        for key in gone {
            let gone = Change {
                due: now + QUIET,
                prefix: None,
            };
            let change = self.homes.entry(key).or_insert(gone);
            change.prefix = None;
        }
        for (key, home) in homes {
            let due = match self.entries.get(&key) {
                Some(entry) if *entry.definition.messages == *home.messages => {
                    if !entry.home.dormant || !home.wanted {
                        self.homes.remove(&key);
                        continue;
                    }
                    now
                }
                Some(_) => now + QUIET,
                None => now,
            };
            let prefix = Some(home);
            self.homes.insert(key, Change { due, prefix });
        }
    }

    /// When something about homes is due.
    pub(super) fn homes_due(&self) -> Option<Instant> {
        self.homes.values().map(|change| change.due).min()
    }

    /// Nothing about homes is due for a while: the engine has not read what it was told before.
    pub fn postpone_homes(&mut self, now: Instant) {
        for change in self.homes.values_mut() {
            change.due = change.due.max(now + QUIET);
        }
    }

    /// Does what is due.
    pub fn settle_homes(&mut self, now: Instant) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        let (due, later) = std::mem::take(&mut self.homes)
            .into_iter()
            .partition(|(_, change)| change.due <= now);
        self.homes = later;
        let due: BTreeMap<Key, Change> = due;
        for (key, change) in due {
            match change.prefix {
                None => outgoing.extend(self.release(&key)),
                Some(home) => outgoing.extend(self.follow(key, &home)),
            }
        }
        outgoing
    }

    /// Lets go of a home's pin. Its snapshot stays, for when it comes back.
    fn release(&mut self, key: &Key) -> Option<Outgoing> {
        let entry = self.entries.remove(key)?;
        entry
            .told
            .then_some((Command::Unpin { id: entry.id }, None))
    }

    /// Makes a home's pin what the home is now.
    fn follow(&mut self, key: Key, home: &HomePrefix) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        let before = self.entries.get(&key);
        let awake = before.is_some_and(|entry| !entry.home.dormant);
        let mut dormant = !home.wanted && !awake;
        if !dormant && !awake && !self.has_room_for_home(key.0) {
            tracing::debug!("there is no room for another home's pin");
            dormant = true;
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            if *entry.definition.messages == *home.messages {
                entry.home.dormant = dormant;
                return self.tell_all();
            }
            outgoing = self.forget(&key);
        }
        let late = self.model.is_some();
        let entry = self.insert(Definition {
            owner: key.0,
            name: key.1,
            messages: home.messages.to_vec(),
        });
        entry.home = OfHome { dormant, late };
        self.read_next();
        outgoing.extend(self.tell_all());
        outgoing
    }

    fn has_room_for_home(&self, owner: Owner) -> bool {
        let homes = self.entries.values();
        let homes = homes.filter(|entry| entry.is_of_provider() && !entry.home.dormant);
        let (mut all, mut own) = (0, 0);
        for entry in homes {
            all += 1;
            own += usize::from(entry.definition.owner == owner);
        }
        all < HOMES_MAX && own < HOMES_PER_OWNER_MAX
    }
}

impl Entry {
    /// Whether it belongs to a home, and not to a user who pinned it.
    pub(in crate::pins) fn is_of_provider(&self) -> bool {
        self.definition.name.is_of_provider()
    }
}
