//! Conversations that hobd keeps: over HTTP, across restarts and kills, and when their database is
//! full, damaged or can't be opened.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

#[path = "conversations/faults.rs"]
mod faults;

use std::path::PathBuf;

use hob_api::ErrorCode;
use hob_api::chat::{ChatChunk, ChatCompletion, Role};
use hob_api::conversation::{Conversation, ConversationList, Kept, NAME_BYTES_MAX, Transcript};
use hob_e2e::{Answer, Client, Daemon, Setup};
use serde_json::{Value, json};

const PATH: &str = "/hob/v1/conversations";
const CHAT: &str = "/v1/chat/completions";

async fn open(client: &Client, fields: &Value) -> Conversation {
    client.post(PATH, fields).await.json()
}

/// Asks within the conversation; the answer comes in hob's own records.
async fn ask(client: &Client, id: &str, question: &str) -> Answer {
    ask_with(client, id, question, &json!({})).await
}

async fn ask_with(client: &Client, id: &str, question: &str, fields: &Value) -> Answer {
    let mut fields = fields.clone();
    fields["conversation"] = id.into();
    client.ask_with(question, &fields).await.answer().await
}

/// What a complete answer tells of its conversation.
fn kept(answer: &Answer) -> Kept {
    answer.done().kept.clone().expect("a conversation")
}

async fn transcript(client: &Client, id: &str) -> Transcript {
    client.get(&format!("{PATH}/{id}")).await.json()
}

async fn list(client: &Client) -> Vec<Conversation> {
    let list: ConversationList = client.get(PATH).await.json();
    list.data
}

/// All that was said, a line each.
fn said(transcript: &Transcript) -> Vec<String> {
    let messages = transcript.history.iter().flat_map(|turn| &turn.messages);
    messages
        .map(|message| format!("{}: {}", message.role.as_str(), message.content))
        .collect()
}

fn database(daemon: &Daemon) -> PathBuf {
    daemon
        .home()
        .join("data/hob/conversations/conversations.db")
}

#[tokio::test]
async fn a_conversation_goes_on_after_a_restart() {
    let mut daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({"system": "Be brief."})).await.id;
    let first = ask(&client, &id, "one two").await;
    assert_eq!(first.text, "one two");
    let about = kept(&first);
    assert_eq!((about.conversation.as_str(), about.stored), (&*id, true));
    assert_eq!((about.dropped_turns, about.store_problem), (0, None));

    daemon.stop().await;
    daemon.restart().await;
    daemon.until_ready().await;
    // The engine gets all that was said, in order.
    let shown = ask(&client, &id, "fake: show").await;
    let request: Value = serde_json::from_str(&shown.text).unwrap();
    let messages = request["prompt"]["chat"].as_array().unwrap();
    let sent: Vec<_> = messages
        .iter()
        .map(|m| (m["role"].as_str().unwrap(), m["content"].as_str().unwrap()))
        .collect();
    assert_eq!(
        sent,
        [
            ("system", "Be brief."),
            ("user", "one two"),
            ("assistant", "one two"),
            ("user", "fake: show"),
        ]
    );
    let transcript = transcript(&client, &id).await;
    assert_eq!(transcript.conversation.name.as_deref(), Some("one two"));
    assert_eq!(transcript.conversation.turns, 2);
    assert_eq!(transcript.history[0].model, "fake");
    assert_eq!(
        said(&transcript)[..2],
        ["user: one two", "assistant: one two"]
    );
}

