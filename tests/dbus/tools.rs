//! Tools over the bus: calls as events, results as messages.

use hob_api::Event;
use hob_api::event::FinishReason;
use hob_e2e::Setup;
use serde_json::{Value, json};
use zbus::Variant;

use crate::caller::{self, Caller, Options, name_and_text};
use crate::{nothing_active, repeatable};

const QUESTION: &str = "Turn on the light in the kitchen.";

fn tools() -> String {
    let parameters = json!({
        "type": "object",
        "properties": {"room": {"type": "string", "enum": ["kitchen", "office"]}},
        "required": ["room"],
    });
    let function = json!({"name": "turn_on", "parameters": parameters});
    json!([{"type": "function", "function": function}]).to_string()
}

fn options(choice: &'static str, format: &'static str) -> Options<'static> {
    let mut options = repeatable();
    options.extend([
        ("tools", Variant::from(tools())),
        ("tool_choice", Variant::from(choice)),
        ("parallel_tool_calls", Variant::from(false)),
        ("format", Variant::from(format)),
        ("max_tokens", Variant::from(64_u32)),
    ]);
    options
}

/// The one call of an answer: its id, its tool and its arguments.
fn call(events: &[Event]) -> (String, String, Value) {
    let mut made = None;
    let mut arguments = String::new();
    for event in events {
        match event {
            Event::ToolCall { index, id, name } => {
                assert_eq!((*index, made.is_none()), (0, true));
                made = Some((id.clone(), name.clone()));
            }
            Event::ToolArguments { text, .. } => arguments.push_str(text),
            Event::Delta { text } => panic!("words: {text}"),
            _ => {}
        }
    }
    let (id, name) = made.expect("a call");
    (id, name, serde_json::from_str(&arguments).unwrap())
}

#[tokio::test]
async fn a_call_comes_as_events_and_its_result_goes_back() {
    let daemon = Setup::real().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    let capabilities = assistant.capabilities().await.unwrap();
    assert!(
        capabilities.contains(&"tools".to_owned()),
        "{capabilities:?}"
    );
    let question = || ("user", Options::from([("content", QUESTION.into())]));
    for choice in ["required", "turn_on"] {
        let options = options(choice, "events");
        let (_, fd) = assistant.complete(&[question()], options).await.unwrap();
        let events = caller::read_events(fd).await;
        let (id, name, arguments) = call(&events);
        assert_eq!(name, "turn_on");
        assert!(["kitchen", "office"].contains(&arguments["room"].as_str().unwrap()));
        let Some(Event::Done(done)) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!(done.reason, FinishReason::ToolCalls);
        let function = json!({"name": name, "arguments": arguments.to_string()});
        let calls = json!([{"id": id, "type": "function", "function": function}]);
        let messages = [
            question(),
            (
                "assistant",
                Options::from([("tool_calls", calls.to_string().into())]),
            ),
            (
                "tool",
                Options::from([("tool_call_id", id.into()), ("content", "done".into())]),
            ),
        ];
        let (_, fd) = assistant.complete(&messages, repeatable()).await.unwrap();
        let text = caller::read_text(fd).await;
        assert!(text.chars().any(char::is_alphabetic), "{text:?}");
    }
    nothing_active(&daemon).await;
}

#[tokio::test]
async fn what_tools_can_not_be_is_refused_before_anything_is_asked() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    let messages = [("user", Options::from([("content", QUESTION.into())]))];
    let unknown = options("turn_off", "events");
    let text = options("auto", "text");
    let twice = {
        let mut options = options("auto", "events");
        options.insert("response_schema", "{}".into());
        options
    };
    let nonsense = Options::from([("tools", "7".into()), ("format", "events".into())]);
    for (options, part) in [
        (unknown, "turn_off"),
        (text, "`format`"),
        (twice, "`tools`"),
        (nonsense, "`tools`"),
    ] {
        let refused = assistant.complete(&messages, options).await.unwrap_err();
        let (name, text) = name_and_text(&refused);
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs", "{text}");
        assert!(text.contains(part), "no {part} in {text}");
    }
    // A result needs its call.
    let stray = [(
        "tool",
        Options::from([("tool_call_id", "a".into()), ("content", "done".into())]),
    )];
    let refused = assistant
        .complete(&stray, Options::new())
        .await
        .unwrap_err();
    assert!(name_and_text(&refused).1.contains("tool_call_id"));
    // Pins and conversations have words alone.
    let calls =
        r#"[{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]"#;
    let made = [("assistant", Options::from([("tool_calls", calls.into())]))];
    let pinned = assistant.pin_prefix("p", &made, Options::new()).await;
    let (name, text) = name_and_text(&pinned.unwrap_err());
    assert_eq!(name, "org.freedesktop.DBus.Error.NotSupported", "{text}");
    let conversation = assistant.ask(QUESTION, options("auto", "events")).await;
    assert!(
        name_and_text(&conversation.unwrap_err())
            .1
            .contains("unknown option")
    );
    nothing_active(&daemon).await;
}
