//! Real answers: the real engine and the real test model, through the Unix socket.

#![allow(
    clippy::expect_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::collections::HashSet;

use hob_api::chat::{ChatChunk, ChatCompletion, Role};
use hob_api::completion::Completion;
use hob_api::event::FinishReason;
use hob_api::model::{ModelEntry, ModelList};
use hob_api::status::State;
use hob_api::{ErrorCode, Event};
use hob_e2e::{Client, Setup, TEST_MODEL};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const QUESTION: &str = "What is the capital of France? Answer in one short sentence.";

/// A question whose answer is always the same.
fn question(fields: &Value) -> Value {
    let mut body = json!({
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": QUESTION},
        ],
        "temperature": 0,
        "max_tokens": 48,
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

async fn ask(client: &Client, fields: &Value) -> ChatCompletion {
    client.post(CHAT, &question(fields)).await.json()
}

fn text(answer: &ChatCompletion) -> &str {
    answer.choices[0]
        .message
        .content
        .as_deref()
        .unwrap_or_default()
}

#[tokio::test]
async fn one_question_is_answered_rightly_and_in_full() {
    let daemon = Setup::real().ready().await;
    let answer = ask(&daemon.client(), &json!({})).await;
    assert!(text(&answer).contains("Paris"), "{answer:?}");
    assert_eq!(answer.object, "chat.completion");
    assert_eq!(answer.model, TEST_MODEL);
    assert_eq!(answer.choices.len(), 1);
    assert_eq!(answer.choices[0].message.role, Role::Assistant);
    assert_eq!(answer.choices[0].finish_reason, FinishReason::Stop);
    let usage = answer.usage;
    assert!(usage.prompt_tokens > 20, "{usage:?}");
    assert!((2..=48).contains(&usage.completion_tokens), "{usage:?}");
    assert_eq!(
        usage.total_tokens,
        usage.prompt_tokens + usage.completion_tokens
    );
    let timings = answer.timings.expect("timings");
    assert!(timings.decode_per_second > 0.0, "{timings:?}");
    assert!(timings.prefill_ms > 0.0, "{timings:?}");
}

#[tokio::test]
async fn every_way_to_ask_gives_the_same_answer() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let whole = ask(&client, &json!({})).await;

    let body = question(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let mut stream = client.stream(CHAT, &body, "text/event-stream").await;
    let mut chunks: Vec<ChatChunk> = Vec::new();
    while let Some(chunk) = stream.json().await {
        chunks.push(chunk);
    }
    let streamed: String = chunks
        .iter()
        .flat_map(|chunk| &chunk.choices)
        .filter_map(|choice| choice.delta.content.as_deref())
        .collect();
    assert_eq!(streamed, text(&whole));
    assert_eq!(chunks[0].choices[0].delta.role, Some(Role::Assistant));
    assert!(chunks.iter().all(|chunk| chunk.id == chunks[0].id));
    let reasons: Vec<FinishReason> = chunks
        .iter()
        .flat_map(|chunk| &chunk.choices)
        .filter_map(|choice| choice.finish_reason)
        .collect();
    assert_eq!(reasons, [FinishReason::Stop]);
    let last = chunks.last().expect("chunks");
    assert!(last.choices.is_empty());
    let usage = last.usage.expect("usage in the last chunk");
    assert_eq!(usage.completion_tokens, whole.usage.completion_tokens);

    let body = question(&json!({"stream": true}));
    let events = client.stream(CHAT, &body, "application/x-ndjson").await;
    let events = events.answer().await;
    assert_eq!(events.text, text(&whole));
    assert_eq!(events.done().model, TEST_MODEL);
}

#[tokio::test]
async fn the_prompt_is_read_before_the_answer_begins() {
    let daemon = Setup::real().ready().await;
    let long = "The weather is fine today. ".repeat(100);
    let mut stream = daemon
        .client()
        .ask_with(&long, &json!({"max_tokens": 4}))
        .await;
    let mut last = (0, 0);
    let mut steps = 0;
    let mut deltas = 0;
    while let Some(event) = stream.json::<Event>().await {
        match event {
            Event::Prefill { processed, total } => {
                assert_eq!(deltas, 0, "prefill after text");
                assert!(processed >= last.0 && processed <= total);
                last = (processed, total);
                steps += 1;
            }
            Event::Delta { .. } => deltas += 1,
            Event::Done(done) => assert_eq!(done.usage.prompt_tokens, last.1),
            Event::Queued { .. } => {}
            Event::Embedding { .. }
            | Event::Scored { .. }
            | Event::Reasoning { .. }
            | Event::ToolCall { .. }
            | Event::ToolArguments { .. } => {
                panic!("no text in an answer")
            }
            Event::Error { error } => panic!("{error:?}"),
        }
    }
    assert!(steps > 1, "a prompt of several chunks shows its progress");
    assert!(deltas > 0);
}

#[tokio::test]
async fn text_is_gone_on_from() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let body = json!({"prompt": "One, two, three, four,", "temperature": 0, "max_tokens": 8});
    let whole: Completion = client.post("/v1/completions", &body).await.json();
    assert_eq!(whole.object, "text_completion");
    assert!(whole.choices[0].text.contains("five"), "{whole:?}");
    assert_eq!(whole.choices[0].finish_reason, Some(FinishReason::Length));
    assert_eq!(whole.usage.map(|usage| usage.completion_tokens), Some(8));

    let mut body = body;
    body["stream"] = true.into();
    let mut stream = client
        .stream("/v1/completions", &body, "text/event-stream")
        .await;
    let mut streamed = String::new();
    while let Some(chunk) = stream.json::<Completion>().await {
        for choice in chunk.choices {
            streamed.push_str(&choice.text);
        }
    }
    assert_eq!(streamed, whole.choices[0].text);
}

#[tokio::test]
async fn a_seed_makes_a_random_answer_repeatable() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let fields = |seed: i64| {
        json!({
            "messages": [{"role": "user", "content": "Write a sentence about the sea."}],
            "temperature": 1.5, "top_p": 1, "min_p": 0, "top_k": 0, "max_tokens": 16, "seed": seed,
        })
    };
    let first = ask(&client, &fields(7)).await;
    let again = ask(&client, &fields(7)).await;
    assert_eq!(text(&first), text(&again));
    let mut answers = HashSet::new();
    for seed in 0..4 {
        answers.insert(text(&ask(&client, &fields(seed)).await).to_owned());
    }
    assert!(answers.len() > 1, "four seeds, one answer: {answers:?}");
}

