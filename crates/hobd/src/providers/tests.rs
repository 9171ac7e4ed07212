#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use hob_api::provider::{ProviderFields, Scalar, Target, TargetsPatch};
use hob_api::{ApiError, ErrorCode};
use serde_json::{Value, json};

use super::*;
use crate::request::{parse_provider, parse_targets};

fn name(text: &str) -> ProviderName {
    ProviderName::parse(text).unwrap()
}

fn parse(body: &Value) -> Result<ProviderFields, ApiError> {
    parse_provider(body.to_string().as_bytes())
}

fn provider(body: &Value) -> Result<Provider, ApiError> {
    Provider::new(name("home"), parse(body)?)
}

fn lamp(id: &str) -> Value {
    json!({"id": id, "name": "Lamp", "kind": "light"})
}

/// A home with one tool and one lamp, after `change`.
fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut body = json!({
        "tools": [{
            "name": "light.set",
            "acts_on": {"kinds": ["light"]},
            "parameters": {
                "type": "object",
                "properties": {"level": {"type": "integer", "minimum": 0, "maximum": 100}},
                "required": ["level"],
            },
        }],
        "targets": [lamp("a")],
    });
    change(&mut body);
    body
}

fn property(schema: Value) -> Value {
    changed(|body| body["tools"][0]["parameters"]["properties"]["level"] = schema)
}

#[test]
fn what_was_registered_is_given_back() {
    let body = changed(|body| {
        body["tools"][0]["examples"] = json!(["x {target}", {"text": "y", "target": "a"}]);
        body["targets"][0]["state"] = json!({"level": 3, "on": true, "mode": "eco", "t": 20.5});
        body["targets"][0]["aliases"] = json!(["厨房灯", "مصباح", "свет", "लैंप"]);
    });
    let fields = parse(&body).unwrap();
    let provider = Provider::new(name("home"), fields.clone()).unwrap();
    assert_eq!(provider.fields(), fields);
}

#[test]
fn what_is_out_of_bounds_is_refused_by_its_place() {
    let tools = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|n| json!({"name": format!("t{n}")}))
            .collect()
    };
    let lamps: Vec<Value> = (0..=TARGETS_MAX).map(|n| lamp(&n.to_string())).collect();
    let mut wordy: Vec<Value> = (0..TARGETS_MAX).map(|n| lamp(&n.to_string())).collect();
    for target in &mut wordy {
        target["aliases"] = json!(["x".repeat(100), "y".repeat(100), "z".repeat(100)]);
    }
    for (body, param) in [
        (json!({"tools": []}), "tools"),
        (json!({"targets": []}), "tools"),
        (json!({"tools": tools(TOOLS_MAX + 1)}), "tools"),
        (changed(|b| b["targets"] = json!(wordy)), "targets"),
        (changed(|b| b["targets"] = json!(lamps)), "targets"),
        (
            changed(|b| b["targets"] = json!([lamp("a"), lamp("a")])),
            "targets[1].id",
        ),
        (
            json!({"tools": [{"name": "a"}, {"name": "a"}]}),
            "tools[1].name",
        ),
        (json!({"tools": [{"name": ""}]}), "tools[0].name"),
        (json!({"tools": [{"name": "two words"}]}), "tools[0].name"),
        (
            changed(|b| b["targets"][0]["name"] = json!("  ")),
            "targets[0].name",
        ),
        (
            changed(|b| b["targets"][0]["name"] = json!("a\nb")),
            "targets[0].name",
        ),
        (
            changed(|b| b["targets"][0]["name"] = json!("\u{202e}lamp")),
            "targets[0].name",
        ),
        (
            changed(|b| b["targets"][0]["name"] = json!("x".repeat(101))),
            "targets[0].name",
        ),
        (
            changed(|b| b["targets"][0]["id"] = json!("a b")),
            "targets[0].id",
        ),
        (
            changed(|b| b["targets"][0]["aliases"] = json!(["ok", ""])),
            "targets[0].aliases[1]",
        ),
        (
            changed(|b| b["targets"][0]["kind"] = json!(7)),
            "targets[0].kind",
        ),
        (
            changed(|b| b["targets"][0]["state"] = json!({"x": [1]})),
            "targets[0].state",
        ),
        (
            changed(|b| b["targets"][0]["colour"] = json!("red")),
            "targets[0].colour",
        ),
        (
            changed(|b| b["tools"][0]["examples"] = json!([7])),
            "tools[0].examples[0]",
        ),
        (
            changed(|b| b["tools"][0]["examples"] = json!([""])),
            "tools[0].examples[0]",
        ),
        (
            changed(|b| b["tools"][0]["examples"] = json!(["\u{1b}[2J"])),
            "tools[0].examples[0]",
        ),
    ] {
        let error = provider(&body).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{error:?}");
        assert_eq!(error.param.as_deref(), Some(param), "{error:?}");
        assert!(error.hint.is_some(), "{error:?}");
    }
}

