//! Tools: the real engine and the real test model, through the Unix socket.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use hob_api::chat::{ChatChunk, ChatCompletion};
use hob_api::event::FinishReason;
use hob_api::tools::ToolCall;
use hob_api::{ApiError, ErrorCode};
use hob_e2e::{Client, Daemon, Setup, TEST_MODEL, altered, test_store};
use serde_json::{Value, json};

#[path = "tools/forms.rs"]
mod forms;
#[path = "tools/thinking.rs"]
mod thinking;

const CHAT: &str = "/v1/chat/completions";

fn tools() -> Value {
    json!([
        {"type": "function", "function": {
            "name": "set_light",
            "description": "Switches the light of a room on or off.",
            "parameters": {
                "type": "object",
                "properties": {
                    "room": {"type": "string", "enum": ["kitchen", "office", "bedroom"]},
                    "on": {"type": "boolean"},
                },
                "required": ["room", "on"],
            },
        }},
        {"type": "function", "function": {
            "name": "set_temperature",
            "description": "Sets the temperature of a room in degrees.",
            "parameters": {
                "type": "object",
                "properties": {
                    "room": {"type": "string", "enum": ["kitchen", "office", "bedroom"]},
                    "degrees": {"type": "integer", "minimum": 10, "maximum": 30},
                },
                "required": ["room", "degrees"],
                "additionalProperties": false,
            },
        }},
        {"type": "function", "function": {"name": "tell_time"}},
    ])
}

/// The real engine with the test model, which has another template and other names of some tokens.
async fn with_template(template: &str, tokens: &[(usize, &str)]) -> Daemon {
    let file = test_store().join(format!("{TEST_MODEL}.gguf"));
    let model = altered(&std::fs::read(file).unwrap(), template, tokens);
    let setup = Setup::empty().with_real_engine();
    let setup = setup.env("HOB_ENGINE_THREADS", "1");
    setup.install("altered", &model).ready().await
}

fn question(text: &str, fields: &Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": text}],
        "tools": tools(),
        "temperature": 0,
        "max_tokens": 200,
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

async fn ask(client: &Client, text: &str, fields: &Value) -> ChatCompletion {
    client.post(CHAT, &question(text, fields)).await.json()
}

fn calls(answer: &ChatCompletion) -> &[ToolCall] {
    answer.choices[0]
        .message
        .tool_calls
        .as_deref()
        .unwrap_or_default()
}

/// A call of one of the tools, with arguments that its schema allows.
fn assert_valid(call: &ToolCall) {
    let arguments: Value = serde_json::from_str(&call.function.arguments).expect("JSON");
    let fields = arguments.as_object().expect("an object");
    let room = || {
        ["kitchen", "office", "bedroom"]
            .map(Value::from)
            .contains(&fields["room"])
    };
    let valid = match call.function.name.as_str() {
        "set_light" => fields.len() == 2 && room() && fields["on"].is_boolean(),
        "set_temperature" => {
            let degrees = fields["degrees"].as_i64();
            fields.len() == 2 && room() && degrees.is_some_and(|d| (10..=30).contains(&d))
        }
        "tell_time" => fields.is_empty(),
        _ => false,
    };
    assert!(valid, "{call:?}");
}

#[tokio::test]
async fn calls_are_of_tools_that_exist_with_arguments_that_they_take() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    for text in [
        "Turn on the light in the kitchen.",
        "It is too cold in the office.",
        "What time is it?",
        "Write a poem about the sea.",
    ] {
        for seed in 0..3 {
            let fields = json!({"tool_choice": "required", "temperature": 1.2, "seed": seed});
            let answer = ask(&client, text, &fields).await;
            eprintln!("{text}: {:?}", calls(&answer));
            assert_eq!(answer.choices[0].finish_reason, FinishReason::ToolCalls);
            assert_eq!(answer.choices[0].message.content, None);
            assert!((1..=8).contains(&calls(&answer).len()));
            calls(&answer).iter().for_each(assert_valid);
            let usage = answer.usage;
            let passes = usage.completion_tokens_details.forward_passes;
            assert!(passes * 2 <= usage.completion_tokens, "{usage:?}");
        }
    }
    assert_eq!(daemon.status().await.engine_losses, 0);
}

