//! Whose turn it is.
//!
//! The most urgent class goes first; within a class, users take turns, and each user's requests
//! keep their order. What has waited for long becomes more urgent, so that nothing waits for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hob_api::chat::Class;
use hob_ipc::RequestId;

/// A request that has waited so long is taken for one of the next more urgent class, again and
/// again: long enough for somebody who speaks to be answered first, short enough to be borne.
pub(super) const AGEING: Duration = Duration::from_secs(15);
/// Users whose last turn is remembered. There are few on a board; beyond that, the one whose turn
/// was the longest ago counts as one who never had any.
const USERS_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: RequestId,
    uid: u32,
    class: Class,
    since: Instant,
}

/// Requests that wait for the engine.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In order of arrival.
    waiting: Vec<Waiting>,
    /// Each user's last turn.
    served: BTreeMap<u32, u64>,
    turns: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, now: Instant, id: RequestId, uid: u32, class: Class) {
        let since = now;
        self.waiting.push(Waiting {
            id,
            uid,
            class,
            since,
        });
    }

    pub(super) fn remove(&mut self, id: RequestId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// Takes out the request whose turn it is.
    pub(super) fn pop(&mut self, now: Instant) -> Option<RequestId> {
        let next = self
            .waiting
            .iter()
            .enumerate()
            .min_by_key(|(_, w)| (w.urgency(now), self.last_turn(w.uid), w.id));
        let (at, _) = next?;
        let next = self.waiting.remove(at);
        self.turns += 1;
        self.served.insert(next.uid, self.turns);
        if self.served.len() > USERS_MAX
            && let Some((&uid, _)) = self.served.iter().min_by_key(|(_, turn)| **turn)
        {
            self.served.remove(&uid);
        }
        Some(next.id)
    }

    /// The order in which requests would be taken out, if no more came and no time passed.
    pub(super) fn order(&self, now: Instant) -> Vec<RequestId> {
        let mut rounds: BTreeMap<(Class, u32), u32> = BTreeMap::new();
        let mut order: Vec<_> = self
            .waiting
            .iter()
            .map(|waiting| {
                let urgency = waiting.urgency(now);
                let next_round = rounds.entry((urgency, waiting.uid)).or_default();
                let round = *next_round;
                *next_round += 1;
                (urgency, round, self.last_turn(waiting.uid), waiting.id)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., id)| id).collect()
    }

    fn last_turn(&self, uid: u32) -> u64 {
        self.served.get(&uid).copied().unwrap_or(0)
    }
}

impl Waiting {
    /// Its class, after ageing.
    fn urgency(&self, now: Instant) -> Class {
        let waited = now.saturating_duration_since(self.since);
        match (self.class, waited) {
            (Class::Voice, _) => Class::Voice,
            (Class::Chat | Class::Batch, waited) if waited >= AGEING * 2 => Class::Voice,
            (Class::Chat, waited) if waited >= AGEING => Class::Voice,
            (Class::Batch, waited) if waited >= AGEING => Class::Chat,
            (class, _) => class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(of: impl IntoIterator<Item = RequestId>) -> Vec<u64> {
        of.into_iter().map(|id| id.0).collect()
    }

    fn queue(now: Instant, waiting: &[(u64, u32, Class)]) -> Queue {
        let mut queue = Queue::default();
        for (id, uid, class) in waiting {
            queue.push(now, RequestId(*id), *uid, *class);
        }
        queue
    }

    #[test]
    fn users_take_turns_and_the_order_told_is_the_order_kept() {
        let now = Instant::now();
        let hog = (1..=5).map(|id| (id, 1000, Class::Chat));
        let others = [
            (6, 1001, Class::Chat),
            (7, 1002, Class::Chat),
            (8, 1001, Class::Chat),
        ];
        let mut queue = queue(now, &hog.chain(others).collect::<Vec<_>>());
        let told = queue.order(now);
        assert_eq!(ids(told.clone()), [1, 6, 7, 2, 8, 3, 4, 5]);
        let kept: Vec<_> = std::iter::from_fn(|| queue.pop(now)).collect();
        assert_eq!(kept, told);
    }

    #[test]
    fn who_was_served_last_comes_last() {
        let now = Instant::now();
        let mut queue = queue(now, &[(1, 1000, Class::Chat), (2, 1001, Class::Chat)]);
        assert_eq!(queue.pop(now), Some(RequestId(1)));
        queue.push(now, RequestId(3), 1000, Class::Chat);
        queue.push(now, RequestId(4), 1002, Class::Chat);
        assert_eq!(ids(queue.order(now)), [2, 4, 3]);
    }

    #[test]
    fn voice_comes_before_chat_and_batch_until_they_have_aged() {
        let now = Instant::now();
        let mut queue = queue(
            now,
            &[
                (1, 1000, Class::Batch),
                (2, 1000, Class::Chat),
                (3, 1000, Class::Voice),
            ],
        );
        assert_eq!(ids(queue.order(now)), [3, 2, 1]);
        let later = now + AGEING * 2;
        queue.push(later, RequestId(4), 1001, Class::Voice);
        queue.remove(RequestId(3));
        // Both old ones are as urgent as voice now, and each user has a first turn to come.
        assert_eq!(ids(queue.order(later)), [1, 4, 2]);
    }
}
