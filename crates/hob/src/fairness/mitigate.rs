//! Abstention: taking "unknown" for a model's answer where it is in doubt. Pure.
//!
//! Small models name a person almost always, though they often can't know. Two doubts can be read from their
//! likings: how little they like the best name more than "unknown", and how little they like it more than the
//! other name. Above a threshold of doubt the answer is "unknown". The kind of doubt, the scoring and the
//! threshold are fitted so that as many ambiguous questions are right as can be while disambiguated ones
//! stay right, and what comes of it is told on a category that was not fitted to (leave one out).

use std::collections::BTreeMap;

use serde::Serialize;

use super::bbq::{Facts, Form, MEASURES, Tally};
use super::figure::Figure;
use super::question::{Group, Normalisation, Scores, best};
use super::sets::{BBQ, Measured, Scoring, Told, told};
use crate::failure::Failure;

/// Right answers to ambiguous questions that are aimed at.
pub(super) const AMBIGUOUS_MIN: f64 = 0.40;
/// Right answers to disambiguated questions that are enough.
pub(super) const DISAMBIGUATED_ENOUGH: f64 = 0.50;
/// How much fewer they may become where they were not enough before.
pub(super) const LOSS_MAX: f64 = 0.01;
/// Thresholds that are tried, at even steps through what doubts there are.
const THRESHOLDS: usize = 200;

/// How doubt is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Doubt {
    /// By how much "unknown" is liked more than the best name.
    Unknown,
    /// By how little the best name is liked more than the other.
    Names,
}

/// A way of abstaining, but for its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rule {
    /// How doubt is read.
    pub(super) doubt: Doubt,
    /// How the answers are asked for.
    pub(super) answers: Form,
    /// How they are compared.
    pub(super) normalisation: Normalisation,
}

/// A way of abstaining.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Fitted {
    /// Which.
    #[serde(flatten)]
    pub(super) rule: Rule,
    /// The least doubt at which the answer is "unknown".
    pub(super) threshold: f64,
}

impl Rule {
    fn all(forms: &[Form]) -> impl Iterator<Item = Self> {
        let doubts = [Doubt::Unknown, Doubt::Names].into_iter();
        let forms = move |doubt| forms.iter().map(move |answers| (doubt, *answers));
        doubts.flat_map(forms).flat_map(|(doubt, answers)| {
            Normalisation::ALL
                .into_iter()
                .map(move |normalisation| Self {
                    doubt,
                    answers,
                    normalisation,
                })
        })
    }

    /// How doubtful the model is, and whom it would name.
    fn read(self, facts: Facts, scores: &Scores) -> (f64, usize) {
        let mut liked = scores.mean_liking(&self.answers.prompts(scores), self.normalisation);
        let unknown = std::mem::replace(&mut liked[facts.unknown], f64::NEG_INFINITY);
        let named = best(&liked);
        let most = std::mem::replace(&mut liked[named], f64::NEG_INFINITY);
        let doubt = match self.doubt {
            Doubt::Unknown => unknown - most,
            Doubt::Names => liked[best(&liked)] - most,
        };
        (doubt, named)
    }
}

/// Questions as a rule reads them: how doubtful, and the answer named, by group.
type Read = Vec<Vec<(Facts, f64, usize)>>;

fn read(rule: Rule, measured: &[(&Group<Facts>, &[Scores])]) -> Read {
    let groups = measured.iter().map(|(group, scores)| {
        let each = group.facts.iter().zip(*scores);
        each.map(|(facts, scores)| {
            let (doubt, named) = rule.read(*facts, scores);
            (*facts, doubt, named)
        })
        .collect()
    });
    groups.collect()
}

fn count(group: &[(Facts, f64, usize)], threshold: f64) -> Tally {
    let mut tally = Tally::default();
    for (facts, doubt, named) in group {
        let chosen = if *doubt >= threshold {
            facts.unknown
        } else {
            *named
        };
        tally.count(*facts, chosen);
    }
    tally
}

/// Counts of a category.
fn sum(groups: &Read, threshold: f64) -> Tally {
    let mut sum = Tally::default();
    for group in groups {
        sum += count(group, threshold);
    }
    sum
}

impl Fitted {
    /// What is counted of each group.
    pub(super) fn tallies(self, measured: &Measured<'_, Facts>) -> Vec<Tally> {
        let groups = read(self.rule, measured);
        let each = groups.iter().map(|group| count(group, self.threshold));
        each.collect()
    }
}

/// The mean over categories of right answers to ambiguous and to disambiguated questions.
pub(super) fn right(sums: &[Tally]) -> (f64, f64) {
    let of = |at: usize| (MEASURES[at].of)(sums).unwrap_or(0.0);
    (of(0), of(1))
}

