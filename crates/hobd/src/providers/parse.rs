//! From the wire's fields to a [`Provider`]: the only way to one.

use std::collections::HashSet;

use hob_api::provider::{
    ActsOn, Example, LabelledExample, ProviderFields, Scalar, Target, TargetsPatch,
    Tool as ToolFields,
};
use hob_api::{ApiError, ErrorCode};

use super::schema;
use super::{
    ALL_EXAMPLES_MAX, EXAMPLES_MAX, NAMES_BYTES_MAX, Provider, ProviderName, TARGETS_MAX,
    TOOLS_BYTES_MAX, TOOLS_MAX, Tool,
};
use crate::name::is_plain;

const TOOL_NAME_BYTES_MAX: usize = 64;
const DESCRIPTION_BYTES_MAX: usize = 2000;
const EXAMPLE_BYTES_MAX: usize = 500;
const ID_BYTES_MAX: usize = 128;
const NAME_CHARS_MAX: usize = 100;
/// Of aliases, capabilities, values of a state, and kinds that a tool names.
const ITEMS_MAX: usize = 16;

impl Provider {
    /// Checks a definition.
    ///
    /// # Errors
    /// `invalid_request` or `unsupported`, naming the place.
    pub fn new(name: ProviderName, fields: ProviderFields) -> Result<Self, ApiError> {
        let count = fields.tools.len();
        if !(1..=TOOLS_MAX).contains(&count) {
            let message = format!("`tools` must be 1 to {TOOLS_MAX}, not {count}");
            return Err(invalid(message, "tools").hint("register the rest as another provider"));
        }
        // Writing plain data into memory does not fail.
        let bytes = serde_json::to_vec(&fields.tools).map_or(0, |json| json.len());
        if bytes > TOOLS_BYTES_MAX {
            let message = format!("`tools` have {bytes} bytes, and {TOOLS_BYTES_MAX} fit");
            return Err(
                invalid(message, "tools").hint("shorten choices, examples and descriptions")
            );
        }
        let examples: usize = fields.tools.iter().map(|tool| tool.examples.len()).sum();
        if examples > ALL_EXAMPLES_MAX {
            let message = format!("`tools` have {examples} examples, and {ALL_EXAMPLES_MAX} fit");
            return Err(invalid(message, "tools").hint("keep those that differ most"));
        }
        let tools = fields.tools.into_iter().enumerate();
        let tools: Vec<Tool> = tools
            .map(|(index, tool)| check_tool(tool, &format!("tools[{index}]")))
            .collect::<Result<_, _>>()?;
        unique(tools.iter().map(Tool::name), "tools", "name")?;
        check_targets(fields.targets.len(), "targets")?;
        for (index, target) in fields.targets.iter().enumerate() {
            check_target(target, &format!("targets[{index}]"))?;
        }
        Self::of_checked(name, tools, fields.targets, "targets")
    }

    /// The same tools with other targets.
    ///
    /// # Errors
    /// `invalid_request`, naming the place; `not_found` for a target that is to be removed and is
    /// not there.
    pub fn patched(&self, patch: TargetsPatch) -> Result<Self, ApiError> {
        let mut targets = self.targets.clone();
        for (index, id) in patch.removed.iter().enumerate() {
            let before = targets.len();
            targets.retain(|target| target.id != *id);
            if targets.len() == before {
                let message = format!("`removed[{index}]` is no target of this provider");
                return Err(ApiError::new(ErrorCode::NotFound, message)
                    .hint("nothing was changed; GET the provider to see its targets")
                    .param(format!("removed[{index}]")));
            }
        }
        unique(
            patch.changed.iter().map(|target| target.id.as_str()),
            "changed",
            "id",
        )?;
        check_targets(patch.changed.len(), "changed")?;
        for (index, target) in patch.changed.into_iter().enumerate() {
            check_target(&target, &format!("changed[{index}]"))?;
            match targets.iter_mut().find(|known| known.id == target.id) {
                Some(known) => *known = target,
                None => targets.push(target),
            }
        }
        check_targets(targets.len(), "changed")?;
        Self::of_checked(self.name.clone(), self.tools.clone(), targets, "changed")
    }

    /// A definition of tools and targets each of which was checked, and that are not too many.
    fn of_checked(
        name: ProviderName,
        tools: Vec<Tool>,
        targets: Vec<Target>,
        field: &str,
    ) -> Result<Self, ApiError> {
        unique(targets.iter().map(|target| target.id.as_str()), field, "id")?;
        let bytes: usize = targets.iter().map(names_bytes).sum();
        if bytes > NAMES_BYTES_MAX {
            let message =
                format!("the targets have {bytes} bytes of names, and {NAMES_BYTES_MAX} fit");
            return Err(invalid(message, field).hint("keep the aliases that people use"));
        }
        Ok(Self {
            name,
            tools,
            targets,
        })
    }
}

fn check_targets(count: usize, field: &str) -> Result<(), ApiError> {
    if count <= TARGETS_MAX {
        return Ok(());
    }
    let message = format!("a provider has at most {TARGETS_MAX} targets, not {count}");
    Err(invalid(message, field).hint("register the rest as another provider"))
}

