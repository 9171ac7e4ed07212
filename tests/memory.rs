//! One budget for the engine's memory, and what is given up when memory is scarce: the real hobd,
//! with the real engine where figures are compared, and a file tree that says what the test wants.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use std::fs;
use std::path::Path;

use hob_api::ErrorCode;
use hob_api::status::{MemoryStatus, State};
use hob_e2e::{Setup, TEST_MODEL, ran_as_root};
use serde_json::json;
use tempfile::TempDir;

/// A model of another kind, with a sliding window.
const SLIDING_MODEL: &str = "gemma-3-270m";

/// A machine with 8 GiB, and hobd in a control group of its own.
fn machine() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    available(root.path(), 6_291_456);
    write(
        root.path(),
        "proc/self/cgroup",
        "0::/system.slice/hobd.service\n",
    );
    root
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Replaced as a whole: hobd may be reading.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn available(root: &Path, kib: u32) {
    let text = format!("MemTotal: 8388608 kB\nMemAvailable: {kib} kB\n");
    write(root, "proc/meminfo", &text);
}

/// Tasks wait so much for what little memory there is.
fn pressure(root: &Path, some: f32, full: f32) {
    available(root, 1_048_576);
    let line = |kind, share| format!("{kind} avg10={share:.2} avg60=0.00 avg300=0.00 total=0\n");
    let text = line("some", some) + &line("full", full);
    write(root, "proc/pressure/memory", &text);
}

fn on(setup: Setup, root: &TempDir) -> Setup {
    setup.env("HOB_MEMORY_ROOT", root.path().to_str().unwrap())
}

fn estimate(memory: &MemoryStatus) -> u64 {
    memory.weights_bytes + memory.kv_bytes + memory.compute_bytes
}

#[tokio::test]
async fn a_model_too_large_for_the_control_group_is_refused_with_what_would_fit() {
    let root = machine();
    let group = "sys/fs/cgroup/system.slice/hobd.service";
    write(root.path(), &format!("{group}/memory.max"), "230000000\n");
    write(
        root.path(),
        &format!("{group}/memory.current"),
        "10000000\n",
    );
    let setup = on(Setup::real(), &root).toml("[engine]\nn_ctx = 8192\nparallel = 2");
    let daemon = setup.start().await;
    let status = daemon.until(State::Failed).await;
    assert!(status.engine.is_none(), "{status:?}");
    let error = daemon.client().ask_whole("hello").await;
    let error = error.error(507, ErrorCode::InsufficientMemory);
    assert!(
        error.message.contains("control group leaves 210 MiB"),
        "{error}"
    );
    let hint = error.hint.expect("a hint");
    let fits = hint.split("engine.n_ctx = ").nth(1).expect(&hint);
    let fits: u32 = fits.split(' ').next().unwrap().parse().unwrap();

    // What was proposed does fit.
    let settings = format!("[engine]\nn_ctx = {fits}\nparallel = 1");
    let daemon = on(Setup::real(), &root).toml(&settings).ready().await;
    let status = daemon.status().await;
    assert_eq!(status.memory.budget_source, "cgroup");
    assert!(estimate(&status.memory) <= status.memory.budget_bytes.unwrap());
    let few = json!({"max_tokens": 4});
    let answer = daemon.client().ask_with("Say hi.", &few).await;
    answer.answer().await.done();
}

#[tokio::test]
async fn a_smaller_installed_model_is_proposed() {
    let setup = Setup::real().env("HOB_MODEL", SLIDING_MODEL);
    let setup = setup.toml("[engine]\nn_ctx = 512\nparallel = 1\nmemory = 200000000");
    let daemon = setup.start().await;
    let status = daemon.until(State::Failed).await;
    let problem = status.problem.expect("a problem");
    assert_eq!(problem.code, ErrorCode::InsufficientMemory);
    let hint = problem.hint.expect("a hint");
    assert!(
        hint.contains(&format!("hob models use {TEST_MODEL}")),
        "{hint}"
    );
}

#[tokio::test]
async fn requests_at_once_follow_from_processors_and_memory() {
    let processors = std::thread::available_parallelism().unwrap().get().min(4);
    for (memory, parallel) in [("\"auto\"", processors), ("280000000", 1)] {
        let settings = format!("[engine]\nmemory = {memory}");
        let daemon = Setup::real().toml(&settings).ready().await;
        let engine = daemon.status().await.engine.expect("an engine");
        assert_eq!(engine.parallel as usize, parallel, "{memory}");
    }
}

