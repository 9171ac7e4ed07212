//! Who has requests under way, or conversations open, on this connection to the bus, and the end of
//! them all when a caller leaves.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hob_api::dbus::{CONVERSATION_PATH_PREFIX, REQUEST_PATH_PREFIX};
use hob_api::{ApiError, ErrorCode};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use zbus::names::{OwnedUniqueName, UniqueName};

use super::options::HandleToken;

/// What a caller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests under way.
    Requests,
    /// Conversations that are open.
    Conversations,
}

/// The callers with requests under way. The bus bounds how many there are, `per_caller` how many
/// requests each has; a bus never gives a unique name twice.
#[derive(Debug)]
pub(super) struct Callers {
    kind: Kind,
    per_caller: usize,
    numbers: AtomicU64,
    live: Mutex<HashMap<OwnedUniqueName, Live>>,
    everyone: CancellationToken,
    places: TaskTracker,
}

/// A caller's requests.
#[derive(Debug)]
struct Live {
    left: CancellationToken,
    tokens: HashSet<HandleToken>,
}

/// A request's place among its caller's: held from before its first check until its end, so that
/// no caller can leave unnoticed. Dropping it frees the handle token.
#[derive(Debug)]
pub(super) struct Place {
    callers: Arc<Callers>,
    caller: OwnedUniqueName,
    token: HandleToken,
    cancel: CancellationToken,
    released: bool,
    _counted: TaskTrackerToken,
}

impl Callers {
    pub(super) fn new(kind: Kind, per_caller: usize) -> Arc<Self> {
        Arc::new(Self {
            kind,
            per_caller,
            numbers: AtomicU64::new(1),
            live: Mutex::default(),
            everyone: CancellationToken::new(),
            places: TaskTracker::new(),
        })
    }

    /// Gives `caller` a place under `token`, or under a number.
    ///
    /// # Errors
    /// `busy` at the caller's bound, `invalid_request` if the token is in use.
    pub(super) fn enter(
        self: &Arc<Self>,
        caller: &UniqueName<'_>,
        token: Option<HandleToken>,
    ) -> Result<Place, ApiError> {
        let caller = OwnedUniqueName::from(caller.to_owned());
        let mut live = self.live();
        let requests = live.entry(caller.clone()).or_insert_with(|| Live {
            left: self.everyone.child_token(),
            tokens: HashSet::new(),
        });
        // Here the caller has an entry that may be empty; a refusal must not leave it behind.
        let token = match requests.claim(token, self.kind, self.per_caller, &self.numbers) {
            Ok(token) => token,
            Err(error) => {
                if requests.tokens.is_empty() {
                    live.remove(&caller);
                }
                return Err(error);
            }
        };
        let cancel = requests.left.child_token();
        drop(live);
        Ok(Place {
            callers: Arc::clone(self),
            caller,
            token,
            cancel,
            released: false,
            _counted: self.places.token(),
        })
    }

    /// Cancels the requests of a caller that left the bus.
    pub(super) fn left(&self, name: &UniqueName<'_>) {
        let requests = self.live().get(name.as_str()).map(|live| live.left.clone());
        if let Some(left) = requests {
            left.cancel();
        }
    }

    /// Cancels all requests: the bus is gone, and every caller with it.
    pub(super) fn all_left(&self) {
        self.everyone.cancel();
    }

    /// Waits until no request is under way. None may come after.
    pub(super) async fn idle(&self) {
        self.places.close();
        self.places.wait().await;
    }

    fn live(&self) -> MutexGuard<'_, HashMap<OwnedUniqueName, Live>> {
        // Nothing panics with the lock held, and the table is whole between any two lines.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn claim(
        &mut self,
        token: Option<HandleToken>,
        kind: Kind,
        most: usize,
        numbers: &AtomicU64,
    ) -> Result<HandleToken, ApiError> {
        if self.tokens.len() >= most {
            let what = match kind {
                Kind::Requests => "requests under way",
                Kind::Conversations => "conversations open",
            };
            let message = format!("this connection has {most} {what}, the most allowed");
            return Err(
                ApiError::new(ErrorCode::Busy, message).hint("wait for one to finish, or end one")
            );
        }
        let token = match token {
            Some(token) if self.tokens.contains(&token) => {
                let message = format!("option `handle_token`: `{}` is in use", token.as_str());
                return Err(ApiError::new(ErrorCode::InvalidRequest, message)
                    .param("handle_token")
                    .hint("choose one that no request of yours under way has"));
            }
            Some(token) => token,
            None => loop {
                // A caller may have chosen this very word itself.
                let token = HandleToken::numbered(numbers.fetch_add(1, Ordering::Relaxed));
                if !self.tokens.contains(&token) {
                    break token;
                }
            },
        };
        self.tokens.insert(token.clone());
        Ok(token)
    }
}

