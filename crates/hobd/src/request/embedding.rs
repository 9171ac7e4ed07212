//! Requests for embeddings, checked.

use std::time::Duration;

use hob_api::ApiError;
use hob_api::chat::Class;
use hob_api::embedding::{EmbeddingRequest, Input};
use hob_ipc::embedding::{EmbedInput, INPUTS_MAX};

use super::shape::invalid;
use super::{
    Caller, bounded_keep_alive, bounded_model, bounded_timeout, check_no_nul, check_text_bytes,
    fields, parse,
};
use crate::settings::Limits;

/// A request for embeddings that is within all bounds that do not depend on the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidEmbedding {
    /// Who asks.
    pub caller: Caller,
    /// The model asked for; `None` for whichever is loaded.
    pub model: Option<String>,
    /// 1 to [`INPUTS_MAX`], none of them empty.
    pub inputs: Vec<EmbedInput>,
    /// Numbers of each embedding; `None` for as many as the model has.
    pub dimensions: Option<u32>,
    /// Until when all must be made, from now.
    pub timeout: Duration,
    /// How urgent it is.
    pub class: Class,
    /// How long the engine stays after it; `None` for the usual.
    pub keep_alive: Option<Duration>,
}

/// The body of `POST /v1/embeddings`.
///
/// # Errors
/// `invalid_request`, naming the field.
pub fn parse_embedding(body: &[u8]) -> Result<EmbeddingRequest, ApiError> {
    parse(body, fields::EMBEDDING)
}

impl ValidEmbedding {
    /// A request, checked.
    ///
    /// # Errors
    /// `invalid_request` if a field is out of bounds, naming it.
    pub fn new(
        request: EmbeddingRequest,
        caller: Caller,
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            caller,
            model: bounded_model(request.model)?,
            inputs: bounded_inputs(request.input)?,
            dimensions: request.dimensions,
            timeout: bounded_timeout(request.timeout_ms, limits)?,
            class: request.class.unwrap_or(Class::Batch),
            keep_alive: bounded_keep_alive(request.keep_alive_ms)?,
        })
    }
}

fn bounded_inputs(input: Input) -> Result<Vec<EmbedInput>, ApiError> {
    let inputs: Vec<EmbedInput> = match input {
        Input::Text(text) => vec![EmbedInput::Text(text)],
        // An empty list is one of texts, too.
        Input::Texts(texts) => texts.into_iter().map(EmbedInput::Text).collect(),
        Input::Tokens(tokens) => vec![EmbedInput::Tokens(tokens)],
        Input::TokenLists(lists) => lists.into_iter().map(EmbedInput::Tokens).collect(),
    };
    if !(1..=INPUTS_MAX).contains(&inputs.len()) {
        return Err(invalid(format!(
            "`input` must have 1 to {INPUTS_MAX} inputs, not {}",
            inputs.len()
        ))
        .hint("send at least one, and many in several requests")
        .param("input"));
    }
    let mut bytes = 0;
    for (index, input) in inputs.iter().enumerate() {
        let field = format!("input[{index}]");
        let empty = match input {
            EmbedInput::Text(text) => {
                bytes += text.len();
                check_no_nul(&field, text)?;
                text.is_empty()
            }
            EmbedInput::Tokens(tokens) => tokens.is_empty(),
        };
        if empty {
            return Err(invalid(format!("`{field}` is empty"))
                .hint("leave it out: nothing lies nowhere")
                .param(field));
        }
    }
    check_text_bytes("input", bytes)?;
    Ok(inputs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use hob_api::ErrorCode;
    use hob_api::embedding::EncodingFormat;
    use serde_json::{Value, json};

    fn valid(body: &Value) -> Result<ValidEmbedding, ApiError> {
        let request = parse_embedding(body.to_string().as_bytes())?;
        ValidEmbedding::new(request, Caller { uid: 7 }, &Limits::default())
    }

    #[test]
    fn every_way_to_give_inputs_is_read() {
        let text = |text: &str| EmbedInput::Text(text.to_owned());
        for (input, expected) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![EmbedInput::Tokens(vec![1, 2])]),
            (
                json!([[1], [2, 3]]),
                vec![EmbedInput::Tokens(vec![1]), EmbedInput::Tokens(vec![2, 3])],
            ),
        ] {
            let request = valid(&json!({"input": input, "user": "x", "model": "default"})).unwrap();
            assert_eq!(request.inputs, expected);
            assert_eq!((request.class, request.model), (Class::Batch, None));
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let long = vec!["x".repeat(600_000); 2];
        for (body, param) in [
            (json!({}), "input"),
            (json!({"input": ""}), "input[0]"),
            (json!({"input": []}), "input"),
            (json!({"input": vec!["a"; INPUTS_MAX + 1]}), "input"),
            (json!({"input": ["a", ""]}), "input[1]"),
            (json!({"input": [[1], []]}), "input[1]"),
            (json!({"input": ["a", 1]}), "input"),
            (json!({"input": [[1], "a"]}), "input"),
            (json!({"input": [-1]}), "input"),
            (json!({"input": [1.5]}), "input"),
            (json!({"input": [2_147_483_648_u32]}), "input"),
            (json!({"input": {"text": "a"}}), "input"),
            (json!({"input": ["a", "b\0"]}), "input[1]"),
            (json!({"input": long}), "input"),
            (
                json!({"input": "a", "encoding_format": "int8"}),
                "encoding_format",
            ),
            (json!({"input": "a", "dimensions": 0}), "dimensions"),
            (json!({"input": "a", "stream": true}), "stream"),
            (json!({"input": "a", "timeout_ms": 0}), "timeout_ms"),
        ] {
            let error = valid(&body).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{body}");
            assert_eq!(error.param.as_deref(), Some(param), "{error:?}");
            assert!(error.hint.is_some(), "{error:?}");
        }
    }

    #[test]
    fn the_rest_is_read() {
        let body = json!({"input": "a", "encoding_format": "base64", "dimensions": 3});
        let request = parse_embedding(body.to_string().as_bytes()).unwrap();
        assert_eq!(request.encoding_format, EncodingFormat::Base64);
        let body = json!({"input": "a", "class": "voice", "timeout_ms": 5, "dimensions": 3});
        let request = valid(&body).unwrap();
        assert_eq!(request.class, Class::Voice);
        assert_eq!(request.dimensions, Some(3));
        assert_eq!(request.timeout, Duration::from_millis(5));
    }
}
