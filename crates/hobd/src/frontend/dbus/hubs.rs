//! Hubs: callers that registered a provider over the bus. It goes when they leave.
//!
//! A name is claimed before its definition is computed, and whoever leaves meanwhile loses the
//! claim, so that no provider stays behind without its hub.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use hob_api::{ApiError, ErrorCode};
use zbus::names::UniqueName;

use super::line::Address;
use crate::hub::Hub;
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
    /// The hub's object.
    address: Address,
    hub: Arc<Hub>,
    /// Whether its provider was in force at some time.
    registered: bool,
}

/// What became of a claim.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The name is the hub's.
    Mine(Arc<Hub>),
    /// Another hub's object has it, or another one of this hub.
    Taken(Address),
}

impl Hubs {
    pub(super) fn new(providers: Providers) -> Self {
        Self {
            providers,
            claims: Mutex::default(),
        }
    }

    /// Claims a name for a hub's object, to which `hub` is the way.
    pub(super) fn claim(
        &self,
        key: &Key,
        address: &Address,
        hub: impl FnOnce() -> Arc<Hub>,
    ) -> Claimed {
        let mut claims = self.claims();
        // Those whose place somebody took are of no use any more, and must not pile up.
        claims.retain(|_, claim| !claim.hub.is_gone());
        if let Some(claim) = claims.get(key) {
            return if claim.address == *address {
                Claimed::Mine(Arc::clone(&claim.hub))
            } else {
                Claimed::Taken(claim.address.clone())
            };
        }
        let hub = hub();
        let claim = Claim {
            address: address.clone(),
            hub: Arc::clone(&hub),
            registered: false,
        };
        claims.insert(key.clone(), claim);
        Claimed::Mine(hub)
    }

    /// Gives a claim up that came to nothing.
    pub(super) fn disclaim(&self, key: &Key, hub: &Arc<Hub>) {
        let mut claims = self.claims();
        let mine = |claim: &Claim| !claim.registered && Arc::ptr_eq(&claim.hub, hub);
        if claims.get(key).is_some_and(mine) {
            claims.remove(key);
        }
    }

    /// Notes that the hub's provider is in force, in place of any other that the same object had.
    ///
    /// # Errors
    /// `busy` if the hub has left meanwhile, or somebody took its place: then it is not.
    pub(super) fn registered(
        &self,
        key: &Key,
        address: &Address,
        hub: &Arc<Hub>,
    ) -> Result<(), ApiError> {
        let mut claims = self.claims();
        match claims.get_mut(key) {
            Some(claim) if Arc::ptr_eq(&claim.hub, hub) && !hub.is_gone() => {
                claim.registered = true;
            }
            _ => {
                self.providers.remove_of(key.0, &key.1, hub);
                let message = "the provider was changed by another request meanwhile";
                return Err(ApiError::new(ErrorCode::Busy, message).hint("register it again"));
            }
        }
        let before = claims.extract_if(|other, claim| other != key && claim.address == *address);
        for (other, claim) in before {
            self.out_of_force(&other, &claim);
        }
        Ok(())
    }

