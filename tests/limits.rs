//! Requests and clients that hobd must refuse, or must not be harmed by.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use bytes::Bytes;
use hob_api::error::ErrorBody;
use hob_api::event::FinishReason;
use hob_api::status::Status;
use hob_api::{ApiError, ErrorCode};
use hob_e2e::{Client, Daemon, Setup, Stream, eventually, patiently};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHAT: &str = "/v1/chat/completions";

/// An answer of 50 words that takes a second or two, to see that it comes through unharmed.
const BYSTANDER: &str = "fake: slow 30 50";

async fn bystander(client: &Client) -> Stream {
    let mut stream = client.ask(BYSTANDER).await;
    assert_eq!(stream.first_delta().await, "word ");
    stream
}

async fn assert_unharmed(bystander: Stream, daemon: &Daemon) {
    let answer = bystander.answer().await;
    assert_eq!(answer.text, "word ".repeat(49));
    assert_eq!(answer.done().reason, FinishReason::Stop);
    assert_eq!(daemon.status().await.engine_losses, 0);
}

/// A request with one question and these fields.
fn with(fields: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "one two three"}]});
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn malformed_requests_get_one_typed_error_each() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let bystander = bystander(&client).await;
    let invalid = ErrorCode::InvalidRequest;
    let message = |message: Value| json!({"messages": [message]}).to_string();
    let cases: Vec<(&str, String, ErrorCode, Option<&str>)> = vec![
        ("empty", String::new(), invalid, None),
        ("blank", " \n\t ".to_owned(), invalid, None),
        ("cut JSON", "{\"messages\": [".to_owned(), invalid, None),
        ("not JSON", "hello".to_owned(), invalid, None),
        ("a list", "[]".to_owned(), invalid, None),
        ("no messages", "{}".to_owned(), invalid, Some("messages")),
        (
            "an empty list",
            json!({"messages": []}).to_string(),
            invalid,
            Some("messages"),
        ),
        (
            "a misspelt field",
            with(&json!({"temprature": 1})).to_string(),
            invalid,
            Some("temprature"),
        ),
        (
            "a wrong role",
            message(json!({"role": "robot", "content": "hello"})),
            invalid,
            Some("messages[0].role"),
        ),
        (
            "no role",
            message(json!({"content": "hello"})),
            invalid,
            Some("messages[0].role"),
        ),
        (
            "a number for text",
            message(json!({"role": "user", "content": 5})),
            invalid,
            Some("messages[0].content"),
        ),
        (
            "an unknown field of a message",
            message(json!({"role": "user", "content": "hello", "mood": "good"})),
            invalid,
            Some("messages[0].mood"),
        ),
        (
            "an image",
            message(json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]})),
            ErrorCode::Unsupported,
            None,
        ),
        (
            "tools",
            with(&json!({"tools": [{"type": "function"}]})).to_string(),
            invalid,
            Some("tools[0].function"),
        ),
        (
            "hot",
            with(&json!({"temperature": 9})).to_string(),
            invalid,
            Some("temperature"),
        ),
        (
            "no tokens",
            with(&json!({"max_tokens": 0})).to_string(),
            invalid,
            Some("max_tokens"),
        ),
        (
            "too many tokens",
            with(&json!({"max_tokens": 1_000_000})).to_string(),
            invalid,
            Some("max_tokens"),
        ),
        (
            "five stops",
            with(&json!({"stop": ["a", "b", "c", "d", "e"]})).to_string(),
            invalid,
            Some("stop"),
        ),
        (
            "a NUL",
            message(json!({"role": "user", "content": "a\u{0}b"})),
            invalid,
            None,
        ),
    ];
    for (name, body, code, param) in cases {
        let reply = client.post_bytes(CHAT, Bytes::from(body)).await;
        eprintln!("{name}: {}", reply.text());
        let error = reply.error(400, code);
        if let Some(param) = param {
            assert_eq!(error.param.as_deref(), Some(param), "{name}");
        }
    }
    assert_unharmed(bystander, &daemon).await;
}

#[tokio::test]
async fn nesting_without_end_is_refused() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let body = "[".repeat(200_000);
    let reply = client.post_bytes(CHAT, body.into()).await;
    reply.error(400, ErrorCode::InvalidRequest);
    assert_eq!(
        client.ask("still here").await.answer().await.text,
        "still here"
    );
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_refused() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let bystander = bystander(&client).await;
    let body = with(&json!({"user": "x".repeat(10 << 20)})).to_string();
    let error = client
        .post_bytes(CHAT, body.into())
        .await
        .error(413, ErrorCode::PayloadTooLarge);
    assert!(error.message.contains("1048576"), "{error:?}");
    assert_unharmed(bystander, &daemon).await;
}

