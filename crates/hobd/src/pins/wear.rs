//! How much was written in a day. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// For how long what was written counts.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What is written within this time is counted as one: a day is some 25 numbers, however many writes.
const TOGETHER: Duration = Duration::from_secs(3600);

/// What was written lately.
#[derive(Debug)]
pub(super) struct Wear {
    bytes_max: u64,
    /// Since when, and how many bytes; the oldest first.
    written: VecDeque<(Instant, u64)>,
}

impl Wear {
    /// Nothing was written yet, and at most so many bytes may be within 24 hours.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            written: VecDeque::new(),
        }
    }

    /// Whether so many bytes more may be written; if so, they count as written.
    pub(super) fn take(&mut self, now: Instant, bytes: u64) -> bool {
        // The last of what counts as one may have been written when its time was over.
        let old = |since: Instant| now.saturating_duration_since(since) >= DAY + TOGETHER;
        while self.written.front().is_some_and(|(since, _)| old(*since)) {
            self.written.pop_front();
        }
        let before: u64 = self.written.iter().map(|(_, bytes)| bytes).sum();
        if before.saturating_add(bytes) > self.bytes_max {
            return false;
        }
        match self.written.back_mut() {
            Some((since, sum)) if now.saturating_duration_since(*since) < TOGETHER => *sum += bytes,
            _ => self.written.push_back((now, bytes)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_day_has_more_than_the_bound(
            writes in prop::collection::vec((0u64..20_000, 1u64..60), 1..200)
        ) {
            let start = Instant::now();
            let mut wear = Wear::new(100);
            let mut now = start;
            let mut taken: Vec<(Instant, u64)> = Vec::new();
            for (seconds, bytes) in writes {
                now += Duration::from_secs(seconds);
                if wear.take(now, bytes) {
                    taken.push((now, bytes));
                }
                let lately = taken.iter().filter(|(at, _)| now - *at < DAY);
                prop_assert!(lately.map(|(_, bytes)| bytes).sum::<u64>() <= 100);
                prop_assert!(wear.written.len() <= 26);
            }
            // A day and an hour later, all of it may be written again.
            prop_assert!(wear.take(now + DAY + TOGETHER, 100));
            prop_assert!(!wear.take(now + DAY + TOGETHER, 1));
        }
    }
}
