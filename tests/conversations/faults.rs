//! Kills, full disks and damaged files.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use hob_api::ErrorCode;
use hob_e2e::{Daemon, Setup, eventually};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{PATH, ask, database, kept, list, open, said, transcript};

/// Turns that are acknowledged, and kills, before the test ends.
const TURNS: usize = 200;
const KILLS: usize = 20;
/// How late hobd may be killed after it began to answer, in microseconds.
const LIFE_MAX: u64 = 60_000;
/// hobd is killed at the same moments in each run of the test, as far as the machine lets it.
const SEED: u64 = 0x5eed_cafe;
/// What is told of a database that can be read alone.
const UNWRITABLE: &str = "the database of conversations can't be written";

/// One turn on a connection of its own, which may break at any moment; true if the client saw that
/// the turn is stored.
async fn is_acknowledged(socket: &Path, id: &str, question: &str) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket).await else {
        return false;
    };
    let body = json!({
        "messages": [{"role": "user", "content": question}],
        "conversation": id,
        "stream": true,
    });
    let body = body.to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\naccept: application/x-ndjson\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut reply = Vec::new();
    // What came before the kill counts, whatever broke after it.
    let _ = stream.read_to_end(&mut reply).await;
    let reply = String::from_utf8_lossy(&reply);
    let mut lines = reply.lines();
    lines.any(|line| line.contains("\"type\":\"done\"") && line.contains("\"stored\":true"))
}

/// Asks one question after another until hobd is gone; returns those that were acknowledged.
async fn ask_on(socket: &Path, id: &str, round: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let question = format!("round {round} question {number}");
        if !is_acknowledged(socket, id, &question).await {
            break;
        }
        acknowledged.push(question);
    }
    acknowledged
}

#[tokio::test]
async fn no_acknowledged_turn_is_lost_when_hobd_is_killed() {
    let mut daemon = Setup::fake().ready().await;
    let id = open(&daemon.client(), &json!({})).await.id;
    let mut acknowledged = Vec::new();
    let mut random = SEED;
    for round in 0.. {
        if acknowledged.len() >= TURNS && round >= KILLS {
            break;
        }
        let socket = daemon.socket();
        let asking = tokio::spawn({
            let id = id.clone();
            async move { ask_on(&socket, &id, round).await }
        });
        // xorshift64: https://doi.org/10.18637/jss.v008.i14
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokio::time::sleep(Duration::from_micros(random % LIFE_MAX)).await;
        daemon.signal(Signal::KILL);
        daemon.ended().await;
        acknowledged.extend(asking.await.unwrap());

        daemon.restart().await;
        daemon.until_ready().await;
        assert_eq!(daemon.status().await.conversations.set_aside, None);
        let stored = said(&transcript(&daemon.client(), &id).await);
        let questions: Vec<_> = stored
            .iter()
            .filter_map(|line| line.strip_prefix("user: "))
            .collect();
        // Each is there, once and in order; of each round at most one more, whose end the client
        // did not see.
        let mut rest = questions.iter();
        for question in &acknowledged {
            assert!(rest.any(|stored| stored == question), "{question} is lost");
        }
        assert!(questions.len() <= acknowledged.len() + round + 1);
        assert_eq!(stored.len(), 2 * questions.len(), "turns are whole");
    }
}

#[tokio::test]
async fn on_a_full_disk_the_answer_comes_and_is_not_stored() {
    let daemon = Setup::fake().file_limit(512).ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({})).await.id;
    // A long question with no answer: the fake engine sends short events only.
    let long = format!("fake: repeat 0 {}", "x".repeat(200 << 10));
    let mut stored = 0;
    let about = loop {
        let answer = ask(&client, &id, &long).await;
        let about = kept(&answer);
        if !about.stored {
            break about;
        }
        stored += 1;
        assert!(stored < 10, "the limit does not hold");
    };
    let problem = about.store_problem.unwrap();
    assert!(problem.contains("disk"), "{problem}");
    let status = daemon.status().await.conversations;
    assert_eq!(status.problem, Some(problem));
    // What was stored before is whole, and goes on.
    let told = transcript(&client, &id).await;
    assert_eq!(told.history.len(), stored);
    assert_eq!(ask(&client, &id, "two").await.text, "two");
}

