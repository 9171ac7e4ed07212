//! Examples for the model: what people say for a provider's own tools, with the answer.

use std::collections::BTreeMap;

use hob_api::provider::Scalar;

use super::grammar::{CANNOT, TALK};
use super::spelling::{Spelling, value_text};
use crate::providers::{Parameter, Provider, Tool, ValidCall, Values};

/// Most examples of calls.
const CALLS_MAX: usize = 12;
/// Longest examples together, in bytes.
const BYTES_MAX: usize = 2 << 10;
/// What no home does, and what few homes have.
const TALKS: &str = "tell me something about the stars";
const MISSING: [(&str, &str); 4] = [
    ("pool", "heat up the swimming pool"),
    ("piano", "play the piano"),
    ("goat", "feed the goat"),
    ("rocket", "start the rocket"),
];

/// Something that is said, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) said: String,
    pub(super) answer: String,
}

/// The examples of a provider, the same ones for the same definition: one of each tool, then
/// another of each, and so on.
pub(super) fn of(provider: &Provider, spelling: &Spelling) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut bytes = 0;
    let longest = provider.tools().iter().map(|tool| tool.examples().len());
    let rounds = longest.max().unwrap_or(0).min(CALLS_MAX);
    let tools = 0..provider.tools().len();
    for (round, place) in (0..rounds).flat_map(|round| tools.clone().map(move |at| (round, at))) {
        let Some(example) = example(provider, spelling, place, round) else {
            continue;
        };
        bytes += example.said.len() + example.answer.len();
        if shown.len() == CALLS_MAX || bytes > BYTES_MAX {
            break;
        }
        if !shown.iter().any(|other| other.said == example.said) {
            shown.push(example);
        }
    }
    // What is said last is said again most: the order of calls is kept, with the others between.
    let talk = Shown {
        said: TALKS.to_owned(),
        answer: TALK.to_owned(),
    };
    let missing = MISSING.iter().find(|(word, _)| !knows(provider, word));
    let cannot = missing.map(|(_, said)| Shown {
        said: (*said).to_owned(),
        answer: CANNOT.to_owned(),
    });
    let middle = shown.len() / 2;
    shown.insert(middle, talk);
    if let Some(cannot) = cannot {
        shown.insert(middle / 2, cannot);
    }
    shown
}

/// Whether a word is part of what a provider says of itself.
fn knows(provider: &Provider, word: &str) -> bool {
    let has = |text: &String| text.to_lowercase().contains(word);
    let tools = provider.tools().iter();
    let mut said = tools.flat_map(|tool| tool.examples().iter().map(|example| &example.text));
    let mut names = provider.targets().iter().flat_map(|target| {
        let places = [&target.area, &target.floor].into_iter().flatten();
        target.aliases.iter().chain(places).chain([&target.name])
    });
    said.any(has) || names.any(has)
}

/// A tool's example of this number, if a call can be made of it.
fn example(provider: &Provider, spelling: &Spelling, place: usize, number: usize) -> Option<Shown> {
    let tool = &provider.tools()[place];
    let example = tool.examples().get(number)?;
    let mut said = example.text.clone();
    let mut targets = Vec::new();
    if tool.acts_on().is_some() {
        let target = match &example.target {
            Some(id) => provider.targets().iter().position(|t| t.id == *id)?,
            None if said.contains("{target}") => some_target(provider, tool, place + number)?,
            None => return None,
        };
        said = said.replace("{target}", &provider.targets()[target].name);
        targets.push(target);
    }
    let mut arguments = BTreeMap::new();
    for parameter in tool.parameters() {
        let marked = format!("{{{}}}", parameter.name);
        if said.contains(&marked) {
            let value = some_value(parameter)?;
            let words = match &value {
                Scalar::Text(text) => text.clone(),
                value => value_text(value),
            };
            said = said.replace(&marked, &words);
            arguments.insert(parameter.name.clone(), value);
        }
    }
    if said.contains('{') {
        return None;
    }
    let call = ValidCall::new(provider, place, targets, arguments).ok()?;
    Some(Shown {
        said,
        answer: spelling.call(provider, &call),
    })
}

/// One of the targets that a tool acts on, another one for each number.
fn some_target(provider: &Provider, tool: &Tool, number: usize) -> Option<usize> {
    let targets = provider.targets();
    let accepted: Vec<usize> = (0..targets.len())
        .filter(|place| tool.accepts(&targets[*place]))
        .collect();
    accepted.get(number % accepted.len().max(1)).copied()
}

/// A value that people might say.
fn some_value(parameter: &Parameter) -> Option<Scalar> {
    match &parameter.values {
        Values::Choice(choices) => choices.first().cloned(),
        Values::Text => Some(Scalar::Text("milk".to_owned())),
        Values::Integer(range) => Some(Scalar::Integer(20.clamp(*range.start(), *range.end()))),
        Values::Number(range) => Some(Scalar::Number(20_f64.clamp(*range.start(), *range.end()))),
        Values::Boolean => None,
    }
}
