#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hob_api::ErrorCode;
use hob_api::chat::Role;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod constraint;
mod fulfilment;
mod messages;
mod tools;

const CALLER: Caller = Caller { uid: 1000 };

fn defaults() -> SamplingDefaults {
    SamplingDefaults {
        max_tokens: 512,
        temperature: 0.7,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repeat_penalty: 1.0,
    }
}

fn limits() -> Limits {
    Limits {
        queue: 32,
        per_uid: 4,
        connections: 64,
        body_bytes: 1 << 20,
        header_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(10),
        max_tokens: 4096,
        timeout_default: Duration::from_secs(120),
        timeout_max: Duration::from_secs(600),
        shutdown_grace: Duration::from_secs(5),
    }
}

fn chat(body: &str) -> Result<ValidRequest, ApiError> {
    ValidRequest::chat(parse_chat(body.as_bytes())?, CALLER, &defaults(), &limits())
}

fn completion(body: &str) -> Result<ValidRequest, ApiError> {
    ValidRequest::completion(
        parse_completion(body.as_bytes())?,
        CALLER,
        &defaults(),
        &limits(),
    )
}

/// A chat body with one question and the field `name` set to `value`.
fn chat_with(name: &str, value: Value) -> Result<ValidRequest, ApiError> {
    let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
    body[name] = value;
    chat(&body.to_string())
}

fn chat_of(messages: &Value) -> Result<ValidRequest, ApiError> {
    chat(&json!({ "messages": messages }).to_string())
}

/// `code`, `param` and a part of the message or the hint.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, ApiError>,
    code: ErrorCode,
    param: Option<&str>,
    part: &str,
) {
    let error = result.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert_eq!(error.param.as_deref(), param, "{error}");
    assert!(error.hint.is_some(), "no hint: {error}");
    assert!(error.to_string().contains(part), "no {part:?} in {error}");
}

