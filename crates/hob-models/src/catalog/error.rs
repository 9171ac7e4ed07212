//! Why a catalog cannot be used.

use std::path::PathBuf;

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file cannot be read.
    #[error("cannot read the catalog {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a catalog.
    #[error("{file}:{line}: {why}")]
    Invalid {
        /// The file's name.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
}

impl CatalogError {
    /// `at` is a byte offset in `text`.
    pub(super) fn invalid(text: &str, file: &str, at: usize, why: String) -> Self {
        let before = text.bytes().take(at);
        Self::Invalid {
            file: file.to_owned(),
            line: 1 + before.filter(|byte| *byte == b'\n').count(),
            why,
        }
    }
}
