//! What is said of what was done: short sentences in the language heard, of what hubs told.
//!
//! That something is done is said of calls with [`CallStatus::Done`] alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use hob_api::home::{Call, CallResult, CallStatus, HomeAnswer, Language, Outcome};
use hob_api::provider::{Scalar, Target};

use crate::hub::cleaned;
use crate::providers::Entry;

/// Most candidates that are named when it is not clear which one is meant.
const CANDIDATES_SAID: usize = 3;
/// Most targets that are named one by one.
const TARGETS_SAID: usize = 3;
/// Most values of one target's state that are said.
const VALUES_SAID: usize = 4;
/// The name of a target's own state among its values.
const STATE: &str = "state";
/// Longest reply in bytes.
const REPLY_BYTES_MAX: usize = 2000;

/// The reply to `answer`, each of whose calls has its result. `entries` are the providers that it is
/// about. Empty if it is no matter of the home.
pub fn reply(answer: &HomeAnswer, entries: &[Arc<Entry>], language: Language) -> String {
    let house = House { entries, language };
    let reply = match answer.outcome {
        Outcome::Call => house.acted(&answer.calls),
        Outcome::Question => house.told(answer),
        Outcome::Unsure => house.asked(&answer.alternatives),
        Outcome::Cannot => house.either("I can't do that here.", "Das kann ich hier nicht."),
        Outcome::Talk => String::new(),
    };
    cleaned(&reply, REPLY_BYTES_MAX)
}

struct House<'a> {
    entries: &'a [Arc<Entry>],
    language: Language,
}