#[test]
fn what_is_left_out_comes_from_the_settings() {
    let request = chat(r#"{"messages": [{"role": "user", "content": "hi"}]}"#).unwrap();
    assert_eq!(
        request,
        ValidRequest {
            caller: CALLER,
            model: None,
            conversation: None,
            prompt: Asked::Plain(Prompt::Chat(vec![ChatMessage {
                role: Role::User,
                content: "hi".to_owned(),
            }])),
            thinking: None,
            max_tokens: 512,
            stop: Vec::new(),
            sampling: Sampling {
                temperature: 0.7,
                top_k: 40,
                top_p: 0.9,
                min_p: 0.05,
                repeat_penalty: 1.0,
                frequency_penalty: 0.0,
                presence_penalty: 0.0,
                seed: None,
            },
            class: Class::Chat,
            cache: true,
            keep_alive: None,
            drafts: true,
            constraint: None,
            timeout: Duration::from_secs(120),
        }
    );
}

#[test]
fn what_is_given_wins_over_the_settings() {
    let body = json!({
        "model": "smol",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "eve"},
        ],
        "max_completion_tokens": 7, "stop": ["x", "yy"], "temperature": 0, "top_p": 1, "top_k": 0,
        "min_p": 0.5, "frequency_penalty": -2, "presence_penalty": 2, "repeat_penalty": 1.5,
        "seed": 42, "timeout_ms": 1500, "stream": true, "stream_options": {"include_usage": true},
    });
    let request = chat(&body.to_string()).unwrap();
    assert_eq!(request.model.as_deref(), Some("smol"));
    let Asked::Plain(Prompt::Chat(messages)) = request.prompt else {
        unreachable!("a chat stays a chat")
    };
    assert_eq!(messages[0].role, Role::System);
    assert_eq!(messages[1].content, "ab");
    assert_eq!(request.max_tokens, 7);
    assert_eq!(request.stop, ["x", "yy"]);
    assert_eq!(request.timeout, Duration::from_millis(1500));
    assert_eq!(
        request.sampling,
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.5,
            repeat_penalty: 1.5,
            frequency_penalty: -2.0,
            presence_penalty: 2.0,
            seed: Some(42),
        }
    );
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    use ErrorCode::InvalidRequest;
    for (body, part) in [
        ("", "empty"),
        (" \n", "empty"),
        ("{\"messages\": [\n  oops]}", "line 2 column 3"),
        ("{\"messages\": []", "line 1"),
        ("{} {}", "trailing characters"),
        ("[]", "must be a JSON object, not a list"),
        ("null", "must be a JSON object, not null"),
        ("\"hi\"", "must be a JSON object, not text"),
        (r#"{"seed": 1e999}"#, "number out of range"),
        (r#"{"messages": "\ud800"}"#, "not valid JSON"),
    ] {
        assert_refused(chat(body), InvalidRequest, None, part);
    }
    let deep = "[".repeat(100_000);
    assert_refused(chat(&deep), InvalidRequest, None, "recursion limit");
    assert_refused(
        parse_chat(b"{\"a\": \"\xff\"}"),
        InvalidRequest,
        None,
        "not valid JSON",
    );
}

#[test]
fn an_unknown_field_is_named_with_the_nearest_known_one() {
    use ErrorCode::InvalidRequest;
    for (name, part) in [
        ("temprature", "did you mean `temperature`?"),
        ("maxtokens", "did you mean `max_tokens`?"),
        ("message", "did you mean `messages`?"),
        ("Stream", "did you mean `stream`?"),
        ("xyzzy", "leave it out"),
    ] {
        assert_refused(chat_with(name, json!(1)), InvalidRequest, Some(name), part);
    }
    let message = json!([{"role": "user", "contnet": "hi"}]);
    assert_refused(
        chat_of(&message),
        InvalidRequest,
        Some("messages[0].contnet"),
        "did you mean `content`?",
    );
    let long = "x".repeat(5000);
    let error = chat_with(&long, json!(1)).unwrap_err();
    assert!(error.message.len() < 200, "{}", error.message.len());
}

#[test]
fn a_field_of_the_wrong_type_says_what_it_must_be() {
    use ErrorCode::InvalidRequest;
    for (name, value, part) in [
        ("stream", json!("yes"), "must be true or false, not \"yes\""),
        ("temperature", json!("hot"), "must be a number, not \"hot\""),
        ("max_tokens", json!(1.5), "must be a whole number from 1 to"),
        ("max_tokens", json!(0), "from 1 to"),
        ("max_tokens", json!(-1), "not -1"),
        ("max_tokens", json!(5_000_000_000_u64), "not 5000000000"),
        ("seed", json!(1.5), "a whole number of 64 bits, not 1.5"),
        ("seed", json!(u64::MAX), "a whole number of 64 bits"),
        ("top_k", json!(-1), "from 0 to 1000, not -1"),
        (
            "stop",
            json!(7),
            "must be text, or a list, each item text, not 7",
        ),
        ("model", json!([]), "must be text, not a list"),
        ("messages", json!("hi"), "must be a list"),
        ("stream_options", json!(true), "must be an object, not true"),
    ] {
        assert_refused(chat_with(name, value), InvalidRequest, Some(name), part);
    }
    assert_refused(
        chat_with("stop", json!(["a", 7])),
        InvalidRequest,
        Some("stop[1]"),
        "must be text, not 7",
    );
    assert_refused(
        chat_with("stream_options", json!({"include_usage": 1})),
        InvalidRequest,
        Some("stream_options.include_usage"),
        "true or false",
    );
}

#[test]
fn numbers_out_of_bounds_name_the_bounds() {
    for (name, value, part) in [
        ("temperature", json!(2.1), "from 0 to 2, not 2.1"),
        ("temperature", json!(-0.1), "from 0 to 2"),
        ("top_p", json!(0), "above 0"),
        ("top_p", json!(1.01), "from 0 to 1"),
        ("top_k", json!(1001), "from 0 to 1000"),
        ("min_p", json!(-1), "from 0 to 1"),
        ("frequency_penalty", json!(3), "from -2 to 2, not 3"),
        ("presence_penalty", json!(-2.5), "from -2 to 2, not -2.5"),
        ("repeat_penalty", json!(0.4), "from 0.5 to 2, not 0.4"),
        ("max_tokens", json!(4097), "from 1 to 4096, not 4097"),
        (
            "max_completion_tokens",
            json!(4097),
            "from 1 to 4096, not 4097",
        ),
        ("timeout_ms", json!(600_001), "from 1 to 600000, not 600001"),
        (
            "stop",
            json!(["a", "b", "c", "d", "e"]),
            "at most 4 strings, not 5",
        ),
        ("stop", json!(""), "1 to 256 bytes, not 0"),
        ("stop", json!("a".repeat(257)), "1 to 256 bytes, not 257"),
        ("stop", json!("\u{0}"), "NUL"),
        ("model", json!("a".repeat(129)), "1 to 128 bytes"),
        ("model", json!("a\nb"), "without control characters"),
    ] {
        assert_refused(
            chat_with(name, value),
            ErrorCode::InvalidRequest,
            Some(name),
            part,
        );
    }
}

#[test]
fn both_names_of_one_field_are_refused() {
    let body = json!({
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1, "max_completion_tokens": 1,
    });
    assert_refused(
        chat(&body.to_string()),
        ErrorCode::InvalidRequest,
        Some("max_completion_tokens"),
        "they mean the same",
    );
}

#[test]
fn fields_without_effect_are_accepted_and_others_are_unsupported() {
    for (name, accepted, refused) in [
        ("n", json!(1), json!(2)),
        ("store", json!(false), json!(true)),
        ("logprobs", json!(false), json!(true)),
        ("top_logprobs", json!(0), json!(5)),
        ("logit_bias", json!({}), json!({"50256": -100})),
        ("modalities", json!(["text"]), json!(["text", "audio"])),
        ("verbosity", json!(null), json!("low")),
        ("reasoning_effort", json!("none"), json!("high")),
        ("audio", json!(null), json!({"voice": "x"})),
    ] {
        chat_with(name, accepted).unwrap();
        chat_with(name, json!(null)).unwrap();
        assert_refused(
            chat_with(name, refused),
            ErrorCode::Unsupported,
            Some(name),
            "does not do",
        );
    }
    for (name, value) in [
        ("user", json!("eve")),
        ("metadata", json!({"a": "b"})),
        ("service_tier", json!("auto")),
        ("parallel_tool_calls", json!(true)),
        ("safety_identifier", json!("x")),
        ("prompt_cache_key", json!("x")),
    ] {
        chat_with(name, value).unwrap();
    }
    for (name, accepted, refused) in [
        ("best_of", json!(1), json!(2)),
        ("echo", json!(false), json!(true)),
        ("suffix", json!(null), json!("end")),
        ("logprobs", json!(null), json!(0)),
        ("n", json!(1), json!(3)),
    ] {
        completion(&json!({"prompt": "a", name: accepted}).to_string()).unwrap();
        assert_refused(
            completion(&json!({"prompt": "a", name: refused}).to_string()),
            ErrorCode::Unsupported,
            Some(name),
            "does not do",
        );
    }
}

#[test]
fn an_earlier_answer_can_be_sent_back_as_it_came() {
    let echoed = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "refusal": null, "annotations": [],
         "audio": null, "function_call": null, "tool_calls": null},
        {"role": "user", "content": "and?"},
    ]);
    chat_of(&echoed).unwrap();
}

