//! Which providers are in force, and whose they are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hob_api::provider::{Provider as ProviderEntry, ProviderFields, TargetsPatch};
use hob_api::{ApiError, ErrorCode};
use tokio::sync::watch;

use super::{Provider, ProviderName};
use crate::decode::World;
use crate::home::Index;
use crate::hub::Hub;
use crate::pins::HomePrefix;

/// Most providers of one user.
pub const PROVIDERS_PER_UID_MAX: usize = 8;
/// Most providers of all users.
pub const PROVIDERS_MAX: usize = 64;

/// A provider in force, with what the reading of utterances wants to know of it.
#[derive(Debug)]
pub struct Entry {
    /// The definition.
    pub provider: Provider,
    /// The change that put it in force.
    pub generation: u64,
    /// What its words say.
    pub index: Index,
    /// What a model is told of it, and how it answers.
    pub world: World,
    /// Whether a model was asked about it.
    wanted: AtomicBool,
    /// Who makes its calls; nobody if no hub registered it.
    pub hub: Option<Arc<Hub>>,
}

/// The providers in force. Cheap to clone; all clones are one.
///
/// Compiling a definition takes a while, so it happens outside of the lock, and the change is then
/// made if nobody else changed the same provider meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    state: Arc<Mutex<State>>,
    /// Told of each change of what models should have ready.
    changes: Arc<watch::Sender<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// How often each user has changed theirs. It goes on when all of them are gone, so that no two
    /// definitions have the same; a user's count tells nobody what others do.
    generations: BTreeMap<u32, u64>,
    entries: BTreeMap<(u32, ProviderName), Arc<Entry>>,
}

impl Providers {
    /// Puts a definition in force, in place of what had its name before; a hub that had it and is
    /// not `hub` is told so.
    ///
    /// # Errors
    /// `invalid_request`, `unsupported`; `quota_exceeded` if the user or all users have too many.
    pub fn put(
        &self,
        uid: u32,
        name: ProviderName,
        fields: ProviderFields,
        hub: Option<Arc<Hub>>,
    ) -> Result<ProviderEntry, ApiError> {
        let provider = Provider::new(name, fields)?;
        let (index, world) = (Index::new(&provider), World::new(&provider));
        let mut state = self.lock();
        state.check_room(uid, provider.name())?;
        let (shown, before) = state.install(uid, provider, index, world, hub.clone());
        // A large definition takes a while to be given up, which is nobody else's wait.
        drop(state);
        self.changes.send_replace(());
        if let Some(theirs) = before.and_then(|entry| entry.hub.clone())
            && !hub.is_some_and(|hub| Arc::ptr_eq(&hub, &theirs))
        {
            part_with(&theirs);
        }
        Ok(shown)
    }

    /// Changes the targets of a provider; its hub stays.
    ///
    /// # Errors
    /// `not_found`, `invalid_request`; `busy` if it was changed by somebody else meanwhile.
    pub fn patch(
        &self,
        uid: u32,
        name: &ProviderName,
        patch: TargetsPatch,
    ) -> Result<ProviderEntry, ApiError> {
        let before = self.get(uid, name)?;
        let provider = before.provider.patched(patch)?;
        let (index, world) = (Index::new(&provider), World::new(&provider));
        let mut state = self.lock();
        let now = state.entries.get(&(uid, name.clone()));
        if now.map(|entry| entry.generation) != Some(before.generation) {
            drop(state);
            let message = "the provider was changed by another request meanwhile";
            return Err(ApiError::new(ErrorCode::Busy, message)
                .hint("nothing was changed; send it again")
                .retry_after_ms(100));
        }
        let (shown, replaced) = state.install(uid, provider, index, world, before.hub.clone());
        drop(state);
        drop(replaced);
        self.changes.send_replace(());
        Ok(shown)
    }

    /// Takes a provider out of force, and tells its hub so.
    ///
    /// # Errors
    /// `not_found`.
    pub fn remove(&self, uid: u32, name: &ProviderName) -> Result<(), ApiError> {
        let removed = self.lock().entries.remove(&(uid, name.clone()));
        let removed = removed.ok_or_else(not_found)?;
        self.changes.send_replace(());
        if let Some(hub) = &removed.hub {
            part_with(hub);
        }
        Ok(())
    }

