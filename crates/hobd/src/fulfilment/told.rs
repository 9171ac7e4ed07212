//! What is said to a question: what hubs told of their targets.

use hob_api::home::{Asked, AskedForm, AskedValue, HomeAnswer, Language};
use hob_api::provider::{Scalar, Target};

use super::reply::{House, TARGETS_SAID, several, spoken};
use crate::home::STATE;

/// Most values of one target's state that are said.
const VALUES_SAID: usize = 4;
/// Most targets that are named when they were asked for.
const NAMES_SAID: usize = 8;

impl House<'_> {
    /// The reply to a question.
    pub(super) fn told(&self, answer: &HomeAnswer) -> String {
        let Some(asked) = &answer.asked else {
            return self.states(answer);
        };
        if !asked.values.is_empty() {
            return self.values(answer, &asked.values);
        }
        if asked.about.is_some() {
            return self.unknown(answer);
        }
        match asked.form {
            AskedForm::How => self.states(answer),
            _ if asked.holds.is_empty() && asked.fails.is_empty() => self.unknown(answer),
            AskedForm::Whether => self.whether(answer, asked),
            AskedForm::Which => self.which(answer, asked),
            AskedForm::Count => match self.which(answer, asked) {
                names if asked.holds.is_empty() => names,
                names => format!("{}: {names}", asked.holds.len()),
            },
        }
    }

    /// How the targets are, as far as the hub told.
    fn states(&self, answer: &HomeAnswer) -> String {
        let targets = self.targets(answer);
        let known = targets.iter().filter(|target| !target.state.is_empty());
        let known: Vec<String> = known.map(|target| self.state(target)).collect();
        if known.is_empty() {
            return self.unknown(answer);
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

    fn unknown(&self, answer: &HomeAnswer) -> String {
        let names = self.targets(answer).into_iter();
        let names: Vec<String> = names.map(|target| target.name.clone()).collect();
        let names = self.list(&names);
        match self.language {
            Language::English => format!("I don't know that about {names}."),
            Language::German => format!("Das weiß ich nicht: {names}."),
        }
    }

    /// The values that were asked for, and nothing else.
    fn values(&self, answer: &HomeAnswer, values: &[AskedValue]) -> String {
        let said = values.iter().take(NAMES_SAID).map(|value| {
            let name = self.asked_name(answer, &value.target);
            format!(
                "{name}: {} {}.",
                spoken(&value.name),
                self.value(&value.value)
            )
        });
        said.collect::<Vec<String>>().join(" ")
    }

    /// Yes or no; of several, for which.
    fn whether(&self, answer: &HomeAnswer, asked: &Asked) -> String {
        let yes_or_no = |yes: bool| match (self.language, yes) {
            (Language::English, true) => "yes",
            (Language::English, false) => "no",
            (Language::German, true) => "ja",
            (Language::German, false) => "nein",
        };
        match (asked.holds.as_slice(), asked.fails.as_slice()) {
            ([one], []) => format!("{}: {}.", self.asked_name(answer, one), yes_or_no(true)),
            ([], [one]) => format!("{}: {}.", self.asked_name(answer, one), yes_or_no(false)),
            (_, []) => self.either("Yes, all of them.", "Ja, alle."),
            ([], _) => self.either("No, none of them.", "Nein, keine."),
            (holds, fails) if holds.len() <= fails.len() => match self.language {
                Language::English => format!("Only {}.", self.names(answer, holds)),
                Language::German => format!("Nur {}.", self.names(answer, holds)),
            },
            (_, fails) => match self.language {
                Language::English => format!("All but {}.", self.names(answer, fails)),
                Language::German => format!("Alle außer {}.", self.names(answer, fails)),
            },
        }
    }

    /// The targets for which it is so.
    fn which(&self, answer: &HomeAnswer, asked: &Asked) -> String {
        if asked.holds.is_empty() {
            return self.either("None.", "Keine.");
        }
        format!("{}.", self.names(answer, &asked.holds))
    }

    /// Names, as many as somebody listens to.
    fn names(&self, answer: &HomeAnswer, ids: &[String]) -> String {
        let names = ids.iter().map(|id| self.asked_name(answer, id));
        several(names, NAMES_SAID, self.language)
    }

    fn asked_name(&self, answer: &HomeAnswer, id: &str) -> String {
        self.name(answer.provider.as_deref().unwrap_or_default(), id)
    }

    fn targets(&self, answer: &HomeAnswer) -> Vec<&Target> {
        let provider = answer.provider.as_deref().unwrap_or_default();
        let targets = answer.targets.iter();
        targets.filter_map(|id| self.target(provider, id)).collect()
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
}
