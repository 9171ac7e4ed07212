//! Answers that must be something: the real engine and real models, through the Unix socket.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use hob_api::chat::{ChatChunk, ChatCompletion};
use hob_api::completion::Completion;
use hob_api::event::FinishReason;
use hob_api::{ApiError, ErrorCode};
use hob_e2e::{Client, Daemon, Setup, TEST_MODEL, patiently};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
/// A model of another kind: another vocabulary, of five times the size.
const OTHER_MODEL: &str = "gemma-3-270m";

/// A request for an answer that `schema` allows.
fn of_schema(schema: &Value, fields: &Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "Describe the living room of a house."}],
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": true, "schema": schema},
        },
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

fn room() -> Value {
    json!({
        "type": "object",
        "properties": {
            "temperature_of_the_living_room": {"type": "integer", "minimum": 10, "maximum": 30},
            "ceiling_lights_switched_on": {"type": "boolean"},
            "position_of_the_window_cover": {"enum": ["open", "closed", "half"]},
        },
        "required": [
            "temperature_of_the_living_room",
            "ceiling_lights_switched_on",
            "position_of_the_window_cover",
        ],
        "additionalProperties": false,
    })
}

fn content(answer: &ChatCompletion) -> &str {
    answer.choices[0]
        .message
        .content
        .as_deref()
        .unwrap_or_default()
}

fn assert_room(text: &str) {
    let room: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(
        room.as_object().map(serde_json::Map::len),
        Some(3),
        "{room}"
    );
    let temperature = room["temperature_of_the_living_room"].as_i64();
    assert!(
        temperature.is_some_and(|t| (10..=30).contains(&t)),
        "{room}"
    );
    assert!(room["ceiling_lights_switched_on"].is_boolean(), "{room}");
}

#[tokio::test]
async fn an_answer_keeps_to_its_schema_and_takes_few_steps() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let answer: ChatCompletion = client
        .post(CHAT, &of_schema(&room(), &json!({})))
        .await
        .json();
    assert_room(content(&answer));
    assert_eq!(answer.choices[0].finish_reason, FinishReason::Stop);
    let usage = answer.usage;
    let details = usage.completion_tokens_details;
    eprintln!("{usage:?}");
    assert!(
        details.forward_passes * 2 <= usage.completion_tokens,
        "{usage:?}"
    );
    assert!(details.forced_tokens > 0 && details.forced_tokens < usage.completion_tokens);

    let streamed = of_schema(&room(), &json!({"stream": true}));
    let mut stream = client.stream(CHAT, &streamed, "text/event-stream").await;
    let mut text = String::new();
    while let Some(chunk) = stream.json::<ChatChunk>().await {
        let choices = chunk.choices.into_iter();
        text.extend(choices.filter_map(|choice| choice.delta.content));
    }
    assert_eq!(text, content(&answer));
    let events = client.stream(CHAT, &streamed, "application/x-ndjson").await;
    assert_eq!(events.answer().await.text, content(&answer));
}

#[tokio::test]
async fn any_json_object_a_regular_expression_and_a_grammar() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let body = json!({
        "messages": [{"role": "user", "content": "Give the name and the age of a cat as JSON."}],
        "temperature": 0, "max_tokens": 300, "response_format": {"type": "json_object"},
    });
    let answer: ChatCompletion = client.post(CHAT, &body).await.json();
    if answer.choices[0].finish_reason == FinishReason::Stop {
        let value: Value = serde_json::from_str(content(&answer)).expect("JSON");
        assert!(value.is_object(), "{value}");
    } else {
        assert!(content(&answer).starts_with('{'), "{answer:?}");
    }
    let ask = async |fields: &Value| -> Completion {
        let mut body = json!({"prompt": "The time is ", "temperature": 1.5, "seed": 3});
        for (name, value) in fields.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        client.post(COMPLETIONS, &body).await.json()
    };
    let time = ask(&json!({"regex": "([01][0-9]|2[0-3]):[0-5][0-9]"})).await;
    let time = &time.choices[0].text;
    assert!(time.len() == 5 && time.as_bytes()[2] == b':', "{time}");
    let list = "start: item (\", \" item)~2 \".\"\nitem: \"noon\" | \"midnight\" | HOUR\nHOUR: /[1-9] o'clock/";
    let list = ask(&json!({"grammar": list})).await;
    let items = list.choices[0].text.strip_suffix('.').expect("an end");
    assert_eq!(items.split(", ").count(), 3, "{items}");
}

#[tokio::test]
async fn a_limit_cuts_the_answer_and_says_so() {
    let daemon = Setup::real().ready().await;
    let body = of_schema(&room(), &json!({"max_tokens": 6}));
    let answer: ChatCompletion = daemon.client().post(CHAT, &body).await.json();
    assert_eq!(answer.choices[0].finish_reason, FinishReason::Length);
    assert_eq!(answer.usage.completion_tokens, 6);
    assert!(content(&answer).starts_with("{\"temperature"), "{answer:?}");
}

