//! Labelled sentences: what somebody says, and what is meant by it. One JSON object a line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hob_api::home::{Call, HomeAnswer, Outcome};
use hob_api::provider::Scalar;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::{providers, source};

/// Most sentences of a set.
pub(crate) const SENTENCES_MAX: usize = 100_000;

/// A sentence and what it means.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sentence {
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) outcome: Option<Outcome>,
    #[serde(default)]
    pub(crate) tool: String,
    #[serde(default)]
    pub(crate) targets: Vec<String>,
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub(crate) area: Option<String>,
    /// Its line in the file, from 1.
    #[serde(skip)]
    pub(crate) line: usize,
}

/// How a sentence was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it is meant: the outcome, and of a call the tool, the targets and the arguments.
    Exact,
    /// As a call that is not meant: what a hub would do is wrong.
    WrongCall,
    /// Otherwise, without a call: nothing would be done.
    NotDone,
}

impl Sentence {
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome.unwrap_or(Outcome::Call)
    }

    /// What it is counted as: its tool, or its outcome if that is no call.
    pub(crate) fn intent(&self) -> &str {
        match self.outcome() {
            Outcome::Call => &self.tool,
            other => other.as_str(),
        }
    }

    /// How it was read.
    pub(crate) fn judge(&self, answer: &HomeAnswer) -> Verdict {
        let exact = match self.outcome() {
            Outcome::Call => self.is_exactly(&answer.calls),
            other => answer.outcome == other,
        };
        match answer.outcome {
            _ if exact => Verdict::Exact,
            Outcome::Call => Verdict::WrongCall,
            _ => Verdict::NotDone,
        }
    }

    /// Whether these calls are the one that was meant.
    pub(crate) fn is_exactly(&self, calls: &[Call]) -> bool {
        let [call] = calls else {
            return false;
        };
        let mut targets = call.targets.clone();
        let mut meant = self.targets.clone();
        targets.sort_unstable();
        meant.sort_unstable();
        call.tool == self.tool && targets == meant && call.arguments == self.arguments
    }
}

/// A set of sentences, from a file or from stdin for `-`.
///
/// # Errors
/// A file that can't be read, or a line that says nothing; with the line's number.
pub(crate) fn read(file: &Path) -> Result<Vec<Sentence>, Failure> {
    let bytes = providers::read(file)?;
    let shown = source::shown(file);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::usage(format!("{shown} is not UTF-8 text")))?;
    let mut sentences = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let sentence: Sentence = serde_json::from_str(text).map_err(|error| {
            Failure::usage(format!("{shown}, line {line}: {error}"))
                .hint("each line is an object with `text`, and `tool` or `outcome`")
        })?;
        sentences.push(Sentence { line, ..sentence });
    }
    if !(1..=SENTENCES_MAX).contains(&sentences.len()) {
        let count = sentences.len();
        let message =
            format!("{shown} has {count} sentences, and 1 to {SENTENCES_MAX} can be read");
        return Err(Failure::usage(message));
    }
    Ok(sentences)
}

/// Refuses sentences that mean what a home does not have, as no reading of them could be right. What is
/// wrong with the definition itself is the daemon's to say.
///
/// # Errors
/// The first such line.
pub(crate) fn check(sentences: &[Sentence], file: &Path, definition: &[u8]) -> Result<(), Failure> {
    let Ok(definition) = serde_json::from_slice::<Value>(definition) else {
        return Ok(());
    };
    let entries = |list: &str| definition[list].as_array().into_iter().flatten();
    let targets: BTreeSet<&str> = entries("targets")
        .filter_map(|target| target["id"].as_str())
        .collect();
    let tools: BTreeMap<&str, &Value> = entries("tools")
        .filter_map(|tool| Some((tool["name"].as_str()?, &tool["parameters"]["properties"])))
        .collect();
    for sentence in sentences {
        if let Some(problem) = missing(sentence, &tools, &targets) {
            let (shown, line) = (source::shown(file), sentence.line);
            return Err(Failure::usage(format!("{shown}, line {line}: {problem}"))
                .hint("name tools, targets and arguments as the home's definition does"));
        }
    }
    Ok(())
}

