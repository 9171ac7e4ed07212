//! What is said of what was done: short sentences in the language heard, of what hubs told.
//!
//! That something is done is said of calls with [`CallStatus::Done`] alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use hob_api::home::{Call, CallResult, CallStatus, HomeAnswer, Language, Limit, Outcome};
use hob_api::provider::Target;

use crate::hub::cleaned;
use crate::providers::Entry;

/// Most candidates that are named when it is not clear which one is meant.
const CANDIDATES_SAID: usize = 3;
/// Most targets that are named one by one.
pub(super) const TARGETS_SAID: usize = 3;
/// Longest reply in bytes.
pub(super) const REPLY_BYTES_MAX: usize = 2000;

/// The reply to `answer`, each of whose calls has its result. `entries` are the providers that it is
/// about. Empty if it is no matter of the home.
pub fn reply(answer: &HomeAnswer, entries: &[Arc<Entry>], language: Language) -> String {
    let house = House { entries, language };
    let reply = match answer.outcome {
        Outcome::Call => house.acted(&answer.calls),
        Outcome::Question => house.told(answer),
        Outcome::Unsure => house.asked(&answer.alternatives),
        Outcome::Cannot => match &answer.limit {
            Some(limit) => house.limited(limit),
            None => house.either("I can't do that here.", "Das kann ich hier nicht."),
        },
        Outcome::Talk => String::new(),
    };
    let reply = match answer.left_out.as_slice() {
        [] => reply,
        left_out => format!("{reply} {}", house.left_out(left_out)),
    };
    cleaned(&reply, REPLY_BYTES_MAX)
}

pub(super) struct House<'a> {
    entries: &'a [Arc<Entry>],
    pub(super) language: Language,
}

impl House<'_> {
    pub(super) fn either(&self, english: &str, german: &str) -> String {
        match self.language {
            Language::English => english,
            Language::German => german,
        }
        .to_owned()
    }

    pub(super) fn target(&self, provider: &str, id: &str) -> Option<&Target> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.provider.name().as_str() == provider)?;
        let mut targets = entry.provider.targets().iter();
        targets.find(|target| target.id == id)
    }

    /// What was said and is not done.
    fn left_out(&self, parts: &[String]) -> String {
        let parts = parts.join("; ");
        let parts = parts.trim_end_matches(['.', '?', '!']);
        match self.language {
            Language::English => format!("I left out: {parts}."),
            Language::German => format!("Ausgelassen habe ich: {parts}."),
        }
    }

    /// What may be asked for, where more or less was.
    fn limited(&self, limit: &Limit) -> String {
        let what = if limit.targets.is_empty() {
            spoken(&limit.tool)
        } else {
            let names = limit
                .targets
                .iter()
                .map(|id| self.name(&limit.provider, id));
            self.list(&names.collect::<Vec<String>>())
        };
        let unit = limit
            .unit
            .as_deref()
            .map_or_else(String::new, |unit| format!(" {unit}"));
        let range = match (&limit.least, &limit.most, self.language) {
            (Some(least), Some(most), Language::English) => format!("{least} to {most}"),
            (Some(least), Some(most), Language::German) => format!("{least} bis {most}"),
            (Some(least), None, Language::English) => format!("at least {least}"),
            (Some(least), None, Language::German) => format!("mindestens {least}"),
            (None, Some(most), Language::English) => format!("at most {most}"),
            (None, Some(most), Language::German) => format!("höchstens {most}"),
            (None, None, _) => {
                return self.either("I can't do that here.", "Das kann ich hier nicht.");
            }
        };
        match self.language {
            Language::English => format!("{what} takes {range}{unit}."),
            Language::German => format!("{what}: möglich ist {range}{unit}."),
        }
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

    pub(super) fn name(&self, provider: &str, id: &str) -> String {
        let target = self.target(provider, id);
        target.map_or_else(|| id.to_owned(), |target| target.name.clone())
    }

    /// A few names, or how many there are.
    pub(super) fn list(&self, names: &[String]) -> String {
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

/// The first `most` of some names, and how many more there are.
pub(super) fn several(
    names: impl ExactSizeIterator<Item = String>,
    most: usize,
    language: Language,
) -> String {
    let left = names.len().saturating_sub(most);
    let first = names.take(most).collect::<Vec<_>>().join(", ");
    match (left, language) {
        (0, _) => first,
        (left, Language::English) => format!("{first} and {left} more"),
        (left, Language::German) => format!("{first} und {left} weitere"),
    }
}

/// A hub's own word as one that can be said.
pub(super) fn spoken(word: &str) -> String {
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
