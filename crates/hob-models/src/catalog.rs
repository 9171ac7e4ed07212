//! The catalog: the models that hob knows, with digests and where to get them.
//!
//! `models.toml` is compiled in; a file can take its place. Unknown keys are refused, and
//! errors give file, line and cause.

mod dimensions;
mod entry;
mod error;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

pub use dimensions::{Dimensions, Window};
pub use entry::{Entry, HttpsUrl, Licence, Package, Parameters, PipMember, Source};
pub use error::CatalogError;

use crate::{ModelName, Sha256};

const BUILT_IN: &str = include_str!("../../../models.toml");
/// Longest catalog file in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The models that hob knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    default: ModelName,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Spanned<ModelName>,
    licence: Vec<Spanned<Licence>>,
    model: Vec<Spanned<entry::Raw>>,
}

impl Catalog {
    /// The catalog that was compiled in.
    ///
    /// # Errors
    /// Never, as a test reads it; the type keeps callers from having to panic.
    pub fn built_in() -> Result<Self, CatalogError> {
        Self::parse(BUILT_IN, "models.toml")
    }

    /// The catalog in a file.
    ///
    /// # Errors
    /// When the file cannot be read, is too long, or is not a catalog.
    pub fn from_file(path: &Path) -> Result<Self, CatalogError> {
        let unreadable = |source| CatalogError::Unreadable {
            path: path.to_path_buf(),
            source,
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_BYTES {
            return Err(unreadable(std::io::ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a catalog; `file` is only for errors.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] with file and line.
    pub fn parse(text: &str, file: &str) -> Result<Self, CatalogError> {
        let invalid = |at: usize, why: String| CatalogError::invalid(text, file, at, why);
        let parsed: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            invalid(at, error.message().to_owned())
        })?;
        let mut licences: Vec<Licence> = Vec::new();
        for licence in parsed.licence {
            let at = licence.span().start;
            let licence = licence.into_inner();
            if licences.iter().any(|other| other.id == licence.id) {
                return Err(invalid(
                    at,
                    format!("licence `{}` is there twice", licence.id),
                ));
            }
            licences.push(licence);
        }
        let mut names = BTreeSet::new();
        let mut entries = Vec::new();
        for raw in parsed.model {
            let at = raw.span().start;
            let entry = raw
                .into_inner()
                .resolve(&licences)
                .map_err(|why| invalid(at, why))?;
            if !names.insert(entry.name.clone()) {
                return Err(invalid(
                    at,
                    format!("model `{}` is there twice", entry.name),
                ));
            }
            entries.push(entry);
        }
        let at = parsed.default.span().start;
        let default = parsed.default.into_inner();
        if !names.contains(&default) {
            return Err(invalid(at, format!("there is no model `{default}`")));
        }
        Ok(Self { default, entries })
    }

    /// The model for whoever has not chosen one.
    pub fn default_name(&self) -> &ModelName {
        &self.default
    }

    /// All models, in the catalog's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A model by name.
    pub fn get(&self, name: &ModelName) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == *name)
    }

    /// The model whose file has this digest.
    pub fn by_digest(&self, sha256: &Sha256) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.sha256 == *sha256)
    }

    /// The model that is distributed under this file name.
    pub fn by_file(&self, file: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.file == file)
    }

    /// The name nearest to a wrong one, if any is near.
    pub fn nearest(&self, wrong: &str) -> Option<&ModelName> {
        nearest(wrong, self.entries.iter().map(|entry| &entry.name))
    }
}

/// The name nearest to a wrong one, if any is near (Jaro-Winkler similarity of 0.8).
pub fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a ModelName>,
) -> Option<&'a ModelName> {
    let wrong = wrong.to_ascii_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wrong, name.as_str()), name))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
