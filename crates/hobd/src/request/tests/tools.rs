use super::*;
use crate::request::tools::TOOLS_MAX;

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {
        "name": name,
        "description": "Sets the <lights>.",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
    }})
}

fn with_tools(fields: &Value) -> Result<ValidRequest, ApiError> {
    let mut body = json!({
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [tool("set_lights"), tool("get_time")],
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    chat(&body.to_string())
}

fn calling(request: ValidRequest) -> Calling {
    match request.prompt {
        Asked::Calling(calling) => *calling,
        other @ Asked::Plain(_) => panic!("{other:?}"),
    }
}

fn tools(fields: &Value) -> Tools {
    calling(with_tools(fields).unwrap()).tools.unwrap()
}

fn names(tools: &Tools) -> Vec<&str> {
    tools.callable.iter().map(|t| t.name.as_str()).collect()
}

#[test]
fn tools_wait_for_the_model_that_is_told_of_them() {
    let request = with_tools(&json!({})).unwrap();
    assert_eq!(request.constraint, None);
    let calling = calling(request);
    assert_eq!(
        calling.spoken,
        [Spoken::Words {
            role: Role::User,
            text: "hi".to_owned()
        }]
    );
    let tools = calling.tools.unwrap();
    assert!(tools.may_talk && tools.parallel);
    assert_eq!(names(&tools), ["set_lights", "get_time"]);
    assert_eq!(tools.told.len(), 2);
    assert_eq!(
        tools.callable[0].schema["additionalProperties"],
        json!(false)
    );
}

#[test]
fn a_choice_narrows_what_the_answer_may_be() {
    let words = |fields| with_tools(&fields).unwrap().prompt;
    for fields in [json!({"tool_choice": "none"}), json!({"tools": []})] {
        assert!(matches!(words(fields), Asked::Plain(Prompt::Chat(_))));
    }
    assert!(!tools(&json!({"tool_choice": "required"})).may_talk);
    let named = json!({"type": "function", "function": {"name": "get_time"}});
    let several = json!({ "tool_choice": named, "parallel_tool_calls": true });
    assert!(tools(&several).parallel);
    let named = tools(&json!({ "tool_choice": named }));
    assert!(!named.parallel, "who names it reads one call");
    assert_eq!((names(&named), named.may_talk), (vec!["get_time"], false));
    assert_eq!(named.told.len(), 2);
    assert!(!tools(&json!({"parallel_tool_calls": false})).parallel);
}

#[test]
fn whether_to_think_is_said_in_either_way() {
    let thinking = |fields| with_tools(&fields).map(|request| request.thinking);
    let told = |value: Value| json!({"chat_template_kwargs": {"enable_thinking": value}});
    assert_eq!(thinking(json!({})).unwrap(), None);
    assert_eq!(thinking(told(json!(null))).unwrap(), None);
    assert_eq!(thinking(told(json!(false))).unwrap(), Some(false));
    assert_eq!(thinking(told(json!(true))).unwrap(), Some(true));
    let none = json!({"reasoning_effort": "none"});
    assert_eq!(thinking(none).unwrap(), Some(false));
    let mut both = told(json!(false));
    both["reasoning_effort"] = json!("none");
    assert_eq!(thinking(both.clone()).unwrap(), Some(false));
    both["chat_template_kwargs"]["enable_thinking"] = json!(true);
    let (invalid, effort) = (ErrorCode::InvalidRequest, Some("reasoning_effort"));
    assert_refused(thinking(both), invalid, effort, "enable_thinking");
    let field = "chat_template_kwargs.enable_thinking";
    assert_refused(thinking(told(json!("no"))), invalid, Some(field), "");
    let other = json!({"chat_template_kwargs": {"documents": []}});
    let field = "chat_template_kwargs.documents";
    assert_refused(thinking(other), invalid, Some(field), "");
}

#[test]
fn what_tools_can_not_be_is_named() {
    let invalid = ErrorCode::InvalidRequest;
    let named = |name: &str| json!({"tools": [tool(name)]});
    let parameters = |value: Value| {
        let mut tool = tool("a");
        tool["function"]["parameters"] = value;
        json!({ "tools": [tool] })
    };
    let many: Vec<_> = (0..=TOOLS_MAX).map(|n| tool(&format!("t{n}"))).collect();
    let name = "tools[0].function.name";
    let schema = "tools[0].function.parameters";
    let deep = (0..70).fold(json!({}), |inner, _| json!({"items": inner}));
    for (fields, code, param) in [
        (named(""), invalid, name),
        (named("a b"), invalid, name),
        (named("a\"b"), invalid, name),
        (named(&"x".repeat(65)), invalid, name),
        (
            json!({"tools": [tool("a"), tool("a")]}),
            invalid,
            "tools[1].function.name",
        ),
        (json!({ "tools": many }), invalid, "tools"),
        (parameters(json!({"type": "string"})), invalid, schema),
        (parameters(json!(7)), invalid, schema),
        (
            parameters(json!({"type": "object", "properties": {"a": deep}})),
            ErrorCode::InvalidSchema,
            schema,
        ),
        (
            parameters(json!({"type": "object", "title": "x".repeat(70_000)})),
            ErrorCode::InvalidSchema,
            "tools",
        ),
        (json!({"tool_choice": "always"}), invalid, "tool_choice"),
        (
            json!({"tools": [], "tool_choice": "required"}),
            invalid,
            "tool_choice",
        ),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "nothing"}}}),
            invalid,
            "tool_choice",
        ),
        (json!({"regex": "a"}), invalid, "tools"),
        (
            json!({"tools": [{"type": "web_search", "function": {"name": "a"}}]}),
            ErrorCode::Unsupported,
            "tools[0].type",
        ),
    ] {
        assert_refused(with_tools(&fields), code, Some(param), "");
    }
}

