//! What is said to a word of courtesy, and to who asks what can be done: fixed sentences, so that no
//! model need be loaded to hear thanks.

use std::collections::BTreeSet;
use std::sync::Arc;

use hob_api::home::Language;

use super::reply::{REPLY_BYTES_MAX, several, spoken};
use crate::home::folded;
use crate::hub::cleaned;
use crate::providers::{Entry, Tool};

/// Most tools and rooms that are named when somebody asks what can be done.
const NAMED_MAX: usize = 6;

/// A courtesy: words of which one has to be said, words that may be said with it, and the replies in
/// English and German.
struct Courtesy {
    words: &'static [&'static str],
    with: &'static [&'static str],
    replies: [&'static str; 2],
}

const COURTESIES: &[Courtesy] = &[
    Courtesy {
        words: &[
            "thanks",
            "thank",
            "cheers",
            "danke",
            "dankeschoen",
            "dank",
            "merci",
        ],
        with: &[
            "you", "very", "much", "so", "a", "lot", "many", "for", "that", "ok", "okay", "great",
            "perfect", "no", "vielen", "besten", "schoen", "sehr", "dir", "das", "war", "alles",
            "gut", "super", "nein", "ja", "yes",
        ],
        replies: ["You're welcome.", "Gern geschehen."],
    },
    Courtesy {
        words: &["night", "nacht"],
        with: &["good", "gute", "schlaf"],
        replies: ["Good night.", "Gute Nacht."],
    },
    Courtesy {
        words: &[
            "hello",
            "hi",
            "hey",
            "morning",
            "evening",
            "afternoon",
            "hallo",
            "servus",
            "moin",
            "morgen",
            "tag",
            "abend",
        ],
        with: &["good", "guten", "there", "day", "du", "zusammen"],
        replies: ["Hello.", "Hallo."],
    },
    Courtesy {
        words: &["bye", "goodbye", "tschuess", "wiedersehen", "ciao"],
        with: &["good", "auf", "see", "you", "later"],
        replies: ["Goodbye.", "Auf Wiedersehen."],
    },
    Courtesy {
        words: &["mind", "forget", "nothing", "egal", "vergiss", "schon"],
        with: &[
            "never", "it", "that", "gut", "es", "das", "ok", "okay", "ist",
        ],
        replies: ["All right.", "In Ordnung."],
    },
];

/// Ways to ask what can be done.
const ASKING: &[&str] = &[
    "what can you do",
    "what can i say",
    "what do you do",
    "how can you help",
    "how can you help me",
    "what can i ask",
    "what can i ask you",
    "help",
    "was kannst du",
    "was kannst du tun",
    "was kannst du alles",
    "was koennen sie",
    "was kann ich sagen",
    "wie kannst du helfen",
    "wie kannst du mir helfen",
    "wobei kannst du helfen",
    "wobei kannst du mir helfen",
    "hilfe",
];

/// The reply to `text`, if it is no more than a courtesy or the question what can be done in the homes
/// of `entries`.
pub fn courtesy(text: &str, entries: &[Arc<Entry>], language: Language) -> Option<String> {
    let words = folded(text);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words: Vec<&str> = words
        .into_iter()
        .filter(|w| !matches!(*w, "hob" | "please" | "bitte"))
        .collect();
    if ASKING.contains(&words.join(" ").as_str()) {
        return able(entries, language);
    }
    let is = |courtesy: &&Courtesy| {
        words.iter().any(|word| courtesy.words.contains(word))
            && (words.iter())
                .all(|word| courtesy.words.contains(word) || courtesy.with.contains(word))
    };
    let [english, german] = COURTESIES.iter().find(is)?.replies;
    Some(match language {
        Language::English => english.to_owned(),
        Language::German => german.to_owned(),
    })
}