/// What each random schema's answers and each random tool's calls must be is checked by a validator
/// that is not hob's.
async fn random_schemas(daemon: &Daemon, model: &str, (schemas, tools): (u32, u32)) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/structured_client.py");
    let mut command = daemon.command(&hob_e2e::python());
    command.arg(script).arg(daemon.socket()).arg(model);
    command.args([schemas.to_string(), tools.to_string(), "1".to_owned()]);
    let output = patiently(
        "the script",
        tokio::process::Command::from(command).output(),
    );
    let output = output.await.expect("running Python");
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(daemon.status().await.engine_losses, 0);
}

#[tokio::test]
async fn every_answer_to_a_random_schema_is_valid() {
    let daemon = Setup::real().ready().await;
    random_schemas(&daemon, TEST_MODEL, (40, 0)).await;
}

#[tokio::test]
async fn every_call_of_a_random_tool_is_valid() {
    let daemon = Setup::real().ready().await;
    random_schemas(&daemon, TEST_MODEL, (0, 6)).await;
}

#[tokio::test]
async fn the_same_with_another_vocabulary() {
    let daemon = Setup::real().ready().await;
    let load = json!({ "model": OTHER_MODEL });
    let loaded = daemon.client().post("/hob/v1/load", &load).await;
    assert!(loaded.status.is_success(), "{}", loaded.text());
    random_schemas(&daemon, OTHER_MODEL, (12, 0)).await;
}

/// Asks for each and gives the error, if it is one.
async fn refused(client: &Client, body: &Value) -> Option<ApiError> {
    let reply = client.post(CHAT, body).await;
    (!reply.status.is_success()).then(|| reply.any_error())
}

#[tokio::test]
async fn hostile_schemas_are_refused_while_another_answer_goes_on() {
    let daemon = Setup::real().toml("[engine]\nparallel = 2").ready().await;
    let client = daemon.client();
    let long = json!({"max_tokens": 1000, "temperature": 0});
    let mut bystander = client
        .ask_with("Tell me a long story about a sailor.", &long)
        .await;
    bystander.first_delta().await;
    let deep = (0..70).fold(
        json!({}),
        |inner, _| json!({"type": "array", "items": inner}),
    );
    // Each of them can't be, or takes more than a request may.
    let hostile = [
        json!({"enum": []}),
        json!({"type": "integer", "minimum": 5, "maximum": 3}),
        json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/none"}),
        json!({"$ref": "http://localhost/schema.json"}),
        json!({"type": "string", "pattern": "("}),
        json!({"no such keyword": 1, "type": 7}),
        json!({"type": "object", "required": ["a"], "properties": {"a": false}}),
        deep,
    ];
    for schema in hostile {
        let body = of_schema(&schema, &json!({"max_tokens": 20}));
        let begin: String = schema.to_string().chars().take(60).collect();
        let error = refused(&client, &body).await;
        let error = error.unwrap_or_else(|| panic!("{begin} was accepted"));
        assert_eq!(error.code, ErrorCode::InvalidSchema, "{begin}: {error}");
        assert!(error.hint.is_some(), "{begin}: {error}");
    }
    for (name, text) in [
        ("regex", "([a-z]{1,1000}){1,1000}("),
        ("grammar", "start: nothing"),
        ("grammar", "start: <|im_end|>"),
    ] {
        let body = json!({"messages": [{"role": "user", "content": "x"}], name: text});
        let error = refused(&client, &body).await.expect(text);
        assert_eq!(error.code, ErrorCode::InvalidSchema, "{text}: {error}");
    }
    // These can be, and are given up when they take too much.
    let words: Vec<_> = (0..3000)
        .map(|n| json!({"const": format!("word {n}")}))
        .collect();
    let fields = (0..2000).map(|n| (format!("p{n}"), json!({})));
    for schema in [
        json!({"type": "string", "pattern": "(a{1,1000000}){1,1000000}"}),
        json!({"type": "string", "minLength": 1_000_000}),
        json!({"properties": fields.collect::<serde_json::Map<_, _>>()}),
        json!({ "oneOf": words }),
    ] {
        let body = of_schema(&schema, &json!({"max_tokens": 20}));
        if let Some(error) = refused(&client, &body).await {
            assert_eq!(error.code, ErrorCode::InvalidSchema, "{error}");
        }
    }
    let story = bystander.answer().await;
    assert!(story.done().usage.completion_tokens > 50);
    assert_eq!(daemon.status().await.engine_losses, 0);
}
