use super::*;
use crate::request::tools::TOOLS_MAX;
use hob_ipc::constraint::Constraint;

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

fn grammar(request: &ValidRequest) -> &str {
    match &request.constraint {
        Some(Constraint::Lark(grammar)) => grammar,
        other => panic!("{other:?}"),
    }
}

fn messages(request: ValidRequest) -> Vec<ChatMessage> {
    match request.prompt {
        Prompt::Chat(messages) => messages,
        Prompt::Text(_) => unreachable!("a chat stays a chat"),
    }
}

#[test]
fn the_model_is_told_of_tools_and_its_answer_may_call_them() {
    let request = with_tools(&json!({})).unwrap();
    assert!(request.calls);
    assert!(grammar(&request).contains("TEXT"), "it may talk");
    for name in ["set_lights", "get_time"] {
        assert!(grammar(&request).contains(name));
    }
    let messages = messages(request);
    assert_eq!((messages[0].role, messages.len()), (Role::System, 2));
    assert!(messages[0].content.contains("Sets the <lights>."));
    let instructed = with_tools(&json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
    }));
    let messages = self::messages(instructed.unwrap());
    assert_eq!(messages.len(), 2);
    assert!(messages[0].content.starts_with("Be brief.\n\n# Tools"));
}

#[test]
fn a_choice_narrows_what_the_answer_may_be() {
    let none = with_tools(&json!({"tool_choice": "none"})).unwrap();
    assert_eq!((none.constraint, none.calls), (None, false));
    let required = with_tools(&json!({"tool_choice": "required"})).unwrap();
    assert!(!grammar(&required).contains("TEXT"));
    let named = json!({"type": "function", "function": {"name": "get_time"}});
    let named = with_tools(&json!({ "tool_choice": named })).unwrap();
    assert!(grammar(&named).contains("get_time") && !grammar(&named).contains("set_lights"));
    let one = with_tools(&json!({"parallel_tool_calls": false})).unwrap();
    assert!(grammar(&one).contains("calls: call\n"), "{}", grammar(&one));
    let without = with_tools(&json!({"tools": []})).unwrap();
    assert_eq!((without.constraint, without.calls), (None, false));
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
fn calls_and_results_are_read_as_the_model_writes_them() {
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
    let messages = messages(chat(&body.to_string()).unwrap());
    let roles: Vec<_> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
    assert_eq!(
        messages[1].content,
        "<tool_call>\n{\"name\": \"set_lights\", \"arguments\": {\"room\": \"x\"}}\n</tool_call>\n\
         <tool_call>\n{\"name\": \"set_lights\", \"arguments\": {\"room\": \"y\"}}\n</tool_call>"
    );
    assert_eq!(
        messages[2].content,
        "<tool_response>\ndone\n</tool_response>\n<tool_response>\nfailed\n</tool_response>"
    );
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
