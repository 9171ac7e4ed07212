#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::digest::Hasher;
use crate::gguf::sample::Sample;
use crate::{ModelName, Sha256};

pub(super) fn name(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

pub(super) fn sha256(bytes: &[u8]) -> Sha256 {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

fn provenance(origin: &str) -> Provenance {
    Provenance {
        origin: origin.to_owned(),
        licence: Some("MIT".to_owned()),
    }
}

fn start(store: &Store, model: &str, expected: Expected) -> Result<Installing, StoreError> {
    store.install(&name(model), provenance("test"), expected)
}

pub(super) fn install(store: &Store, model: &str) -> Installed {
    let mut installing = start(store, model, Expected::default()).unwrap();
    installing.add(&Sample::tiny().bytes()).unwrap();
    installing.finish().unwrap()
}

/// What lies in the folder, except for locks.
pub(super) fn files(store: &Store) -> Vec<String> {
    let mut files: Vec<String> = fs::read_dir(store.root())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files
}

pub(super) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("models"));
    (folder, store)
}

#[test]
fn a_model_comes_and_goes() {
    let (_folder, store) = store();
    assert_eq!(store.list().unwrap(), []);
    let bytes = Sample::tiny().bytes();
    let installed = install(&store, "tiny");
    assert_eq!(installed.manifest.sha256, sha256(&bytes));
    assert_eq!(installed.manifest.size_bytes, bytes.len() as u64);
    assert_eq!(installed.manifest.architecture, "llama");
    assert!(installed.manifest.chat);
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&installed));
    assert_eq!(store.get(&name("tiny")).unwrap(), installed);
    assert_eq!(files(&store), ["tiny.gguf", "tiny.toml"]);
    let path = store.model_path(&name("tiny"));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o444);

    store.remove(&name("tiny")).unwrap();
    assert_eq!(files(&store), [""; 0]);
    let again = store.remove(&name("tiny"));
    assert!(matches!(again, Err(StoreError::NotInstalled { .. })));
}

#[test]
fn what_is_wrong_never_becomes_a_model() {
    let (_folder, store) = store();
    let bytes = Sample::tiny().bytes();
    let other = sha256(b"other");
    let digest = Expected {
        sha256: Some(other),
        size: None,
    };
    let mut installing = start(&store, "x", digest).unwrap();
    installing.add(&bytes).unwrap();
    assert!(matches!(
        installing.finish(),
        Err(StoreError::Digest { expected, actual, .. })
            if expected == other && actual == sha256(&bytes)
    ));
    assert_eq!(files(&store), [""; 0]);

    let size = |size| Expected {
        sha256: None,
        size: Some(size),
    };
    let mut short = start(&store, "x", size(bytes.len() as u64 + 1)).unwrap();
    short.add(&bytes).unwrap();
    assert!(matches!(short.finish(), Err(StoreError::Size { .. })));
    let mut long = start(&store, "x", size(bytes.len() as u64 - 1)).unwrap();
    assert!(matches!(long.add(&bytes), Err(StoreError::Size { .. })));
    drop(long);

    let mut garbage = start(&store, "x", Expected::default()).unwrap();
    garbage.add(b"<html>").unwrap();
    assert!(matches!(garbage.finish(), Err(StoreError::Gguf { .. })));
    assert_eq!(files(&store), [""; 0]);
    assert_eq!(store.list().unwrap(), []);
}

#[test]
fn a_taken_name_is_not_taken_again() {
    let (_folder, store) = store();
    install(&store, "x");
    assert!(matches!(
        start(&store, "x", Expected::default()),
        Err(StoreError::AlreadyInstalled { .. })
    ));
    fs::write(store.root().join("y.gguf"), "mine").unwrap();
    assert!(matches!(
        start(&store, "y", Expected::default()),
        Err(StoreError::Foreign(_))
    ));
    assert_eq!(fs::read(store.root().join("y.gguf")).unwrap(), b"mine");
}

#[test]
fn one_at_a_time() {
    let (_folder, store) = store();
    let first = start(&store, "x", Expected::default()).unwrap();
    let second = start(&store, "x", Expected::default());
    assert!(matches!(second, Err(StoreError::Busy { .. })));
    // Another model is not held up.
    install(&store, "y");
    drop(first);

    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut installing = start(&store, "z", Expected::default())?;
                    installing.add(&Sample::tiny().bytes())?;
                    installing.finish()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| matches!(
        outcome,
        Ok(_) | Err(StoreError::Busy { .. } | StoreError::AlreadyInstalled { .. })
    )));
    let verified = store.open_verified(&name("z"), &Verified::default());
    assert!(verified.is_ok());
}

