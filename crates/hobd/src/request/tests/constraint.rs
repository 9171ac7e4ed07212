use super::*;
use crate::request::constraint::{BRACKETS_MAX, REGEX_BYTES_MAX, SCHEMA_DEPTH_MAX};
use hob_ipc::constraint::{CONSTRAINT_BYTES_MAX, Constraint};

const SCHEMA: &str = "response_format.json_schema.schema";

fn of_schema(schema: &Value) -> Result<ValidRequest, ApiError> {
    let format = json!({
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": true, "schema": schema},
    });
    chat_with("response_format", format)
}

/// A schema of so many levels.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({}), |inner, _| json!({ "not": inner }))
}

#[test]
fn a_schema_comes_through_in_its_own_order_with_all_that_it_holds() {
    let text = r#"{"type":"object","properties":{"z":{"const":null},"a":{"default":null}}}"#;
    let request = of_schema(&serde_json::from_str(text).unwrap()).unwrap();
    assert_eq!(
        request.constraint,
        Some(Constraint::JsonSchema(text.to_owned()))
    );
    assert!(of_schema(&json!(true)).is_ok());
}

#[test]
fn each_way_to_say_what_an_answer_must_be_is_read() {
    let format = |format| chat_with("response_format", format).unwrap().constraint;
    assert_eq!(format(json!({"type": "text"})), None);
    assert_eq!(format(json!(null)), None);
    assert_eq!(
        format(json!({"type": "json_object"})),
        Some(Constraint::JsonObject)
    );
    for (name, wanted) in [
        ("grammar", Constraint::Lark("start: \"a\"".to_owned())),
        ("regex", Constraint::Regex("[0-9]+".to_owned())),
    ] {
        let request = chat_with(name, json!(wanted.text())).unwrap();
        assert_eq!(request.constraint, Some(wanted.clone()));
        let body = json!({"prompt": "x", name: wanted.text()});
        let request = completion(&body.to_string()).unwrap();
        assert_eq!(request.constraint, Some(wanted));
    }
}

#[test]
fn what_is_misshapen_is_named() {
    for (format, param) in [
        (json!({}), "response_format.type"),
        (json!({"type": "xml"}), "response_format.type"),
        (
            json!({"type": "text", "colour": 1}),
            "response_format.colour",
        ),
        (
            json!({"type": "json_schema", "json_schema": {"schema": {}}}),
            "response_format.json_schema.name",
        ),
        (
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": 7}}),
            SCHEMA,
        ),
    ] {
        let refused = chat_with("response_format", format);
        assert_refused(refused, ErrorCode::InvalidRequest, Some(param), "");
    }
    let body = json!({
        "messages": [{"role": "user", "content": "hi"}], "regex": "a", "grammar": "start: \"a\"",
    });
    let refused = chat(&body.to_string());
    let param = Some("response_format");
    assert_refused(refused, ErrorCode::InvalidRequest, param, "together");
}

#[test]
fn what_is_out_of_bounds_is_refused_before_the_engine_sees_it() {
    assert!(of_schema(&nested(SCHEMA_DEPTH_MAX)).is_ok());
    let code = ErrorCode::InvalidSchema;
    let deep = of_schema(&nested(SCHEMA_DEPTH_MAX + 1));
    assert_refused(deep, code, Some(SCHEMA), "65 levels");
    let long = of_schema(&json!({ "const": "x".repeat(CONSTRAINT_BYTES_MAX) }));
    assert_refused(long, code, Some(SCHEMA), "at most 65536 bytes");
    for name in ["regex", "grammar"] {
        let text = |text: String| chat_with(name, json!(text));
        let open = |brackets| text(format!("{}a", "(".repeat(brackets)));
        assert!(open(BRACKETS_MAX).is_ok());
        assert_refused(open(BRACKETS_MAX + 1), code, Some(name), "open brackets");
        assert_refused(text(String::new()), code, Some(name), "empty");
    }
    let long = chat_with("regex", json!("x".repeat(REGEX_BYTES_MAX + 1)));
    assert_refused(long, code, Some("regex"), "at most 4096 bytes");
}