#[tokio::test]
async fn openais_shapes_tell_of_the_conversation_too() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({})).await.id;
    let messages = json!([{"role": "user", "content": "one"}]);
    let body = json!({"messages": messages, "conversation": id});
    let whole: ChatCompletion = client.post(CHAT, &body).await.json();
    assert!(whole.kept.is_some_and(|kept| kept.stored));

    let body = json!({"messages": messages, "conversation": id, "stream": true});
    let mut stream = client.stream(CHAT, &body, "text/event-stream").await;
    let mut chunks: Vec<ChatChunk> = Vec::new();
    while let Some(chunk) = stream.json().await {
        chunks.push(chunk);
    }
    let (last, before) = chunks.split_last().unwrap();
    assert!(before.iter().all(|chunk| chunk.kept.is_none()));
    assert!(last.kept.as_ref().is_some_and(|kept| kept.stored));

    // Without a conversation nothing is said of one, and nothing stored.
    let reply = client.post(CHAT, &json!({ "messages": messages })).await;
    let reply: Value = reply.json();
    assert!(reply.get("stored").is_none() && reply.get("conversation").is_none());
    assert_eq!(list(&client).await[0].turns, 2);
}

#[tokio::test]
async fn conversations_are_named_listed_renamed_exported_and_deleted() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    assert_eq!(list(&client).await, []);
    let garden = open(&client, &json!({"name": "Garden"})).await;
    let other = open(&client, &json!({})).await;
    assert_eq!((other.name.as_deref(), other.turns), (None, 0));
    ask(&client, &garden.id, "plover here").await.done();
    let names: Vec<_> = list(&client).await.into_iter().map(|c| c.name).collect();
    assert_eq!(names, [Some("Garden".to_owned()), None]);

    let path = format!("{PATH}/{}", garden.id);
    let renamed: Conversation = client.patch(&path, &json!({"name": "Birds"})).await.json();
    assert_eq!(renamed.name.as_deref(), Some("Birds"));
    let markdown = client.get(&format!("{path}/export")).await;
    assert_eq!(
        markdown.headers["content-type"],
        "text/markdown; charset=utf-8"
    );
    let text = markdown.text();
    assert!(text.starts_with("# Birds\n"), "{text}");
    assert!(text.contains("## You\n\nplover here\n\n## Model (fake)\n\nplover here\n"));
    let exported: Transcript = client
        .get(&format!("{path}/export?format=json"))
        .await
        .json();
    assert_eq!(exported, transcript(&client, &garden.id).await);
    client
        .get(&format!("{path}/export?format=pdf"))
        .await
        .error(400, ErrorCode::InvalidRequest);

    let gone: Value = client.delete(&path).await.json();
    assert_eq!(gone["deleted"], true);
    for reply in [
        client.get(&path).await,
        client.delete(&path).await,
        client.get(&format!("{path}/export")).await,
        client.patch(&path, &json!({"name": "x"})).await,
    ] {
        reply.error(404, ErrorCode::ConversationNotFound);
    }
    assert_eq!(list(&client).await.len(), 1);
    let folder = database(&daemon).parent().unwrap().to_owned();
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"plover"));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for name in ["", "  ", &long, "a\nb", "a\u{1b}[2Jb"] {
        let reply = client.post(PATH, &json!({ "name": name })).await;
        let error = reply.error(400, ErrorCode::InvalidRequest);
        assert_eq!(error.param.as_deref(), Some("name"), "{name:?}");
    }
    let id = open(&client, &json!({"name": "mine"})).await.id;
    let taken = client.post(PATH, &json!({"name": "mine"})).await;
    taken.error(400, ErrorCode::InvalidRequest);
    client
        .post(PATH, &json!({"title": "x"}))
        .await
        .error(400, ErrorCode::InvalidRequest);
    for unknown in ["x", "", &"0".repeat(32), &"../".repeat(20)] {
        let answer = ask(&client, unknown, "one").await;
        assert_eq!(answer.error().code, ErrorCode::ConversationNotFound);
    }
    let user = json!({"role": "user", "content": "one"});
    let system = json!({"role": "system", "content": "two"});
    let assistant = json!({"role": "assistant", "content": "three"});
    for messages in [
        json!([user, system]),
        json!([user, assistant]),
        json!([system]),
    ] {
        let body = json!({"messages": messages, "conversation": id});
        let error = client.post(CHAT, &body).await;
        let error = error.error(400, ErrorCode::InvalidRequest);
        assert_eq!(error.param.as_deref(), Some("messages"));
    }
    let body = json!({"messages": [user], "truncate": "oldest"});
    let error = client.post(CHAT, &body).await;
    error.error(400, ErrorCode::InvalidRequest);
    assert_eq!(transcript(&client, &id).await.history, []);
}

