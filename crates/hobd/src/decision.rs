//! Decisions: typed questions, answered by how likely the model finds each option. Pure.
//!
//! Each question is asked several times, its options shown in another order each time, and the
//! probabilities are averaged: small models favour an option for its place. They favour some words,
//! too, whatever the state: so each is also asked without the state, and what counts is how much
//! likelier the state makes an option. What is constant comes first, so that the engine reads the
//! state once, and a question once for all its orders. A list of options helps large models and
//! confuses the smallest, so that a question is also asked without one, for half the weight.

use std::collections::BTreeMap;

use hob_api::chat::Role;
use hob_api::decision::{Answer, Question};
use hob_api::error::ApiError;
use hob_api::score::Likelihood;
use hob_ipc::message::{ChatMessage, Prompt};
use hob_ipc::score::ScorePart;

use crate::request::{TEXT_BYTES_MAX, ValidDecision, too_long};

/// Most orders in which one question's options are shown. With so many options or fewer, each stands
/// in each place once.
const ORDERS_MAX: usize = 3;
/// Stands for the state where it is left out.
const NO_STATE: &str = "(nothing is known)";

/// What is asked of the engine for one request, and what is to become of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    asked: Vec<Asked>,
}

/// One question.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    id: String,
    question: Question,
    options: Vec<Choosable>,
}

/// One possible answer.
#[derive(Clone, Debug, PartialEq)]
struct Choosable {
    /// As the prompt shows it.
    shown: String,
    /// As the model would say it.
    said: String,
}

impl Choosable {
    fn new(said: &str, meaning: Option<&String>) -> Self {
        Self {
            shown: meaning.map_or_else(|| said.to_owned(), |meaning| format!("{said}: {meaning}")),
            said: said.to_owned(),
        }
    }
}

impl Plan {
    /// Refuses a state that is too long to be read once for each order of each question's options,
    /// before it is copied for them.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn check(request: &ValidDecision) -> Result<(), ApiError> {
        let questions = request.questions.iter();
        let orders = questions.map(|(_, question)| orders(options(question).len()).len());
        let bytes = request.state.len().saturating_mul(orders.sum());
        if bytes > TEXT_BYTES_MAX {
            return Err(too_long(bytes));
        }
        Ok(())
    }

    /// How the questions of `request` are asked, and what that asks of the engine: of a model that
    /// chats, or of one that goes on from text.
    pub fn new(request: &ValidDecision, chats: bool) -> (Self, Vec<ScorePart>) {
        let asked = request.questions.iter().map(|(id, question)| Asked {
            id: id.clone(),
            question: question.clone(),
            options: options(question),
        });
        let asked: Vec<_> = asked.collect();
        let parts = asked.iter().flat_map(|asked| {
            [request.state.as_str(), NO_STATE]
                .into_iter()
                .flat_map(move |state| {
                    views(asked.options.len()).map(move |view| asked.part(state, view, chats))
                })
        });
        let parts = parts.collect();
        (Self { asked }, parts)
    }

    /// The answers, from the likelihoods of all parts.
    pub fn answers(self, parts: Vec<Vec<Likelihood>>) -> BTreeMap<String, Answer> {
        let mut parts = parts.into_iter();
        let answers = self.asked.into_iter().map(|asked| {
            let views = views(asked.options.len()).count();
            let mut of_views = || parts.by_ref().take(views).collect::<Vec<_>>();
            let (with, without) = (of_views(), of_views());
            let probabilities = probabilities(asked.options.len(), &with, &without);
            (asked.id, answer(asked.question, &probabilities))
        });
        answers.collect()
    }
}

/// The ways in which a question is asked: with its options listed in each order, by the number of
/// the one that comes first, and without a list (`None`).
fn views(options: usize) -> impl Iterator<Item = Option<usize>> {
    orders(options).map(Some).chain([None])
}

/// The number of the option that is shown first in each order.
fn orders(options: usize) -> impl ExactSizeIterator<Item = usize> {
    let orders = options.clamp(1, ORDERS_MAX);
    (0..orders).map(move |order| order * options / orders)
}

fn options(question: &Question) -> Vec<Choosable> {
    match question {
        Question::Choice { criteria, .. } => criteria
            .iter()
            .map(|(name, meaning)| Choosable::new(name, meaning.as_ref()))
            .collect(),
        Question::Score { criteria, .. } => criteria
            .iter()
            .map(|level| Choosable::new(level, None))
            .collect(),
        Question::Noul { criteria, .. } => {
            let criteria = criteria.as_ref();
            let so = criteria.and_then(|criteria| criteria.so.as_ref());
            let not_so = criteria.and_then(|criteria| criteria.not_so.as_ref());
            vec![Choosable::new("Yes", so), Choosable::new("No", not_so)]
        }
    }
}

