//! One pin: how far it is, and what follows for the engine.

use std::fs::File;
use std::os::fd::OwnedFd;

use hob_api::pin::{Pin, PinMessage, PinSource, PinState};
use hob_ipc::Command;
use hob_ipc::message::{self, PinFailure, PinId};
use hob_ipc::shared;

use super::registry::Outgoing;
use super::snapshot::Snapshot;
use super::{Definition, MEMORY, TextId};

/// What is known of a pin's snapshot for the model that is loaded or loading.
#[derive(Debug, Default)]
pub(super) enum Stored {
    /// Not looked for yet.
    #[default]
    Unknown,
    /// Being read.
    Reading,
    /// Read, and not handed to an engine yet.
    Whole(Snapshot),
    /// Not looked for, as the engine has no room for it now.
    Skipped,
    /// There is none, or it was handed over; `saved` tells whether a good one lies on the disk.
    Settled { saved: bool },
}

/// What the pin of a home is beside the others.
#[derive(Debug, Default)]
pub(super) struct OfHome {
    /// Whether it is pinned only if a snapshot of it is found: nobody asked about it yet.
    pub(super) dormant: bool,
    /// Whether it came when a model was there already, which then does not wait for its snapshot.
    pub(super) late: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: PinId,
    pub(super) definition: Definition,
    pub(super) text: TextId,
    pub(super) stored: Stored,
    /// What is of account if it is a home's.
    pub(super) home: OfHome,
    /// Whether its definition is being deleted.
    pub(super) leaving: bool,
    /// Whether the engine that is there was told of it.
    pub(super) told: bool,
    pub(super) state: PinState,
    pub(super) problem: Option<PinFailure>,
    pub(super) processed: u32,
    pub(super) tokens: u32,
    pub(super) bytes: u64,
    pub(super) source: Option<PinSource>,
    /// Memory that the engine writes its state into.
    pub(super) saving: Option<File>,
    /// Whether the engine that is there was asked to write its state: once must do, or a hostile one
    /// could have memory and the disk filled without end.
    asked: bool,
}

impl Entry {
    /// A pin that nothing is known of but its text.
    pub(super) fn new(id: PinId, definition: Definition) -> Self {
        Self {
            id,
            text: definition.text_id(),
            definition,
            stored: Stored::Unknown,
            home: OfHome::default(),
            leaving: false,
            told: false,
            state: PinState::Waiting,
            problem: None,
            processed: 0,
            tokens: 0,
            bytes: 0,
            source: None,
            saving: None,
            asked: false,
        }
    }

    /// What the engine said of it is true no more.
    pub(super) fn forget_engine(&mut self) {
        self.told = false;
        self.saving = None;
        self.asked = false;
        if let Stored::Whole(_) = self.stored {
            // It is read again with the model; until then it would only take memory.
            self.stored = Stored::Settled { saved: true };
        }
        self.state = PinState::Waiting;
        self.problem = None;
        (self.processed, self.bytes, self.source) = (0, 0, None);
    }

    /// The command that pins it, with its snapshot if that is of the engine's format.
    pub(super) fn tell(&mut self, format: &str) -> Option<Outgoing> {
        if self.home.dormant {
            let found = |s: &Snapshot| s.header.format == format;
            if !matches!(&self.stored, Stored::Whole(snapshot) if found(snapshot)) {
                return None;
            }
            self.home.dormant = false;
        }
        let (snapshot, stored) = match std::mem::take(&mut self.stored) {
            Stored::Whole(snapshot) if snapshot.header.format == format => {
                (Some(snapshot), Stored::Settled { saved: true })
            }
            Stored::Whole(_) | Stored::Settled { .. } => (None, Stored::Settled { saved: false }),
            Stored::Skipped => (None, Stored::Skipped),
            undecided @ (Stored::Unknown | Stored::Reading) => {
                self.stored = undecided;
                return None;
            }
        };
        self.stored = stored;
        self.told = true;
        let pin = message::Pin {
            id: self.id,
            owner: self.definition.owner,
            messages: self.definition.messages.clone(),
            state_bytes: snapshot.as_ref().map(|snapshot| snapshot.header.bytes),
        };
        let memory = snapshot.map(|snapshot| OwnedFd::from(snapshot.memory));
        Some((Command::Pin(Box::new(pin)), memory))
    }

    /// The command that has the engine write its state, and where, unless it was asked before.
    pub(super) fn save(&mut self, bytes: u64) -> Option<Outgoing> {
        if std::mem::replace(&mut self.asked, true) {
            return None;
        }
        let made = shared::fixed(MEMORY, bytes).and_then(|memory| {
            let theirs = OwnedFd::from(memory.try_clone()?);
            Ok((memory, theirs))
        });
        match made {
            Ok((memory, theirs)) => {
                self.saving = Some(memory);
                Some((Command::SavePin { id: self.id }, Some(theirs)))
            }
            Err(error) => {
                tracing::warn!(pin = %self.id, %error, "a pin's snapshot can't be taken");
                None
            }
        }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        match &self.stored {
            Stored::Whole(snapshot) => snapshot.header.bytes,
            _ => self.bytes,
        }
    }

    pub(super) fn shown(&self) -> Pin {
        Pin {
            object: "pin".to_owned(),
            name: self.definition.name.as_str().to_owned(),
            shared: self.definition.owner.is_none(),
            state: self.state,
            problem: self.problem.map(|problem| describe(problem).to_owned()),
            processed: self.processed,
            tokens: self.tokens,
            bytes: self.bytes,
            source: self.source,
            saved: matches!(
                self.stored,
                Stored::Whole(_) | Stored::Settled { saved: true }
            ),
            text_bytes: self.definition.text_bytes() as u64,
            messages: None,
        }
    }

    pub(super) fn shown_whole(&self) -> Pin {
        let messages = self.definition.messages.iter().map(|message| PinMessage {
            role: message.role,
            content: message.content.clone(),
        });
        Pin {
            messages: Some(messages.collect()),
            ..self.shown()
        }
    }
}

fn describe(problem: PinFailure) -> &'static str {
    match problem {
        PinFailure::TooShort => {
            "it is too short to gain anything: conversations that begin so are read as quickly without it"
        }
        PinFailure::TooLong => "it leaves no room for a question in the context (engine.n_ctx)",
        PinFailure::Template => "the model has no chat template, or it refuses these messages",
        PinFailure::NoRoom => "the cache has no room for it (engine.cache)",
        PinFailure::Decode => "the model could not read it; hobd's log may tell more",
    }
}
