//! What the model reads before it answers: first what is always the same of a home, so that it is
//! read once, then what is said now.

use std::collections::BTreeMap;
// Writing to a string can't fail, and its result is dropped here.
use std::fmt::Write as _;

use hob_api::chat::Role;
use hob_api::home::Call;
use hob_api::provider::Scalar;
use hob_ipc::message::ChatMessage;

use super::grammar::{CANNOT, DONE, QUESTION, TALK, UNSURE};
use super::scope::Scope;
use super::spelling::{Spelling, quoted, value_text};
use super::{Utterance, examples};
use crate::hub::cleaned;
use crate::providers::{Parameter, Provider, Tool, ValidCall, Values, is_unseen};

/// Longest list of tools with their descriptions, without them twice as long, and longest list of
/// targets, in bytes: 2 KiB are about 700 tokens. Of more tools the names alone are told.
/// A longer list of targets is left out: the grammar knows them.
const TOOLS_BYTES_MAX: usize = 2 << 10;
const TARGETS_BYTES_MAX: usize = 3 << 10;
/// Longest description of a tool that the model is told, in characters.
const DESCRIPTION_CHARS_MAX: usize = 80;
/// Most values of a choice that it is told, and most kinds that a tool acts on.
const CHOICES_TOLD: usize = 8;
/// Longest name of a room that it is told, in characters.
const AREA_CHARS_MAX: usize = 100;
/// Most targets whose state it is told, and most values of one.
const STATES_TOLD: usize = 4;
/// Most calls of which it is told what came of them.
const RESULTS_TOLD: usize = 8;
/// Longest text of a hub that it is told, in bytes.
const RESULT_BYTES_MAX: usize = 160;

/// What every conversation about a home begins with.
pub(super) fn prefix(provider: &Provider, spelling: &Spelling) -> Vec<ChatMessage> {
    let mut messages = vec![message(Role::System, system(provider, spelling))];
    for shown in examples::of(provider, spelling) {
        messages.push(message(Role::User, said(&shown.said)));
        messages.push(message(Role::Assistant, shown.answer));
    }
    messages
}

fn system(provider: &Provider, spelling: &Spelling) -> String {
    let mut text = format!(
        "You control a home. Answer what is said with one call: the tool, what it acts on, and its \
         arguments. Answer {TALK} if it is not about the home, {CANNOT} if the home has no such \
         thing, {UNSURE} and the calls that may be meant if that is not clear, {QUESTION}and the \
         thing if somebody asks how it is.\nTools:\n"
    );
    let tools = || provider.tools().iter();
    let lines: Vec<String> = tools().map(|tool| line(tool, true)).collect();
    let bytes: usize = lines.iter().map(String::len).sum();
    if bytes <= TOOLS_BYTES_MAX {
        text.extend(lines);
    } else {
        let lines: Vec<String> = tools().map(|tool| line(tool, false)).collect();
        let bytes: usize = lines.iter().map(String::len).sum();
        if bytes <= 2 * TOOLS_BYTES_MAX {
            text.extend(lines);
        } else {
            text.extend(tools().map(|tool| format!("{}\n", tool.name())));
        }
    }
    text += &targets(provider, spelling);
    text
}

/// A tool on a line.
fn line(tool: &Tool, described: bool) -> String {
    let mut text = tool.name().to_owned();
    if let Some(acts_on) = tool.acts_on() {
        let kinds = &acts_on.kinds[..acts_on.kinds.len().min(CHOICES_TOLD)];
        let kinds = if kinds.is_empty() {
            "anything".to_owned()
        } else {
            kinds.join("|")
        };
        let _ = write!(text, " <{kinds}>");
    }
    for parameter in tool.parameters() {
        let (open, close) = if parameter.required {
            ("", "")
        } else {
            ("[", "]")
        };
        let _ = write!(
            text,
            " {open}{}={}{close}",
            parameter.name,
            values(parameter)
        );
    }
    let description: String = tool
        .description()
        .chars()
        .take(DESCRIPTION_CHARS_MAX)
        .collect();
    if described && !description.is_empty() {
        let _ = write!(text, ": {description}");
    }
    text + "\n"
}

