//! Tools and calls in a request: checked, and in no model's form yet.

use std::collections::{HashMap, HashSet};

use hob_api::ApiError;
use hob_api::chat::{Message, Role};
use hob_api::tools::{Tool, ToolCall, ToolChoice, ToolMode};
use serde_json::{Map, Value, json};

use super::constraint::{check_depth, spacing};
use super::shape::{echo, invalid};

/// Most tools of a request.
pub(super) const TOOLS_MAX: usize = 128;
/// Longest name of a tool in bytes, as `OpenAI` has it.
const NAME_BYTES_MAX: usize = 64;

/// A conversation with calls in it, or in whose answer some may be made. What a model is given of it,
/// `crate::forms` says when it is known which one.
#[derive(Clone, Debug, PartialEq)]
pub struct Calling {
    /// What was said so far.
    pub spoken: Vec<Spoken>,
    /// What may be called.
    pub tools: Option<Tools>,
}

/// Tools of which one or more may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    /// What the model is told of.
    pub told: Vec<Tool>,
    /// What it may call of them; at least one.
    pub callable: Vec<Callable>,
    /// Whether it may answer in words instead.
    pub may_talk: bool,
    /// Whether it may make several calls at once.
    pub parallel: bool,
}

/// A tool that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Callable {
    /// 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// The schema of its arguments: an object's, with no fields but those that it names.
    pub schema: Value,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Spoken {
    /// Words.
    Words {
        /// Who says them.
        role: Role,
        /// The words.
        text: String,
    },
    /// Calls of the model's, behind words or none.
    Calls {
        /// The words.
        text: String,
        /// The calls; at least one.
        calls: Vec<Called>,
    },
    /// The result of a call.
    Result {
        /// The tool that was called.
        tool: String,
        /// What came of it.
        text: String,
    },
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// The same as they were written.
    pub text: String,
}

/// The tools, checked; `None` if there are none, or none may be called.
///
/// # Errors
/// `invalid_request` or `invalid_schema`, naming the field.
pub(super) fn checked(
    tools: &[Tool],
    choice: Option<ToolChoice>,
    parallel: Option<bool>,
) -> Result<Option<Tools>, ApiError> {
    let choice = choice.unwrap_or(ToolChoice::Mode(ToolMode::Auto));
    if choice == ToolChoice::Mode(ToolMode::None) {
        return Ok(None);
    }
    if tools.is_empty() {
        return match choice {
            ToolChoice::Mode(ToolMode::Auto) => Ok(None),
            _ => Err(
                invalid("`tool_choice` wants a call, and there are no `tools`")
                    .hint("give the tools that may be called")
                    .param("tool_choice"),
            ),
        };
    }
    check_names(tools)?;
    let mut callable = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        callable.push(Callable {
            name: tool.function.name.clone(),
            schema: arguments(index, tool)?,
        });
    }
    if let ToolChoice::Named(named) = &choice {
        let wanted = named.function.name.as_str();
        callable.retain(|tool| tool.name == wanted);
        if callable.is_empty() {
            let message = format!("`tool_choice` names `{}`, which is no tool", echo(wanted));
            return Err(invalid(message)
                .hint("name one of `tools`")
                .param("tool_choice"));
        }
    }
    Ok(Some(Tools {
        told: tools.to_vec(),
        callable,
        may_talk: choice == ToolChoice::Mode(ToolMode::Auto),
        // Who names the tool reads one call.
        parallel: parallel.unwrap_or(!matches!(choice, ToolChoice::Named(_))),
    }))
}

fn check_names(tools: &[Tool]) -> Result<(), ApiError> {
    if tools.len() > TOOLS_MAX {
        let message = format!("`tools` must be at most {TOOLS_MAX}, not {}", tools.len());
        return Err(invalid(message)
            .hint("leave out what this question can't need")
            .param("tools"));
    }
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let name = &tool.function.name;
        let field = format!("tools[{index}].function.name");
        check_name(name, &field)?;
        if !names.insert(name) {
            return Err(
                invalid(format!("`{field}` is the name of another tool, too"))
                    .hint("give each tool a name of its own")
                    .param(field),
            );
        }
    }
    Ok(())
}

fn check_name(name: &str, field: &str) -> Result<(), ApiError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let message = format!("`{field}` must be 1 to {NAME_BYTES_MAX} of A-Z, a-z, 0-9, _ and -");
    Err(invalid(message).hint("use another name").param(field))
}

