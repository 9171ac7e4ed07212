//! The answer to an utterance, over all providers that it may be meant for.

use std::sync::Arc;

use hob_api::home::{Asked, AskedValue, Call, HomeAnswer, Limit, Outcome};
use hob_api::{ApiError, ErrorCode};

use super::Options;
use super::reading::{Candidate, Reading, read};
use crate::decode::Written;
use crate::providers::{Entry, Provider, ValidCall};

/// How much more probable the call of one provider must be than that of another to be done without
/// asking.
const MARGIN: f64 = 0.2;

/// Reads `text` against each of `entries`, and answers with what is meant most probably.
///
/// # Errors
/// `internal` if a call was made that is not valid, which no input brings about.
pub fn answer(
    entries: &[Arc<Entry>],
    text: &str,
    options: &Options,
) -> Result<HomeAnswer, ApiError> {
    let mut readings: Vec<(&Provider, Reading)> = entries
        .iter()
        .map(|entry| {
            let provider = &entry.provider;
            (provider, read(provider, &entry.index, text, options))
        })
        .collect();
    readings.sort_by(|a, b| rank(&b.1).total_cmp(&rank(&a.1)));
    let mut answer = match readings.as_slice() {
        [] => HomeAnswer::default(),
        [(provider, reading), rest @ ..] => {
            // Of an order to several providers, one does its part.
            let rival = rest.first().filter(|(_, other)| {
                let whole = reading.outcome == Outcome::Call && reading.left_out.is_empty();
                whole && rank(reading) - rank(other) < MARGIN
            });
            match rival {
                None => wire(provider, reading),
                Some((other, theirs)) => undecided([(provider, reading), (other, theirs)]),
            }
        }
    };
    tell(&mut answer, entries);
    check(entries, &answer)?;
    Ok(answer)
}

/// Whichever of `entries` the words of `text` fit best.
///
/// # Errors
/// `not_found` if there is none.
pub fn nearest(
    entries: &[Arc<Entry>],
    text: &str,
    options: &Options,
) -> Result<Arc<Entry>, ApiError> {
    let fits = |entry: &Arc<Entry>| rank(&read(&entry.provider, &entry.index, text, options));
    let nearest = match entries {
        // With one there is nothing to compare.
        [one] => Some(one),
        several => several.iter().max_by(|a, b| fits(a).total_cmp(&fits(b))),
    };
    nearest.cloned().ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, "there is no provider")
            .hint("register what your home can do (`hob providers add`, or a hub)")
    })
}

/// The answer that a model wrote about one home. Its calls have a probability of 1, as the model
/// wrote nothing else; how it weighed them is not asked.
///
/// # Errors
/// As of [`answer`].
pub fn written(entry: &Arc<Entry>, written: Written) -> Result<HomeAnswer, ApiError> {
    let certain = |call| Candidate {
        call,
        probability: 1.0,
    };
    let either = |calls: Vec<ValidCall>| {
        #[allow(clippy::cast_precision_loss, reason = "a few")]
        let probability = 1.0 / calls.len().max(1) as f64;
        let candidate = |call| Candidate { call, probability };
        calls.into_iter().map(candidate).collect()
    };
    let reading = match written {
        Written::Calls(calls) => Reading {
            outcome: Outcome::Call,
            calls: calls.into_iter().map(certain).collect(),
            ..Reading::default()
        },
        Written::Question(targets) => Reading {
            outcome: Outcome::Question,
            targets,
            ..Reading::default()
        },
        Written::Unsure(calls) => Reading {
            alternatives: either(calls),
            ..Reading::without_call(Outcome::Unsure, "the model found several calls")
        },
        Written::Cannot => Reading::without_call(Outcome::Cannot, "the model found no such thing"),
        Written::Talk => {
            Reading::without_call(Outcome::Talk, "the model found nothing of the home")
        }
    };
    checked(entry, &reading)
}

/// The answer if what a model wrote was cut.
///
/// # Errors
/// As of [`answer`].
pub fn cut(entry: &Arc<Entry>) -> Result<HomeAnswer, ApiError> {
    let reason = "the model found more than fits an answer";
    checked(entry, &Reading::without_call(Outcome::Unsure, reason))
}

fn checked(entry: &Arc<Entry>, reading: &Reading) -> Result<HomeAnswer, ApiError> {
    let entries = std::slice::from_ref(entry);
    let mut answer = wire(&entry.provider, reading);
    tell(&mut answer, entries);
    check(entries, &answer)?;
    Ok(answer)
}

