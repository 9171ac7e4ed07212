//! What doors ask of pins: to pin, to unpin, to tell.

use std::collections::BTreeSet;

use hob_api::pin::Pin;
use hob_api::{ApiError, ErrorCode};
use hob_ipc::message::{ChatMessage, PINS_MAX};
use tokio::sync::oneshot;

use super::homes::HOMES_MAX;
use super::{Outgoing, Pins};
use crate::pins::disk::{Job, PutReply, RemoveReply};
use crate::pins::entry::Entry;
use crate::pins::{Definition, Owner, PINS_PER_OWNER_MAX, PinName, owner_of};

/// Puts that may be on their way to the disk: each has the engine told of two things, when it may
/// be at a long step.
const PENDING_MAX: usize = 32;

/// Most pins of all users together: users can't take the places of everybody's pins, nor of homes.
const USERS_PINS_MAX: usize = PINS_MAX - PINS_PER_OWNER_MAX - HOMES_MAX;

/// What a door asks.
#[derive(Debug)]
pub enum Call {
    /// Pin messages under a name.
    Put {
        /// Whose it is.
        owner: Owner,
        /// Its name.
        name: PinName,
        /// What to pin.
        messages: Vec<ChatMessage>,
        /// Told when it is stored.
        reply: PutReply,
    },
    /// Unpin a name.
    Remove {
        /// Whose it is.
        owner: Owner,
        /// Its name.
        name: PinName,
        /// Told when it is gone.
        reply: RemoveReply,
    },
    /// A user's pins, and those of the user's homes, by name.
    List {
        /// Whose.
        uid: u32,
        /// Gets them, without their messages.
        reply: oneshot::Sender<Result<Vec<Pin>, ApiError>>,
    },
    /// One pin.
    Get {
        /// Whose it is.
        owner: Owner,
        /// Its name.
        name: PinName,
        /// Gets it.
        reply: oneshot::Sender<Result<Pin, ApiError>>,
    },
}

impl Call {
    /// Refuses what changes something, as too much is changed already; hands back the rest.
    pub(crate) fn refuse_change(self) -> Option<Self> {
        // A caller that is gone does not need the reply.
        match self {
            Self::Put { reply, .. } => drop(reply.send(Err(too_many_jobs()))),
            Self::Remove { reply, .. } => drop(reply.send(Err(too_many_jobs()))),
            reads @ (Self::List { .. } | Self::Get { .. }) => return Some(reads),
        }
        None
    }
}

impl Pins {
    /// Does what a door asks.
    pub fn call(&mut self, call: Call) -> Vec<Outgoing> {
        // A caller that is gone does not need the reply.
        match call {
            Call::Put {
                owner,
                name,
                messages,
                reply,
            } => self.put(owner, name, messages, reply),
            Call::Remove { owner, name, reply } => self.remove(owner, name, reply),
            Call::List { uid, reply } => {
                // A home is its user's own, also if what that user pins serves everybody.
                let owner = owner_of(uid);
                let own = self.entries.values().filter(|entry| {
                    let its = entry.definition.owner;
                    its == owner || (entry.is_of_provider() && its == Some(uid))
                });
                drop(reply.send(Ok(own.map(Entry::shown).collect())));
            }
            Call::Get { owner, name, reply } => {
                let found = self.entries.get(&(owner, name));
                let found = found.map(Entry::shown_whole).ok_or_else(not_found);
                drop(reply.send(found));
            }
        }
        Vec::new()
    }

    fn put(&mut self, owner: Owner, name: PinName, messages: Vec<ChatMessage>, reply: PutReply) {
        let key = (owner, name);
        // With another change of it under way, the one that comes last must win.
        if let Some(known) = self.entries.get(&key)
            && known.definition.messages == messages
            && !known.leaving
            && !self.pending.contains(&key)
        {
            return drop(reply.send(Ok(known.shown_whole())));
        }
        if let Err(error) = self.check_quota(&key) {
            return drop(reply.send(Err(error)));
        }
        if self.pending.len() >= PENDING_MAX {
            return drop(reply.send(Err(too_many_jobs())));
        }
        let (owner, name) = key.clone();
        let definition = Definition {
            owner,
            name,
            messages,
        };
        match self.disk.submit(Job::Store(definition, reply)) {
            Ok(()) => self.pending.push(key),
            Err(Job::Store(_, reply)) => drop(reply.send(Err(too_many_jobs()))),
            Err(_) => {}
        }
    }

    fn check_quota(&self, key: &(Owner, PinName)) -> Result<(), ApiError> {
        // What is being replaced is in both, and counts once.
        let there: BTreeSet<_> = self.entries.keys().chain(&self.pending).collect();
        let there: BTreeSet<_> = (there.into_iter())
            .filter(|(_, name)| !name.is_of_provider())
            .collect();
        if there.contains(key) {
            return Ok(());
        }
        let quota = |message: String, hint| {
            Err(ApiError::new(ErrorCode::QuotaExceeded, message).hint(hint))
        };
        let own = there.iter().filter(|(owner, _)| *owner == key.0);
        if own.count() >= PINS_PER_OWNER_MAX {
            let message = format!("you have {PINS_PER_OWNER_MAX} pins, the most allowed");
            return quota(message, "remove one first");
        }
        let users = there.iter().filter(|(owner, _)| owner.is_some());
        if key.0.is_some() && users.count() >= USERS_PINS_MAX {
            let message = format!("there are {USERS_PINS_MAX} pins of all users, the most allowed");
            return quota(message, "somebody has to remove one first");
        }
        Ok(())
    }

    fn remove(&mut self, owner: Owner, name: PinName, reply: RemoveReply) {
        let key = (owner, name);
        if !self.entries.contains_key(&key) && !self.pending.contains(&key) {
            return drop(reply.send(Err(not_found())));
        }
        let (owner, name) = key.clone();
        match self.disk.submit(Job::Delete(owner, name, reply)) {
            Ok(()) => {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.leaving = true;
                }
            }
            Err(Job::Delete(_, _, reply)) => drop(reply.send(Err(too_many_jobs()))),
            Err(_) => {}
        }
    }
}

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "you have no pin of that name")
        .hint("`hob pins list` or GET /hob/v1/pins shows what you have")
}

fn too_many_jobs() -> ApiError {
    ApiError::new(ErrorCode::Busy, "too many pins are being stored")
        .hint("try again in a second")
        .retry_after_ms(1000)
}

pub(super) fn not_stored() -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        "the pin can't be stored or deleted on the disk",
    )
    .hint("check the space and the permissions of pins.dir; hobd's log tells more")
}
