//! Which fields the two requests have: those that hob reads, and those of `OpenAI`'s that it
//! accepts only where they change nothing, so that clients which always send them work.

use serde_json::{Value, json};

use super::shape::{Field, Fields, Shape, optional, required};

const TOKENS: Shape = Shape::Integer(1, u32::MAX as i64);
const MILLISECONDS: Shape = Shape::Integer(1, i64::MAX);

const CLASSES: &[&str] = &["voice", "chat", "batch"];

const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool"];

/// Text parts alone; an image or a sound is refused by its `type`.
const PART: Shape = Shape::Object(&[
    required("type", Shape::Only("text")),
    required("text", Shape::Text),
    optional("image_url", Shape::NoEffectIf(never)),
    optional("input_audio", Shape::NoEffectIf(never)),
    optional("file", Shape::NoEffectIf(never)),
    optional("refusal", Shape::NoEffectIf(never)),
]);

const MESSAGE: Shape = Shape::Object(&[
    optional("tool_call_id", Shape::Text),
    // Clients send an earlier answer back as they got it, empty fields and all.
    optional("tool_calls", Shape::List(&TOOL_CALL)),
    optional("function_call", Shape::NoEffectIf(never)),
    optional("annotations", Shape::NoEffectIf(is_empty)),
    optional("audio", Shape::NoEffectIf(never)),
    optional("refusal", Shape::NoEffectIf(never)),
    // Models are trained to forget what they thought before earlier answers.
    optional("reasoning_content", Shape::Ignored),
    required("role", Shape::Word(ROLES)),
    optional("content", Shape::TextOrList(&PART)),
    optional("name", Shape::Text),
]);

const TOOL_CALL: Shape = Shape::Object(&[
    required("id", Shape::Text),
    required("type", Shape::Only("function")),
    required(
        "function",
        Shape::Object(&[
            required("name", Shape::Text),
            required("arguments", Shape::Text),
        ]),
    ),
    // Clients send a streamed call back with its place in the stream.
    optional("index", Shape::Ignored),
]);

const TOOL: Shape = Shape::Object(&[
    required("type", Shape::Only("function")),
    required(
        "function",
        Shape::Object(&[
            required("name", Shape::Text),
            optional("description", Shape::Text),
            optional(
                "parameters",
                Shape::Where(Value::is_object, "a JSON Schema of an object"),
            ),
            optional("strict", Shape::Bool),
        ]),
    ),
]);

/// Tools and calls of a door that has no body for them.
pub(super) static TOOLS: Fields = &[&[required("tools", Shape::List(&TOOL))]];
pub(super) static CALLS: Fields = &[&[required("tool_calls", Shape::List(&TOOL_CALL))]];

const CHOICE: &str =
    "\"none\", \"auto\", \"required\" or an object with `type` and the `function`'s `name`";

/// A word, or the one function to call.
fn is_choice(value: &Value) -> bool {
    let named = || value["type"] == json!("function") && value["function"]["name"].is_string();
    matches!(value.as_str(), Some("none" | "auto" | "required")) || named()
}

const STREAM_OPTIONS: Shape = Shape::Object(&[
    optional("include_usage", Shape::Bool),
    optional("include_obfuscation", Shape::Bool),
]);

const RESPONSE_FORMAT: Shape = Shape::Object(&[
    required("type", Shape::Word(&["text", "json_object", "json_schema"])),
    optional("json_schema", JSON_SCHEMA),
]);

const JSON_SCHEMA: Shape = Shape::Object(&[
    required("name", Shape::Text),
    required(
        "schema",
        Shape::Where(is_schema, "a JSON Schema: an object, or true or false"),
    ),
    optional("description", Shape::Text),
    optional("strict", Shape::Bool),
]);

fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

/// What both requests have.
const COMMON: &[Field] = &[
    optional("model", Shape::Text),
    optional("stream", Shape::Bool),
    optional("stream_options", STREAM_OPTIONS),
    optional("max_tokens", TOKENS),
    optional("stop", Shape::TextOrList(&Shape::Text)),
    optional("temperature", Shape::Number),
    optional("top_p", Shape::Number),
    optional("top_k", Shape::Integer(0, 1000)),
    optional("min_p", Shape::Number),
    optional("frequency_penalty", Shape::Number),
    optional("presence_penalty", Shape::Number),
    optional("repeat_penalty", Shape::Number),
    optional("seed", Shape::Integer(i64::MIN, i64::MAX)),
    optional("timeout_ms", MILLISECONDS),
    optional("class", Shape::Word(CLASSES)),
    optional("cache_prompt", Shape::Bool),
    optional("keep_alive_ms", Shape::Integer(0, i64::MAX)),
    optional("speculative", Shape::Bool),
    optional("response_format", RESPONSE_FORMAT),
    optional("grammar", Shape::Text),
    optional("regex", Shape::Text),
    optional("user", Shape::Ignored),
    optional("n", Shape::NoEffectIf(is_one)),
    optional("logit_bias", Shape::NoEffectIf(is_empty)),
];

