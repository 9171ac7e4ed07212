//! Which of several installed engines is started, and what is told of it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::path::Path;

use hob_api::ErrorCode;
use hob_api::status::State;
use hob_e2e::{Setup, binary};
use hob_ipc::kernels::{Features, Level};

/// A folder as a package has it, with the fake engine for every level but `without`.
fn engines(without: Option<Level>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for level in Level::ALL
        .into_iter()
        .filter(|level| Some(*level) != without)
    {
        let engine = folder.path().join(level.as_str()).join("hob-engine");
        std::fs::create_dir(engine.parent().unwrap()).unwrap();
        std::fs::copy(binary("fake-engine"), engine).unwrap();
    }
    folder
}

fn with_engines(folder: &Path) -> Setup {
    Setup::fake().env("HOB_ENGINE_PATH", folder.to_str().unwrap())
}

#[tokio::test]
async fn the_best_engine_for_this_processor_is_started() {
    let best = Level::of(&Features::here()).expect("tests need a processor with some level");
    let folder = engines(None);
    let daemon = with_engines(folder.path()).ready().await;
    let started = std::fs::read_link(format!("/proc/{}/exe", daemon.engine_pid().await)).unwrap();
    assert_eq!(
        started,
        folder.path().join(best.as_str()).join("hob-engine")
    );
    let kernels = daemon.status().await.kernels;
    assert!(
        kernels.reason.contains("the best for this processor"),
        "{kernels:?}"
    );
    daemon.client().ask("one two").await.answer().await.done();
}

#[tokio::test]
async fn a_level_that_is_not_installed_is_refused_and_hobd_goes_on() {
    let best = Level::of(&Features::here()).expect("tests need a processor with some level");
    let folder = engines(Some(best));
    let daemon = with_engines(folder.path())
        .env("HOB_ENGINE_KERNELS", best.as_str())
        .start()
        .await;
    let status = daemon.until(State::Failed).await;
    let problem = status.problem.unwrap();
    assert_eq!(problem.code, ErrorCode::ModelFailed);
    assert!(problem.message.contains(best.as_str()), "{problem:?}");
    assert!(problem.hint.unwrap().contains("auto"));
    let answer = daemon.client().ask("one two").await.answer().await;
    assert_eq!(answer.error().code, ErrorCode::ModelFailed);
}

#[tokio::test]
async fn the_real_engine_tells_its_kernels_and_its_memory_is_seen() {
    let daemon = Setup::real().ready().await;
    let status = daemon.status().await;
    let told = |level: &Level| level.as_str() == status.kernels.level;
    assert!(Level::ALL.iter().any(told), "{:?}", status.kernels);
    assert!(status.engine.unwrap().rss_bytes > 16 << 20);
}
