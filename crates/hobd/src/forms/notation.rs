//! How arguments are written, and which schemas each notation can express.

use hob_api::tools::Function;
use serde_json::{Map, Value};

use super::{Notation, Parts};
use crate::request::{Called, Calling, Spoken, spacing};

/// Longest list or text whose bound a rule spells out; a longer one has no bound but the answer's.
const REPEATED_MAX: u64 = 4096;

/// The arguments of one tool, as a grammar has them.
#[derive(Debug)]
pub(super) enum Arguments {
    /// A JSON object of this schema.
    Json(Value),
    /// Each by its key, in this order.
    Keyed(Vec<Argument>),
}

/// One argument, or one field of an object.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) key: String,
    pub(super) required: bool,
    pub(super) shape: Shape,
}

/// What a value must be.
#[derive(Debug)]
pub(super) enum Shape {
    /// JSON of this schema.
    Json(Value),
    /// One of some words.
    Words(Vec<String>),
    /// One of some texts, between quotes.
    Texts(Vec<String>),
    /// Any text of so many characters, between quotes.
    Text { min: u64, max: Option<u64> },
    /// So many of the same.
    List {
        item: Box<Self>,
        min: u64,
        max: Option<u64>,
    },
    /// An object.
    Object(Vec<Argument>),
}

impl Arguments {
    /// Those of a schema; `None` if the notation can't express it.
    pub(super) fn of(notation: Notation, schema: &Value) -> Option<Self> {
        match notation {
            Notation::Json => Some(Self::Json(schema.clone())),
            Notation::Python | Notation::Gemma { .. } => {
                fields(notation, schema.as_object()?).map(Self::Keyed)
            }
        }
    }
}

/// Keywords that say nothing of a value.
const NOTES: [&str; 4] = ["title", "description", "default", "examples"];

/// Keywords of an object's schema that say nothing of its fields, or are looked at.
const OBJECT: [&str; 11] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "x-guidance",
    "strict",
];

/// The fields of an object's schema. Fields beyond those it names are not written.
fn fields(notation: Notation, schema: &Map<String, Value>) -> Option<Vec<Argument>> {
    if !schema.keys().all(|key| OBJECT.contains(&key.as_str())) {
        return None;
    }
    let required: Vec<&str> = match schema.get("required") {
        None => Vec::new(),
        Some(names) => {
            let names = names.as_array()?.iter().map(Value::as_str);
            names.collect::<Option<_>>()?
        }
    };
    let none = Map::new();
    let properties = match schema.get("properties") {
        None => &none,
        Some(properties) => properties.as_object()?,
    };
    if !required.iter().all(|name| properties.contains_key(*name)) {
        return None;
    }
    let fields = properties.iter().map(|(key, schema)| {
        Some(Argument {
            key: is_key(notation, key).then(|| key.clone())?,
            required: required.contains(&key.as_str()),
            shape: shape(notation, schema)?,
        })
    });
    fields.collect()
}

/// Whether the notation can have this key bare.
fn is_key(notation: Notation, key: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match notation {
        Notation::Json => true,
        Notation::Python => {
            key.chars().all(plain) && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        }
        Notation::Gemma { .. } => !key.is_empty() && key.chars().all(|c| plain(c) || c == '-'),
    }
}

fn shape(notation: Notation, schema: &Value) -> Option<Shape> {
    let kind = schema.get("type").and_then(Value::as_str);
    let fixed = ["enum", "const"]
        .iter()
        .any(|key| schema.get(*key).is_some());
    match (notation, kind) {
        (Notation::Gemma { .. }, Some("string")) => text(schema.as_object()?),
        (Notation::Gemma { .. }, Some("array")) => list(notation, schema.as_object()?),
        (Notation::Gemma { .. }, Some("object")) => {
            fields(notation, schema.as_object()?).map(Shape::Object)
        }
        (Notation::Gemma { .. }, Some("integer" | "number" | "boolean" | "null")) => json(schema),
        (Notation::Gemma { .. }, _) => None,
        (Notation::Python, Some("boolean")) if !fixed => Some(words(&["True", "False"])),
        (Notation::Python, Some("null")) if !fixed => Some(words(&["None"])),
        (Notation::Python | Notation::Json, _) => json(schema),
    }
}

fn words(words: &[&str]) -> Shape {
    Shape::Words(words.iter().map(ToString::to_string).collect())
}

/// A schema of its own: one that refers to its surroundings means nothing without them. What says
/// nothing of the value is left out, as grammars are bounded.
fn json(schema: &Value) -> Option<Shape> {
    let mut schema = schema.clone();
    if let Value::Object(schema) = &mut schema {
        schema.retain(|key, _| !NOTES.contains(&key.as_str()));
        let kind = schema.get("type").and_then(Value::as_str);
        if !matches!(kind, Some("string" | "integer" | "number" | "boolean")) {
            schema.insert("x-guidance".to_owned(), spacing());
        }
    }
    (!refers(&schema)).then_some(Shape::Json(schema))
}

fn refers(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key == "$ref" || refers(value)),
        Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

/// Whether a schema has only these keywords, and those that say nothing.
fn has_only(schema: &Map<String, Value>, keywords: &[&str]) -> bool {
    let known = |key: &str| key == "type" || NOTES.contains(&key) || keywords.contains(&key);
    schema.keys().all(|key| known(key))
}

