//! What an answer must be: from `response_format`, `grammar` and `regex` to one constraint within
//! bounds. Whether it means anything is for the engine to find out, in its sandbox.

use hob_api::format::{FormFields, ResponseFormat};
use hob_api::{ApiError, ErrorCode};
use hob_ipc::constraint::{CONSTRAINT_BYTES_MAX, Constraint};
use serde_json::{Value, json};

use super::check_no_nul;
use super::shape::invalid;

/// Most levels of a schema, each object and list one. They are read by recursion.
pub(super) const SCHEMA_DEPTH_MAX: usize = 64;
/// Most brackets that a grammar or an expression opens before it closes one, for the same reason.
pub(super) const BRACKETS_MAX: usize = 64;
/// Longest grammar of a client's own, in bytes: what it takes grows faster than its length.
pub(super) const GRAMMAR_BYTES_MAX: usize = 16 << 10;
/// Longest regular expression in bytes.
pub(super) const REGEX_BYTES_MAX: usize = 4 << 10;
const SCHEMA_FIELD: &str = "response_format.json_schema.schema";

/// The constraint that a request's fields name.
///
/// # Errors
/// `invalid_request` for two at once, `invalid_schema` for one out of bounds, naming the field.
pub(super) fn of(form: FormFields) -> Result<Option<Constraint>, ApiError> {
    let format = form.response_format;
    match (format, form.grammar, form.regex) {
        (None | Some(ResponseFormat::Text), None, None) => Ok(None),
        (Some(ResponseFormat::JsonObject), None, None) => Ok(Some(Constraint::JsonObject)),
        (Some(ResponseFormat::JsonSchema { json_schema }), None, None) => {
            schema(SCHEMA_FIELD, &json_schema.schema).map(Some)
        }
        (None | Some(ResponseFormat::Text), Some(grammar), None) => {
            check_text("grammar", &grammar, GRAMMAR_BYTES_MAX)?;
            Ok(Some(Constraint::Lark(grammar)))
        }
        (None | Some(ResponseFormat::Text), None, Some(regex)) => {
            check_text("regex", &regex, REGEX_BYTES_MAX)?;
            Ok(Some(Constraint::Regex(regex)))
        }
        _ => Err(twice()),
    }
}

/// A schema as text for the engine.
fn schema(field: &str, schema: &Value) -> Result<Constraint, ApiError> {
    check_depth(field, schema)?;
    let text = schema.to_string();
    check_bytes(field, text.len(), CONSTRAINT_BYTES_MAX)?;
    Ok(Constraint::JsonSchema(text))
}

pub(super) fn check_depth(field: &str, schema: &Value) -> Result<(), ApiError> {
    let depth = depth(schema);
    if depth <= SCHEMA_DEPTH_MAX {
        return Ok(());
    }
    let message = format!("`{field}` has {depth} levels, and may have {SCHEMA_DEPTH_MAX}");
    Err(refused(field, message).hint("describe inner objects under `$defs`, and refer to them"))
}

/// White space as the engine has it in JSON of its own accord, for schemas within a grammar.
pub(crate) fn spacing() -> Value {
    json!({"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false})
}

/// How many levels a value has: JSON that was parsed has a hundred or so at most.
fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

fn check_text(field: &str, text: &str, bytes_max: usize) -> Result<(), ApiError> {
    if text.is_empty() {
        let message = format!("`{field}` is empty");
        return Err(refused(field, message).hint("leave it out for any text"));
    }
    check_bytes(field, text.len(), bytes_max)?;
    check_no_nul(field, text)?;
    // Quoted brackets count, too: it is a bound, not a parser.
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    if most <= BRACKETS_MAX {
        return Ok(());
    }
    let message = format!("`{field}` has {most} open brackets, and may have {BRACKETS_MAX}");
    Err(refused(field, message).hint("give inner parts rules of their own, or use fewer groups"))
}

pub(super) fn check_bytes(field: &str, bytes: usize, bytes_max: usize) -> Result<(), ApiError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("`{field}` must be at most {bytes_max} bytes, not {bytes}");
    Err(refused(field, message).hint("use a shorter one"))
}

fn twice() -> ApiError {
    invalid("`response_format`, `grammar` and `regex` are given together")
        .hint("an answer can be one thing: give one of them")
        .param("response_format")
}

fn refused(field: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidSchema, message).param(field)
}
