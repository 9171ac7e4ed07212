//! What hobd tells the journal: priorities, which request, and never a word of anybody's text.

use hob_api::ErrorCode;
use hob_api::status::State;
use hob_e2e::{Daemon, Setup};
use serde_json::json;

use super::{CHAT, idle};

/// In no log, at no level.
const CANARY: &str = "plover";

/// Each line begins with a priority of syslog, as sd-daemon(3) has it.
fn assert_prioritised(log: &str) {
    assert!(!log.is_empty());
    for line in log.lines() {
        let priority = ["<3>", "<4>", "<6>", "<7>"]
            .iter()
            .find(|priority| line.starts_with(**priority));
        assert!(priority.is_some(), "no priority: {line}");
        assert!(!line.contains('\u{1b}'), "an escape sequence: {line:?}");
    }
}

fn line<'a>(log: &'a str, part: &str) -> &'a str {
    let found = log.lines().find(|line| line.contains(part));
    found.unwrap_or_else(|| panic!("no {part:?} in {log}"))
}

#[tokio::test]
async fn each_line_has_its_priority_and_no_text_of_anybody() {
    let daemon: Daemon = Setup::fake()
        .journal()
        .env("HOB_LOG", "trace")
        .ready()
        .await;
    let client = daemon.client();
    let answer = client.ask(&format!("hello {CANARY}")).await.answer().await;
    assert!(answer.text.contains(CANARY));
    let body = format!("{{\"messages\": \"{CANARY}\"");
    let refused = client.post_bytes(CHAT, body.into()).await;
    refused.error(400, ErrorCode::InvalidRequest);
    let mut leaving = client.ask(&format!("fake: repeat 1000000 {CANARY}")).await;
    leaving.first_delta().await;
    drop(leaving);
    idle(&daemon).await;
    let messages = json!({"messages": [
        {"role": "system", "content": CANARY},
        {"role": "user", "content": "fake: crash after 1"},
    ]});
    let lost = client.ask_with("", &messages).await.answer().await;
    assert_eq!(lost.error().code, ErrorCode::EngineLost);
    daemon.until_ready().await;

    let log = daemon.log();
    assert_prioritised(&log);
    assert!(!log.contains(CANARY), "{log}");
    for (part, priority) in [
        ("the engine was lost", "<3>"),
        ("answered", "<6>"),
        ("dispatched", "<7>"),
    ] {
        assert!(line(&log, part).starts_with(priority), "{part}: {log}");
    }
    // What happens to a request tells which one, and whose.
    let answered = line(&log, "answered");
    assert!(answered.contains("request{id=1 uid="), "{answered}");
}

#[tokio::test]
async fn what_keeps_hobd_from_answering_is_an_error() {
    let daemon = Setup::fake_load("fail model").journal().start().await;
    daemon.until(State::Failed).await;
    let log = daemon.log();
    assert_prioritised(&log);
    assert!(line(&log, "can't be loaded").starts_with("<3>"), "{log}");
}
