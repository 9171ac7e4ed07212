//! Which way of loading a model is the fastest on this board: what is tried, and what is chosen of
//! it. Pure; `daemon/tuning.rs` measures, and [`mod@file`] keeps what came of it.
//!
//! One thing is changed at a time, beginning with what hobd chooses by itself: threads, then where
//! the weights lie. Other types of contexts are measured too and shown, but never chosen, as they
//! make answers less exact.

use hob_api::tuning::Speed;
use hob_ipc::memory::{KvType, Weights};

use crate::settings::{EngineSettings, WeightsSetting};

pub mod file;
#[cfg(test)]
mod tests;

/// Most trials: the first, three counts of threads, the other place for weights, two types.
pub const TRIALS_MAX: u32 = 7;
/// Another way is chosen only if it takes less than this part of the time: less is noise.
const BETTER: f64 = 0.95;
/// A later version that takes more than this part of the time is told of: a board that has just been
/// upgraded may be busy.
const SLOWER: f64 = 1.25;
/// What somebody waits for: reading a prompt of so many tokens, and writing so many.
const TYPICAL: (f64, f64) = (512.0, 128.0);

/// What may be changed: what nobody set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    /// `engine.threads`.
    pub threads: bool,
    /// `engine.weights`.
    pub weights: bool,
}

/// A way to load a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// `None` for hobd's own choice.
    pub threads: Option<u32>,
    /// Where the weights lie.
    pub weights: WeightsSetting,
    /// How contexts are kept.
    pub kv_type: KvType,
}

impl Way {
    /// The way of `settings` with what nobody set at its default.
    pub fn untuned(settings: &EngineSettings, free: Free) -> Self {
        Self {
            threads: settings.threads.filter(|_| !free.threads),
            weights: if free.weights {
                WeightsSetting::Auto
            } else {
                settings.weights
            },
            kv_type: settings.kv_type,
        }
    }

    /// The settings with this in them.
    pub fn within(self, settings: &EngineSettings) -> EngineSettings {
        EngineSettings {
            threads: self.threads,
            weights: self.weights,
            kv_type: self.kv_type,
            ..settings.clone()
        }
    }
}

/// How hobd loaded the model when the choice was its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Threads.
    pub threads: u32,
    /// Where the weights lie.
    pub weights: Weights,
}

/// What is tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    First,
    Threads,
    Weights,
    KvTypes,
    Over,
}

/// A search under way.
#[derive(Debug)]
pub struct Search {
    free: Free,
    processors: u32,
    chosen: Option<Chosen>,
    stage: Stage,
    /// Of the stage, the last first.
    left: Vec<Way>,
    tried: u32,
    best: Way,
    best_speed: Option<Speed>,
}

impl Search {
    /// A search of what may be changed in `settings`, on a machine of which hobd may use so many
    /// processors.
    pub fn new(settings: &EngineSettings, free: Free, processors: u32) -> Self {
        let first = Way::untuned(settings, free);
        Self {
            free,
            processors,
            chosen: None,
            stage: Stage::First,
            left: vec![first],
            tried: 0,
            best: first,
            best_speed: None,
        }
    }

    /// The next way to try; `None` when all was.
    pub fn next_way(&mut self) -> Option<Way> {
        while self.left.is_empty() {
            self.stage = match self.stage {
                Stage::First => Stage::Threads,
                Stage::Threads => Stage::Weights,
                Stage::Weights => Stage::KvTypes,
                Stage::KvTypes | Stage::Over => Stage::Over,
            };
            // Without a first there is nothing to compare with.
            if self.stage == Stage::Over || self.best_speed.is_none() {
                return None;
            }
            self.left = self.ways();
            self.left.reverse();
        }
        self.tried += 1;
        self.left.pop()
    }

    /// Which trial this is, from 1, and how many there are at most.
    pub fn count(&self) -> (u32, u32) {
        let Some(_) = self.chosen else {
            return (self.tried, TRIALS_MAX);
        };
        let later = match self.stage {
            Stage::First => [Stage::Threads, Stage::Weights, Stage::KvTypes].as_slice(),
            Stage::Threads => &[Stage::Weights, Stage::KvTypes],
            Stage::Weights => &[Stage::KvTypes],
            Stage::KvTypes | Stage::Over => &[],
        };
        let later = later.iter().map(|stage| self.ways_of(*stage).len());
        let left = later.sum::<usize>() + self.left.len();
        (self.tried, self.tried + u32::try_from(left).unwrap_or(0))
    }

    /// A way was measured; `chosen` is how the model was then loaded.
    pub fn tried(&mut self, way: Way, chosen: Chosen, speed: Speed) {
        if self.stage == Stage::First {
            self.chosen = Some(chosen);
            self.best_speed = Some(speed);
            return;
        }
        let exact = way.kv_type == self.best.kv_type;
        let better = self
            .best_speed
            .is_none_or(|best| cost(speed) < cost(best) * BETTER);
        if exact && better {
            (self.best, self.best_speed) = (way, Some(speed));
        }
    }

    /// The best way of those tried, and how fast it is; `None` if none could be measured.
    pub fn best(&self) -> Option<(Way, Speed)> {
        Some((self.best, self.best_speed?))
    }

    fn ways(&self) -> Vec<Way> {
        self.ways_of(self.stage)
    }

    fn ways_of(&self, stage: Stage) -> Vec<Way> {
        let Some(chosen) = self.chosen else {
            return Vec::new();
        };
        let best = self.best;
        match stage {
            Stage::Threads if self.free.threads => {
                let counts = counts(chosen.threads, self.processors).into_iter();
                let way = |threads| Way {
                    threads: Some(threads),
                    ..best
                };
                counts.map(way).collect()
            }
            Stage::Weights if self.free.weights => {
                let weights = match chosen.weights {
                    Weights::Mapped => WeightsSetting::Copied,
                    Weights::Copied => WeightsSetting::Mapped,
                };
                vec![Way { weights, ..best }]
            }
            Stage::KvTypes => {
                let others = KvType::ALL.into_iter().filter(|kind| *kind != best.kv_type);
                others.map(|kv_type| Way { kv_type, ..best }).collect()
            }
            Stage::First | Stage::Threads | Stage::Weights | Stage::Over => Vec::new(),
        }
    }
}

/// Counts of threads worth trying beside `own`: half of them, one less, and every processor.
fn counts(own: u32, processors: u32) -> Vec<u32> {
    let mut counts = Vec::new();
    for count in [own / 2, own.saturating_sub(1), processors] {
        if count > 0 && count != own && !counts.contains(&count) {
            counts.push(count);
        }
    }
    counts
}

/// Seconds that somebody waits for a typical answer.
fn cost(speed: Speed) -> f64 {
    let (read, written) = TYPICAL;
    read / speed.read_per_second + written / speed.written_per_second
}

/// Whether `now` is clearly slower than `then`.
pub fn is_slower(then: Speed, now: Speed) -> bool {
    cost(now) > cost(then) * SLOWER
}