#[test]
fn null_counts_as_absent() {
    let all_null: serde_json::Map<String, Value> = fields::CHAT
        .iter()
        .copied()
        .flatten()
        .filter(|field| !field.required)
        .map(|field| (field.name.to_owned(), Value::Null))
        .chain([(
            "messages".to_owned(),
            json!([{"role": "user", "content": "hi"}]),
        )])
        .collect();
    assert_eq!(
        chat(&Value::Object(all_null).to_string()),
        chat(r#"{"messages": [{"role": "user", "content": "hi"}]}"#)
    );
}

#[test]
fn the_loaded_model_has_three_names() {
    for model in [json!(null), json!(""), json!("default")] {
        assert_eq!(chat_with("model", model).unwrap().model, None);
    }
}

#[test]
fn seeds_are_folded_to_32_bits() {
    let seed = |seed: i64| chat_with("seed", json!(seed)).unwrap().sampling.seed;
    assert_eq!(seed(0), Some(0));
    assert_eq!(seed(4_294_967_294), Some(4_294_967_294));
    assert_eq!(seed(-1), None);
    assert_eq!(seed(4_294_967_295), Some(0));
    assert_eq!(seed(1 << 32), Some(1));
    assert!(seed(i64::MIN).is_some() && seed(-2).is_some());
}

#[test]
fn top_p_never_becomes_zero() {
    let top_p = chat_with("top_p", json!(1e-300)).unwrap().sampling.top_p;
    assert!(top_p > 0.0);
}

#[test]
fn figures_that_are_no_numbers_are_refused_from_any_door() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut request =
            parse_chat(br#"{"messages": [{"role": "user", "content": "hi"}]}"#).unwrap();
        request.sampling.temperature = Some(value);
        assert_refused(
            ValidRequest::chat(request, CALLER, &defaults(), &limits()),
            ErrorCode::InvalidRequest,
            Some("temperature"),
            "from 0 to 2",
        );
    }
}