#[tokio::test]
async fn limits_and_stop_strings_end_an_answer() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let short = ask(&client, &json!({"max_tokens": 3})).await;
    assert_eq!(short.choices[0].finish_reason, FinishReason::Length);
    assert_eq!(short.usage.completion_tokens, 3);

    let whole = ask(&client, &json!({})).await;
    let cut = ask(&client, &json!({"stop": ["Paris"]})).await;
    let (before, _) = text(&whole).split_once("Paris").expect("Paris");
    assert_eq!(text(&cut), before);
    assert_eq!(cut.choices[0].finish_reason, FinishReason::Stop);
}

#[tokio::test]
async fn what_a_user_writes_never_becomes_a_control_token() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let tokens = async |content: &str| {
        let fields = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 1});
        ask(&client, &fields).await.usage.prompt_tokens
    };
    // As a control token the mark would be one token; as text it is several.
    let without = tokens("a").await;
    let with = tokens("a<|im_end|>").await;
    assert!(with > without + 2, "{without} tokens, then {with}");
}

#[tokio::test]
async fn answers_that_run_at_once_do_not_mix() {
    let daemon = Setup::real().toml("[engine]\nparallel = 2").ready().await;
    let client = daemon.client();
    let alone_france = ask(&client, &json!({})).await;
    let sea = json!({
        "messages": [{"role": "user", "content": "Count from one to ten in words."}],
    });
    let alone_sea = ask(&client, &sea).await;
    let (empty, other) = (json!({}), sea.clone());
    let (france, sea) = tokio::join!(ask(&client, &empty), ask(&client, &other));
    assert_eq!(text(&france), text(&alone_france));
    assert_eq!(text(&sea), text(&alone_sea));
}

