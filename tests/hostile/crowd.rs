//! Many clients, slow ones, and one that wants everything.

use std::collections::BTreeMap;
use std::time::Duration;

use hob_api::{ErrorCode, Event};
use hob_e2e::{Client, Daemon, Setup, patiently, ran_as_root};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{CHAT, idle, no_files_left, raw_error};

const CROWD: usize = 1000;
/// What a crowd may add to hobd's memory: the buffers of the connections that have a place, twice
/// 64 KiB each, with as much again for all the rest.
const CROWD_BYTES_MAX: u64 = 16 << 20;
/// What the allocator may keep more after a second crowd than after the first.
const LEAK_BYTES_MAX: u64 = 2 << 20;

/// Lets this process have as many files as the crowd needs.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum.or(Some(65_536)),
        ..limit
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
}

/// Opens `CROWD` connections, then asks on each; returns how often each status was the answer.
async fn crowd(client: &Client) -> BTreeMap<String, usize> {
    let mut connections = Vec::new();
    while connections.len() < CROWD {
        // The kernel turns a client away while the listener's own queue is full.
        match client.connect().await {
            Ok(stream) => connections.push(stream),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        tokio::task::yield_now().await;
    }
    let mut statuses = BTreeMap::new();
    for mut stream in connections {
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(request).await;
        let mut reply = Vec::new();
        let _ = patiently("hobd closes", stream.read_to_end(&mut reply)).await;
        let reply = String::from_utf8_lossy(&reply);
        let status = reply.split_whitespace().nth(1).unwrap_or("none").to_owned();
        match status.as_str() {
            "200" => {}
            "429" => assert_eq!(raw_error(&reply).code, ErrorCode::Busy),
            "408" => assert_eq!(raw_error(&reply).code, ErrorCode::RequestTimeout),
            other => panic!("{other}: {reply:?}"),
        }
        assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{reply}");
        *statuses.entry(status).or_default() += 1;
    }
    statuses
}

#[tokio::test]
async fn a_thousand_connections_are_each_answered_and_leave_nothing_behind() {
    raise_file_limit();
    let daemon = Setup::fake()
        .toml("[limits]\nheader_timeout = \"2s\"")
        .ready()
        .await;
    let client = daemon.client();
    let before = (daemon.files(), daemon.status().await.hobd_rss_bytes);
    let mut bystander = client.ask("fake: slow 20 200").await;
    bystander.first_delta().await;
    let statuses = crowd(&client).await;
    let first = daemon.status().await.hobd_rss_bytes;
    eprintln!("{statuses:?}; {} bytes before, {first} after", before.1);
    assert!(statuses["429"] >= CROWD / 2, "{statuses:?}");
    assert!(first < before.1 + CROWD_BYTES_MAX);
    assert_eq!(bystander.answer().await.text, "word ".repeat(199));

    crowd(&client).await;
    let second = daemon.status().await.hobd_rss_bytes;
    assert!(second < first + LEAK_BYTES_MAX, "{first}, then {second}");
    no_files_left(&daemon, before.0).await;
    daemon.assert_serves().await;
}

#[tokio::test]
async fn a_user_with_a_hundred_requests_is_one_turn_before_another() {
    if ran_as_root("crowd::a_user_with_a_hundred_requests_is_one_turn_before_another") {
        return;
    }
    let daemon = Setup::fake()
        .toml("[engine]\nparallel = 1\n[limits]\nconnections = 512\nqueue = 64\nper_uid = 20")
        .ready()
        .await;
    daemon.open_to_everybody();
    let hog = daemon.client().of_uid(12_345);
    let light = daemon.client().of_uid(12_346);
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let hog = hog.clone();
            tokio::spawn(async move { hog.ask("fake: slow 10 20").await.answer().await })
        })
        .collect();
    daemon
        .until_status("the hog has its share", |status| {
            status.active == 1 && status.queued >= 15
        })
        .await;

    let mut stream = light.ask("my turn").await;
    let first = stream.json::<Event>().await;
    // Nobody is before it but what runs already.
    assert_eq!(first, Some(Event::Queued { position: 0 }));
    assert_eq!(stream.answer().await.text, "my turn");
    let left = daemon.status().await.queued;
    assert!(left >= 5, "the hog's requests were done before: {left}");

    let (mut answered, mut refused) = (0, 0);
    for answer in asked {
        match answer.await.unwrap().end {
            Some(Ok(_)) => answered += 1,
            Some(Err(error)) => {
                assert_eq!(error.code, ErrorCode::Busy, "{error}");
                assert!(error.hint.is_some() && error.retry_after_ms.is_some());
                refused += 1;
            }
            None => unreachable!("an answer has an end"),
        }
    }
    eprintln!("{answered} answered, {refused} refused");
    assert!(answered >= 20 && refused >= 60);
    idle(&daemon).await;
}

