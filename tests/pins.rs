//! Pinned prefixes with the real engine and model: read when idle, restored after every kind of end,
//! never garbage, each user's own.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use hob_api::ErrorCode;
use hob_api::event::Done;
use hob_api::pin::{Pin, PinList, PinSource, PinState};
use hob_api::status::State;
use hob_e2e::{Daemon, Setup, TEST_MODEL, eventually, ran_as_root, test_store};
use rustix::process::Signal;
use serde_json::{Value, json};

#[path = "pins/damage.rs"]
mod damage;
#[path = "pins/users.rs"]
mod users;

/// Instructions of some 300 tokens.
fn persona() -> String {
    let facts = "The harbour has nine boats, and the red one belongs to Alma. ".repeat(20);
    format!("You answer in one short line. {facts}")
}

fn fields(text: &str) -> Value {
    json!({"messages": [{"role": "system", "content": text}]})
}

async fn put(daemon: &Daemon, name: &str, text: &str) -> Pin {
    let path = format!("/hob/v1/pins/{name}");
    daemon.client().put(&path, &fields(text)).await.json()
}

async fn pin(daemon: &Daemon, name: &str) -> Pin {
    let path = format!("/hob/v1/pins/{name}");
    daemon.client().get(&path).await.json()
}

/// Waits until the pin is ready, and its snapshot written if there is to be one.
async fn ready(daemon: &Daemon, name: &str, saved: bool) -> Pin {
    eventually("the pin is ready", async || {
        let pin = pin(daemon, name).await;
        assert_ne!(pin.state, PinState::Failed, "{pin:?}");
        (pin.state == PinState::Ready && pin.saved == saved).then_some(pin)
    })
    .await
}

/// A question behind the persona: the answer and its figures.
async fn ask(daemon: &Daemon, question: &str, more: Value) -> (String, Done) {
    let mut body = json!({
        "messages": [
            {"role": "system", "content": persona()},
            {"role": "user", "content": question},
        ],
        "temperature": 0, "repeat_penalty": 1, "max_tokens": 12, "stream": true,
    });
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    let client = daemon.client();
    let stream = client.stream("/v1/chat/completions", &body, "application/x-ndjson");
    let answer = stream.await.answer().await;
    (answer.text, answer.end.unwrap().unwrap())
}

fn cached(done: &Done) -> u32 {
    done.usage.prompt_tokens_details.cached_tokens
}

const QUESTION: &str = "Whose is the red boat?";

/// The answer without any memory.
async fn fresh_answer(daemon: &Daemon) -> String {
    let (text, done) = ask(daemon, QUESTION, json!({"cache_prompt": false})).await;
    assert_eq!(cached(&done), 0);
    text
}

