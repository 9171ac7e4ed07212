//! The D-Bus door: real hobd, a private dbus-daemon, and clients of four kinds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

#[path = "dbus/caller.rs"]
mod caller;
#[path = "dbus/conversations.rs"]
mod conversations;
#[path = "dbus/deciding.rs"]
mod deciding;
#[path = "dbus/door.rs"]
mod door;
#[path = "dbus/follow_ups.rs"]
mod follow_ups;
#[path = "dbus/fulfilment.rs"]
mod fulfilment;
#[path = "dbus/fulfilment_faults.rs"]
mod fulfilment_faults;
#[path = "dbus/homes.rs"]
mod homes;
#[path = "dbus/hostile.rs"]
mod hostile;
#[path = "dbus/hub.rs"]
mod hub;
#[path = "dbus/injection.rs"]
mod injection;
#[path = "dbus/pins.rs"]
mod pins;
#[path = "dbus/programs.rs"]
mod programs;
#[path = "dbus/refusals.rs"]
mod refusals;
#[path = "dbus/tools.rs"]
mod tools;

use futures_util::{FutureExt, StreamExt};
use hob_api::Event;
use hob_api::event::FinishReason;
use hob_e2e::{Daemon, Setup, TEST_MODEL, patiently};
use rustix::process::Signal;
use zbus::{MatchRule, MessageStream, Variant};

use crate::caller::{Caller, Options, number, text};

const EVERY_WIDTH: &str = "aé→😀 ";

/// Options of an answer that is the same every time.
fn repeatable<'a>() -> Options<'a> {
    Options::from([
        ("temperature", Variant::from(0.0)),
        ("seed", Variant::from(1_u32)),
        ("max_tokens", Variant::from(24_u32)),
    ])
}

async fn nothing_active(daemon: &Daemon) {
    daemon
        .until_status("no request is left", |status| {
            status.active == 0 && status.queued == 0
        })
        .await;
}

