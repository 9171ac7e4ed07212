//! Whatever is registered and whatever is said: what is answered exists.

use std::collections::BTreeMap;

use hob_api::home::{Call, UTTERANCE_BYTES_MAX};
use hob_api::provider::{Property, PropertyType, Scalar, Target, Tool};
use proptest::prelude::*;

use super::*;

/// Words that homes and utterances have in common, so that many a sentence means something.
const WORDS: &[&str] = &[
    "turn",
    "on",
    "off",
    "kitchen",
    "bedroom",
    "light",
    "lights",
    "lamp",
    "all",
    "everything",
    "and",
    "the",
    "set",
    "dim",
    "to",
    "50",
    "%",
    "percent",
    "half",
    "an",
    "hour",
    "bit",
    "warmer",
    "lower",
    "open",
    "close",
    "blinds",
    "lock",
    "unlock",
    "door",
    "Küche",
    "Küchenlicht",
    "schalte",
    "aus",
    "ein",
    "alle",
    "oben",
    "upstairs",
    "red",
    "rot",
    "blue",
    "is",
    "what",
    "timer",
    "for",
    "minutes",
    "zwanzig",
    "second",
    "2",
    "a",
    "厨房灯",
    "свет",
    "🙂",
    "add",
    "milk",
    "list",
    "-5",
    "1e9",
    "99999999999999999999",
    "not",
    "without",
    ",",
    ".",
    "?",
    "'",
    "{target}",
    "{x}",
];

fn phrase(words: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(WORDS), words).prop_map(|words| words.join(" "))
}

fn scalar_of(kind: PropertyType) -> BoxedStrategy<Value> {
    match kind {
        PropertyType::Integer => any::<i32>().prop_map(|n| json!(n)).boxed(),
        PropertyType::Number => (-1000.0..1000.0_f64).prop_map(|n| json!(n)).boxed(),
        _ => phrase(1..3).prop_map(|text| json!(text)).boxed(),
    }
}

fn property() -> impl Strategy<Value = Value> {
    let kinds = [
        PropertyType::String,
        PropertyType::Integer,
        PropertyType::Number,
        PropertyType::Boolean,
    ];
    let chosen = (
        prop::sample::select(kinds.to_vec()),
        any::<bool>(),
        phrase(0..4),
    );
    chosen.prop_flat_map(|(kind, closed, description)| {
        let base = json!({"type": kind, "description": description});
        let numeric = matches!(kind, PropertyType::Integer | PropertyType::Number);
        if closed && kind != PropertyType::Boolean {
            let values = prop::collection::vec(scalar_of(kind), 1..4);
            return values
                .prop_map(move |values| {
                    let mut base = base.clone();
                    base["enum"] = json!(values);
                    base
                })
                .boxed();
        }
        if numeric {
            return (-300_i32..300, 0_i32..600)
                .prop_map(move |(least, width)| {
                    let mut base = base.clone();
                    base["minimum"] = json!(least);
                    base["maximum"] = json!(least + width);
                    base
                })
                .boxed();
        }
        Just(base).boxed()
    })
}

const NAMES: &[&str] = &[
    "brightness",
    "temperature",
    "duration",
    "minutes",
    "delta",
    "color",
    "item",
    "x",
];
const KINDS: &[&str] = &["light", "cover", "lock", "climate", "todo", "thing"];
const TOOLS: &[&str] = &[
    "turn_on",
    "turn_off",
    "set_level",
    "open",
    "close",
    "lock",
    "unlock",
    "add",
    "go",
];

fn tool() -> impl Strategy<Value = Value> {
    let parameters = prop::collection::btree_map(
        prop::sample::select(NAMES),
        (property(), any::<bool>()),
        0..4,
    );
    let kinds = prop::option::of(prop::collection::vec(prop::sample::select(KINDS), 0..3));
    let examples = prop::collection::vec(phrase(1..7), 0..4);
    (parameters, kinds, examples, any::<bool>()).prop_map(
        |(parameters, kinds, examples, danger)| {
            let required: Vec<_> = parameters
                .iter()
                .filter(|(_, (_, r))| *r)
                .map(|(name, _)| *name)
                .collect();
            let properties: BTreeMap<_, _> = parameters
                .iter()
                .map(|(name, (p, _))| (*name, p.clone()))
                .collect();
            let mut tool = json!({
                "parameters": {"type": "object", "properties": properties, "required": required},
                "examples": examples, "dangerous": danger,
            });
            if let Some(kinds) = kinds {
                tool["acts_on"] = json!({"kinds": kinds});
            }
            tool
        },
    )
}

fn target() -> impl Strategy<Value = Value> {
    let name = phrase(1..4);
    let kind = prop::sample::select(KINDS);
    let place = || {
        prop::option::of(prop::sample::select(vec![
            "Kitchen", "Bedroom", "Upstairs", "Küche",
        ]))
    };
    (name, kind, place(), place(), any::<i16>()).prop_map(|(name, kind, area, floor, state)| {
        json!({"name": name, "kind": kind, "area": area, "floor": floor,
               "state": {"brightness": state, "temperature": 20.5}})
    })
}

