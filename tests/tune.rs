//! `hob tune`: measuring the board with the real engine, who may, what becomes of everybody else, and
//! what hobd does with what was found out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hob_api::ErrorCode;
use hob_api::status::State;
use hob_api::tuning::{Speed, Trial, TuneEvent, Tuning, TuningReply};
use hob_e2e::{Daemon, Setup, TEST_MODEL, eventually, ran_as_root};
use serde_json::json;

const PATH: &str = "/hob/v1/tuning";

/// Where hobd keeps it below a user's home.
fn file(home: &Path) -> PathBuf {
    home.join("state/hob/tuning/tuning.json")
}

/// What somebody measured, on a board that is much faster than any.
fn measured() -> Tuning {
    let speed = Speed {
        read_per_second: 1e6,
        written_per_second: 1e6,
    };
    Tuning {
        version: "0.0.1".to_owned(),
        model: TEST_MODEL.to_owned(),
        sha256: String::new(),
        time: 1,
        threads: Some(1),
        weights: Some("copied".to_owned()),
        speed,
        complete: true,
        trials: vec![Trial {
            threads: 1,
            weights: "copied".to_owned(),
            kv_type: "f16".to_owned(),
            speed,
        }],
        checked: None,
    }
}

fn store(home: &Path, tuning: &Tuning) {
    let path = file(home);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, serde_json::to_vec(tuning).unwrap()).unwrap();
}

fn stored(home: &Path) -> Tuning {
    serde_json::from_slice(&fs::read(file(home)).unwrap()).unwrap()
}

fn hob(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.hob().args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn config(setup: &Setup) -> String {
    let output = setup.hobd().arg("--check-config").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    text(&output) + &said
}

async fn known(daemon: &Daemon) -> Option<Tuning> {
    let reply: TuningReply = daemon.client().get(PATH).await.json();
    reply.tuning
}

#[tokio::test]
async fn a_board_is_measured_and_loads_models_as_was_best() {
    // Tests have one thread, set; here it is for hobd to choose.
    let setup = Setup::real().env("HOB_ENGINE_THREADS", "");
    let daemon = setup.ready().await;
    let mut tuning = daemon.hob();
    tuning.args(["tune", "--json"]).stdout(Stdio::piped());
    let child = tuning.stderr(Stdio::piped()).spawn().unwrap();
    let client = daemon.client();
    // It does not begin while there is anything to answer, so this asks for what there is not.
    eventually("the measurement begins", async || {
        let none = json!({"model": "none"});
        let reply = client.post("/hob/v1/load", &none).await;
        (reply.status == 429).then_some(())
    })
    .await;
    // Whoever asks meanwhile is told so, whatever is asked.
    let busy = client.ask_whole("Hello").await;
    let error = busy.error(429, ErrorCode::Busy);
    assert!(error.message.contains("measures this board"), "{error}");
    assert!(error.retry_after_ms.is_some());
    let embedding = json!({"input": "hello"});
    for (path, body) in [
        ("/v1/embeddings", &embedding),
        ("/hob/v1/unload", &json!({})),
        ("/hob/v1/load", &json!({"model": "default"})),
        (PATH, &json!({})),
    ] {
        client.post(path, body).await.error(429, ErrorCode::Busy);
    }
    let output = child.wait_with_output().unwrap();
    let tuning: Tuning = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(tuning, stored(daemon.home()));
    assert_eq!(known(&daemon).await.as_ref(), Some(&tuning));
    let chosen = tuning
        .trials
        .iter()
        .find(|trial| trial.speed == tuning.speed);
    let chosen = chosen.expect("what was chosen was tried");
    let kinds: Vec<_> = tuning
        .trials
        .iter()
        .map(|trial| trial.kv_type.as_str())
        .collect();
    if tuning.complete {
        assert!(
            kinds.contains(&"q8_0") && kinds.contains(&"q4_0"),
            "{kinds:?}"
        );
    }
    assert_eq!(chosen.kv_type, "f16");
    for trial in &tuning.trials {
        assert!(trial.speed.read_per_second > 0.0, "{trial:?}");
        assert!(trial.speed.written_per_second > 0.0, "{trial:?}");
    }
    // In force at once, and nobody was lost.
    let status = daemon.until_ready().await;
    assert_eq!(status.engine.unwrap().threads, chosen.threads);
    assert_eq!(status.memory.weights, chosen.weights);
    assert_eq!(status.engine_losses, 0);
    let few = json!({"max_tokens": 2});
    client.ask_with("Hello", &few).await.answer().await.done();
    assert!(text(&hob(&daemon, &["doctor"])).contains("✓ tuning"));
    assert!(text(&hob(&daemon, &["tune", "--show"])).contains("THREADS"));
}

#[tokio::test]
async fn what_was_tried_until_somebody_left_counts() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let mut records = client
        .stream(PATH, &json!({}), "application/x-ndjson")
        .await;
    loop {
        match records.json().await.expect("a record") {
            TuneEvent::Trying { .. } => {}
            TuneEvent::Tried(_) => break,
            other => panic!("{other:?}"),
        }
    }
    drop(records);
    let tuning = eventually("the measurement ends", async || known(&daemon).await).await;
    assert!(!tuning.complete);
    assert!((1..=2).contains(&tuning.trials.len()), "{tuning:?}");
    eventually("hobd serves again", async || {
        let reply = client.ask_whole("Hello").await;
        (reply.status == 200).then_some(())
    })
    .await;
}

