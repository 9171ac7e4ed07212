//! What users register of their homes, and what is read of what they say, through the real doors.
//! No model takes part: hobd has none here.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hob_api::ErrorCode;
use hob_api::home::{HomeAnswer, Outcome};
use hob_api::provider::{Provider, ProviderList};
use hob_e2e::{Daemon, Setup, eventually, ran_as_root};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::sleep;

const OTHER: u32 = 54_321;

/// The house of the examples.
fn house_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/house.json")
}

fn house() -> Value {
    serde_json::from_str(&fs::read_to_string(house_file()).unwrap()).unwrap()
}

async fn register(daemon: &Daemon, name: &str, body: &Value) -> Provider {
    let path = format!("/hob/v1/providers/{name}");
    daemon.client().put(&path, body).await.json()
}

async fn say(daemon: &Daemon, text: &str) -> HomeAnswer {
    let body = json!({"text": text});
    daemon.client().post("/hob/v1/home", &body).await.json()
}

fn hob(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.hob().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn a_home_is_registered_changed_read_and_forgotten() {
    let mut daemon = Setup::empty().start().await;
    let shown = register(&daemon, "house", &house()).await;
    assert_eq!((shown.generation, shown.targets), (1, 12));
    let client = daemon.client();
    let whole: Provider = client.get("/hob/v1/providers/house").await.json();
    let fields = serde_json::to_value(whole.fields.unwrap()).unwrap();
    assert_eq!(fields["tools"][3], house()["tools"][3]);
    assert_eq!(fields["targets"][0], house()["targets"][0]);

    let answer = say(&daemon, "turn off the lights upstairs").await;
    assert_eq!(answer.outcome, Outcome::Call, "{answer:?}");
    assert_eq!(answer.calls[0].targets, ["light.bed", "light.desk"]);
    assert_eq!(answer.generations["house"], 1);

    // A lamp goes and another comes: it is as if it had always been so.
    let change = json!({
        "removed": ["light.bed"],
        "changed": [{"id": "light.attic", "name": "Attic Light", "kind": "light", "floor": "Upstairs"}],
    });
    let path = "/hob/v1/providers/house/targets";
    let shown: Provider = client.patch(path, &change).await.json();
    assert_eq!(shown.generation, 2);
    let answer = say(&daemon, "turn off the lights upstairs").await;
    assert_eq!(answer.calls[0].targets, ["light.desk", "light.attic"]);
    let gone = client.patch(path, &json!({"removed": ["light.bed"]})).await;
    gone.error(404, ErrorCode::NotFound);

    let deleted = client.delete("/hob/v1/providers/house").await;
    assert_eq!(deleted.json::<Value>()["deleted"], true);
    let reply = client
        .post("/hob/v1/home", &json!({"text": "lights off"}))
        .await;
    reply.error(404, ErrorCode::NotFound);

    // It is kept in memory alone, and a hub registers again.
    register(&daemon, "house", &house()).await;
    daemon.stop().await;
    daemon.restart().await;
    let list: ProviderList = daemon.client().get("/hob/v1/providers").await.json();
    assert!(list.data.is_empty());
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_its_place() {
    let daemon = Setup::empty().start().await;
    let client = daemon.client();
    let mut many = house();
    let lamp = |n: usize| json!({"id": format!("l.{n}"), "name": "Lamp", "kind": "light"});
    many["targets"] = (0..5000).map(lamp).collect();
    let mut unknown = house();
    unknown["targets"][2]["colour"] = json!("red");
    let mut twice = house();
    twice["targets"][1]["id"] = json!("light.hall");
    for (body, param) in [
        (many, "targets"),
        (unknown, "targets[2].colour"),
        (twice, "targets[1].id"),
    ] {
        let reply = client.put("/hob/v1/providers/house", &body).await;
        let error = reply.error(400, ErrorCode::InvalidRequest);
        assert_eq!(error.param.as_deref(), Some(param), "{error:?}");
    }
    let reply = client.put("/hob/v1/providers/%2e%2e", &house()).await;
    reply.error(400, ErrorCode::InvalidRequest);
    let reply = client.post("/hob/v1/home", &json!({"text": ""})).await;
    reply.error(400, ErrorCode::InvalidRequest);
    let list: ProviderList = client.get("/hob/v1/providers").await.json();
    assert!(list.data.is_empty(), "nothing of what was refused is kept");
}

#[tokio::test]
async fn another_user_neither_sees_nor_uses_nor_removes_a_home() {
    if ran_as_root("another_user_neither_sees_nor_uses_nor_removes_a_home") {
        return;
    }
    let daemon = Setup::empty().start().await;
    daemon.open_to_everybody();
    register(&daemon, "house", &house()).await;
    let other = daemon.client().of_uid(OTHER);
    let list: ProviderList = other.get("/hob/v1/providers").await.json();
    assert!(list.data.is_empty());
    for reply in [
        other.get("/hob/v1/providers/house").await,
        other.delete("/hob/v1/providers/house").await,
        other
            .patch(
                "/hob/v1/providers/house/targets",
                &json!({"removed": ["light.bed"]}),
            )
            .await,
        other
            .post("/hob/v1/home", &json!({"text": "lights off"}))
            .await,
        other
            .post(
                "/hob/v1/home",
                &json!({"text": "lights off", "provider": "house"}),
            )
            .await,
    ] {
        reply.error(404, ErrorCode::NotFound);
    }
    // Its own of the same name is another one.
    let body = json!({"tools": [{"name": "make_coffee"}]});
    let mine: Provider = other.put("/hob/v1/providers/house", &body).await.json();
    assert_eq!((mine.tools, mine.targets), (1, 0));
    let answer = say(&daemon, "turn on the desk lamp").await;
    assert_eq!(answer.calls[0].tool, "turn_on");
}

#[tokio::test]
async fn the_command_line_registers_reads_and_evaluates() {
    let daemon = Setup::empty().start().await;
    let file = house_file();
    let file = file.to_str().unwrap();
    let added = hob(&daemon, &["providers", "add", "house", file]);
    assert!(added.status.success(), "{added:?}");
    let listed = stdout(&hob(&daemon, &["providers", "list"]));
    assert!(listed.contains("9 tools, 12 targets"), "{listed}");
    // Without a hub it is shown, and not done.
    let output = hob(
        &daemon,
        &["home", "dim", "the", "desk", "lamp", "to", "30%"],
    );
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("call      set_brightness light.desk (brightness 30)"),
        "{said}"
    );
    let neighbours = "unlock the front door of the neighbours in Paris";
    let output = hob(&daemon, &["home", "--dry-run", neighbours]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    stdout(&hob(&daemon, &["home", "is the front door locked?"]));
    let json = stdout(&hob(
        &daemon,
        &["home", "--json", "--dry-run", "lock the front door"],
    ));
    let answer: HomeAnswer = serde_json::from_str(&json).unwrap();
    assert!(answer.calls[0].needs_confirmation);

    let data = Path::new(file).with_file_name("house.jsonl");
    let data = data.to_str().unwrap();
    let json = stdout(&hob(
        &daemon,
        &["evaluate", "home", data, "--provider", file, "--json"],
    ));
    let figures: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(figures["sentences"], 12);
    assert_eq!(figures["exact"], 12, "{figures}");
    // What was registered for it is gone again; the user's own is not.
    let listed = stdout(&hob(&daemon, &["providers", "list"]));
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let without = ["evaluate", "home", data, "--without", "examples", "--json"];
    let fewer: Value = serde_json::from_str(&stdout(&hob(&daemon, &without))).unwrap();
    assert!(fewer["exact"].as_u64() <= figures["exact"].as_u64());

    let bad = daemon.home().join("bad.jsonl");
    fs::write(&bad, "{\"text\": \"x\"}\n{\"txt\": 1}\n").unwrap();
    let output = hob(&daemon, &["evaluate", "home", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(shown.contains("line 2"), "{shown}");
    let removed = hob(&daemon, &["providers", "remove", "house"]);
    assert!(removed.status.success(), "{removed:?}");
    assert!(!hob(&daemon, &["home", "lights off"]).status.success());
}

/// A home whose readings take a while: every target is compared with every word.
fn large_house() -> Value {
    let mut house = house();
    let lamp = |n: usize| {
        json!({
            "id": format!("lamp.{n}"), "kind": "light", "area": format!("Room {}", n / 10),
            "name": format!("Lamp number {n} at the window"),
        })
    };
    house["targets"] = (0..1000).map(lamp).collect();
    house
}

#[tokio::test]
async fn a_user_who_asks_for_much_at_once_keeps_no_other_waiting() {
    /// As many as wait for one user, and fewer than half of the connections.
    const FLOOD: usize = 16;
    if ran_as_root("a_user_who_asks_for_much_at_once_keeps_no_other_waiting") {
        return;
    }
    let daemon = Setup::empty().start().await;
    daemon.open_to_everybody();
    let flooding = daemon.client().of_uid(OTHER);
    let path = "/hob/v1/providers/house";
    flooding.put(path, &large_house()).await.json::<Provider>();
    register(&daemon, "house", &house()).await;
    let body = json!({"text": "turn on the lamp at the window in the room ".repeat(40)});
    let ended = Arc::new(AtomicUsize::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let flood: Vec<_> = (0..FLOOD)
        .map(|_| {
            let (client, body) = (flooding.clone(), body.clone());
            let (ended, enough) = (Arc::clone(&ended), Arc::clone(&enough));
            tokio::spawn(async move {
                while !enough.load(Ordering::SeqCst) {
                    let reply = client.post("/hob/v1/home", &body).await;
                    // Its last connections may count still, on a busy machine.
                    if reply.status == StatusCode::TOO_MANY_REQUESTS {
                        sleep(Duration::from_millis(10)).await;
                        continue;
                    }
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    ended.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    eventually("all of them wait or were read", async || {
        (ended.load(Ordering::SeqCst) > FLOOD).then_some(())
    })
    .await;
    // More than once, as some may have been read before it came.
    let mut meanwhile = usize::MAX;
    for _ in 0..5 {
        let before = ended.load(Ordering::SeqCst);
        let answer = say(&daemon, "turn off the desk lamp").await;
        assert_eq!(answer.outcome, Outcome::Call);
        meanwhile = meanwhile.min(ended.load(Ordering::SeqCst) - before);
    }
    enough.store(true, Ordering::SeqCst);
    for asking in flood {
        asking.await.unwrap();
    }
    // It had its turn behind the one under way, and not behind all.
    assert!(meanwhile < FLOOD / 2, "{meanwhile} were read before");
}
