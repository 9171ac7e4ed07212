//! What is a question about the home and no command.

use super::heard::Heard;
use super::{lexicon, words};

/// Words that a question or a command may have before it begins.
const OPENING: &[&str] = &[
    "hey", "ok", "okay", "hob", "please", "bitte", "can", "could", "would", "will", "you", "so",
    "and", "und", "kannst", "koennten", "koennen", "du", "sie", "mir", "hi", "hallo", "uh", "um",
    "aeh", "well", "also", "wir", "we", "ich", "i",
];
/// What a command may begin with that looks like a question: the rest of it is what counts.
const POLITE: &[&[&str]] = &[
    &["is", "it", "possible", "to"],
    &["is", "it", "ok", "to"],
    &["is", "it", "okay", "to"],
    &["is", "it", "time", "to"],
    &["why", "dont", "you"],
    &["why", "dont", "we"],
    &["why", "not"],
    &["how", "about"],
    &["do", "you", "mind"],
    &["ist", "es", "moeglich"],
    &["wie", "waere", "es"],
];
/// With these in it, something is asked, wherever they stand.
const CHECKING: &[&str] = &[
    "whether",
    "ob",
    "pruefen",
    "pruefe",
    "ueberpruefen",
    "ueberpruefe",
    "nachsehen",
    "kontrollieren",
    "informieren",
];
/// With these, something is asked if it is said what, as in "I wonder if".
const WONDERING: &[&str] = &["wonder", "wondering", "know", "curious", "idea", "wissen"];
/// What a question begins with beside the lexicon's words.
const BEGINNING: &[&str] = &[
    "any",
    "check",
    "wird",
    "werden",
    "spielt",
    "befindet",
    "leuchtet",
    "liegt",
    "gibt",
    "sag",
    "sage",
    "sagen",
    "irgendeine",
];
/// Verbs with which somebody asks to be told.
const TELLING: &[&str] = &[
    "tell", "check", "show", "give", "sag", "sage", "sagen", "zeig", "zeige", "zeigen",
];
/// What somebody wants to be told.
const TOLD: &[&str] = &[
    "status",
    "state",
    "zustand",
    "update",
    "current",
    "aktuell",
    "aktuelle",
    "aktuellen",
];
/// What is done to a state that is to become another.
const CHANGING: &[&str] = &[
    "switch", "swap", "change", "flip", "alter", "reverse", "turn", "schalte", "schalten",
];

/// Words that make what follows hang on something, or forbid it.
const BINDING: &[&str] = &[
    "if",
    "when",
    "whenever",
    "until",
    "till",
    "unless",
    "after",
    "before",
    "once",
    "while",
    "except",
    "but",
    "only",
    "wenn",
    "falls",
    "bis",
    "sobald",
    "nachdem",
    "bevor",
    "solange",
    "waehrend",
    "ausser",
    "nur",
    "aber",
    "sonst",
    "otherwise",
    "instead",
];

/// Whether a part of what was said may be a condition of another part, or take it back: then the other
/// is not done alone.
pub(super) fn may_bind(text: &str) -> bool {
    let words = words::words(text, false);
    words
        .iter()
        .any(|word| BINDING.contains(&word.folded.as_str()) || lexicon::is_negation(&word.folded))
}

/// Whether somebody asks how something is, instead of saying what is to be done.
pub(super) fn is_question(heard: &Heard) -> bool {
    let words = heard.folded();
    let start = words.iter().position(|word| !OPENING.contains(word));
    let said = &words[start.unwrap_or(words.len())..];
    let Some((first, rest)) = said.split_first() else {
        return false;
    };
    if POLITE.iter().any(|polite| said.starts_with(polite)) {
        return false;
    }
    match *first {
        // "Have you locked the door?" asks, "have the robot start" does not.
        "have" => rest
            .iter()
            .any(|word| matches!(*word, "i" | "you" | "we" | "they" | "been")),
        // "Tell me", and not "tell the robot to start".
        "tell" => matches!(rest.first(), Some(&("me" | "us"))),
        first if BEGINNING.contains(&first) || lexicon::is_asking(first) => true,
        _ if said.iter().any(|word| CHECKING.contains(word)) || wonders(said) => true,
        "see" | "say" => said.contains(&"if"),
        _ => asks_to_be_told(heard, start.unwrap_or_default()),
    }
}

/// Whether a word says no more than that something is asked.
pub(super) fn is_asking_for(folded: &str) -> bool {
    [CHECKING, WONDERING, TELLING]
        .iter()
        .any(|words| words.contains(&folded))
        || folded == "if"
}

/// Whether somebody says that they want to know something.
fn wonders(said: &[&str]) -> bool {
    let Some(place) = said.iter().position(|word| WONDERING.contains(word)) else {
        return false;
    };
    let asked = |word: &&str| matches!(*word, "if" | "about") || lexicon::is_asking(word);
    said[place..].iter().any(asked)
}

/// Whether it is about how something is, and not about changing that.
fn asks_to_be_told(heard: &Heard, start: usize) -> bool {
    let told = |word: &str| TOLD.contains(&word);
    let said = &heard.words[start..];
    let Some(about) = said.iter().position(|word| told(&word.word.folded)) else {
        return false;
    };
    let changes = heard
        .meanings
        .names()
        .any(|meaning| matches!(meaning, "#toggle" | "#set"));
    // "Stop the current track" says first what is to be done.
    let acts = said[..about].iter().any(|word| !word.meanings.is_empty());
    // "Switch the state of the lamp": it is to be another.
    let acts = acts
        || said[..about]
            .iter()
            .any(|word| CHANGING.contains(&word.word.folded.as_str()));
    let telling = said
        .iter()
        .take(2)
        .any(|word| TELLING.contains(&word.word.folded.as_str()));
    !changes && (telling || !acts)
}
