//! Figures with intervals. Pure.
//!
//! A figure is that of all strata, each weighing the same, whatever its size, so that a sample drawn evenly
//! tells of the same thing as all questions. Its interval is a bootstrap's (Efron and Tibshirani 1993, chapter
//! 13: percentiles): groups are drawn anew within their strata, since questions on one text are no
//! independent ones, and 95 of 100 figures of such draws lie within. A stratum of one group tells nothing of how
//! groups differ, so that such strata are drawn from all of their kind together (collapsed strata, as in
//! Cochran, Sampling Techniques, 3rd edition, section 5A.12). Where all draws give the same figure, as where
//! all groups are alike, the interval is that of the rule of three (Hanley and Lippman-Hand 1983, "If nothing
//! goes wrong, is everything all right?"): with 95 %, no more than 3 of `n` groups would be unlike those that
//! were seen.

use std::borrow::Cow;
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

/// A figure of the sums of all strata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statistic<S> {
    /// Its value; `None` where the sums tell nothing.
    pub(super) of: S,
    /// Its least value; the greatest is 1.
    pub(super) least: f64,
}

/// Figures of what each group of each stratum counts.
pub(super) fn figures<T: Copy + Default + AddAssign, S: Fn(&[T]) -> Option<f64>>(
    strata: &[Vec<T>],
    statistics: &[Statistic<S>],
) -> Vec<Option<Figure>> {
    let strata: Vec<&[T]> = strata.iter().map(Vec::as_slice).collect();
    let strata: Vec<&[T]> = strata.into_iter().filter(|of| !of.is_empty()).collect();
    let sums: Vec<T> = strata.iter().map(|groups| sum(groups.iter())).collect();
    let mut drawn = vec![Vec::with_capacity(DRAWS); statistics.len()];
    if strata.iter().map(|groups| groups.len()).sum::<usize>() > 1 {
        let pools = pools(&strata);
        let mut random = fastrand::Rng::with_seed(SEED);
        for _ in 0..DRAWS {
            let again = strata.iter().zip(&pools).map(|(groups, pool)| {
                sum((0..groups.len()).map(|_| &pool[random.usize(0..pool.len())]))
            });
            let again: Vec<T> = again.collect();
            for (values, statistic) in drawn.iter_mut().zip(statistics) {
                values.extend((statistic.of)(&again));
            }
        }
    }
    let unlike = unlike(&strata);
    let each = statistics.iter().zip(drawn);
    each.map(|(statistic, values)| {
        (statistic.of)(&sums).map(|value| Figure {
            value,
            interval: interval(values).map(|(low, high)| {
                if high > low {
                    return (low, high);
                }
                let end = |of_those: f64| (1.0 - unlike) * value + unlike * of_those;
                (end(statistic.least), end(1.0))
            }),
        })
    })
    .collect()
}

/// What the groups of each stratum are drawn from.
fn pools<'a, T: Copy>(strata: &[&'a [T]]) -> Vec<Cow<'a, [T]>> {
    let single = strata.iter().filter(|groups| groups.len() == 1);
    let single: Vec<T> = single.flat_map(|groups| groups.iter().copied()).collect();
    let each = strata
        .iter()
        .map(|groups| match (groups.len(), single.len()) {
            (1, 1) => Cow::Owned(strata.concat()),
            (1, _) => Cow::Owned(single.clone()),
            _ => Cow::Borrowed(*groups),
        });
    each.collect()
}

/// The share of groups, each stratum weighing the same, that may be unlike all that were seen: three groups of the
/// stratum of which fewest were.
fn unlike<T>(strata: &[&[T]]) -> f64 {
    let fewest = strata.iter().map(|groups| groups.len()).min().unwrap_or(1);
    #[allow(clippy::cast_precision_loss, reason = "some thousand groups")]
    let seen = (strata.len().max(1) * fewest) as f64;
    (3.0 / seen).min(1.0)
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
    let statistics = measures.iter().map(|measure| Statistic {
        of: move |sums: &[Both<T>]| {
            let size = |value: f64| if measure.is_bias { value.abs() } else { value };
            let of = |one: fn(&Both<T>) -> T| {
                let sums: Vec<T> = sums.iter().map(one).collect();
                (measure.of)(&sums).map(size)
            };
            Some(of(|both| both.other)? - of(|both| both.base)?)
        },
        least: -1.0,
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
        let share = Statistic {
            of: value,
            least: 0.0,
        };
        figures(strata, &[share]).remove(0)
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
    fn groups_that_are_all_alike_are_not_sure_to_stay_so() {
        let ends = |strata: &[Vec<Share>]| figure(strata).unwrap().interval.unwrap();
        // Of 60 of which none is right, up to 3 of 60 may be.
        assert_eq!(ends(&[vec![share(0, 4); 60]]), (0.0, 0.05));
        assert_eq!(ends(&[vec![share(4, 4); 60]]), (0.95, 1.0));
        // The fewer, the less sure, and the smallest stratum tells how few.
        assert_eq!(ends(&[vec![share(0, 4); 2]]), (0.0, 1.0));
        let uneven = ends(&[vec![share(0, 1); 6], vec![share(0, 1); 60]]);
        assert_eq!(uneven, (0.0, 0.25));
        // Two models that answer all alike might differ in other groups, either way.
        let measures = [Measure::bias("bias", "BIAS", value)];
        let both = Both {
            base: share(1, 2),
            other: share(1, 2),
        };
        let found = rises(&[vec![both; 60]], &measures).remove(0).unwrap();
        assert_eq!((found.value, found.interval), (0.0, Some((-0.05, 0.05))));
    }

    #[test]
    fn strata_of_one_group_are_not_sure_of_it() {
        let ends = |strata: &[Vec<Share>]| figure(strata).unwrap().interval.unwrap();
        // One right and one wrong: anything may be.
        assert_eq!(ends(&[vec![share(0, 1)], vec![share(1, 1)]]), (0.0, 1.0));
        // The only one of its kind is drawn from all.
        let (low, high) = ends(&[vec![share(0, 1)], vec![share(1, 1); 9]]);
        assert_eq!((low, high), (0.5, 1.0));
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