/// Sends `bytes` one at a time, `pause` apart, until all are sent or hobd closes.
async fn dribble(stream: &mut UnixStream, bytes: &[u8], pause: Duration) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let daemon = Setup::fake()
        .toml("[limits]\nheader_timeout = \"400ms\"\nstall_timeout = \"400ms\"")
        .ready()
        .await;
    let client = daemon.client();
    let head = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}",
        "x".repeat(200)
    );
    let body = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{}",
        " ".repeat(100)
    );
    for (what, at_once, slowly) in [
        ("head", "", head.as_str()),
        ("body", &body[..body.len() - 100], &body[body.len() - 100..]),
    ] {
        let mut stream = client.connect().await.unwrap();
        stream.write_all(at_once.as_bytes()).await.unwrap();
        let pause = Duration::from_millis(20);
        dribble(&mut stream, slowly.as_bytes(), pause).await;
        let mut reply = Vec::new();
        let _ = patiently("hobd closes", stream.read_to_end(&mut reply)).await;
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.starts_with("HTTP/1.1 408"), "{what}: {reply}");
        assert_eq!(raw_error(&reply).code, ErrorCode::RequestTimeout);
    }
    daemon.assert_serves().await;
}

#[tokio::test]
async fn who_dawdles_over_an_answer_is_told_so_at_its_end() {
    let daemon = Setup::fake()
        .toml("[limits]\nstall_timeout = \"60s\"\nmax_tokens = 100000")
        .ready()
        .await;
    let client = daemon.client();
    let body = json!({
        "messages": [{"role": "user", "content": format!("fake: repeat 100000 {}", "x".repeat(500))}],
        "stream": true, "max_tokens": 100_000,
    });
    for accept in ["application/x-ndjson", "text/event-stream"] {
        let mut stream = client.stream(CHAT, &body, accept).await;
        // It reads nothing until hobd has given up on it.
        idle(&daemon).await;
        daemon.assert_serves().await;
        let mut errors = 0;
        let mut last = String::new();
        while let Some(record) = stream.record().await {
            errors += usize::from(record.contains("\"error\""));
            last = record;
        }
        assert_eq!(errors, 1, "{accept}");
        assert!(
            last.contains("too slowly") && last.contains("hint"),
            "{last}"
        );
    }
}

#[tokio::test]
async fn a_client_that_has_said_all_gets_its_answer() {
    let daemon: Daemon = Setup::fake().ready().await;
    let body = json!({"messages": [{"role": "user", "content": "fake: slow 20 10"}]}).to_string();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = daemon.client().connect().await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut reply = String::new();
    patiently("hobd closes", stream.read_to_string(&mut reply))
        .await
        .unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains(&"word ".repeat(10)), "{reply}");

    // One that is gone is noticed, though a second request of its own waits unread.
    let endless = body.replace("20 10", "20 100000");
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{endless}",
        endless.len()
    );
    let mut stream = daemon.client().connect().await.unwrap();
    stream
        .write_all(request.repeat(2).as_bytes())
        .await
        .unwrap();
    daemon
        .until_status("it runs", |status| status.active == 1)
        .await;
    drop(stream);
    idle(&daemon).await;
}
