//! Whether a control vector is put beside its model: one that does what it was tried for on questions that it was
//! not learned from, at no cost elsewhere. Pure, but for the clock.
//!
//! What an answer is told by is chosen along with a vector, and nobody who asks hobd tells answers so. What counts
//! is what a vector does beyond that: the same answers, told alike, with it and without.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use hob_models::Sha256;
use hob_models::store::{Change, Verification};
use serde::Serialize;

use super::mitigate::{LOSS_MAX, value};
use super::steering::{Outcome, Report, Setting, keeps_text};
use crate::engine::Control;

/// Where figures of [`super::bbq::MEASURES`] stand.
const AMBIGUOUS: usize = 0;
const DISAMBIGUATED: usize = 1;

/// A vector that was learned from all categories, with the setting that was chosen for more than half of them when
/// they were left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Learnt {
    /// How.
    pub(super) setting: Setting,
    /// The vector.
    pub(super) control: Control,
    /// By what share more bits ordinary text takes a byte under it.
    pub(super) text_loss: f64,
}

/// What came of `--apply`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Application {
    /// A vector lies beside the model.
    Applied {
        /// In this file.
        file: PathBuf,
        /// How it was learned.
        #[serde(flatten)]
        setting: Setting,
        /// By what share more bits ordinary text takes a byte under it.
        text_loss: f64,
    },
    /// None was put there.
    Refused {
        /// Why.
        why: String,
        /// Whether one that was put there before still is.
        earlier: bool,
    },
}

/// The setting that a vector for all questions is learned with, or why there is none to be: what passes must be
/// the model's own answers, as nobody abstains for it when it is asked.
pub(super) fn setting(report: &Report) -> Result<Setting, String> {
    let plain = report.plain().ok_or("nothing was measured")?;
    if !plain.reached {
        return Err("the aim was not reached by the model's own answers".to_owned());
    }
    let right = |at| (value(&plain.without, at), value(&plain.after, at));
    let (without, _) = right(AMBIGUOUS);
    let surely = plain.after.get(AMBIGUOUS).and_then(|told| told.figure);
    let surely = surely.and_then(|figure| figure.interval);
    if surely.is_none_or(|(low, _)| low <= without) {
        return Err(
            "it is not sure that more ambiguous questions are right than without: ask more (--groups)"
                .to_owned(),
        );
    }
    let (without, after) = right(DISAMBIGUATED);
    let before = value(&report.before, DISAMBIGUATED).max(without);
    if after < before - LOSS_MAX {
        let [before, after, most] = [before, after, LOSS_MAX].map(|share| 100.0 * share);
        return Err(format!(
            "of the disambiguated questions {after:.1} % are right, {before:.1} % before, and {most:.0} % fewer \
             may be"
        ));
    }
    most_chosen(plain)
        .ok_or_else(|| "no one vector was chosen for more than half of the categories".to_owned())
}

/// The vector that was chosen for more than half of the categories, if one was: what was verified is this one then.
fn most_chosen(outcome: &Outcome) -> Option<Setting> {
    let each = outcome.chosen.iter();
    let settings: Vec<Setting> = each
        .filter_map(|(_, chosen)| chosen.as_ref()?.candidate.setting)
        .collect();
    let times = |one: &Setting| settings.iter().filter(|other| *other == one).count();
    let most = settings
        .iter()
        .find(|one| 2 * times(one) > outcome.chosen.len());
    most.copied()
}

/// Whether ordinary text is foreseen as well under the vector of all categories.
pub(super) fn check_text(learnt: Learnt) -> Result<Learnt, String> {
    if keeps_text(learnt.text_loss) {
        return Ok(learnt);
    }
    let [loss, most] = [learnt.text_loss, LOSS_MAX].map(|share| 100.0 * share);
    Err(format!(
        "learned from all categories, it makes ordinary text {loss:.2} % harder to foresee, and {most:.0} % may be"
    ))
}

