//! Which call is meant, how sure that is, and what to do if it is not sure enough.

use hob_api::home::Outcome;

use super::asked::{self, Asked};
use super::evidence::{Comparison, TargetFit, log_sum};
use super::groups::{self, Group};
use super::heard::Heard;
use super::index::Index;
use super::verdict::{Verdict, judge};
use super::{Options, arguments, clauses, question, relative, words};
use crate::providers::{CallError, Provider, ValidCall};

/// The least probability of a call, unless a request says otherwise.
pub const MIN_PROBABILITY: f64 = 0.28;
/// Of two calls one is as probable as the other from this part of its probability on.
const TOSS: f64 = 0.9;
/// Most candidates whose arguments are looked for.
const CANDIDATES_MAX: usize = 24;
/// Most alternatives that are answered.
pub(super) const ALTERNATIVES_MAX: usize = 8;
/// Below this probability an alternative is none.
const ALTERNATIVE_MIN: f64 = 0.01;
/// Of a group that was spoken of as one, against its members.
const TOGETHER: f64 = 6.0;

/// A call that may be meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The call.
    pub call: ValidCall,
    /// How probable it is, from 0 to 1.
    pub probability: f64,
}

/// What an utterance means to one provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// What is to be done.
    pub outcome: Outcome,
    /// The calls, in order; with [`Outcome::Call`] alone.
    pub calls: Vec<Candidate>,
    /// What else may be meant, the most probable first.
    pub alternatives: Vec<Candidate>,
    /// Places of the targets that are asked about; with [`Outcome::Question`] alone.
    pub targets: Vec<usize>,
    /// What is asked about them.
    pub asked: Option<Asked>,
    /// What was said besides the calls, and is not done.
    pub left_out: Vec<String>,
    /// What an argument takes for which another figure was said.
    pub limit: Option<Limit>,
    /// Why there is no call.
    pub reason: Option<String>,
}

/// Which figures an argument takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The tool's place.
    pub tool: usize,
    /// The targets' places.
    pub targets: Vec<usize>,
    /// The argument.
    pub argument: String,
    /// The least and the most that it takes, as far as it is bounded.
    pub least: Option<String>,
    /// See `least`.
    pub most: Option<String>,
    /// Its unit as it is written.
    pub unit: Option<&'static str>,
}

impl Reading {
    pub(super) fn without_call(outcome: Outcome, reason: &str) -> Self {
        Self {
            outcome,
            reason: Some(reason.to_owned()),
            ..Self::default()
        }
    }
}

/// Most words of an utterance: whoever says more gives no command.
const WORDS_MAX: usize = 64;

/// Whether an utterance is longer than a command.
pub fn is_too_long(text: &str) -> bool {
    words::words(text, false).len() > WORDS_MAX
}

/// Reads an utterance. Of several parts those that are calls are done, and the others named; unless one
/// of those may be what the calls hang on.
pub fn read(provider: &Provider, index: &Index, text: &str, options: &Options) -> Reading {
    if is_too_long(text) {
        return Reading::without_call(Outcome::Talk, "it is longer than a command");
    }
    let clauses = clauses::split(text, index, options);
    let read = |clause: &String| read_clause(provider, index, clause, options);
    let readings: Vec<Reading> = clauses.iter().map(read).collect();
    let is_call = |reading: &Reading| reading.outcome == Outcome::Call;
    match readings.iter().filter(|reading| is_call(reading)).count() {
        // One, or none of several that is a call: the first says why.
        0 => return readings.into_iter().next().unwrap_or_default(),
        _ if readings.len() == 1 => return readings.into_iter().next().unwrap_or_default(),
        _ => {}
    }
    let begins = readings.first().is_some_and(is_call);
    let mut others = Vec::new();
    let mut calls = Vec::new();
    for (clause, reading) in clauses.into_iter().zip(readings) {
        match reading.outcome {
            Outcome::Call => calls.push((clause, reading)),
            _ => others.push((clause, reading)),
        }
    }
    // What is told or asked for first may well be about the rest: "write a poem about …".
    let binds = !begins || others.iter().any(|(clause, _)| question::may_bind(clause));
    if question::is_question(&Heard::new(text, index, options)) && !others.is_empty() {
        // What it begins with is what it is.
        let (_, first) = others.swap_remove(0);
        if first.outcome != Outcome::Question {
            let calls = calls.into_iter().flat_map(|(_, reading)| reading.calls);
            return unsure(calls.collect(), "part of it is about something else");
        }
        return Reading {
            left_out: calls.into_iter().map(|(clause, _)| clause).collect(),
            ..first
        };
    }
    let left_out = others.into_iter().map(|(clause, _)| clause).collect();
    let calls = calls.into_iter().map(|(_, reading)| reading);
    let calls: Vec<Candidate> = calls.flat_map(|reading| reading.calls).collect();
    if binds {
        return unsure(calls, "one part of it may be a condition of another");
    }
    Reading {
        outcome: Outcome::Call,
        calls,
        left_out,
        ..Reading::default()
    }
}