/// The snapshots on the disk.
fn snapshots(daemon: &Daemon) -> Vec<PathBuf> {
    let folder = daemon.home().join("cache/hob/snapshots");
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

async fn assert_restored(daemon: &Daemon, before: &Pin, expected: &str) {
    let (text, done) = ask(daemon, QUESTION, json!({})).await;
    assert_eq!(text, expected);
    // A whole piece of 64 tokens is read behind it.
    assert!(cached(&done) >= before.tokens - 64, "{done:?}");
    let now = pin(daemon, "persona").await;
    assert_eq!(now.source, Some(PinSource::Restored), "{now:?}");
    assert_eq!((now.tokens, now.bytes), (before.tokens, before.bytes));
}

#[tokio::test]
async fn a_pin_is_restored_after_every_kind_of_end() {
    let mut daemon = Setup::real().ready().await;
    let fresh = fresh_answer(&daemon).await;
    put(&daemon, "persona", &persona()).await;
    let before = ready(&daemon, "persona", true).await;
    assert_eq!(before.source, Some(PinSource::Computed));
    assert!(before.tokens > 200, "{before:?}");
    assert_eq!(snapshots(&daemon).len(), 1);
    let (text, done) = ask(&daemon, QUESTION, json!({})).await;
    assert_eq!(text, fresh);
    assert!(cached(&done) >= before.tokens - 64);

    // The engine is lost.
    let lost = daemon.engine_pid().await;
    daemon.signal_engine(Signal::KILL).await;
    daemon
        .until_status("another engine is ready", |status| {
            let other = status
                .engine
                .as_ref()
                .is_some_and(|engine| engine.pid != lost);
            other && status.state == State::Ready
        })
        .await;
    assert_restored(&daemon, &before, &fresh).await;

    // The model is unloaded; the question itself wakes it.
    daemon.client().post("/hob/v1/unload", &json!({})).await;
    daemon.until(State::Sleeping).await;
    assert_restored(&daemon, &before, &fresh).await;

    // hobd is stopped, then killed, and started again.
    daemon.stop().await;
    daemon.restart().await;
    assert_restored(&daemon, &before, &fresh).await;
    daemon.signal(Signal::KILL);
    daemon.ended().await;
    daemon.restart().await;
    assert_restored(&daemon, &before, &fresh).await;

    let status = daemon.status().await;
    assert_eq!((status.cache.restored, status.cache.computed), (1, 0));
    assert_eq!(
        status.cache.written_bytes, 0,
        "what is unchanged is not written again"
    );
    let metrics = daemon.client().get("/metrics").await.text();
    assert!(
        metrics.contains("hob_pin_loads_total{result=\"restored\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("hob_cache{figure=\"pins_ready\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn pins_are_listed_replaced_and_removed() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    put(&daemon, "b", &"You are brief and polite. ".repeat(20)).await;
    let first = put(&daemon, "a", &persona()).await;
    assert_eq!(first.name, "a");
    assert_eq!(first.text_bytes, persona().len() as u64);
    ready(&daemon, "a", true).await;
    let list: PinList = client.get("/hob/v1/pins").await.json();
    let names: Vec<_> = list.data.iter().map(|pin| pin.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(
        list.data
            .iter()
            .all(|pin| pin.messages.is_none() && pin.shared)
    );
    let whole = pin(&daemon, "a").await;
    assert_eq!(whole.messages.unwrap()[0].content, persona());
    // Another text takes the name; the snapshot of the old one goes.
    let other = persona().replace("Alma", "Bruno");
    put(&daemon, "a", &other).await;
    let replaced = ready(&daemon, "a", true).await;
    assert_eq!(replaced.text_bytes, other.len() as u64);
    eventually("the old snapshot goes", async || {
        (snapshots(&daemon).len() == 2).then_some(())
    })
    .await;
    let (_, done) = ask(&daemon, QUESTION, json!({})).await;
    assert!(cached(&done) < replaced.tokens, "another persona: {done:?}");

    for name in ["a", "b"] {
        let path = format!("/hob/v1/pins/{name}");
        assert_eq!(client.delete(&path).await.status, 200);
        client.delete(&path).await.error(404, ErrorCode::NotFound);
        client.get(&path).await.error(404, ErrorCode::NotFound);
    }
    eventually("the snapshots go", async || {
        snapshots(&daemon).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn pins_have_bounds() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    for number in 0..8 {
        put(&daemon, &format!("pin-{number}"), "text").await;
    }
    let path = "/hob/v1/pins/one-more";
    let full = client.put(path, &fields("text")).await;
    full.error(507, ErrorCode::QuotaExceeded);
    // What is there already can be replaced.
    put(&daemon, "pin-3", "other text").await;
    for name in [".hidden", "a%2Fb", "%00", &"x".repeat(65)] {
        let reply = client
            .put(&format!("/hob/v1/pins/{name}"), &fields("text"))
            .await;
        reply.error(400, ErrorCode::InvalidRequest);
    }
    let long = client.put(path, &fields(&"x".repeat((64 << 10) + 1))).await;
    assert!(
        long.error(400, ErrorCode::InvalidRequest)
            .message
            .contains("65536")
    );
    for body in [
        json!({}),
        json!({"messages": []}),
        json!({"messages": [], "x": 1}),
    ] {
        client
            .put(path, &body)
            .await
            .error(400, ErrorCode::InvalidRequest);
    }
    // This engine has no room for any.
    let failed = eventually("the engine refuses", async || {
        let pin = pin(&daemon, "pin-0").await;
        (pin.state == PinState::Failed).then_some(pin)
    })
    .await;
    assert!(failed.problem.unwrap().contains("engine.cache"));
}

#[tokio::test]
async fn a_pin_that_can_not_be_stored_is_an_error_and_what_was_there_stays() {
    let daemon = Setup::fake().file_limit(8).ready().await;
    put(&daemon, "a", "short").await;
    let long = fields(&"x".repeat(20_000));
    let reply = daemon.client().put("/hob/v1/pins/a", &long).await;
    reply.error(500, ErrorCode::Internal);
    assert_eq!(pin(&daemon, "a").await.text_bytes, 5);
}

#[tokio::test]
async fn the_command_line_pins_lists_and_removes() {
    let daemon = Setup::real().ready().await;
    let file = daemon.home().join("persona.txt");
    fs::write(&file, persona() + "\n").unwrap();
    let run = |arguments: &[&str]| {
        let output = daemon.hob().arg("pins").args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let added = run(&["add", "persona", file.to_str().unwrap(), "--json"]);
    assert!(added.0, "{added:?}");
    let pin: Pin = serde_json::from_str(&added.1).unwrap();
    // The file's last newline is no part of the instructions.
    assert_eq!(
        (pin.name.as_str(), pin.text_bytes),
        ("persona", persona().len() as u64)
    );
    ready(&daemon, "persona", true).await;
    let (_, list, _) = run(&["list"]);
    assert!(
        list.contains("persona") && list.contains("computed, saved"),
        "{list}"
    );
    let mut from_stdin = daemon.hob();
    from_stdin
        .args(["pins", "add", "other"])
        .stdin(File::open(&file).unwrap());
    assert!(from_stdin.output().unwrap().status.success());
    assert!(run(&["remove", "persona"]).0);
    let (gone, _, error) = run(&["remove", "persona"]);
    assert!(!gone && error.contains("no pin of that name"), "{error}");
    assert!(!run(&["add", "no/name", file.to_str().unwrap()]).0);
}

/// The same program, as another user.
fn as_other_user(command: &Command, uid: u32) -> Command {
    let mut other = Command::new("setpriv");
    other
        .args(["--reuid", &uid.to_string(), "--clear-groups"])
        .arg(command.get_program())
        .args(command.get_args());
    other.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            other.env(name, value);
        }
    }
    other
}