impl Asked {
    /// The question in one of its [`views`]. The continuations are always in the options' own order.
    fn part(&self, state: &str, view: Option<usize>, chats: bool) -> ScorePart {
        let instructions = match &self.question {
            Question::Choice { instructions, .. }
            | Question::Score { instructions, .. }
            | Question::Noul { instructions, .. } => instructions,
        };
        let mut text = format!("{state}\n\nQuestion: {instructions}");
        if let Some(first) = view {
            let (before, after) = self.options.split_at(first);
            let shown = after.iter().chain(before);
            let shown: Vec<_> = shown
                .map(|option| format!("\n- {}", option.shown))
                .collect();
            text = format!("{text}\nAnswer with one of these:{}", shown.concat());
        }
        let said = self.options.iter().map(|option| option.said.as_str());
        if chats {
            let content = text;
            let role = Role::User;
            return ScorePart {
                prompt: Prompt::Chat(vec![ChatMessage { role, content }]),
                continuations: said.map(str::to_owned).collect(),
            };
        }
        ScorePart {
            prompt: Prompt::Text(format!("{text}\n\nAnswer:")),
            // Behind a colon words begin with a space.
            continuations: said.map(|said| format!(" {said}")).collect(),
        }
    }
}

/// How likely each of `count` options is, were all equally likely before the state was known: half
/// the mean over the orders in which they were listed, and half what is said without a list.
fn probabilities(count: usize, with: &[Vec<Likelihood>], without: &[Vec<Likelihood>]) -> Vec<f64> {
    let mut mean = vec![0.0; count];
    let views = views(count).zip(with.iter().zip(without));
    for (view, (with, without)) in views {
        let weight = view.map_or(0.5, |_| 0.5 / as_f64(orders(count).len()));
        let pairs = with.iter().zip(without);
        let gains = pairs.map(|(with, without)| with.log_probability - without.log_probability);
        let gains: Vec<f64> = gains.collect();
        for (mean, probability) in mean.iter_mut().zip(softmax(&gains)) {
            *mean += probability * weight;
        }
    }
    mean
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let each: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let sum: f64 = each.iter().sum();
    each.into_iter().map(|each| each / sum).collect()
}

fn answer(question: Question, probabilities: &[f64]) -> Answer {
    match question {
        Question::Choice { criteria, .. } => {
            let confidence = confidence_of_choice(probabilities);
            let choice = criteria.keys().nth(likeliest(probabilities));
            let choice = choice.cloned().unwrap_or_default();
            let names = criteria.into_keys();
            Answer::Choice {
                choice,
                probabilities: names.zip(probabilities.iter().copied()).collect(),
                confidence,
            }
        }
        Question::Score { criteria, .. } => {
            let levels = (0..criteria.len()).map(|level| level.to_string());
            let weighted = probabilities.iter().enumerate();
            Answer::Score {
                score: weighted.map(|(level, p)| as_f64(level) * p).sum(),
                confidence: confidence_of_score(probabilities),
                probabilities: levels.clone().zip(probabilities.iter().copied()).collect(),
                legend: levels.zip(criteria).collect(),
            }
        }
        Question::Noul { .. } => Answer::Noul {
            noul: probabilities.first().copied().unwrap_or(0.5),
        },
    }
}

/// The number of the likeliest, the first of equals.
fn likeliest(probabilities: &[f64]) -> usize {
    let highest = probabilities.iter().copied().fold(0.0, f64::max);
    let first = probabilities.iter().position(|p| *p >= highest);
    first.unwrap_or(0)
}

/// How far the likeliest option is above all being equally likely: `TypeSafe`'s formula, as in
/// llama.cpp's `server-decision.cpp`.
fn confidence_of_choice(probabilities: &[f64]) -> f64 {
    if probabilities.len() < 2 {
        return 1.0;
    }
    let uniform = 1.0 / as_f64(probabilities.len());
    let highest = probabilities.iter().copied().fold(0.0, f64::max);
    ((highest - uniform) / (1.0 - uniform)).clamp(0.0, 1.0)
}

/// How near the levels lie to the likeliest one, against all being equally likely around the middle:
/// `TypeSafe`'s formula, as in llama.cpp's `server-decision.cpp`.
fn confidence_of_score(probabilities: &[f64]) -> f64 {
    if probabilities.len() < 2 {
        return 1.0;
    }
    let (mode, count) = (
        as_f64(likeliest(probabilities)),
        as_f64(probabilities.len()),
    );
    let (mut distance, mut uniform) = (0.0, 0.0);
    for (level, probability) in probabilities.iter().enumerate() {
        distance += probability * (as_f64(level) - mode).abs();
        uniform += (as_f64(level) - (count - 1.0) / 2.0).abs() / count;
    }
    (1.0 - distance / uniform).clamp(0.0, 1.0)
}

fn as_f64(count: usize) -> f64 {
    // Options and levels are a few dozens.
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
