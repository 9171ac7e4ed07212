//! How scarce memory is, looked at while an engine has some, and what is told of it.

use std::time::{Duration, Instant};

use hob_api::status::MemoryStatus;

use crate::budget::{Plan, Source};
use crate::pressure::{Level, Pressure, Sample};
use crate::supply::Tree;

/// How often memory is looked at when no engine's heartbeat gives the time, until it is no longer
/// scarce. The kernel brings its averages up to date as often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// While nothing eases, each such look is twice as long after the one before, up to this: a board
/// whose memory stays scarce is not kept awake by looking. A request looks by itself.
const LOOK_RARELY: Duration = Duration::from_secs(60);
/// Heartbeats that come sooner after one another are no time to look: half of what an honest engine
/// leaves between them.
const LOOK_LEAST: Duration = Duration::from_millis(500);

/// What is known of scarcity. With an engine, its heartbeats (one a second) are when to look;
/// without one, and with nothing given up, nobody looks at all.
#[derive(Debug)]
pub(super) struct Watch {
    tree: Tree,
    pressure: Pressure,
    looked_at: Option<Instant>,
    /// How long after a look the next one comes when no engine gives the time.
    patience: Duration,
}

impl Watch {
    pub(super) fn new(tree: Tree) -> Self {
        Self {
            tree,
            pressure: Pressure::default(),
            looked_at: None,
            patience: LOOK_EVERY,
        }
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) fn level(&self) -> Level {
        self.pressure.level()
    }

    /// Looks, and says the level if it is another one now.
    pub(super) fn look(&mut self, now: Instant) -> Option<Level> {
        self.looked_at = Some(now);
        let stall = self.tree.stall().map(Sample::Stall);
        let sample = stall.or_else(|| self.tree.supply().machine.map(Sample::Left))?;
        self.take_in(now, sample)
    }

    fn take_in(&mut self, now: Instant, sample: Sample) -> Option<Level> {
        let before = self.pressure.level();
        let level = self.pressure.sample(now, sample);
        self.patience = if level != before || self.pressure.is_easing() {
            LOOK_EVERY
        } else {
            (self.patience * 2).min(LOOK_RARELY)
        };
        (level != before).then_some(level)
    }

    /// The engine that gave the time is gone, and its memory may be the ease that is looked for.
    pub(super) fn engine_gone(&mut self) {
        self.patience = LOOK_EVERY;
    }

    /// Whether a heartbeat at `now` is a time to look. A hostile engine could otherwise keep hobd
    /// reading.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < LOOK_LEAST;
        !self.looked_at.is_some_and(recent)
    }

    /// When to look although no engine gives the time.
    pub(super) fn wakeup(&self) -> Option<Instant> {
        let scarce = self.level() > Level::None;
        let look = self.looked_at.filter(|_| scarce);
        look.map(|at| at + self.patience)
    }
}

/// What a plan means for those who read the status.
pub(super) fn status(plan: &Plan, pressure: Level) -> MemoryStatus {
    MemoryStatus {
        budget_bytes: (plan.budget.source != Source::Unknown).then_some(plan.budget.bytes),
        budget_source: plan.budget.source.as_str().to_owned(),
        weights_bytes: plan.needed.weights,
        kv_bytes: plan.needed.kv,
        compute_bytes: plan.needed.compute_estimate,
        cache_bytes: plan.cache,
        kv_type: plan.kv_type.as_str().to_owned(),
        weights: match (plan.weights.as_str(), plan.lock) {
            (weights, false) => weights.to_owned(),
            (weights, true) => format!("{weights}, locked"),
        },
        given_up: pressure.as_str().to_owned(),
        available_bytes: 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::supply::Machine;

    fn left(percent: u64) -> Sample {
        Sample::Left(Machine {
            total: 100_000,
            available: percent * 1000,
        })
    }

    /// Plays the loop that is woken by nothing else, and says after how long each look came.
    fn looks(watch: &mut Watch, now: &mut Instant, percent: u64, most: usize) -> Vec<u64> {
        let mut waited = Vec::new();
        while let Some(at) = watch.wakeup().filter(|_| waited.len() < most) {
            waited.push((at - *now).as_secs());
            *now = at;
            watch.looked_at = Some(at);
            watch.take_in(at, left(percent));
        }
        waited
    }

    #[test]
    fn what_stays_scarce_is_looked_at_ever_more_rarely_and_its_ease_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(Tree::at(folder.path()));
        let mut now = Instant::now();
        assert_eq!(watch.wakeup(), None);
        watch.looked_at = Some(now);
        assert_eq!(watch.take_in(now, left(5)), Some(Level::Cache));
        let waited = looks(&mut watch, &mut now, 5, 8);
        assert_eq!(waited, [2, 4, 8, 16, 32, 60, 60, 60]);
        // With ease, looks come soon again, until the level has fallen and nobody looks.
        let waited = looks(&mut watch, &mut now, 50, 100);
        assert_eq!(waited, [60, 2, 2, 2, 2, 2]);
        assert_eq!(watch.level(), Level::None);
        assert_eq!(watch.wakeup(), None);

        // What an engine that is gone gave back is looked for at once.
        watch.looked_at = Some(now);
        watch.take_in(now, left(5));
        looks(&mut watch, &mut now, 5, 4);
        watch.engine_gone();
        assert_eq!(watch.wakeup(), Some(now + LOOK_EVERY));
    }
}