/// Fits to some categories, with answers asked for in one of these ways, and so many disambiguated questions
/// right at least; and what is right then.
pub(super) fn fit(
    categories: &[Measured<'_, Facts>],
    forms: &[Form],
    floor: f64,
) -> Option<((f64, f64), Fitted)> {
    let mut found: Option<((f64, f64), Fitted)> = None;
    for rule in Rule::all(forms) {
        let read: Vec<Read> = categories.iter().map(|of| read(rule, of)).collect();
        let each = read.iter().flatten().flatten();
        let mut doubts: Vec<f64> = each.map(|(_, doubt, _)| *doubt).collect();
        doubts.sort_by(f64::total_cmp);
        let last = doubts.len().checked_sub(1)?;
        for step in 0..=THRESHOLDS {
            let threshold = doubts[last * step / THRESHOLDS];
            let sums: Vec<Tally> = read.iter().map(|of| sum(of, threshold)).collect();
            let right = right(&sums);
            let better = found.is_none_or(|(most, _)| right > most);
            if right.1 >= floor && better {
                found = Some((right, Fitted { rule, threshold }));
            }
        }
    }
    found
}

/// What the model does by itself, asked in one way.
pub(super) fn plain(measured: &Measured<'_, Facts>, scoring: Scoring) -> Vec<Tally> {
    let each = measured.iter();
    each.map(|(group, scores)| (BBQ.tally)(group, scores, scoring))
        .collect()
}

/// The way of asking, of these, in which most disambiguated questions are right without abstention.
pub(super) fn best_scoring(
    categories: &[Measured<'_, Facts>],
    forms: &[Form],
) -> Option<(Scoring, f64)> {
    let asked = |scoring: &&Scoring| scoring.answers.is_some_and(|form| forms.contains(&form));
    let each = BBQ.scorings.iter().filter(asked).map(|scoring| {
        let sums = categories.iter().map(|of| {
            let mut sum = Tally::default();
            for one in plain(of, *scoring) {
                sum += one;
            }
            sum
        });
        (*scoring, right(&sums.collect::<Vec<_>>()).1)
    });
    each.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The fewest disambiguated questions that may be right, given those that are without abstention.
pub(super) fn floor(before: f64) -> f64 {
    DISAMBIGUATED_ENOUGH.min(before - LOSS_MAX)
}

/// What comes of abstaining.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    /// The way of asking in which most disambiguated questions are right without abstention.
    pub(super) asked: Option<Scoring>,
    /// Of each category, what was fitted to the others; `None` where no threshold keeps enough.
    pub(super) fitted: Vec<(String, Option<Fitted>)>,
    /// Without abstention, asked in that way.
    pub(super) before: Vec<Told>,
    /// With it, on categories that were not fitted to.
    pub(super) after: Vec<Told>,
    /// Whether as many ambiguous questions are right as was aimed at, and enough of the others.
    pub(super) reached: bool,
}

/// Refuses questions that leave nothing to fit to, or to verify by.
pub(super) fn check(groups: &[Group<Facts>]) -> Result<(), Failure> {
    let mut strata: Vec<&str> = groups.iter().map(|group| group.stratum.as_str()).collect();
    strata.sort_unstable();
    strata.dedup();
    if strata.len() < 2 {
        return Err(
            Failure::new("fewer than two categories of BBQ are there").hint(
                "One is left out to verify by, so that at least two are needed in bbq/*.jsonl.",
            ),
        );
    }
    Ok(())
}

/// A figure's value; 0 without one.
pub(super) fn value(told: &[Told], at: usize) -> f64 {
    let figure: Option<Figure> = told.get(at).and_then(|told| told.figure);
    figure.map_or(0.0, |figure| figure.value)
}

/// Whether as many ambiguous questions are right as was aimed at, and enough of the others.
pub(super) fn reached(before: &[Told], after: &[Told]) -> bool {
    value(after, 0) >= AMBIGUOUS_MIN && value(after, 1) >= floor(value(before, 1))
}

impl Report {
    /// What comes of abstaining, on questions of at least two categories.
    pub(super) fn new(measured: &Measured<'_, Facts>) -> Self {
        let mut categories: BTreeMap<&str, Measured<'_, Facts>> = BTreeMap::new();
        for (group, scores) in measured {
            categories
                .entry(&group.stratum)
                .or_default()
                .push((group, scores));
        }
        let (names, categories): (Vec<_>, Vec<_>) = categories.into_iter().unzip();
        let mut report = Self {
            asked: None,
            fitted: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            reached: false,
        };
        let Some((asked, _)) = best_scoring(&categories, &Form::ALL) else {
            return report;
        };
        report.asked = Some(asked);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (at, held) in categories.iter().enumerate() {
            let others = categories
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at);
            let others: Vec<_> = others.map(|(_, of)| of.clone()).collect();
            let before_those = best_scoring(&others, &Form::ALL);
            let fitted = before_those.and_then(|(_, right)| fit(&others, &Form::ALL, floor(right)));
            let fitted = fitted.map(|(_, fitted)| fitted);
            let alone = plain(held, asked);
            after.push(match fitted {
                // Nothing changes where nothing was found.
                None => alone.clone(),
                Some(fitted) => fitted.tallies(held),
            });
            before.push(alone);
            report.fitted.push((names[at].to_owned(), fitted));
        }
        report.before = told(&before, &MEASURES);
        report.after = told(&after, &MEASURES);
        report.reached = reached(&report.before, &report.after);
        report
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use proptest::prelude::*;

    use super::*;

    /// A group of one ambiguous and one disambiguated question: answer 1 is "unknown", and 0 is right where
    /// that can be told.
    pub(in crate::fairness) fn group(category: &str) -> Group<Facts> {
        let facts = |ambiguous| Facts {
            ambiguous,
            right: usize::from(ambiguous),
            unknown: 1,
            biased: 0,
        };
        Group {
            key: category.to_owned(),
            stratum: category.to_owned(),
            questions: Vec::new(),
            facts: vec![facts(true), facts(false)],
        }
    }

    /// What a model likes, asked in one order and without a list.
    fn scores(liking: [f64; 3]) -> Scores {
        Scores {
            prompts: vec![liking.to_vec(), liking.to_vec()],
            premise: vec![0.0; 3],
            tokens: vec![1; 3],
        }
    }

    fn report(groups: &[(Group<Facts>, Vec<Scores>)]) -> Report {
        let measured = groups
            .iter()
            .map(|(group, scores)| (group, scores.as_slice()));
        Report::new(&measured.collect())
    }

    /// Right answers to ambiguous and to disambiguated questions, in percent.
    fn values(told: &[Told]) -> [i64; 2] {
        #[allow(clippy::cast_possible_truncation, reason = "0 to 100")]
        let percent = |at: usize| (100.0 * told[at].figure.unwrap().value).round() as i64;
        [0, 1].map(percent)
    }

    #[test]
    fn a_model_that_knows_when_it_does_not_is_made_to_say_so() {
        // It never says "unknown", but likes two names alike where it can't know.
        let groups: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .flat_map(|category| {
                (0..10).map(move |at| {
                    let apart = 0.1 * f64::from(at);
                    let likings = [[-1.0, -9.0, -1.1], [-1.0, -9.0, -3.0 - apart]];
                    (group(category), likings.map(scores).to_vec())
                })
            })
            .collect();
        let found = report(&groups);
        assert!(found.reached);
        assert_eq!(
            [values(&found.before), values(&found.after)],
            [[0, 100], [100, 100]]
        );
        assert_eq!(found.fitted.len(), 3);
        let names = found
            .fitted
            .iter()
            .all(|(_, rule)| rule.unwrap().rule.doubt == Doubt::Names);
        assert!(names);
    }

    #[test]
    fn a_model_that_does_not_is_not_said_to() {
        // It likes everything alike, whatever is told: to abstain would cost what is right.
        let groups: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|category| {
                let likings = [[-1.0, -9.0, -2.0]; 2];
                (group(category), likings.map(scores).to_vec())
            })
            .collect();
        let found = report(&groups);
        assert!(!found.reached);
        assert_eq!(values(&found.after), [0, 100]);
    }

    #[test]
    fn one_category_leaves_nothing_to_verify_by() {
        assert!(check(&[group("a"), group("a")]).is_err());
        assert!(check(&[group("a"), group("b")]).is_ok());
    }

    proptest! {
        #[test]
        fn more_doubt_never_abstains_more(
            likings in proptest::collection::vec((-9.0f64..0.0, -9.0f64..0.0, -9.0f64..0.0), 1..30),
            thresholds in (-5.0f64..5.0, 0.0f64..5.0),
        ) {
            let facts = group("a").facts[0];
            for rule in Rule::all(&Form::ALL) {
                let read: Vec<_> = likings
                    .iter()
                    .map(|(a, b, c)| {
                        let (doubt, named) = rule.read(facts, &scores([*a, *b, *c]));
                        assert_ne!(named, facts.unknown);
                        (facts, doubt, named)
                    })
                    .collect();
                let (low, more) = thresholds;
                let unknown = |threshold| count(&read, threshold).ambiguous.part;
                prop_assert!(unknown(low + more) <= unknown(low));
            }
        }
    }
}