/// `POST /v1/chat/completions`.
pub(super) static CHAT: Fields = &[CHAT_ALONE, COMMON];

const CHAT_ALONE: &[Field] = &[
    required("messages", Shape::List(&MESSAGE)),
    optional("max_completion_tokens", TOKENS),
    optional("conversation", Shape::Text),
    optional("truncate", Shape::Word(&["never", "oldest"])),
    // Labels for a remote operator; nothing leaves this machine.
    optional("metadata", Shape::Ignored),
    optional("safety_identifier", Shape::Ignored),
    optional("prompt_cache_key", Shape::Ignored),
    optional("prompt_cache_retention", Shape::Ignored),
    optional("service_tier", Shape::Ignored),
    optional("parallel_tool_calls", Shape::Bool),
    optional("store", Shape::NoEffectIf(is_false)),
    optional("logprobs", Shape::NoEffectIf(is_false)),
    optional("top_logprobs", Shape::NoEffectIf(is_zero)),
    optional("tools", Shape::List(&TOOL)),
    optional("tool_choice", Shape::Where(is_choice, CHOICE)),
    optional("functions", Shape::NoEffectIf(is_empty)),
    optional("function_call", Shape::NoEffectIf(is_none_or_auto)),
    optional("modalities", Shape::NoEffectIf(is_text_modality)),
    optional("audio", Shape::NoEffectIf(never)),
    optional("moderation", Shape::NoEffectIf(never)),
    optional("prediction", Shape::NoEffectIf(never)),
    optional("prompt_cache_options", Shape::NoEffectIf(never)),
    optional("reasoning_effort", Shape::Only("none")),
    optional(
        "chat_template_kwargs",
        Shape::Object(&[optional("enable_thinking", Shape::Bool)]),
    ),
    optional("verbosity", Shape::NoEffectIf(never)),
    optional("web_search_options", Shape::NoEffectIf(never)),
];

/// `POST /v1/completions`.
pub(super) static COMPLETION: Fields = &[COMPLETION_ALONE, COMMON];

const COMPLETION_ALONE: &[Field] = &[
    required("prompt", Shape::Text),
    optional("best_of", Shape::NoEffectIf(is_one)),
    optional("echo", Shape::NoEffectIf(is_false)),
    optional("logprobs", Shape::NoEffectIf(never)),
    optional("suffix", Shape::NoEffectIf(never)),
];

/// `POST /v1/embeddings`.
pub(super) static EMBEDDING: Fields = &[&[
    required("input", Shape::Where(is_input, INPUT)),
    optional("model", Shape::Text),
    optional("encoding_format", Shape::Word(&["float", "base64"])),
    optional("dimensions", TOKENS),
    optional("class", Shape::Word(CLASSES)),
    optional("timeout_ms", MILLISECONDS),
    optional("keep_alive_ms", Shape::Integer(0, i64::MAX)),
    optional("user", Shape::Ignored),
]];

const INPUT: &str = "text, a list of texts, a list of tokens, or a list of such lists";

fn is_input(value: &Value) -> bool {
    let token = |value: &Value| {
        value
            .as_i64()
            .is_some_and(|token| i32::try_from(token).is_ok_and(|token| token >= 0))
    };
    let tokens = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(token));
    match value {
        Value::String(_) => true,
        Value::Array(items) => {
            items.iter().all(Value::is_string) || tokens(value) || items.iter().all(tokens)
        }
        _ => false,
    }
}

/// `POST /v1/systemone`. What is no text is given to the model as JSON.
pub(super) static DECISION: Fields = &[&[
    required("state", MATTER),
    required(
        "questions",
        Shape::Where(Value::is_object, "an object of questions"),
    ),
    optional("model", Shape::Text),
    optional("images", Shape::NoEffectIf(is_empty)),
    optional("videos", Shape::NoEffectIf(is_empty)),
    optional("stream", Shape::NoEffectIf(is_false)),
    optional("class", Shape::Word(CLASSES)),
    optional("timeout_ms", MILLISECONDS),
    optional("cache_prompt", Shape::Bool),
    optional("keep_alive_ms", Shape::Integer(0, i64::MAX)),
    optional("user", Shape::Ignored),
]];

/// A question of type `choice`, or of none that there is.
pub(super) static CHOICE_QUESTION: Fields = &[
    QUESTION,
    &[required(
        "criteria",
        Shape::Where(Value::is_object, "an object of options"),
    )],
];

/// A question of type `score`.
pub(super) static SCORE_QUESTION: Fields = &[
    QUESTION,
    &[required(
        "criteria",
        Shape::Where(Value::is_array, "a list of levels"),
    )],
];

