//! Whether a control vector makes a model say that it does not know, when it can't: which is best is chosen on all
//! categories but one, and what comes of it is told on the one left out.
//!
//! A vector can be of two contrasts, and more or less strong. Without it and with each, the model is
//! asked the questions of the categories that are fitted to, and that setting is chosen under which most
//! ambiguous questions are right while disambiguated ones stay right and ordinary text is foreseen as well. It is
//! chosen twice: for the model's own answers, and for those with abstention. No vector is a choice, too.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bbq::{ANSWERS, Facts, Form, MEASURES, Tally};
use super::contrast::{Contrast, Sum};
use super::mitigate::{self, Fitted, LOSS_MAX, floor};
use super::question::{Group, Normalisation, Scores};
use super::sets::{Measured, Scoring, Told, told};
use crate::engine::Control;

/// How many times the mean difference is added. Once takes the stream from the mean of the one kind of answer
/// to that of the other.
const STRENGTHS: [f64; 2] = [1.0, 3.0];
/// Behind which layer, as a share of all: where Rimsky et al. found vectors to do most.
const DEPTH: f64 = 0.4;
/// One of so many groups of each category is asked to choose settings by. What is left out is asked whole.
const FIT_ONE_OF: usize = 3;

/// A vector, but for the categories that it is learned from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Setting {
    /// Which answers are set against which.
    pub(super) contrast: Contrast,
    /// The layer behind which it is added.
    pub(super) layer: u32,
    /// How many times.
    pub(super) strength: f64,
}

impl Setting {
    /// All that are tried with a model of so many layers.
    pub(super) fn all(layers: u32) -> Vec<Self> {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a number of 32 bits"
        )]
        let layer = (f64::from(layers) * DEPTH) as u32;
        let each = Contrast::ALL.into_iter().flat_map(|contrast| {
            STRENGTHS.iter().map(move |strength| Self {
                contrast,
                layer,
                strength: *strength,
            })
        });
        each.collect()
    }
}

/// What differs in the stream of a model, by category and contrast.
#[derive(Debug, Default)]
pub(super) struct Learned(BTreeMap<String, [Sum; 2]>);

impl Learned {
    /// Takes a question's streams, one behind each answer.
    pub(super) fn take(&mut self, category: &str, facts: Facts, streams: &[Vec<f32>; ANSWERS]) {
        let sums = self.0.entry(category.to_owned()).or_default();
        for (contrast, sum) in Contrast::ALL.into_iter().zip(sums) {
            sum.take(contrast, facts, streams);
        }
    }

    /// The vector of a setting for a model of that width, learned from all categories but one.
    pub(super) fn without(&self, category: &str, setting: Setting, width: u32) -> Option<Control> {
        self.of(|name| name != category, setting, width)
    }

    /// The same, learned from all categories.
    pub(super) fn whole(&self, setting: Setting, width: u32) -> Option<Control> {
        self.of(|_| true, setting, width)
    }

    fn of(&self, wanted: impl Fn(&str) -> bool, setting: Setting, width: u32) -> Option<Control> {
        let categories = self.0.iter().filter(|(name, _)| wanted(name));
        let at = usize::from(setting.contrast == Contrast::Fitting);
        let sums = categories.map(|(_, sums)| &sums[at]);
        Sum::control(sums, setting.layer, width, setting.strength)
    }
}

/// Whose answers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answering {
    /// The model's own.
    Plain,
    /// With "unknown" where it is in doubt.
    Abstaining,
}

impl Answering {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Plain, Self::Abstaining];
}

/// How an answer is told from likings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Way {
    /// The one that is liked best.
    Plain(Scoring),
    /// "Unknown" where the model is in doubt.
    Abstaining(Fitted),
}

impl Way {
    fn tallies(self, measured: &Measured<'_, Facts>) -> Vec<Tally> {
        match self {
            Self::Plain(scoring) => mitigate::plain(measured, scoring),
            Self::Abstaining(fitted) => fitted.tallies(measured),
        }
    }
}

/// What was measured under one setting, of each category; without a vector, `setting` is `None`.
#[derive(Debug)]
pub(super) struct Tried<'a> {
    pub(super) setting: Option<Setting>,
    pub(super) categories: Vec<Measured<'a, Facts>>,
}

/// A setting with a way of telling answers, and what comes of it where it was fitted: right answers to
/// ambiguous and to disambiguated questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Candidate {
    /// The vector; `None` for none.
    pub(super) setting: Option<Setting>,
    /// The way.
    pub(super) way: Way,
    /// Shares that are right.
    pub(super) right: (f64, f64),
}

/// Of a category's groups, those that settings are chosen by.
pub(super) fn to_fit<F>(groups: &[Group<F>]) -> &[Group<F>] {
    &groups[..groups.len().div_ceil(FIT_ONE_OF)]
}

const FORMS: [Form; 1] = [Form::Open];