impl House<'_> {
    fn either(&self, english: &str, german: &str) -> String {
        match self.language {
            Language::English => english,
            Language::German => german,
        }
        .to_owned()
    }

    fn target(&self, provider: &str, id: &str) -> Option<&Target> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.provider.name().as_str() == provider)?;
        let mut targets = entry.provider.targets().iter();
        targets.find(|target| target.id == id)
    }

    /// What the calls came to, those that went well together.
    fn acted(&self, calls: &[Call]) -> String {
        let mut sentences = Vec::new();
        let mut done: Vec<&Call> = Vec::new();
        for call in calls {
            let Some(result) = &call.result else { continue };
            match (result.status, &result.speech) {
                (CallStatus::Done, None) => done.push(call),
                (CallStatus::Done, Some(speech)) => sentences.push(sentence(speech)),
                _ => sentences.push(self.undone(call, result)),
            }
        }
        if !done.is_empty() {
            sentences.insert(0, self.done(&done));
        }
        sentences.join(" ")
    }

    fn done(&self, calls: &[&Call]) -> String {
        let mut ids: Vec<(&String, &String)> = Vec::new();
        for call in calls {
            ids.extend(call.targets.iter().map(|id| (&call.provider, id)));
        }
        let mut seen = BTreeSet::new();
        ids.retain(|id| seen.insert(*id));
        let names = ids
            .into_iter()
            .map(|(provider, id)| self.name(provider, id));
        let names: Vec<String> = names.collect();
        let all_named = calls.iter().all(|call| !call.targets.is_empty());
        match (self.language, all_named) {
            (Language::English, false) => "Done.".to_owned(),
            (Language::German, false) => "Erledigt.".to_owned(),
            (Language::English, true) => format!("Done: {}.", self.list(&names)),
            (Language::German, true) => format!("Erledigt: {}.", self.list(&names)),
        }
    }

    fn undone(&self, call: &Call, result: &CallResult) -> String {
        let what = self.what(call);
        match (result.status, self.language) {
            // A hub's own words never stand alone here: they might claim that it worked.
            (CallStatus::Done | CallStatus::Failed, language) => {
                let why = result.error.as_ref().or(result.speech.as_ref());
                let failed = match language {
                    Language::English => format!("That did not work: {what}"),
                    Language::German => format!("Das hat nicht geklappt: {what}"),
                };
                why.map_or_else(
                    || format!("{failed}."),
                    |why| format!("{failed} ({}).", why.trim_end_matches('.')),
                )
            }
            (CallStatus::Refused, Language::English) => {
                format!("I did not do that, as nobody confirmed it: {what}.")
            }
            (CallStatus::Refused, Language::German) => {
                format!("Das habe ich nicht getan, weil es niemand bestätigt hat: {what}.")
            }
            (CallStatus::Unanswered, Language::English) => {
                format!("I got no answer in time, so I don't know whether that worked: {what}.")
            }
            (CallStatus::Unanswered, Language::German) => {
                format!(
                    "Ich bekam rechtzeitig keine Antwort und weiß nicht, ob das geklappt hat: {what}."
                )
            }
            (CallStatus::Lost, Language::English) => {
                format!("The hub is gone, so I can't tell whether that worked: {what}.")
            }
            (CallStatus::Lost, Language::German) => {
                format!("Die Zentrale ist weg, ich weiß nicht, ob das geklappt hat: {what}.")
            }
            (CallStatus::Skipped, Language::English) => format!("I did not do that: {what}."),
            (CallStatus::Skipped, Language::German) => {
                format!("Das habe ich nicht getan: {what}.")
            }
        }
    }

    /// How the targets of a question are, as far as the hub told.
    fn told(&self, answer: &HomeAnswer) -> String {
        let provider = answer.provider.as_deref().unwrap_or_default();
        let targets = answer.targets.iter();
        let targets: Vec<&Target> = targets.filter_map(|id| self.target(provider, id)).collect();
        let known = targets.iter().filter(|target| !target.state.is_empty());
        let known: Vec<String> = known.map(|target| self.state(target)).collect();
        if known.is_empty() {
            let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
            let names = self.list(&names);
            return match self.language {
                Language::English => format!("I don't know that about {names}."),
                Language::German => format!("Das weiß ich nicht: {names}."),
            };
        }
        let left = known.len().saturating_sub(TARGETS_SAID);
        let mut said = known[..known.len() - left].to_vec();
        if left > 0 {
            said.push(match self.language {
                Language::English => format!("There are {left} more."),
                Language::German => format!("Es gibt {left} weitere."),
            });
        }
        said.join(" ")
    }

    /// What many hubs call `state` is the target's own, and is said first.
    fn state(&self, target: &Target) -> String {
        let main = target.state.get(STATE).map(|value| self.value(value));
        let others = target.state.iter().filter(|(name, _)| *name != STATE);
        let others = others.map(|(name, value)| format!("{} {}", spoken(name), self.value(value)));
        let values: Vec<String> = main.into_iter().chain(others).take(VALUES_SAID).collect();
        format!("{}: {}.", target.name, values.join(", "))
    }

    fn value(&self, value: &Scalar) -> String {
        match value {
            Scalar::Boolean(true) => self.either("yes", "ja"),
            Scalar::Boolean(false) => self.either("no", "nein"),
            Scalar::Integer(number) => number.to_string(),
            Scalar::Number(number) => match self.language {
                Language::English => number.to_string(),
                Language::German => number.to_string().replace('.', ","),
            },
            Scalar::Text(text) => text.clone(),
        }
    }

    /// Asks which of the candidates is meant.
    fn asked(&self, candidates: &[Call]) -> String {
        let labels = self.labels(&candidates[..candidates.len().min(CANDIDATES_SAID)]);
        let Some((last, first)) = labels.split_last() else {
            return self.either(
                "I am not sure what you mean.",
                "Ich bin nicht sicher, was gemeint ist.",
            );
        };
        let or = self.either("or", "oder");
        let labels = if first.is_empty() {
            last.clone()
        } else {
            format!("{} {or} {last}", first.join(", "))
        };
        match self.language {
            Language::English => format!("Do you mean {labels}?"),
            Language::German => format!("Ist {labels} gemeint?"),
        }
    }

    /// The shortest words by which the candidates differ.
    fn labels(&self, candidates: &[Call]) -> Vec<String> {
        let short: Vec<String> = candidates.iter().map(|call| self.what(call)).collect();
        if candidates.len() > 1 && differ(&short) {
            return short;
        }
        let placed: Vec<String> = candidates.iter().map(|call| self.placed(call)).collect();
        if candidates.len() > 1 && differ(&placed) {
            return placed;
        }
        let tool = |call: &Call| {
            if call.targets.is_empty() {
                spoken(&call.tool)
            } else {
                format!("{}: {}", spoken(&call.tool), self.what(call))
            }
        };
        let long: Vec<String> = candidates.iter().map(tool).collect();
        if differ(&long) {
            return long;
        }
        let labels = long.iter().zip(candidates);
        let mut labels: Vec<String> = labels
            .map(|(label, call)| format!("{label} ({})", call.provider))
            .collect();
        // Candidates that differ in arguments alone are one to the ear.
        labels.dedup();
        labels
    }

    /// A call's targets, or its tool if it has none.
    fn what(&self, call: &Call) -> String {
        let names = call.targets.iter().map(|id| self.name(&call.provider, id));
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            spoken(&call.tool)
        } else {
            self.list(&names)
        }
    }

    /// A call's targets with their room, if all are in one.
    fn placed(&self, call: &Call) -> String {
        let areas = call.targets.iter().map(|id| {
            let target = self.target(&call.provider, id);
            target.and_then(|target| target.area.as_deref())
        });
        let areas: BTreeSet<Option<&str>> = areas.collect();
        match areas.first() {
            Some(Some(area)) if areas.len() == 1 => format!("{} ({area})", self.what(call)),
            _ => self.what(call),
        }
    }

    fn name(&self, provider: &str, id: &str) -> String {
        let target = self.target(provider, id);
        target.map_or_else(|| id.to_owned(), |target| target.name.clone())
    }

    /// A few names, or how many there are.
    fn list(&self, names: &[String]) -> String {
        if names.len() > TARGETS_SAID {
            let count = names.len();
            return match self.language {
                Language::English => format!("{count} devices"),
                Language::German => format!("{count} Geräte"),
            };
        }
        names.join(", ")
    }
}

