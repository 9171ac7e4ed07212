//! Clients that leave, at every moment of a request's life.

use std::time::Duration;

use hob_api::Event;
use hob_api::status::State;
use hob_e2e::{Client, Daemon, Setup, Stream};
use serde_json::json;
use tokio::time::sleep;

use super::{CHAT, Random, idle, no_files_left};

const REPETITIONS: u64 = 200;

/// Where in its life a request is when its client leaves.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Queued,
    Prefill,
    Decode,
    LastToken,
}

const PHASES: [Phase; 4] = [
    Phase::Queued,
    Phase::Prefill,
    Phase::Decode,
    Phase::LastToken,
];

/// Reads until the request is said to be before or at the first step of its prompt.
async fn until_prefill(stream: &mut Stream) {
    loop {
        match stream.json::<Event>().await {
            Some(Event::Prefill { .. }) => return,
            Some(Event::Queued { .. }) => {}
            other => panic!("no prefill: {other:?}"),
        }
    }
}

async fn leave_in(phase: Phase, client: &Client, random: &mut Random) {
    match phase {
        Phase::Queued => {
            let mut running = client.ask("fake: prefill 60000").await;
            until_prefill(&mut running).await;
            let waiting = client.ask("fake: prefill 60000").await;
            drop(waiting);
            drop(running);
        }
        Phase::Prefill => until_prefill(&mut client.ask("fake: prefill 60000").await).await,
        Phase::Decode => {
            client.ask("fake: slow 1 100000").await.first_delta().await;
        }
        Phase::LastToken => {
            let stream = client.ask("fake: slow 1 3").await;
            sleep(Duration::from_micros(random.below(8_000))).await;
            drop(stream);
        }
    }
}

#[tokio::test]
async fn who_leaves_at_any_moment_leaves_nothing_behind() {
    let daemon: Daemon = Setup::fake().toml("[engine]\nparallel = 1").ready().await;
    let client = daemon.client();
    let engine = daemon.engine_pid().await;
    let before = daemon.files();
    let mut random = Random::new(0x5eed);
    for _ in 0..REPETITIONS {
        let phase = PHASES[usize::try_from(random.below(4)).unwrap()];
        leave_in(phase, &client, &mut random).await;
    }
    let status = idle(&daemon).await;
    assert_eq!(status.engine_losses, 0);
    assert_eq!(daemon.engine_pid().await, engine);
    no_files_left(&daemon, before).await;
    daemon.assert_serves().await;
}

#[tokio::test]
async fn who_leaves_while_the_model_loads_is_forgotten() {
    let daemon = Setup::fake_load("slow 2000").start().await;
    let client = daemon.client();
    daemon.until(State::Loading).await;
    let mut leaving = client.ask("never mind").await;
    let first = leaving.json::<Event>().await;
    assert_eq!(first, Some(Event::Queued { position: 0 }));
    let stays = client.ask("my turn").await;
    drop(leaving);
    let status = daemon.until_status("one waits", |s| s.queued == 1).await;
    assert_eq!(status.state, State::Loading);
    assert_eq!(stays.answer().await.text, "my turn");
    idle(&daemon).await;
}

#[tokio::test]
async fn the_real_model_is_none_the_worse_for_clients_that_leave() {
    let daemon = Setup::real().ready().await;
    let client = daemon.client();
    let question = json!({
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the capital of France? Answer in one short sentence."},
        ],
        "temperature": 0,
        "max_tokens": 48,
    });
    let engine = daemon.engine_pid().await;
    let mut random = Random::new(0x1e57);
    for round in 0..20 {
        // Each begins otherwise, so that little of it is read already.
        let long = format!("{round} {}", "tell me more about lighthouses ".repeat(40));
        let stream = client.ask_with(&long, &json!({"max_tokens": 40})).await;
        sleep(Duration::from_millis(random.below(300))).await;
        drop(stream);
    }
    let status = idle(&daemon).await;
    assert_eq!(status.engine_losses, 0);
    assert_eq!(daemon.engine_pid().await, engine);
    let reply = client.post(CHAT, &question).await;
    assert!(reply.text().contains("Paris"), "{}", reply.text());
}