#[test]
fn a_cut_download_is_taken_up_again() {
    let (_folder, store) = store();
    let bytes = Sample::tiny().bytes();
    let (start_bytes, rest) = bytes.split_at(bytes.len() / 2);
    let half = start_bytes.len() as u64;
    let begin = |origin| {
        store
            .install(&name("x"), provenance(origin), Expected::default())
            .unwrap()
    };
    let mut cut = begin("web");
    cut.note_validator(Some("\"v1\"".to_owned())).unwrap();
    cut.add(start_bytes).unwrap();
    drop(cut);
    assert_eq!(files(&store), [".x.part", ".x.resume"]);
    assert_eq!(store.list().unwrap(), []);

    let mut resumed = begin("web");
    assert_eq!(resumed.length(), half);
    assert_eq!(resumed.validator(), Some("\"v1\""));
    resumed.add(rest).unwrap();
    assert_eq!(resumed.finish().unwrap().manifest.sha256, sha256(&bytes));
    assert_eq!(files(&store), ["x.gguf", "x.toml"]);
    store.remove(&name("x")).unwrap();

    // Of members only whole ones count, and of another origin nothing does.
    let mut cut = begin("pip");
    cut.add(start_bytes).unwrap();
    cut.note_member().unwrap();
    cut.add(b"half a member").unwrap();
    drop(cut);
    let resumed = begin("pip");
    assert_eq!((resumed.length(), resumed.members()), (half, 1));
    drop(resumed);
    let other = begin("elsewhere");
    assert_eq!((other.length(), other.members()), (0, 0));
    drop(other);
    // And what cannot be resumed is not kept.
    assert_eq!(files(&store), [""; 0]);
}

#[test]
fn leftovers_of_the_dead_are_swept() {
    let (_folder, store) = store();
    fs::create_dir(store.root()).unwrap();
    let file = |name: &str| store.root().join(name);
    fs::write(file(".dead.part"), "x").unwrap();
    fs::write(file(".dead.new"), "x").unwrap();
    fs::create_dir(file(".dead.pip")).unwrap();
    fs::write(file(".dead.pip/x.whl"), "x").unwrap();
    fs::write(file(".young.part"), "x").unwrap();
    fs::write(file(".young.resume"), "x").unwrap();
    fs::write(file(".not a name.part"), "x").unwrap();
    install(&store, "x");
    let kept = [
        ".not a name.part",
        ".young.part",
        ".young.resume",
        "x.gguf",
        "x.toml",
    ];
    assert_eq!(files(&store), kept);
}

#[test]
fn the_default_is_the_chosen_or_the_only_one() {
    let (_folder, store) = store();
    let none = store.default_model();
    assert!(matches!(
        none,
        Err(StoreError::NoDefault { installed: 0, .. })
    ));
    install(&store, "a");
    assert_eq!(store.default_model().unwrap(), name("a"));
    install(&store, "b");
    let several = store.default_model();
    assert!(matches!(
        several,
        Err(StoreError::NoDefault { installed: 2, .. })
    ));
    store.set_default(&name("b")).unwrap();
    assert_eq!(store.default_model().unwrap(), name("b"));
    let unknown = store.set_default(&name("c"));
    assert!(matches!(unknown, Err(StoreError::NotInstalled { .. })));
    store.remove(&name("b")).unwrap();
    assert_eq!(files(&store), ["a.gguf", "a.toml"]);
    assert_eq!(store.default_model().unwrap(), name("a"));
}

