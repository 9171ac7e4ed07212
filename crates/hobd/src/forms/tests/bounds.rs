//! What a form can express, and how much of it.

use super::*;

#[test]
fn what_a_form_can_not_express_is_written_in_json() {
    let of = |field: Value| json!({"type": "object", "properties": {"a": field}});
    let reference = json!({
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/x"}},
        "$defs": {"x": {"type": "string"}},
    });
    let odd_key = json!({"type": "object", "properties": {"a b": {"type": "string"}}});
    let wanting = json!({"type": "object", "required": ["a"]});
    let either = json!({"oneOf": [of(json!({"type": "string"}))], "type": "object"});
    let pattern = of(json!({"type": "string", "pattern": "^a$"}));
    let form = |format, schema: &Value| {
        let calling = round(tools(&[("f", schema.clone())]));
        std::ptr::from_ref(give(&calling, format, None).answer.unwrap().1)
    };
    for format in FORMATS {
        let own = std::ptr::from_ref(Form::of(format));
        let keyed = Form::of(format).notation != Notation::Json;
        let json = std::ptr::from_ref(&families::JSON);
        assert_eq!(form(format, &light()), own, "{format:?}");
        for schema in [&reference, &odd_key, &wanting, &either] {
            let expected = if keyed { json } else { own };
            assert_eq!(form(format, schema), expected, "{format:?}: {schema}");
        }
        // Python's texts are JSON's, which engines know patterns of.
        let raw = matches!(Form::of(format).notation, Notation::Gemma { .. });
        assert_eq!(form(format, &pattern), if raw { json } else { own });
    }
    // An earlier call that can't be written, or too much text for the form.
    let mut calling = round(tools(&[("f", light())]));
    calling.spoken.push(Spoken::Calls {
        text: String::new(),
        calls: vec![called("f", &json!({"no key": 1}))],
    });
    let given = give(&calling, ToolFormat::Lfm2, None);
    assert!(std::ptr::eq(
        given.answer.unwrap().1,
        &raw const families::JSON
    ));
}

#[test]
fn what_no_message_to_an_engine_holds_in_a_form_is_written_in_json() {
    // Each of so many texts stands between two marks of their own.
    let many = json!({"a": vec![""; 100_000]});
    let calls = |arguments: &Value| Calling {
        spoken: vec![Spoken::Calls {
            text: String::new(),
            calls: vec![called("f", arguments)],
        }],
        tools: None,
    };
    let text = |given: Given| given.turns[0].parts[0].text().to_owned();
    let few = give(&calls(&json!({"a": [""]})), ToolFormat::Gemma4, None);
    assert_eq!(text(few), "<|tool_call>");
    let given = give(&calls(&many), ToolFormat::Gemma4, None);
    assert!(text(given).starts_with("{\"name\""));
    assert!(in_json(&calls(&many), None).check_frame().is_ok());
    // What JSON escapes sixfold is too long in any form.
    let control = json!({"a": "\u{1}".repeat(900_000)});
    assert!(in_json(&calls(&control), None).check_frame().is_err());
}

#[test]
fn a_large_home_of_tools_compiles_within_the_engines_limits() {
    let names: Vec<_> = (0..60).map(|n| format!("set_light_{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), light())).collect();
    for format in FORMATS {
        let form = Form::of(format);
        let given = give(&round(tools(&many)), format, None);
        assert!(std::ptr::eq(given.answer.as_ref().unwrap().1, form));
        let call = ("set_light_59".to_owned(), json!({"room": "hall"}));
        let call = written(form, &[call]).replace("\":\"", "\": \"");
        assert!(allowed(&given, "answer").contains(&call), "{call}");
    }
}