    /// The name that the hub's object has.
    ///
    /// # Errors
    /// `not_found`, also for that of another.
    pub(super) fn name_of(&self, address: &Address) -> Result<Key, ApiError> {
        let claims = self.claims();
        let found = claims.iter().find(|(_, claim)| {
            claim.address == *address && claim.registered && !claim.hub.is_gone()
        });
        found.map(|(key, _)| key.clone()).ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                "this object has registered no provider, or another one took its place",
            )
            .hint("RegisterProvider does that")
        })
    }

    /// Takes the hub's provider out of force.
    pub(super) fn release(&self, key: &Key) {
        if let Some(claim) = self.claims().remove(key) {
            self.out_of_force(key, &claim);
        }
    }

    /// Takes the providers of a hub that left the bus out of force.
    pub(super) fn left(&self, name: &UniqueName<'_>) {
        self.release_where(|claim| claim.address.owner.as_str() == name.as_str());
    }

    /// Takes all out of force: the bus is gone, and every hub with it.
    pub(super) fn all_left(&self) {
        self.release_where(|_| true);
    }

    /// Takes all out of force, and tells the hubs.
    pub(super) async fn part_with_all(&self) {
        let hubs: Vec<Arc<Hub>> = (self.claims().values())
            .map(|claim| Arc::clone(&claim.hub))
            .collect();
        let told = hubs.iter().filter(|hub| !hub.is_gone());
        let told: Vec<_> = told.map(|hub| hub.release()).collect();
        self.all_left();
        join_all(told).await;
    }

    fn release_where(&self, gone: impl Fn(&Claim) -> bool) {
        self.claims().retain(|key, claim| {
            let gone = gone(claim);
            if gone {
                self.out_of_force(key, claim);
            }
            !gone
        });
    }

    fn out_of_force(&self, key: &Key, claim: &Claim) {
        claim.hub.left();
        self.providers.remove_of(key.0, &key.1, &claim.hub);
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Key, Claim>> {
        // Nothing panics with the lock held.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::{BoxFuture, ready};
    use hob_api::provider::{ProviderFields, Tool};
    use zbus::OwnedObjectPath;
    use zbus::names::OwnedUniqueName;

    use super::*;
    use crate::hub::{CallFailure, Invocation, Line, Place, ToolResult};

    /// A line to nowhere.
    #[derive(Debug)]
    struct Dead;

    impl Line for Dead {
        fn confirm(
            &self,
            _: Invocation,
            _: Place,
        ) -> BoxFuture<'static, Result<bool, CallFailure>> {
            ready(Err(CallFailure::Lost)).boxed()
        }

        fn invoke(
            &self,
            _: Invocation,
            _: Place,
        ) -> BoxFuture<'static, Result<ToolResult, CallFailure>> {
            ready(Err(CallFailure::Lost)).boxed()
        }

        fn release(&self) -> BoxFuture<'static, ()> {
            ready(()).boxed()
        }
    }

    fn key(uid: u32, name: &str) -> Key {
        (uid, ProviderName::parse(name).unwrap())
    }

    fn at(owner: &str) -> Address {
        Address {
            owner: OwnedUniqueName::try_from(owner).unwrap(),
            path: OwnedObjectPath::try_from("/hub").unwrap(),
        }
    }

    fn claim(hubs: &Hubs, key: &Key, owner: &str) -> Option<Arc<Hub>> {
        match hubs.claim(key, &at(owner), || Hub::new(Dead)) {
            Claimed::Mine(hub) => Some(hub),
            Claimed::Taken(_) => None,
        }
    }

    fn put(providers: &Providers, key: &Key, hub: Option<&Arc<Hub>>) {
        let tool = Tool {
            name: "coffee".to_owned(),
            ..Tool::default()
        };
        let fields = ProviderFields {
            tools: vec![tool],
            targets: Vec::new(),
        };
        let hub = hub.map(Arc::clone);
        providers.put(key.0, key.1.clone(), fields, hub).unwrap();
    }

    fn register(hubs: &Hubs, providers: &Providers, key: &Key, owner: &str) -> Arc<Hub> {
        let hub = claim(hubs, key, owner).unwrap();
        put(providers, key, Some(&hub));
        hubs.registered(key, &at(owner), &hub).unwrap();
        hub
    }

    fn leaves(hubs: &Hubs, owner: &str) {
        hubs.left(&UniqueName::try_from(owner).unwrap());
    }

    #[test]
    fn what_a_hub_registered_goes_with_it_alone() {
        let providers = Providers::default();
        let hubs = Hubs::new(providers.clone());
        let (mine, other) = (key(1, "home"), key(2, "home"));
        let hub = register(&hubs, &providers, &mine, ":1.1");
        register(&hubs, &providers, &other, ":1.2");
        assert!(claim(&hubs, &mine, ":1.3").is_none());
        hubs.name_of(&at(":1.3")).unwrap_err();
        assert_eq!(hubs.name_of(&at(":1.1")).unwrap(), mine);
        leaves(&hubs, ":1.1");
        assert!(hub.is_gone());
        assert!(providers.all(1).is_empty());
        assert_eq!(providers.all(2).len(), 1);
        claim(&hubs, &mine, ":1.3").unwrap();
        hubs.all_left();
        assert!(providers.all(2).is_empty());
    }

    #[test]
    fn a_hub_that_leaves_while_it_registers_leaves_nothing() {
        let providers = Providers::default();
        let hubs = Hubs::new(providers.clone());
        let key = key(1, "home");
        let hub = claim(&hubs, &key, ":1.1").unwrap();
        leaves(&hubs, ":1.1");
        put(&providers, &key, Some(&hub));
        hubs.registered(&key, &at(":1.1"), &hub).unwrap_err();
        assert!(providers.all(1).is_empty());
    }

    #[tokio::test]
    async fn what_somebody_else_put_in_its_place_stays() {
        let providers = Providers::default();
        let hubs = Hubs::new(providers.clone());
        let key = key(1, "home");
        let hub = register(&hubs, &providers, &key, ":1.1");
        put(&providers, &key, None);
        assert!(hub.is_gone(), "it makes no calls any more");
        hubs.registered(&key, &at(":1.1"), &hub).unwrap_err();
        hubs.name_of(&at(":1.1")).unwrap_err();
        leaves(&hubs, ":1.1");
        assert_eq!(providers.all(1).len(), 1);
    }

    #[test]
    fn an_object_has_one_provider_and_registers_it_again_as_itself() {
        let providers = Providers::default();
        let hubs = Hubs::new(providers.clone());
        let (first, second) = (key(1, "home"), key(1, "house"));
        let hub = register(&hubs, &providers, &first, ":1.1");
        let again = register(&hubs, &providers, &first, ":1.1");
        assert!(Arc::ptr_eq(&hub, &again) && !hub.is_gone());
        register(&hubs, &providers, &second, ":1.1");
        let names: Vec<_> = providers
            .all(1)
            .iter()
            .map(|e| e.provider.name().clone())
            .collect();
        assert_eq!(names, [second.1]);
        assert!(hub.is_gone());
    }

    #[tokio::test]
    async fn hubs_are_told_when_hobd_ends() {
        let providers = Providers::default();
        let hubs = Hubs::new(providers.clone());
        let hub = register(&hubs, &providers, &key(1, "home"), ":1.1");
        hubs.part_with_all().await;
        assert!(hub.is_gone() && providers.all(1).is_empty());
    }
}