/// Other bytes of the same length in the same file, late enough for its time to tell.
fn rewrite(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_file_rewritten_while_it_is_hashed_is_not_opened() {
    let (_folder, store) = store();
    let x = name("x");
    install(&store, "x");
    let path = store.model_path(&x);
    let mut calls = 0;
    let opened = store.open_verified_watched(&x, &Verified::default(), |_| {
        if calls == 0 {
            rewrite(&path);
        }
        calls += 1;
    });
    assert!(matches!(opened, Err(StoreError::Changed { .. })));
}

#[test]
fn a_witness_tells_of_writes_and_not_of_removal() {
    let (_folder, store) = store();
    let x = name("x");
    install(&store, "x");
    let path = store.model_path(&x);
    let removed = store.open_verified(&x, &Verified::default()).unwrap();
    store.remove(&x).unwrap();
    assert!(removed.witness.holds());
    install(&store, "x");
    let rewritten = store.open_verified(&x, &Verified::default()).unwrap();
    assert!(removed.witness.holds() && rewritten.witness.holds());
    rewrite(&path);
    assert!(removed.witness.holds() && !rewritten.witness.holds());
}

#[test]
fn only_the_installed_bytes_are_opened() {
    let (_folder, store) = store();
    let x = name("x");
    install(&store, "x");
    let open = || store.open_verified(&x, &Verified::default());
    let model = open().unwrap();
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut &model.file, &mut read).unwrap();
    assert_eq!(sha256(&read), model.sha256);
    assert_eq!(model.header.vocabulary, 5);

    let path = store.model_path(&x);
    let whole = fs::read(&path).unwrap();
    let replace = |bytes: &[u8]| {
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    };
    // One bit of the weights, the whole header, the end, everything.
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    replace(&flipped);
    assert!(matches!(open(), Err(StoreError::Digest { .. })));
    let mut headless = whole.clone();
    headless[0] = b'X';
    replace(&headless);
    assert!(matches!(open(), Err(StoreError::Gguf { .. })));
    replace(&whole[..whole.len() - 1]);
    assert!(matches!(open(), Err(StoreError::Size { .. })));
    replace(b"");
    assert!(matches!(open(), Err(StoreError::Size { .. })));

    // What is no regular file is not opened, even if it leads to the right bytes.
    let aside = store.root().join("aside");
    fs::write(&aside, &whole).unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    assert!(matches!(open(), Err(StoreError::NotAFile(_))));
    fs::remove_file(&path).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, 0o644.into(), 0).unwrap();
    assert!(matches!(open(), Err(StoreError::NotAFile(_))));
    // Nor would it be loaded.
    let chosen = store.set_default(&x);
    assert!(matches!(chosen, Err(StoreError::NotAFile(_))));
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(), Err(StoreError::NotInstalled { .. })));
}

#[test]
fn a_settled_file_is_hashed_once() {
    let (_folder, store) = store();
    let x = name("x");
    let size = install(&store, "x").manifest.size_bytes;
    let verdicts = Verified::default();
    let hashed = || {
        let mut bytes = 0;
        let opened = store.open_verified_watched(&x, &verdicts, |more| bytes += more);
        (opened.is_ok(), bytes)
    };
    // A file this young may change without its times showing it.
    assert_eq!(hashed(), (true, size));
    assert_eq!(hashed(), (true, size));
    std::thread::sleep(Duration::from_millis(3100));
    assert_eq!(hashed(), (true, size));
    assert_eq!(hashed(), (true, 0));
    // Same size, same place, other bytes.
    let path = store.model_path(&x);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(hashed(), (false, size));
}

#[test]
fn a_broken_manifest_says_where_and_can_be_removed() {
    let (_folder, store) = store();
    install(&store, "x");
    let path = store.root().join("x.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}surprise = 1\n")).unwrap();
    let error = store.get(&name("x")).unwrap_err().to_string();
    let line = text.lines().count() + 1;
    assert!(
        error.contains(&format!("x.toml:{line}: unknown field `surprise`")),
        "{error}"
    );
    assert_eq!(store.list().unwrap(), []);
    store.remove(&name("x")).unwrap();
    assert_eq!(files(&store), [""; 0]);
}

#[test]
fn room_is_looked_for_first() {
    let (_folder, store) = store();
    let installing = start(&store, "x", Expected::default()).unwrap();
    installing.announce(Some(1 << 10), 0).unwrap();
    let vast = installing.announce(Some(1 << 60), 0);
    assert!(matches!(vast, Err(StoreError::NoSpace { .. })));
    let extra = installing.announce(None, 1 << 60);
    assert!(matches!(extra, Err(StoreError::NoSpace { .. })));
}