    /// Takes a provider out of force if it is this hub's.
    pub fn remove_of(&self, uid: u32, name: &ProviderName, hub: &Arc<Hub>) {
        let key = (uid, name.clone());
        let mut state = self.lock();
        let theirs = state.entries.get(&key).and_then(|entry| entry.hub.as_ref());
        let removed = if theirs.is_some_and(|theirs| Arc::ptr_eq(theirs, hub)) {
            state.entries.remove(&key)
        } else {
            None
        };
        drop(state);
        if removed.is_some() {
            self.changes.send_replace(());
        }
    }

    /// A model is asked about a provider: it should have the beginning of that ready.
    pub fn want(&self, entry: &Entry) {
        if !entry.wanted.swap(true, Ordering::Relaxed) {
            self.changes.send_replace(());
        }
    }

    /// Changes when [`Providers::prefixes`] may have.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// What conversations about the homes in force begin with.
    pub(crate) fn prefixes(&self) -> Vec<HomePrefix> {
        let state = self.lock();
        let prefix = |((uid, name), entry): (&(u32, ProviderName), &Arc<Entry>)| HomePrefix {
            uid: *uid,
            name: name.clone(),
            messages: entry.world.prefix(),
            wanted: entry.wanted.load(Ordering::Relaxed),
        };
        state.entries.iter().map(prefix).collect()
    }

    /// A provider of the user's.
    ///
    /// # Errors
    /// `not_found`, also for one of another user's.
    pub fn get(&self, uid: u32, name: &ProviderName) -> Result<Arc<Entry>, ApiError> {
        let state = self.lock();
        let found = state.entries.get(&(uid, name.clone()));
        found.cloned().ok_or_else(not_found)
    }

    /// All of the user's, by name.
    pub fn all(&self, uid: u32) -> Vec<Arc<Entry>> {
        self.lock().of(uid).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before the next statement, so what a panic leaves is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&self, uid: u32) -> impl Iterator<Item = &Arc<Entry>> {
        let entries = self.entries.iter();
        entries.filter_map(move |((owner, _), entry)| (*owner == uid).then_some(entry))
    }

    fn check_room(&self, uid: u32, name: &ProviderName) -> Result<(), ApiError> {
        if self.entries.contains_key(&(uid, name.clone())) {
            return Ok(());
        }
        let refused = |message: String| {
            Err(ApiError::new(ErrorCode::QuotaExceeded, message)
                .hint("unregister one, or register its tools with another"))
        };
        if self.of(uid).count() >= PROVIDERS_PER_UID_MAX {
            return refused(format!(
                "you have {PROVIDERS_PER_UID_MAX} providers, the most"
            ));
        }
        if self.entries.len() >= PROVIDERS_MAX {
            return refused(format!("there are {PROVIDERS_MAX} providers, the most"));
        }
        Ok(())
    }

    /// Puts it in force; returns what it looks like, and what was there before.
    fn install(
        &mut self,
        uid: u32,
        provider: Provider,
        index: Index,
        world: World,
        hub: Option<Arc<Hub>>,
    ) -> (ProviderEntry, Option<Arc<Entry>>) {
        let generation = self.generations.entry(uid).or_default();
        *generation += 1;
        let generation = *generation;
        let key = (uid, provider.name().clone());
        let before = self.entries.get(&key);
        let wanted = before.is_some_and(|entry| entry.wanted.load(Ordering::Relaxed));
        let entry = Entry {
            generation,
            provider,
            index,
            world,
            wanted: AtomicBool::new(wanted),
            hub,
        };
        let shown = entry.shown();
        (shown, self.entries.insert(key, Arc::new(entry)))
    }
}

impl Entry {
    /// What its owner is shown in a list.
    pub fn shown(&self) -> ProviderEntry {
        ProviderEntry {
            object: "provider".to_owned(),
            name: self.provider.name().as_str().to_owned(),
            generation: self.generation,
            tools: self.provider.tools().len(),
            targets: self.provider.targets().len(),
            fields: None,
        }
    }
}

/// Tells a hub that it is asked for nothing any more. Nothing waits for that.
fn part_with(hub: &Hub) {
    tokio::spawn(hub.release());
}

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "you have no provider of that name")
        .hint("`hob providers list` or GET /hob/v1/providers lists yours")
}