fn deltas(events: &[Event]) -> String {
    let text = |event: &Event| match event {
        Event::Delta { text } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[tokio::test]
async fn the_real_model_gives_the_same_answer_in_every_way() {
    let daemon = Setup::real().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let question = "What is a dew point?";

    let (reply, details) = caller.ask(question, repeatable()).await.unwrap();
    assert!(reply.chars().any(char::is_alphabetic), "{reply:?}");
    assert_eq!(text(&details, "model"), TEST_MODEL);
    let reason = text(&details, "finish_reason");
    assert!(reason == "stop" || reason == "length", "{reason}");
    assert!((1..=24).contains(&number(&details, "completion_tokens")));
    assert!(number(&details, "prompt_tokens") > number(&details, "cached_tokens"));
    for key in ["queue_ms", "prefill_ms", "decode_ms"] {
        assert!(f64::try_from(&details[key]).unwrap() >= 0.0, "{key}");
    }

    let assistant = caller.assistant().await;
    let (_, fd) = assistant.stream(question, repeatable()).await.unwrap();
    assert_eq!(caller::read_text(fd).await, reply);

    let messages = [("user", Options::from([("content", question.into())]))];
    let mut options = repeatable();
    options.insert("format", "events".into());
    let (_, fd) = assistant.complete(&messages, options).await.unwrap();
    let events = caller::read_events(fd).await;
    assert_eq!(deltas(&events), reply);
    assert!(matches!(events.last(), Some(Event::Done(_))));

    let schema = r#"{"type": "object", "properties": {"temperature": {"enum": [18, 19, 20, 21]}},
        "required": ["temperature"], "additionalProperties": false}"#;
    let mut options = repeatable();
    options.insert("response_schema", schema.into());
    let (reply, _) = caller.ask("How warm is it?", options).await.unwrap();
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert!((18..=21).contains(&reply["temperature"].as_u64().unwrap()));
    let options = Options::from([("response_schema", r#"{"enum": []}"#.into())]);
    let (name, text) = caller.ask("How warm is it?", options).await.unwrap_err();
    assert_eq!(name, "org.hobd.Hob1.Error.InvalidSchema", "{text}");
}

#[tokio::test]
async fn a_stream_carries_the_text_and_finished_the_rest() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let mut streamed = caller.stream("one two three", "t1", "text").await;
    assert_eq!(streamed.text().await, "one two three");
    let end = streamed.end().await;
    assert_eq!(end.outcome, 1);
    assert_eq!(text(&end.details, "finish_reason"), "stop");
    assert_eq!(text(&end.details, "model"), "fake");
    assert_eq!(number(&end.details, "completion_tokens"), 3);
    // The object is gone, and the token free again, as soon as Finished tells of the end.
    streamed.request.cancel().await.unwrap_err();
    let mut again = caller.stream("four", "t1", "text").await;
    assert_eq!(again.text().await, "four");
    assert_eq!(again.end().await.outcome, 1);
}

#[tokio::test]
async fn events_are_lines_of_json_and_the_last_is_done() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let question = format!("fake: repeat 40 {EVERY_WIDTH}x");
    let events = caller.stream(&question, "t", "events").await.events().await;
    assert_eq!(deltas(&events), format!("{EVERY_WIDTH}x").repeat(40));
    let terminal = events.iter().filter(|event| event.is_terminal()).count();
    assert_eq!(terminal, 1);
    let Some(Event::Done(done)) = events.last() else {
        panic!("the last event is {:?}", events.last());
    };
    assert_eq!(done.reason, FinishReason::Stop);
    assert_eq!(done.usage.completion_tokens, 40);
}

#[tokio::test]
async fn no_character_is_cut_wherever_the_reader_stops() {
    let daemon = Setup::fake()
        .toml("[sampling]\nmax_tokens = 4096")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let question = format!("fake: repeat 4000 {}", EVERY_WIDTH.repeat(20));
    let mut streamed = caller.stream(&question, "t", "text").await;
    streamed.started().await;
    streamed.request.cancel().await.unwrap();
    // The first byte is read; it was an ASCII letter.
    let text = streamed.text().await;
    assert!(text.chars().all(|c| EVERY_WIDTH.contains(c)), "{text:?}");
    let outcome = streamed.end().await.outcome;
    assert!(outcome == 2 || outcome == 1, "{outcome}");
}

#[tokio::test]
async fn the_request_reaches_the_engine_as_asked() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let options = Options::from([
        ("system", Variant::from("be brief")),
        ("max_tokens", Variant::from(7_u32)),
        ("temperature", Variant::from(0.5)),
        ("seed", Variant::from(11_i64)),
        ("stop", Variant::from(vec!["END"])),
    ]);
    let (reply, _) = caller.ask("fake: show", options).await.unwrap();
    let seen: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(seen["max_tokens"], 7);
    assert_eq!(seen["stop"][0], "END");
    assert_eq!(seen["sampling"]["temperature"], 0.5);
    assert_eq!(seen["sampling"]["seed"], 11);
    let messages = &seen["prompt"]["chat"];
    assert_eq!(messages[0]["role"], "system");
    assert_eq!(messages[0]["content"], "be brief");
    assert_eq!(messages[1]["role"], "user");
}

#[tokio::test]
async fn cancel_ends_a_request_for_good() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    for format in ["text", "events"] {
        let mut streamed = caller.stream("fake: slow 20 400", format, format).await;
        streamed.started().await;
        assert_eq!(streamed.request.position().await.unwrap(), 0);
        assert!((1..=3).contains(&streamed.request.state().await.unwrap()));
        streamed.request.cancel().await.unwrap();
        let end = streamed.end().await;
        assert_eq!(end.outcome, 2);
        assert_eq!(end.error(), "org.hobd.Hob1.Error.Cancelled");
        let rest = streamed.text().await;
        assert_eq!(format == "events", rest.contains(r#""code":"cancelled""#));
        nothing_active(&daemon).await;
    }
}

#[tokio::test]
async fn ask_can_be_cancelled_by_its_foreseeable_path() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let request = caller.request("mine").await;
    let options = Options::from([("handle_token", Variant::from("mine"))]);
    let cancel = async {
        hob_e2e::eventually("the request's object", async || request.cancel().await.ok()).await;
    };
    let (asked, ()) = tokio::join!(caller.ask("fake: slow 20 400", options), cancel);
    assert_eq!(asked.unwrap_err().0, "org.hobd.Hob1.Error.Cancelled");
    nothing_active(&daemon).await;
}

#[tokio::test]
async fn a_request_is_its_callers_alone() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let stranger = Caller::on(daemon.bus()).await;
    let rule = MatchRule::builder()
        .interface("org.hobd.Hob1.Request")
        .build()
        .unwrap();
    let mut overheard = MessageStream::for_match_rule(rule, &stranger.connection, None)
        .await
        .unwrap();

    let mut streamed = caller.stream("fake: slow 20 400", "t", "text").await;
    streamed.started().await;
    let path = streamed.request.inner().path().to_owned();
    let foreign = caller::RequestProxy::new(&stranger.connection, path)
        .await
        .unwrap();
    let refused = foreign.cancel().await.unwrap_err();
    let (name, words) = caller::name_and_text(&refused);
    assert_eq!(name, "org.freedesktop.DBus.Error.UnknownObject");
    // The very words for an object that does not exist, but for its path.
    let absent = caller.request("absent").await;
    let (_, absent_words) = caller::name_and_text(&absent.cancel().await.unwrap_err());
    assert_eq!(
        words.replace(foreign.inner().path().as_str(), "PATH"),
        absent_words.replace(absent.inner().path().as_str(), "PATH")
    );
    foreign.state().await.unwrap_err();
    assert_eq!(streamed.request.state().await.unwrap(), 3, "it goes on");

    streamed.request.cancel().await.unwrap();
    assert_eq!(streamed.end().await.outcome, 2);
    // Whatever the bus sent the stranger before this reply has arrived with it.
    stranger
        .assistant()
        .await
        .inner()
        .introspect()
        .await
        .unwrap();
    assert!(overheard.next().now_or_never().is_none());
}

