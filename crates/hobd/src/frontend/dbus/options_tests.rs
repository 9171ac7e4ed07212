#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hob_api::home::Reader;

use super::*;

fn dict<const N: usize>(entries: [(&str, Variant<'static>); N]) -> Dict<'static> {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn ask(options: Dict<'_>) -> Result<Arguments, ApiError> {
    Arguments::question(Method::Ask, "hi".to_owned(), options)
}

fn stream(options: Dict<'_>) -> Result<Arguments, ApiError> {
    Arguments::question(Method::Stream, "hi".to_owned(), options)
}

#[test]
fn every_option_arrives() {
    let arguments = stream(dict([
        ("handle_token", Variant::from("t_1")),
        ("max_tokens", Variant::from(7_u32)),
        ("timeout_ms", Variant::from(800_u32)),
        ("format", Variant::from("events")),
        ("temperature", Variant::from(0.5)),
        ("seed", Variant::from(-3_i64)),
        ("stop", Variant::from(vec!["a", "b"])),
        ("system", Variant::from("be brief")),
        ("model", Variant::from("tiny")),
    ]))
    .unwrap();
    assert_eq!(arguments.handle_token.unwrap().as_str(), "t_1");
    assert_eq!(arguments.format, Format::Events);
    let chat = arguments.chat;
    assert_eq!((chat.max_tokens, chat.timeout_ms), (Some(7), Some(800)));
    assert_eq!(chat.sampling.temperature, Some(0.5));
    assert_eq!(chat.sampling.seed, Some(-3));
    assert_eq!(
        chat.stop,
        Some(Stop::Many(vec!["a".to_owned(), "b".to_owned()]))
    );
    assert_eq!(chat.model.as_deref(), Some("tiny"));
    let texts: Vec<_> = chat
        .messages
        .into_iter()
        .map(|message| (message.role, message.content.unwrap().into_text()))
        .collect();
    assert_eq!(
        texts,
        [
            (Role::System, "be brief".to_owned()),
            (Role::User, "hi".to_owned())
        ]
    );
}

#[test]
fn an_unknown_option_is_named_and_cut_short() {
    let error = ask(dict([("max_token", Variant::from(7_u32))])).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    assert!(error.message.contains("`max_token`"), "{error}");
    assert!(error.hint.unwrap().contains("max_tokens"));

    let long = "x".repeat(60_000);
    let error = ask(dict([(&long, Variant::from(true))])).unwrap_err();
    assert!(error.to_string().len() < 600);
    assert!(error.param.unwrap().len() <= SHOWN_CHARS_MAX);
}

#[test]
fn an_option_of_another_method_is_unknown() {
    let error = ask(dict([("format", Variant::from("text"))])).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("format"));
    let error =
        Arguments::conversation(Vec::new(), dict([("system", Variant::from("x"))])).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("system"));
}

#[test]
fn what_is_said_at_home_names_a_provider() {
    let home = dict([
        ("provider", Variant::from("*")),
        ("area", Variant::from("Kitchen")),
        ("device", Variant::from("puck")),
        ("language", Variant::from("de")),
        ("rounds", Variant::from(3_u32)),
        ("reader", Variant::from("model")),
        ("follow_ups", Variant::from(2_u32)),
        ("max_tokens", Variant::from(9_u32)),
    ]);
    let arguments = ask(home).unwrap();
    assert_eq!(arguments.chat.max_tokens, Some(9));
    let home = arguments.home.unwrap();
    assert_eq!((home.text.as_str(), home.provider), ("hi", None));
    assert_eq!(
        (home.area.as_deref(), home.rounds),
        (Some("Kitchen"), Some(3))
    );
    assert_eq!(home.device.as_deref(), Some("puck"));
    assert_eq!((home.reader, home.follow_ups), (Reader::Model, Some(2)));
    assert_eq!(home.language, Some(Language::German));
    let named = ask(dict([("provider", Variant::from("hub"))])).unwrap();
    assert_eq!(named.home.unwrap().provider.as_deref(), Some("hub"));
    assert_eq!(ask(Dict::new()).unwrap().home, None);
    for key in ["area", "device", "language"] {
        let error = stream(dict([(key, Variant::from("en"))])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(key));
        assert!(error.hint.unwrap().contains("provider"));
        let complete = Arguments::conversation(Vec::new(), dict([(key, Variant::from("en"))]));
        assert_eq!(complete.unwrap_err().param.as_deref(), Some(key));
    }
    let french = ask(dict([("language", Variant::from("fr"))])).unwrap_err();
    assert_eq!(french.param.as_deref(), Some("language"));
}

#[test]
fn a_wrong_type_tells_key_expected_and_given() {
    let cases = [
        ("max_tokens", Variant::from("7"), "`u`", "`s`"),
        ("max_tokens", Variant::from(7_i32), "`u`", "`i`"),
        ("temperature", Variant::from(1_u32), "`d`", "`u`"),
        ("seed", Variant::from(1.0), "`x` or `u`", "`d`"),
        ("stop", Variant::from("a"), "`as`", "`s`"),
        ("stop", Variant::from(Vec::<u32>::new()), "`as`", "`au`"),
        ("model", Variant::new(Variant::from("a")), "`s`", "`v`"),
    ];
    for (key, value, expected, got) in cases {
        let error = ask(dict([(key, value)])).unwrap_err();
        for part in [&format!("`{key}`"), expected, got] {
            assert!(error.message.contains(part), "{error} lacks {part}");
        }
    }
}

#[test]
fn a_handle_token_is_a_part_of_a_path() {
    let too_long = "a".repeat(65);
    for token in ["", "a-b", "a/b", "ä", "a.b", &too_long] {
        let error = ask(dict([("handle_token", Variant::from(token.to_owned()))])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("handle_token"), "{token}");
    }
    let longest = "Z9_".repeat(21) + "z";
    assert!(ask(dict([("handle_token", Variant::from(longest))])).is_ok());
}

#[test]
fn text_is_bounded_in_every_argument() {
    let limit = "x".repeat(TEXT_BYTES_MAX);
    let beyond = "x".repeat(TEXT_BYTES_MAX + 1);
    assert!(Arguments::question(Method::Ask, limit.clone(), Dict::new()).is_ok());
    let long_text = Arguments::question(Method::Ask, beyond.clone(), Dict::new());
    let long_system = ask(dict([("system", Variant::from(beyond))]));
    let two = |second: &str| {
        let content = |text: String| dict([("content", Variant::from(text))]);
        vec![
            ("system".to_owned(), content(limit.clone())),
            ("user".to_owned(), content(second.to_owned())),
        ]
    };
    let long_sum = Arguments::conversation(two("y"), Dict::new());
    for (result, name) in [
        (long_text, "text"),
        (long_system, "system"),
        (long_sum, "messages"),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.code, ErrorCode::PayloadTooLarge);
        assert_eq!(error.param.as_deref(), Some(name));
        assert!(error.message.contains("65536"), "{error}");
    }
    assert!(Arguments::conversation(two(""), Dict::new()).is_ok());
}

#[test]
fn messages_are_role_and_content_and_nothing_else() {
    let complete =
        |role: &str, fields| Arguments::conversation(vec![(role.to_owned(), fields)], Dict::new());
    let content = || dict([("content", Variant::from("hi"))]);
    for role in ["system", "developer", "user", "assistant"] {
        assert!(complete(role, content()).is_ok(), "{role}");
    }
    let wrong = [
        (complete("robot", content()), "`robot`"),
        (complete("user", Dict::new()), "no `content`"),
        (
            complete("user", dict([("content", Variant::from(1_u32))])),
            "`messages[0].content` must be of type `s`, not `u`",
        ),
        (
            complete("user", dict([("text", Variant::from("hi"))])),
            "`text`",
        ),
    ];
    for (result, part) in wrong {
        let error = result.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        assert!(error.message.contains(part), "{error} lacks {part}");
    }
}

fn complete_with(
    messages: Vec<(String, Dict<'static>)>,
    options: Dict<'static>,
) -> Result<ChatRequest, ApiError> {
    Arguments::conversation(messages, options).map(|arguments| arguments.chat)
}

#[test]
fn tools_come_as_json_and_their_calls_as_events() {
    let tools = r#"[{"type": "function", "function": {"name": "f"}}]"#;
    let options = |choice: &'static str, format: &'static str| {
        dict([
            ("tools", Variant::from(tools)),
            ("tool_choice", Variant::from(choice)),
            ("parallel_tool_calls", Variant::from(false)),
            ("enable_thinking", Variant::from(false)),
            ("format", Variant::from(format)),
        ])
    };
    let chat = complete_with(Vec::new(), options("required", "events")).unwrap();
    assert_eq!(chat.tools.unwrap()[0].function.name, "f");
    assert_eq!(chat.tool_choice, Some(ToolChoice::Mode(ToolMode::Required)));
    assert_eq!(chat.parallel_tool_calls, Some(false));
    let fields = chat.chat_template_kwargs.unwrap();
    assert_eq!(fields.enable_thinking, Some(false));
    let named = complete_with(Vec::new(), options("f", "events")).unwrap();
    let Some(ToolChoice::Named(named)) = named.tool_choice else {
        panic!("{named:?}");
    };
    assert_eq!(named.function.name, "f");
    let text = complete_with(Vec::new(), options("auto", "text")).unwrap_err();
    assert_eq!(text.param.as_deref(), Some("format"));
    assert!(complete_with(Vec::new(), options("none", "text")).is_ok());
    for (tools, param) in [
        ("[", Some("tools")),
        ("", Some("tools")),
        ("{}", Some("tools")),
        ("[{\"type\": \"function\"}]", Some("tools[0].function")),
        (
            "[{\"type\": \"function\", \"function\": {\"nam\": \"f\"}}]",
            Some("tools[0].function.nam"),
        ),
    ] {
        let options = dict([("tools", Variant::from(tools))]);
        let error = complete_with(Vec::new(), options).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{error}");
        assert_eq!(error.param.as_deref(), param, "{error}");
    }
    let long = dict([("tools", Variant::from("x".repeat(TEXT_BYTES_MAX + 1)))]);
    let error = complete_with(Vec::new(), long).unwrap_err();
    assert_eq!(error.code, ErrorCode::PayloadTooLarge);
    // A question has no tools.
    for key in ["tools", "tool_choice", "parallel_tool_calls"] {
        let error = ask(dict([(key, Variant::from("none"))])).unwrap_err();
        assert!(error.message.contains(key), "{error}");
    }
    assert!(ask(dict([("enable_thinking", Variant::from(false))])).is_ok());
}

#[test]
fn calls_and_results_are_messages() {
    let calls =
        r#"[{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]"#;
    let messages = vec![
        (
            "assistant".to_owned(),
            dict([("tool_calls", Variant::from(calls))]),
        ),
        (
            "tool".to_owned(),
            dict([
                ("tool_call_id", Variant::from("a")),
                ("content", Variant::from("done")),
            ]),
        ),
    ];
    let chat = complete_with(messages, Dict::new()).unwrap();
    let made = chat.messages[0].tool_calls.as_ref().unwrap();
    assert_eq!(
        (made[0].id.as_str(), made[0].function.name.as_str()),
        ("a", "f")
    );
    assert_eq!(chat.messages[1].role, Role::Tool);
    assert_eq!(chat.messages[1].tool_call_id.as_deref(), Some("a"));
    let odd = vec![(
        "assistant".to_owned(),
        dict([("tool_calls", Variant::from("7"))]),
    )];
    let error = complete_with(odd, Dict::new()).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("tool_calls"));
    // What calls and results say counts as the rest does.
    let long = "x".repeat(TEXT_BYTES_MAX);
    let long = vec![(
        "tool".to_owned(),
        dict([
            ("tool_call_id", Variant::from("a")),
            ("content", Variant::from(long)),
        ]),
    )];
    let error = complete_with(long, Dict::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::PayloadTooLarge);
}