#[tokio::test]
async fn what_repeats_is_drafted_and_a_client_can_do_without() {
    let daemon = Setup::real()
        .toml("[engine]\ndrafts = \"always\"")
        .ready()
        .await;
    let client = daemon.client();
    let list = "The kettle is on the stove. The lamp is on the table. The radio is on the shelf.";
    let body = |speculative: Value| {
        json!({
            "prompt": format!("{list}\nThe list again, word for word:\nThe kettle is"),
            "temperature": 0, "repeat_penalty": 1, "max_tokens": 24, "speculative": speculative,
        })
    };
    let complete = async |speculative: Value| -> Completion {
        let reply = client.post("/v1/completions", &body(speculative)).await;
        reply.json()
    };
    let drafted = complete(Value::Null).await;
    let plain = complete(false.into()).await;
    assert_eq!(drafted.choices[0].text, plain.choices[0].text);
    let details = |completion: &Completion| {
        let usage = completion.usage.expect("usage");
        usage.completion_tokens_details
    };
    assert!(
        details(&drafted).accepted_prediction_tokens >= 6,
        "{drafted:?}"
    );
    assert_eq!(details(&plain).accepted_prediction_tokens, 0);
    assert_eq!(details(&plain).rejected_prediction_tokens, 0);
    let refused = client.post("/v1/completions", &body("no".into())).await;
    let error = refused.error(400, ErrorCode::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("speculative"));
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_with_both_counts() {
    let daemon = Setup::real().toml("[engine]\nn_ctx = 256").ready().await;
    let client = daemon.client();
    let long = "word ".repeat(400);
    let error = client
        .ask_whole(&long)
        .await
        .error(400, ErrorCode::ContextOverflow);
    assert_eq!(error.n_ctx, Some(256));
    assert!(
        error.prompt_tokens.is_some_and(|tokens| tokens > 400),
        "{error:?}"
    );
    let streamed = client.ask(&long).await.answer().await;
    assert_eq!(streamed.error().code, ErrorCode::ContextOverflow);
    assert_eq!(streamed.error().n_ctx, Some(256));
    let answer = ask(&client, &json!({})).await;
    assert!(text(&answer).contains("Paris"), "{answer:?}");
}

#[tokio::test]
async fn the_daemon_tells_about_itself() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    assert_eq!(client.get("/health").await.status, 200);

    let models: ModelList = client.get("/v1/models").await.json();
    let entry = models.data.iter().find(|model| model.id == TEST_MODEL);
    let entry = entry.expect("the test model in the list");
    assert!(entry.loaded);
    assert_eq!(entry.size_bytes, 98_362_432);
    let one: ModelEntry = client.get(&format!("/v1/models/{TEST_MODEL}")).await.json();
    assert_eq!(&one, entry);

    let status = client.status().await;
    assert_eq!(status.state, State::Ready);
    assert_eq!((status.active, status.queued), (0, 0));
    assert_eq!(status.sandbox_setting, "required");
    let model = status.model.expect("a model");
    assert_eq!(model.architecture, "llama");
    assert_eq!(
        model.sha256,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    );
    assert!(model.parameters > 130_000_000, "{model:?}");
    assert!(model.chat);
    let engine = status.engine.expect("an engine");
    assert_ne!(engine.pid, daemon.pid());
    assert!(engine.rss_bytes > 50 << 20, "{engine:?}");
    let layers = engine.sandbox.join(" ");
    assert!(layers.contains("seccomp"), "{layers}");
    assert!(layers.contains("landlock"), "{layers}");
    // Its own word is one thing, the kernel's another.
    let kernel = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", engine.pid));
    let process = kernel("status").expect("the engine's status");
    assert!(process.contains("NoNewPrivs:\t1"), "{process}");
    assert!(process.contains("Seccomp:\t2"), "{process}");
    let adjustment = kernel("oom_score_adj").expect("the engine's adjustment");
    assert_eq!(adjustment.trim(), "1000");
}

#[tokio::test]
async fn logs_hold_no_text_of_questions_or_answers() {
    let daemon = Setup::real().env("HOB_LOG", "trace").ready().await;
    let answer = ask(&daemon.client(), &json!({})).await;
    assert!(text(&answer).contains("Paris"));
    let log = daemon.log();
    assert!(!log.is_empty());
    for word in ["Paris", "capital", "France"] {
        assert!(!log.contains(word), "{word:?} is in the log");
    }
}

#[tokio::test]
async fn openai_s_own_client_works_unchanged() {
    let daemon = Setup::real().ready().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/openai_client.py");
    let mut command = daemon.command(&hob_e2e::python());
    command.arg(script).arg(daemon.socket()).arg(TEST_MODEL);
    let output = hob_e2e::patiently(
        "the script",
        tokio::process::Command::from(command).output(),
    )
    .await
    .expect("running Python");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn the_next_turn_reads_only_what_is_new_and_sleep_forgets() {
    let daemon = Setup::real()
        .toml("[engine]\nkeep_alive = \"2s\"")
        .ready()
        .await;
    let client = daemon.client();
    let first = ask(&client, &json!({})).await;
    assert_eq!(first.usage.prompt_tokens_details.cached_tokens, 0);
    let turns = json!({"messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": text(&first)},
        {"role": "user", "content": "Is it large?"},
    ]});
    let second = ask(&client, &turns).await;
    let cached = second.usage.prompt_tokens_details.cached_tokens;
    assert!(cached >= first.usage.prompt_tokens, "{:?}", second.usage);
    assert!(cached < second.usage.prompt_tokens);
    let private = ask(&client, &json!({"cache_prompt": false})).await;
    assert_eq!(private.usage.prompt_tokens_details.cached_tokens, 0);
    assert_eq!(text(&private), text(&first));
    let mut alone = turns.clone();
    alone["cache_prompt"] = json!(false);
    let alone = ask(&client, &alone).await;
    daemon.until(State::Sleeping).await;
    let woken = ask(&client, &turns).await;
    assert_eq!(woken.usage.prompt_tokens_details.cached_tokens, 0);
    assert_eq!(text(&woken), text(&alone));
}

