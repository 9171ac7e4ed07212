//! Figures with intervals. Pure.
//!
//! A figure is that of all strata, each weighing the same, whatever its size, so that a sample drawn evenly
//! tells of the same thing as all questions. Its interval is a bootstrap's (Efron and Tibshirani 1993, chapter
//! 13: percentiles): groups are drawn anew within their strata, since questions on one text are no
//! independent ones, and 95 of 100 figures of such draws lie within.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// How often groups are drawn anew.
const DRAWS: usize = 1000;
/// Draws on each side of an interval: 2.5 %.
const OUTSIDE: usize = DRAWS / 40;
/// The seed of drawing: the same groups give the same interval.
const SEED: u64 = 0x0b1a5;

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Share {
    /// Those that are meant.
    pub(super) part: u32,
    /// All.
    pub(super) of: u32,
}

impl Share {
    /// One more.
    pub(super) fn count(&mut self, is_meant: bool) {
        self.part += u32::from(is_meant);
        self.of += 1;
    }

    /// From 0 to 1; `None` of nothing.
    pub(super) fn value(self) -> Option<f64> {
        (self.of > 0).then(|| f64::from(self.part) / f64::from(self.of))
    }
}

impl AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.part += other.part;
        self.of += other.of;
    }
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    /// Its value.
    pub(super) value: f64,
    /// The lower end of the interval that holds it with 95 %, and the upper; `None` of too few groups.
    pub(super) interval: Option<(f64, f64)>,
}

/// What is told of counts `T`, given those of each stratum.
#[derive(Debug)]
pub(super) struct Measure<T> {
    /// For programs.
    pub(super) key: &'static str,
    /// For people.
    pub(super) title: &'static str,
    /// Whether it is bias, which is 0 at best and counts by its size; else a share.
    pub(super) is_bias: bool,
    /// Its value; `None` where the counts tell nothing.
    pub(super) of: fn(&[T]) -> Option<f64>,
}

impl<T> Measure<T> {
    /// A share of questions.
    pub(super) const fn right(
        key: &'static str,
        title: &'static str,
        of: fn(&[T]) -> Option<f64>,
    ) -> Self {
        Self {
            key,
            title,
            is_bias: false,
            of,
        }
    }

    /// A bias.
    pub(super) const fn bias(
        key: &'static str,
        title: &'static str,
        of: fn(&[T]) -> Option<f64>,
    ) -> Self {
        Self {
            key,
            title,
            is_bias: true,
            of,
        }
    }
}

/// The mean over those strata that have a value.
pub(super) fn mean<T>(sums: &[T], of: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = sums.iter().filter_map(of).collect();
    let count = u32::try_from(values.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some(values.iter().sum::<f64>() / f64::from(count))
}

/// Figures of what each group of each stratum counts: the sums of all strata go to each statistic.
pub(super) fn figures<T: Copy + Default + AddAssign, S: Fn(&[T]) -> Option<f64>>(
    strata: &[Vec<T>],
    statistics: &[S],
) -> Vec<Option<Figure>> {
    let strata: Vec<&Vec<T>> = strata.iter().filter(|groups| !groups.is_empty()).collect();
    let sums: Vec<T> = strata.iter().map(|groups| sum(groups.iter())).collect();
    let mut drawn = vec![Vec::with_capacity(DRAWS); statistics.len()];
    if strata.iter().any(|groups| groups.len() > 1) {
        let mut random = fastrand::Rng::with_seed(SEED);
        for _ in 0..DRAWS {
            let again = strata.iter().map(|groups| {
                sum((0..groups.len()).map(|_| &groups[random.usize(0..groups.len())]))
            });
            let again: Vec<T> = again.collect();
            for (values, statistic) in drawn.iter_mut().zip(statistics) {
                values.extend(statistic(&again));
            }
        }
    }
    let each = statistics.iter().zip(drawn);
    each.map(|(statistic, values)| {
        statistic(&sums).map(|value| Figure {
            value,
            interval: interval(values),
        })
    })
    .collect()
}

fn sum<'a, T: Copy + Default + AddAssign + 'a>(groups: impl Iterator<Item = &'a T>) -> T {
    let mut sum = T::default();
    for group in groups {
        sum += *group;
    }
    sum
}

/// What 95 of 100 values lie within; `None` unless nearly all draws have one.
fn interval(mut values: Vec<f64>) -> Option<(f64, f64)> {
    if values.len() < DRAWS - OUTSIDE {
        return None;
    }
    values.sort_by(f64::total_cmp);
    Some((values[OUTSIDE], values[values.len() - 1 - OUTSIDE]))
}

/// What two models count of the same groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Both<T> {
    /// The model that is compared with.
    pub(super) base: T,
    /// The other.
    pub(super) other: T,
}