fn check_tool(fields: ToolFields, path: &str) -> Result<Tool, ApiError> {
    if !is_plain(&fields.name, TOOL_NAME_BYTES_MAX) {
        let field = format!("{path}.name");
        let message = format!("`{field}` is not a name of a tool");
        return Err(invalid(message, field)
            .hint("give 1 to 64 of the characters A-Z, a-z, 0-9, dot, _ and -"));
    }
    check_text(
        &fields.description,
        &format!("{path}.description"),
        0..=DESCRIPTION_BYTES_MAX,
    )?;
    if let Some(ActsOn {
        kinds,
        capabilities,
    }) = &fields.acts_on
    {
        check_words(kinds, &format!("{path}.acts_on.kinds"))?;
        check_words(capabilities, &format!("{path}.acts_on.capabilities"))?;
    }
    let count = fields.examples.len();
    if count > EXAMPLES_MAX {
        let field = format!("{path}.examples");
        let message = format!("`{field}` has {count} entries, and {EXAMPLES_MAX} fit");
        return Err(invalid(message, field).hint("keep those that differ most"));
    }
    let mut examples = Vec::with_capacity(count);
    for (index, example) in fields.examples.iter().enumerate() {
        let field = format!("{path}.examples[{index}]");
        let example = match example {
            Example::Text(text) => LabelledExample {
                text: text.clone(),
                target: None,
            },
            Example::Labelled(labelled) => labelled.clone(),
        };
        check_text(&example.text, &field, 1..=EXAMPLE_BYTES_MAX)?;
        if let Some(target) = &example.target {
            check_id(target, &format!("{field}.target"))?;
        }
        examples.push(example);
    }
    let parameters = schema::parameters(fields.parameters.as_ref(), &format!("{path}.parameters"))?;
    Ok(Tool {
        fields,
        parameters,
        examples,
    })
}

fn check_target(target: &Target, path: &str) -> Result<(), ApiError> {
    check_id(&target.id, &format!("{path}.id"))?;
    check_name(&target.name, &format!("{path}.name"))?;
    check_count(target.aliases.len(), &format!("{path}.aliases"))?;
    for (index, alias) in target.aliases.iter().enumerate() {
        check_name(alias, &format!("{path}.aliases[{index}]"))?;
    }
    check_word(&target.kind, &format!("{path}.kind"))?;
    for (place, name) in [("area", &target.area), ("floor", &target.floor)] {
        if let Some(name) = name {
            check_name(name, &format!("{path}.{place}"))?;
        }
    }
    check_words(&target.capabilities, &format!("{path}.capabilities"))?;
    check_count(target.state.len(), &format!("{path}.state"))?;
    for (name, value) in &target.state {
        check_word(name, &format!("{path}.state"))?;
        if let Scalar::Text(text) = value {
            check_text(
                text,
                &format!("{path}.state.{name}"),
                0..=schema::ARGUMENT_BYTES_MAX,
            )?;
        }
    }
    Ok(())
}

fn names_bytes(target: &Target) -> usize {
    let places = [&target.area, &target.floor].into_iter().flatten();
    let names = target.aliases.iter().chain(places).chain([&target.name]);
    names.map(String::len).sum()
}

/// Ids, kinds, capabilities: the hub's own words, which are compared and not read.
fn check_id(id: &str, field: &str) -> Result<(), ApiError> {
    let spaced = id.chars().any(char::is_whitespace);
    if spaced {
        let message = format!("`{field}` must have no spaces");
        return Err(invalid(message, field).hint("give the hub's own id; names have spaces"));
    }
    check_text(id, field, 1..=ID_BYTES_MAX)
}

fn check_word(word: &str, field: &str) -> Result<(), ApiError> {
    check_id(word, field)
}

fn check_words(words: &[String], field: &str) -> Result<(), ApiError> {
    check_count(words.len(), field)?;
    words
        .iter()
        .enumerate()
        .try_for_each(|(index, word)| check_word(word, &format!("{field}[{index}]")))
}

fn check_count(count: usize, field: &str) -> Result<(), ApiError> {
    if count <= ITEMS_MAX {
        return Ok(());
    }
    let message = format!("`{field}` has {count} entries, and {ITEMS_MAX} fit");
    Err(invalid(message, field).hint("keep those that matter most"))
}

/// A name of any script with something to see in it.
fn check_name(name: &str, field: &str) -> Result<(), ApiError> {
    let count = name.chars().count();
    if name.trim().is_empty() || count > NAME_CHARS_MAX {
        let message = format!("`{field}` must be 1 to {NAME_CHARS_MAX} characters, not {count}");
        return Err(invalid(message, field).hint("give what people call it"));
    }
    check_text(name, field, 1..=4 * NAME_CHARS_MAX)
}

pub(super) fn check_text(
    text: &str,
    field: &str,
    bytes: std::ops::RangeInclusive<usize>,
) -> Result<(), ApiError> {
    if !bytes.contains(&text.len()) {
        let (least, most) = (bytes.start(), bytes.end());
        let message = format!(
            "`{field}` must be {least} to {most} bytes, not {}",
            text.len()
        );
        return Err(invalid(message, field).hint("give a text of that length"));
    }
    if text.chars().any(is_unseen) {
        let message = format!("`{field}` has control characters or line breaks");
        return Err(invalid(message, field).hint("send plain text on one line"));
    }
    Ok(())
}

/// Controls, separators of lines, and what turns the direction of text. Joiners stay: some scripts
/// are not written without.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn unique<'a>(
    names: impl Iterator<Item = &'a str>,
    list: &str,
    field: &str,
) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            let place = format!("{list}[{index}].{field}");
            let message = format!("`{place}` is that of an earlier one");
            return Err(invalid(message, place).hint("give each one of its own"));
        }
    }
    Ok(())
}

pub(super) fn invalid(message: impl Into<String>, param: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message).param(param)
}
