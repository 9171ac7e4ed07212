//! What an answer must be: `OpenAI`'s `response_format`, and hob's own `grammar` and `regex`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `OpenAI`'s `response_format`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema allows.
    JsonSchema {
        /// The schema, and what it is called.
        json_schema: NamedSchema,
    },
}

/// A schema with its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSchema {
    /// What it is called; not shown to the model.
    pub name: String,
    /// What it is for; not shown to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A JSON Schema. Fields are written in its order, a space after each comma and colon.
    pub schema: Value,
    /// Accepted and not looked at: every answer keeps to its schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

impl ResponseFormat {
    /// JSON that `schema` allows.
    pub fn schema(schema: Value) -> Self {
        Self::JsonSchema {
            json_schema: NamedSchema {
                name: "answer".to_owned(),
                description: None,
                schema,
                strict: Some(true),
            },
        }
    }
}

/// What an answer must be, alike in chat and text completion. At most one is given; none means any
/// text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FormFields {
    /// JSON; in text completion, hob's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// hob's own: a grammar in the variant of Lark that llguidance reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<String>,
    /// hob's own: a regular expression that matches the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}