#[test]
fn what_was_measured_is_beneath_what_somebody_sets() {
    let setup = Setup::empty();
    assert!(config(&setup).contains("threads = 0"));
    store(setup.home(), &measured());
    let shown = config(&setup);
    let has = |shown: &str, value: &str, source: &str| {
        let mut lines = shown.lines();
        lines.any(|line| line.starts_with(value) && line.contains(source))
    };
    assert!(has(&shown, "threads = 1 ", "# hob tune"), "{shown}");
    assert!(has(&shown, "weights = \"copied\"", "# hob tune"), "{shown}");
    let setup = setup.toml("[engine]\nthreads = 3");
    let shown = config(&setup);
    assert!(has(&shown, "threads = 3 ", "hobd.toml"), "{shown}");
    assert!(has(&shown, "weights = \"copied\"", "# hob tune"), "{shown}");
    // What is no such file is as none, and hobd says so.
    fs::write(file(setup.home()), "{\"threads\": 5000}").unwrap();
    let shown = config(&setup);
    assert!(has(&shown, "weights = \"auto\"", "# default"), "{shown}");
    assert!(shown.contains("tuning.json: is not used"), "{shown}");
}

#[tokio::test]
async fn a_reset_forgets_it_at_once() {
    let setup = Setup::real();
    store(setup.home(), &measured());
    let daemon = setup.ready().await;
    let status = daemon.status().await;
    assert_eq!(status.engine.unwrap().threads, 1);
    assert_eq!(status.memory.weights, "copied");
    assert!(status.tuning.is_some());
    assert!(hob(&daemon, &["tune", "--reset"]).status.success());
    assert_eq!(known(&daemon).await, None);
    assert!(!file(daemon.home()).exists());
    // SmolLM2's weights have no faster order.
    let loaded = "the model is loaded as hobd chooses";
    daemon
        .until_status(loaded, |status| {
            status.state == State::Ready && status.memory.weights == "mapped"
        })
        .await;
    let shown = hob(&daemon, &["tune", "--show"]);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
}

#[tokio::test]
async fn nobody_loses_an_answer_to_a_measurement() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let mut answer = client.ask("fake: slow 50 40").await;
    answer.first_delta().await;
    let refused = client.post(PATH, &json!({})).await;
    let error = refused.error(429, ErrorCode::Busy);
    assert!(error.message.contains("under way"), "{error}");
    client.delete(PATH).await.error(429, ErrorCode::Busy);
    answer.answer().await.done();
}

#[tokio::test]
async fn who_may_not_load_models_may_not_measure() {
    if ran_as_root("who_may_not_load_models_may_not_measure") {
        return;
    }
    let setup = Setup::fake();
    store(setup.home(), &measured());
    let daemon = setup.ready().await;
    daemon.open_to_everybody();
    for arguments in [&["tune"][..], &["tune", "--reset"]] {
        let mut command = daemon.hob();
        command.args(arguments);
        let mut other = Command::new("setpriv");
        other.args(["--reuid", "54321", "--clear-groups"]);
        other.arg(command.get_program()).args(command.get_args());
        other.env_clear();
        let given = command.get_envs();
        other.envs(given.filter_map(|(name, value)| Some((name, value?))));
        let output = other.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("only root and hobd's own user"), "{said}");
    }
    assert_eq!(stored(daemon.home()), measured());
    daemon.assert_serves().await;
}

#[tokio::test]
async fn an_upgrade_that_made_it_slower_is_told_of_once() {
    let mut daemon = Setup::real().ready().await;
    let status = daemon.status().await;
    let trial = Trial {
        threads: status.engine.unwrap().threads,
        weights: status.memory.weights,
        ..measured().trials.remove(0)
    };
    let before = Tuning {
        sha256: status.model.unwrap().sha256,
        threads: None,
        weights: None,
        trials: vec![trial],
        ..measured()
    };
    store(daemon.home(), &before);
    assert!(daemon.stop().await.success());
    daemon.restart().await;
    let told = "what is slower is told";
    let status = daemon
        .until_status(told, |status| {
            let tuning = status.tuning.as_ref();
            tuning.is_some_and(|tuning| tuning.checked.is_some())
        })
        .await;
    let checked = status.tuning.and_then(|tuning| tuning.checked).unwrap();
    assert!(checked.slower, "{checked:?}");
    assert_eq!(checked.version, status.version);
    assert!(daemon.log().contains("slower on this board"));
    let doctor = text(&hob(&daemon, &["doctor"]));
    assert!(doctor.contains("! tuning"), "{doctor}");
    // What was measured stays, so that the warning does too, until somebody measures anew.
    let kept = stored(daemon.home());
    assert_eq!((kept.version, kept.speed), (before.version, before.speed));
    assert_eq!(kept.checked, Some(checked));
}