#[tokio::test]
async fn an_unknown_model_path_or_method_is_not_found() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let body = with(&json!({"model": "no-such-model"}));
    let error = client
        .post(CHAT, &body)
        .await
        .error(404, ErrorCode::ModelNotFound);
    assert!(error.message.contains("no-such-model"), "{error:?}");
    client
        .get("/v1/models/no-such-model")
        .await
        .error(404, ErrorCode::ModelNotFound);
    client.get("/v2/chat").await.error(404, ErrorCode::NotFound);
    client.get(CHAT).await.error(405, ErrorCode::InvalidRequest);
    for name in ["fake", "default", ""] {
        let reply = client.post(CHAT, &with(&json!({"model": name}))).await;
        assert_eq!(reply.status, 200, "{name:?}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_told_both_counts() {
    let daemon = Setup::fake_load("n_ctx 10").ready().await;
    let client = daemon.client();
    let error = client
        .ask_whole("one two three four five six seven eight nine ten eleven twelve")
        .await
        .error(400, ErrorCode::ContextOverflow);
    assert_eq!((error.prompt_tokens, error.n_ctx), (Some(12), Some(10)));
}

#[tokio::test]
async fn what_reaches_the_engine_is_what_was_asked_for() {
    let daemon = Setup::fake().toml("[sampling]\ntop_k = 7").ready().await;
    let fields = json!({"temperature": 0.5, "seed": 3, "max_tokens": 9, "stop": "end"});
    let answer = daemon.client().ask_with("fake: show", &fields).await;
    let generate: Value = serde_json::from_str(&answer.answer().await.text).unwrap();
    assert_eq!(generate["max_tokens"], 9);
    assert_eq!(generate["stop"], json!(["end"]));
    assert_eq!(generate["sampling"]["temperature"], 0.5);
    assert_eq!(generate["sampling"]["seed"], 3);
    assert_eq!(generate["sampling"]["top_k"], 7);
}

#[tokio::test]
async fn a_deadline_ends_a_request() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let fields = json!({"timeout_ms": 300});
    let answer = client.ask_with("fake: slow 50 500", &fields).await;
    let answer = answer.answer().await;
    assert_eq!(answer.error().code, ErrorCode::DeadlineExceeded);
    assert!(answer.error().hint.is_some(), "{answer:?}");
    idle(&daemon).await;
    assert_eq!(client.ask("next").await.answer().await.text, "next");
}

#[tokio::test]
async fn a_full_queue_is_busy_at_once_and_others_are_served() {
    let lines = "[engine]\nparallel = 1\n[limits]\nqueue = 1";
    let daemon = Setup::fake().toml(lines).ready().await;
    let client = daemon.client();
    let running = bystander(&client).await;
    let waiting = client.ask("my turn").await;
    let status = daemon.until_status("one waits", |s| s.queued == 1).await;
    assert_eq!((status.active, status.queue_max), (1, 1));
    let reply = client.ask_whole("too much").await;
    let error = reply.error(429, ErrorCode::Busy);
    assert!(error.retry_after_ms.is_some(), "{error:?}");
    assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
    assert_unharmed(running, &daemon).await;
    assert_eq!(waiting.answer().await.text, "my turn");
}

#[tokio::test]
async fn one_user_gets_no_more_than_a_share() {
    let lines = "[engine]\nparallel = 1\n[limits]\nqueue = 9\nper_uid = 2";
    let daemon = Setup::fake().toml(lines).ready().await;
    let client = daemon.client();
    let running = bystander(&client).await;
    let waiting = client.ask("my turn").await;
    let reply = client.ask_whole("too much").await;
    let error = reply.error(429, ErrorCode::Busy);
    assert!(error.message.contains('2'), "{error:?}");
    assert_unharmed(running, &daemon).await;
    assert_eq!(waiting.answer().await.text, "my turn");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_left() {
    let daemon = Setup::fake()
        .toml("[limits]\nheader_timeout = \"300ms\"\nstall_timeout = \"300ms\"")
        .ready()
        .await;
    let client = daemon.client();
    let running = client.ask("fake: slow 30 50").await;
    for (what, head) in [
        ("nothing", ""),
        (
            "half a head",
            "POST /v1/chat/completions HTTP/1.1\r\nHost: local",
        ),
        (
            "no body",
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{",
        ),
    ] {
        let reply = client.raw(head.as_bytes()).await;
        eprintln!("{what}: {reply}");
        assert!(reply.starts_with("HTTP/1.1 408"), "{what}: {reply}");
        let error = raw_error(&reply);
        assert_eq!(error.code, ErrorCode::RequestTimeout, "{what}");
        assert!(error.hint.is_some(), "{what}");
    }
    assert_unharmed_whole(running).await;
}

async fn assert_unharmed_whole(running: Stream) {
    let answer = running.answer().await;
    assert_eq!(answer.text, "word ".repeat(50));
    assert_eq!(answer.done().reason, FinishReason::Stop);
}

/// The error in a raw reply.
fn raw_error(reply: &str) -> ApiError {
    let (_, body) = reply.split_once("\r\n\r\n").unwrap();
    let start = body.find('{').unwrap();
    let end = body.rfind('}').unwrap();
    serde_json::from_str::<ErrorBody>(&body[start..=end])
        .unwrap()
        .error
}

#[tokio::test]
async fn bytes_that_are_not_http_are_refused() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n".as_slice(),
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ] {
        let reply = client.raw(bytes).await;
        assert!(
            reply.is_empty() || reply.starts_with("HTTP/1.1 4"),
            "{reply}"
        );
    }
    assert_eq!(
        client.ask("still here").await.answer().await.text,
        "still here"
    );
}

