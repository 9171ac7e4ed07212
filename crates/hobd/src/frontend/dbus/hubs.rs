//! Hubs: callers that registered a provider over the bus. It goes when they leave.
//!
//! A name is claimed before its definition is computed, and whoever leaves meanwhile loses the
//! claim, so that no provider stays behind without its hub.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hob_api::{ApiError, ErrorCode};
use zbus::OwnedObjectPath;
use zbus::names::{OwnedUniqueName, UniqueName};

use crate::providers::{ProviderName, Providers};

/// The providers that hubs registered on this connection to the bus.
#[derive(Debug)]
pub(super) struct Hubs {
    providers: Providers,
    claims: Mutex<HashMap<Key, Claim>>,
}

/// Whose provider, and its name.
type Key = (u32, ProviderName);

#[derive(Debug)]
struct Claim {
    owner: OwnedUniqueName,
    /// The hub's object.
    path: OwnedObjectPath,
    /// The change that the hub made last; 0 before the first.
    generation: u64,
}

impl Hubs {
    pub(super) fn new(providers: Providers) -> Self {
        Self {
            providers,
            claims: Mutex::default(),
        }
    }

    /// Claims a name for the hub's object.
    ///
    /// # Errors
    /// `invalid_request` if another hub, or another object of this one, has it.
    pub(super) fn claim(
        &self,
        key: &Key,
        owner: &UniqueName<'_>,
        path: &OwnedObjectPath,
    ) -> Result<(), ApiError> {
        let mut claims = self.claims();
        if let Some(claim) = claims.get(key) {
            if claim.owner.as_str() == owner.as_str() && claim.path == *path {
                return Ok(());
            }
            let message = "another hub of yours has registered a provider of this name";
            return Err(ApiError::new(ErrorCode::InvalidRequest, message)
                .param("name")
                .hint("give another one in the option `name`"));
        }
        let claim = Claim {
            owner: OwnedUniqueName::from(owner.to_owned()),
            path: path.clone(),
            generation: 0,
        };
        claims.insert(key.clone(), claim);
        Ok(())
    }

    /// Gives a claim up that came to nothing.
    pub(super) fn disclaim(&self, key: &Key) {
        let mut claims = self.claims();
        if claims.get(key).is_some_and(|claim| claim.generation == 0) {
            claims.remove(key);
        }
    }

    /// Notes that the hub's provider is in force. If the hub has left meanwhile, it is not.
    pub(super) fn changed(&self, key: &Key, owner: &UniqueName<'_>, generation: u64) {
        let mut claims = self.claims();
        match claims.get_mut(key) {
            Some(claim) if claim.owner.as_str() == owner.as_str() => claim.generation = generation,
            _ => self.providers.remove_if(key.0, &key.1, generation),
        }
    }

    /// The name that the hub's object has.
    ///
    /// # Errors
    /// `not_found`, also for that of another.
    pub(super) fn name_of(
        &self,
        owner: &UniqueName<'_>,
        path: &OwnedObjectPath,
    ) -> Result<Key, ApiError> {
        let claims = self.claims();
        let found = claims.iter().find(|(_, claim)| {
            claim.owner.as_str() == owner.as_str() && claim.path == *path && claim.generation > 0
        });
        found.map(|(key, _)| key.clone()).ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                "this object has registered no provider",
            )
            .hint("RegisterProvider does that")
        })
    }

    /// Takes the hub's provider out of force.
    pub(super) fn release(&self, key: &Key) {
        if let Some(claim) = self.claims().remove(key) {
            self.providers.remove_if(key.0, &key.1, claim.generation);
        }
    }

    /// Takes the providers of a hub that left the bus out of force.
    pub(super) fn left(&self, name: &UniqueName<'_>) {
        self.release_where(|claim| claim.owner.as_str() == name.as_str());
    }

    /// Takes all out of force: the bus is gone, and every hub with it.
    pub(super) fn all_left(&self) {
        self.release_where(|_| true);
    }

    fn release_where(&self, gone: impl Fn(&Claim) -> bool) {
        self.claims().retain(|key, claim| {
            let gone = gone(claim);
            if gone {
                self.providers.remove_if(key.0, &key.1, claim.generation);
            }
            !gone
        });
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Key, Claim>> {
        // Nothing panics with the lock held.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use hob_api::provider::{ProviderFields, Tool};

    use super::*;

    fn key(uid: u32) -> Key {
        (uid, ProviderName::parse("home").unwrap())
    }

    fn hub(name: &'static str) -> UniqueName<'static> {
        UniqueName::try_from(name).unwrap()
    }

    fn path() -> OwnedObjectPath {
        OwnedObjectPath::try_from("/hub").unwrap()
    }

    fn put(providers: &Providers, uid: u32) -> u64 {
        let tool = Tool {
            name: "coffee".to_owned(),
            ..Tool::default()
        };
        let fields = ProviderFields {
            tools: vec![tool],
            targets: Vec::new(),
        };
        providers.put(uid, key(uid).1, fields).unwrap().generation
    }

    #[test]
    fn what_a_hub_registered_goes_with_it_alone() {
        let providers = Providers::default();
        let hubs = Hubs::new(providers.clone());
        for (uid, name) in [(1, ":1.1"), (2, ":1.2")] {
            hubs.claim(&key(uid), &hub(name), &path()).unwrap();
            hubs.changed(&key(uid), &hub(name), put(&providers, uid));
        }
        hubs.claim(&key(1), &hub(":1.3"), &path()).unwrap_err();
        hubs.name_of(&hub(":1.3"), &path()).unwrap_err();
        hubs.left(&hub(":1.1"));
        assert!(providers.all(1).is_empty());
        assert_eq!(providers.all(2).len(), 1);
        hubs.claim(&key(1), &hub(":1.3"), &path()).unwrap();
        hubs.all_left();
        assert!(providers.all(2).is_empty());
    }

    #[test]
    fn a_hub_that_leaves_while_it_registers_leaves_nothing() {
        let providers = Providers::default();
        let hubs = Hubs::new(providers.clone());
        hubs.claim(&key(1), &hub(":1.1"), &path()).unwrap();
        hubs.left(&hub(":1.1"));
        hubs.changed(&key(1), &hub(":1.1"), put(&providers, 1));
        assert!(providers.all(1).is_empty());
    }

    #[test]
    fn what_somebody_else_put_in_its_place_stays() {
        let providers = Providers::default();
        let hubs = Hubs::new(providers.clone());
        hubs.claim(&key(1), &hub(":1.1"), &path()).unwrap();
        hubs.changed(&key(1), &hub(":1.1"), put(&providers, 1));
        put(&providers, 1);
        hubs.left(&hub(":1.1"));
        assert_eq!(providers.all(1).len(), 1);
    }
}
