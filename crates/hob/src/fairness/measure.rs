//! Asking a model, group by group, with what was measured before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hob_models::store::OpenModel;

use super::kept::Kept;
use super::question::{self, Group, Question, Scores};
use super::sets::Measured;
use crate::engine::{Control, Engine, EngineError};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::models::progress::Meter;
use crate::render::span;

/// A group of any set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    /// Which set's.
    set: usize,
    key: &'a str,
    questions: &'a [Question],
}

impl Task<'_> {
    /// How much work it is, roughly: each answer behind each prompt is a step of the engine.
    fn cost(&self) -> u64 {
        let steps = self
            .questions
            .iter()
            .map(|one| one.prompts.len() * one.answers.len());
        steps.sum::<usize>() as u64
    }
}

/// The groups of a set as tasks.
pub(super) fn tasks<F>(set: usize, groups: &[Group<F>]) -> Vec<Task<'_>> {
    let each = groups.iter().map(|group| Task {
        set,
        key: &group.key,
        questions: &group.questions,
    });
    each.collect()
}

/// Puts the tasks of all sets into one order in which each set comes forward evenly, so that what is measured
/// until a Ctrl-C tells of all of them.
pub(super) fn interleave(sets: Vec<Vec<Task<'_>>>) -> Vec<Task<'_>> {
    let longest = sets.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let placed = sets.into_iter().flat_map(|tasks| {
        let of = tasks.len().max(1);
        let each = tasks.into_iter().enumerate();
        each.map(move |(at, task)| (at * longest / of, task))
    });
    let mut placed: Vec<_> = placed.collect();
    placed.sort_by_key(|(place, task)| (*place, task.set));
    placed.into_iter().map(|(_, task)| task).collect()
}

/// What a model made of groups, by their keys.
#[derive(Debug, Default)]
pub(super) struct Results {
    scores: BTreeMap<String, Vec<Scores>>,
    /// Whether Ctrl-C ended it before all was measured.
    pub(super) stopped: bool,
}

impl Results {
    /// The same with something else made of each question's likings.
    pub(super) fn map(&self, each: impl Fn(&Scores) -> Scores) -> Self {
        let groups = self.scores.iter();
        let groups = groups.map(|(key, scores)| (key.clone(), scores.iter().map(&each).collect()));
        Self {
            scores: groups.collect(),
            stopped: self.stopped,
        }
    }

    /// Those of a set, for groups that were measured.
    pub(super) fn of<'a, F>(&'a self, groups: &'a [Group<F>]) -> Measured<'a, F> {
        let each = groups.iter().filter_map(|group| {
            let scores = self.scores.get(&group.key)?;
            Some((group, scores.as_slice()))
        });
        each.collect()
    }
}

/// Measures what is not known yet, with a vector added to what the model's layers hand on, if one is given.
///
/// # Errors
/// When the engine fails or what it says can't be kept. What was measured until then is kept.
pub(super) fn run(
    tasks: &[Task<'_>],
    open: &OpenModel,
    control: Option<&Control>,
    kept: &mut Kept,
    interrupt: &Interrupt,
    meter: &mut Meter,
) -> Result<Results, Failure> {
    let mut results = Results::default();
    let mut left = Vec::new();
    let digest = control.map(Control::digest);
    let kept_as = |task: &Task<'_>| match digest {
        None => task.key.to_owned(),
        Some(digest) => format!("{digest} {}", task.key),
    };
    for task in tasks {
        match kept.get(&kept_as(task), task.questions) {
            Some(scores) => {
                results.scores.insert(task.key.to_owned(), scores.to_vec());
            }
            None => left.push(task),
        }
    }
    if left.is_empty() {
        return Ok(results);
    }
    meter.share("asking", left.iter().map(|task| task.cost()).sum());
    let vocabulary = open.header.vocabulary;
    let mut engine = match Engine::load_with(&open.file, vocabulary, control, interrupt) {
        Err(EngineError::Stopped(_)) => {
            results.stopped = true;
            return Ok(results);
        }
        other => other?,
    };
    let mut pace = Pace::default();
    for (at, task) in left.iter().enumerate() {
        let started = Instant::now();
        let told = match engine.likelihoods(question::parts(task.questions), false) {
            Err(EngineError::Stopped(_)) => {
                results.stopped = true;
                return Ok(results);
            }
            other => other?,
        };
        let scores = question::scores(task.questions, &told).ok_or(EngineError::Absurd)?;
        kept.add(&kept_as(task), scores.clone())?;
        results.scores.insert(task.key.to_owned(), scores);
        let took = started.elapsed().as_secs_f64();
        if let (None, Some(seconds)) = (control, pace.after(task, took, &left[at + 1..])) {
            let seconds = Duration::from_secs_f64(seconds).as_secs().max(1);
            meter.say(&format!("this takes about {}", span(seconds)));
        }
        meter.advance(task.cost());
    }
    Ok(results)
}

/// How long the tasks of each set take, from the second one of each: the first warms up.
#[derive(Debug, Default)]
struct Pace {
    /// Tasks seen, and seconds for each unit of cost, of each set.
    sets: BTreeMap<usize, (usize, f64)>,
    told: bool,
}

impl Pace {
    /// Seconds that what is left will take, once it can be told.
    fn after(&mut self, task: &Task<'_>, seconds: f64, left: &[&Task<'_>]) -> Option<f64> {
        let (seen, rate) = self.sets.entry(task.set).or_default();
        *seen += 1;
        #[allow(clippy::cast_precision_loss, reason = "some hundred steps")]
        let cost = |task: &Task<'_>| task.cost().max(1) as f64;
        *rate = seconds / cost(task);
        let seen_twice = |task: &&Task<'_>| {
            let seen = self.sets.get(&task.set);
            seen.is_some_and(|(seen, _)| *seen > 1)
        };
        if self.told || left.is_empty() || !left.iter().all(seen_twice) {
            return None;
        }
        self.told = true;
        let each = left.iter();
        Some(each.map(|task| self.sets[&task.set].1 * cost(task)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_forward_evenly() {
        let questions: [Question; 0] = [];
        let set = |set, count| {
            let task = Task {
                set,
                key: "",
                questions: &questions,
            };
            vec![task; count]
        };
        let order = interleave(vec![set(0, 6), set(1, 2), set(2, 3), set(3, 0)]);
        let sets: Vec<usize> = order.iter().map(|task| task.set).collect();
        assert_eq!(sets, [0, 1, 2, 0, 0, 2, 0, 1, 0, 2, 0]);
        assert!(interleave(vec![set(0, 0)]).is_empty());
    }

    #[test]
    fn the_time_left_is_told_once_each_set_was_seen_twice() {
        let question = |prompts: usize| Question {
            prompts: vec![String::new(); prompts],
            premise: String::new(),
            answers: vec![String::new(); 2],
        };
        let (small, large) = ([question(1)], [question(5)]);
        let task = |set, questions| Task {
            set,
            key: "",
            questions,
        };
        let (a, b) = (task(0, &small[..]), task(1, &large[..]));
        let mut pace = Pace::default();
        assert_eq!(pace.after(&a, 9.0, &[&b, &a, &b, &a]), None);
        assert_eq!(pace.after(&b, 9.0, &[&a, &b, &a]), None);
        assert_eq!(pace.after(&a, 1.0, &[&b, &a]), None);
        assert_eq!(pace.after(&b, 5.0, &[&a, &b]), Some(6.0));
        assert_eq!(pace.after(&a, 1.0, &[&b]), None);
    }
}
