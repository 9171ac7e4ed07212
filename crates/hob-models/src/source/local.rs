//! Models from this machine's own files, such as a USB stick's.

use std::fs::File;
use std::path::Path;

use super::{FetchError, Watch, transfer};
use crate::gguf::Header;
use crate::store::{Expected, Installed, Installing, Provenance, Store, StoreError};
use crate::{ModelName, Sha256};

/// Copies a model file into the store and installs it. Its header is read first, so that
/// what is no model fails at once.
///
/// # Errors
/// When the file cannot be read, is no model, or the store cannot take it.
pub fn import(
    store: &Store,
    path: &Path,
    name: &ModelName,
    sha256: Option<Sha256>,
    licence: Option<String>,
    watch: &mut dyn Watch,
) -> Result<Installed, FetchError> {
    let (mut file, size) = open(path)?;
    Header::read(&mut file, size).map_err(|source| StoreError::Gguf {
        name: name.clone(),
        source,
    })?;
    let origin = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let provenance = Provenance {
        origin: origin.display().to_string(),
        licence,
    };
    let expected = Expected {
        sha256,
        size: Some(size),
    };
    let mut installing = store.install(name, provenance, expected)?;
    copy(path, &mut installing, watch)?;
    Ok(installing.finish()?)
}

/// Copies a file, from its beginning.
pub(super) fn copy(
    path: &Path,
    installing: &mut Installing,
    watch: &mut dyn Watch,
) -> Result<(), FetchError> {
    let (file, size) = open(path)?;
    installing.restart()?;
    installing.announce(Some(size), 0)?;
    transfer(file, installing, Some(size), watch)?.map_err(|source| FetchError::Path {
        path: path.to_path_buf(),
        source,
    })
}

fn open(path: &Path) -> Result<(File, u64), FetchError> {
    let unreadable = |source| FetchError::Path {
        path: path.to_path_buf(),
        source,
    };
    // Looked at before it is opened, since opening a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile(path.to_path_buf()).into());
    }
    Ok((File::open(path).map_err(unreadable)?, metadata.len()))
}
