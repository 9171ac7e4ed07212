//! Engines that crash, hang and lie. hobd stays, each lost answer gets exactly one typed error,
//! and whoever comes next is served.

#![allow(
    clippy::expect_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::time::Duration;

use hob_api::status::{State, Status};
use hob_api::{ApiError, ErrorCode, Event};
use hob_e2e::{Answer, Daemon, Setup};
use rustix::process::Signal;
use serde_json::json;

/// One request at a time, so that the next one waits while the first is lost.
const ONE_AT_A_TIME: &str = "[engine]\nparallel = 1\nhang_timeout = \"2s\"";

/// The one error of a lost answer.
fn lost(answer: &Answer) -> &ApiError {
    let error = answer.error();
    assert_eq!(error.code, ErrorCode::EngineLost, "{error:?}");
    assert!(!error.message.is_empty(), "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    error
}

async fn losses(daemon: &Daemon, wanted: u64) -> Status {
    daemon
        .until_status(&format!("{wanted} engines lost"), |status| {
            status.engine_losses == wanted
        })
        .await
}

/// Asks `prompt`, which ends the engine, with another request waiting behind it.
async fn lose_one(prompt: &str) -> Answer {
    let daemon = Setup::fake().toml(ONE_AT_A_TIME).ready().await;
    let client = daemon.client();
    let before = daemon.engine_pid().await;
    // Both are handed in before the engine can be lost twice.
    let first = client.ask(prompt).await;
    let second = client.ask("one two three").await;
    let (first, second) = tokio::join!(first.answer(), second.answer());
    assert_eq!(second.text, "one two three", "after {prompt:?}");
    second.done();
    losses(&daemon, 1).await;
    assert_ne!(daemon.engine_pid().await, before);
    first
}

#[tokio::test]
async fn an_engine_that_ends_costs_one_answer() {
    for prompt in ["fake: crash after 3", "fake: exit after 3"] {
        let answer = lose_one(prompt).await;
        lost(&answer);
        assert!("word word word ".starts_with(&answer.text), "{answer:?}");
    }
    let answer = lose_one("fake: crash after 0").await;
    lost(&answer);
    assert_eq!(answer.text, "");
}

#[tokio::test]
async fn an_engine_that_breaks_its_protocol_is_ended() {
    for breach in [
        "garbage",
        "oversized",
        "bad-utf8",
        "empty-delta",
        "wrong-id",
        "overcount",
        "second-ready",
    ] {
        lost(&lose_one(&format!("fake: {breach}")).await);
    }
}

#[tokio::test]
async fn a_lie_after_the_end_costs_no_answer() {
    for breach in ["double-finish", "after-finish"] {
        let daemon = Setup::fake().toml(ONE_AT_A_TIME).ready().await;
        let client = daemon.client();
        let answer = client.ask(&format!("fake: {breach}")).await;
        answer.answer().await.done();
        losses(&daemon, 1).await;
        daemon.assert_serves().await;
    }
}

#[tokio::test]
async fn an_engine_that_floods_is_ended() {
    let daemon = Setup::fake().toml(ONE_AT_A_TIME).ready().await;
    let client = daemon.client();
    let fields = json!({"max_tokens": 8});
    let answer = client.ask_with("fake: flood", &fields).await.answer().await;
    let error = answer.error();
    assert!(error.hint.is_some(), "{error:?}");
    assert!(answer.text.len() <= 8 * 1024, "{} bytes", answer.text.len());
    losses(&daemon, 1).await;
    daemon.assert_serves().await;
}

#[tokio::test]
async fn an_oversized_delta_is_no_answer() {
    let daemon = Setup::fake().toml(ONE_AT_A_TIME).ready().await;
    let client = daemon.client();
    let fields = json!({"max_tokens": 8});
    let answer = client.ask_with("fake: long-delta", &fields).await;
    lost(&answer.answer().await);
    daemon.assert_serves().await;
}

#[tokio::test]
async fn an_engine_without_progress_is_ended() {
    for prompt in ["fake: hang", "fake: mute"] {
        let answer = lose_one(prompt).await;
        let error = lost(&answer);
        assert!(error.message.contains("progress"), "{error:?}");
        assert_eq!(answer.text, "word ");
    }
}

#[tokio::test]
async fn requests_that_run_at_once_each_get_their_own_error() {
    let daemon = Setup::fake().toml("[engine]\nparallel = 2").ready().await;
    let client = daemon.client();
    let mut bystander = client.ask("fake: slow 50 1000").await;
    bystander.first_delta().await;
    let culprit = client.ask("fake: crash after 1").await;
    let (bystander, culprit) = tokio::join!(bystander.answer(), culprit.answer());
    lost(&bystander);
    lost(&culprit);
    losses(&daemon, 1).await;
    daemon.assert_serves().await;
}

#[tokio::test]
async fn a_lost_answer_has_its_own_status_and_the_log_the_last_words() {
    let daemon = Setup::fake().ready().await;
    let reply = daemon.client().ask_whole("fake: nonsense here").await;
    let error = reply.error(502, ErrorCode::EngineLost);
    losses(&daemon, 1).await;
    // The fake engine panics: its own words are in hobd's log, and not in the reply.
    let log = daemon.log();
    assert!(log.contains("no such behaviour"), "{log}");
    assert!(!error.to_string().contains("no such behaviour"), "{error}");
}

#[tokio::test]
async fn three_crashes_put_a_model_in_quarantine() {
    let daemon = Setup::fake()
        .fake_model("other", "")
        .toml(ONE_AT_A_TIME)
        .ready()
        .await;
    let client = daemon.client();
    for _ in 0..3 {
        lost(&client.ask("fake: crash after 1").await.answer().await);
    }
    let status = daemon.until(State::Failed).await;
    assert_eq!(status.engine_losses, 3);
    assert!(status.engine.is_none(), "{status:?}");
    let problem = status.problem.expect("a problem");
    assert_eq!(problem.code, ErrorCode::ModelFailed);
    assert!(problem.hint.is_some(), "{problem:?}");

    let reply = client.ask_whole("hello").await;
    let error = reply.error(500, ErrorCode::ModelFailed);
    assert_eq!(error.message, problem.message);
    assert_eq!(client.get("/health").await.status, 503);

    // Another model works, without a restart of hobd.
    let reply = client
        .post("/hob/v1/load", &json!({"model": "other"}))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let status = daemon.until_ready().await;
    assert_eq!(
        status.model.map(|model| model.name).as_deref(),
        Some("other")
    );
    daemon.assert_serves().await;
}

#[tokio::test]
async fn an_engine_that_can_t_load_fails_with_the_cause() {
    for (words, status, code) in [
        ("fail model", 500, ErrorCode::ModelFailed),
        ("fail memory", 507, ErrorCode::InsufficientMemory),
        ("fail sandbox", 500, ErrorCode::ModelFailed),
        ("fail template", 500, ErrorCode::ModelFailed),
        ("fail lock", 500, ErrorCode::ModelFailed),
    ] {
        let daemon = Setup::fake_load(words).start().await;
        let failed = daemon.until(State::Failed).await;
        let problem = failed.problem.expect("a problem");
        assert_eq!(problem.code, code, "{words}");
        assert!(problem.hint.is_some(), "{words}: {problem:?}");
        let error = daemon.client().ask_whole("hello").await;
        error.error(status, code);
    }
}

#[tokio::test]
async fn an_engine_that_dies_while_it_loads_is_tried_three_times() {
    for words in ["crash", "exit", "garbage"] {
        let daemon = Setup::fake_load(words).start().await;
        let status = daemon.until(State::Failed).await;
        assert_eq!(status.engine_losses, 3, "{words}");
        let error = daemon.client().ask_whole("hello").await;
        error.error(500, ErrorCode::ModelFailed);
    }
}

#[tokio::test]
async fn a_load_without_end_is_ended() {
    let daemon = Setup::fake_load("never")
        .toml("[engine]\nload_timeout = \"1s\"")
        .start()
        .await;
    let waiting = daemon.client().ask("hello").await.answer().await;
    let error = waiting.error();
    assert_eq!(error.code, ErrorCode::ModelFailed, "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    let status = daemon.until(State::Failed).await;
    assert!(status.engine.is_none(), "{status:?}");
}

#[tokio::test]
async fn a_request_waits_for_a_slow_load() {
    let daemon = Setup::fake_load("slow 2000").start().await;
    let client = daemon.client();
    let status = daemon
        .until_status("progress is told", |status| status.load_percent > 0)
        .await;
    assert_eq!(status.state, State::Loading);
    let mut stream = client.ask("one two three").await;
    let first = stream.json::<Event>().await;
    assert!(matches!(first, Some(Event::Queued { .. })), "{first:?}");
    let health = client.get("/health").await;
    health.error(503, ErrorCode::NotReady);
    let answer = stream.answer().await;
    assert_eq!(answer.text, "one two three");
    assert!(answer.done().timings.queue_ms > 0.0, "{answer:?}");
}

#[tokio::test]
async fn an_idle_engine_that_dies_is_started_again() {
    let daemon = Setup::fake().ready().await;
    let before = daemon.engine_pid().await;
    daemon.signal_engine(Signal::KILL).await;
    let status = daemon
        .until_status("another engine is ready", |status| {
            status.state == State::Ready
                && status
                    .engine
                    .as_ref()
                    .is_some_and(|engine| engine.pid != before)
        })
        .await;
    assert_eq!(status.engine_losses, 1);
    daemon.assert_serves().await;
}

#[tokio::test]
async fn an_engine_that_ignores_cancel_holds_up_only_its_own_place() {
    let daemon = Setup::fake().toml("[engine]\nparallel = 2").ready().await;
    let client = daemon.client();
    let mut deaf = client.ask("fake: deaf 1500").await;
    deaf.first_delta().await;
    drop(deaf);
    daemon.assert_serves().await;
    let status = daemon
        .until_status("idle", |status| status.active == 0)
        .await;
    assert_eq!(status.engine_losses, 0);
}

#[tokio::test]
async fn a_failed_request_harms_no_other() {
    let daemon = Setup::fake().toml("[engine]\nparallel = 2").ready().await;
    let client = daemon.client();
    let mut bystander = client.ask("fake: slow 20 50").await;
    bystander.first_delta().await;
    let reply = client.ask_whole("fake: fail decode").await;
    reply.error(500, ErrorCode::ModelFailed);
    let answer = bystander.answer().await;
    assert_eq!(answer.text, "word ".repeat(49));
    assert_eq!(daemon.status().await.engine_losses, 0);
}

/// A real answer that goes on for long.
async fn long_real_answer(daemon: &Daemon) -> hob_e2e::Stream {
    let fields = json!({"max_tokens": 2000, "temperature": 0.8});
    let mut stream = daemon
        .client()
        .ask_with("Tell me a very long story about a lighthouse.", &fields)
        .await;
    stream.first_delta().await;
    stream
}

/// A question whose answer is always the same.
async fn assert_answers(daemon: &Daemon) {
    let question = json!({
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the capital of France? Answer in one short sentence."},
        ],
        "temperature": 0,
        "max_tokens": 48,
    });
    let reply = daemon
        .client()
        .post("/v1/chat/completions", &question)
        .await;
    assert!(reply.text().contains("Paris"), "{}", reply.text());
}

#[tokio::test]
async fn the_real_engine_killed_in_mid_answer_costs_that_answer() {
    let daemon = Setup::real().ready().await;
    let stream = long_real_answer(&daemon).await;
    let before = daemon.engine_pid().await;
    daemon.signal_engine(Signal::KILL).await;
    lost(&stream.answer().await);
    assert_answers(&daemon).await;
    let status = daemon.status().await;
    assert_eq!(status.engine_losses, 1);
    assert_ne!(status.engine.map(|engine| engine.pid), Some(before));
}

#[tokio::test]
async fn the_real_engine_stopped_past_its_watchdog_is_replaced() {
    let daemon = Setup::real()
        .toml("[engine]\nhang_timeout = \"15s\"")
        .ready()
        .await;
    let stream = long_real_answer(&daemon).await;
    daemon.signal_engine(Signal::STOP).await;
    // hobd answers for itself while the engine hangs.
    let start = std::time::Instant::now();
    daemon.status().await;
    assert!(start.elapsed() < Duration::from_secs(15));
    lost(&stream.answer().await);
    assert_answers(&daemon).await;
    losses(&daemon, 1).await;
}
