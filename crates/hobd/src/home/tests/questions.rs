//! What is asked about a home, and what its state says to it.

use hob_api::home::{AskedForm, Language};

use super::*;
use crate::fulfilment::reply;

/// A house whose hub tells states in several ways, as hubs do.
fn told() -> Value {
    let mut house = house();
    let state = |id: &str, state: Value| (id.to_owned(), state);
    let states = [
        state("l.kitchen", json!({"state": "on", "brightness": 80})),
        state("l.counter", json!({"brightness": 0})),
        state("l.bed", json!({"on": true, "brightness": 30})),
        state("l.study", json!({"state": "off"})),
        state("c.kitchen", json!({"position": 100})),
        state("c.bed", json!({"state": "closed"})),
        state("k.front", json!({"state": "locked", "battery": 80})),
        state(
            "t.hall",
            json!({"temperature": 21, "measured": 19.5, "mode": "heat"}),
        ),
    ];
    let targets = house["targets"].as_array_mut().unwrap();
    for (id, state) in states {
        let target = targets.iter_mut().find(|target| target["id"] == *id);
        target.unwrap()["state"] = state;
    }
    targets.extend([
        json!({"id": "w.bath", "name": "Bath Window", "aliases": ["Badfenster"], "kind": "contact",
            "area": "Bathroom", "state": {"open": true}}),
        json!({"id": "w.study", "name": "Study Window", "aliases": ["Studierfenster"],
            "kind": "contact", "area": "Study", "state": {"open": false}}),
        json!({"id": "s.bed", "name": "Bedroom Sensor", "kind": "sensor", "area": "Bedroom",
            "state": {"temperature": 18.5, "humidity": 55}}),
        json!({"id": "v", "name": "Robot", "kind": "vacuum", "state": {"state": "docked"}}),
        json!({"id": "m", "name": "Radio", "kind": "media_player",
            "state": {"state": "playing", "volume": 30, "title": "Blue Train"}}),
    ]);
    house
}

fn says(text: &str) -> [String; 2] {
    let entries = entries(&[("home", told())]);
    let answer = answer(&entries, text, &Options::default()).unwrap();
    assert_eq!(answer.outcome, Outcome::Question, "{text}: {answer:?}");
    Language::ALL.map(|language| reply(&answer, &entries, language))
}

#[test]
fn questions_are_answered_by_what_the_state_says() {
    for (text, english) in [
        ("which lights are on?", "Kitchen Ceiling, Bedside Lamp."),
        ("which light is on upstairs?", "Bedside Lamp."),
        ("what lights are on in the kitchen?", "Kitchen Ceiling."),
        (
            "how many lights are on?",
            "2: Kitchen Ceiling, Bedside Lamp.",
        ),
        (
            "how many blinds are there in the kitchen?",
            "1: Kitchen Blinds.",
        ),
        ("is the desk lamp on?", "Desk Lamp: no."),
        ("is the bedside lamp turned on?", "Bedside Lamp: yes."),
        ("are the lights on in the kitchen?", "Only Kitchen Ceiling."),
        ("are all windows closed?", "Only Study Window."),
        ("is any window open?", "Only Bath Window."),
        ("are the blinds closed?", "Only Bedroom Blinds."),
        ("is the front door locked?", "Front Door: yes."),
        // What is locked is not open, though the lock does not say so.
        ("is the front door open?", "Front Door: no."),
        ("which doors are not locked?", "None."),
        ("is the robot docked?", "Robot: yes."),
        ("what's playing?", "Radio: title Blue Train."),
        ("how loud is the radio?", "Radio: volume 30."),
        (
            "how warm is it in the bedroom?",
            "Bedroom Sensor: temperature 18.5.",
        ),
        ("how humid is it?", "Bedroom Sensor: humidity 55."),
        (
            "what is the thermostat set to?",
            "Thermostat: temperature 21.",
        ),
        ("how warm is it in the hall?", "Thermostat: measured 19.5."),
        (
            "how humid is it in the hall?",
            "I don't know that about Thermostat.",
        ),
        (
            "is the bedroom fan on?",
            "I don't know that about Bedroom Fan.",
        ),
        ("how is the front door?", "Front Door: locked, battery 80."),
    ] {
        assert_eq!(says(text)[0], english, "{text}");
    }
    for (text, german) in [
        ("welche Lichter sind an?", "Kitchen Ceiling, Bedside Lamp."),
        ("wie viele Lichter sind oben an?", "1: Bedside Lamp."),
        ("sind alle Fenster zu?", "Nur Study Window."),
        ("ist das Badfenster offen?", "Bath Window: ja."),
        ("ist die Schreibtischlampe an?", "Desk Lamp: nein."),
        (
            "wie warm ist es im Schlafzimmer?",
            "Bedroom Sensor: temperature 18,5.",
        ),
        ("sag mir, ob das Badfenster zu ist", "Bath Window: nein."),
    ] {
        assert_eq!(says(text)[1], german, "{text}");
    }
}

#[test]
fn what_is_asked_is_told_to_programs_as_well() {
    let answer = read_with(&told(), "which lights are on?", &Options::default());
    let asked = answer.asked.unwrap();
    assert_eq!(asked.form, AskedForm::Which);
    assert_eq!(asked.holds, ["l.kitchen", "l.bed"]);
    assert_eq!(asked.fails, ["l.counter", "l.study"]);
    assert_eq!(answer.targets.len(), 4);
}

#[test]
fn what_is_asked_of_the_world_is_no_question_about_the_home() {
    for text in [
        "what is the temperature of the sun?",
        "what is the speed of light?",
        "how far away is the moon?",
        "how long does it take to boil an egg?",
        "how warm is it in Hamburg?",
    ] {
        let answer = read_with(&told(), text, &Options::default());
        assert_eq!(answer.outcome, Outcome::Talk, "{text}: {answer:?}");
    }
}