#[tokio::test]
async fn the_estimate_is_close_above_what_the_engine_takes_and_falls_with_the_kv_type() {
    let question = "The quick brown fox jumps over the lazy dog. ".repeat(30);
    for model in [TEST_MODEL, SLIDING_MODEL] {
        let mut contexts = Vec::new();
        for (kv_type, weights) in [("f16", "mapped"), ("q8_0", "copied"), ("q4_0", "mapped")] {
            let settings = format!(
                "[engine]\nn_ctx = 2048\nparallel = 3\nkv_type = \"{kv_type}\"\nweights = \"{weights}\""
            );
            let setup = Setup::real().env("HOB_MODEL", model).toml(&settings);
            let daemon = setup.ready().await;
            let body = json!({"prompt": question, "max_tokens": 4});
            let reply = daemon.client().post("/v1/completions", &body).await;
            let reply: serde_json::Value = reply.json();
            assert_eq!(reply["usage"]["completion_tokens"], 4, "{kv_type}: {reply}");
            let status = daemon.status().await;
            assert_eq!(status.memory.kv_type, kv_type);
            let taken = status.engine.expect("an engine").rss_bytes;
            let estimate = estimate(&status.memory);
            let what =
                format!("{model}, {kv_type}, {weights}: {taken} taken, {estimate} estimated");
            assert!(taken <= estimate, "{what}");
            assert!(estimate <= taken + taken / 2, "{what}");
            contexts.push(status.memory.kv_bytes);
        }
        assert!(
            contexts.is_sorted_by(|more, less| more > less),
            "{contexts:?}"
        );
    }
}

/// Root may lock as much as it likes; another user needs a limit that hobd's unit raises.
#[tokio::test]
async fn locked_memory_is_locked() {
    if ran_as_root("locked_memory_is_locked") {
        return;
    }
    let setup = Setup::real().toml("[engine]\nn_ctx = 512\nweights = \"locked\"");
    let daemon = setup.ready().await;
    let status = daemon.status().await;
    assert_eq!(status.memory.weights, "mapped, locked");
    let pid = status.engine.expect("an engine").pid;
    let process = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let locked = process.lines().find_map(|line| {
        let kibibytes = line.strip_prefix("VmLck:")?.trim().strip_suffix(" kB")?;
        kibibytes.parse::<u64>().ok()
    });
    // The weights are most of it.
    assert!(locked.unwrap() << 10 > status.memory.weights_bytes);
}

#[tokio::test]
async fn scarce_memory_stops_admission_and_unloads_and_ease_brings_the_model_back() {
    let root = machine();
    pressure(root.path(), 0.0, 0.0);
    let daemon = on(Setup::fake(), &root).ready().await;
    assert_eq!(daemon.status().await.memory.given_up, "none");
    let gives_up = async |what: &str| {
        let wanted = |status: &hob_api::status::Status| status.memory.given_up == what;
        daemon
            .until_status(&format!("{what} given up"), wanted)
            .await
    };

    pressure(root.path(), 15.0, 0.0);
    gives_up("cache").await;
    let answered = daemon.client().ask("one two").await.answer().await;
    answered.done();

    pressure(root.path(), 50.0, 6.0);
    gives_up("admission").await;
    let refused = daemon.client().ask_whole("hello").await;
    let error = refused.error(429, ErrorCode::Busy);
    assert!(error.message.contains("memory") && error.retry_after_ms.is_some());
    assert_eq!(daemon.status().await.state, State::Ready);

    pressure(root.path(), 80.0, 40.0);
    gives_up("model").await;
    let status = daemon.until(State::Sleeping).await;
    assert!(status.engine.is_none());
    daemon
        .client()
        .ask_whole("hello")
        .await
        .error(429, ErrorCode::Busy);

    // Ease is seen although no engine runs, and the next question loads the model.
    pressure(root.path(), 0.0, 0.0);
    gives_up("cache").await;
    daemon.client().ask("one two").await.answer().await.done();
}

#[tokio::test]
async fn a_kernel_that_does_not_tell_of_pressure_is_judged_by_what_it_has_left() {
    let root = machine();
    let daemon = on(Setup::fake(), &root).ready().await;
    available(root.path(), 300_000);
    let wanted = |status: &hob_api::status::Status| status.memory.given_up == "admission";
    daemon.until_status("admission given up", wanted).await;
    daemon
        .client()
        .ask_whole("hello")
        .await
        .error(429, ErrorCode::Busy);
    let metrics = daemon.client().get("/metrics").await.text();
    assert!(metrics.contains("hob_memory_given_up 2\n"), "{metrics}");
    assert!(
        metrics.contains("hob_memory_available_bytes 307200000\n"),
        "{metrics}"
    );
}
