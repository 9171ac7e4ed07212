//! What is given up when memory becomes scarce. Pure: `(sample, now) → level`.
//!
//! The level rises at once, and falls one step at a time, each after memory was easier to come by
//! for [`CALM`]: what was given up is not taken again at the first sign of ease.

use std::time::{Duration, Instant};

use crate::supply::{Machine, Stall};

/// How long memory must be easier to come by before the level falls by one.
pub const CALM: Duration = Duration::from_secs(10);

/// What is given up. Each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// The prefix cache: answers come, some later.
    Cache,
    /// New requests: they get `busy`, while those admitted are answered.
    Admission,
    /// The model, as soon as nothing runs. What runs may end: its memory is taken already, and
    /// should the kernel run out nevertheless, the engine is the first that it ends.
    Model,
}

impl Level {
    /// Every level, the mildest first.
    pub const ALL: [Self; 4] = [Self::None, Self::Cache, Self::Admission, Self::Model];

    /// Its name in status and metrics: what is given up.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cache => "cache",
            Self::Admission => "admission",
            Self::Model => "model",
        }
    }

    fn below(self) -> Self {
        match self {
            Self::None | Self::Cache => Self::None,
            Self::Admission => Self::Cache,
            Self::Model => Self::Admission,
        }
    }
}

/// How scarce memory is now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// What the kernel says of waiting for memory.
    Stall(Stall),
    /// Where it says nothing of that: what is left.
    Left(Machine),
}

impl Sample {
    /// The level that this asks for by itself.
    ///
    /// A desktop or board in use shows a few percent of `some` when a program starts; a tenth of
    /// the time is felt. Once all tasks wait at once (`full`), the machine as a whole stands
    /// still for that share of the time. Without these figures the part of memory that is left
    /// must do, which tells scarcity from a well-filled cache less surely: hence the low parts.
    fn level(self) -> Level {
        match self {
            Self::Stall(stall) if stall.full >= 20.0 => Level::Model,
            Self::Stall(stall) if stall.full >= 5.0 || stall.some >= 40.0 => Level::Admission,
            Self::Stall(stall) if stall.some >= 10.0 => Level::Cache,
            Self::Stall(_) => Level::None,
            Self::Left(machine) => {
                let parts = |n: u64| machine.total / 100 * n;
                match machine.available {
                    left if left < parts(2) => Level::Model,
                    left if left < parts(4) => Level::Admission,
                    left if left < parts(8) => Level::Cache,
                    _ => Level::None,
                }
            }
        }
    }
}

/// The level over time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    level: Level,
    /// Since when samples ask for less than `level`.
    easier_since: Option<Instant>,
}

impl Pressure {
    /// The level now.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether the last sample asked for less than the level, which may fall soon.
    pub fn is_easing(&self) -> bool {
        self.easier_since.is_some()
    }

    /// Takes in a sample.
    pub fn sample(&mut self, now: Instant, sample: Sample) -> Level {
        let asked = sample.level();
        if asked >= self.level {
            self.level = asked;
            self.easier_since = None;
            return self.level;
        }
        let since = *self.easier_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= CALM {
            self.level = self.level.below();
            self.easier_since = (asked < self.level).then_some(now);
        }
        self.level
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stall(some: f32, full: f32) -> Sample {
        Sample::Stall(Stall { some, full })
    }

    #[test]
    fn it_rises_at_once_and_falls_step_by_step() {
        let mut now = Instant::now();
        let mut pressure = Pressure::default();
        assert_eq!(pressure.sample(now, stall(9.9, 4.9)), Level::None);
        assert_eq!(pressure.sample(now, stall(12.0, 1.0)), Level::Cache);
        assert_eq!(pressure.sample(now, stall(60.0, 30.0)), Level::Model);
        for expected in [Level::Admission, Level::Cache, Level::None] {
            let before = pressure.level();
            assert_eq!(pressure.sample(now, stall(0.0, 0.0)), before);
            now += CALM / 2;
            assert_eq!(pressure.sample(now, stall(0.0, 0.0)), before);
            now += CALM / 2;
            assert_eq!(pressure.sample(now, stall(0.0, 0.0)), expected);
        }
    }

    #[test]
    fn a_relapse_starts_the_wait_anew() {
        let start = Instant::now();
        let mut pressure = Pressure::default();
        pressure.sample(start, stall(12.0, 0.0));
        pressure.sample(start, stall(0.0, 0.0));
        pressure.sample(start + CALM / 2, stall(11.0, 0.0));
        let level = pressure.sample(start + CALM, stall(0.0, 0.0));
        assert_eq!(level, Level::Cache);
        let level = pressure.sample(start + CALM * 2, stall(0.0, 0.0));
        assert_eq!(level, Level::None);
    }

    #[test]
    fn what_is_left_counts_where_the_kernel_says_no_more() {
        let left = |available| {
            let total = 1_000_000;
            Sample::Left(Machine { total, available }).level()
        };
        assert_eq!(left(80_000), Level::None);
        assert_eq!(left(79_999), Level::Cache);
        assert_eq!(left(39_999), Level::Admission);
        assert_eq!(left(19_999), Level::Model);
    }

    proptest! {
        #[test]
        fn it_is_never_below_what_the_sample_asks_and_falls_one_at_a_time(
            samples in prop::collection::vec((0.0f32..100.0, 0.0f32..40.0, 0u64..15), 1..60)
        ) {
            let mut now = Instant::now();
            let mut pressure = Pressure::default();
            for (some, full, seconds) in samples {
                now += Duration::from_secs(seconds);
                let before = pressure.level();
                let after = pressure.sample(now, stall(some, full));
                prop_assert!(after >= stall(some, full).level());
                prop_assert!(after >= before.below());
            }
        }
    }
}