impl Place {
    /// The caller's unique name.
    pub(super) fn caller(&self) -> &OwnedUniqueName {
        &self.caller
    }

    /// Cancelled when the caller leaves the bus or calls `Cancel`.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Frees the handle token for the caller's next request; this one still counts as under way.
    pub(super) fn release(&mut self) {
        if std::mem::replace(&mut self.released, true) {
            return;
        }
        let mut live = self.callers.live();
        if let Some(requests) = live.get_mut(&self.caller) {
            requests.tokens.remove(&self.token);
            if requests.tokens.is_empty() {
                live.remove(&self.caller);
            }
        }
    }

    /// The object: `/org/hobd/Hob1/request/SENDER/TOKEN`, or the same of a conversation.
    pub(super) fn path(&self) -> String {
        let sender: String = self
            .caller
            .as_str()
            .chars()
            .skip(1)
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let prefix = match self.callers.kind {
            Kind::Requests => REQUEST_PATH_PREFIX,
            Kind::Conversations => CONVERSATION_PATH_PREFIX,
        };
        format!("{prefix}/{sender}/{}", self.token.as_str())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn name(text: &'static str) -> UniqueName<'static> {
        UniqueName::try_from(text).unwrap()
    }

    #[test]
    fn a_place_has_the_path_that_the_caller_can_foresee() {
        let callers = Callers::new(Kind::Requests, 4);
        let token = HandleToken::numbered(7);
        let place = callers.enter(&name(":1.42"), Some(token)).unwrap();
        assert_eq!(place.path(), "/org/hobd/Hob1/request/1_42/r7");
    }

    #[test]
    fn a_token_is_free_again_when_its_request_ended() {
        let callers = Callers::new(Kind::Requests, 4);
        let token = || Some(HandleToken::numbered(1));
        let first = callers.enter(&name(":1.1"), token()).unwrap();
        let error = callers.enter(&name(":1.1"), token()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        callers.enter(&name(":1.2"), token()).unwrap();
        // The number 1 is the caller's own choice already, so the generated one is another.
        let generated = callers.enter(&name(":1.1"), None).unwrap();
        assert_ne!(generated.path(), first.path());
        drop(first);
        callers.enter(&name(":1.1"), token()).unwrap();
    }

    #[test]
    fn a_caller_is_bounded_by_itself_and_leaves_nothing_behind() {
        let callers = Callers::new(Kind::Requests, 2);
        let places: Vec<_> = (0..2)
            .map(|_| callers.enter(&name(":1.1"), None).unwrap())
            .collect();
        let error = callers.enter(&name(":1.1"), None).unwrap_err();
        assert_eq!(error.code, ErrorCode::Busy);
        callers.enter(&name(":1.2"), None).unwrap();
        drop(places);
        assert!(callers.live().is_empty());
        let full = Callers::new(Kind::Requests, 0);
        full.enter(&name(":1.1"), None).unwrap_err();
        assert!(full.live().is_empty());
    }

    #[test]
    fn who_leaves_cancels_its_own_requests_only() {
        let callers = Callers::new(Kind::Requests, 2);
        let leaver = callers.enter(&name(":1.1"), None).unwrap();
        let other = callers.enter(&name(":1.2"), None).unwrap();
        callers.left(&name(":1.1"));
        callers.left(&name(":1.99"));
        assert!(leaver.cancel().is_cancelled());
        assert!(!other.cancel().is_cancelled());
        callers.all_left();
        assert!(other.cancel().is_cancelled());
    }
}
