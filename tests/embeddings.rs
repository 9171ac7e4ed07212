//! `POST /v1/embeddings`: with the real engine for truth, and one that lies for faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use hob_api::embedding::{EmbeddingList, Numbers};
use hob_api::{ErrorCode, Event};
use hob_e2e::{Client, Daemon, Setup, TEST_MODEL};
use serde_json::{Value, json};

const PATH: &str = "/v1/embeddings";

async fn embed(client: &Client, body: &Value) -> EmbeddingList {
    client.post(PATH, body).await.json()
}

fn vectors(list: &EmbeddingList) -> Vec<&[f32]> {
    let entries = list.data.iter();
    let numbers = entries.map(|entry| match &entry.embedding {
        Numbers::Float(numbers) => numbers.as_slice(),
        Numbers::Base64(_) => panic!("not asked for"),
    });
    numbers.collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn what_is_alike_lies_near_and_each_way_to_ask_gives_the_same() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let texts = [
        "The cat sleeps on the sofa.",
        "A kitten is napping on the couch.",
        "The central bank raised interest rates.",
    ];
    let list = embed(&client, &json!({"input": texts, "model": TEST_MODEL})).await;
    assert_eq!(list.object, "list");
    assert_eq!(list.model, TEST_MODEL);
    assert_eq!(list.usage.prompt_tokens, list.usage.total_tokens);
    assert!(list.usage.prompt_tokens > 15, "{:?}", list.usage);
    let indices: Vec<u32> = list.data.iter().map(|entry| entry.index).collect();
    assert_eq!(indices, [0, 1, 2]);
    let [cat, kitten, bank] = vectors(&list)[..] else {
        panic!("{list:?}");
    };
    assert_eq!(cat.len(), 576, "SmolLM2's");
    assert!(cosine(cat, kitten) > cosine(cat, bank));
    assert!(cosine(cat, kitten) > cosine(kitten, bank));

    let alone = embed(&client, &json!({"input": texts[0], "dimensions": 576})).await;
    assert!(cosine(vectors(&alone)[0], cat) > 0.999);
    // As events, each as it is made.
    let body = json!({"input": texts});
    let mut stream = client.stream(PATH, &body, "application/x-ndjson").await;
    let (mut seen, mut ended) = (0, false);
    while let Some(event) = stream.json::<Event>().await {
        match event {
            Event::Embedding {
                index, embedding, ..
            } => {
                assert_eq!(index, seen);
                seen += 1;
                assert_eq!(embedding.len(), 576);
            }
            Event::Done(done) => {
                ended = true;
                assert_eq!(done.usage.prompt_tokens, list.usage.prompt_tokens);
            }
            Event::Queued { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(ended && seen == 3);
}

#[tokio::test]
async fn what_the_model_can_t_do_is_refused_by_name() {
    let daemon = Setup::real().toml("[engine]\nn_ctx = 512").ready().await;
    let client = daemon.client();
    let long = "word ".repeat(2000);
    let endless = "x".repeat(500_000);
    let cases = [
        (
            json!({"input": ["a", long]}),
            400,
            ErrorCode::ContextOverflow,
            "input[1]",
        ),
        (
            json!({"input": endless}),
            400,
            ErrorCode::ContextOverflow,
            "input[0]",
        ),
        (
            json!({"input": vec![1; 600]}),
            400,
            ErrorCode::ContextOverflow,
            "input[0]",
        ),
        (
            json!({"input": [[1], [99_999_999]]}),
            400,
            ErrorCode::InvalidRequest,
            "input[1]",
        ),
        (
            json!({"input": "a", "dimensions": 64}),
            400,
            ErrorCode::Unsupported,
            "dimensions",
        ),
        (
            json!({"input": ""}),
            400,
            ErrorCode::InvalidRequest,
            "input[0]",
        ),
        (
            json!({"input": vec!["a"; 65]}),
            400,
            ErrorCode::InvalidRequest,
            "input",
        ),
    ];
    for (body, status, code, param) in cases {
        let error = client.post(PATH, &body).await.error(status, code);
        assert_eq!(error.param.as_deref(), Some(param), "{error:?}");
        if code == ErrorCode::ContextOverflow {
            assert_eq!(error.n_ctx, Some(512));
            assert!(error.prompt_tokens > Some(512), "{error:?}");
        }
    }
    // One that just fits is read over many steps.
    let list = embed(&client, &json!({"input": vec![100; 512]})).await;
    assert_eq!(list.usage.prompt_tokens, 512);
    let body = json!({"input": "a", "model": "no-such-model"});
    client
        .post(PATH, &body)
        .await
        .error(404, ErrorCode::ModelNotFound);
}

#[tokio::test]
async fn without_memory_for_it_answers_go_on() {
    // By hobd's own estimate the model with one request takes some 160 MiB, and a context for
    // embeddings 52.
    let daemon = Setup::real()
        .toml("[engine]\nn_ctx = 1024\nparallel = 1\nmemory = 199229440")
        .ready()
        .await;
    let client = daemon.client();
    let reply = client.post(PATH, &json!({"input": "a"})).await;
    reply.error(507, ErrorCode::InsufficientMemory);
    let answer = client
        .ask_with("Say hello.", &json!({"max_tokens": 4}))
        .await;
    answer.answer().await.done();
}

#[tokio::test]
async fn who_leaves_in_the_middle_ends_the_work_and_answers_go_on() {
    let daemon = Setup::real()
        .toml("[engine]\nparallel = 2\nn_ctx = 4096")
        .ready()
        .await;
    let client = daemon.client();
    let engine = daemon.engine_pid().await;
    // Minutes of work: far longer than the rest of this test.
    let body = json!({"input": vec![vec![100; 500]; 64]});
    let mut stream = client.stream(PATH, &body, "application/x-ndjson").await;
    // An answer beside it comes while the embeddings are still made.
    let answer = client
        .ask_with("Say hello.", &json!({"max_tokens": 8}))
        .await;
    answer.answer().await.done();
    let status = client.status().await;
    assert_eq!(status.active, 1, "the embeddings");
    while let Some(event) = stream.json::<Event>().await {
        assert!(!event.is_terminal(), "{event:?}");
        if matches!(event, Event::Embedding { .. }) {
            break;
        }
    }
    drop(stream);
    let idle = |status: &hob_api::status::Status| status.active == 0 && status.queued == 0;
    let status = daemon.until_status("idle", idle).await;
    assert_eq!(status.engine_losses, 0);
    assert_eq!(daemon.engine_pid().await, engine);
    embed(&client, &json!({"input": "a"})).await;
}

#[tokio::test]
async fn a_deadline_ends_it() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let body = json!({"input": ["fake: slow 300", "b", "c"], "timeout_ms": 400});
    let reply = client.post(PATH, &body).await;
    reply.error(504, ErrorCode::DeadlineExceeded);
    assert_eq!(
        embed(&client, &json!({"input": ["a", "b"]}))
            .await
            .data
            .len(),
        2
    );
}

#[tokio::test]
async fn an_engine_that_lies_is_ended_and_the_next_request_served() {
    let daemon = Setup::fake()
        .toml("[engine]\nparallel = 1\nhang_timeout = \"2s\"")
        .ready()
        .await;
    for (losses, words) in (1..).zip(["nan", "zeros"]) {
        lose(&daemon, losses, words).await;
    }
    for words in [
        "long", "uneven", "order", "missing", "extra", "tokens", "foreign", "crash",
    ] {
        let daemon = Setup::fake()
            .toml("[engine]\nparallel = 1\nhang_timeout = \"2s\"")
            .ready()
            .await;
        lose(&daemon, 1, words).await;
    }
}

async fn lose(daemon: &Daemon, losses: u64, words: &str) {
    let client = daemon.client();
    let body = json!({"input": [format!("fake: {words}"), "b", "c"]});
    let reply = client.post(PATH, &body).await;
    // An embedding too many comes before the end, a wrong end after all.
    assert_eq!(reply.any_error().code, ErrorCode::EngineLost, "{words}");
    daemon.assert_serves().await;
    let lost = |status: &hob_api::status::Status| status.engine_losses == losses;
    daemon.until_status(words, lost).await;
}

#[tokio::test]
async fn a_user_s_share_holds_for_embeddings_too() {
    let daemon = Setup::fake()
        .toml("[engine]\nparallel = 1\n[limits]\nper_uid = 2")
        .ready()
        .await;
    let client = daemon.client();
    let body = json!({"input": ["fake: slow 2000", "b"]});
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(client.stream(PATH, &body, "application/x-ndjson").await);
    }
    client.post(PATH, &body).await.error(429, ErrorCode::Busy);
    drop(waiting);
}
