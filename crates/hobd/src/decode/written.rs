//! From an answer to what it means.

use std::collections::BTreeMap;

use hob_api::provider::Scalar;

use super::grammar::{CANNOT, DONE, QUESTION, TALK, UNSURE};
use super::scope::Scope;
use super::spelling::{Spelling, value_text};
use crate::providers::{Parameter, Provider, Tool, ValidCall, Values};

/// What an answer means.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// These calls, in order, each once.
    Calls(Vec<ValidCall>),
    /// Somebody asks about these targets, by their places.
    Question(Vec<usize>),
    /// One of these calls may be meant.
    Unsure(Vec<ValidCall>),
    /// The home can't do it.
    Cannot,
    /// It is not about the home.
    Talk,
}

/// The answer is none that the grammar allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model's answer was cut before it was whole")]
pub struct Unreadable;

/// What `answer` means.
pub(super) fn read(
    provider: &Provider,
    spelling: &Spelling,
    answer: &str,
) -> Result<Written, Unreadable> {
    let reader = Reader { provider, spelling };
    match answer {
        TALK => return Ok(Written::Talk),
        CANNOT => return Ok(Written::Cannot),
        _ => {}
    }
    if let Some(about) = answer.strip_prefix(QUESTION) {
        let all = |_: usize| true;
        let (targets, rest) = reader.targets(about, spelling.groups_where(all))?;
        return whole(rest, Written::Question(targets));
    }
    match answer.strip_prefix(UNSURE) {
        None => reader.calls(answer).map(Written::Calls),
        Some(calls) => {
            let calls = calls.strip_prefix('\n').ok_or(Unreadable)?;
            reader.calls(calls).map(Written::Unsure)
        }
    }
}

/// The further calls that `answer` to results means: none of another scope, whoever wrote it.
pub(super) fn read_further(
    provider: &Provider,
    spelling: &Spelling,
    scope: &Scope,
    answer: &str,
) -> Result<Vec<ValidCall>, Unreadable> {
    if answer == DONE {
        return Ok(Vec::new());
    }
    let calls = Reader { provider, spelling }.calls(answer)?;
    if calls.iter().all(|call| scope.has(call)) {
        Ok(calls)
    } else {
        Err(Unreadable)
    }
}

fn whole<T>(rest: &str, read: T) -> Result<T, Unreadable> {
    if rest.is_empty() {
        Ok(read)
    } else {
        Err(Unreadable)
    }
}

struct Reader<'a> {
    provider: &'a Provider,
    spelling: &'a Spelling,
}

impl Reader<'_> {
    /// Calls, one a line; what is there twice is meant once.
    fn calls(&self, lines: &str) -> Result<Vec<ValidCall>, Unreadable> {
        let mut calls: Vec<ValidCall> = Vec::new();
        for line in lines.split('\n') {
            let call = self.call(line)?;
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
        Ok(calls)
    }

    fn call(&self, line: &str) -> Result<ValidCall, Unreadable> {
        let end = line.find(' ').unwrap_or(line.len());
        let (name, mut rest) = line.split_at(end);
        let mut tools = self.provider.tools().iter();
        let place = tools.position(|tool| tool.name() == name);
        let place = place.ok_or(Unreadable)?;
        let tool = &self.provider.tools()[place];
        let mut targets = Vec::new();
        if tool.acts_on().is_some() {
            let about = rest.strip_prefix(' ').ok_or(Unreadable)?;
            let groups = self.spelling.groups_of(self.provider, tool);
            (targets, rest) = self.targets(about, groups)?;
        }
        let arguments = arguments(tool, rest)?;
        ValidCall::new(self.provider, place, targets, arguments).map_err(|_| Unreadable)
    }

    /// Targets at the beginning of a text, each once, and what follows.
    fn targets<'t>(
        &self,
        text: &'t str,
        groups: Vec<super::spelling::Group>,
    ) -> Result<(Vec<usize>, &'t str), Unreadable> {
        if !text.starts_with('"') {
            let mut groups = groups.into_iter();
            let group = groups.find(|group| text.starts_with(&group.text));
            let group = group.ok_or(Unreadable)?;
            return Ok((group.targets, &text[group.text.len()..]));
        }
        let (mut targets, mut rest) = (Vec::new(), text);
        loop {
            let (name, after) = quoted_text(rest)?;
            let place = self.spelling.place(&name).ok_or(Unreadable)?;
            if !targets.contains(&place) {
                targets.push(place);
            }
            match after.strip_prefix(", ") {
                None => return Ok((targets, after)),
                Some(more) => rest = more,
            }
        }
    }
}

/// A text in quotes at the beginning of `text`, without them, and what follows.
fn quoted_text(text: &str) -> Result<(String, &str), Unreadable> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = values.next().and_then(Result::ok).ok_or(Unreadable)?;
    let rest = text.get(values.byte_offset()..).ok_or(Unreadable)?;
    Ok((value, rest))
}

/// ` name=value` for each argument, to the end of the line.
fn arguments(tool: &Tool, mut rest: &str) -> Result<BTreeMap<String, Scalar>, Unreadable> {
    let mut arguments = BTreeMap::new();
    while !rest.is_empty() {
        let argument = rest.strip_prefix(' ').ok_or(Unreadable)?;
        let (name, text) = argument.split_once('=').ok_or(Unreadable)?;
        let mut parameters = tool.parameters().iter();
        let parameter = parameters.find(|parameter| parameter.name == name);
        let (value, after) = value(parameter.ok_or(Unreadable)?, text)?;
        if arguments.insert(name.to_owned(), value).is_some() {
            return Err(Unreadable);
        }
        rest = after;
    }
    Ok(arguments)
}

/// A value at the beginning of `text`, and what follows.
fn value<'t>(parameter: &Parameter, text: &'t str) -> Result<(Scalar, &'t str), Unreadable> {
    let after = if text.starts_with('"') {
        quoted_text(text)?.1
    } else {
        &text[text.find(' ').unwrap_or(text.len())..]
    };
    let written = &text[..text.len() - after.len()];
    let value = match &parameter.values {
        Values::Choice(choices) => {
            let mut choices = choices.iter();
            choices
                .find(|choice| value_text(choice) == written)
                .cloned()
        }
        Values::Text => {
            let text = quoted_text(written)?.0;
            Some(Scalar::Text(text.trim().to_owned()))
        }
        Values::Integer(_) => {
            let number = written.parse().ok();
            let plain = number.filter(|number: &i64| number.to_string() == written);
            plain.map(Scalar::Integer)
        }
        Values::Number(_) => written.parse().ok().map(Scalar::Number),
        Values::Boolean => written.parse().ok().map(Scalar::Boolean),
    };
    Ok((value.ok_or(Unreadable)?, after))
}
