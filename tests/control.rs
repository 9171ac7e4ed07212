//! A control vector beside a model: the real engine adds it, and a hobd that can't use it answers without.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::fs;

use hob_api::pin::{Pin, PinState};
use hob_api::status::{ControlStatus, State};
use hob_e2e::{Daemon, Setup, TEST_MODEL, eventually};
use hob_models::ModelName;
use hob_models::store::{Change, ControlVector, Store, Verification, Verified};
use serde_json::{Value, json};

fn name(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

/// Puts a vector beside an installed model that is as strong as what it is added to.
fn put(store: &Store, model: &str) -> ControlVector {
    let model = name(model);
    let open = store.open_verified(&model, &Verified::default()).unwrap();
    let same = Change {
        before: 5000,
        after: 5000,
    };
    let verified = Verification {
        verified: 1_764_201_600,
        contrast: "one answer against another".to_owned(),
        data_sha256: open.sha256,
        questions: 20,
        categories: vec!["Shoes".to_owned(), "Boots".to_owned()],
        text_loss_basis_points: 50,
        ambiguous: same,
        disambiguated: same,
    };
    let (layer, width) = (open.header.n_layer / 2, open.header.n_embd);
    let numbers = (0..width).map(|at| if at % 3 == 0 { 4.0 } else { -2.0 });
    let of = (open.sha256, &open.header);
    let vector = ControlVector::new(of, layer, numbers.collect(), verified).unwrap();
    store.keep_control_vector(&model, &vector).unwrap();
    vector
}

/// Loads the model again, and tells what the status then says of a vector.
async fn loaded(daemon: &Daemon, model: &str) -> ControlStatus {
    let body = json!({"model": model});
    let reply = daemon.client().post("/hob/v1/load", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    daemon.status().await.control_vector
}

async fn answer(daemon: &Daemon) -> String {
    let fields =
        json!({"temperature": 0, "repeat_penalty": 1, "max_tokens": 12, "cache_prompt": false});
    let question = "What is the capital of France?";
    daemon
        .client()
        .ask_with(question, &fields)
        .await
        .answer()
        .await
        .text
}

fn shown(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.hob().args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until the pin is ready and stored: how many were read, and how many restored.
async fn pinned(daemon: &Daemon) -> (u64, u64) {
    eventually("the pin is ready", async || {
        let pin: Pin = daemon.client().get("/hob/v1/pins/short").await.json();
        (pin.state == PinState::Ready && pin.saved).then_some(())
    })
    .await;
    let cache = daemon.status().await.cache;
    (cache.computed, cache.restored)
}

#[tokio::test]
async fn a_vector_beside_the_model_is_added_and_one_that_is_none_costs_no_answer() {
    let daemon = Setup::own()
        .toml(&format!("model = \"{TEST_MODEL}\""))
        .env("HOB_ENGINE_THREADS", "1")
        .ready()
        .await;
    let store = Store::open(daemon.models_dir());
    let path = store.control_path(&name(TEST_MODEL));
    let status = daemon.status().await.control_vector;
    assert_eq!(status.setting, "verified");
    assert_eq!((status.layer, &status.problem), (None, &None));
    let plain = answer(&daemon).await;
    let pin = json!({"messages": [{"role": "system", "content": "You are terse. ".repeat(20)}]});
    daemon.client().put("/hob/v1/pins/short", &pin).await;
    assert_eq!(pinned(&daemon).await, (1, 0));

    let vector = put(&store, TEST_MODEL);
    let status = loaded(&daemon, TEST_MODEL).await;
    assert_eq!((status.layer, status.problem), (Some(vector.layer()), None));
    assert_eq!(status.sha256, vector.digest().to_string());
    let steered = answer(&daemon).await;
    assert_ne!(steered, plain);
    // Nothing that was computed without it is gone on from.
    assert_eq!(pinned(&daemon).await, (2, 0));
    assert!(shown(&daemon, &["status"]).contains("added behind layer 15"));
    let show = shown(&daemon, &["models", "show", TEST_MODEL]);
    assert!(show.contains("50.0 % (50.0 % without)"), "{show}");
    let show = shown(&daemon, &["models", "show", TEST_MODEL, "--json"]);
    let show: Value = serde_json::from_str(&show).unwrap();
    assert_eq!(show["control_vector"]["sha256"], status.sha256);
    assert_eq!(show["control_vector"]["problem"], Value::Null);
    // The same one finds what was computed with it.
    loaded(&daemon, TEST_MODEL).await;
    assert_eq!(pinned(&daemon).await, (2, 1));

    // What is damaged, or of another file, is told of and not added; once, however often it is loaded.
    let whole = fs::read_to_string(&path).unwrap();
    let own = vector.model_sha256().to_string();
    let stale = whole.replacen(&own, &"07".repeat(32), 1);
    for (text, words, loads) in [
        (&whole[..900], "is damaged", 2),
        (&stale, "another file", 1),
    ] {
        fs::write(&path, text).unwrap();
        for _ in 0..loads {
            let status = loaded(&daemon, TEST_MODEL).await;
            assert_eq!((status.layer, status.sha256.as_str()), (None, ""));
            assert!(status.problem.unwrap().contains(words));
        }
        assert_eq!(answer(&daemon).await, plain);
        let show = shown(&daemon, &["models", "show", TEST_MODEL]);
        assert!(show.contains(words), "{show}");
        assert!(shown(&daemon, &["status"]).contains(words));
    }
    let told = daemon.log().matches("without its control vector").count();
    assert_eq!(told, 2);

    for words in ["any more", "no control vector"] {
        let removed = ["fairness", "mitigate", TEST_MODEL, "--remove"];
        assert!(shown(&daemon, &removed).contains(words), "{words}");
        assert!(!path.exists());
    }
    let status = loaded(&daemon, TEST_MODEL).await;
    assert_eq!((status.layer, status.problem), (None, None));
    assert_eq!(answer(&daemon).await, plain);
}

#[tokio::test]
async fn none_is_added_where_the_setting_says_so() {
    let setup = Setup::own()
        .toml(&format!("model = \"{TEST_MODEL}\""))
        .env("HOB_ENGINE_THREADS", "1")
        .env("HOB_ENGINE_CONTROL_VECTOR", "off");
    let store = Store::open(setup.models_dir());
    put(&store, TEST_MODEL);
    let daemon = setup.ready().await;
    let status = daemon.status().await.control_vector;
    assert_eq!((status.setting.as_str(), status.layer), ("off", None));
    let off = answer(&daemon).await;
    let path = store.control_path(&name(TEST_MODEL));
    let aside = daemon.home().join("aside");
    fs::rename(&path, &aside).unwrap();
    loaded(&daemon, TEST_MODEL).await;
    assert_eq!(answer(&daemon).await, off);
    // It goes with its model.
    fs::copy(&aside, &path).unwrap();
    shown(&daemon, &["models", "remove", TEST_MODEL, "--yes"]);
    assert!(!path.exists());
}

#[tokio::test]
async fn an_engine_that_refuses_a_vector_is_started_again_without() {
    goes_on_without("no-control", 0, "was told to fail").await;
}

#[tokio::test]
async fn an_engine_that_is_lost_while_it_loads_with_a_vector_is_started_again_without() {
    goes_on_without(
        "control-crash",
        1,
        "was lost while the model was loaded with it",
    )
    .await;
}

async fn goes_on_without(load: &str, losses: u64, words: &str) {
    let setup = Setup::fake_load(load);
    let store = Store::open(setup.models_dir());
    put(&store, "fake");
    let daemon = setup.ready().await;
    for _ in 0..2 {
        let status = daemon.status().await;
        assert_eq!((status.state, status.engine_losses), (State::Ready, losses));
        let control = status.control_vector;
        assert_eq!(control.layer, None);
        let problem = control.problem.unwrap();
        assert!(problem.contains(words), "{problem}");
        daemon.assert_serves().await;
        // Sleep ends what the engine knew, and not what hobd does.
        daemon.client().post("/hob/v1/unload", &json!({})).await;
        daemon.until(State::Sleeping).await;
        daemon.assert_serves().await;
    }
    let told = daemon.log().matches("without its control vector").count();
    assert_eq!(told, 1);
    // Who loads a model has it tried once more.
    assert_eq!(loaded(&daemon, "fake").await.layer, None);
}