#[tokio::test]
async fn a_choice_is_kept_to() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let named = json!({
        "tool_choice": {"type": "function", "function": {"name": "set_temperature"}},
        "parallel_tool_calls": false,
    });
    let answer = ask(&client, "Turn on the light in the kitchen.", &named).await;
    assert_eq!(calls(&answer).len(), 1);
    assert_eq!(calls(&answer)[0].function.name, "set_temperature");
    assert_valid(&calls(&answer)[0]);
    let none = json!({"tool_choice": "none", "max_tokens": 16});
    let answer = ask(&client, "Turn on the light in the kitchen.", &none).await;
    assert!(calls(&answer).is_empty());
    assert!(answer.choices[0].message.content.is_some());
    // The model may do either; what it does is whole.
    for text in ["Turn on the light in the kitchen.", "What is a dew point?"] {
        let answer = ask(&client, text, &json!({})).await;
        let message = &answer.choices[0].message;
        eprintln!("{text}: {message:?}");
        assert_ne!(message.content.is_some(), message.tool_calls.is_some());
        calls(&answer).iter().for_each(assert_valid);
    }
}

#[tokio::test]
async fn a_streamed_call_comes_in_pieces_that_make_the_whole() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let text = "Turn off the light in the bedroom.";
    let fields = json!({"tool_choice": "required", "parallel_tool_calls": false});
    let whole = ask(&client, text, &fields).await;
    let mut body = question(text, &fields);
    body["stream"] = json!(true);
    let mut stream = client.stream(CHAT, &body, "text/event-stream").await;
    let (mut name, mut arguments, mut ids, mut reason) = (None, String::new(), 0, None);
    while let Some(chunk) = stream.json::<ChatChunk>().await {
        for choice in chunk.choices {
            reason = choice.finish_reason.or(reason);
            assert!(choice.delta.content.unwrap_or_default().is_empty());
            for delta in choice.delta.tool_calls.into_iter().flatten() {
                assert_eq!(delta.index, 0);
                ids += usize::from(delta.id.is_some());
                name = delta.function.name.or(name);
                arguments.push_str(&delta.function.arguments.unwrap_or_default());
            }
        }
    }
    assert_eq!(reason, Some(FinishReason::ToolCalls));
    assert_eq!(ids, 1);
    let call = &calls(&whole)[0].function;
    assert_eq!(name.as_deref(), Some(call.name.as_str()));
    assert_eq!(arguments, call.arguments);
    let events = client.stream(CHAT, &body, "application/x-ndjson").await;
    let events = events.answer().await;
    assert_eq!(events.calls, [(call.name.clone(), call.arguments.clone())]);
    assert_eq!(events.done().reason, FinishReason::ToolCalls);
}

#[tokio::test]
async fn a_call_that_the_limit_cuts_says_so() {
    let daemon = Setup::real().ready().await;
    let fields = json!({"tool_choice": "required", "max_tokens": 12});
    let answer = ask(&daemon.client(), "Turn on the light.", &fields).await;
    assert_eq!(answer.choices[0].finish_reason, FinishReason::Length);
}

#[tokio::test]
async fn results_go_back_to_the_model_and_it_answers() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let text = "Turn on the light in the kitchen.";
    let first = ask(&client, text, &json!({"tool_choice": "required"})).await;
    let message = serde_json::to_value(&first.choices[0].message).expect("JSON");
    let mut messages = vec![json!({"role": "user", "content": text}), message];
    for call in calls(&first) {
        messages.push(json!({"role": "tool", "tool_call_id": call.id, "content": "done"}));
    }
    let fields = json!({"messages": messages, "tool_choice": "none", "max_tokens": 24});
    let second = ask(&client, text, &fields).await;
    assert!(second.choices[0].message.content.is_some());
    assert!(second.usage.prompt_tokens > 30, "{:?}", second.usage);
}

#[tokio::test]
async fn a_tool_that_can_not_be_called_is_refused() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let tool = |schema: Value| json!([{"type": "function", "function": {"name": "a", "parameters": schema}}]);
    for schema in [
        json!({"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]}),
        json!({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}, "required": ["a"]}),
    ] {
        let fields = json!({"tools": tool(schema), "tool_choice": "required"});
        let reply = client.post(CHAT, &question("Call it.", &fields)).await;
        let error: ApiError = reply.error(400, ErrorCode::InvalidSchema);
        eprintln!("{error}");
    }
}
