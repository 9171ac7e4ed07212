//! How much was written in a day, and for whom. Pure: the time is an argument.
//!
//! A disk bears so much, and whoever changes pins all day must not use up what others need. So half
//! of it is kept for users' own shares, and the other half is for who comes first.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Owner;

/// For how long what was written counts.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What is written within this time is counted as one: a day is some 25 numbers, however many writes.
const TOGETHER: Duration = Duration::from_secs(3600);
/// How many owners have a share that nobody can take from them: a household. Of more, those who come
/// first have one.
const SHARES: u64 = 8;

/// What was written lately.
#[derive(Debug)]
pub(super) struct Wear {
    bytes_max: u64,
    /// Since when, and how many bytes; the oldest first.
    written: BTreeMap<Owner, VecDeque<(Instant, u64)>>,
}

impl Wear {
    /// Nothing was written yet, and at most so many bytes may be within 24 hours.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            written: BTreeMap::new(),
        }
    }

    /// Whether so many bytes more may be written for `owner`; if so, they count as written.
    pub(super) fn take(&mut self, now: Instant, owner: Owner, bytes: u64) -> bool {
        self.forget(now);
        let sum = |written: &VecDeque<(Instant, u64)>| written.iter().map(|(_, b)| b).sum::<u64>();
        let share = self.bytes_max / 2 / SHARES;
        let own = self.written.get(&owner).map_or(0, sum);
        let after = own.saturating_add(bytes);
        let sums = || self.written.values().map(sum);
        let all = sums().sum::<u64>().saturating_add(bytes);
        // What goes beyond shares comes from the half that is nobody's.
        let beyond = sums().map(|sum| sum.saturating_sub(share)).sum::<u64>();
        let beyond = beyond - own.saturating_sub(share) + after.saturating_sub(share);
        if all > self.bytes_max || (after > share && beyond > self.bytes_max / 2) {
            return false;
        }
        let written = self.written.entry(owner).or_default();
        match written.back_mut() {
            Some((since, sum)) if now.saturating_duration_since(*since) < TOGETHER => *sum += bytes,
            _ => written.push_back((now, bytes)),
        }
        true
    }

    fn forget(&mut self, now: Instant) {
        // The last of what counts as one may have been written when its time was over.
        let old = |since: Instant| now.saturating_duration_since(since) >= DAY + TOGETHER;
        self.written.retain(|_, written| {
            while written.front().is_some_and(|(since, _)| old(*since)) {
                written.pop_front();
            }
            !written.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_who_writes_all_day_leaves_others_their_share() {
        let now = Instant::now();
        let mut wear = Wear::new(1600);
        let mut hog = 0;
        while wear.take(now, Some(1), 10) {
            hog += 10;
        }
        assert_eq!(hog, 900, "a share, and all that is nobody's");
        for owner in 2..=8 {
            assert!(wear.take(now, Some(owner), 100), "{owner}");
            assert!(!wear.take(now, Some(owner), 1), "{owner}");
        }
        // A day has no more, for whomever.
        assert!(!wear.take(now, None, 1));
        assert!(wear.take(now + DAY + TOGETHER, None, 900));
    }

    proptest! {
        #[test]
        fn no_day_has_more_than_the_bound(
            writes in prop::collection::vec((0u64..20_000, 1u64..60, 0u32..12), 1..200)
        ) {
            let start = Instant::now();
            let mut wear = Wear::new(160);
            let mut now = start;
            let mut taken: Vec<(Instant, Owner, u64)> = Vec::new();
            for (seconds, bytes, owner) in writes {
                now += Duration::from_secs(seconds);
                let owner = (owner > 0).then_some(owner);
                let owners = wear.written.len();
                let first = !wear.written.contains_key(&owner);
                let took = wear.take(now, owner, bytes);
                // One of a household's share is there, whatever the others did.
                prop_assert!(took || !first || owners >= 8 || bytes > 10);
                if took {
                    taken.push((now, owner, bytes));
                }
                let lately = taken.iter().filter(|(at, _, _)| now - *at < DAY);
                prop_assert!(lately.map(|(_, _, bytes)| bytes).sum::<u64>() <= 160);
                prop_assert!(wear.written.values().all(|written| written.len() <= 26));
            }
            // A day and an hour later, it may be written again.
            let later = now + DAY + TOGETHER;
            prop_assert!(wear.take(later, None, 90));
            prop_assert!(!wear.take(later, None, 1));
        }
    }
}
