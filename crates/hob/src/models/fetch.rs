//! `hob models pull` and `hob models import`.

use std::io::Write as _;
use std::path::Path;

use hob_models::catalog::Entry;
use hob_models::source::{self, Fetcher};
use hob_models::store::{Installed, StoreError, Verified};
use hob_models::{ModelName, Sha256};
use serde_json::json;

use super::progress::Meter;
use super::{Outcome, Place};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::render::bytes;

/// Downloads and installs a model of the catalog.
pub(super) fn pull(
    name: Option<&str>,
    accept_licence: bool,
    place: &mut Place<'_>,
) -> Result<Outcome, Failure> {
    let entry = match name {
        None => known(place.catalog.default_name().as_str(), place)?,
        Some(name) => known(name, place)?,
    };
    if let Some(installed) = already(&entry.name, Some(entry.sha256), place)? {
        return done(
            &installed,
            "is installed already, and verified",
            false,
            place,
        );
    }
    agree(&entry, accept_licence, place)?;
    let mut meter = Meter::new(entry.name.as_str());
    let installed = source::pull(&place.store, &entry, &Fetcher::default(), &mut meter);
    meter.finish();
    done(&installed?, "is installed and verified", true, place)
}

/// Copies a file into the store.
pub(super) fn import(
    file: &Path,
    name: Option<ModelName>,
    sha256: Option<Sha256>,
    place: &mut Place<'_>,
) -> Result<Outcome, Failure> {
    let file_name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = match (name, place.catalog.by_file(&file_name)) {
        (Some(name), _) => name,
        (None, Some(entry)) => entry.name.clone(),
        (None, None) => ModelName::from_file_name(&file_name).map_err(|error| {
            Failure::new(error.to_string()).hint("Give the model a name with --name.")
        })?,
    };
    // A name of the catalog stands for the catalog's file and no other, however it was arrived at.
    let listed = place.catalog.get(&name);
    let expected = listed.map(|entry| entry.sha256);
    if let (Some(given), Some(expected)) = (sha256, expected)
        && given != expected
    {
        let failure = format!("the catalog's `{name}` has sha256 {expected}, not {given}");
        return Err(Failure::usage(failure).hint("Give the model another name with --name."));
    }
    let licence = listed.map(|entry| entry.licence.id.clone());
    let expected = sha256.or(expected);
    if let Some(installed) = already(&name, expected, place)? {
        return done(
            &installed,
            "is installed already, and verified",
            false,
            place,
        );
    }
    let mut meter = Meter::new(name.as_str());
    let installed = source::import(&place.store, file, &name, expected, licence, &mut meter);
    meter.finish();
    let installed = installed.map_err(|error| {
        let failure = Failure::from(error);
        match &failure.hint {
            Some(hint) if sha256.is_none() && expected.is_some() => {
                let hint = format!(
                    "{hint} `{name}` is a model of the catalog; another file needs another --name."
                );
                failure.hint(hint)
            }
            _ => failure,
        }
    })?;
    done(&installed, "is installed", true, place)
}

/// An installed model of that name, verified, if its digest is (or can be) the wanted one.
fn already(
    name: &ModelName,
    wanted: Option<Sha256>,
    place: &Place<'_>,
) -> Result<Option<Installed>, Failure> {
    let installed = match place.store.get(name) {
        Err(StoreError::NotInstalled { .. }) => return Ok(None),
        other => other?,
    };
    // Without a wanted digest the install itself says that the name is taken.
    if wanted != Some(installed.manifest.sha256) {
        return Ok(None);
    }
    let mut meter = Meter::new(name.as_str());
    meter.checking(installed.manifest.size_bytes);
    let verified = place
        .store
        .open_verified_watched(name, &Verified::default(), |more| meter.advance(more));
    meter.finish();
    match verified {
        Ok(_) => Ok(Some(installed)),
        Err(error) => Err(Failure::from(error).hint(format!(
            "Run `hob models remove {name}`, then get it again."
        ))),
    }
}

fn known(name: &str, place: &Place<'_>) -> Result<Entry, Failure> {
    let parsed = ModelName::new(name.to_ascii_lowercase()).ok();
    if let Some(entry) = parsed.and_then(|name| place.catalog.get(&name)) {
        return Ok(entry.clone());
    }
    let failure = Failure::new(format!("the catalog has no model `{name}`"));
    Err(failure
        .status(ExitStatus::Model)
        .hint(match place.catalog.nearest(name) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => "`hob models list --available` shows what there is.".to_owned(),
        }))
}

/// The failure of naming what is not installed, with what to do about it.
pub(super) fn not_installed(name: &ModelName, error: StoreError, place: &Place<'_>) -> Failure {
    let installed_is_near = matches!(
        error,
        StoreError::NotInstalled {
            nearest: Some(_),
            ..
        }
    );
    let failure = Failure::from(error);
    if place.catalog.get(name).is_some() {
        let option = place.store.option();
        return failure.hint(format!("Run `hob models pull {name}{option}`."));
    }
    match place.catalog.nearest(name.as_str()) {
        Some(near) if !installed_is_near => failure.hint(format!("Did you mean `{near}`?")),
        _ => failure,
    }
}

/// Has a person agree to the licence, if it wants that.
fn agree(entry: &Entry, accepted: bool, place: &mut Place<'_>) -> Result<(), Failure> {
    let licence = &entry.licence;
    if accepted || !licence.must_accept {
        return Ok(());
    }
    let (name, id, terms) = (&entry.name, &licence.id, &licence.terms);
    let said = format!("{name} comes under the {id} licence: {terms}");
    if !place.can_ask {
        return Err(Failure::usage(format!("{said}, which must be accepted"))
            .hint("Read it, and say --accept-licence if you accept it."));
    }
    place.output.remark(&said);
    if confirm("Do you accept it?")? {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "the licence was not accepted, so {name} was not fetched"
        )))
    }
}

/// Asks on the terminal; nothing typed means no.
pub(super) fn confirm(question: &str) -> Result<bool, Failure> {
    let failed = |error| Failure::io("the answer could not be read", &error);
    write!(std::io::stderr(), "{question} [y/N] ").map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    let answer = answer.trim().to_lowercase();
    Ok(matches!(answer.as_str(), "y" | "yes"))
}

/// Says what was done. The only model is the default, so that a daemon should load it.
fn done(
    installed: &Installed,
    what: &str,
    new: bool,
    place: &mut Place<'_>,
) -> Result<Outcome, Failure> {
    let (name, manifest) = (&installed.name, &installed.manifest);
    let is_default = place
        .store
        .default_model()
        .is_ok_and(|default| default == *name);
    let advice = if new && !is_default {
        let option = place.store.option();
        format!("\n`hob models use {name}{option}` makes it the default.")
    } else {
        String::new()
    };
    let sentence = format!("{name} {what} ({}).{advice}", bytes(manifest.size_bytes));
    let json = json!({
        "name": name,
        "new": new,
        "default": is_default,
        "sha256": manifest.sha256,
        "size_bytes": manifest.size_bytes,
        "path": place.store.model_path(name).display().to_string(),
    });
    place.report(&sentence, &json)?;
    Ok(Outcome {
        default_changed: (new && is_default).then(|| name.clone()),
        ..Outcome::default()
    })
}
