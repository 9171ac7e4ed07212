//! Tools: from what may be called to what the model is told of it, and to the grammar that its calls
//! keep to; and from calls and results in a conversation to text that the model reads.

use std::collections::HashSet;
use std::fmt::Write as _;

use hob_api::ApiError;
use hob_api::chat::{Message, Role};
use hob_api::tools::{Tool, ToolCall, ToolChoice, ToolMode};
use hob_ipc::constraint::{CONSTRAINT_BYTES_MAX, Constraint};
use hob_ipc::message::ChatMessage;
use serde_json::{Map, Value, json};

use super::constraint::{self, check_bytes, check_depth};
use super::shape::{echo, invalid};
use crate::calls::{AFTER_ARGUMENTS, BEFORE_ARGUMENTS, BEFORE_NAME, BETWEEN};

/// Most tools of a request.
pub(super) const TOOLS_MAX: usize = 128;
/// Longest name of a tool in bytes, as `OpenAI` has it.
const NAME_BYTES_MAX: usize = 64;
/// Most calls of one answer.
const CALLS_MAX: usize = 8;

/// What a request's tools come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calling {
    /// What the model is told, for the end of its instructions.
    pub(super) instructions: String,
    /// What its answer must be.
    pub(super) constraint: Constraint,
}

/// What the tools come to; `None` if there are none, or none may be called.
///
/// # Errors
/// `invalid_request` or `invalid_schema`, naming the field.
pub(super) fn calling(
    tools: &[Tool],
    choice: Option<ToolChoice>,
    parallel: Option<bool>,
) -> Result<Option<Calling>, ApiError> {
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
        let schema = arguments(index, tool)?;
        callable.push((tool.function.name.as_str(), schema));
    }
    if let ToolChoice::Named(named) = &choice {
        let wanted = named.function.name.as_str();
        callable.retain(|(name, _)| *name == wanted);
        if callable.is_empty() {
            let message = format!("`tool_choice` names `{}`, which is no tool", echo(wanted));
            return Err(invalid(message)
                .hint("name one of `tools`")
                .param("tool_choice"));
        }
    }
    let may_talk = choice == ToolChoice::Mode(ToolMode::Auto);
    let grammar = grammar(&callable, may_talk, parallel.unwrap_or(true));
    check_bytes("tools", grammar.len(), CONSTRAINT_BYTES_MAX)?;
    Ok(Some(Calling {
        instructions: instructions(tools),
        constraint: Constraint::Lark(grammar),
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
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(invalid(format!(
                "`{field}` must be 1 to {NAME_BYTES_MAX} of A-Z, a-z, 0-9, _ and -"
            ))
            .hint("use another name")
            .param(field));
        }
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
    schema.insert("x-guidance".to_owned(), constraint::spacing());
    let schema = Value::Object(schema);
    check_depth(&field, &schema)?;
    Ok(schema)
}

/// Answers of a model that may also talk, and think before either: nothing is told from its beginning
/// but a call by its tag, and reasoning by its own. The tag that ends reasoning ends it for good, and
/// what is said behind it begins with no white space, so that no piece could be two things.
const MAY_TALK: &str = r"start: calls | TEXT | REASONING SPACE? (calls | SAID)
TEXT: /(.|\n)+/ & ~/<tool_call>(.|\n)*/ & ~/<think>(.|\n)*/
REASONING: /<think>(.|\n)*<\/think>/ & ~/(.|\n)*<\/think>(.|\n)+/
SPACE: /[ \t\r\n]+/
SAID: /[^ \t\r\n](.|\n)*/ & ~/<tool_call>(.|\n)*/ & ~/<think>(.|\n)*/
";

/// The grammar of answers: calls of these, and text if the model may also talk.
fn grammar(callable: &[(&str, Value)], may_talk: bool, parallel: bool) -> String {
    let quote = |text: &str| Value::from(text).to_string();
    let mut grammar = String::from(if may_talk { MAY_TALK } else { "start: calls\n" });
    let more = if parallel {
        format!(" ({} call){{0,{}}}", quote(BETWEEN), CALLS_MAX - 1)
    } else {
        String::new()
    };
    let alternatives: Vec<_> = (0..callable.len()).map(|at| format!("call_{at}")).collect();
    // Writing to a string does not fail.
    let _ = writeln!(grammar, "calls: call{more}");
    let _ = writeln!(
        grammar,
        "call: {} ({}) {}",
        quote(BEFORE_NAME),
        alternatives.join(" | "),
        quote(AFTER_ARGUMENTS)
    );
    for (at, (name, schema)) in callable.iter().enumerate() {
        let begins = quote(&format!("{name}{BEFORE_ARGUMENTS}"));
        let _ = writeln!(grammar, "call_{at}: {begins} arguments_{at}");
        let _ = writeln!(grammar, "arguments_{at}: %json {schema}");
    }
    grammar
}

/// What the model is told: the tools, one a line, and how to call them, in the tags that it will
/// write and that models which know tools were mostly trained with.
fn instructions(tools: &[Tool]) -> String {
    let mut text = String::from(
        "# Tools\n\nYou can call these functions. Each line describes one in JSON:\n<tools>\n",
    );
    for tool in tools {
        // hob-api's types always encode.
        text.push_str(&serde_json::to_string(tool).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(
        "</tools>\n\nTo call one, write its name and its arguments as JSON between these tags:\n",
    );
    text.push_str(&call("NAME", "{\"ARGUMENT\": \"VALUE\"}"));
    text
}

fn call(name: &str, arguments: &str) -> String {
    format!("{BEFORE_NAME}{name}{BEFORE_ARGUMENTS}{arguments}{AFTER_ARGUMENTS}")
}

/// Puts the instructions where the model looks for them: at the end of the first message, if that is
/// the system's, else before all.
pub(super) fn instruct(messages: &mut Vec<ChatMessage>, instructions: &str) {
    match messages.first_mut() {
        Some(first) if first.role == Role::System => {
            first.content.push_str("\n\n");
            first.content.push_str(instructions);
        }
        _ => messages.insert(
            0,
            ChatMessage {
                role: Role::System,
                content: instructions.to_owned(),
            },
        ),
    }
}

/// The messages as the model reads them: calls as it writes them, and their results as a message of
/// the user's, one for all that come together.
///
/// # Errors
/// `invalid_request`, naming the field.
pub(super) fn as_text(messages: Vec<Message>) -> Result<Vec<ChatMessage>, ApiError> {
    let mut known: HashSet<String> = HashSet::new();
    let mut texts: Vec<ChatMessage> = Vec::new();
    let mut after_result = false;
    for (index, message) in messages.into_iter().enumerate() {
        let field = |name: &str| format!("messages[{index}].{name}");
        check_fields(&message, &known, &field)?;
        let content = message.content.map(hob_api::chat::Content::into_text);
        let mut content = content.unwrap_or_default();
        for (at, called) in message.tool_calls.iter().flatten().enumerate() {
            known.insert(called.id.clone());
            check_call(called, &field(&format!("tool_calls[{at}]")))?;
            if !content.is_empty() {
                content.push_str(BETWEEN);
            }
            content.push_str(&call(&called.function.name, &called.function.arguments));
        }
        let is_result = message.role == Role::Tool;
        if is_result {
            content = format!("<tool_response>\n{content}\n</tool_response>");
        }
        match texts.last_mut() {
            Some(last) if is_result && after_result => {
                last.content.push('\n');
                last.content.push_str(&content);
            }
            _ => texts.push(ChatMessage {
                role: if is_result { Role::User } else { message.role },
                content,
            }),
        }
        after_result = is_result;
    }
    Ok(texts)
}

fn check_fields(
    message: &Message,
    known: &HashSet<String>,
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
        (Role::Tool, Some(id)) if known.contains(id) => Ok(()),
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

fn check_call(called: &ToolCall, field: &str) -> Result<(), ApiError> {
    let object = serde_json::from_str::<Map<String, Value>>(&called.function.arguments);
    if object.is_ok() {
        return Ok(());
    }
    let field = format!("{field}.function.arguments");
    Err(invalid(format!("`{field}` is no JSON object"))
        .hint("send the text of the arguments as it came")
        .param(field))
}