#[test]
fn calls_and_results_are_known_as_such() {
    let call = |id: &str, room: &str| {
        json!({"id": id, "type": "function", "function": {
            "name": "set_lights", "arguments": format!("{{\"room\": \"{room}\"}}"),
        }})
    };
    let body = json!({"messages": [
        {"role": "user", "content": "Light!"},
        {"role": "assistant", "content": null, "tool_calls": [call("a", "x"), call("b", "y")]},
        {"role": "tool", "tool_call_id": "a", "content": "done"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "failed"}]},
    ]});
    let calling = calling(chat(&body.to_string()).unwrap());
    assert_eq!(calling.tools, None);
    let called = |room: &str| Called {
        name: "set_lights".to_owned(),
        arguments: json!({ "room": room }).as_object().cloned().unwrap(),
        text: format!("{{\"room\": \"{room}\"}}"),
    };
    let result = |text: &str| Spoken::Result {
        tool: "set_lights".to_owned(),
        text: text.to_owned(),
    };
    let calls = Spoken::Calls {
        text: String::new(),
        calls: vec![called("x"), called("y")],
    };
    assert_eq!(
        calling.spoken[1..],
        [calls, result("done"), result("failed")]
    );
}

#[test]
fn no_calls_are_kept() {
    let unsupported = ErrorCode::Unsupported;
    let id = json!("0123456789abcdef0123456789abcdef");
    let with = with_tools(&json!({"conversation": id}));
    assert_refused(with, unsupported, Some("tools"), "keeps");
    let call = json!({"id": "a", "type": "function",
        "function": {"name": "f", "arguments": "{}"}});
    let messages = json!([
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "done"},
    ]);
    let kept = chat(&json!({"messages": messages, "conversation": id}).to_string());
    assert_refused(kept, unsupported, Some("messages"), "keeps");
    let pinned = parse_pin(json!({ "messages": messages }).to_string().as_bytes());
    let pinned = pinned.and_then(pin_messages);
    assert_refused(pinned, unsupported, Some("messages"), "pin");
}

#[test]
fn results_without_calls_and_calls_that_are_none_are_refused() {
    let invalid = ErrorCode::InvalidRequest;
    let call = |arguments: &str| {
        json!([{"id": "a", "type": "function",
            "function": {"name": "f", "arguments": arguments}}])
    };
    for (message, param) in [
        (json!({"role": "tool", "content": "x"}), "tool_call_id"),
        (
            json!({"role": "tool", "content": "x", "tool_call_id": "z"}),
            "tool_call_id",
        ),
        (
            json!({"role": "user", "content": "x", "tool_call_id": "z"}),
            "tool_call_id",
        ),
        (
            json!({"role": "user", "content": "x", "tool_calls": call("{}")}),
            "tool_calls",
        ),
        (
            json!({"role": "assistant", "tool_calls": call("no JSON")}),
            "tool_calls[0].function.arguments",
        ),
        (json!({"role": "assistant", "tool_calls": []}), "content"),
    ] {
        let param = format!("messages[0].{param}");
        assert_refused(chat_of(&json!([message])), invalid, Some(&param), "");
    }
}