/// What a sentence means and the home does not have.
fn missing(
    sentence: &Sentence,
    tools: &BTreeMap<&str, &Value>,
    targets: &BTreeSet<&str>,
) -> Option<String> {
    let target = |id: &&String| !targets.contains(id.as_str());
    if let Some(id) = sentence.targets.iter().find(target) {
        return Some(format!("the home has no target {id:?}"));
    }
    if sentence.outcome() != Outcome::Call {
        return None;
    }
    let Some(arguments) = tools.get(sentence.tool.as_str()) else {
        return Some(match sentence.tool.as_str() {
            "" => "neither a tool nor another outcome is named".to_owned(),
            tool => format!("the home has no tool {tool:?}"),
        });
    };
    let mut names = sentence.arguments.keys();
    let name = names.find(|name| arguments.get(name.as_str()).is_none())?;
    Some(format!("{} has no argument {name:?}", sentence.tool))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    const HOME: &[u8] = br#"{
        "tools": [{"name": "on"}, {"name": "dim", "parameters": {"properties": {"to": {}}}}],
        "targets": [{"id": "lamp"}, {"id": "desk"}]
    }"#;

    fn sentence(line: &str) -> Sentence {
        serde_json::from_str(line).unwrap()
    }

    fn answer(outcome: Outcome, tools: &[&str]) -> HomeAnswer {
        let call = |tool: &&str| Call {
            tool: (*tool).to_owned(),
            targets: vec!["lamp".to_owned()],
            ..Call::default()
        };
        HomeAnswer {
            outcome,
            calls: tools.iter().map(call).collect(),
            ..HomeAnswer::default()
        }
    }

    #[test]
    fn what_is_done_though_not_meant_is_worse_than_what_is_not_done() {
        let lamp = sentence(r#"{"text": "light", "tool": "on", "targets": ["lamp"]}"#);
        let talk = sentence(r#"{"text": "why?", "outcome": "talk"}"#);
        for (meant, outcome, tools, expected) in [
            (&lamp, Outcome::Call, &["on"][..], Verdict::Exact),
            (&lamp, Outcome::Call, &["dim"], Verdict::WrongCall),
            (&lamp, Outcome::Call, &["on", "on"], Verdict::WrongCall),
            (&lamp, Outcome::Unsure, &[], Verdict::NotDone),
            (&lamp, Outcome::Talk, &[], Verdict::NotDone),
            (&talk, Outcome::Talk, &[], Verdict::Exact),
            (&talk, Outcome::Question, &[], Verdict::NotDone),
            (&talk, Outcome::Call, &["on"], Verdict::WrongCall),
        ] {
            let found = meant.judge(&answer(outcome, tools));
            assert_eq!(found, expected, "{outcome:?} {tools:?}");
        }
    }

    #[test]
    fn labels_that_the_home_does_not_have_are_named_by_their_line() {
        let file = Path::new("set.jsonl");
        for (line, problem) in [
            (r#"{"text": "x", "tool": "of"}"#, "no tool \"of\""),
            (r#"{"text": "x"}"#, "neither a tool nor"),
            (
                r#"{"text": "x", "tool": "on", "targets": ["lam"]}"#,
                "no target \"lam\"",
            ),
            (
                r#"{"text": "x", "tool": "dim", "arguments": {"by": 1}}"#,
                "dim has no argument \"by\"",
            ),
            (
                r#"{"text": "x", "tool": "on", "arguments": {"to": 1}}"#,
                "on has no argument \"to\"",
            ),
        ] {
            let labelled = Sentence {
                line: 7,
                ..sentence(line)
            };
            let refused = check(&[labelled], file, HOME).unwrap_err();
            let expected = "set.jsonl, line 7: ";
            assert!(
                refused.message.starts_with(expected) && refused.message.contains(problem),
                "{refused}"
            );
        }
        let right = [
            r#"{"text": "x", "tool": "dim", "targets": ["desk"], "arguments": {"to": 3}}"#,
            r#"{"text": "x", "outcome": "question"}"#,
        ];
        let right = right.map(sentence);
        assert!(check(&right, file, HOME).is_ok());
        // The daemon says what is wrong with this.
        assert!(check(&right, file, b"{").is_ok());
    }
}
