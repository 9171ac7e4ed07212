//! A system's clock that jumps, by libfaketime between hobd and the kernel.

use std::fs;
use std::path::PathBuf;

use hob_api::conversation::{Conversation, ConversationList};
use hob_e2e::{Answer, Client, Daemon, Setup};
use serde_json::json;

const PATH: &str = "/hob/v1/conversations";
const YEAR: i64 = 365 * 24 * 3600;

/// The clock of a daemon, so many seconds beside the kernel's.
struct Clock(PathBuf);

impl Clock {
    fn jump(&self, seconds: i64) {
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap();
    let mut files =
        folders.map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let found = files.find(|file| file.exists());
    found.expect("libfaketime: install the package faketime")
}

fn with_clock(setup: Setup) -> (Setup, Clock) {
    let clock = Clock(setup.home().join("clock"));
    clock.jump(0);
    let setup = setup
        .env("LD_PRELOAD", library().to_str().unwrap())
        .env("FAKETIME_TIMESTAMP_FILE", clock.0.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    (setup, clock)
}

async fn ask(client: &Client, id: &str, question: &str) -> Answer {
    let fields = json!({"conversation": id});
    client.ask_with(question, &fields).await.answer().await
}

/// The one conversation there is.
async fn only(daemon: &Daemon) -> Conversation {
    let list: ConversationList = daemon.client().get(PATH).await.json();
    assert_eq!(list.data.len(), 1);
    list.data.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_clock_that_jumps_loses_no_turn_and_ends_no_answer() {
    let setup = Setup::fake().toml("[conversations]\nretention_days = 30");
    let (setup, clock) = with_clock(setup);
    let mut daemon = setup.ready().await;
    let client = daemon.client();
    let opened: Conversation = client.post(PATH, &json!({})).await.json();
    ask(&client, &opened.id, "first").await.done();
    let before = only(&daemon).await;

    for (turn, years) in [(2, 10), (3, -20), (4, 10), (5, 0)] {
        // An answer is under way as the clock jumps; it has a deadline.
        let fields = json!({"conversation": opened.id, "timeout_ms": 20_000});
        let mut answer = client.ask_with("fake: slow 20 20", &fields).await;
        answer.first_delta().await;
        clock.jump(years * YEAR);
        answer.answer().await.done();
        let now = only(&daemon).await;
        assert_eq!(now.turns, turn);
        // The jump is seen.
        let ahead = now.updated.abs_diff(before.updated) > 9 * YEAR.unsigned_abs();
        assert_eq!(ahead, years > 0, "{now:?}");

        let stopped = daemon.stop().await;
        assert!(stopped.success(), "{stopped}");
        daemon.restart().await;
        daemon.until_ready().await;
        assert_eq!(only(&daemon).await.turns, turn);
    }
}