#[tokio::test]
async fn new_instructions_take_the_place_of_the_old_ones() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({"system": "Be brief."})).await.id;
    let body = |system: &str| {
        json!({"conversation": id, "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": "fake: show"},
        ]})
    };
    let answer: ChatCompletion = client.post(CHAT, &body("Be long.")).await.json();
    let text = answer.choices[0]
        .message
        .content
        .as_deref()
        .unwrap_or_default();
    assert!(
        text.contains("Be long.") && !text.contains("Be brief."),
        "{text}"
    );
    let now = transcript(&client, &id).await;
    assert_eq!(now.conversation.system.as_deref(), Some("Be long."));
    assert_eq!(now.history[0].messages[0].role, Role::User);
    client.post(CHAT, &body("")).await.json::<ChatCompletion>();
    assert_eq!(transcript(&client, &id).await.conversation.system, None);
}

#[tokio::test]
async fn what_failed_or_was_cancelled_is_not_stored() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({})).await.id;
    ask(&client, &id, "fake: fail decode").await.error();
    ask(&client, &id, "fake: crash after 2").await.error();
    daemon.until_ready().await;
    let fields = json!({"conversation": id});
    let mut left = client.ask_with("fake: slow 20 4000", &fields).await;
    left.first_delta().await;
    drop(left);
    daemon
        .until_status("it is cancelled", |status| status.active == 0)
        .await;
    ask(&client, &id, "one").await.done();
    let told = transcript(&client, &id).await;
    assert_eq!(said(&told), ["user: one", "assistant: one"]);
}

#[tokio::test]
async fn a_second_request_of_one_conversation_is_busy() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({})).await.id;
    let other = open(&client, &json!({})).await.id;
    let fields = json!({"conversation": id});
    let mut first = client.ask_with("fake: slow 20 20", &fields).await;
    first.first_delta().await;
    let second = ask(&client, &id, "two").await;
    let error = second.error();
    assert_eq!(error.code, ErrorCode::Busy);
    assert!(error.message.contains("this conversation"), "{error}");
    ask(&client, &other, "elsewhere").await.done();
    first.answer().await.done();
    // It is free as soon as its end is told.
    ask(&client, &id, "three").await.done();
    assert_eq!(transcript(&client, &id).await.conversation.turns, 2);
}

#[tokio::test]
async fn a_conversation_that_outgrows_the_context_says_so_or_drops_its_oldest_turns() {
    let daemon = Setup::fake_load("n_ctx 64").ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({})).await.id;
    let five = |n: u32| format!("{n} a b c d");
    for n in 0..6 {
        ask(&client, &id, &five(n)).await.done();
    }
    let refused = ask(&client, &id, &five(6)).await;
    let error = refused.error();
    assert_eq!(error.code, ErrorCode::ContextOverflow);
    assert!(error.message.contains("this conversation"), "{error}");
    assert!(error.hint.as_ref().unwrap().contains("truncate"), "{error}");
    assert_eq!((error.prompt_tokens, error.n_ctx), (Some(65), Some(64)));

    let oldest = json!({"truncate": "oldest", "max_tokens": 32});
    let answer = ask_with(&client, &id, &five(6), &oldest).await;
    let dropped = kept(&answer).dropped_turns;
    assert!((1..6).contains(&dropped), "{dropped}");
    // The next ones drop no more than they must: the prompt begins as the last one did.
    let next = ask_with(&client, &id, "seven", &oldest).await;
    assert_eq!(kept(&next).dropped_turns, dropped);
    let shown = ask_with(&client, &id, "fake: show", &oldest).await;
    let oldest_kept = format!("\"{}\"", five(dropped));
    let newest_dropped = format!("\"{}\"", five(dropped - 1));
    assert!(shown.text.contains(&oldest_kept) && !shown.text.contains(&newest_dropped));
    // All is stored still, and a question that is too long alone stays an error.
    assert_eq!(transcript(&client, &id).await.conversation.turns, 9);
    let alone = ask_with(&client, &id, &"x ".repeat(70), &oldest).await;
    let error = alone.error();
    assert_eq!(error.code, ErrorCode::ContextOverflow);
    assert!(!error.message.contains("this conversation"), "{error}");
}

