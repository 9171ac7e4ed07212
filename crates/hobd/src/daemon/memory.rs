//! How scarce memory is, looked at while an engine has some, and what is told of it.

use std::time::{Duration, Instant};

use hob_api::status::MemoryStatus;

use crate::budget::{Plan, Source};
use crate::pressure::{Level, Pressure, Sample};
use crate::supply::Tree;

/// How often memory is looked at when no engine's heartbeat gives the time, until it is no longer
/// scarce. The kernel brings its averages up to date as often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
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
}

impl Watch {
    pub(super) fn new(tree: Tree) -> Self {
        Self {
            tree,
            pressure: Pressure::default(),
            looked_at: None,
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
        let before = self.pressure.level();
        let level = self.pressure.sample(now, sample);
        (level != before).then_some(level)
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
        self.looked_at.filter(|_| scarce).map(|at| at + LOOK_EVERY)
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