#[tokio::test]
async fn who_leaves_the_bus_cancels_what_it_asked() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let stayer = Caller::on(daemon.bus()).await;
    let mut stays = stayer.stream("fake: slow 50 100", "t", "text").await;
    let streamed = caller.stream("fake: slow 50 4000", "t", "text").await;
    let assistant = caller.assistant().await;
    let ask =
        tokio::spawn(async move { assistant.ask("fake: slow 50 4000", Options::new()).await });
    daemon
        .until_status("three requests", |status| {
            status.active + status.queued == 3
        })
        .await;
    caller.connection.close().await.unwrap();
    daemon
        .until_status("the leaver's requests end", |status| {
            status.active + status.queued <= 1
        })
        .await;
    // The descriptor ends too, though its reader still holds it.
    streamed.read().await;
    ask.abort();
    assert_eq!(stays.text().await, "word ".repeat(100));
    let end = stays.end().await;
    assert_eq!(end.outcome, 1, "nobody else is harmed: {end:?}");
}

#[tokio::test]
async fn a_reader_that_closes_its_end_cancels() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let mut streamed = caller.stream("fake: slow 20 4000", "t", "text").await;
    streamed.started().await;
    streamed.reader.shutdown(std::net::Shutdown::Both).unwrap();
    let end = streamed.end().await;
    assert_eq!(end.outcome, 2);
    assert!(text(&end.details, "message").contains("closed"), "{end:?}");
    nothing_active(&daemon).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_holds_up_only_itself() {
    let daemon = Setup::fake()
        .toml("[limits]\nstall_timeout = \"1s\"\nmax_tokens = 4096\n[sampling]\nmax_tokens = 4096")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let flood = format!("fake: repeat 4000 {}", "x".repeat(1000));
    let mut streamed = caller.stream(&flood, "t", "text").await;
    let (reply, _) = caller.ask("hello", Options::new()).await.unwrap();
    assert_eq!(reply, "hello");
    assert_eq!(streamed.end().await.outcome, 2);
    nothing_active(&daemon).await;
    assert!(streamed.read().await.len() < 4_000_000);
}

#[tokio::test]
async fn a_lost_engine_is_told_by_name_and_costs_only_its_answers() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let lost = "org.hobd.Hob1.Error.EngineLost";
    let crash = "fake: crash after 3";
    let (name, words) = caller.ask(crash, Options::new()).await.unwrap_err();
    assert_eq!(name, lost);
    assert!(words.contains("(hint: "), "{words}");

    daemon.until_ready().await;
    let mut streamed = caller.stream(crash, "t", "events").await;
    let events = streamed.events().await;
    assert!(matches!(events.last(), Some(Event::Error { .. })));
    let end = streamed.end().await;
    assert_eq!((end.outcome, end.error().as_str()), (3, lost));

    daemon.until_ready().await;
    let (reply, _) = caller.ask("well again", Options::new()).await.unwrap();
    assert_eq!(reply, "well again");
}

#[tokio::test]
async fn nobody_is_left_without_a_reply_when_hobd_ends() {
    let mut daemon = Setup::fake()
        .toml("[limits]\nshutdown_grace = \"500ms\"")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let mut streamed = caller.stream("fake: slow 50 4000", "t", "events").await;
    streamed.started().await;
    let ask = caller.ask("fake: slow 50 4000", Options::new());
    let stop = async {
        daemon
            .until_status("both asked", |status| status.active + status.queued == 2)
            .await;
        daemon.signal(Signal::TERM);
        streamed.end().await
    };
    let (asked, end) = tokio::join!(ask, stop);
    assert!(asked.unwrap_err().0.starts_with("org.hobd.Hob1.Error."));
    assert_ne!(end.outcome, 1);
    assert!(patiently("hobd ends", daemon.ended()).await.success());
}
