//! Connections over TCP whose clients have yet to show the token.
//!
//! Any program on the machine can connect there. So those who have shown nothing get few places, and
//! where these are taken, who has waited longest makes room: whoever holds connections open without
//! a token only shuts out others of the kind, as a client that has one shows it with its first bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use super::places::{Place, Places};

/// Most connections of strangers.
pub(super) const STRANGERS_MAX: usize = 64;

/// Everybody who has yet to show the token, in the order in which they came.
#[derive(Default)]
pub(super) struct Strangers {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    queue: VecDeque<(u64, CancellationToken)>,
}

/// The client of one connection.
pub(super) struct Stranger {
    number: u64,
    turned_away: CancellationToken,
    strangers: Arc<Strangers>,
    /// There from when the token was shown.
    place: OnceLock<Place>,
}

impl Strangers {
    /// A place for one more, at the cost of who has waited longest if all are taken.
    pub(super) fn come(self: &Arc<Self>) -> Stranger {
        let turned_away = CancellationToken::new();
        let mut waiting = self.lock();
        if waiting.queue.len() >= STRANGERS_MAX
            && let Some((_, oldest)) = waiting.queue.pop_front()
        {
            oldest.cancel();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.queue.push_back((number, turned_away.clone()));
        Stranger {
            number,
            turned_away,
            strangers: Arc::clone(self),
            place: OnceLock::new(),
        }
    }

    fn forget(&self, number: u64) {
        self.lock().queue.retain(|(waiting, _)| *waiting != number);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Makes the client one of the connections of `uid`, which it stays to the end, as it has shown
    /// the token. False if `uid` may have no more.
    pub(super) fn becomes_known(&self, uid: u32, places: &Places) -> bool {
        if self.place.get().is_some() {
            return true;
        }
        let Some(place) = places.take(uid) else {
            return false;
        };
        self.strangers.forget(self.number);
        // A connection's requests come one after another: it was empty.
        self.place.set(place).is_ok()
    }

    /// Returns when the client has to make room, which no known one has to. What it has sent until
    /// then is read first, if the connection is looked at before this: it may show the token.
    pub(super) async fn turned_away(&self) {
        self.turned_away.cancelled().await;
        // The runtime asks the kernel what has arrived before it goes on here.
        yield_now().await;
        if self.place.get().is_some() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.forget(self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use axum::Router;
    use axum::extract::Extension;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::super::connection::{Client, Connection};
    use super::super::hangup::HangUp;
    use super::*;
    use crate::settings::Limits;

    const UID: u32 = 1000;

    fn is_away(stranger: &Stranger) -> bool {
        stranger.turned_away.is_cancelled()
    }

    #[test]
    fn who_waited_longest_makes_room_and_who_is_known_stays() {
        let strangers = Arc::new(Strangers::default());
        let places = Places::new(4, 0);
        let known = strangers.come();
        assert!(known.becomes_known(UID, &places));
        let crowd: Vec<_> = (0..STRANGERS_MAX + 3).map(|_| strangers.come()).collect();
        assert!(crowd[..3].iter().all(is_away));
        assert!(!crowd[3..].iter().any(is_away));
        assert!(!is_away(&known));
        assert_eq!(strangers.lock().queue.len(), STRANGERS_MAX);
        drop(crowd);
        assert!(strangers.lock().queue.is_empty());
    }

    #[tokio::test]
    async fn who_has_sent_the_token_is_heard_though_others_come_in_crowds() {
        let strangers = Arc::new(Strangers::default());
        let places = Places::new(100, UID);
        let router = Router::new().route(
            "/",
            get(|Extension(client): Extension<Arc<Stranger>>| async move {
                // As one who shows the token.
                let known = client.becomes_known(UID, &places);
                yield_now().await;
                known.to_string()
            }),
        );
        for _ in 0..20 {
            let (mut client, ours) = UnixStream::pair().unwrap();
            let stranger = strangers.come();
            let crowd: Vec<_> = (0..STRANGERS_MAX).map(|_| strangers.come()).collect();
            let sent = client.try_write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            sent.unwrap();
            assert!(is_away(&stranger) && !crowd.iter().any(is_away));
            let hang_up = HangUp::of(&ours);
            let connection =
                Connection::new(router.clone(), &Limits::default(), CancellationToken::new());
            tokio::spawn(connection.run(ours, hang_up, Client::Stranger(Arc::new(stranger))));
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("true"), "{answer}");
            // Who has sent nothing has to go.
            let (mut silent, ours) = UnixStream::pair().unwrap();
            let stranger = strangers.come();
            drop(crowd);
            let crowd: Vec<_> = (0..STRANGERS_MAX).map(|_| strangers.come()).collect();
            let hang_up = HangUp::of(&ours);
            let connection =
                Connection::new(router.clone(), &Limits::default(), CancellationToken::new());
            tokio::spawn(connection.run(ours, hang_up, Client::Stranger(Arc::new(stranger))));
            assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
            silent.shutdown().await.unwrap();
            drop(crowd);
        }
    }

    #[test]
    fn the_known_take_places_of_their_user_once_a_connection() {
        let strangers = Arc::new(Strangers::default());
        let places = Places::new(4, 0);
        let clients = [(); 3].map(|()| strangers.come());
        for _ in 0..2 {
            assert!(clients[0].becomes_known(UID, &places));
            assert!(clients[1].becomes_known(UID, &places));
            assert!(!clients[2].becomes_known(UID, &places));
        }
        drop(clients);
        assert!(strangers.come().becomes_known(UID, &places));
    }
}
