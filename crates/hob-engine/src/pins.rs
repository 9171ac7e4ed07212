//! Pinned prefixes: which there are, and how far each is. Pure.

use std::time::Instant;

use hob_ipc::message::PinId;

use crate::prompt::Token;
use crate::shelf::Owner;

/// A pinned prefix.
#[derive(Debug)]
pub struct Pinned {
    /// Its number.
    pub id: PinId,
    /// Whose requests it serves.
    pub owner: Owner,
    /// What they have in common.
    pub tokens: Vec<Token>,
    /// How far it is.
    pub stage: Stage,
}

/// How far a prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is to be read when there is nothing else to do.
    Waiting,
    /// It lies on the shelf.
    Ready,
    /// The shelf has no room for it.
    NoRoom,
}

/// A prefix that is being read.
#[derive(Debug)]
pub struct Reading {
    /// Which one.
    pub id: PinId,
    /// Where.
    pub sequence: usize,
    /// How many of its tokens the model has seen.
    pub seen: usize,
    /// When progress was last reported.
    pub reported: Option<Instant>,
}

/// All pinned prefixes.
#[derive(Debug, Default)]
pub struct Pins {
    all: Vec<Pinned>,
    /// The one that is being read, if no request has interrupted that.
    pub reading: Option<Reading>,
    /// Whether a request ended the latest step that read one, and what it had computed is lost.
    pub stopped: bool,
}

impl Pins {
    /// Whether there is something to read.
    pub fn has_work(&self) -> bool {
        self.reading.is_some() || self.next_waiting().is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds one, in place of one of the same number.
    pub fn add(&mut self, id: PinId, owner: Owner, tokens: Vec<Token>) {
        self.remove(id);
        self.all.push(Pinned {
            id,
            owner,
            tokens,
            stage: Stage::Waiting,
        });
    }

    /// Forgets one, and returns how far its reading was.
    pub fn remove(&mut self, id: PinId) -> Option<Reading> {
        self.all.retain(|pin| pin.id != id);
        self.reading.take_if(|reading| reading.id == id)
    }

    /// The pin of this number.
    pub fn get(&self, id: PinId) -> Option<&Pinned> {
        self.all.iter().find(|pin| pin.id == id)
    }

    /// The one to read next.
    pub fn next_waiting(&self) -> Option<&Pinned> {
        self.all.iter().find(|pin| pin.stage == Stage::Waiting)
    }

    /// Notes how far one is.
    pub fn set(&mut self, id: PinId, stage: Stage) {
        if let Some(pin) = self.all.iter_mut().find(|pin| pin.id == id) {
            pin.stage = stage;
        }
    }

    /// The shelf is larger, or emptier: those that it had no room for may fit now.
    pub fn try_again(&mut self) {
        for pin in &mut self.all {
            if pin.stage == Stage::NoRoom {
                pin.stage = Stage::Waiting;
            }
        }
    }
}