#[tokio::test]
async fn the_real_model_goes_on_beyond_its_context() {
    let daemon = Setup::real().toml("[engine]\nn_ctx = 512").ready().await;
    let client = daemon.client();
    let id = open(&client, &json!({"system": "Answer briefly."}))
        .await
        .id;
    let question = "Tell me about rain, snow and hail, please. ".repeat(8);
    let fields = json!({"max_tokens": 16, "truncate": "oldest", "temperature": 0, "seed": 1});
    let mut dropped = Vec::new();
    for _ in 0..8 {
        let answer = ask_with(&client, &id, &question, &fields).await;
        let about = kept(&answer);
        assert!(about.stored);
        let usage = answer.done().usage;
        assert!(usage.prompt_tokens + 16 <= 512, "{usage:?}");
        dropped.push(about.dropped_turns);
    }
    assert_eq!(dropped[0], 0);
    assert!(dropped.is_sorted(), "{dropped:?}");
    assert!((1..8).contains(&dropped[7]), "{dropped:?}");
    // It is cut ahead, not by one turn each time.
    assert!(
        dropped
            .windows(2)
            .any(|pair| pair[0] == pair[1] && pair[0] > 0),
        "{dropped:?}"
    );
    let refused = ask(&client, &id, &question).await;
    let error = refused.error();
    assert_eq!(error.code, ErrorCode::ContextOverflow);
    assert!(error.prompt_tokens > Some(512), "{error:?}");
    assert_eq!(transcript(&client, &id).await.history.len(), 8);
}

#[tokio::test]
async fn one_users_conversations_are_bounded() {
    let daemon = Setup::fake()
        .toml("[conversations]\nper_uid = 2\nbytes_per_uid = 65536")
        .ready()
        .await;
    let client = daemon.client();
    let id = open(&client, &json!({})).await.id;
    open(&client, &json!({})).await;
    let refused = client.post(PATH, &json!({})).await;
    let error = refused.error(507, ErrorCode::QuotaExceeded);
    assert!(error.message.contains("2 conversations"), "{error}");
    // The answer comes all the same.
    let long = "x".repeat(40_000);
    let answer = ask(&client, &id, &long).await;
    assert_eq!(answer.text.len(), long.len());
    let about = kept(&answer);
    assert!(!about.stored);
    assert!(about.store_problem.unwrap().contains("65536 bytes"));
    assert!(kept(&ask(&client, &id, "short").await).stored);
}

#[tokio::test]
async fn a_hobd_that_keeps_none_says_so() {
    let daemon = Setup::fake()
        .toml("[conversations]\nenabled = false")
        .ready()
        .await;
    let client = daemon.client();
    client
        .post(PATH, &json!({}))
        .await
        .error(400, ErrorCode::Unsupported);
    let answer = ask(&client, &"0".repeat(32), "one").await;
    assert_eq!(answer.error().code, ErrorCode::Unsupported);
    client.ask("one").await.answer().await.done();
    assert!(!daemon.status().await.conversations.enabled);
    assert!(!database(&daemon).exists());
}
