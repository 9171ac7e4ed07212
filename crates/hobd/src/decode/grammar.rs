//! The answers that exist, as a grammar in the variant of Lark that llguidance reads.
//!
//! Names are terminals, one for each set of targets that a tool acts on, so that tools share them
//! and a step looks at one automaton instead of hundreds of rules.

use std::collections::BTreeMap;
// Writing to a string can't fail, and its result is dropped here.
use std::fmt::Write as _;

use hob_api::provider::Scalar;
use hob_ipc::constraint::CONSTRAINT_BYTES_MAX;

use super::numbers;
use super::scope::Scope;
use super::spelling::{Group, Spelling, quoted, value_text};
use crate::providers::{Parameter, Provider, Values};

pub(super) const TALK: &str = "(talk)";
pub(super) const CANNOT: &str = "(cannot)";
pub(super) const UNSURE: &str = "(unsure)";
pub(super) const QUESTION: &str = "(question) ";
pub(super) const DONE: &str = "(done)";
/// Most calls that may be meant.
pub(super) const CANDIDATES_MAX: usize = 4;

/// Text as an argument: one line of at most 80 characters, none of them unseen.
const TEXT: &str =
    r#"/"([^"\\\x00-\x1f\x7f-\x9f\u{2028}-\u{202e}\u{2060}-\u{206f}\u{feff}]|\\["\\]){1,80}"/"#;

/// What an answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// What was said.
    Utterance,
    /// What came of the calls before it: further calls, or that there are none.
    Results,
}

/// The grammar of answers about `scope`; `None` if it is longer than a constraint may be.
pub(super) fn of(
    provider: &Provider,
    spelling: &Spelling,
    scope: &Scope,
    to: To,
) -> Option<String> {
    let mut writer = Writer {
        provider,
        spelling,
        scope,
        rules: String::new(),
        terminals: BTreeMap::new(),
        bytes: 0,
    };
    let mut answers = match to {
        To::Utterance => vec![quoted(TALK), quoted(CANNOT)],
        To::Results => vec![quoted(DONE)],
    };
    if to == To::Utterance {
        answers.extend(writer.questions());
    }
    let tools = scope.tools.iter().filter_map(|tool| writer.tool(*tool));
    let tools: Vec<String> = tools.collect();
    if !tools.is_empty() {
        writer.rule("call", &tools.join(" | "));
        answers.push(format!(
            "call{}",
            repeated("\"\\n\" call", 0, scope.calls - 1)
        ));
        if to == To::Utterance {
            let candidates = repeated("\"\\n\" call", 2, CANDIDATES_MAX);
            answers.push(format!("{}{candidates}", quoted(UNSURE)));
        }
    }
    if writer.bytes > CONSTRAINT_BYTES_MAX {
        return None;
    }
    let mut text = format!("start: {}\n", answers.join(" | "));
    text += &writer.rules;
    for (definition, name) in writer.terminals {
        let _ = writeln!(text, "{name}: {definition}");
    }
    (text.len() <= CONSTRAINT_BYTES_MAX).then_some(text)
}

/// ` (PART)~LEAST..MOST`, or nothing if that is none.
fn repeated(part: &str, least: usize, most: usize) -> String {
    match most {
        0 => String::new(),
        _ => format!(" ({part}){{{least},{most}}}"),
    }
}

struct Writer<'a> {
    provider: &'a Provider,
    spelling: &'a Spelling,
    scope: &'a Scope,
    rules: String,
    /// Names by definition, so that each is there once.
    terminals: BTreeMap<String, String>,
    /// Of all definitions: what is too long is not written further.
    bytes: usize,
}