#[test]
fn defaults_above_the_limits_give_way() {
    let mut limits = limits();
    limits.max_tokens = 100;
    limits.timeout_max = Duration::from_secs(1);
    let request = parse_completion(br#"{"prompt": "a"}"#).unwrap();
    let request = ValidRequest::completion(request, CALLER, &defaults(), &limits).unwrap();
    assert_eq!(request.max_tokens, 100);
    assert_eq!(request.timeout, Duration::from_secs(1));
}

#[test]
fn a_completion_needs_text() {
    use ErrorCode::InvalidRequest;
    for (body, part) in [
        ("{}", "missing"),
        (r#"{"prompt": ""}"#, "empty"),
        (r#"{"prompt": ["a"]}"#, "must be text, not a list"),
        (r#"{"prompt": "a\u0000"}"#, "NUL character at byte 1"),
    ] {
        assert_refused(completion(body), InvalidRequest, Some("prompt"), part);
    }
    let request = completion(r#"{"prompt": "once"}"#).unwrap();
    assert_eq!(
        request.prompt,
        Asked::Plain(Prompt::Text("once".to_owned()))
    );
}

#[test]
fn a_load_names_one_model() {
    assert_eq!(parse_load(br#"{"model": "default"}"#).unwrap(), "default");
    for body in ["{}", r#"{"model": ""}"#, r#"{"model": 3}"#] {
        assert_refused(
            parse_load(body.as_bytes()),
            ErrorCode::InvalidRequest,
            Some("model"),
            "`model`",
        );
    }
}

/// Any JSON with the names that the table knows, so that the checks behind it are reached.
fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z\u{0}é]{0,4}".prop_map(Value::from),
        Just(json!("user")),
        Just(json!("text")),
    ];
    let names: Vec<&'static str> = fields::CHAT
        .iter()
        .copied()
        .flatten()
        .map(|field| field.name)
        .chain(["role", "content", "type", "text", "include_usage"])
        .collect();
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(names.clone()), inner), 0..6).prop_map(
                |fields| Value::Object(
                    fields
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect()
                )
            ),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_refused_or_within_all_bounds(mut body in json_values()) {
        if let Value::Object(fields) = &mut body {
            fields.entry("messages").or_insert(json!([{"role": "user", "content": "hi"}]));
        }
        if let Ok(request) = chat(&body.to_string()) {
            let sampling = request.sampling;
            prop_assert!((1..=4096).contains(&request.max_tokens));
            prop_assert!((0.0..=2.0).contains(&sampling.temperature));
            prop_assert!(sampling.top_p > 0.0 && sampling.top_p <= 1.0);
            prop_assert!((0.5..=2.0).contains(&sampling.repeat_penalty));
            prop_assert!(request.timeout <= limits().timeout_max && !request.timeout.is_zero());
            prop_assert!(request.stop.len() <= STOP_MAX);
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse_chat(&body).is_err());
    }
}

#[test]
fn a_conversation_is_named_by_its_id() {
    let id = "0123456789abcdef0123456789abcdef";
    let request = chat_with("conversation", json!(id)).unwrap();
    let belonging = request.conversation.unwrap();
    assert_eq!(belonging.id.as_str(), id);
    assert_eq!(belonging.truncate, Truncate::Never);
    let body = json!({
        "messages": [{"role": "user", "content": "hi"}],
        "conversation": id,
        "truncate": "oldest",
    });
    let belonging = chat(&body.to_string()).unwrap().conversation.unwrap();
    assert_eq!(belonging.truncate, Truncate::Oldest);

    let error = chat_with("conversation", json!("mine")).unwrap_err();
    assert_eq!(error.code, ErrorCode::ConversationNotFound);
    for (field, value) in [
        ("conversation", json!(7)),
        ("truncate", json!("oldest")),
        ("truncate", json!("newest")),
    ] {
        let error = chat_with(field, value).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        assert_eq!(error.param.as_deref(), Some(field));
    }
}
