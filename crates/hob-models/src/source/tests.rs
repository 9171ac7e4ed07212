#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod https;
mod pip;

use std::fs;
use std::time::Duration;

use super::*;
use crate::catalog::Catalog;
use crate::digest::Hasher;
use crate::gguf::sample::Sample;
use crate::{ModelName, Sha256};

/// Remembers what it was told.
#[derive(Default)]
struct Told {
    sources: Vec<String>,
    progress: Vec<(u64, Option<u64>)>,
    retries: Vec<String>,
}

impl Watch for Told {
    fn source(&mut self, source: &str) {
        self.sources.push(source.to_owned());
    }
    fn progress(&mut self, done: u64, total: Option<u64>) {
        self.progress.push((done, total));
    }
    fn retrying(&mut self, cause: &str) {
        self.retries.push(cause.to_owned());
    }
}

/// A store, and a model to fetch into it.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    name: ModelName,
    bytes: Vec<u8>,
    told: Told,
    fetcher: Fetcher,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Large enough not to travel in one packet.
        let bytes = Sample::tiny().tensor("big", &[1 << 18], 0).bytes();
        Self {
            store: Store::open(folder.path().join("models")),
            name: ModelName::new("x").unwrap(),
            bytes,
            told: Told::default(),
            fetcher: Fetcher {
                stall_timeout: Duration::from_millis(500),
                pip_stall_timeout: Duration::from_secs(30),
                pause: Duration::from_millis(1),
                attempts: 1,
                https_only: false,
                ..Fetcher::default()
            },
            folder,
        }
    }

    fn sha256(&self) -> Sha256 {
        let mut hasher = Hasher::default();
        hasher.update(&self.bytes);
        hasher.finish()
    }

    fn install(&self, origin: &str) -> Installing {
        let provenance = Provenance {
            origin: origin.to_owned(),
            licence: None,
        };
        let expected = Expected {
            sha256: Some(self.sha256()),
            size: Some(self.bytes.len() as u64),
        };
        self.store
            .install(&self.name, provenance, expected)
            .unwrap()
    }

    fn assert_installed(&self) {
        let verified = crate::store::Verified::default();
        assert!(self.store.open_verified(&self.name, &verified).is_ok());
        assert_eq!(self.leftovers(), 0);
    }

    /// Files that belong to something unfinished.
    fn leftovers(&self) -> usize {
        fs::read_dir(self.store.root())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|file| file.starts_with('.') && !file.to_lowercase().ends_with(".lock"))
            .count()
    }

    /// A catalog entry for the model with these sources.
    fn entry(&self, sources: &str) -> Entry {
        let text = format!(
            "default = \"x\"\n\
             [[licence]]\nid = \"MIT\"\nterms = \"https://example.org/mit\"\n\
             [[model]]\nname = \"x\"\nfile = \"x.gguf\"\nsha256 = \"{}\"\nsize = {}\n\
             parameters = \"1M\"\nquantization = \"F32\"\nlicence = \"MIT\"\n\
             description = \"\"\nsources = [{sources}]\n",
            self.sha256(),
            self.bytes.len()
        );
        Catalog::parse(&text, "test").unwrap().entries()[0].clone()
    }

    fn pull(&mut self, sources: &str) -> Result<Installed, FetchError> {
        pull(
            &self.store,
            &self.entry(sources),
            &self.fetcher,
            &mut self.told,
        )
    }
}

#[test]
fn a_file_is_imported_by_copying() {
    let mut bench = Bench::new();
    let file = bench.folder.path().join("x.gguf");
    fs::write(&file, &bench.bytes).unwrap();
    let installed = import(
        &bench.store,
        &file,
        &bench.name,
        None,
        None,
        &mut bench.told,
    )
    .unwrap();
    assert_eq!(installed.manifest.sha256, bench.sha256());
    assert_eq!(installed.manifest.origin, file.display().to_string());
    let size = bench.bytes.len() as u64;
    assert_eq!(bench.told.progress.last(), Some(&(size, Some(size))));
    // The file may go now, and its changing does not matter.
    fs::remove_file(&file).unwrap();
    bench.assert_installed();
}

#[test]
fn what_should_not_be_imported_is_not() {
    let mut bench = Bench::new();
    let file = bench.folder.path().join("x.gguf");
    let mut attempt = |path: &std::path::Path, sha256| {
        import(
            &bench.store,
            path,
            &bench.name,
            sha256,
            None,
            &mut bench.told,
        )
        .unwrap_err()
    };
    let missing = attempt(&file, None);
    assert!(matches!(missing, FetchError::Path { .. }), "{missing:?}");
    let folder = attempt(bench.folder.path(), None);
    assert!(matches!(folder, FetchError::Store(StoreError::NotAFile(_))));
    fs::write(&file, "").unwrap();
    let empty = attempt(&file, None);
    assert!(matches!(empty, FetchError::Store(StoreError::Gguf { .. })));
    fs::write(&file, Sample::tiny().bytes()).unwrap();
    let mut hasher = Hasher::default();
    hasher.update(b"other");
    let other = attempt(&file, Some(hasher.finish()));
    assert!(matches!(
        other,
        FetchError::Store(StoreError::Digest { .. })
    ));
    assert_eq!(bench.store.list().unwrap(), []);
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn the_next_source_is_tried() {
    let mut bench = Bench::new();
    let (bad, good) = (
        bench.folder.path().join("bad"),
        bench.folder.path().join("good"),
    );
    fs::write(&bad, vec![0; bench.bytes.len()]).unwrap();
    fs::write(&good, &bench.bytes).unwrap();
    let path = |path: &std::path::Path| format!("{{ path = {:?} }}", path.to_str().unwrap());
    let missing = bench.folder.path().join("missing");

    let none = bench
        .pull(&format!("{}, {}", path(&missing), path(&bad)))
        .unwrap_err();
    assert!(matches!(&none, FetchError::All(failures) if failures.len() == 2));
    assert!(none.to_string().contains("missing"), "{none}");
    assert_eq!(bench.store.list().unwrap(), []);

    bench.told = Told::default();
    let sources = format!("{}, {}, {}", path(&missing), path(&bad), path(&good));
    bench.pull(&sources).unwrap();
    assert_eq!((bench.told.sources.len(), bench.told.retries.len()), (3, 2));
    bench.assert_installed();
    // A taken name is no reason to try others.
    bench.told = Told::default();
    let taken = bench.pull(&sources).unwrap_err();
    assert!(matches!(
        taken,
        FetchError::Store(StoreError::AlreadyInstalled { .. })
    ));
    assert_eq!(bench.told.sources.len(), 1);
}