#[test]
fn a_schema_that_nothing_satisfies_or_that_says_more_is_refused() {
    let level = "tools[0].parameters.properties.level";
    for (schema, code, param) in [
        (
            json!({"type": "integer", "minimum": 9, "maximum": 1}),
            ErrorCode::InvalidRequest,
            level,
        ),
        (
            json!({"type": "integer", "minimum": 1.2, "maximum": 1.8}),
            ErrorCode::InvalidRequest,
            level,
        ),
        (
            json!({"type": "string", "minimum": 1}),
            ErrorCode::InvalidRequest,
            level,
        ),
    ] {
        let error = provider(&property(schema)).unwrap_err();
        assert_eq!(
            (error.code, error.param.as_deref()),
            (code, Some(param)),
            "{error:?}"
        );
    }
    for schema in [
        json!({"type": "string", "enum": []}),
        json!({"type": "string", "enum": [1]}),
        json!({"type": "string", "enum": ["a", "a"]}),
        json!({"type": "string", "pattern": "(a+)+"}),
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"$ref": "#"}),
        json!({"type": "object", "properties": {}}),
        json!({}),
    ] {
        let error = provider(&property(schema)).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{error:?}");
    }
    let required = changed(|b| b["tools"][0]["parameters"]["required"] = json!(["speed"]));
    let error = provider(&required).unwrap_err();
    assert_eq!(
        error.param.as_deref(),
        Some("tools[0].parameters.required[0]")
    );
    let open = changed(|b| b["tools"][0]["parameters"]["additionalProperties"] = json!(true));
    assert_eq!(provider(&open).unwrap_err().code, ErrorCode::Unsupported);
    let nested = format!(
        "{{\"tools\": [{{\"name\": \"a\", \"parameters\": {}1{}}}]}}",
        "{\"properties\":".repeat(10_000),
        "}".repeat(10_000)
    );
    assert!(parse_provider(nested.as_bytes()).is_err());
}

#[test]
fn calls_exist_or_are_none() {
    let body = changed(|body| {
        let tools = body["tools"].as_array_mut().unwrap();
        tools.push(json!({"name": "coffee"}));
        body["targets"] = json!([lamp("a"), lamp("b"), {"id": "f", "name": "Fan", "kind": "fan"}]);
    });
    let provider = provider(&body).unwrap();
    let level = |value: Scalar| BTreeMap::from([("level".to_owned(), value)]);
    let call = |tool, targets: &[usize], arguments| {
        ValidCall::new(&provider, tool, targets.to_vec(), arguments)
    };
    assert!(call(0, &[0, 1], level(Scalar::Integer(100))).is_ok());
    assert!(call(1, &[], BTreeMap::new()).is_ok());
    let missing = Err(CallError::Missing("level".to_owned()));
    assert_eq!(call(0, &[0], BTreeMap::new()), missing);
    for value in [
        Scalar::Integer(101),
        Scalar::Integer(-1),
        Scalar::Number(5.0),
        Scalar::Text("5".to_owned()),
        Scalar::Boolean(true),
    ] {
        assert!(call(0, &[0], level(value)).is_err());
    }
    for targets in [&[][..], &[0, 0], &[2], &[3]] {
        let bad = call(0, targets, level(Scalar::Integer(1)));
        assert_eq!(bad, Err(CallError::Targets), "{targets:?}");
    }
    assert_eq!(call(1, &[0], BTreeMap::new()), Err(CallError::Targets));
    assert_eq!(call(2, &[], BTreeMap::new()), Err(CallError::NoTool));
    assert!(call(1, &[], level(Scalar::Integer(1))).is_err());
}

