//! `hob models list`.

use hob_models::catalog::Parameters;
use serde_json::json;

use super::Place;
use crate::clean::clean_line;
use crate::failure::Failure;
use crate::render::bytes;
use crate::table::Table;

/// Lists what is installed; the default has a star.
pub(super) fn installed(place: &mut Place<'_>) -> Result<(), Failure> {
    let models = place.store.list()?;
    let default = place.store.default_model().ok();
    let is_default = |name| default.as_ref() == Some(name);
    if place.json {
        let models: Vec<_> = models
            .iter()
            .map(|model| {
                json!({
                    "name": model.name,
                    "default": is_default(&model.name),
                    "sha256": model.manifest.sha256,
                    "size_bytes": model.manifest.size_bytes,
                    "architecture": model.manifest.architecture,
                    "parameters": model.manifest.parameters,
                    "quantization": model.manifest.quantization,
                    "context": model.manifest.context,
                    "chat": model.manifest.chat,
                    "licence": model.manifest.licence,
                    "origin": model.manifest.origin,
                    "installed": model.manifest.installed,
                    "lineage": model.manifest.lineage,
                })
            })
            .collect();
        return place.output.write(&crate::ask::to_json(&models)?);
    }
    if models.is_empty() {
        let folder = place.store.root().display().to_string();
        let option = place.store.option();
        place
            .output
            .remark(&format!("No model is installed in {folder}."));
        place.output.remark(&format!(
            "`hob models pull{option}` installs {}; `hob models list --available` shows more.",
            place.catalog.default_name()
        ));
        return Ok(());
    }
    let mut table = Table::new([
        "",
        "NAME",
        "SIZE",
        "PARAMETERS",
        "QUANTIZATION",
        "CONTEXT",
        "MADE OF",
    ]);
    for model in &models {
        let manifest = &model.manifest;
        table.add([
            if is_default(&model.name) { "*" } else { "" }.to_owned(),
            model.name.to_string(),
            bytes(manifest.size_bytes),
            Parameters(manifest.parameters).to_string(),
            clean_line(&manifest.quantization),
            manifest.context.to_string(),
            manifest
                .lineage
                .as_ref()
                .map_or_else(String::new, |lineage| lineage.source.to_string()),
        ]);
    }
    place.output.write(&table.text(&[2, 3, 5]))
}

/// Lists the catalog.
pub(super) fn available(place: &mut Place<'_>) -> Result<(), Failure> {
    let is_installed = |name| place.store.get(name).is_ok();
    if place.json {
        let models: Vec<_> = place
            .catalog
            .entries()
            .iter()
            .map(|entry| {
                json!({
                    "name": entry.name,
                    "installed": is_installed(&entry.name),
                    "description": entry.description,
                    "file": entry.file,
                    "sha256": entry.sha256,
                    "size_bytes": entry.size,
                    "parameters": entry.parameters.0,
                    "quantization": entry.quantization,
                    "context": entry.context,
                    "tool_format": entry.tool_format,
                    "licence": entry.licence,
                    "sources": entry.sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        return place.output.write(&crate::ask::to_json(&models)?);
    }
    let mut table = Table::new([
        "NAME",
        "PARAMETERS",
        "SIZE",
        "LICENCE",
        "INSTALLED",
        "DESCRIPTION",
    ]);
    for entry in place.catalog.entries() {
        table.add([
            entry.name.to_string(),
            entry.parameters.to_string(),
            entry.size.map_or_else(|| "?".to_owned(), bytes),
            clean_line(&entry.licence.id),
            if is_installed(&entry.name) { "yes" } else { "" }.to_owned(),
            clean_line(&entry.description),
        ]);
    }
    place.output.write(&table.text(&[1, 2]))
}