impl<T: AddAssign> AddAssign for Both<T> {
    fn add_assign(&mut self, more: Self) {
        self.base += more.base;
        self.other += more.other;
    }
}

/// By how much each measure is higher in the other model, and bias further from 0.
pub(super) fn rises<T: Copy + Default + AddAssign>(
    strata: &[Vec<Both<T>>],
    measures: &[Measure<T>],
) -> Vec<Option<Figure>> {
    let statistics = measures.iter().map(|measure| {
        move |sums: &[Both<T>]| {
            let size = |value: f64| if measure.is_bias { value.abs() } else { value };
            let of = |one: fn(&Both<T>) -> T| {
                let sums: Vec<T> = sums.iter().map(one).collect();
                (measure.of)(&sums).map(size)
            };
            Some(of(|both| both.other)? - of(|both| both.base)?)
        }
    });
    let statistics: Vec<_> = statistics.collect();
    figures(strata, &statistics)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use proptest::prelude::*;

    use super::*;

    fn share(part: u32, of: u32) -> Share {
        Share { part, of }
    }

    fn value(sums: &[Share]) -> Option<f64> {
        mean(sums, |sum| sum.value())
    }

    fn figure(strata: &[Vec<Share>]) -> Option<Figure> {
        figures(strata, &[value]).remove(0)
    }

    #[test]
    fn strata_weigh_the_same() {
        let found = figure(&[vec![share(1, 1); 90], vec![share(0, 1); 10], Vec::new()]);
        assert!((found.unwrap().value - 0.5).abs() < 1e-12);
        assert_eq!(figure(&[]), None);
        assert_eq!(figure(&[vec![share(0, 0)]]), None);
    }

    #[test]
    fn the_interval_is_that_of_a_binomial() {
        // Of 400 at one half the standard error is 0.025.
        let half: Vec<Share> = (0..400).map(|at| share(at % 2, 1)).collect();
        let (low, high) = figure(&[half]).unwrap().interval.unwrap();
        assert!((low - 0.451).abs() < 0.012, "{low}");
        assert!((high - 0.549).abs() < 0.012, "{high}");
        // One group says nothing of how others would differ.
        assert_eq!(figure(&[vec![share(5, 9)]]).unwrap().interval, None);
    }

    #[test]
    fn bias_rises_with_its_size_whichever_way_it_leans() {
        let lean = |sums: &[Share]| value(sums).map(|value| 2.0 * value - 1.0);
        let measures = [
            Measure::bias("bias", "BIAS", lean),
            Measure::right("right", "RIGHT", value),
        ];
        let both = |base, other| Both {
            base: share(base, 10),
            other: share(other, 10),
        };
        let risen = |base, other| {
            let found = rises(&[vec![both(base, other); 5]], &measures);
            let each = found.into_iter().map(|found| found.unwrap());
            each.map(|found| (found.value * 10.0).round())
                .collect::<Vec<_>>()
        };
        assert_eq!(risen(4, 1), [6.0, -3.0]);
        assert_eq!(risen(6, 4), [0.0, -2.0]);
        assert_eq!(risen(9, 6), [-6.0, -3.0]);
    }

    proptest! {
        #[test]
        fn intervals_hold_the_value_of_large_samples_and_are_the_same_again(
            shares in proptest::collection::vec((0u32..5, 5u32..6), 30..80),
        ) {
            let groups: Vec<Share> = shares.iter().map(|(part, of)| share(*part, *of)).collect();
            let found = figure(std::slice::from_ref(&groups)).unwrap();
            let (low, high) = found.interval.unwrap();
            prop_assert!(low <= found.value && found.value <= high);
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert_eq!(figure(&[groups]), Some(found));
        }
    }
}
