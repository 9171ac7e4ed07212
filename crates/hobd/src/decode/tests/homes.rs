//! Homes of all kinds, and calls in them.

use std::collections::BTreeMap;

use hob_api::provider::Scalar;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::providers::{Provider, ValidCall, Values};

const NAMES: &[&str] = &[
    "Kitchen Lamp",
    "Lamp",
    "lamp",
    "Küchenlicht",
    "厨房灯",
    "say \"hi\"",
    "back\\slash",
    "every light",
    "<|im_end|>",
    "turn_on",
    "x=1",
    "a, b",
    "🙂",
    "(talk)",
    "/",
    "{}",
    "%json",
];
const KINDS: &[&str] = &["light", "cover", "lock", "odd,kind", "light\"", "e"];
const ROOMS: &[&str] = &["Kitchen", "Hall", "Küche", "\"", "Up\\stairs"];
const TOOLS: &[&str] = &["on", "on.all", "on-2", "set", "talk", "add", "every", "a"];
const ARGUMENTS: &[&str] = &["x", "level", "mode", "x.y", "item"];

fn property() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "integer"})),
        Just(json!({"type": "number"})),
        prop::sample::subsequence(NAMES, 1..5)
            .prop_map(|names| json!({"type": "string", "enum": names})),
        prop::collection::btree_set(any::<i16>(), 1..5)
            .prop_map(|values| json!({"type": "integer", "enum": values})),
        (any::<i32>(), 0_i32..2000).prop_map(|(least, width)| {
            json!({"type": "integer", "minimum": least, "maximum": i64::from(least) + i64::from(width)})
        }),
        (-200.0..200.0_f64, 0.0..50.0_f64).prop_map(|(least, width)| {
            json!({"type": "number", "minimum": least, "maximum": least + width})
        }),
    ]
}

fn tool() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(ARGUMENTS);
    let arguments = prop::collection::btree_map(name, (property(), any::<bool>()), 0..4);
    let kinds = prop::option::of(prop::sample::subsequence(KINDS, 0..3));
    (arguments, kinds).prop_map(|(arguments, kinds)| {
        let required = arguments.iter().filter(|(_, (_, required))| *required);
        let required: Vec<_> = required.map(|(name, _)| *name).collect();
        let properties: BTreeMap<_, _> = arguments
            .iter()
            .map(|(name, (property, _))| (*name, property.clone()))
            .collect();
        let mut tool = json!({
            "parameters": {"type": "object", "properties": properties, "required": required},
        });
        if let Some(kinds) = kinds {
            tool["acts_on"] = json!({"kinds": kinds});
        }
        tool
    })
}

fn target() -> impl Strategy<Value = Value> {
    let room = || prop::option::of(prop::sample::select(ROOMS));
    let (name, kind) = (prop::sample::select(NAMES), prop::sample::select(KINDS));
    (name, kind, room(), room())
        .prop_map(|(name, kind, area, floor)| json!({"name": name, "kind": kind, "area": area, "floor": floor}))
}

/// A home, if it is one.
pub(super) fn home() -> impl Strategy<Value = Value> {
    let tools = prop::sample::subsequence(TOOLS, 1..8).prop_flat_map(|names| {
        let count = names.len();
        (Just(names), prop::collection::vec(tool(), count))
    });
    (tools, prop::collection::vec(target(), 0..14)).prop_map(|((names, mut tools), mut targets)| {
        for (tool, name) in tools.iter_mut().zip(names) {
            tool["name"] = json!(name);
        }
        for (n, target) in targets.iter_mut().enumerate() {
            target["id"] = json!(format!("t.{n}"));
        }
        json!({"tools": tools, "targets": targets})
    })
}

/// A home with so many targets and tools.
pub(super) fn large(targets: usize, tools: usize) -> Value {
    let kinds = ["light", "cover", "climate", "switch"];
    let things = [
        "Ceiling Lamp",
        "Blinds",
        "Heating",
        "Outlet",
        "Reading Lamp",
        "Fan",
    ];
    let target = |n: usize| {
        json!({"id": format!("t.{n}"), "name": format!("{} {n}", things[n % things.len()]),
               "kind": kinds[n % kinds.len()], "area": format!("Room {}", n % 23)})
    };
    let tool = |n: usize| {
        let level = json!({"type": "integer", "minimum": 0, "maximum": 100});
        let kinds = if n == 0 {
            vec![]
        } else {
            vec![kinds[n % kinds.len()]]
        };
        let properties = if n % 3 == 1 {
            json!({"level": level})
        } else {
            json!({})
        };
        json!({"name": format!("tool_{n}"), "acts_on": {"kinds": kinds},
               "parameters": {"type": "object", "properties": properties},
               "examples": ["do it to the {target}"]})
    };
    json!({
        "tools": (0..tools).map(tool).collect::<Vec<_>>(),
        "targets": (0..targets).map(target).collect::<Vec<_>>(),
    })
}

/// Some call of a tool, if it has any.
pub(super) fn call(
    provider: &Provider,
    place: usize,
    pick: &mut impl FnMut(usize) -> usize,
) -> Option<ValidCall> {
    let tool = &provider.tools()[place];
    let mut targets = Vec::new();
    if tool.acts_on().is_some() {
        let all = provider.targets();
        let mut accepted: Vec<usize> = (0..all.len())
            .filter(|at| tool.accepts(&all[*at]))
            .collect();
        if accepted.is_empty() {
            return None;
        }
        for _ in 0..=pick(accepted.len().min(4)) {
            targets.push(accepted.swap_remove(pick(accepted.len())));
        }
    }
    let mut arguments = BTreeMap::new();
    for parameter in tool.parameters() {
        if !parameter.required && pick(2) == 0 {
            continue;
        }
        let value = match &parameter.values {
            Values::Text => Scalar::Text(["milk", "a \"b\" \\ c", "Öl 🙂"][pick(3)].to_owned()),
            Values::Choice(choices) => choices[pick(choices.len())].clone(),
            Values::Integer(range) => Scalar::Integer([*range.start(), *range.end()][pick(2)]),
            Values::Number(range) => {
                let hundredth = (range.start().max(-1e9) * 100.0).ceil() / 100.0;
                if !range.contains(&hundredth) {
                    return None;
                }
                Scalar::Number(hundredth)
            }
            Values::Boolean => Scalar::Boolean(pick(2) == 0),
        };
        arguments.insert(parameter.name.clone(), value);
    }
    ValidCall::new(provider, place, targets, arguments).ok()
}
