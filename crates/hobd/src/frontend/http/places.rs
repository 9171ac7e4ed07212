//! How many connections may be open at once, and whose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections beyond the setting that root and hobd's own user alone may open, so that status
/// can be asked for while others hold every place.
const RESERVED: usize = 4;

/// The places for connections.
#[derive(Clone)]
pub(super) struct Places {
    max: usize,
    own_uid: u32,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_uid: HashMap<u32, usize>,
}

/// One connection's place; dropping it gives it back.
pub(super) struct Place {
    uid: u32,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    /// `max` places for everybody together; `own_uid` is hobd's.
    pub(super) fn new(max: usize, own_uid: u32) -> Self {
        Self {
            max,
            own_uid,
            taken: Arc::default(),
        }
    }

    /// A place for `uid`, if there is one. One ordinary uid gets at most half of all places, so
    /// that no single user can lock the others out.
    pub(super) fn take(&self, uid: u32) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_uid.get(&uid).copied().unwrap_or(0);
        let free = if uid == 0 || uid == self.own_uid {
            taken.total < self.max.saturating_add(RESERVED)
        } else {
            taken.total < self.max && own < self.max.div_ceil(2)
        };
        if !free {
            return None;
        }
        taken.total += 1;
        taken.by_uid.insert(uid, own + 1);
        Some(Place {
            uid,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        match taken.by_uid.get(&self.uid) {
            Some(&own) if own > 1 => taken.by_uid.insert(self.uid, own - 1),
            _ => taken.by_uid.remove(&self.uid),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 990;

    fn take_all(places: &Places, uid: u32) -> Vec<Place> {
        std::iter::from_fn(|| places.take(uid)).collect()
    }

    #[test]
    fn one_user_gets_half_and_two_get_all() {
        let places = Places::new(10, OWN);
        let first = take_all(&places, 1000);
        let second = take_all(&places, 1001);
        assert_eq!((first.len(), second.len()), (5, 5));
        assert!(places.take(1002).is_none());
        drop(first);
        assert!(places.take(1002).is_some());
    }

    #[test]
    fn root_and_hobd_itself_get_in_when_all_is_full() {
        let places = Places::new(2, OWN);
        let _others = [places.take(1000), places.take(1001)];
        let reserved = [
            places.take(0),
            places.take(OWN),
            places.take(0),
            places.take(0),
        ];
        assert!(reserved.iter().all(Option::is_some));
        assert!(places.take(0).is_none());
    }

    #[test]
    fn places_given_back_leave_no_trace() {
        let places = Places::new(10, OWN);
        for uid in 0..1000 {
            drop(take_all(&places, uid));
        }
        let taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(taken.total, 0);
        assert!(taken.by_uid.is_empty());
    }
}