#[tokio::test]
async fn prometheus_is_told_what_happened_and_no_text() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let long = json!({"messages": [
        {"role": "system", "content": "You are a helpful assistant. ".repeat(20)},
        {"role": "user", "content": QUESTION},
    ]});
    let first = ask(&client, &long).await;
    ask(&client, &long).await;
    client
        .post(CHAT, &question(&json!({"model": "nonesuch"})))
        .await;
    let reply = client.get("/metrics").await;
    assert_eq!(reply.status, 200);
    let text = reply.text();
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit_once(' '));
        value.expect(name).1.parse().expect("a number")
    };
    assert!((value("hob_requests_total{result=\"ok\"}") - 2.0).abs() < 0.1);
    assert!(value("hob_tokens_total{kind=\"cached\"}") > 20.0);
    let read = value("hob_tokens_total{kind=\"read\"}");
    assert!(read >= f64::from(first.usage.prompt_tokens), "{read}");
    assert!(value("hob_time_to_first_token_seconds_sum") > 0.0);
    assert!(value("hob_memory_bytes{process=\"engine\"}") > 50e6);
    assert!(
        !text.contains("France") && !text.contains("Paris"),
        "{text}"
    );
}

#[tokio::test]
async fn what_a_model_thinks_is_no_part_of_its_answer() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    // The fake engine says what it is asked.
    let thinking = "<think>\nIs it wet? It rains. </think>\n\nYes, it is.";
    let (reasoning, said) = ("Is it wet? It rains.", "Yes, it is.");
    let whole: Value = client.ask_whole(thinking).await.json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], reasoning);
    assert_eq!(message["content"], said);

    let answer = client.ask(thinking).await.answer().await;
    assert_eq!(
        (answer.reasoning.as_str(), answer.text.as_str()),
        (reasoning, said)
    );
    let body = json!({"messages": [{"role": "user", "content": thinking}], "stream": true});
    let mut stream = client.stream(CHAT, &body, "text/event-stream").await;
    let (mut thought, mut told) = (String::new(), String::new());
    while let Some(chunk) = stream.json::<Value>().await {
        let delta = &chunk["choices"][0]["delta"];
        if let Some(more) = delta["reasoning_content"].as_str() {
            assert!(told.is_empty() && !more.is_empty());
            thought.push_str(more);
        }
        told.push_str(delta["content"].as_str().unwrap_or_default());
    }
    assert_eq!((thought.as_str(), told.as_str()), (reasoning, said));

    // One that sends it back is heard, and only what was said is kept.
    let back = json!({"messages": [
        {"role": "user", "content": "Is it wet?"}, message, {"role": "user", "content": "Why?"},
    ]});
    let heard: Value = client.post(CHAT, &back).await.json();
    assert_eq!(heard["choices"][0]["message"]["content"], "Why?");
    let opened: Value = client
        .post("/hob/v1/conversations", &json!({}))
        .await
        .json();
    let id = opened["id"].as_str().expect("an id");
    let answer = client
        .ask_with(thinking, &json!({"conversation": id}))
        .await;
    assert_eq!(answer.answer().await.text, said);
    let path = format!("/hob/v1/conversations/{id}");
    let kept: Value = client.get(&path).await.json();
    assert_eq!(kept["history"][0]["messages"][1]["content"], said, "{kept}");

    // A form of the caller's own is the whole answer's, and a text completion has no such thing.
    let formed = client
        .ask_with(thinking, &json!({"regex": "(.|\\n)*"}))
        .await;
    assert_eq!(formed.answer().await.text, thinking);
    let completed = json!({"prompt": thinking, "max_tokens": 50});
    let completed: Value = client.post("/v1/completions", &completed).await.json();
    assert_eq!(completed["choices"][0]["text"], thinking);
}
