//! What homes and hubs are called and say is data: it chooses nothing.

use hob_api::home::CallResult;

use super::*;
use crate::fulfilment::reply;
use crate::hub::{RESULT_TEXT_BYTES_MAX, ToolResult};
use crate::providers::is_unseen;

/// Attempts: control tokens of chat templates, orders, ends of quoted text, escapes of terminals,
/// turned and unseen characters.
const ATTEMPTS: &str = include_str!("../../../../../tests/injections.json");

/// What people say, none of which is about the target that is called by an attempt.
const SAID: &[&str] = &[
    "turn on the desk lamp",
    "dim the bedside lamp to 30 percent",
    "lock the front door",
    "unlock the front door",
    "is the front door locked?",
    "open the kitchen blinds",
    "set the thermostat to 21 degrees",
    "set a timer for 5 minutes",
    "what is a dew point?",
    "order a pizza",
];

fn attempts() -> Vec<String> {
    let attempts: Vec<String> = serde_json::from_str(ATTEMPTS).unwrap();
    assert!(attempts.len() >= 60);
    attempts
}

/// A house with one more target, in one of whose fields stands `text`; `None` if that is refused.
fn house_with(field: &str, text: &str) -> Option<Value> {
    let mut house = house();
    let mut target = json!({"id": "x", "name": "Weather Station", "kind": "light"});
    match field {
        "aliases" => target["aliases"] = json!([text]),
        "state" => target["state"] = json!({"note": text}),
        _ => target[field] = json!(text),
    }
    house["targets"].as_array_mut().unwrap().push(target);
    let fields = parse_provider(house.to_string().as_bytes()).ok()?;
    let name = ProviderName::parse("home").unwrap();
    Provider::new(name, fields).ok()?;
    Some(house)
}

fn shortly(answer: &HomeAnswer) -> (Outcome, Vec<String>, Vec<String>) {
    (answer.outcome, short(answer), answer.targets.clone())
}

#[test]
fn what_a_target_is_called_or_tells_chooses_nothing_else() {
    let plain = house_with("name", "Weather Station").unwrap();
    let none = Options::default();
    let expected: Vec<_> = (SAID.iter())
        .map(|said| shortly(&read_with(&plain, said, &none)))
        .collect();
    let (mut refused, mut registered) = (0, 0);
    for attempt in attempts() {
        for field in ["name", "aliases", "area", "floor", "state"] {
            let Some(house) = house_with(field, &attempt) else {
                refused += 1;
                continue;
            };
            registered += 1;
            assert!(!attempt.chars().any(is_unseen), "{attempt:?} is in force");
            let homes = entries(&[("home", house)]);
            for (said, expected) in SAID.iter().zip(&expected) {
                let read = answer(&homes, said, &none).unwrap();
                assert_eq!(&shortly(&read), expected, "{field} {attempt:?}: {said}");
            }
        }
    }
    assert!(refused >= 50 && registered >= 200, "{refused} {registered}");
}

#[test]
fn what_a_hub_tells_is_said_clean_and_never_as_done() {
    let homes = entries(&[("home", house())]);
    for attempt in attempts() {
        for key in ["speech", "error"] {
            let fields = json!({"success": false, key: attempt, "data": {"note": attempt}});
            let result = ToolResult::read(fields.as_object().unwrap()).unwrap();
            let mut read = answer(&homes, "turn on the desk lamp", &Options::default()).unwrap();
            read.calls[0].result = Some(CallResult {
                status: hob_api::home::CallStatus::Failed,
                speech: result.speech,
                error: result.error,
                ..CallResult::default()
            });
            let said = reply(&read, &homes, hob_api::home::Language::English);
            assert!(said.starts_with("That did not work: Desk Lamp"), "{said:?}");
            assert!(!said.chars().any(is_unseen), "{said:?}");
            assert!(said.len() <= RESULT_TEXT_BYTES_MAX + 100);
            let note = serde_json::to_string(&result.data).unwrap();
            let note: Value = serde_json::from_str(&note).unwrap();
            let note = note["note"].as_str().unwrap_or_default();
            assert!(!note.chars().any(is_unseen), "{note:?}");
        }
    }
}