/// What an answer is, and against what it was read.
fn tell(answer: &mut HomeAnswer, entries: &[Arc<Entry>]) {
    "home".clone_into(&mut answer.object);
    answer.generations = (entries.iter())
        .map(|entry| (entry.provider.name().as_str().to_owned(), entry.generation))
        .collect();
}

/// A call before a question before what is unsure, and so on; of calls, the most probable.
fn rank(reading: &Reading) -> f64 {
    let probabilities = reading.calls.iter().map(|call| call.probability);
    match reading.outcome {
        Outcome::Call if reading.left_out.is_empty() => 4.0 + probabilities.fold(1.0, f64::min),
        Outcome::Call => 3.5,
        Outcome::Question => 3.0,
        Outcome::Unsure => 2.0,
        Outcome::Cannot => 1.0,
        Outcome::Talk => 0.0,
    }
}

fn wire(provider: &Provider, reading: &Reading) -> HomeAnswer {
    let call = |candidate| wire_call(provider, candidate);
    let id = |place: &usize| {
        provider
            .targets()
            .get(*place)
            .map(|target| target.id.clone())
    };
    HomeAnswer {
        outcome: reading.outcome,
        calls: reading.calls.iter().map(call).collect(),
        alternatives: reading.alternatives.iter().map(call).collect(),
        targets: reading.targets.iter().filter_map(id).collect(),
        asked: reading
            .asked
            .as_ref()
            .map(|asked| wire_asked(provider, asked)),
        provider: (reading.outcome == Outcome::Question)
            .then(|| provider.name().as_str().to_owned()),
        left_out: reading.left_out.clone(),
        limit: reading.limit.as_ref().map(|limit| Limit {
            provider: provider.name().as_str().to_owned(),
            tool: provider.tools()[limit.tool].name().to_owned(),
            targets: limit.targets.iter().filter_map(id).collect(),
            argument: limit.argument.clone(),
            least: limit.least.clone(),
            most: limit.most.clone(),
            unit: limit.unit.map(str::to_owned),
        }),
        reason: reading.reason.clone(),
        ..HomeAnswer::default()
    }
}

fn wire_asked(provider: &Provider, asked: &super::Asked) -> Asked {
    let target = |place: &usize| provider.targets().get(*place);
    let ids = |places: &[usize]| {
        let targets = places.iter().filter_map(target);
        targets.map(|target| target.id.clone()).collect()
    };
    let value = |(place, name): &(usize, String)| {
        let target = target(place)?;
        Some(AskedValue {
            target: target.id.clone(),
            name: name.clone(),
            value: target.state.get(name)?.clone(),
        })
    };
    Asked {
        form: asked.form,
        holds: ids(&asked.holds),
        fails: ids(&asked.fails),
        about: asked.about.clone(),
        values: asked.values.iter().filter_map(value).collect(),
    }
}

fn undecided(readings: [(&Provider, &Reading); 2]) -> HomeAnswer {
    let calls = readings.into_iter().flat_map(|(provider, reading)| {
        let candidates = reading.calls.iter();
        candidates.map(|candidate| wire_call(provider, candidate))
    });
    HomeAnswer {
        outcome: Outcome::Unsure,
        alternatives: calls.collect(),
        reason: Some("several providers have such a call".to_owned()),
        ..HomeAnswer::default()
    }
}

fn wire_call(provider: &Provider, candidate: &Candidate) -> Call {
    let call = &candidate.call;
    let tool = &provider.tools()[call.tool()];
    let ids = call.targets().iter();
    Call {
        provider: provider.name().as_str().to_owned(),
        tool: tool.name().to_owned(),
        targets: ids
            .map(|place| provider.targets()[*place].id.clone())
            .collect(),
        arguments: call.arguments().clone(),
        probability: candidate.probability,
        needs_confirmation: tool.needs_confirmation(),
        result: None,
    }
}

/// Looks at each call once more as its reader will: by names, ids and values.
fn check(entries: &[Arc<Entry>], answer: &HomeAnswer) -> Result<(), ApiError> {
    for call in answer.calls.iter().chain(&answer.alternatives) {
        let named = |entry: &&Arc<Entry>| entry.provider.name().as_str() == call.provider;
        let entry = entries.iter().find(named);
        let valid = entry.is_some_and(|entry| ValidCall::of_wire(&entry.provider, call).is_ok());
        if !valid {
            tracing::error!(tool = %call.tool, "a call that is not valid was made and held back");
            let message = "the reading made a call that is not valid, which was held back";
            return Err(ApiError::new(ErrorCode::Internal, message)
                .hint("please report the utterance and the provider"));
        }
    }
    Ok(())
}
