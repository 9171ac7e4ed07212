//! Schemas that all forms express, and values of them.

use super::*;

fn text() -> impl Strategy<Value = (Value, Value)> {
    // `<` begins marks, and no text in Gemma's notation has it.
    ("[a-z \"\\\\é\n,{}:)=]{0,6}", 6_usize..9)
        .prop_map(|(text, most)| (json!({"type": "string", "maxLength": most}), json!(text)))
}

fn scalar() -> impl Strategy<Value = (Value, Value)> {
    prop_oneof![
        text(),
        (0_i64..9).prop_map(|n| (
            json!({"type": "integer", "minimum": 0, "maximum": 9}),
            json!(n)
        )),
        any::<bool>().prop_map(|b| (json!({"type": "boolean"}), json!(b))),
        (0_usize..2).prop_map(|at| {
            let words = ["in the \"hall\"", "True"];
            (json!({"type": "string", "enum": words}), json!(words[at]))
        }),
    ]
}

fn value() -> impl Strategy<Value = (Value, Value)> {
    let list = (scalar(), 0_usize..3).prop_map(|((schema, value), count)| {
        let list = json!({"type": "array", "items": schema, "maxItems": 2});
        (list, Value::from(vec![value; count]))
    });
    let inner = (scalar(), scalar(), any::<bool>()).prop_map(|((a, x), (b, y), both)| {
        let schema = json!({
            "type": "object", "properties": {"a": a, "b": b}, "required": ["a"],
            "additionalProperties": false,
        });
        let mut value = json!({ "a": x });
        if both {
            value["b"] = y;
        }
        (schema, value)
    });
    prop_oneof![4 => scalar(), 1 => list, 1 => inner]
}

/// An object's schema with a value of it.
pub(super) fn object_with_value() -> impl Strategy<Value = (Value, Value)> {
    let field = ("[a-z]{1,3}", value(), any::<bool>(), any::<bool>());
    proptest::collection::vec(field, 0..4).prop_map(|fields| {
        let (mut properties, mut value) = (Map::new(), Map::new());
        let mut required = Vec::new();
        for (at, (key, (schema, held), must, has)) in fields.into_iter().enumerate() {
            let key = format!("{key}_{at}");
            if must {
                required.push(json!(key));
            }
            if must || has {
                value.insert(key.clone(), held);
            }
            properties.insert(key, schema);
        }
        let schema = json!({
            "type": "object", "properties": properties, "required": required,
        });
        (schema, Value::Object(value))
    })
}

/// An object's schema.
pub(super) fn object() -> impl Strategy<Value = Value> {
    object_with_value().prop_map(|(schema, _)| schema)
}

/// Whether a value is one of such a schema.
pub(super) fn fits(value: &Value, schema: &Value) -> bool {
    if let Some(words) = schema["enum"].as_array() {
        return words.contains(value);
    }
    match schema["type"].as_str().unwrap() {
        "string" => value.as_str().is_some_and(|text| {
            text.chars().count() as u64 <= schema["maxLength"].as_u64().unwrap()
        }),
        "integer" => value.as_i64().is_some_and(|n| (0..=9).contains(&n)),
        "boolean" => value.is_boolean(),
        "array" => value.as_array().is_some_and(|items| {
            items.len() <= 2 && items.iter().all(|item| fits(item, &schema["items"]))
        }),
        "object" => value.as_object().is_some_and(|fields| {
            let required = schema["required"].as_array().unwrap();
            required
                .iter()
                .all(|key| fields.contains_key(key.as_str().unwrap()))
                && fields.iter().all(|(key, value)| {
                    let known = schema["properties"].get(key);
                    known.is_some_and(|schema| fits(value, schema))
                })
        }),
        other => panic!("{other}"),
    }
}
