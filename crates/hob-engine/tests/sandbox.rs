//! The sandbox denies what it says it denies, and lets the engine work.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Between attempts to start a program that is still held open.
const PAUSE: Duration = Duration::from_millis(10);

/// How an attempt ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Succeeds,
    Refused,
    Killed(i32),
}

const SIGSYS: End = End::Killed(libc::SIGSYS);

fn probe() -> PathBuf {
    // Examples lie beside the folder of the tests.
    let here = std::env::current_exe().unwrap();
    let path = here
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/sandbox_probe");
    assert!(
        path.is_file(),
        "build the examples first: {}",
        path.display()
    );
    path
}

fn run(attempt: &str) -> Output {
    Command::new(probe())
        .arg(attempt)
        .env_clear()
        .env("GGML_NO_BACKTRACE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn end_of(attempt: &str) -> End {
    let output = run(attempt);
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => End::Succeeds,
        (Some(10), _) => End::Refused,
        (None, Some(signal)) => End::Killed(signal),
        _ => panic!(
            "{attempt}: {:?} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

#[test]
fn the_engines_own_work_is_allowed() {
    assert_eq!(end_of("harmless"), End::Succeeds);
    assert_eq!(end_of("map-data"), End::Succeeds);
}

#[test]
fn files_can_not_be_opened() {
    assert_eq!(end_of("open"), End::Refused);
    assert_eq!(end_of("create"), End::Refused);
    assert_eq!(end_of("rename"), SIGSYS);
    assert_eq!(end_of("memfd"), SIGSYS);
}

#[test]
fn sockets_can_not_be_made() {
    assert_eq!(end_of("socket"), SIGSYS);
    assert_eq!(end_of("connect"), SIGSYS);
}

#[test]
fn programs_and_processes_can_not_be_started() {
    assert_eq!(end_of("fork"), SIGSYS);
    assert_eq!(end_of("execute"), SIGSYS);
    assert_eq!(end_of("namespace"), SIGSYS);
}

#[test]
fn other_processes_are_out_of_reach() {
    assert_eq!(end_of("trace"), SIGSYS);
    assert_eq!(end_of("read-parent"), SIGSYS);
    assert_eq!(end_of("kill-parent"), SIGSYS);
    assert_eq!(end_of("tgkill-init"), SIGSYS);
}

#[test]
fn no_new_code_can_be_run() {
    assert_eq!(end_of("map-code"), SIGSYS);
    assert_eq!(end_of("make-code"), SIGSYS);
}

#[test]
fn the_kernels_large_doors_are_shut() {
    for attempt in ["io-uring", "bpf", "ioctl", "dup", "dumpable"] {
        assert_eq!(end_of(attempt), SIGSYS, "{attempt}");
    }
}

#[test]
fn where_weights_are_stored_anew_two_files_can_be_opened() {
    assert_eq!(end_of("files-read"), End::Succeeds);
    assert_eq!(end_of("files-write"), End::Succeeds);
}

#[test]
fn of_these_two_nothing_else_can_be_opened_and_neither_for_anything_else() {
    for attempt in [
        "read-target",
        "write-source",
        "open",
        "create",
        "own-memory",
        "open-socket",
    ] {
        assert_eq!(
            end_of(&format!("files-{attempt}")),
            End::Refused,
            "{attempt}"
        );
    }
    for attempt in [
        "truncate-source",
        "append",
        "both-ways",
        "path",
        "socket",
        "execute",
    ] {
        assert_eq!(end_of(&format!("files-{attempt}")), SIGSYS, "{attempt}");
    }
    assert_ne!(end_of("files-folder"), End::Succeeds);
    assert_eq!(end_of("files-write-too-much"), End::Killed(libc::SIGXFSZ));
}

#[test]
fn a_gpus_nodes_can_be_opened_and_its_driver_asked() {
    for attempt in ["gpu-harmless", "gpu-map-data", "gpu-node"] {
        assert_eq!(end_of(attempt), End::Succeeds, "{attempt}");
    }
    // It is no GPU's, and says so.
    assert_eq!(end_of("gpu-drm"), End::Refused);
    assert_eq!(end_of("drm"), SIGSYS);
}

#[test]
fn with_a_gpu_nothing_else_can_be_opened() {
    for attempt in [
        "node-to-read",
        "other-node",
        "library",
        "library-to-write",
        "open",
        "create",
        "own-memory",
        "thread",
    ] {
        for kind in ["gpu", "code"] {
            let attempt = format!("{kind}-{attempt}");
            assert_eq!(end_of(&attempt), End::Refused, "{attempt}");
        }
    }
}

#[test]
fn with_a_gpu_the_large_doors_stay_shut() {
    for attempt in [
        "socket",
        "connect",
        "fork",
        "execute",
        "namespace",
        "trace",
        "read-parent",
        "kill-parent",
        "tgkill-init",
        "io-uring",
        "bpf",
        "ioctl",
        "rename",
        "dumpable",
    ] {
        for kind in ["gpu", "code"] {
            let attempt = format!("{kind}-{attempt}");
            assert_eq!(end_of(&attempt), SIGSYS, "{attempt}");
        }
    }
    for attempt in ["gpu-map-code", "gpu-make-code"] {
        assert_eq!(end_of(attempt), SIGSYS, "{attempt}");
    }
    assert_eq!(end_of("code-make-code"), End::Succeeds);
}

#[test]
fn while_a_gpus_driver_starts_it_reads_libraries_and_nothing_of_users() {
    for attempt in ["library", "node"] {
        let attempt = format!("driver-{attempt}");
        assert_eq!(end_of(&attempt), End::Succeeds, "{attempt}");
    }
    for attempt in [
        "open",
        "create",
        "other-node",
        "library-to-write",
        "connect",
    ] {
        let attempt = format!("driver-{attempt}");
        assert_eq!(end_of(&attempt), End::Refused, "{attempt}");
    }
}

#[test]
fn the_weaker_layers_have_names_of_their_own() {
    for (kind, seccomp) in [("gpu", "seccomp-gpu"), ("code", "seccomp-gpu-code")] {
        let layers = String::from_utf8(run(&format!("{kind}-layers")).stderr).unwrap();
        let names: Vec<_> = layers.split_whitespace().collect();
        assert!(names.contains(&seccomp), "{layers}");
        let landlock = |name: &&str| name.starts_with("landlock-abi-") && name.ends_with("-gpu");
        assert!(names.iter().any(landlock), "{layers}");
    }
}

#[test]
fn memory_above_the_limit_is_refused() {
    assert_eq!(end_of("allocate"), End::Refused);
}

#[test]
fn an_abort_ends_as_an_abort() {
    assert_eq!(end_of("abort"), End::Killed(libc::SIGABRT));
}

#[test]
fn a_second_thread_keeps_the_sandbox_from_closing() {
    let output = run("two-threads");
    assert_eq!(output.status.code(), Some(10));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("there are 2 threads"), "{error}");
}

#[test]
fn every_layer_is_reported() {
    assert_all_layers(run("layers"));
}

/// What hobd's user is on a board: not root.
#[test]
fn an_ordinary_users_engine_gets_every_layer() {
    // The build's own folder may be closed to other users.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("sandbox_probe");
    std::fs::copy(probe(), &copy).unwrap();
    for path in [folder.path(), &copy] {
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(copy);
    command
        .arg("layers")
        .env_clear()
        .env("GGML_NO_BACKTRACE", "1")
        .stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(54_321).gid(54_321);
    }
    // A child that another test starts at this moment holds the copy open for writing until it
    // has become its own program.
    let output = loop {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => sleep(PAUSE),
            output => break output.unwrap(),
        }
    };
    assert_all_layers(output);
}

fn assert_all_layers(output: Output) {
    let layers = String::from_utf8(output.stderr).unwrap();
    for layer in [
        "rlimits",
        "oom-first",
        "no-dumpable",
        "no-new-privs",
        "landlock-abi-",
        "seccomp",
    ] {
        assert!(layers.contains(layer), "{layer} in {layers}");
    }
}

#[test]
fn an_environment_that_loads_code_is_refused() {
    for (name, value) in [
        ("GGML_BACKEND_PATH", "/tmp/x.so"),
        ("LD_LIBRARY_PATH", "/tmp"),
    ] {
        let output = Command::new(probe())
            .arg("harmless")
            .env_clear()
            .env("GGML_NO_BACKTRACE", "1")
            .env(name, value)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{name}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(name));
    }
}
