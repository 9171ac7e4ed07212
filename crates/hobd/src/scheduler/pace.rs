//! How long requests take, from those that did.

use std::collections::VecDeque;
use std::time::Duration;

/// Requests that are looked back on.
const REMEMBERED: usize = 8;
/// Fewer say nothing.
const LEAST: usize = 3;

/// The times that the latest requests took in the engine.
#[derive(Debug, Default)]
pub(super) struct Pace {
    took: VecDeque<Duration>,
}

impl Pace {
    pub(super) fn learn(&mut self, took: Duration) {
        if self.took.len() == REMEMBERED {
            self.took.pop_front();
        }
        self.took.push_back(took);
    }

    /// How long a request with `before` others before it will wait at the least, with `parallel`
    /// requests at once: as if each were as quick as the quickest of late. A request that is
    /// refused for this would have been too late in any case that was seen.
    pub(super) fn least_wait(&self, before: usize, parallel: usize) -> Option<Duration> {
        let quickest = self
            .took
            .iter()
            .min()
            .filter(|_| self.took.len() >= LEAST)?;
        let rounds = u32::try_from(before / parallel.max(1)).unwrap_or(u32::MAX);
        Some(quickest.saturating_mul(rounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_least_wait_is_what_the_quickest_took_for_each_round() {
        let mut pace = Pace::default();
        pace.learn(SECOND * 9);
        pace.learn(SECOND * 2);
        assert_eq!(pace.least_wait(10, 2), None, "two say nothing");
        pace.learn(SECOND * 5);
        assert_eq!(pace.least_wait(1, 2), Some(Duration::ZERO));
        assert_eq!(pace.least_wait(7, 2), Some(SECOND * 6));
        for _ in 0..REMEMBERED {
            pace.learn(SECOND * 4);
        }
        assert_eq!(
            pace.least_wait(2, 2),
            Some(SECOND * 4),
            "old times are forgotten"
        );
    }
}
