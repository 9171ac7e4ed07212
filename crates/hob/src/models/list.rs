//! `hob models list`.

use hob_models::catalog::Parameters;
use serde_json::json;

use super::Place;
use crate::clean::clean_line;
use crate::failure::Failure;
use crate::render::bytes;

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
                })
            })
            .collect();
        return place.output.write(&crate::ask::to_json(&models)?);
    }
    if models.is_empty() {
        let folder = place.store.root().display().to_string();
        place
            .output
            .remark(&format!("No model is installed in {folder}."));
        place.output.remark(&format!(
            "`hob models pull` installs {}; `hob models list --available` shows more.",
            place.catalog.default_name()
        ));
        return Ok(());
    }
    let mut table = Table::new(["", "NAME", "SIZE", "PARAMETERS", "QUANTIZATION", "CONTEXT"]);
    for model in &models {
        let manifest = &model.manifest;
        table.add([
            if is_default(&model.name) { "*" } else { "" }.to_owned(),
            model.name.to_string(),
            bytes(manifest.size_bytes),
            Parameters(manifest.parameters).to_string(),
            clean_line(&manifest.quantization),
            manifest.context.to_string(),
        ]);
    }
    place.output.write(&table.text([2, 3, 5]))
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
    place.output.write(&table.text([1, 2, 2]))
}

/// Rows of text whose columns are as wide as they need to be.
struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(heads: [&str; N]) -> Self {
        Self {
            rows: vec![heads.map(str::to_owned)],
        }
    }

    fn add(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The table, with these columns flush right and no blanks at the ends of lines.
    fn text<const R: usize>(&self, right: [usize; R]) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let cell = |(column, cell): (usize, &String)| {
            let width = width(column);
            if right.contains(&column) {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            }
        };
        let line = |row: &[String; N]| {
            let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
            format!("{}\n", cells.concat().trim_end())
        };
        self.rows.iter().map(line).collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["", "NAME", "SIZE"]);
        table.add(["*", "a", "1"].map(str::to_owned));
        table.add(["", "long-name", "1000"].map(str::to_owned));
        assert_eq!(
            table.text([2]),
            "   NAME       SIZE\n*  a             1\n   long-name  1000\n"
        );
    }
}