/// What the homes' tools do, and in which rooms; nothing if there are none.
fn able(entries: &[Arc<Entry>], language: Language) -> Option<String> {
    let tools = entries.iter().flat_map(|entry| entry.provider.tools());
    let tools: BTreeSet<String> = tools.map(Tool::name).map(spoken).collect();
    let targets = entries.iter().flat_map(|entry| entry.provider.targets());
    let rooms: BTreeSet<String> = targets.filter_map(|target| target.area.clone()).collect();
    if tools.is_empty() {
        return None;
    }
    let tools = several(tools.into_iter(), NAMED_MAX, language);
    let reply = match (language, rooms.is_empty()) {
        (Language::English, true) => format!("I can do this here: {tools}."),
        (Language::German, true) => format!("Das kann ich hier: {tools}."),
        (Language::English, false) => {
            format!(
                "I can do this here: {tools}. Rooms: {}.",
                several(rooms.into_iter(), NAMED_MAX, language)
            )
        }
        (Language::German, false) => {
            format!(
                "Das kann ich hier: {tools}. Räume: {}.",
                several(rooms.into_iter(), NAMED_MAX, language)
            )
        }
    };
    Some(cleaned(&reply, REPLY_BYTES_MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::{ProviderName, Providers};

    fn entries() -> Vec<Arc<Entry>> {
        let providers = Providers::default();
        let tools = [
            "turn_on",
            "turn_off",
            "lock",
            "unlock",
            "set_level",
            "start",
            "stop",
        ];
        let tools = tools.map(|name| json!({"name": name, "acts_on": {}}));
        let target =
            |id: &str, area: &str| json!({"id": id, "name": id, "kind": "light", "area": area});
        let targets = [target("a", "Kitchen"), target("b", "Hall")];
        let fields = json!({"tools": tools, "targets": targets});
        let fields = serde_json::from_value(fields).unwrap();
        let name = ProviderName::parse("home").unwrap();
        providers.put(1, name, fields, None).unwrap();
        providers.all(1)
    }

    fn english(text: &str) -> Option<String> {
        courtesy(text, &entries(), Language::English)
    }

    #[test]
    fn a_courtesy_is_answered_in_its_language() {
        for (text, english, german) in [
            ("Thanks!", "You're welcome.", "Gern geschehen."),
            (
                "thank you very much, hob",
                "You're welcome.",
                "Gern geschehen.",
            ),
            (
                "Danke, das war alles.",
                "You're welcome.",
                "Gern geschehen.",
            ),
            ("hello", "Hello.", "Hallo."),
            ("Guten Morgen!", "Hello.", "Hallo."),
            ("gute Nacht", "Good night.", "Gute Nacht."),
            ("never mind", "All right.", "In Ordnung."),
        ] {
            for (language, expected) in Language::ALL.into_iter().zip([english, german]) {
                let said = courtesy(text, &[], language);
                assert_eq!(said.as_deref(), Some(expected), "{text}");
            }
        }
    }

    #[test]
    fn more_than_a_courtesy_is_none() {
        for text in [
            "thanks for turning on the lamp, who wrote Faust?",
            "good grief",
            "the night is dark",
            "what can you do about the weather",
            "nothing compares to you",
            "",
        ] {
            assert_eq!(english(text), None, "{text}");
        }
    }

    #[test]
    fn who_asks_what_can_be_done_is_told_by_the_tools_and_rooms() {
        let said = english("What can you do?").unwrap();
        let tools = "lock, set level, start, stop, turn off, turn on and 1 more";
        assert!(
            said.starts_with(&format!("I can do this here: {tools}.")),
            "{said}"
        );
        assert!(said.ends_with("Rooms: Hall, Kitchen."), "{said}");
        let said = courtesy("Was kannst du?", &entries(), Language::German).unwrap();
        assert!(
            said.starts_with("Das kann ich hier: lock") && said.contains("Räume:"),
            "{said}"
        );
        // Where there is nothing, the model may say what it can do.
        assert_eq!(courtesy("what can you do?", &[], Language::English), None);
    }
}
