//! What a model that was made here must have passed before it is used by default.
//!
//! A smaller model is not used unseen: it was compared with the one that it was made of, and its card beside
//! it says so. The card is written by `hob fairness audit`, whoever may change the store.

use hob_models::store::Installed;
use hob_models::{ModelName, Sha256};
use serde::{Deserialize, Serialize};

use super::Place;
use crate::exit::ExitStatus;
use crate::failure::Failure;

/// What is known of a model's fairness, for this check; the card has more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Card {
    /// Of which file it tells.
    pub(crate) model_sha256: Sha256,
    /// What came of comparing it.
    #[serde(default)]
    pub(crate) gate: Option<Gate>,
}

/// What came of comparing a model with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gate {
    /// The other's name, at that time.
    pub(crate) against: ModelName,
    /// The other's file.
    pub(crate) against_sha256: Sha256,
    /// Whether it may take the other's place.
    pub(crate) passed: bool,
    /// Questions that both were asked.
    #[serde(default)]
    pub(crate) questions: u32,
    /// The sets that these are of.
    #[serde(default)]
    pub(crate) sets: Vec<String>,
    /// Why not.
    pub(crate) reasons: Vec<String>,
}

impl Card {
    /// The card of a model's file, if there is one that is of this file and can be read; beside the model,
    /// else beside a copy of it.
    pub(crate) fn of(name: &ModelName, sha256: Sha256, place: &Place<'_>) -> Option<Self> {
        let (_, card) = Self::found(name, sha256, place)?;
        Some(card)
    }

    /// The same, and beside which model it lies: one that tells what came of a comparison, if there is one.
    pub(crate) fn found(
        name: &ModelName,
        sha256: Sha256,
        place: &Place<'_>,
    ) -> Option<(ModelName, Self)> {
        let copies = installed(sha256, place).map(|copy| copy.name);
        let names = std::iter::once(name.clone()).chain(copies.filter(|copy| copy != name));
        let cards =
            names.filter_map(|name| Some((name.clone(), Self::beside(&name, sha256, place)?)));
        // The first of the least: of those with a comparison the model's own, then of the others.
        cards.min_by_key(|(_, card)| card.gate.is_none())
    }

    fn beside(name: &ModelName, sha256: Sha256, place: &Place<'_>) -> Option<Self> {
        let text = place.store.fairness_card(name).ok()??;
        let card: Self = serde_json::from_str(&text).ok()?;
        (card.model_sha256 == sha256).then_some(card)
    }
}

impl Gate {
    /// The one of two that holds, of comparing the same two files: the later one, unless the other asked more of
    /// the same sets, or found against the model what the later one did not ask again.
    pub(crate) fn or_of_more(self, known: Option<Self>) -> Self {
        let holds = |known: &Self| {
            let asked_more = known.covers(&self) && known.questions > self.questions;
            asked_more || !known.passed && !self.covers(known)
        };
        known.filter(holds).unwrap_or(self)
    }

    fn covers(&self, other: &Self) -> bool {
        other.sets.iter().all(|set| self.sets.contains(set))
    }
}

/// The installed models that are this file.
fn installed(sha256: Sha256, place: &Place<'_>) -> impl Iterator<Item = Installed> {
    let models = place.store.list().unwrap_or_default().into_iter();
    models.filter(move |model| model.manifest.sha256 == sha256)
}

/// Most models of which one was made after another that are looked at.
const GENERATIONS_MAX: usize = 16;

/// Refuses a model that was made here and was not found fair enough beside its source, or whose source, if
/// that is here still, was not beside its own.
pub(super) fn check(name: &ModelName, place: &Place<'_>) -> Result<(), Failure> {
    let mut next = Some(name.clone());
    for _ in 0..GENERATIONS_MAX {
        let Some(name) = next else { return Ok(()) };
        next = check_one(&name, place)?;
    }
    Ok(())
}

/// The same of this model alone; the model that it was made of, if it is here still.
fn check_one(name: &ModelName, place: &Place<'_>) -> Result<Option<ModelName>, Failure> {
    let manifest = place.store.get(name)?.manifest;
    let Some(lineage) = manifest.lineage else {
        return Ok(None);
    };
    let option = place.store.option();
    let others = installed(lineage.source_sha256, place).filter(|other| other.name != *name);
    let mut others: Vec<Installed> = others.collect();
    // The one of the name that it had then, else any copy.
    others.sort_by_key(|other| other.name != lineage.source);
    let here = others.into_iter().next();
    let source = here.as_ref().map_or(&lineage.source, |here| &here.name);
    let gate = Card::of(name, manifest.sha256, place).and_then(|card| card.gate);
    let refused = match gate.filter(|gate| gate.against_sha256 == lineage.source_sha256) {
        Some(gate) if gate.passed => {
            return Ok(here.map(|here| here.name));
        }
        Some(gate) => Failure::new(format!(
            "{name} did not pass beside {source}, of which it was made: {}",
            gate.reasons.join("; ")
        ))
        .hint(format!("Keep {source}; --anyway uses {name} as it is.")),
        None => Failure::new(format!(
            "{name} was made of {source}, and nobody has seen yet whether it is as fair"
        ))
        .hint(format!(
            "`hob fairness audit {name} --against {source} --data FOLDER{option}` compares them; --anyway \
             uses {name} as it is."
        )),
    };
    Err(refused.status(ExitStatus::Gate))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    fn gate(passed: bool, questions: u32, sets: &[&str]) -> Gate {
        Gate {
            against: ModelName::new("source").unwrap(),
            against_sha256: "07".repeat(32).parse().unwrap(),
            passed,
            questions,
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            reasons: Vec::new(),
        }
    }

    #[test]
    fn a_verdict_is_replaced_by_who_asked_the_same_and_no_less() {
        let holds = |later: &Gate, known: &Gate| later.clone().or_of_more(Some(known.clone()));
        let (small, large) = (gate(true, 240, &["BBQ"]), gate(false, 720, &["BBQ"]));
        assert_eq!(holds(&small, &large), large);
        assert_eq!(holds(&large, &small), large);
        assert_eq!(holds(&small, &gate(false, 240, &["BBQ"])), small);
        // What passed elsewhere says nothing of what fails here, however much of it there was.
        let elsewhere = gate(true, 720, &["Winogender"]);
        let fails = gate(false, 240, &["BBQ"]);
        assert_eq!(holds(&fails, &elsewhere), fails);
        assert_eq!(holds(&elsewhere, &fails), fails);
        let both = gate(true, 960, &["BBQ", "Winogender"]);
        assert_eq!(holds(&both, &fails), both);
        assert_eq!(small.clone().or_of_more(None), small);
    }
}