fn differ(labels: &[String]) -> bool {
    let all: BTreeSet<&String> = labels.iter().collect();
    all.len() == labels.len()
}

/// A hub's own word as one that can be said.
fn spoken(word: &str) -> String {
    word.replace(['_', '-', '.'], " ")
}

/// A hub's speech with an end.
fn sentence(speech: &str) -> String {
    let ended = speech.ends_with(['.', '!', '?', '…', '。']);
    format!("{speech}{}", if ended { "" } else { "." })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::{ProviderName, Providers};

    fn entries() -> Vec<Arc<Entry>> {
        let providers = Providers::default();
        let tools = json!([
            {"name": "turn_on", "acts_on": {}}, {"name": "turn_off", "acts_on": {}},
            {"name": "make_coffee"},
        ]);
        let lamp = |id: &str, name: &str| json!({"id": id, "name": name, "kind": "light"});
        let mut desk = lamp("l.desk", "Desk Lamp");
        desk["state"] = json!({"on": true, "colour_temperature": 2700, "level": 20.5});
        let targets = [
            desk,
            lamp("l.a", "Hall"),
            lamp("l.b", "Bath"),
            lamp("l.c", "Attic"),
            json!({"id": "l.d", "name": "Hall", "kind": "light", "area": "Annex"}),
            json!({"id": "k", "name": "Door", "kind": "lock",
                "state": {"battery": 80, "state": "locked"}}),
        ];
        for (name, targets) in [("home", &targets[..]), ("shed", &targets[1..2])] {
            let fields = json!({"tools": tools, "targets": targets});
            let fields = serde_json::from_value(fields).unwrap();
            let name = ProviderName::parse(name).unwrap();
            providers.put(1, name, fields, None).unwrap();
        }
        providers.all(1)
    }

    fn call(tool: &str, targets: &[&str], result: Option<CallResult>) -> Call {
        Call {
            provider: "home".to_owned(),
            tool: tool.to_owned(),
            targets: targets.iter().map(|id| (*id).to_owned()).collect(),
            result,
            ..Call::default()
        }
    }

    fn ended(status: CallStatus) -> CallResult {
        CallResult {
            status,
            ..CallResult::default()
        }
    }

    fn both(answer: &HomeAnswer) -> [String; 2] {
        Language::ALL.map(|language| reply(answer, &entries(), language))
    }

    fn acted(calls: Vec<Call>) -> [String; 2] {
        both(&HomeAnswer {
            outcome: Outcome::Call,
            calls,
            ..HomeAnswer::default()
        })
    }

    #[test]
    fn what_was_done_is_said_with_its_names_or_in_the_hubs_words() {
        let done = || Some(ended(CallStatus::Done));
        let said = acted(vec![
            call("turn_on", &["l.desk"], done()),
            call("turn_off", &["l.a", "l.gone"], done()),
        ]);
        let expected = [
            "Done: Desk Lamp, Hall, l.gone.",
            "Erledigt: Desk Lamp, Hall, l.gone.",
        ];
        assert_eq!(said, expected);
        let many = ["l.desk", "l.a", "l.b", "l.c"];
        let said = acted(vec![call("turn_on", &many, done())]);
        assert_eq!(said, ["Done: 4 devices.", "Erledigt: 4 Geräte."]);
        assert_eq!(
            acted(vec![call("make_coffee", &[], done())]),
            ["Done.", "Erledigt."]
        );
        let mut spoken = done();
        spoken.as_mut().unwrap().speech = Some("The desk is bright".to_owned());
        let said = acted(vec![
            call("turn_on", &["l.desk"], spoken),
            call("turn_on", &["l.a"], done()),
        ]);
        assert_eq!(said[0], "Done: Hall. The desk is bright.");
    }

    #[test]
    fn nothing_else_is_called_done_whatever_the_hub_says() {
        for status in [
            CallStatus::Failed,
            CallStatus::Refused,
            CallStatus::Unanswered,
            CallStatus::Lost,
            CallStatus::Skipped,
        ] {
            let result = CallResult {
                status,
                speech: Some("Done.".to_owned()),
                ..CallResult::default()
            };
            let [english, german] = acted(vec![call("turn_on", &["l.desk"], Some(result))]);
            assert!(
                english.contains("not") || english.contains("n't"),
                "{english}"
            );
            assert!(german.contains("nicht"), "{german}");
            for said in [english, german] {
                assert!(
                    !said.starts_with("Done") && !said.starts_with("Erledigt"),
                    "{said}"
                );
                assert!(said.contains("Desk Lamp"), "{said}");
            }
        }
    }

    #[test]
    fn questions_are_answered_from_what_the_hub_told() {
        let asked = |targets: &[&str]| {
            both(&HomeAnswer {
                outcome: Outcome::Question,
                provider: Some("home".to_owned()),
                targets: targets.iter().map(|id| (*id).to_owned()).collect(),
                ..HomeAnswer::default()
            })
        };
        let expected = [
            "Desk Lamp: colour temperature 2700, level 20.5, on yes.",
            "Desk Lamp: colour temperature 2700, level 20,5, on ja.",
        ];
        assert_eq!(asked(&["l.desk", "l.a"]), expected);
        let expected = ["Door: locked, battery 80."; 2];
        assert_eq!(asked(&["k"]), expected);
        let expected = ["I don't know that about Hall.", "Das weiß ich nicht: Hall."];
        assert_eq!(asked(&["l.a"]), expected);
    }

    #[test]
    fn who_is_not_sure_names_what_may_be_meant() {
        let unsure = |alternatives: Vec<Call>| {
            both(&HomeAnswer {
                outcome: Outcome::Unsure,
                alternatives,
                ..HomeAnswer::default()
            })
        };
        let of = |tool: &str, id: &str| call(tool, &[id], None);
        let said = unsure(vec![of("turn_on", "l.desk"), of("turn_on", "l.a")]);
        let expected = [
            "Do you mean Desk Lamp or Hall?",
            "Ist Desk Lamp oder Hall gemeint?",
        ];
        assert_eq!(said, expected);
        let said = unsure(vec![of("turn_on", "l.a"), of("turn_off", "l.a")]);
        assert_eq!(said[0], "Do you mean turn on: Hall or turn off: Hall?");
        let mut other = of("turn_on", "l.a");
        other.provider = "shed".to_owned();
        let said = unsure(vec![of("turn_on", "l.a"), other]);
        let expected = "Do you mean turn on: Hall (home) or turn on: Hall (shed)?";
        assert_eq!(said[0], expected);
        // Two of one name are told apart by their rooms.
        let said = unsure(vec![of("turn_on", "l.a"), of("turn_on", "l.d")]);
        assert_eq!(said[0], "Do you mean Hall or Hall (Annex)?");
        let many = ["l.desk", "l.a", "l.b", "l.c"].map(|id| of("turn_on", id));
        assert_eq!(
            unsure(many.to_vec())[0],
            "Do you mean Desk Lamp, Hall or Bath?"
        );
        assert_eq!(unsure(Vec::new())[0], "I am not sure what you mean.");
    }
}