fn text(schema: &Map<String, Value>) -> Option<Shape> {
    if !has_only(schema, &["enum", "const", "minLength", "maxLength"]) {
        return None;
    }
    let texts = match (schema.get("enum"), schema.get("const")) {
        (None, None) => {
            let (min, max) = bounds(schema, "minLength", "maxLength")?;
            return Some(Shape::Text { min, max });
        }
        (Some(Value::Array(texts)), None) => texts.clone(),
        (None, Some(text)) => vec![text.clone()],
        _ => return None,
    };
    let texts = texts.iter().map(|text| text.as_str().map(str::to_owned));
    texts.collect::<Option<Vec<_>>>().map(Shape::Texts)
}

fn list(notation: Notation, schema: &Map<String, Value>) -> Option<Shape> {
    if !has_only(schema, &["items", "minItems", "maxItems"]) {
        return None;
    }
    let (min, max) = bounds(schema, "minItems", "maxItems")?;
    Some(Shape::List {
        item: Box::new(shape(notation, schema.get("items")?)?),
        min,
        max,
    })
}

/// The bounds of how many there are. Large ones are for the form that leaves them to the engine.
fn bounds(schema: &Map<String, Value>, min: &str, max: &str) -> Option<(u64, Option<u64>)> {
    let bound = |key: &str| match schema.get(key) {
        None => Some(None),
        Some(bound) => bound.as_u64().filter(|b| *b <= REPEATED_MAX).map(Some),
    };
    let (min, max) = (bound(min)?.unwrap_or(0), bound(max)?);
    max.is_none_or(|max| min <= max).then_some((min, max))
}

/// Whether the earlier calls of a conversation can be written.
pub(super) fn tells(notation: Notation, calling: &Calling) -> bool {
    let calls = calling.spoken.iter().flat_map(|spoken| match spoken {
        Spoken::Calls { calls, .. } => calls.as_slice(),
        Spoken::Words { .. } | Spoken::Result { .. } => &[],
    });
    calls
        .flat_map(|called| called.arguments.keys())
        .all(|key| is_key(notation, key))
}

/// Writes the arguments of an earlier call.
pub(super) fn write_arguments(notation: Notation, called: &Called, parts: &mut Parts) {
    if notation == Notation::Json {
        // As it came: that is what the model wrote.
        return parts.text(&called.text);
    }
    for (at, (key, value)) in called.arguments.iter().enumerate() {
        if at > 0 {
            parts.text(separator(notation));
        }
        parts.text(key);
        parts.text(assign(notation));
        write(notation, value, parts);
    }
}

/// What is between a key and its value.
pub(super) fn assign(notation: Notation) -> &'static str {
    match notation {
        Notation::Json | Notation::Python => "=",
        Notation::Gemma { .. } => ":",
    }
}

/// What is between two arguments.
pub(super) fn separator(notation: Notation) -> &'static str {
    match notation {
        Notation::Json | Notation::Python => ", ",
        Notation::Gemma { .. } => ",",
    }
}

/// Writes a value.
pub(super) fn write(notation: Notation, value: &Value, parts: &mut Parts) {
    match (notation, value) {
        (Notation::Gemma { quote }, Value::String(text)) => {
            parts.mark(quote);
            parts.text(text);
            parts.mark(quote);
        }
        (Notation::Gemma { .. }, Value::Array(items)) => {
            parts.text("[");
            for (at, item) in items.iter().enumerate() {
                parts.text(if at > 0 { "," } else { "" });
                write(notation, item, parts);
            }
            parts.text("]");
        }
        (Notation::Gemma { .. }, Value::Object(fields)) => {
            parts.text("{");
            for (at, (key, value)) in fields.iter().enumerate() {
                parts.text(if at > 0 { "," } else { "" });
                parts.text(key);
                parts.text(":");
                write(notation, value, parts);
            }
            parts.text("}");
        }
        (Notation::Python, Value::Bool(true)) => parts.text("True"),
        (Notation::Python, Value::Bool(false)) => parts.text("False"),
        (Notation::Python, Value::Null) => parts.text("None"),
        (_, value) => parts.text(&spaced(value)),
    }
}

/// JSON with a space behind commas and colons, as grammars have it.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(spaced).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), spaced(value))
            };
            let fields: Vec<_> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// Declares a function, its keywords in the order of the alphabet, as Gemma's templates have them.
pub(super) fn declare(notation: Notation, function: &Function, parts: &mut Parts) {
    parts.text(&format!("declaration:{}{{description:", function.name));
    let description = function.description.as_deref().unwrap_or_default();
    write(notation, &description.into(), parts);
    if let Some(parameters) = &function.parameters {
        parts.text(",parameters:");
        declare_schema(notation, parameters, parts);
    }
    parts.text("}");
}

fn declare_schema(notation: Notation, schema: &Value, parts: &mut Parts) {
    let Value::Object(schema) = schema else {
        return write(notation, schema, parts);
    };
    let mut keywords: Vec<_> = schema.iter().collect();
    // What callers' libraries say for others than the model.
    keywords.retain(|(key, _)| !["additionalProperties", "$schema"].contains(&key.as_str()));
    keywords.sort_by_key(|(key, _)| key.as_str());
    parts.text("{");
    for (at, (key, value)) in keywords.into_iter().enumerate() {
        parts.text(if at > 0 { "," } else { "" });
        parts.text(&format!("{key}:"));
        match (key.as_str(), value) {
            ("type", Value::String(kind)) => write(notation, &kind.to_uppercase().into(), parts),
            ("properties", Value::Object(properties)) => {
                parts.text("{");
                for (at, (name, schema)) in properties.iter().enumerate() {
                    parts.text(if at > 0 { "," } else { "" });
                    parts.text(&format!("{name}:"));
                    declare_schema(notation, schema, parts);
                }
                parts.text("}");
            }
            (_, Value::Object(_)) => declare_schema(notation, value, parts),
            (_, value) => write(notation, value, parts),
        }
    }
    parts.text("}");
}
