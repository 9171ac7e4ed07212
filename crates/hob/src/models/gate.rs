//! What a model that was made here must have passed before it is used by default.
//!
//! A smaller model is not used unseen: it was compared with the one that it was made of, and its card beside
//! it says so. The card is written by `hob fairness audit`, whoever may change the store.

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
    /// Why not.
    pub(crate) reasons: Vec<String>,
}

impl Card {
    /// The card of a model's file, if there is one that is of this file and can be read.
    pub(crate) fn of(name: &ModelName, sha256: Sha256, place: &Place<'_>) -> Option<Self> {
        let text = place.store.fairness_card(name).ok()??;
        let card: Self = serde_json::from_str(&text).ok()?;
        (card.model_sha256 == sha256).then_some(card)
    }
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
    let source = &lineage.source;
    let gate = Card::of(name, manifest.sha256, place).and_then(|card| card.gate);
    let refused = match gate.filter(|gate| gate.against_sha256 == lineage.source_sha256) {
        Some(gate) if gate.passed => {
            let here = place.store.get(source).ok();
            let same = here.filter(|here| here.manifest.sha256 == lineage.source_sha256);
            return Ok(same.map(|here| here.name));
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
