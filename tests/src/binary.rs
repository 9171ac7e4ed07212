//! Where the programs under test are. Cargo tells a test only of its own package's binaries, so
//! these are found beside the test's own file; `scripts/check` builds them all first.

use std::path::{Path, PathBuf};

/// `target/release` or its like: the parent of the folder `deps` that holds the running test.
fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let deps = test.parent().expect("a test lies in a folder");
    deps.parent().expect("deps lies in a folder").to_owned()
}

/// Cargo's target folder.
fn target_folder() -> PathBuf {
    profile_folder()
        .parent()
        .expect("the profile's folder lies in target")
        .to_owned()
}

/// The path of the program `name`: `hobd`, `hob`, `hob-engine` or `fake-engine`.
///
/// # Panics
/// If it is not built.
pub fn binary(name: &str) -> PathBuf {
    require(profile_folder().join(name))
}

/// A Python with the packages that tests use (openai, httpx2, dbus-fast).
///
/// # Panics
/// If it is not installed.
pub fn python() -> PathBuf {
    require(target_folder().join("test-venv/bin/python"))
}

/// A folder of installed models that holds the real test model. Tests only read it.
///
/// # Panics
/// If it is not there.
pub fn test_store() -> PathBuf {
    require(target_folder().join("test-store"))
}

fn require(path: PathBuf) -> PathBuf {
    assert!(
        Path::exists(&path),
        "{} is missing: run scripts/check, which makes it",
        path.display()
    );
    path
}

/// What a program that must fail said: on stderr, and nothing on stdout.
///
/// # Panics
/// If it did not fail, wrote to stdout, or its words are no UTF-8.
pub fn refused(output: &std::process::Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8(output.stderr.clone()).unwrap()
}
