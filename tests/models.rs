//! Model files that must not be used, and models that come and go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::path::{Path, PathBuf};

use hob_api::model::ModelList;
use hob_api::status::State;
use hob_api::{ApiError, ErrorCode};
use hob_e2e::{Daemon, Gguf, Setup, binary, patiently};
use serde_json::json;

/// The file of the only model in a store.
fn model_file(store: &Path) -> PathBuf {
    let mut folders = vec![store.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "gguf") {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Tries to import `bytes`; it must fail, and leave the store as it was.
async fn import_refused(bytes: &[u8]) -> String {
    let setup = Setup::empty();
    let file = setup.home().join("candidate.gguf");
    std::fs::write(&file, bytes).unwrap();
    let mut command = setup.command(&binary("hob"));
    command.args(["models", "import"]).arg(&file);
    let output = patiently("hob", tokio::process::Command::from(command).output())
        .await
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    let mut command = setup.command(&binary("hob"));
    command.args(["models", "list", "--json"]);
    let list = command.output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(!list.contains("candidate"), "{list}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn files_that_are_no_models_are_not_imported() {
    let whole = Gguf::tiny("whole").bytes();
    assert!(import_refused(b"").await.contains("empty"));
    let garbage = import_refused(b"<!DOCTYPE html><html>404</html>").await;
    assert!(garbage.contains("not a GGUF file"), "{garbage}");
    let noise: Vec<u8> = (0..4096_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    assert!(!import_refused(&noise).await.is_empty());
    for length in [4, 30, whole.len() / 2, whole.len() - 1] {
        let cut = import_refused(&whole[..length]).await;
        assert!(cut.contains("truncated"), "{length} bytes: {cut}");
    }
    let mut huge = whole.clone();
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(!import_refused(&huge).await.is_empty());
    let split = Gguf::tiny("split").uint32("split.count", 3).bytes();
    let split = import_refused(&split).await;
    assert!(split.contains("split"), "{split}");
}

/// What a question gets while the model can't be used.
async fn refused(daemon: &Daemon, state: State) -> ApiError {
    let status = daemon.until(state).await;
    let problem = status.problem.expect("a problem");
    assert!(problem.hint.is_some(), "{problem:?}");
    let error = daemon.client().ask_whole("hello").await.any_error();
    assert_eq!(error.code, problem.code);
    error
}

#[tokio::test]
async fn a_file_spoilt_in_the_store_is_not_loaded() {
    type Spoil = fn(&mut Vec<u8>);
    let ways: [(&str, Spoil); 4] = [
        ("one bit", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("garbage", |bytes| bytes.fill(0xaa)),
        ("emptied", Vec::clear),
    ];
    for (what, spoil) in ways {
        let setup = Setup::fake();
        let file = model_file(setup.models_dir());
        let mut bytes = std::fs::read(&file).unwrap();
        spoil(&mut bytes);
        // The store may have made it read-only, or shared with another name.
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let daemon = setup.start().await;
        let error = refused(&daemon, State::Failed).await;
        assert_eq!(error.code, ErrorCode::ModelFailed, "{what}: {error:?}");
        assert_eq!(daemon.status().await.engine_losses, 0, "{what}");
    }
}

#[tokio::test]
async fn without_a_model_the_hint_is_how_to_get_one() {
    let daemon = Setup::empty().start().await;
    let error = refused(&daemon, State::NoModel).await;
    assert!(
        error
            .hint
            .as_deref()
            .unwrap_or_default()
            .contains("hob models"),
        "{error:?}"
    );
    let models: ModelList = daemon.client().get("/v1/models").await.json();
    assert_eq!(models.data, []);
}

#[tokio::test]
async fn a_model_that_is_not_installed_is_named() {
    let daemon = Setup::empty()
        .fake_model("other", "")
        .toml("model = \"absent\"")
        .start()
        .await;
    let error = refused(&daemon, State::NoModel).await;
    assert!(error.message.contains("absent"), "{error:?}");
}

#[tokio::test]
async fn a_model_installed_later_is_found_without_a_restart() {
    let daemon = Setup::empty().toml("model = \"late\"").start().await;
    refused(&daemon, State::NoModel).await;
    let file = daemon.home().join("late.gguf");
    std::fs::write(&file, Gguf::tiny("late").bytes()).unwrap();
    let mut hob = daemon.hob();
    hob.args(["models", "import"])
        .arg(&file)
        .args(["--name", "late"]);
    assert!(hob.output().unwrap().status.success());
    let answer = daemon.client().ask("here now").await.answer().await;
    assert_eq!(answer.text, "here now");
}

#[tokio::test]
async fn what_llama_cpp_refuses_costs_an_engine_and_no_more() {
    // Well-formed for the pre-parser, and no model for llama.cpp.
    let daemon = Setup::empty()
        .install("hollow", &Gguf::tiny("hollow").bytes())
        .toml("model = \"hollow\"")
        .with_real_engine()
        .start()
        .await;
    let error = refused(&daemon, State::Failed).await;
    assert_eq!(error.code, ErrorCode::ModelFailed, "{error:?}");
    // It said so; it did not crash.
    assert_eq!(daemon.status().await.engine_losses, 0);
}

#[tokio::test]
async fn models_are_switched_unloaded_and_loaded_again() {
    let daemon = Setup::fake().fake_model("other", "").ready().await;
    let client = daemon.client();
    let first = daemon.engine_pid().await;

    let mut running = client.ask("fake: slow 50 1000").await;
    running.first_delta().await;
    let reply = client
        .post("/hob/v1/load", &json!({"model": "other"}))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = running.answer().await;
    assert_eq!(answer.error().code, ErrorCode::Cancelled);
    let status = daemon.until_ready().await;
    assert_eq!(
        status.model.map(|model| model.name).as_deref(),
        Some("other")
    );
    assert_ne!(daemon.engine_pid().await, first);

    let body = json!({"model": "fake", "messages": [{"role": "user", "content": "hello"}]});
    let reply = client.post("/v1/chat/completions", &body).await;
    reply.error(404, ErrorCode::ModelNotFound);

    let reply = client.post("/hob/v1/unload", &json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    daemon
        .until_status("the engine is gone", |status| {
            status.state == State::Sleeping && status.engine.is_none()
        })
        .await;
    let answer = client.ask("wake up").await.answer().await;
    assert_eq!(answer.text, "wake up");
    assert_eq!(answer.done().model, "other");
    assert_eq!(daemon.status().await.engine_losses, 0);

    let reply = client
        .post("/hob/v1/load", &json!({"model": "absent"}))
        .await;
    reply.error(404, ErrorCode::ModelNotFound);
}

#[tokio::test]
async fn a_model_that_is_removed_while_it_is_loaded_is_said_to_answer_still() {
    let daemon = Setup::fake().fake_model("other", "").ready().await;
    let remove = |name: &'static str| {
        let output = daemon
            .hob()
            .args(["models", "remove", name, "--yes"])
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(remove("other"), "");
    let said = remove("fake");
    assert!(said.contains("hobd answers with fake until"), "{said}");
    let answer = daemon.client().ask("hello").await.answer().await;
    assert_eq!(answer.text, "hello");
}

#[tokio::test]
async fn a_model_without_a_chat_template_completes_text_only() {
    let daemon = Setup::fake_load("no-chat").ready().await;
    let client = daemon.client();
    let reply = client.ask_whole("hello").await;
    let error = reply.error(400, ErrorCode::Unsupported);
    assert!(error.message.contains("template"), "{error:?}");
    let reply = client
        .post("/v1/completions", &json!({"prompt": "go on"}))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}