/// A tool and targets, before its arguments are known.
pub(super) struct Pair {
    pub(super) tool: usize,
    pub(super) targets: Vec<usize>,
    score: f64,
    /// By word heard: whether the targets explain it.
    pub(super) explains: Vec<bool>,
    /// Whether the targets were named, or a thing of their kind.
    pub(super) named: bool,
    /// Whether they were named by more than their kind.
    pub(super) specific: bool,
    /// Whether words of the name were not said.
    pub(super) unsaid: bool,
}

fn read_clause(provider: &Provider, index: &Index, text: &str, options: &Options) -> Reading {
    let heard = Heard::new(text, index, options);
    let asks = question::is_question(&heard);
    if heard.forbids && !asks {
        return Reading::without_call(Outcome::Talk, "it says what is not to be done");
    }
    let comparison = Comparison::new(provider, index, &heard, options);
    let (fits, group) = targets(&comparison);
    if asks {
        return asked::read(&comparison, &fits, group);
    }
    let pairs = pairs(&comparison, &fits, group.as_ref());
    decide(&comparison, text, &pairs)
}

/// How well each target fits, and the group that is meant, if one is.
pub(super) fn targets(comparison: &Comparison<'_>) -> (Vec<TargetFit>, Option<Group>) {
    let fits: Vec<TargetFit> = (0..comparison.provider.targets().len())
        .map(|place| comparison.target(place))
        .collect();
    let best = fits.iter().max_by(|a, b| a.score.total_cmp(&b.score));
    let group = groups::group(comparison, best);
    (fits, group)
}

/// Every tool on every target that it acts on, every tool that acts on none, and every tool on the
/// group; the best first.
pub(super) fn pairs(
    comparison: &Comparison<'_>,
    fits: &[TargetFit],
    group: Option<&Group>,
) -> Vec<Pair> {
    let provider = comparison.provider;
    let mut pairs = Vec::new();
    for (place, fit) in fits.iter().enumerate() {
        let target = &provider.targets()[place];
        let tools: Vec<usize> = (0..provider.tools().len())
            .filter(|tool| provider.tools()[*tool].accepts(target))
            .collect();
        let shares = comparison.tools(&tools, &fit.left);
        let family = comparison.index.targets[place].named_families;
        for (tool, share) in tools.into_iter().zip(shares) {
            pairs.push(Pair {
                tool,
                targets: vec![place],
                score: fit.score
                    + share
                    + comparison.group(tool, &fit.left)
                    + comparison.acts(tool, &fit.left),
                explains: fit.explains.clone(),
                named: fit.specific > 0.0 || family & comparison.heard.families != 0,
                specific: fit.specific > 0.0,
                unsaid: fit.unsaid,
            });
        }
    }
    pairs.extend(bare_pairs(comparison));
    if let Some(group) = group {
        pairs.extend(group_pairs(comparison, group, &pairs));
    }
    pairs.sort_by(|a, b| b.score.total_cmp(&a.score));
    pairs
}

/// Tools that act on no target: what is said of them names them.
fn bare_pairs(comparison: &Comparison<'_>) -> Vec<Pair> {
    let tools = comparison.provider.tools();
    let bare: Vec<usize> = (0..tools.len())
        .filter(|tool| tools[*tool].acts_on().is_none())
        .collect();
    let words = &comparison.heard.words;
    let left = vec![true; words.len()];
    let shares = comparison.tools(&bare, &left);
    let score = |tool: usize| -> f64 {
        let known = words.iter().map(|word| comparison.weight_for(tool, word));
        known.sum::<f64>() + comparison.group(tool, &left)
    };
    let pairs = bare.into_iter().zip(shares).map(|(tool, share)| Pair {
        tool,
        targets: Vec::new(),
        score: score(tool) + share,
        explains: vec![false; words.len()],
        named: true,
        specific: true,
        unsaid: false,
    });
    pairs.collect()
}

/// Tools on all targets of the group that they act on.
fn group_pairs(comparison: &Comparison<'_>, group: &Group, single: &[Pair]) -> Vec<Pair> {
    let provider = comparison.provider;
    let tools: Vec<usize> = (0..provider.tools().len()).collect();
    let shares = comparison.tools(&tools, &group.left);
    let best = single.iter().map(|pair| pair.score).fold(0.0, f64::max);
    let mut pairs = Vec::new();
    for (tool, share) in tools.into_iter().zip(shares) {
        let accepted = |place: &usize| provider.tools()[tool].accepts(&provider.targets()[*place]);
        let targets: Vec<usize> = group.targets.iter().copied().filter(accepted).collect();
        if !targets.is_empty() {
            // A tool that acts on all of them is meant before one that acts on some.
            #[allow(clippy::cast_precision_loss, reason = "at most a thousand")]
            let part = (targets.len() as f64 / group.targets.len() as f64).ln();
            pairs.push(Pair {
                tool,
                targets,
                score: best + TOGETHER + share + part,
                explains: group.explains.clone(),
                named: true,
                specific: false,
                unsaid: false,
            });
        }
    }
    pairs
}