/// A question of type `noul`.
pub(super) static NOUL_QUESTION: Fields = &[
    QUESTION,
    &[optional(
        "criteria",
        Shape::Object(&[optional("true", MATTER), optional("false", MATTER)]),
    )],
];

const QUESTION: &[Field] = &[
    required("type", Shape::Word(&["choice", "score", "noul"])),
    required("instructions", MATTER),
];

const MATTER: Shape = Shape::Where(is_matter, "text, an object or a list");

fn is_matter(value: &Value) -> bool {
    value.is_string() || value.is_object() || value.is_array()
}

/// `POST /hob/v1/load`.
pub(super) static LOAD: Fields = &[&[required("model", Shape::Text)]];

/// `POST` and `PATCH /hob/v1/conversations`.
pub(super) static CONVERSATION: Fields = &[&[
    optional("name", Shape::Text),
    optional("system", Shape::Text),
]];

/// `PUT /hob/v1/pins/NAME`.
pub(super) static PIN: Fields = &[&[required("messages", Shape::List(&MESSAGE))]];

const EXAMPLE: Shape = Shape::Where(
    is_example,
    "text, or an object with `text` and perhaps `target`, both text",
);

const PROVIDER_TOOL: Shape = Shape::Object(&[
    required("name", Shape::Text),
    optional("description", Shape::Text),
    optional(
        "parameters",
        Shape::Where(Value::is_object, "an object: a JSON Schema"),
    ),
    optional("acts_on", ACTS_ON),
    optional("dangerous", Shape::Bool),
    optional("needs_confirmation", Shape::Bool),
    optional("examples", Shape::List(&EXAMPLE)),
]);

const ACTS_ON: Shape = Shape::Object(&[
    optional("kinds", Shape::List(&Shape::Text)),
    optional("capabilities", Shape::List(&Shape::Text)),
]);

const TARGET: Shape = Shape::Object(&[
    required("id", Shape::Text),
    required("name", Shape::Text),
    optional("aliases", Shape::List(&Shape::Text)),
    required("kind", Shape::Text),
    optional("area", Shape::Text),
    optional("floor", Shape::Text),
    optional("capabilities", Shape::List(&Shape::Text)),
    optional(
        "state",
        Shape::Where(
            is_state,
            "an object whose values are text, numbers, true or false",
        ),
    ),
]);

/// `PUT /hob/v1/providers/NAME`.
pub(super) static PROVIDER: Fields = &[&[
    required("tools", Shape::List(&PROVIDER_TOOL)),
    optional("targets", Shape::List(&TARGET)),
]];

/// `PATCH /hob/v1/providers/NAME/targets`.
pub(super) static TARGETS: Fields = &[&[
    optional("changed", Shape::List(&TARGET)),
    optional("removed", Shape::List(&Shape::Text)),
]];

const AIDS: &[&str] = &[
    "examples",
    "learned",
    "rarity",
    "fuzzy",
    "lexicon",
    "kinds",
    "antonyms",
    "ordinals",
    "unexplained",
    "narrowing",
];

const READERS: &[&str] = &["words", "model"];

/// `POST /hob/v1/home`.
pub(super) static HOME: Fields = &[&[
    required("text", Shape::Text),
    optional("provider", Shape::Text),
    optional("area", Shape::Text),
    optional("reader", Shape::Word(READERS)),
    optional("without", Shape::List(&Shape::Word(AIDS))),
    optional("min_probability", Shape::Number),
    optional("execute", Shape::Bool),
    optional("device", Shape::Text),
    optional("language", Shape::Word(&["en", "de"])),
    optional("rounds", Shape::Integer(0, u32::MAX as i64)),
    optional("follow_ups", Shape::Integer(0, u32::MAX as i64)),
    optional("timeout_ms", Shape::Integer(0, i64::MAX)),
]];

fn is_example(value: &Value) -> bool {
    let fields = |fields: &serde_json::Map<String, Value>| {
        let known = |(name, value): (&String, &Value)| {
            matches!(name.as_str(), "text" | "target") && value.is_string()
        };
        fields.contains_key("text") && fields.iter().all(known)
    };
    value.is_string() || value.as_object().is_some_and(fields)
}

fn is_state(value: &Value) -> bool {
    let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    value
        .as_object()
        .is_some_and(|fields| fields.values().all(plain))
}

/// `null` alone has no effect, and that was dropped already.
fn never(_: &Value) -> bool {
    false
}

fn is_false(value: &Value) -> bool {
    *value == json!(false)
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn is_none(value: &Value) -> bool {
    *value == json!("none")
}

/// Without tools, both leave the model to answer in text.
fn is_none_or_auto(value: &Value) -> bool {
    is_none(value) || *value == json!("auto")
}

fn is_text_modality(value: &Value) -> bool {
    *value == json!(["text"])
}
