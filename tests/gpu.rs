//! What hobd makes of a GPU that an engine finds, and of one that fails. The fake engine plays both;
//! `scripts/check-gpu` has the real one.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use hob_api::ErrorCode;
use hob_api::status::State;
use hob_e2e::{Setup, binary};

/// More than a model of the tests takes.
const ENOUGH: &str = "gpu 1099511627776";

fn gpu(wanted: &str, words: &str) -> Setup {
    Setup::fake_load(words).env("HOB_ENGINE_GPU", wanted)
}

#[tokio::test]
async fn no_gpu_is_asked_for_by_default() {
    let daemon = Setup::fake_load(ENOUGH).ready().await;
    let gpu = daemon.status().await.gpu;
    assert_eq!(
        (gpu.setting.as_str(), gpu.layers, gpu.problem),
        ("off", 0, None)
    );
}

#[tokio::test]
async fn what_a_gpu_computes_is_told() {
    for wanted in ["auto", "required"] {
        let daemon = gpu(wanted, ENOUGH).ready().await;
        let status = daemon.status().await;
        let gpu = &status.gpu;
        assert_eq!(
            (gpu.device.as_str(), gpu.backend.as_str()),
            ("Fake GPU", "vulkan")
        );
        assert!(gpu.layers > 0 && gpu.layers == gpu.layers_all, "{gpu:?}");
        assert!(gpu.model_bytes > 0 && gpu.problem.is_none(), "{gpu:?}");
        let shown = daemon.hob().args(["status"]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("Fake GPU (vulkan)"), "{shown}");
        daemon.assert_serves().await;
    }
}

#[tokio::test]
async fn too_little_memory_is_refused_in_numbers_or_done_without() {
    let daemon = gpu("required", "gpu 1024").start().await;
    let problem = daemon.until(State::Failed).await.problem.unwrap();
    assert_eq!(problem.code, ErrorCode::ModelFailed);
    let words = "Fake GPU has 1 MiB free";
    assert!(problem.message.contains(words), "{problem:?}");
    assert!(problem.hint.unwrap().contains("auto"));
    let daemon = gpu("auto", "gpu 1024").ready().await;
    let status = daemon.status().await;
    assert_eq!((status.gpu.layers, status.engine_losses), (0, 0));
    assert!(status.gpu.problem.unwrap().contains(words));
    daemon.assert_serves().await;
}

#[tokio::test]
async fn what_fails_with_a_gpu_is_done_without_where_that_will_do() {
    for (words, losses) in [
        ("gpu-fail memory", 0),
        ("gpu-fail sandbox", 0),
        ("gpu-crash", 1),
    ] {
        let daemon = gpu("auto", words).ready().await;
        let status = daemon.status().await;
        assert_eq!(status.engine_losses, losses, "{words}");
        assert!(status.gpu.problem.is_some(), "{words}");
        daemon.assert_serves().await;
    }
    // A model's own fault is one without it, too.
    for (wanted, words) in [
        ("auto", "gpu-fail model"),
        ("required", "gpu-fail memory"),
        ("required", "gpu-crash"),
    ] {
        let daemon = gpu(wanted, words).start().await;
        daemon.until(State::Failed).await;
    }
}

#[tokio::test]
async fn an_engine_that_lies_about_layers_is_ended() {
    let daemon = gpu("required", "gpu-lie").start().await;
    daemon.until(State::Failed).await;
    assert!(
        daemon.log().contains("malformed description"),
        "{}",
        daemon.log()
    );
}

#[tokio::test]
async fn a_required_gpu_that_can_not_be_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let installed = folder.path().to_str().unwrap();
    let daemon = gpu("required", ENOUGH)
        .env("HOB_ENGINE_PATH", installed)
        .start()
        .await;
    let problem = daemon.until(State::Failed).await.problem.unwrap();
    assert!(
        problem.message.contains("no engine for one is installed"),
        "{problem:?}"
    );
}

/// The ordinary engine says so itself, in the ordinary sandbox.
#[tokio::test]
async fn the_real_engine_was_built_without() {
    let real = |wanted: &str| {
        let engine = binary("hob-engine");
        Setup::real()
            .env("HOB_ENGINE_PATH", engine.to_str().unwrap())
            .env("HOB_ENGINE_GPU", wanted)
    };
    let daemon = real("auto").ready().await;
    let status = daemon.status().await;
    assert!(status.gpu.problem.unwrap().contains("built without"));
    let sandbox = status.engine.unwrap().sandbox;
    assert!(sandbox.contains(&"seccomp".to_owned()), "{sandbox:?}");
    let daemon = real("required").start().await;
    let problem = daemon.until(State::Failed).await.problem.unwrap();
    assert!(problem.message.contains("built without"), "{problem:?}");
}