fn home() -> impl Strategy<Value = Value> {
    let tools = prop::sample::subsequence(TOOLS, 1..7)
        .prop_flat_map(|names| {
            let count = names.len();
            (Just(names), prop::collection::vec(tool(), count))
        })
        .prop_map(|(names, mut tools)| {
            for (tool, name) in tools.iter_mut().zip(names) {
                tool["name"] = json!(name);
            }
            tools
        });
    (tools, prop::collection::vec(target(), 0..12)).prop_map(|(tools, mut targets)| {
        for (n, target) in targets.iter_mut().enumerate() {
            target["id"] = json!(format!("t.{n}"));
        }
        json!({"tools": tools, "targets": targets})
    })
}

/// Whether the wire form of a call is right by the wire form of the definition, found without any
/// of hob's own checks.
fn exists(fields: &ProviderFields, call: &Call) -> bool {
    let Some(tool) = fields.tools.iter().find(|tool| tool.name == call.tool) else {
        return false;
    };
    let mut seen = std::collections::HashSet::new();
    let targets = call.targets.iter().all(|id| {
        let target = fields.targets.iter().find(|target| target.id == *id);
        seen.insert(id) && target.is_some_and(|target| acts_on(tool, target))
    });
    let some = call.targets.is_empty() == tool.acts_on.is_none();
    let parameters = tool.parameters.clone().unwrap_or_default();
    let required = parameters
        .required
        .iter()
        .all(|name| call.arguments.contains_key(name));
    let fits = call.arguments.iter().all(|(name, value)| {
        parameters
            .properties
            .get(name)
            .is_some_and(|property| fits(property, value))
    });
    let sure = (0.0..=1.0).contains(&call.probability);
    let asks = call.needs_confirmation == (tool.dangerous || tool.needs_confirmation);
    targets && some && required && fits && sure && asks
}

fn acts_on(tool: &Tool, target: &Target) -> bool {
    let acts_on = tool.acts_on.clone().unwrap_or_default();
    acts_on.kinds.is_empty() || acts_on.kinds.contains(&target.kind)
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn fits(property: &Property, value: &Scalar) -> bool {
    let typed = matches!(
        (property.kind, value),
        (PropertyType::String, Scalar::Text(_))
            | (PropertyType::Boolean, Scalar::Boolean(_))
            | (PropertyType::Integer, Scalar::Integer(_))
            | (PropertyType::Number, Scalar::Integer(_) | Scalar::Number(_))
    );
    let number = match value {
        Scalar::Integer(n) => Some(*n as f64),
        Scalar::Number(n) => Some(*n),
        _ => None,
    };
    let within = number.is_none_or(|n| {
        n.is_finite()
            && property.minimum.is_none_or(|least| n >= least)
            && property.maximum.is_none_or(|most| n <= most)
    });
    let chosen = property
        .choices
        .as_ref()
        .is_none_or(|choices| choices.contains(value));
    typed && within && chosen
}

/// Registers a home, if it is one (values may be there twice), and reads a sentence in it.
fn check(body: &Value, text: &str, options: &Options) {
    let Ok(fields) = parse_provider(body.to_string().as_bytes()) else {
        return;
    };
    let name = ProviderName::parse("home").unwrap();
    let Ok(_) = Provider::new(name.clone(), fields.clone()) else {
        return;
    };
    let providers = Providers::default();
    providers.put(1, name, fields.clone(), None).unwrap();
    let answer = answer(&providers.all(1), text, options).unwrap();
    for call in answer.calls.iter().chain(&answer.alternatives) {
        assert!(exists(&fields, call), "{text}: {call:?} in {body}");
    }
    let known = |id: &String| fields.targets.iter().any(|target| target.id == *id);
    assert!(answer.targets.iter().all(known));
    assert_eq!(answer.calls.is_empty(), answer.outcome != Outcome::Call);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_exists(body in home(), text in phrase(1..12), area in any::<bool>()) {
        let options = Options {
            area: area.then(|| "Kitchen".to_owned()),
            min_probability: Some(0.0),
            ..Options::default()
        };
        check(&body, &text, &options);
    }

    #[test]
    fn any_text_is_read(text in "\\PC{0,80}") {
        check(&house(), &text, &Options::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_exists_without_any_aid(
        body in home(),
        text in phrase(1..12),
        without in prop::sample::subsequence(Aid::ALL.to_vec(), 0..Aid::ALL.len()),
    ) {
        let options = Options {
            without: without.into_iter().collect(),
            min_probability: Some(0.0),
            ..Options::default()
        };
        check(&body, &text, &options);
    }
}

#[test]
fn long_utterances_are_read_within_bounds() {
    let text = "turn on the desk lamp and ".repeat(10);
    let answer = read_with(&house(), &text, &Options::default());
    assert_eq!(answer.calls.len(), super::super::clauses::CLAUSES_MAX);
    let mut text = text.repeat(8);
    text.truncate(UTTERANCE_BYTES_MAX);
    let answer = read_with(&house(), &text, &Options::default());
    assert_eq!(answer.outcome, Outcome::Talk);
}
