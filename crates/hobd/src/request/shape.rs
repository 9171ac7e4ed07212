//! The shape of a JSON body, checked before serde sees it.
//!
//! serde alone can't say which field of a flattened struct or an untagged enum is wrong, nor tell
//! a misspelt field from one that hob leaves out on purpose. A [`Shape`] can, and it drops what
//! means nothing (`null`, fields that are accepted without effect), so that what remains fits the
//! wire types.

use hob_api::{ApiError, ErrorCode};
use serde_json::{Map, Value};

/// Longest piece of the client's own text that an error repeats, in characters.
const ECHO_CHARS_MAX: usize = 48;
/// Below this similarity (Jaro-Winkler, 0 to 1) another field's name is no suggestion.
const SIMILAR_MIN: f64 = 0.8;

/// One field of an object. `null` counts as absent.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
}

/// An object's fields, in groups, so that objects can have some in common.
pub(super) type Fields = &'static [&'static [Field]];

/// What a value must be.
pub(super) enum Shape {
    Bool,
    /// A whole number within bounds.
    Integer(i64, i64),
    Number,
    Text,
    /// One of some words.
    Word(&'static [&'static str]),
    Object(&'static [Field]),
    List(&'static Shape),
    /// Text, or a list of something.
    TextOrList(&'static Shape),
    /// What passes the test, described in words.
    Where(fn(&Value) -> bool, &'static str),
    /// Accepted and dropped, whatever it is.
    Ignored,
    /// Accepted and dropped if the test holds, as it changes nothing then; refused otherwise.
    NoEffectIf(fn(&Value) -> bool),
    /// Accepted if the text is `only`; refused as unsupported otherwise.
    Only(&'static str),
}

/// A field that may be absent.
pub(super) const fn optional(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: false,
    }
}

/// A field that must be there.
pub(super) const fn required(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: true,
    }
}

/// `body` as an object with these fields, stripped of what has no effect.
pub(super) fn read(body: &[u8], fields: Fields) -> Result<Value, ApiError> {
    let mut value = parse(body)?;
    check(&mut value, fields)?;
    Ok(value)
}

/// `body` as JSON.
pub(super) fn parse(body: &[u8]) -> Result<Value, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(invalid("the request's body is empty").hint("send a JSON object"));
    }
    // The message gives line and column; a syntax error never repeats the text itself.
    serde_json::from_slice::<Value>(body).map_err(|error| {
        invalid(format!("the request's body is not valid JSON: {error}"))
            .hint("look for a missing quote, comma or bracket there")
    })
}

/// Checks that `value` is an object with these fields, and strips it of what has no effect.
pub(super) fn check(value: &mut Value, fields: Fields) -> Result<(), ApiError> {
    let Value::Object(object) = value else {
        return Err(invalid(format!(
            "the request's body must be a JSON object, not {}",
            kind(value)
        ))
        .hint("put the fields between braces"));
    };
    read_object(object, fields, "")
}

pub(super) fn read_object(
    object: &mut Map<String, Value>,
    fields: Fields,
    path: &str,
) -> Result<(), ApiError> {
    if let Some(unknown) = object
        .keys()
        .find(|key| all(fields).all(|field| field.name != **key))
    {
        return Err(unknown_field(unknown, fields, path));
    }
    for field in all(fields) {
        let path = join(path, field.name);
        let present = match object.get_mut(field.name) {
            None | Some(Value::Null) => false,
            Some(value) => read_value(value, &field.shape, &path)?,
        };
        if !present {
            object.remove(field.name);
            if field.required {
                return Err(invalid(format!("`{path}` is missing"))
                    .hint("add it: the request means nothing without")
                    .param(path));
            }
        }
    }
    Ok(())
}

fn all(fields: Fields) -> impl Iterator<Item = &'static Field> {
    fields.iter().copied().flatten()
}

/// Checks one value; `false` if it is to be dropped.
fn read_value(value: &mut Value, shape: &'static Shape, path: &str) -> Result<bool, ApiError> {
    match (shape, &mut *value) {
        (Shape::Bool, Value::Bool(_))
        | (Shape::Number, Value::Number(_))
        | (Shape::Text | Shape::TextOrList(_), Value::String(_)) => Ok(true),
        (&Shape::Integer(min, max), Value::Number(number)) => {
            match number.as_i64().filter(|found| (min..=max).contains(found)) {
                Some(_) => Ok(true),
                None => Err(wrong(value, shape, path)),
            }
        }
        (Shape::Word(words), Value::String(text)) if words.contains(&text.as_str()) => Ok(true),
        (Shape::Only(only), Value::String(text)) => {
            if text == only {
                return Ok(true);
            }
            Err(unsupported(path).hint(format!("only \"{only}\" is read")))
        }
        (Shape::Object(fields), Value::Object(object)) => {
            read_object(object, std::slice::from_ref(fields), path).map(|()| true)
        }
        (Shape::List(item) | Shape::TextOrList(item), Value::Array(items)) => {
            for (index, value) in items.iter_mut().enumerate() {
                // An item can't be dropped: the others would move.
                read_value(value, item, &format!("{path}[{index}]"))?;
            }
            Ok(true)
        }
        (Shape::Where(fits, _), value) if fits(value) => Ok(true),
        (Shape::Ignored, _) => Ok(false),
        (Shape::NoEffectIf(no_effect), value) if no_effect(value) => Ok(false),
        (Shape::NoEffectIf(_), _) => Err(unsupported(path).hint("leave it out")),
        (_, value) => Err(wrong(value, shape, path)),
    }
}

fn unknown_field(name: &str, fields: Fields, path: &str) -> ApiError {
    let path = join(path, &echo(name));
    let nearest = all(fields)
        .map(|field| (strsim::jaro_winkler(name, field.name), field.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity >= SIMILAR_MIN);
    let error = invalid(format!("`{path}` is not a known field")).param(path);
    match nearest {
        Some((_, nearest)) => error.hint(format!("did you mean `{nearest}`?")),
        None => error.hint("leave it out"),
    }
}

fn wrong(value: &Value, shape: &Shape, path: &str) -> ApiError {
    invalid(format!(
        "`{path}` must be {}, not {}",
        describe(shape),
        given(value)
    ))
    .hint(format!("give {}", describe(shape)))
    .param(path)
}

fn unsupported(path: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Unsupported,
        format!("`{path}` asks for something that this version of hob does not do"),
    )
    .param(path)
}

/// What the client sent, briefly; never more of its text than a word.
fn given(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::String(text) => format!("\"{}\"", echo(text)),
        other => kind(other).to_owned(),
    }
}

/// At most [`ECHO_CHARS_MAX`] characters of `text`, without control characters.
pub(crate) fn echo(text: &str) -> String {
    let mut short: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(ECHO_CHARS_MAX)
        .collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "true or false".to_owned(),
        &Shape::Integer(i64::MIN, i64::MAX) => "a whole number of 64 bits".to_owned(),
        Shape::Integer(min, max) => format!("a whole number from {min} to {max}"),
        Shape::Number => "a number".to_owned(),
        Shape::Text | Shape::Only(_) => "text".to_owned(),
        Shape::Word(words) => format!("one of {}", words.join(", ")),
        Shape::Object(_) => "an object".to_owned(),
        Shape::List(item) => format!("a list, each item {}", describe(item)),
        Shape::TextOrList(item) => format!("text, or a list, each item {}", describe(item)),
        Shape::Where(_, described) => (*described).to_owned(),
        Shape::Ignored | Shape::NoEffectIf(_) => "left out".to_owned(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}