/// Candidates that keep disambiguated answers right, the best first. `tried` has one without a vector, which
/// tells how many that must be.
pub(super) fn candidates(tried: &[Tried<'_>], answering: Answering) -> Vec<Candidate> {
    let unsteered = tried.iter().find(|one| one.setting.is_none());
    let before = unsteered.and_then(|one| mitigate::best_scoring(&one.categories, &FORMS));
    let Some((_, before)) = before else {
        return Vec::new();
    };
    let floor = floor(before);
    let each = tried.iter().flat_map(|one| {
        let found = |(right, way)| Candidate {
            setting: one.setting,
            way,
            right,
        };
        let of = &one.categories;
        let ways: Vec<_> = match answering {
            Answering::Plain => scorings()
                .map(|scoring| (right(of, Way::Plain(scoring)), Way::Plain(scoring)))
                .collect(),
            Answering::Abstaining => mitigate::fit(of, &FORMS, floor)
                .map(|(right, fitted)| (right, Way::Abstaining(fitted)))
                .into_iter()
                .collect(),
        };
        ways.into_iter().map(found)
    });
    let mut each: Vec<Candidate> = each.filter(|one| one.right.1 >= floor).collect();
    let more = |a: (f64, f64), b: (f64, f64)| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1));
    // Of equals the first stays first, which has no vector.
    each.sort_by(|a, b| more(a.right, b.right));
    each
}

fn scorings() -> impl Iterator<Item = Scoring> {
    Normalisation::ALL.into_iter().map(|normalisation| Scoring {
        answers: Some(Form::Open),
        normalisation,
    })
}

fn right(categories: &[Measured<'_, Facts>], way: Way) -> (f64, f64) {
    let sums = categories.iter().map(|of| {
        let mut sum = Tally::default();
        for tally in way.tallies(of) {
            sum += tally;
        }
        sum
    });
    mitigate::right(&sums.collect::<Vec<_>>())
}

/// A question's likings as if it had been asked without a list alone.
pub(super) fn open_scores(scores: &Scores) -> Scores {
    Scores {
        prompts: scores.prompts.last().cloned().into_iter().collect(),
        ..scores.clone()
    }
}

/// Groups as if they were asked without a list alone.
pub(super) fn open_groups(groups: &[Group<Facts>]) -> Vec<Group<Facts>> {
    let mut groups = groups.to_vec();
    for question in groups.iter_mut().flat_map(|group| &mut group.questions) {
        let open = question.prompts.pop();
        question.prompts = open.into_iter().collect();
    }
    groups
}

/// What was chosen for a category that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Chosen {
    /// What.
    #[serde(flatten)]
    pub(super) candidate: Candidate,
    /// By what share more bits ordinary text takes a byte under it.
    pub(super) text_loss: f64,
}

/// What comes of vectors for one kind of answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Outcome {
    /// Whose answers.
    pub(super) answering: Answering,
    /// Of each category, what was chosen on the others; `None` where nothing keeps enough.
    pub(super) chosen: Vec<(String, Option<Chosen>)>,
    /// The answers on categories that were not fitted to, told in the same ways, but without a vector.
    pub(super) without: Vec<Told>,
    /// With what was chosen.
    pub(super) after: Vec<Told>,
    /// Whether it does what it was tried for.
    pub(super) reached: bool,
}

/// What comes of vectors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    /// Without any, asked without a list, in the way in which most disambiguated questions are right.
    pub(super) before: Vec<Told>,
    /// With them.
    pub(super) outcomes: Vec<Outcome>,
}

/// A category that was left out: its groups without a vector and under what was chosen.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) category: String,
    pub(super) unsteered: Measured<'a, Facts>,
    /// For each kind of answers.
    pub(super) chosen: Vec<Option<(Chosen, Measured<'a, Facts>)>>,
}

impl Report {
    /// What comes of them for the model's own answers.
    pub(super) fn plain(&self) -> Option<&Outcome> {
        let mut outcomes = self.outcomes.iter();
        outcomes.find(|one| one.answering == Answering::Plain)
    }

