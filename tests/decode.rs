//! Home calls that the real models write, through the real doors: they exist, whatever the home and
//! whatever is said; and what a home has in common is read once.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::fs;
use std::path::{Path, PathBuf};

use hob_api::ErrorCode;
use hob_api::home::{Call, Decoded, HomeAnswer, Outcome};
use hob_api::pin::{PinList, PinState};
use hob_api::status::Status;
use hob_e2e::{Daemon, Setup, eventually, ran_as_root};
use serde_json::{Value, json};

#[path = "decode/random.rs"]
mod random;

const OTHER: u32 = 54_321;
const SENTENCES: [&str; 3] = [
    "turn off the desk lamp",
    "set the heating to 21 degrees",
    "what is the capital of France",
];

/// The house of the examples.
fn house() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/house.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

async fn register(daemon: &Daemon, body: &Value) {
    let client = daemon.client();
    let reply = client.put("/hob/v1/providers/house", body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

async fn say(daemon: &Daemon, text: &str, without: &[&str]) -> HomeAnswer {
    let body = json!({"text": text, "reader": "model", "without": without});
    daemon.client().post("/hob/v1/home", &body).await.json()
}

fn decoded(answer: &HomeAnswer) -> &Decoded {
    answer.decoded.as_ref().unwrap()
}

fn cached(answer: &HomeAnswer) -> u32 {
    decoded(answer).usage.prompt_tokens_details.cached_tokens
}

fn snapshots(daemon: &Daemon) -> Vec<PathBuf> {
    let folder = daemon.home().join("cache/hob/snapshots");
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Waits until one pin is ready and its snapshot, and no other, lies on the disk.
async fn pinned(daemon: &Daemon) -> PathBuf {
    eventually("the home's pin is ready and saved", async || {
        let cache = daemon.status().await.cache;
        match snapshots(daemon).as_slice() {
            [one] if cache.pins_ready == 1 && one.extension().unwrap() == "snap" => {
                Some(one.clone())
            }
            _ => None,
        }
    })
    .await
}

/// Whether a call is right by the definition, found without any of hob's own checks.
fn exists(home: &Value, call: &Call) -> bool {
    let named = |list: &str, key: &str, name: &str| {
        let mut items = home[list].as_array().unwrap().iter();
        items.find(|item| item[key] == name).cloned()
    };
    let Some(tool) = named("tools", "name", &call.tool) else {
        return false;
    };
    let contains = |list: &Value, value: &Value| {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.is_empty() || list.contains(value)
    };
    let mut ids = call.targets.clone();
    ids.sort_unstable();
    ids.dedup();
    let acts = call.targets.iter().all(|id| {
        let target = named("targets", "id", id);
        target.is_some_and(|target| contains(&tool["acts_on"]["kinds"], &target["kind"]))
    });
    let some = call.targets.is_empty() == tool["acts_on"].is_null();
    let schema = &tool["parameters"];
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let given = |name: &Value| call.arguments.contains_key(name.as_str().unwrap());
    let fits = call.arguments.iter().all(|(name, value)| {
        let property = &schema["properties"][name];
        let value = serde_json::to_value(value).unwrap();
        let typed = match property["type"].as_str() {
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_i64(),
            Some("number") => value.is_number(),
            _ => false,
        };
        let number = value.as_f64();
        let least = property["minimum"].as_f64();
        let most = property["maximum"].as_f64();
        let within = number.is_none_or(|number| {
            least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
        });
        typed && within && contains(&property["enum"], &value)
    });
    acts && some && ids.len() == call.targets.len() && required.iter().all(given) && fits
}

fn assert_exists(home: &Value, answer: &HomeAnswer) {
    for call in answer.calls.iter().chain(&answer.alternatives) {
        assert!(exists(home, call), "{answer:?}\nin {home}");
    }
    assert_eq!(answer.calls.is_empty(), answer.outcome != Outcome::Call);
}

#[tokio::test]
async fn what_the_model_writes_exists_and_takes_fewer_steps_than_tokens() {
    let daemon = Setup::real().ready().await;
    register(&daemon, &house()).await;
    let (mut tokens, mut steps) = (0, 0);
    for text in SENTENCES {
        for without in [&[][..], &["narrowing"]] {
            let answer = say(&daemon, text, without).await;
            assert_exists(&house(), &answer);
            let decoded = decoded(&answer);
            assert_eq!(decoded.narrowed, without.is_empty());
            tokens += decoded.usage.completion_tokens;
            steps += decoded.usage.completion_tokens_details.forward_passes;
            println!("{text}: {}", decoded.text);
        }
    }
    println!("{tokens} tokens in {steps} steps");
    assert!(steps < tokens, "{steps} steps for {tokens} tokens");
    let client = daemon.client();
    let body = json!({"text": "lights off", "reader": "tea leaves"});
    let reply = client.post("/hob/v1/home", &body).await;
    reply.error(400, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn without_a_model_words_are_read_and_a_model_is_missed() {
    let daemon = Setup::empty().start().await;
    register(&daemon, &house()).await;
    let body = json!({"text": SENTENCES[0]});
    let reply = daemon.client().post("/hob/v1/home", &body).await;
    let answer: HomeAnswer = reply.json();
    assert_eq!((answer.outcome, answer.decoded), (Outcome::Call, None));
    let body = json!({"text": SENTENCES[0], "reader": "model"});
    let reply = daemon.client().post("/hob/v1/home", &body).await;
    reply.error(404, ErrorCode::ModelNotFound);
}

#[tokio::test]
async fn a_home_that_was_asked_about_is_restored_after_a_restart() {
    let mut daemon = Setup::real().ready().await;
    register(&daemon, &house()).await;
    // Until a model is asked, nothing is read.
    assert_eq!(daemon.status().await.cache.pins_ready, 0);
    let before = say(&daemon, SENTENCES[0], &[]).await;
    let snapshot = pinned(&daemon).await;
    let again = say(&daemon, SENTENCES[0], &[]).await;
    assert_eq!(decoded(&again).text, decoded(&before).text);
    // Its owner sees it, also where that is hobd's own user, whose other pins serve everybody.
    let pins: PinList = daemon.client().get("/hob/v1/pins").await.json();
    let names: Vec<&str> = pins.data.iter().map(|pin| pin.name.as_str()).collect();
    assert_eq!(names, ["provider:house"]);

    // The same home is registered again by its hub, and nothing is read anew.
    daemon.stop().await;
    daemon.restart().await;
    daemon.until_ready().await;
    register(&daemon, &house()).await;
    let restored = |status: &Status| status.cache.pins_ready == 1;
    let status = daemon.until_status("the home is restored", restored).await;
    assert_eq!((status.cache.restored, status.cache.computed), (1, 0));
    let after = say(&daemon, SENTENCES[0], &[]).await;
    assert_eq!(decoded(&after).text, decoded(&before).text);
    let (cached, all) = (cached(&after), decoded(&after).usage.prompt_tokens);
    assert!(2 * cached > all, "{cached} of {all} tokens were cached");
    assert_eq!(daemon.status().await.cache.written_bytes, 0);

    // Another home is read once it stays as it is, and the old one's snapshot goes.
    for name in ["Tall Lamp", "Small Lamp", "Green Lamp"] {
        let target = json!({"id": "light.desk", "name": name, "kind": "light"});
        let path = "/hob/v1/providers/house/targets";
        daemon
            .client()
            .patch(path, &json!({"changed": [target]}))
            .await;
    }
    eventually("the new home's snapshot", async || {
        let new = snapshots(&daemon);
        (new.len() == 1 && !new.contains(&snapshot)).then_some(())
    })
    .await;
    let cache = daemon.status().await.cache;
    assert_eq!((cache.restored, cache.computed), (1, 1), "{cache:?}");

    // What is gone takes no memory, and can come back.
    daemon.client().delete("/hob/v1/providers/house").await;
    let gone = |status: &Status| status.cache.pins == 0;
    daemon.until_status("the home's pin goes", gone).await;
    assert_eq!(snapshots(&daemon).len(), 1);
}

#[tokio::test]
async fn nobody_gets_what_was_read_of_anothers_home() {
    if ran_as_root("nobody_gets_what_was_read_of_anothers_home") {
        return;
    }
    let daemon = Setup::real().ready().await;
    daemon.open_to_everybody();
    register(&daemon, &house()).await;
    say(&daemon, SENTENCES[0], &[]).await;
    pinned(&daemon).await;
    let own = cached(&say(&daemon, SENTENCES[0], &[]).await);
    let other = daemon.client().of_uid(OTHER);
    other.put("/hob/v1/providers/house", &house()).await;
    let body = json!({"text": SENTENCES[0], "reader": "model"});
    let answer: HomeAnswer = other.post("/hob/v1/home", &body).await.json();
    // The question wakes the asker's own pin, of which a few pieces may have been read before it
    // arrives. The other user's pin would have served nearly all of the prompt.
    let foreign = cached(&answer);
    assert!(foreign < own / 2, "{foreign} of {own}");
    // A home's pin is seen by its owner, and is no pin to be removed.
    let pins: PinList = eventually("the other home's pin is ready", async || {
        let pins: PinList = other.get("/hob/v1/pins").await.json();
        let ready = |pins: &PinList| pins.data.iter().all(|p| p.state == PinState::Ready);
        (pins.data.len() == 1 && ready(&pins)).then_some(pins)
    })
    .await;
    assert_eq!(pins.data[0].name, "provider:house");
    let cache = daemon.status().await.cache;
    assert_eq!((cache.restored, cache.computed), (0, 2), "{cache:?}");
    let reply = other.delete("/hob/v1/pins/provider:house").await;
    reply.error(400, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn random_homes_get_calls_that_exist_from_both_models() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    for model in ["smollm2-135m-instruct", "gemma-3-270m"] {
        let reply = client.post("/hob/v1/load", &json!({"model": model})).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut calls = 0;
        for seed in 0..8 {
            let mut random = random::Random::new(seed);
            let home = random.home();
            register(&daemon, &home).await;
            for without in [&[][..], &["narrowing"]] {
                let answer = say(&daemon, &random.utterance(), without).await;
                assert_eq!(decoded(&answer).model, model);
                assert_exists(&home, &answer);
                calls += answer.calls.len() + answer.alternatives.len();
            }
        }
        assert!(calls > 0, "{model} never calls anything");
    }
}