#[tokio::test]
async fn from_an_unwritable_database_answers_go_on() {
    let mut daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({})).await.id;
    ask(&client, &id, "one").await.done();
    daemon.stop().await;
    // There is no way to write to the log of the database.
    let log = database(&daemon).with_extension("db-wal");
    assert!(!log.exists(), "hobd ended without taking its log over");
    symlink("nowhere/at-all", &log).unwrap();
    daemon.restart().await;
    daemon.until_ready().await;

    let answer = ask(&client, &id, "two").await;
    assert_eq!(answer.text, "two");
    let about = kept(&answer);
    assert!(!about.stored);
    assert_eq!(about.store_problem.as_deref(), Some(UNWRITABLE));
    let status = daemon.status().await.conversations;
    assert_eq!(status.problem.as_deref(), Some(UNWRITABLE));
    let refused = client.post(PATH, &json!({})).await;
    refused.error(503, ErrorCode::NotReady);
    let told = transcript(&client, &id).await;
    assert_eq!(said(&told), ["user: one", "assistant: one"]);
}

#[tokio::test]
async fn a_damaged_database_is_set_aside_and_told_of() {
    let mut daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({})).await.id;
    ask(&client, &id, &"one".repeat(5000)).await.done();
    daemon.stop().await;
    let file = database(&daemon);
    let mut bytes = std::fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    daemon.restart().await;
    daemon.until_ready().await;

    let answer = ask(&client, &id, "two").await;
    assert_eq!(answer.error().code, ErrorCode::ConversationNotFound);
    assert_eq!(list(&client).await, []);
    let again = open(&client, &json!({})).await.id;
    assert!(kept(&ask(&client, &again, "three").await).stored);
    let aside = daemon.status().await.conversations.set_aside.unwrap();
    assert!(file.with_file_name(&aside).is_file(), "{aside}");
    let status = String::from_utf8(daemon.hob().arg("status").output().unwrap().stdout).unwrap();
    assert!(status.contains(&aside), "{status}");
    assert!(daemon.log().contains("set_aside"));
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_keeps_nobody_from_an_answer() {
    let setup = Setup::fake();
    let folder = setup.home().join("data/hob/conversations");
    std::fs::create_dir_all(folder.join("conversations.db")).unwrap();
    let daemon: Daemon = setup.ready().await;
    let client = daemon.client();
    client.ask("one").await.answer().await.done();
    let refused = client.post(PATH, &json!({})).await;
    let error = refused.error(503, ErrorCode::NotReady);
    assert!(error.message.contains("can't be kept"), "{error}");
    let status = daemon.status().await.conversations;
    assert!(status.enabled && status.problem.is_some(), "{status:?}");

    // When the cause is gone it is tried again, by itself.
    std::fs::remove_dir(folder.join("conversations.db")).unwrap();
    let start = Instant::now();
    eventually("conversations are kept again", async || {
        let reply = client.post(PATH, &json!({})).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(daemon.status().await.conversations.problem, None);
}

#[tokio::test]
async fn text_of_conversations_is_not_in_the_log() {
    let daemon = Setup::fake()
        .env("HOB_LOG", "trace")
        .toml("[conversations]\nper_uid = 1")
        .ready()
        .await;
    let client = daemon.client();
    let id = open(&client, &json!({"name": "plover", "system": "plover"}))
        .await
        .id;
    ask(&client, &id, "plover").await.done();
    client
        .post(PATH, &json!({"name": "plover"}))
        .await
        .any_error();
    let path = format!("{PATH}/{id}");
    client.get(&format!("{path}/export")).await;
    client.delete(&path).await;
    assert!(!daemon.log().contains("plover"), "{}", daemon.log());
}