fn decide(comparison: &Comparison<'_>, text: &str, pairs: &[Pair]) -> Reading {
    let mut scores: Vec<f64> = pairs.iter().map(|pair| pair.score).collect();
    let mut verdicts = Vec::new();
    for (place, pair) in pairs.iter().enumerate().take(CANDIDATES_MAX) {
        let verdict = judge(comparison, text, pair);
        scores[place] += verdict.arguments;
        verdicts.push((scores[place], verdict));
    }
    let all = log_sum(&scores);
    verdicts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let Some((_, first)) = verdicts.first() else {
        return Reading::without_call(Outcome::Cannot, "the home has nothing to do it to");
    };
    let judged = || verdicts.iter().map(|(_, verdict)| verdict);
    if let Some(reading) = relative::read(comparison, judged()) {
        return reading;
    }
    let candidate = |(score, verdict): &(f64, Verdict)| {
        let probability = (score - all).exp() * verdict.sure;
        let call = verdict.call.as_ref().ok()?.clone();
        (probability >= ALTERNATIVE_MIN).then_some(Candidate { call, probability })
    };
    let mut candidates: Vec<Candidate> = verdicts.iter().filter_map(candidate).collect();
    candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    candidates.truncate(ALTERNATIVES_MAX);
    outcome(comparison, first, candidates)
}

fn outcome(comparison: &Comparison<'_>, first: &Verdict, candidates: Vec<Candidate>) -> Reading {
    let least = comparison
        .options
        .min_probability
        .unwrap_or(MIN_PROBABILITY);
    if !first.named || !first.acts || !first.covered {
        let at_home = first.named && (first.acts || !comparison.heard.meanings.is_empty());
        // Somebody who is told to talk about it might be told that it is done.
        let orders = first.acts && !comparison.heard.meanings.is_empty();
        return if !at_home && orders {
            Reading::without_call(Outcome::Cannot, "the home has no such thing")
        } else if !at_home {
            Reading::without_call(Outcome::Talk, "nothing of the home was named")
        } else if first.covered {
            unsure(candidates, "it is not clear what is to be done")
        } else {
            Reading::without_call(
                Outcome::Cannot,
                "the home has nothing that fits all that was said",
            )
        };
    }
    match &first.call {
        Ok(_) => {}
        Err(error @ CallError::Range { .. }) => return out_of_range(comparison, first, error),
        Err(error) => return unsure(candidates, &error.to_string()),
    }
    match candidates.split_first() {
        Some((best, [next, ..]))
            if best.probability >= least && is_toss(comparison, best, next) =>
        {
            unsure(candidates, "it is not clear which one is meant")
        }
        Some((best, rest)) if best.probability >= least => Reading {
            outcome: Outcome::Call,
            calls: vec![best.clone()],
            alternatives: rest.to_vec(),
            ..Reading::default()
        },
        Some(_) => unsure(candidates, "several calls fit about as well"),
        None => Reading::without_call(Outcome::Cannot, "no call fits well enough"),
    }
}

fn out_of_range(comparison: &Comparison<'_>, first: &Verdict, error: &CallError) -> Reading {
    let mut parameters = comparison.provider.tools()[first.tool].parameters().iter();
    let limit = match error {
        CallError::Range {
            argument,
            least,
            most,
        } => Some(Limit {
            tool: first.tool,
            targets: first.targets.clone(),
            argument: argument.clone(),
            least: least.clone(),
            most: most.clone(),
            unit: parameters
                .find(|p| p.name == *argument)
                .and_then(arguments::unit),
        }),
        _ => None,
    };
    Reading {
        limit,
        ..Reading::without_call(Outcome::Cannot, &error.to_string())
    }
}

/// Whether two calls are as probable, and are done to things of one name in different places: whoever
/// is asked can tell which is meant.
fn is_toss(comparison: &Comparison<'_>, best: &Candidate, next: &Candidate) -> bool {
    let targets = comparison.provider.targets();
    let pairs = best.call.targets().iter().zip(next.call.targets());
    let mut pairs = pairs.map(|(one, other)| (&targets[*one], &targets[*other]));
    next.probability >= TOSS * best.probability
        && best.call.tool() == next.call.tool()
        && best.call.targets().len() == next.call.targets().len()
        && pairs.clone().all(|(one, other)| one.name == other.name)
        && pairs.any(|(one, other)| (&one.area, &one.floor) != (&other.area, &other.floor))
}

pub(super) fn unsure(alternatives: Vec<Candidate>, reason: &str) -> Reading {
    Reading {
        alternatives,
        ..Reading::without_call(Outcome::Unsure, reason)
    }
}
