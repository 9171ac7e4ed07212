use super::*;
use hob_api::ErrorCode;
use serde_json::json;

fn valid(body: &Value) -> Result<ValidDecision, ApiError> {
    let request = parse_decision(body.to_string().as_bytes())?;
    ValidDecision::new(request, Caller { uid: 7 }, &Limits::default())
}

fn asked(question: &Value) -> Value {
    json!({"state": "It rains.", "questions": {"q": question}})
}

#[test]
fn every_type_is_read_and_what_is_no_text_becomes_json() {
    let body = json!({
        "state": {"weather": ["rain", 7]},
        "questions": {
            "route": {"type": "choice", "instructions": ["Where", "to?"],
                "criteria": {"b": null, "a": "the first", "c": {"x": 1}}},
            "urgency": {"type": "score", "instructions": "How urgent?", "criteria": ["low", 3]},
            "angry": {"type": "noul", "instructions": "Angry?"},
            "wet": {"type": "noul", "instructions": "Wet?", "criteria": {"true": "soaked"}},
        },
        "model": "default", "user": "x", "images": [], "class": "voice", "timeout_ms": 5,
        "cache_prompt": false,
    });
    let request = valid(&body).unwrap();
    assert_eq!(request.state, r#"{"weather":["rain",7]}"#);
    assert_eq!((request.class, request.cache), (Class::Voice, false));
    assert_eq!(request.timeout, Duration::from_millis(5));
    let questions: Vec<_> = request.questions.into_iter().collect();
    let [angry, route, urgency, wet] = &questions[..] else {
        panic!("{questions:?}");
    };
    assert!(matches!(&angry.1, Question::Noul { criteria: None, .. }));
    let Question::Choice {
        instructions,
        criteria,
    } = &route.1
    else {
        panic!("{route:?}");
    };
    assert_eq!(instructions, r#"["Where","to?"]"#);
    let options: Vec<_> = criteria
        .iter()
        .map(|(k, m)| (k.as_str(), m.as_deref()))
        .collect();
    assert_eq!(
        options,
        [
            ("a", Some("the first")),
            ("b", None),
            ("c", Some(r#"{"x":1}"#))
        ]
    );
    assert!(matches!(&urgency.1, Question::Score { criteria, .. } if *criteria == ["low", "3"]));
    assert!(matches!(&wet.1, Question::Noul { criteria: Some(c), .. } if c.so.is_some()));
}

#[test]
fn what_is_out_of_bounds_is_refused_by_name() {
    let noul = json!({"type": "noul", "instructions": "Is it so?"});
    let choice = |criteria: &Value| {
        asked(&json!({"type": "choice", "instructions": "Which?", "criteria": criteria}))
    };
    let many = |count: usize| -> Value {
        let options = (0..count).map(|n| (n.to_string(), Value::Null));
        Value::Object(options.collect())
    };
    let wide = json!({"type": "choice", "instructions": "Which?", "criteria": many(60)});
    let wide: Map<String, Value> = (0..5).map(|n| (n.to_string(), wide.clone())).collect();
    let questions: Map<String, Value> = (0..17).map(|n| (n.to_string(), noul.clone())).collect();
    for (body, param) in [
        (json!({"questions": {"q": noul}}), "state"),
        (json!({"state": null, "questions": {"q": noul}}), "state"),
        (json!({"state": " \n", "questions": {"q": noul}}), "state"),
        (json!({"state": 7, "questions": {"q": noul}}), "state"),
        (
            json!({"state": "a\u{0}", "questions": {"q": noul}}),
            "state",
        ),
        (
            json!({"state": "x".repeat(2 << 20), "questions": {"q": noul}}),
            "state",
        ),
        (json!({"state": "x", "questions": wide}), "questions"),
        (json!({"state": "x"}), "questions"),
        (json!({"state": "x", "questions": {}}), "questions"),
        (json!({"state": "x", "questions": [noul]}), "questions"),
        (json!({"state": "x", "questions": questions}), "questions"),
        (json!({"state": "x", "questions": {"": noul}}), "questions."),
        (json!({"state": "x", "questions": {"q": 7}}), "questions.q"),
        (asked(&json!({"instructions": "x"})), "questions.q.type"),
        (
            asked(&json!({"type": "unknown", "instructions": "x"})),
            "questions.q.type",
        ),
        (asked(&json!({"type": "noul"})), "questions.q.instructions"),
        (
            asked(&json!({"type": "noul", "instructions": " "})),
            "questions.q.instructions",
        ),
        (
            asked(&json!({"type": "noul", "instructions": "x".repeat(5000)})),
            "questions.q.instructions",
        ),
        (
            asked(&json!({"type": "noul", "instructions": "x", "criteria": {"maybe": "y"}})),
            "questions.q.criteria.maybe",
        ),
        (
            asked(&json!({"type": "noul", "instructions": "x", "criteria": {"true": " "}})),
            "questions.q.criteria.true",
        ),
        (
            asked(&json!({"type": "choice", "instructions": "x"})),
            "questions.q.criteria",
        ),
        (choice(&json!({})), "questions.q.criteria"),
        (choice(&json!(["a", "b"])), "questions.q.criteria"),
        (choice(&many(OPTIONS_MAX + 1)), "questions.q.criteria"),
        (choice(&many(10_000)), "questions.q.criteria"),
        (
            choice(&json!({"a": null, " ": null})),
            "questions.q.criteria. ",
        ),
        (
            choice(&json!({"a": null, "b\n": null})),
            "questions.q.criteria.b…",
        ),
        (choice(&json!({"a": "\t"})), "questions.q.criteria.a"),
        (
            asked(&json!({"type": "score", "instructions": "x", "criteria": ["only one"]})),
            "questions.q.criteria",
        ),
        (
            asked(&json!({"type": "score", "instructions": "x", "criteria": vec!["x"; 11]})),
            "questions.q.criteria",
        ),
        (
            asked(&json!({"type": "score", "instructions": "x", "criteria": ["a", ""]})),
            "questions.q.criteria[1]",
        ),
        (
            asked(&json!({"type": "noul", "instructions": "x", "criterion": {}})),
            "questions.q.criterion",
        ),
        (
            json!({"state": "x", "questions": {"q": noul}, "state_": 1}),
            "state_",
        ),
    ] {
        let error = valid(&body).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{error:?}");
        assert_eq!(error.param.as_deref(), Some(param), "{error:?}");
        assert!(error.hint.is_some(), "{error:?}");
    }
    let images =
        json!({"state": "x", "questions": {"q": noul}, "images": ["data:image/png;base64,"]});
    assert_eq!(valid(&images).unwrap_err().code, ErrorCode::Unsupported);
}