#[test]
fn generations_count_a_users_own_changes_and_never_again() {
    let providers = Providers::default();
    let put = |uid| {
        let fields = parse(&changed(|_| {})).unwrap();
        let shown = providers.put(uid, name("home"), fields, None);
        shown.unwrap().generation
    };
    assert_eq!((put(1), put(1), put(2), put(1), put(2)), (1, 2, 1, 3, 2));
    providers.remove(1, &name("home")).unwrap();
    assert_eq!((put(1), put(2)), (4, 3));
}

#[test]
fn targets_change_as_a_whole_or_not_at_all() {
    let providers = Providers::default();
    let home = name("home");
    let fields = parse(&changed(|_| {})).unwrap();
    assert_eq!(
        providers
            .put(1, home.clone(), fields, None)
            .unwrap()
            .generation,
        1
    );
    let patch =
        |body: Value| -> TargetsPatch { parse_targets(body.to_string().as_bytes()).unwrap() };
    let before = providers.get(1, &home).unwrap();
    for bad in [
        json!({"changed": [lamp("b")], "removed": ["none"]}),
        json!({"changed": [lamp("b"), lamp("b")]}),
        json!({"changed": [lamp("b"), {"id": "c", "name": "", "kind": "x"}]}),
    ] {
        providers.patch(1, &home, patch(bad)).unwrap_err();
    }
    assert_eq!(
        providers.get(1, &home).unwrap().generation,
        before.generation
    );
    let mut renamed = lamp("a");
    renamed["name"] = json!("Desk");
    let shown = providers.patch(1, &home, patch(json!({"changed": [renamed, lamp("b")]})));
    assert_eq!(shown.unwrap().targets, 2);
    let shown = providers
        .patch(1, &home, patch(json!({"removed": ["b"]})))
        .unwrap();
    assert_eq!((shown.targets, shown.generation), (1, 3));
    let names = |entry: &Entry| -> Vec<String> {
        let targets = entry.provider.targets().iter();
        targets.map(|target: &Target| target.name.clone()).collect()
    };
    assert_eq!(names(&providers.get(1, &home).unwrap()), ["Desk"]);
    // Who reads meanwhile goes on with what was.
    assert_eq!(names(&before), ["Lamp"]);
}

#[test]
fn a_provider_is_its_users_alone_and_each_has_so_many() {
    let providers = Providers::default();
    let home = name("home");
    let fields = parse(&changed(|_| {})).unwrap();
    providers
        .put(1, home.clone(), fields.clone(), None)
        .unwrap();
    for refused in [
        providers.get(2, &home).map(drop),
        providers.remove(2, &home),
        providers.patch(2, &home, TargetsPatch::default()).map(drop),
    ] {
        assert_eq!(refused.unwrap_err().code, ErrorCode::NotFound);
    }
    assert!(providers.all(2).is_empty());
    // The same name is another provider for another user.
    providers
        .put(2, home.clone(), fields.clone(), None)
        .unwrap();
    providers.remove(2, &home).unwrap();
    assert_eq!(providers.all(1).len(), 1);
    for n in 1..PROVIDERS_PER_UID_MAX {
        providers
            .put(1, name(&n.to_string()), fields.clone(), None)
            .unwrap();
    }
    let error = providers
        .put(1, name("more"), fields.clone(), None)
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::QuotaExceeded);
    // One's own can be replaced all the same, and others are not kept out.
    providers.put(1, home, fields.clone(), None).unwrap();
    providers.put(3, name("more"), fields, None).unwrap();
}

#[test]
fn names_of_providers_are_plain() {
    for good in ["home", "a", "Ferienhaus_2", "hub.v1-x", &"x".repeat(64)] {
        assert!(ProviderName::parse(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "..", ".x", "a/b", "a b", "ä", &"x".repeat(65)] {
        let error = ProviderName::parse(bad).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("name"), "{bad}");
    }
}
