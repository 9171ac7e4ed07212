//! Folders that can't be written.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hob_api::ErrorCode;
use hob_api::conversation::Conversation;
use hob_e2e::{Answer, Client, Setup, ran_as_root};
use serde_json::json;

const PATH: &str = "/hob/v1/conversations";

/// A folder that nobody may write to, as long as this lives.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn make(folder: &Path) -> Self {
        set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
        Self(folder.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        // Or the tests' own folders could not be removed.
        let _ = set_permissions(&self.0, Permissions::from_mode(0o755));
    }
}

async fn ask(client: &Client, id: &str, question: &str) -> Answer {
    let fields = json!({"conversation": id});
    client.ask_with(question, &fields).await.answer().await
}

#[tokio::test]
async fn from_a_read_only_folder_of_conversations_answers_go_on() {
    let mut daemon = Setup::fake().bound_by_modes().ready().await;
    let client = daemon.client();
    let opened: Conversation = client.post(PATH, &json!({})).await.json();
    ask(&client, &opened.id, "one").await.done();
    daemon.stop().await;
    let read_only = ReadOnly::make(&daemon.home().join("data/hob/conversations"));
    daemon.restart().await;
    daemon.until_ready().await;

    let answer = ask(&client, &opened.id, "two").await;
    assert_eq!(answer.text, "two");
    let kept = answer.done().kept.clone().unwrap();
    assert!(!kept.stored && kept.store_problem.is_some(), "{kept:?}");
    assert!(daemon.status().await.conversations.problem.is_some());
    let refused = client.post(PATH, &json!({})).await;
    refused.error(503, ErrorCode::NotReady);
    let told = client.get(&format!("{PATH}/{}", opened.id)).await;
    assert!(told.text().contains("one"), "{}", told.text());
    drop(read_only);
}

#[tokio::test]
async fn from_a_read_only_disk_all_answers_come_and_what_was_said_can_be_read() {
    if ran_as_root("disk::from_a_read_only_disk_all_answers_come_and_what_was_said_can_be_read") {
        return;
    }
    let mut daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let opened: Conversation = client.post(PATH, &json!({})).await.json();
    ask(&client, &opened.id, "one").await.done();
    daemon.stop().await;
    for folder in ["data", "state", "cache", "config"] {
        std::fs::create_dir_all(daemon.home().join(folder)).unwrap();
    }
    daemon.mount_read_only(["data", "state", "cache", "config"]);
    daemon.restart().await;
    daemon.until_ready().await;

    // Root may write whatever the mode says, but not here.
    let seen = format!("/proc/{}/root{}", daemon.pid(), daemon.home().display());
    let written = std::fs::write(Path::new(&seen).join("data/new"), "");
    let error = written.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let answer = ask(&client, &opened.id, "two").await;
    let kept = answer.done().kept.clone().unwrap();
    assert!(!kept.stored && kept.store_problem.is_some(), "{kept:?}");
    let told = client.get(&format!("{PATH}/{}", opened.id)).await;
    assert!(told.text().contains("one"), "{}", told.text());
    let pin = json!({"messages": [{"role": "system", "content": "Be brief."}]});
    let pinned = client.put("/hob/v1/pins/persona", &pin).await;
    pinned.error(500, ErrorCode::Internal);
    assert_eq!(client.ask("three").await.answer().await.text, "three");
}

#[tokio::test]
async fn hobd_needs_to_write_nothing_but_its_socket() {
    let setup = Setup::fake().bound_by_modes();
    let data = setup.home().join("data");
    for folder in ["data", "state", "cache", "config", "run"] {
        std::fs::create_dir_all(setup.home().join(folder)).unwrap();
    }
    let read_only = [
        ReadOnly::make(setup.models_dir()),
        ReadOnly::make(&data),
        ReadOnly::make(&setup.home().join("state")),
        ReadOnly::make(&setup.home().join("cache")),
        ReadOnly::make(&setup.home().join("config")),
    ];
    let daemon = setup.ready().await;
    let client = daemon.client();
    assert_eq!(client.ask("hello").await.answer().await.text, "hello");
    let refused = client.post(PATH, &json!({})).await;
    refused.error(503, ErrorCode::NotReady);
    let status = daemon.status().await;
    assert!(status.conversations.problem.is_some(), "{status:?}");
    drop(read_only);
}
