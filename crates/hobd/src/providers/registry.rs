//! Which providers are in force, and whose they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hob_api::provider::{Provider as ProviderEntry, ProviderFields, TargetsPatch};
use hob_api::{ApiError, ErrorCode};

use super::{Provider, ProviderName};
use crate::home::Index;

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
}

/// The providers in force. Cheap to clone; all clones are one.
///
/// Compiling a definition takes a while, so it happens outside of the lock, and the change is then
/// made if nobody else changed the same provider meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    entries: BTreeMap<(u32, ProviderName), Arc<Entry>>,
}

impl Providers {
    /// Puts a definition in force, in place of what had its name before.
    ///
    /// # Errors
    /// `invalid_request`, `unsupported`; `quota_exceeded` if the user or all users have too many.
    pub fn put(
        &self,
        uid: u32,
        name: ProviderName,
        fields: ProviderFields,
    ) -> Result<ProviderEntry, ApiError> {
        let provider = Provider::new(name, fields)?;
        let index = Index::new(&provider);
        let mut state = self.lock();
        state.check_room(uid, provider.name())?;
        Ok(state.install(uid, provider, index))
    }

    /// Changes the targets of a provider.
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
        let index = Index::new(&provider);
        let mut state = self.lock();
        let now = state.entries.get(&(uid, name.clone()));
        if now.map(|entry| entry.generation) != Some(before.generation) {
            let message = "the provider was changed by another request meanwhile";
            return Err(ApiError::new(ErrorCode::Busy, message)
                .hint("nothing was changed; send it again")
                .retry_after_ms(100));
        }
        Ok(state.install(uid, provider, index))
    }

    /// Takes a provider out of force.
    ///
    /// # Errors
    /// `not_found`.
    pub fn remove(&self, uid: u32, name: &ProviderName) -> Result<(), ApiError> {
        let removed = self.lock().entries.remove(&(uid, name.clone()));
        removed.map(drop).ok_or_else(not_found)
    }

    /// Takes a provider out of force if it is still as that change made it.
    pub fn remove_if(&self, uid: u32, name: &ProviderName, generation: u64) {
        let mut state = self.lock();
        let key = (uid, name.clone());
        let found = state.entries.get(&key);
        if found.is_some_and(|entry| entry.generation == generation) {
            state.entries.remove(&key);
        }
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

    fn install(&mut self, uid: u32, provider: Provider, index: Index) -> ProviderEntry {
        self.generation += 1;
        let entry = Entry {
            generation: self.generation,
            provider,
            index,
        };
        let shown = entry.shown();
        let key = (uid, entry.provider.name().clone());
        self.entries.insert(key, Arc::new(entry));
        shown
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

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "you have no provider of that name")
        .hint("GET /hob/v1/providers lists yours")
}
