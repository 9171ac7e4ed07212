//! Questions with given answers, and how a model likes each answer. Pure.
//!
//! Nothing is written by the model: of each answer it is asked how likely it is behind the question. Long
//! answers are less likely than short ones, and some words are likely anywhere, so that a model's
//! liking is told in three ways, none of which is the right one for all: the sum of the logarithms, the sum for
//! each token, and what the question adds to the sum (pointwise mutual information with a premise that
//! says nothing, as in Holtzman et al. 2021, "Surface form competition").

use std::collections::BTreeMap;

use hob_api::score::Likelihood;
use hob_ipc::message::Prompt;
use hob_ipc::score::ScorePart;
use serde::{Deserialize, Serialize};

/// A question with its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The ways in which it is asked, at least one.
    pub(super) prompts: Vec<String>,
    /// A prompt that says nothing of what is asked.
    pub(super) premise: String,
    /// What is said behind each of them, in the data's order, with the blank before it.
    pub(super) answers: Vec<String>,
}

/// Questions on one text, which are drawn and measured together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group<F> {
    /// Its name, which no other has.
    pub(super) key: String,
    /// What it is one of many of: drawing is even over these.
    pub(super) stratum: String,
    /// The questions.
    pub(super) questions: Vec<Question>,
    /// What is known of each question.
    pub(super) facts: Vec<F>,
}

/// What a model makes of one question's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scores {
    /// Natural logarithms of the answers' probabilities, behind each prompt.
    pub(super) prompts: Vec<Vec<f64>>,
    /// Likewise behind the premise.
    pub(super) premise: Vec<f64>,
    /// Tokens of each answer.
    pub(super) tokens: Vec<u32>,
}

/// How a model's liking of an answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Normalisation {
    /// The sum of the tokens' logarithms.
    Sum,
    /// The sum divided by the number of tokens.
    PerToken,
    /// The sum, less that behind the premise.
    Pmi,
}

impl Normalisation {
    /// All three.
    pub(super) const ALL: [Self; 3] = [Self::Sum, Self::PerToken, Self::Pmi];

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::PerToken => "per token",
            Self::Pmi => "PMI",
        }
    }
}

impl Scores {
    /// How the model likes each answer behind one of the prompts.
    pub(super) fn liking(&self, prompt: usize, by: Normalisation) -> Vec<f64> {
        let behind = self.prompts.get(prompt).map_or(&[][..], Vec::as_slice);
        let each = behind.iter().zip(&self.premise).zip(&self.tokens);
        each.map(|((sum, premise), tokens)| match by {
            Normalisation::Sum => *sum,
            Normalisation::PerToken => sum / f64::from(*tokens),
            Normalisation::Pmi => sum - premise,
        })
        .collect()
    }

    /// How the model likes each answer, on the mean over some prompts.
    pub(super) fn mean_liking(&self, prompts: &[usize], by: Normalisation) -> Vec<f64> {
        let mut mean = vec![0.0; self.tokens.len()];
        let count = prompts.len().max(1);
        #[allow(clippy::cast_precision_loss, reason = "a handful of prompts")]
        let weight = 1.0 / count as f64;
        for prompt in prompts {
            for (mean, liking) in mean.iter_mut().zip(self.liking(*prompt, by)) {
                *mean += liking * weight;
            }
        }
        mean
    }

    /// Whether they can be those of a question: as many as there are prompts and answers, all numbers.
    pub(super) fn fits(&self, question: &Question) -> bool {
        let answers = question.answers.len();
        let whole = |each: &Vec<f64>| each.len() == answers && each.iter().all(|x| x.is_finite());
        self.prompts.len() == question.prompts.len()
            && self.prompts.iter().all(whole)
            && whole(&self.premise)
            && self.tokens.len() == answers
            && self.tokens.iter().all(|tokens| *tokens > 0)
    }
}

/// The number of what is liked best, the first of equals.
pub(super) fn best(liking: &[f64]) -> usize {
    let highest = liking.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    liking.iter().position(|one| *one >= highest).unwrap_or(0)
}

/// What an engine is asked at once for a group's questions: all prompts, then each premise once.
pub(super) fn parts(questions: &[Question]) -> Vec<ScorePart> {
    let asked = questions.iter().flat_map(|question| {
        question.prompts.iter().map(|prompt| ScorePart {
            prompt: Prompt::Text(prompt.clone()),
            continuations: question.answers.clone(),
        })
    });
    let premises = premises(questions);
    let premises = premises.iter().map(|(premise, answers)| ScorePart {
        prompt: Prompt::Text((*premise).to_owned()),
        continuations: answers.iter().map(|answer| (*answer).to_owned()).collect(),
    });
    asked.chain(premises).collect()
}