/// Runs this same test in a process of its own, where `CHILD` has the store's folder.
fn in_child(test: &str, store: &Store, shell: &str) -> std::process::Output {
    let test = format!("store::tests::{test}");
    Command::new("sh")
        .args(["-c", &format!("{shell}; exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(CHILD, store.root())
        .output()
        .unwrap()
}

const CHILD: &str = "HOB_STORE_TEST_FOLDER";

fn child_store() -> Option<Store> {
    std::env::var_os(CHILD).map(|folder| Store::open(Path::new(&folder)))
}

#[test]
fn a_full_disk_leaves_nothing() {
    if let Some(store) = child_store() {
        // Files may have 64 KiB here; a write beyond that fails as on a full disk.
        let mut installing = start(&store, "x", Expected::default()).unwrap();
        installing.note_validator(Some("v".to_owned())).unwrap();
        let error = (0..100).find_map(|_| installing.add(&[0; 4096]).err());
        assert!(matches!(error, Some(StoreError::Full { .. })), "{error:?}");
        return;
    }
    let (_folder, store) = store();
    let output = in_child(
        "a_full_disk_leaves_nothing",
        &store,
        "trap '' XFSZ; ulimit -f 128",
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(files(&store), [""; 0]);
}

#[test]
fn a_killed_process_leaves_what_can_be_resumed() {
    let bytes = Sample::tiny().bytes();
    let half = bytes.len() / 2;
    if let Some(store) = child_store() {
        let mut installing = start(&store, "x", Expected::default()).unwrap();
        installing.note_validator(Some("v".to_owned())).unwrap();
        installing.add(&bytes[..half]).unwrap();
        std::process::abort();
    }
    let (_folder, store) = store();
    let output = in_child(
        "a_killed_process_leaves_what_can_be_resumed",
        &store,
        "ulimit -c 0",
    );
    assert!(!output.status.success());
    assert_eq!(files(&store), [".x.lock", ".x.part", ".x.resume"]);
    let mut resumed = start(&store, "x", Expected::default()).unwrap();
    assert_eq!(resumed.length(), half as u64);
    resumed.add(&bytes[half..]).unwrap();
    resumed.finish().unwrap();
    assert!(
        store
            .open_verified(&name("x"), &Verified::default())
            .is_ok()
    );
}

#[test]
fn a_card_is_of_one_file_and_goes_with_its_model() {
    let (_folder, store) = store();
    let small = name("small");
    assert_eq!(store.fairness_card(&small).unwrap(), None);
    let digest = sha256(&Sample::tiny().bytes());
    let refused = store.keep_fairness_card(&small, digest, "{}").unwrap_err();
    assert!(
        matches!(refused, StoreError::NotInstalled { .. }),
        "{refused}"
    );
    assert!(!store.root().exists());
    install(&store, "small");
    let refused = store
        .keep_fairness_card(&small, sha256(b"other"), "{}")
        .unwrap_err();
    assert!(matches!(refused, StoreError::Changed { .. }), "{refused}");
    store.keep_fairness_card(&small, digest, "{}").unwrap();
    store
        .keep_fairness_card(&small, digest, "{\"new\":1}")
        .unwrap();
    assert_eq!(store.fairness_card(&small).unwrap().unwrap(), "{\"new\":1}");
    assert_eq!(
        files(&store),
        ["small.fairness.json", "small.gguf", "small.toml"]
    );
    assert_eq!(store.list().unwrap().len(), 1);
    // While somebody changes the model, nobody writes about it.
    let lock = disk::try_lock(&store.path(&small, Part::Lock)).unwrap();
    let busy = store.keep_fairness_card(&small, digest, "{}").unwrap_err();
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy}");
    drop(lock);
    // What is no card is not read whole.
    fs::write(store.fairness_path(&small), vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(store.fairness_card(&small).is_err());
    store.remove(&small).unwrap();
    assert!(files(&store).is_empty());
}

#[test]
fn locks_are_taken_by_one_at_a_time_and_leave_no_files() {
    let (folder, store) = store();
    let path = folder.path().join(".x.lock");
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..200 {
                    let lock = disk::lock(&path).unwrap();
                    let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    assert_eq!(others, 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(lock);
                }
            });
        }
    });
    assert!(!path.exists());
    install(&store, "x");
    store.set_default(&name("x")).unwrap();
    assert_eq!(files(&store), ["default", "x.gguf", "x.toml"]);
    // One that a killed process left goes with the next install.
    fs::write(store.path(&name("y"), Part::Lock), "").unwrap();
    install(&store, "z");
    assert!(files(&store).iter().all(|name| !name.ends_with("lock")));
}
