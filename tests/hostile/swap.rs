//! Models that change under hobd: replaced under the same name, or rewritten in place.

use std::path::PathBuf;

use hob_api::ErrorCode;
use hob_api::status::{State, Status};
use hob_e2e::{Daemon, Setup};

use super::idle;

fn file(daemon: &Daemon) -> PathBuf {
    daemon.models_dir().join("fake.gguf")
}

fn sha(status: &Status) -> String {
    status.model.as_ref().unwrap().sha256.clone()
}

/// Other bytes of the same length under the same name, as a new file.
fn replace(daemon: &Daemon) {
    let file = file(daemon);
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
}

/// Other bytes of the same length in the same file.
fn rewrite(daemon: &Daemon) {
    let file = file(daemon);
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let mut permissions = std::fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&file, permissions).unwrap();
    std::fs::write(&file, bytes).unwrap();
}

async fn assert_refused(daemon: &Daemon) {
    let reply = daemon.client().ask_whole("hello").await;
    reply.error(500, ErrorCode::ModelFailed);
    let status = daemon.until(State::Failed).await;
    assert_eq!(status.engine_losses, 0);
    assert!(status.engine.is_none(), "{status:?}");
}

#[tokio::test]
async fn a_model_replaced_while_it_is_loaded_stays_the_one_that_was_verified() {
    let daemon = Setup::fake().ready().await;
    let before = sha(&daemon.status().await);
    replace(&daemon);
    daemon.assert_serves().await;
    assert_eq!(sha(&daemon.status().await), before);

    // The new file is not the one that was installed, so it is not loaded.
    let client = daemon.client();
    client.post("/hob/v1/unload", &serde_json::json!({})).await;
    daemon.until(State::Sleeping).await;
    assert_refused(&daemon).await;
}

#[tokio::test]
async fn a_model_rewritten_while_it_is_loaded_answers_no_more() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let mut running = client.ask("fake: slow 20 50").await;
    running.first_delta().await;
    rewrite(&daemon);
    // What was made of two files is no answer.
    let answer = running.answer().await;
    let error = answer.error();
    assert_eq!(error.code, ErrorCode::ModelFailed, "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    assert_refused(&daemon).await;
    idle(&daemon).await;
}

#[tokio::test]
async fn a_model_rewritten_while_it_is_idle_or_asleep_is_not_used() {
    for asleep in [false, true] {
        let daemon = Setup::fake().ready().await;
        if asleep {
            let client = daemon.client();
            client.post("/hob/v1/unload", &serde_json::json!({})).await;
            daemon.until(State::Sleeping).await;
        }
        rewrite(&daemon);
        assert_refused(&daemon).await;
    }
}