#[tokio::test]
async fn a_client_that_never_reads_is_cancelled() {
    let daemon = Setup::fake()
        .toml("[limits]\nstall_timeout = \"500ms\"\nmax_tokens = 100000")
        .ready()
        .await;
    let client = daemon.client();
    let bystander = bystander(&client).await;
    let mut silent = client.connect().await.unwrap();
    let body = json!({
        "messages": [{"role": "user", "content": format!("fake: repeat 100000 {}", "x".repeat(500))}],
        "stream": true, "max_tokens": 100_000,
    })
    .to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    silent.write_all(head.as_bytes()).await.unwrap();
    silent.write_all(body.as_bytes()).await.unwrap();
    assert_unharmed(bystander, &daemon).await;
    idle(&daemon).await;
    // What it finds when it reads at last is the beginning of an answer, and no end.
    let mut found = Vec::new();
    let _ = patiently("hobd closes", silent.read_to_end(&mut found)).await;
    let found = String::from_utf8_lossy(&found);
    assert!(found.starts_with("HTTP/1.1 200"), "{found:.80}");
    assert!(!found.contains("[DONE]"), "the answer was complete");
    assert_eq!(client.ask("next").await.answer().await.text, "next");
}

/// Waits until no request is under way.
async fn idle(daemon: &Daemon) -> Status {
    daemon
        .until_status("no request is under way", |status| {
            (status.active, status.queued) == (0, 0)
        })
        .await
}

#[tokio::test]
async fn two_hundred_connections_at_once_harm_nobody() {
    let daemon = Setup::fake()
        .toml("[limits]\nconnections = 32\nheader_timeout = \"2s\"")
        .ready()
        .await;
    let client = daemon.client();
    let bystander = bystander(&client).await;
    let mut connections = Vec::new();
    while connections.len() < 200 {
        // The kernel turns a client away while the listener's own queue is full.
        match client.connect().await {
            Ok(stream) => connections.push(stream),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        tokio::task::yield_now().await;
    }
    let (mut served, mut busy, mut late) = (0, 0, 0);
    for mut stream in connections {
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(request).await;
        let mut reply = Vec::new();
        let _ = patiently("a reply", stream.read_to_end(&mut reply)).await;
        let reply = String::from_utf8_lossy(&reply);
        if reply.starts_with("HTTP/1.1 200") {
            served += 1;
        } else if reply.starts_with("HTTP/1.1 429") {
            assert_eq!(raw_error(&reply).code, ErrorCode::Busy);
            busy += 1;
        } else {
            // It said nothing while others had their turn.
            assert!(reply.starts_with("HTTP/1.1 408"), "{reply:?}");
            assert_eq!(raw_error(&reply).code, ErrorCode::RequestTimeout);
            late += 1;
        }
    }
    eprintln!("{served} served, {busy} told busy, {late} too late");
    assert!(served > 0 && busy > 0);
    assert_unharmed(bystander, &daemon).await;
    let answer = eventually("there is room again", async || {
        let reply = client.ask_whole("room again").await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert!(answer.text().contains("room again"));
}

#[tokio::test]
async fn a_second_hobd_on_the_same_socket_leaves_the_first_alone() {
    let first = Setup::fake().ready().await;
    let bystander = bystander(&first.client()).await;
    let second = Setup::fake().on_socket(first.socket());
    let output = second.refused().await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("hob.sock"), "{stderr}");
    assert_unharmed(bystander, &first).await;
    assert!(first.socket().exists());
}

#[tokio::test]
async fn what_a_web_page_sends_is_refused() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    for header in [
        "Host: localhost\r\nOrigin: https://example.com",
        "Host: example.com",
    ] {
        let request =
            format!("GET /hob/v1/status HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n");
        let reply = client.raw(request.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 403"), "{header}: {reply}");
        assert_eq!(raw_error(&reply).code, ErrorCode::AccessDenied);
    }
}