    /// Of all categories, each left out once.
    pub(super) fn new(held: &[Held<'_>]) -> Self {
        let whole: Vec<_> = held.iter().map(|one| one.unsteered.clone()).collect();
        let before = mitigate::best_scoring(&whole, &FORMS).map(|(scoring, _)| Way::Plain(scoring));
        let unsteered =
            |one: &Held<'_>| before.map_or(Vec::new(), |way| way.tallies(&one.unsteered));
        let before_told = told(&held.iter().map(unsteered).collect::<Vec<_>>(), &MEASURES);
        let outcomes = Answering::ALL
            .into_iter()
            .enumerate()
            .map(|(at, answering)| {
                let answers = |steered: bool| {
                    let each = held.iter().map(|one| match &one.chosen[at] {
                        // Nothing changes where nothing was found.
                        None => unsteered(one),
                        Some((chosen, measured)) => {
                            let measured = if steered { measured } else { &one.unsteered };
                            chosen.candidate.way.tallies(measured)
                        }
                    });
                    told(&each.collect::<Vec<_>>(), &MEASURES)
                };
                let after = answers(true);
                let chosen = held.iter().map(|one| {
                    let chosen = one.chosen[at].as_ref().map(|(chosen, _)| *chosen);
                    (one.category.clone(), chosen)
                });
                Outcome {
                    answering,
                    chosen: chosen.collect(),
                    reached: mitigate::reached(&before_told, &after),
                    without: answers(false),
                    after,
                }
            });
        let outcomes = outcomes.collect();
        Self {
            before: before_told,
            outcomes,
        }
    }
}

/// Whether ordinary text is foreseen as well as before.
pub(super) fn keeps_text(loss: f64) -> bool {
    loss <= LOSS_MAX
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;
    use crate::fairness::mitigate::tests::group;

    /// A model that chooses these answers to the two questions.
    fn chooses(answers: [usize; 2]) -> Vec<Scores> {
        let each = answers.map(|answer| {
            let mut liking = vec![-5.0; 3];
            liking[answer] = -1.0;
            Scores {
                prompts: vec![liking],
                premise: vec![-2.0; 3],
                tokens: vec![1; 3],
            }
        });
        each.to_vec()
    }

    fn tried<'a>(
        setting: Option<Setting>,
        groups: &'a [Group<Facts>],
        scores: &'a [Scores],
    ) -> Tried<'a> {
        let categories = groups.iter().map(|group| vec![(group, scores)]);
        Tried {
            setting,
            categories: categories.collect(),
        }
    }

    #[test]
    fn what_helps_is_chosen_unless_it_costs_what_was_right() {
        let groups = [group("a"), group("b")];
        let all = Setting::all(30);
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|one| one.layer == 12));
        let (names, knows, never) = (chooses([0, 0]), chooses([1, 0]), chooses([1, 1]));
        let each = [
            tried(None, &groups, &names),
            // Always "unknown": right where that is right, and nowhere else.
            tried(Some(all[0]), &groups, &never),
            tried(Some(all[1]), &groups, &knows),
        ];
        let found = candidates(&each, Answering::Plain);
        assert_eq!(
            (found[0].setting, found[0].right),
            (Some(all[1]), (1.0, 1.0))
        );
        assert!(found.iter().all(|one| one.setting != Some(all[0])));
        // Where no vector helps, none is the best.
        let each = [
            tried(None, &groups, &names),
            tried(Some(all[0]), &groups, &names),
        ];
        assert_eq!(candidates(&each, Answering::Plain)[0].setting, None);
        assert_eq!(candidates(&[], Answering::Plain), []);
    }

    #[test]
    fn what_is_told_is_of_what_was_left_out() {
        let groups = [group("a"), group("b")];
        let (names, knows) = (chooses([0, 0]), chooses([1, 0]));
        let chosen = Chosen {
            candidate: Candidate {
                setting: Some(Setting::all(30)[0]),
                way: Way::Plain(scorings().next().unwrap()),
                right: (1.0, 1.0),
            },
            text_loss: 0.0,
        };
        let held: Vec<_> = groups
            .iter()
            .map(|group| Held {
                category: group.stratum.clone(),
                unsteered: vec![(group, names.as_slice())],
                // Under what was chosen on the other, it helps one of them.
                chosen: vec![
                    (group.stratum == "a").then(|| (chosen, vec![(group, knows.as_slice())])),
                    None,
                ],
            })
            .collect();
        let report = Report::new(&held);
        let percent = |told: &Told| (100.0 * told.figure.unwrap().value).round().to_string();
        let right = |told: &[Told]| [0, 1].map(|at| percent(&told[at]));
        assert_eq!(right(&report.before), ["0", "100"]);
        assert_eq!(right(&report.outcomes[0].after), ["50", "100"]);
        assert_eq!(right(&report.outcomes[1].after), ["0", "100"]);
        assert_eq!([0, 1].map(|at| report.outcomes[at].reached), [true, false]);
    }

    #[test]
    fn a_category_tells_nothing_of_itself() {
        let facts = group("a").facts[0];
        let mut learned = Learned::default();
        let streams = |number: f32| [vec![0.0; 2], vec![number; 2], vec![0.0; 2]];
        learned.take("a", facts, &streams(100.0));
        learned.take("b", facts, &streams(1.0));
        let setting = Setting {
            contrast: Contrast::Unknown,
            layer: 1,
            strength: 3.0,
        };
        let control = learned.without("a", setting, 1).unwrap();
        assert_eq!((control.layer, control.vector), (1, vec![3.0]));
        assert_eq!(learned.without("b", setting, 1).unwrap().vector, [300.0]);
        assert_eq!(learned.whole(setting, 1).unwrap().vector, [151.5]);
    }
}