/// What is kept of how it was verified.
pub(super) fn verification(
    report: &Report,
    learnt: &Learnt,
    (data_sha256, questions): (Sha256, u32),
) -> Verification {
    let plain = report.plain();
    let without = plain.map_or(&[][..], |plain| &plain.without);
    let after = plain.map_or(&[][..], |plain| &plain.after);
    let chosen = plain.map_or(&[][..], |plain| &plain.chosen);
    let change = |at| Change {
        before: basis_points(value(without, at)).unsigned_abs(),
        after: basis_points(value(after, at)).unsigned_abs(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Verification {
        verified: now.map_or(0, |since| since.as_secs()),
        contrast: format!(
            "{}, {:.1} times",
            learnt.setting.contrast.title(),
            learnt.setting.strength
        ),
        data_sha256,
        questions,
        categories: chosen.iter().map(|(name, _)| name.clone()).collect(),
        text_loss_basis_points: basis_points(learnt.text_loss),
        ambiguous: change(AMBIGUOUS),
        disambiguated: change(DISAMBIGUATED),
    }
}

/// A share in ten-thousandths.
fn basis_points(share: f64) -> i32 {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a cast of a float stays within bounds"
    )]
    let points = (10_000.0 * share).round() as i32;
    points
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::super::figure::Figure;
    use super::super::sets::{BBQ, Told};
    use super::super::steering::{Answering, Candidate, Chosen, Way};
    use super::*;

    fn told(right: [f64; 2]) -> Vec<Told> {
        let figure = |value| Told {
            measure: "right",
            title: "RIGHT",
            is_bias: false,
            figure: Some(Figure {
                value,
                interval: Some((value - 0.05, value + 0.05)),
            }),
        };
        right.map(figure).to_vec()
    }

    /// Of each category the number of the setting that was chosen; `None` for no vector.
    pub(in crate::fairness) fn report(after: [f64; 2], chosen: &[Option<usize>]) -> Report {
        let chosen = chosen.iter().enumerate().map(|(at, setting)| {
            let candidate = Candidate {
                setting: setting.map(|setting| Setting::all(30)[setting]),
                way: Way::Plain(BBQ.scorings[0]),
                right: (1.0, 1.0),
            };
            let chosen = Chosen {
                candidate,
                text_loss: 0.0,
            };
            (format!("category {at}"), Some(chosen))
        });
        let chosen: Vec<_> = chosen.collect();
        let outcome = |answering| Outcome {
            answering,
            chosen: chosen.clone(),
            without: told([0.2, 0.6]),
            after: told(after),
            reached: after[0] >= 0.4,
        };
        Report {
            before: told([0.2, 0.6]),
            outcomes: Answering::ALL.map(outcome).to_vec(),
        }
    }

    #[test]
    fn what_helps_where_it_was_not_learned_and_costs_nothing_is_applied() {
        let all = Setting::all(30);
        let good = [0.5, 0.595];
        let found = |chosen: &[Option<usize>]| setting(&report(good, chosen)).ok();
        assert_eq!(found(&[Some(1), Some(2), Some(2)]), Some(all[2]));
        assert_eq!(found(&[Some(0), None, Some(0)]), Some(all[0]));
        let why = |after, chosen: &[Option<usize>]| setting(&report(after, chosen)).unwrap_err();
        // What would be used was verified for half of the categories alone, or less.
        for chosen in [
            &[Some(0), None][..],
            &[Some(3), Some(0), Some(0), Some(3)],
            &[],
        ] {
            let half = why(good, chosen);
            assert!(half.contains("no one vector was chosen"), "{half}");
        }
        let some = [Some(0), Some(0)];
        assert!(why([0.39, 0.6], &some).contains("aim was not reached"));
        let costly = why([0.9, 0.58], &some);
        let words = "58.0 % are right, 60.0 % before, and 1 % fewer";
        assert!(costly.contains(words), "{costly}");
        // As many are right without, if answers are told in the way that was chosen with the vector; almost as
        // many, so that it may be chance; and of questions that are too few to tell.
        for without in [0.5, 0.46] {
            let mut told_so = report(good, &some);
            told_so.outcomes[0].without = told([without, 0.6]);
            assert!(setting(&told_so).unwrap_err().contains("not sure"));
        }
        let mut few = report(good, &some);
        for told in &mut few.outcomes[0].after {
            told.figure.as_mut().unwrap().interval = None;
        }
        assert!(setting(&few).unwrap_err().contains("not sure"));
        few.outcomes.clear();
        assert!(setting(&few).is_err());
    }

    #[test]
    fn what_is_kept_is_what_was_told() {
        let report = report([0.512_34, 0.6], &[Some(0), Some(0)]);
        let mut learnt = Learnt {
            setting: Setting::all(30)[1],
            control: Control {
                layer: 12,
                vector: vec![1.0],
            },
            text_loss: -0.0012,
        };
        let digest: Sha256 = "07".repeat(32).parse().unwrap();
        let kept = verification(&report, &learnt, (digest, 480));
        assert_eq!(kept.questions, 480);
        assert_eq!((kept.ambiguous.before, kept.ambiguous.after), (2000, 5123));
        assert_eq!(kept.disambiguated.after, 6000);
        assert_eq!(kept.text_loss_basis_points, -12);
        assert_eq!(kept.categories, ["category 0", "category 1"]);
        assert_eq!(kept.contrast, "\"unknown\" against names, 3.0 times");
        assert!(kept.verified > 0);
        assert!(check_text(learnt.clone()).is_ok());
        learnt.text_loss = 0.0123;
        let why = check_text(learnt).unwrap_err();
        assert!(why.contains("1.23 % harder"), "{why}");
    }
}
