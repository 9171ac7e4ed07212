//! `hob models verify`, `remove` and `use`.

use hob_models::ModelName;
use hob_models::store::Verified;
use serde_json::json;

use super::fetch::confirm;
use super::progress::Meter;
use super::{Outcome, Place};
use crate::failure::Failure;

/// Hashes one model or all and compares them with what was installed.
pub(super) fn verify(name: Option<&str>, place: &mut Place<'_>) -> Result<(), Failure> {
    let names: Vec<ModelName> = if let Some(name) = name {
        vec![place.installed_name(name)?]
    } else {
        let models = place.store.list()?;
        models.into_iter().map(|model| model.name).collect()
    };
    if names.is_empty() && !place.json {
        place.output.remark("No model is installed.");
    }
    let mut results = Vec::new();
    let mut failures = Vec::new();
    for name in &names {
        let mut meter = Meter::new(name.as_str());
        if let Ok(model) = place.store.get(name) {
            meter.checking(model.manifest.size_bytes);
        }
        let checked = place
            .store
            .open_verified_watched(name, &Verified::default(), |more| meter.advance(more));
        meter.finish();
        let problem = checked.as_ref().err().map(ToString::to_string);
        results.push(json!({ "name": name, "verified": problem.is_none(), "problem": problem }));
        if !place.json && problem.is_none() {
            place.output.write(&format!("{name}: verified\n"))?;
        }
        if let Err(error) = checked {
            let failure = Failure::from(error);
            if names.len() > 1 && !place.json {
                place.output.failure(&failure);
            }
            failures.push(failure);
        }
    }
    if place.json {
        place.output.write(&crate::ask::to_json(&results)?)?;
    }
    match (failures.pop(), failures.len(), names.len()) {
        (None, ..) => Ok(()),
        (Some(only), 0, 1) => Err(only),
        (Some(_), others, all) => Err(Failure::new(format!(
            "{} of {all} models failed",
            others + 1
        ))),
    }
}

/// Removes a model, after asking.
pub(super) fn remove(name: &str, yes: bool, place: &mut Place<'_>) -> Result<Outcome, Failure> {
    let name = place.installed_name(name)?;
    let was_default = place
        .store
        .default_model()
        .is_ok_and(|default| default == name);
    let remark = if was_default { ", the default" } else { "" };
    if !yes {
        if !place.can_ask {
            return Err(
                Failure::usage(format!("not sure that {name}{remark} should be removed"))
                    .hint("Say --yes where nobody can be asked."),
            );
        }
        if !confirm(&format!("Remove {name}{remark}?"))? {
            return Err(Failure::new(format!("{name} was not removed")));
        }
    }
    place.store.remove(&name)?;
    let next = place.store.default_model().ok();
    let next_default = match &next {
        _ if !was_default => String::new(),
        Some(next) => {
            let unseen = super::gate::check(next, place).err();
            let unseen = unseen.map_or(String::new(), |failure| format!(" But {failure}."));
            format!("\nIt was the default; now {next} is, as the only one.{unseen}")
        }
        None => format!(
            "\nIt was the default; choose another with `hob models use NAME{}`.",
            place.store.option()
        ),
    };
    let sentence = format!("{name} is removed.{next_default}");
    let json = json!({ "name": name, "was_default": was_default, "default": next });
    place.report(&sentence, &json)?;
    Ok(Outcome {
        removed: Some(name),
        ..Outcome::default()
    })
}

/// Makes a model the default.
pub(super) fn choose(name: &str, anyway: bool, place: &mut Place<'_>) -> Result<Outcome, Failure> {
    let name = place.installed_name(name)?;
    if !anyway {
        super::gate::check(&name, place)?;
    }
    place.store.set_default(&name)?;
    place.report(
        &format!("{name} is the default now."),
        &json!({ "default": name }),
    )?;
    Ok(Outcome {
        default_changed: Some(name),
        ..Outcome::default()
    })
}
