//! Bad arguments: each is refused with one error that names it, and hobd goes on.

use hob_e2e::{Daemon, Setup};
use zbus::Variant;

use crate::caller::{Caller, Options, name_and_text, number};
use crate::nothing_active;

const INVALID: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const TOO_LARGE: &str = "org.freedesktop.DBus.Error.LimitsExceeded";
const NOT_FOUND: &str = "org.freedesktop.DBus.Error.FileNotFound";
const TEXT_BYTES_MAX: usize = 64 * 1024;

async fn fake() -> (Daemon, Caller) {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    (daemon, caller)
}

async fn still_answers(caller: &Caller) {
    let (reply, _) = caller.ask("still there", Options::new()).await.unwrap();
    assert_eq!(reply, "still there");
}

#[tokio::test]
async fn every_bad_option_is_refused_by_name() {
    let (_daemon, caller) = fake().await;
    let cases: [(&str, Variant<'_>, &str, &[&str]); 17] = [
        ("colour", "red".into(), INVALID, &["`colour`", "max_tokens"]),
        (
            "max_tokens",
            "7".into(),
            INVALID,
            &["`max_tokens`", "`u`", "`s`"],
        ),
        ("max_tokens", 0_u32.into(), INVALID, &["max_tokens"]),
        ("temperature", 9.0.into(), INVALID, &["temperature", "2"]),
        ("timeout_ms", 0_u32.into(), INVALID, &["timeout_ms"]),
        ("stop", vec![""].into(), INVALID, &["stop"]),
        ("system", 1_u32.into(), INVALID, &["`system`", "`s`", "`u`"]),
        (
            "handle_token",
            "a/b".into(),
            INVALID,
            &["`handle_token`", "64"],
        ),
        ("format", "text".into(), INVALID, &["`format`"]),
        ("area", "kitchen".into(), INVALID, &["`area`", "provider"]),
        (
            "truncate",
            "newest".into(),
            INVALID,
            &["`truncate`", "`oldest`"],
        ),
        ("truncate", "oldest".into(), INVALID, &["`conversation`"]),
        (
            "conversation",
            "c".into(),
            "org.hobd.Hob1.Error.ConversationNotFound",
            &["conversation"],
        ),
        (
            "response_schema",
            "{".into(),
            INVALID,
            &["`response_schema`", "JSON"],
        ),
        ("response_schema", "7".into(), INVALID, &["an object"]),
        ("class", "shout".into(), INVALID, &["shout", "voice"]),
        (
            "model",
            "nothing-like-it".into(),
            NOT_FOUND,
            &["nothing-like-it"],
        ),
    ];
    for (key, value, expected, parts) in cases {
        let options = Options::from([(key, value)]);
        let (name, text) = caller.ask("hi", options).await.unwrap_err();
        assert_eq!(name, expected, "{key}: {text}");
        for part in parts {
            assert!(text.contains(part), "{key}: {text} lacks {part}");
        }
    }
    still_answers(&caller).await;
}

#[tokio::test]
async fn a_text_beyond_the_bound_is_refused_and_at_the_bound_is_not() {
    let daemon = Setup::fake()
        .toml("[engine]\nn_ctx = 16384")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let (name, text) = caller.ask(&long, Options::new()).await.unwrap_err();
    assert_eq!(name, TOO_LARGE);
    assert!(text.contains("`text`") && text.contains("65536"), "{text}");
    let longest = "sixteen letters ".repeat(TEXT_BYTES_MAX / 16);
    let options = Options::from([("max_tokens", Variant::from(3_u32))]);
    let (reply, details) = caller.ask(&longest, options).await.unwrap();
    assert_eq!(reply, "sixteen letters sixteen ");
    // Each letter arrived: the fake engine counts words.
    assert_eq!(number(&details, "prompt_tokens"), 2 * 4096);
}

#[tokio::test]
async fn a_bad_conversation_is_refused() {
    let (_daemon, caller) = fake().await;
    let assistant = caller.assistant().await;
    let content = || Options::from([("content", Variant::from("hi"))]);
    let cases = [
        (vec![], "messages"),
        (vec![("robot", content())], "`robot`"),
        (vec![("user", Options::new())], "`content`"),
        (
            vec![("user", Options::from([("content", Variant::from(1_u32))]))],
            "`u`",
        ),
    ];
    for (messages, part) in cases {
        let refused = assistant.complete(&messages, Options::new()).await;
        let (name, text) = name_and_text(&refused.unwrap_err());
        assert_eq!(name, INVALID);
        assert!(text.contains(part), "{text} lacks {part}");
    }
    let options = Options::from([("system", Variant::from("x"))]);
    let refused = assistant.complete(&[("user", content())], options).await;
    assert_eq!(name_and_text(&refused.unwrap_err()).0, INVALID);
    still_answers(&caller).await;
}

#[tokio::test]
async fn a_token_in_use_is_refused_to_its_caller_alone() {
    let (daemon, caller) = fake().await;
    let other = Caller::on(daemon.bus()).await;
    let mut first = caller.stream("fake: slow 20 4000", "t", "text").await;
    let options = || Options::from([("handle_token", Variant::from("t"))]);
    let (name, text) = caller.ask("hi", options()).await.unwrap_err();
    assert_eq!(name, INVALID);
    assert!(text.contains("in use"), "{text}");
    other.ask("hi", options()).await.unwrap();
    first.request.cancel().await.unwrap();
    first.end().await;
    caller.ask("hi", options()).await.unwrap();
}

#[tokio::test]
async fn one_connection_can_not_have_more_than_its_share() {
    let daemon = Setup::fake()
        .toml("[limits]\nper_uid = 2")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let first = caller.stream("fake: slow 20 4000", "a", "text").await;
    let second = caller.stream("fake: slow 20 4000", "b", "text").await;
    let (name, text) = caller.ask("hi", Options::new()).await.unwrap_err();
    assert_eq!(name, "org.hobd.Hob1.Error.Busy");
    assert!(text.contains("(hint: "), "{text}");
    for mut streamed in [first, second] {
        streamed.request.cancel().await.unwrap();
        streamed.end().await;
    }
    nothing_active(&daemon).await;
    still_answers(&caller).await;
}

#[tokio::test]
async fn a_prompt_beyond_the_context_tells_both_counts() {
    let daemon = Setup::fake_load("n_ctx 300").bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let words = "word ".repeat(1234);
    let (name, text) = caller.ask(&words, Options::new()).await.unwrap_err();
    assert_eq!(name, "org.hobd.Hob1.Error.ContextOverflow");
    assert!(text.contains("1234") && text.contains("300"), "{text}");
}

#[tokio::test]
async fn a_deadline_is_told_by_name() {
    let (_daemon, caller) = fake().await;
    let options = Options::from([("timeout_ms", Variant::from(300_u32))]);
    let asked = caller.ask("fake: slow 50 4000", options).await;
    let deadline = "org.hobd.Hob1.Error.DeadlineExceeded";
    assert_eq!(asked.unwrap_err().0, deadline);
    still_answers(&caller).await;
}

#[tokio::test]
async fn an_unknown_model_can_not_be_loaded_and_changes_nothing() {
    let (_daemon, caller) = fake().await;
    let load = |name: &'static str, options| (name, options);
    let none = Options::new;
    let refused = caller.admin("LoadModel", &load("no-such", none())).await;
    assert_eq!(name_and_text(&refused.unwrap_err()).0, NOT_FOUND);
    let refused = caller.admin("LoadModel", &load("", none())).await;
    assert_eq!(name_and_text(&refused.unwrap_err()).0, INVALID);
    let options = Options::from([("force", Variant::from(true))]);
    let refused = caller.admin("LoadModel", &load("fake", options)).await;
    let (name, text) = name_and_text(&refused.unwrap_err());
    assert!(name == INVALID && text.contains("`force`"), "{text}");
    still_answers(&caller).await;
}