impl Writer<'_> {
    fn rule(&mut self, name: &str, definition: &str) {
        self.bytes += definition.len();
        if self.bytes <= CONSTRAINT_BYTES_MAX {
            let _ = writeln!(self.rules, "{name}: {definition}");
        }
    }

    /// The terminal of this definition.
    fn terminal(&mut self, definition: String) -> String {
        if let Some(name) = self.terminals.get(&definition) {
            return name.clone();
        }
        let name = format!("T{}", self.terminals.len());
        self.bytes += definition.len();
        if self.bytes <= CONSTRAINT_BYTES_MAX {
            self.terminals.insert(definition, name.clone());
        }
        name
    }

    /// One of these texts.
    fn one_of(&mut self, texts: impl Iterator<Item = String>) -> String {
        let texts: Vec<String> = texts.map(|text| quoted(&text)).collect();
        self.terminal(texts.join(" | "))
    }

    /// A question about anything in scope.
    fn questions(&mut self) -> Option<String> {
        let targets: Vec<usize> = self.scope.targets.iter().copied().collect();
        let groups = self.spelling.groups_where(|_| true);
        let about = self.targets(None, &targets, groups)?;
        Some(format!("{} {about}", quoted(QUESTION)))
    }

    /// The rule of a tool's calls; `None` if there is nothing that it acts on.
    fn tool(&mut self, place: usize) -> Option<String> {
        let tool = &self.provider.tools()[place];
        let mut rule = quoted(tool.name());
        if tool.acts_on().is_some() {
            let all = self.provider.targets();
            let scope = self.scope.targets.iter().copied();
            let targets: Vec<usize> = scope
                .filter(|at| tool.accepts(&all[*at]) && self.scope.pairs(place, *at))
                .collect();
            let groups = self.spelling.groups_of(self.provider, tool);
            let targets = self.targets(Some(place), &targets, groups)?;
            rule = format!("{} {targets}", quoted(&format!("{} ", tool.name())));
        }
        for parameter in tool.parameters() {
            let value = self.value(parameter);
            let argument = format!("{} {value}", quoted(&format!(" {}=", parameter.name)));
            if parameter.required {
                let _ = write!(rule, " {argument}");
            } else if self.scope.allows(place, &parameter.name) {
                let _ = write!(rule, " ({argument})?");
            }
        }
        let name = format!("call_{place}");
        self.rule(&name, &rule);
        Some(name)
    }

    /// Some of the targets or one of the groups that a tool may act on; one of any for `None`.
    fn targets(
        &mut self,
        tool: Option<usize>,
        targets: &[usize],
        groups: Vec<Group>,
    ) -> Option<String> {
        if targets.is_empty() {
            return None;
        }
        let names = self.one_of(targets.iter().map(|place| self.spelling.target(*place)));
        let listed = tool.map_or(1, |_| self.scope.listed).min(targets.len()) - 1;
        let names = format!("{names}{}", repeated(&format!("\", \" {names}"), 0, listed));
        let groups = groups.into_iter();
        let groups = groups.filter(|group| self.scope.has_group(tool, &group.targets));
        let groups: Vec<String> = groups.map(|group| group.text).collect();
        if groups.is_empty() {
            return Some(names);
        }
        let groups = self.one_of(groups.into_iter());
        Some(format!("({names} | {groups})"))
    }

    fn value(&mut self, parameter: &Parameter) -> String {
        match &parameter.values {
            Values::Text => match &self.scope.words {
                None => self.terminal(TEXT.to_owned()),
                Some(words) => {
                    let words = serde_json::json!({ "substring_words": words });
                    let words = self.terminal(format!("%regex {words}"));
                    self.terminal(format!("\"\\\"\" {words} \"\\\"\""))
                }
            },
            Values::Choice(choices) => self.one_of(choices.iter().map(value_text)),
            Values::Integer(range) => self.terminal(regex(&numbers::integers(range))),
            Values::Number(range) => match numbers::numbers(range) {
                Some(digits) => self.terminal(regex(&digits)),
                // A range between two hundredths has one value that can be written for sure.
                None => self.one_of([value_text(&Scalar::Number(*range.start()))].into_iter()),
            },
            Values::Boolean => self.one_of(["true".to_owned(), "false".to_owned()].into_iter()),
        }
    }
}

fn regex(expression: &str) -> String {
    format!("/{expression}/")
}