fn values(parameter: &Parameter) -> String {
    match &parameter.values {
        Values::Text => "\"...\"".to_owned(),
        Values::Choice(choices) => {
            let told = choices.iter().take(CHOICES_TOLD).map(value_text);
            told.collect::<Vec<_>>().join("|")
        }
        Values::Integer(range) if *range.start() > i64::MIN && *range.end() < i64::MAX => {
            format!("{}..{}", range.start(), range.end())
        }
        Values::Number(range) if *range.start() > f64::MIN && *range.end() < f64::MAX => {
            format!("{}..{}", range.start(), range.end())
        }
        Values::Integer(_) | Values::Number(_) => "number".to_owned(),
        Values::Boolean => "true|false".to_owned(),
    }
}

/// All targets by room and kind, unless they are too many.
fn targets(provider: &Provider, spelling: &Spelling) -> String {
    let mut rooms: BTreeMap<(Option<&str>, &str), Vec<String>> = BTreeMap::new();
    for (place, target) in provider.targets().iter().enumerate() {
        let room = target.area.as_deref().or(target.floor.as_deref());
        let room = rooms.entry((room, target.kind.as_str())).or_default();
        room.push(spelling.target(place));
    }
    let mut text = "Home:\n".to_owned();
    for ((room, kind), names) in rooms {
        let room = room.map(|room| format!("{room}, ")).unwrap_or_default();
        let _ = writeln!(text, "{room}{kind}: {}", names.join(", "));
    }
    if text.len() > TARGETS_BYTES_MAX {
        return String::new();
    }
    text
}

/// What is said now, where, and how the targets are that it may be about.
pub(super) fn tail(
    provider: &Provider,
    spelling: &Spelling,
    utterance: Utterance<'_>,
    scope: Option<&Scope>,
) -> ChatMessage {
    let mut text = String::new();
    let targets = scope.into_iter().flat_map(|scope| &scope.targets);
    let told = targets.filter(|place| !provider.targets()[**place].state.is_empty());
    for place in told.take(STATES_TOLD) {
        let state = provider.targets()[*place].state.iter().take(STATES_TOLD);
        let state = state.map(|(name, value)| format!("{name}={}", value_text(value)));
        let state: Vec<String> = state.collect();
        let _ = writeln!(text, "Now {}: {}", spelling.target(*place), state.join(" "));
    }
    if let Some(area) = utterance.area {
        let area: String = area.chars().take(AREA_CHARS_MAX).collect();
        let _ = writeln!(text, "In {}", quoted(&seen(&area)));
    }
    message(Role::User, text + &said(&seen(utterance.text)))
}

/// What came of calls, as data: each hub's text is one in quotes, on the line of its call, and short.
pub(super) fn results(provider: &Provider, spelling: &Spelling, calls: &[Call]) -> ChatMessage {
    let mut text = "Came of it:\n".to_owned();
    for call in calls.iter().take(RESULTS_TOLD) {
        // What is no call any more was one when it was made.
        match ValidCall::of_wire(provider, call) {
            Ok(valid) => text += &spelling.call(provider, &valid),
            Err(_) => text += &call.tool,
        }
        if let Some(result) = &call.result {
            let _ = write!(text, ": {}", result.status.as_str());
            for (name, value) in result.data.iter().take(STATES_TOLD) {
                let value = match value {
                    Scalar::Text(text) => told(text),
                    value => value_text(value),
                };
                let _ = write!(text, " {name}={value}");
            }
            for (what, words) in [("why", &result.error), ("said", &result.speech)] {
                if let Some(words) = words {
                    let _ = write!(text, " {what}={}", told(words));
                }
            }
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "Answer with the call that is still needed for what was said, or {DONE}."
    );
    message(Role::User, text)
}

/// A hub's words, in quotes.
fn told(text: &str) -> String {
    quoted(&seen(&cleaned(text, RESULT_BYTES_MAX)))
}

/// What an assistant wrote.
pub(super) fn answered(text: &str) -> ChatMessage {
    message(Role::Assistant, text.to_owned())
}

/// What somebody said without what nobody sees, NUL included.
pub(super) fn seen(text: &str) -> String {
    let seen = |c: char| if is_unseen(c) { ' ' } else { c };
    text.chars().map(seen).collect()
}

/// A conversation as text, for models that know no conversations: a line for each, and an empty one
/// behind each answer. It ends where an answer begins.
pub fn plain(messages: &[ChatMessage]) -> String {
    let mut text = String::new();
    for message in messages {
        text += &message.content;
        text += match message.role {
            Role::Assistant => "\n\n",
            _ => "\n",
        };
    }
    text
}

fn said(text: &str) -> String {
    format!("Said: {text}")
}

fn message(role: Role, content: String) -> ChatMessage {
    ChatMessage { role, content }
}
