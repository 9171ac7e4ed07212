//! Callers that cancel at every moment, and deadlines that pass at every moment.

use std::time::Duration;

use hob_api::status::State;
use hob_e2e::{Setup, eventually};
use zbus::Variant;

use crate::caller::{Caller, Options, Streamed};
use crate::nothing_active;

const REPETITIONS: usize = 60;

/// Waits until the request reads its prompt, then cancels it.
async fn cancel_in_prefill(streamed: &Streamed) {
    eventually("it reads", async || {
        (streamed.request.state().await.ok()? == 2).then_some(())
    })
    .await;
    streamed.request.cancel().await.unwrap();
}

#[tokio::test]
async fn a_cancel_at_any_moment_leaves_nothing_behind() {
    let daemon = Setup::fake()
        .toml("[engine]\nparallel = 1")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let engine = daemon.engine_pid().await;
    let before = daemon.files();
    for repetition in 0..REPETITIONS {
        let token = format!("t{repetition}");
        let ends = match repetition % 4 {
            0 => {
                let mut running = caller
                    .stream("fake: prefill 60000", "running", "text")
                    .await;
                let queued = caller.stream("never", &token, "text").await;
                queued.request.cancel().await.unwrap();
                running.request.cancel().await.unwrap();
                assert_eq!(running.end().await.outcome, 2);
                [queued]
            }
            1 => {
                let streamed = caller.stream("fake: prefill 60000", &token, "text").await;
                cancel_in_prefill(&streamed).await;
                [streamed]
            }
            2 => {
                let streamed = caller.stream("fake: slow 1 100000", &token, "text").await;
                streamed.started().await;
                streamed.request.cancel().await.unwrap();
                [streamed]
            }
            _ => {
                let streamed = caller.stream("fake: slow 1 3", &token, "text").await;
                let pause = u64::try_from(repetition).unwrap() * 131 % 8_000;
                tokio::time::sleep(Duration::from_micros(pause)).await;
                // The answer may be complete by then, and the object gone.
                let _ = streamed.request.cancel().await;
                [streamed]
            }
        };
        for mut streamed in ends {
            let end = streamed.end().await;
            let complete = end.outcome == 1 && repetition % 4 == 3;
            assert!(end.outcome == 2 || complete, "{repetition}: {end:?}");
        }
    }
    nothing_active(&daemon).await;
    assert_eq!(daemon.status().await.engine_losses, 0);
    assert_eq!(daemon.engine_pid().await, engine);
    eventually("descriptors are closed", async || {
        (daemon.files() <= before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deadline_passes_in_whatever_phase_the_request_is() {
    let daemon = Setup::fake_load("slow 1000").bus().start().await;
    let caller = Caller::on(daemon.bus()).await;
    daemon.until(State::Loading).await;
    let late = async |question: &str, timeout_ms: u32| {
        let options = Options::from([("timeout_ms", Variant::from(timeout_ms))]);
        let (name, words) = caller.ask(question, options).await.unwrap_err();
        assert_eq!(name, "org.hobd.Hob1.Error.DeadlineExceeded", "{words}");
        assert!(words.contains("(hint: "), "{words}");
    };
    late("too early", 1).await;
    daemon.until_ready().await;
    late("fake: prefill 60000", 100).await;
    late("fake: slow 5 100000", 100).await;
    nothing_active(&daemon).await;
    let (reply, _) = caller.ask("still there", Options::new()).await.unwrap();
    assert_eq!(reply, "still there");
}
