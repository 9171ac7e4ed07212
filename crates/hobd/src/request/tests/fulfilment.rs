//! What is said at home and is to be done.

use hob_api::home::{HomeRequest, Language};

use super::*;

fn valid(body: &Value) -> Result<ValidFulfilment, ApiError> {
    let request = parse_home(body.to_string().as_bytes())?;
    ValidFulfilment::of_text(request, CALLER, &defaults(), &limits())
}

#[test]
fn what_is_out_of_bounds_is_refused_by_name() {
    for (body, param) in [
        (json!({"text": "x", "rounds": 0}), "rounds"),
        (json!({"text": "x", "rounds": 17}), "rounds"),
        (
            json!({"text": "x", "reader": "model", "follow_ups": 4}),
            "follow_ups",
        ),
        (json!({"text": "x", "follow_ups": 1}), "follow_ups"),
        (json!({"text": "x", "language": "fr"}), "language"),
        (json!({"text": "x", "timeout_ms": 0}), "timeout_ms"),
        (json!({"text": "x".repeat(2001)}), "text"),
        (json!({"text": "x", "execute": "yes"}), "execute"),
    ] {
        let error = valid(&body).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{body}");
        assert_eq!(error.param.as_deref(), Some(param), "{error:?}");
    }
}

#[test]
fn what_a_hub_is_told_of_the_place_is_clean() {
    let body = json!({
        "text": "lights off", "execute": true, "area": "Kit\u{1b}[31mchen\n", "device": "a\u{202e}b",
        "language": "de", "rounds": 2, "timeout_ms": 700,
    });
    let valid = valid(&body).unwrap();
    assert_eq!(valid.said.options.area.as_deref(), Some("Kit[31mchen"));
    assert_eq!(valid.device.as_deref(), Some("ab"));
    assert_eq!((valid.rounds, valid.language), (2, Some(Language::German)));
    assert_eq!(valid.timeout(), Duration::from_millis(700));
}

#[test]
fn what_is_only_read_has_no_use_for_the_rest() {
    for field in ["device", "language", "rounds", "follow_ups", "timeout_ms"] {
        let mut body = json!({"text": "x"});
        body[field] = match field {
            "rounds" | "follow_ups" | "timeout_ms" => json!(1),
            _ => json!("en"),
        };
        let request = parse_home(body.to_string().as_bytes()).unwrap();
        let error = check_only_read(&request).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(field));
    }
    check_only_read(&HomeRequest::default()).unwrap();
}