/// The schema of a tool's arguments: an object, with no fields but those that it names.
fn arguments(index: usize, tool: &Tool) -> Result<Value, ApiError> {
    let field = format!("tools[{index}].function.parameters");
    let mut schema = match tool.function.parameters.clone() {
        None => Map::new(),
        Some(Value::Object(schema)) => schema,
        Some(_) => Map::from_iter([("type".to_owned(), Value::Null)]),
    };
    let kind = schema.entry("type").or_insert_with(|| json!("object"));
    if *kind != json!("object") {
        return Err(
            invalid(format!("`{field}` must be the schema of an object"))
                .hint("give it `\"type\": \"object\"`, and `properties`")
                .param(field),
        );
    }
    // Beside these it would forbid what they define.
    let combined = ["$ref", "allOf", "anyOf", "oneOf"];
    if !combined.iter().any(|key| schema.contains_key(*key)) {
        schema
            .entry("additionalProperties")
            .or_insert(Value::Bool(false));
    }
    schema.insert("x-guidance".to_owned(), spacing());
    let schema = Value::Object(schema);
    check_depth(&field, &schema)?;
    Ok(schema)
}

/// The messages with their calls and results.
///
/// # Errors
/// `invalid_request`, naming the field.
pub(super) fn spoken(messages: Vec<Message>) -> Result<Vec<Spoken>, ApiError> {
    // The tool of each call, by the call's id.
    let mut known: HashMap<String, String> = HashMap::new();
    let mut spoken = Vec::new();
    for (index, message) in messages.into_iter().enumerate() {
        let field = |name: &str| format!("messages[{index}].{name}");
        check_fields(&message, &known, &field)?;
        let text = message.content.map(hob_api::chat::Content::into_text);
        let text = text.unwrap_or_default();
        let mut calls = Vec::new();
        for (at, call) in message.tool_calls.into_iter().flatten().enumerate() {
            calls.push(called(&call, &field(&format!("tool_calls[{at}]")))?);
            known.insert(call.id, call.function.name);
        }
        let tool = message.tool_call_id.and_then(|id| known.get(&id).cloned());
        spoken.push(match (message.role, tool) {
            (Role::Tool, Some(tool)) => Spoken::Result { tool, text },
            _ if !calls.is_empty() => Spoken::Calls { text, calls },
            (role, _) => Spoken::Words { role, text },
        });
    }
    Ok(spoken)
}

fn check_fields(
    message: &Message,
    known: &HashMap<String, String>,
    field: &impl Fn(&str) -> String,
) -> Result<(), ApiError> {
    let calls = message.tool_calls.as_ref().is_some_and(|c| !c.is_empty());
    if message.content.is_none() && !calls {
        return Err(invalid(format!("`{}` is missing", field("content")))
            .hint("add it: the request means nothing without")
            .param(field("content")));
    }
    if calls && message.role != Role::Assistant {
        return Err(invalid(format!(
            "`{}` is in a message that is not the assistant's",
            field("tool_calls")
        ))
        .hint("calls are the assistant's; results have the role `tool`")
        .param(field("tool_calls")));
    }
    let id = message.tool_call_id.as_deref();
    match (message.role, id) {
        (Role::Tool, Some(id)) if known.contains_key(id) => Ok(()),
        (Role::Tool, _) => Err(invalid(format!(
            "`{}` names no call that was made before",
            field("tool_call_id")
        ))
        .hint("send the assistant's message with its calls, then each result with the call's id")
        .param(field("tool_call_id"))),
        (_, Some(_)) => Err(invalid(format!(
            "`{}` is in a message that is no tool's",
            field("tool_call_id")
        ))
        .hint("give the result of a call the role `tool`")
        .param(field("tool_call_id"))),
        (_, None) => Ok(()),
    }
}

fn called(call: &ToolCall, field: &str) -> Result<Called, ApiError> {
    check_name(&call.function.name, &format!("{field}.function.name"))?;
    let text = &call.function.arguments;
    let Ok(arguments) = serde_json::from_str::<Map<String, Value>>(text) else {
        let field = format!("{field}.function.arguments");
        return Err(invalid(format!("`{field}` is no JSON object"))
            .hint("send the text of the arguments as it came")
            .param(field));
    };
    Ok(Called {
        name: call.function.name.clone(),
        arguments,
        text: text.clone(),
    })
}