/// What stands behind each premise, each answer once.
fn premises(questions: &[Question]) -> BTreeMap<&str, Vec<&str>> {
    let mut premises: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for question in questions {
        let answers = premises.entry(&question.premise).or_default();
        for answer in &question.answers {
            if !answers.contains(&answer.as_str()) {
                answers.push(answer);
            }
        }
    }
    premises
}

/// What the engine's likelihoods of [`parts`] say of each question; `None` if they are not those.
pub(super) fn scores(questions: &[Question], told: &[Vec<Likelihood>]) -> Option<Vec<Scores>> {
    let asked: usize = questions.iter().map(|one| one.prompts.len()).sum();
    let (mut asked, behind) = (told.get(..asked)?.iter(), told.get(asked..)?);
    let premises = premises(questions);
    let mut by_premise = BTreeMap::new();
    for ((premise, answers), told) in premises.iter().zip(behind) {
        for (answer, told) in answers.iter().zip(told) {
            by_premise.insert((*premise, *answer), told);
        }
    }
    let each = questions.iter().map(|question| {
        let premise = question.answers.iter();
        let premise = premise.map(|answer| {
            let told = by_premise.get(&(question.premise.as_str(), answer.as_str()));
            told.map(|told| (told.log_probability, told.tokens))
        });
        let (premise, tokens) = premise.collect::<Option<Vec<_>>>()?.into_iter().unzip();
        let prompts = asked.by_ref().take(question.prompts.len());
        let sums = |told: &Vec<Likelihood>| told.iter().map(|one| one.log_probability).collect();
        let scores = Scores {
            prompts: prompts.map(sums).collect(),
            premise,
            tokens,
        };
        scores.fits(question).then_some(scores)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    fn question(answers: &[&str]) -> Question {
        Question {
            prompts: vec!["a".to_owned(), "b".to_owned()],
            premise: "Answer:".to_owned(),
            answers: answers.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    fn told(sums: &[(f64, u32)]) -> Vec<Likelihood> {
        let each = sums.iter().map(|(log_probability, tokens)| Likelihood {
            log_probability: *log_probability,
            tokens: *tokens,
            greedy: false,
            end: None,
            token_log_probabilities: None,
        });
        each.collect()
    }

    #[test]
    fn each_normalisation_can_like_another_answer() {
        let scores = Scores {
            prompts: vec![vec![-4.0, -6.0, -9.0]],
            premise: vec![-3.0, -6.0, -20.0],
            tokens: vec![1, 3, 1],
        };
        let liked = Normalisation::ALL.map(|by| best(&scores.liking(0, by)));
        assert_eq!(liked, [0, 1, 2]);
        assert_eq!(scores.liking(0, Normalisation::Pmi), [-1.0, 0.0, 11.0]);
    }

    #[test]
    fn the_mean_is_over_the_prompts_named() {
        let scores = Scores {
            prompts: vec![vec![-1.0, -9.0], vec![-7.0, -3.0], vec![-50.0, -1.0]],
            premise: vec![0.0, 0.0],
            tokens: vec![2, 2],
        };
        let mean = scores.mean_liking(&[0, 1], Normalisation::PerToken);
        assert_eq!(mean, [-2.0, -3.0]);
    }

    #[test]
    fn premises_are_asked_once_and_told_to_each() {
        let questions = [question(&["x", "y"]), question(&["y", "z"])];
        let asked = parts(&questions);
        assert_eq!(asked.len(), 5);
        assert_eq!(asked[4].continuations, ["x", "y", "z"]);
        let two = |a, b| told(&[(a, 1), (b, 2)]);
        let mut all = vec![two(-1.0, -2.0), two(-3.0, -4.0)];
        all.extend([two(-5.0, -6.0), two(-7.0, -8.0)]);
        all.push(told(&[(-0.1, 1), (-0.2, 2), (-0.3, 3)]));
        let found = scores(&questions, &all).unwrap();
        assert_eq!(found[0].premise, [-0.1, -0.2]);
        assert_eq!(found[1].premise, [-0.2, -0.3]);
        assert_eq!(found[1].prompts, [[-5.0, -6.0], [-7.0, -8.0]]);
        assert_eq!(found[1].tokens, [2, 3]);
        // One too few, and one that is no number.
        assert_eq!(scores(&questions, &all[..4]), None);
        all[0][0].log_probability = f64::NAN;
        assert_eq!(scores(&questions, &all), None);
    }
}
