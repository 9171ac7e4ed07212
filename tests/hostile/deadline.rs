//! Deadlines that pass at once, while the model loads, while it reads and while it writes.

use hob_api::status::State;
use hob_api::{ApiError, ErrorCode};
use hob_e2e::{Daemon, Setup};
use serde_json::json;

use super::idle;

/// Asks with so many milliseconds; the request must be too late.
async fn too_late(daemon: &Daemon, question: &str, timeout_ms: u64) -> ApiError {
    let fields = json!({"timeout_ms": timeout_ms});
    let answer = daemon.client().ask_with(question, &fields).await;
    let error = answer.answer().await.error().clone();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded, "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    error
}

#[tokio::test]
async fn a_deadline_passes_in_whatever_phase_the_request_is() {
    let daemon = Setup::fake().toml("[engine]\nparallel = 1").ready().await;
    let client = daemon.client();
    let mut bystander = client.ask("fake: slow 20 100").await;
    bystander.first_delta().await;
    // It waits behind the bystander.
    too_late(&daemon, "never my turn", 1).await;
    too_late(&daemon, "never my turn", 100).await;
    assert_eq!(bystander.answer().await.text, "word ".repeat(99));

    too_late(&daemon, "fake: prefill 60000", 100).await;
    too_late(&daemon, "fake: slow 5 100000", 100).await;
    let status = idle(&daemon).await;
    assert_eq!(status.engine_losses, 0);
    daemon.assert_serves().await;
}

#[tokio::test]
async fn a_deadline_does_not_wait_for_the_model() {
    let daemon = Setup::fake_load("slow 2000").start().await;
    daemon.until(State::Loading).await;
    too_late(&daemon, "too early", 1).await;
    too_late(&daemon, "too early", 50).await;
    assert_eq!(daemon.status().await.state, State::Loading);
    daemon.until_ready().await;
    daemon.assert_serves().await;
}

#[tokio::test]
async fn a_deadline_in_the_past_is_no_deadline() {
    let daemon = Setup::fake().ready().await;
    for past in [json!(0), json!(-1), json!(-1e18), json!("2001-01-01")] {
        let fields = json!({"timeout_ms": past});
        let answer = daemon.client().ask_with("hello", &fields).await;
        let answer = answer.answer().await;
        let error = answer.error();
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{error:?}");
        assert_eq!(error.param.as_deref(), Some("timeout_ms"));
    }
    daemon.assert_serves().await;
}
