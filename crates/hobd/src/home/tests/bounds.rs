//! What a provider's words and an utterance may cost.

use serde_json::json;

use super::super::index::Index;
use super::entries;

/// A word of letters for each number.
fn word(mut number: usize) -> String {
    let mut word = "wo".to_owned();
    for _ in 0..4 {
        word.push(char::from(
            b'a' + u8::try_from(number % 26).unwrap_or_default(),
        ));
        number /= 26;
    }
    word
}

#[test]
fn words_of_examples_are_bounded() {
    let mut next = 0;
    let mut example = || {
        let words: Vec<String> = (0..60)
            .map(|_| {
                next += 1;
                word(next)
            })
            .collect();
        json!({"text": words.join(" "), "target": "lamp"})
    };
    let tools: Vec<_> = (0..16)
        .map(|tool| {
            let examples: Vec<_> = (0..128).map(|_| example()).collect();
            json!({"name": format!("tool_{tool}"), "acts_on": {}, "examples": examples})
        })
        .collect();
    let targets = json!([{"id": "lamp", "name": "Lamp", "kind": "light"}]);
    let entries = entries(&[("home", json!({"tools": tools, "targets": targets}))]);
    let index: &Index = &entries[0].index;
    assert!(index.words.len() < 100, "{}", index.words.len());
    assert!(index.profile.len() < 9000, "{}", index.profile.len());
}

#[test]
fn words_of_names_that_are_all_alike_are_compared_within_bounds() {
    let names: Vec<String> = (0..12_000).map(|number| word(number * 7)).collect();
    let targets: Vec<_> = names
        .chunks(12)
        .enumerate()
        .map(|(place, names)| {
            json!({"id": format!("t{place}"), "name": names[0], "aliases": &names[1..], "kind": "light"})
        })
        .collect();
    let body = json!({"tools": [{"name": "turn_on", "acts_on": {}}], "targets": targets});
    let index = &entries(&[("home", body)])[0].index;
    let heard = super::super::heard::Heard::new("woaaaax", index, &super::Options::default());
    assert!(heard.words[0].matches.len() <= 16);
}
