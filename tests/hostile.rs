//! Clients and machines at their worst: crowds, dawdlers, hogs, cancels at every moment, disks that
//! can't be written, models that change under hobd. In every case hobd stays the same process,
//! everybody else is served, and each request has exactly one end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

#[path = "hostile/cancel.rs"]
mod cancel;
#[path = "hostile/clock.rs"]
mod clock;
#[path = "hostile/crowd.rs"]
mod crowd;
#[path = "hostile/deadline.rs"]
mod deadline;
#[path = "hostile/disk.rs"]
mod disk;
#[path = "hostile/journal.rs"]
mod journal;
#[path = "hostile/swap.rs"]
mod swap;

use hob_api::ApiError;
use hob_api::error::ErrorBody;
use hob_api::status::Status;
use hob_e2e::{Daemon, eventually};

const CHAT: &str = "/v1/chat/completions";

/// xorshift64*: <https://doi.org/10.18637/jss.v008.i14>, with Vigna's multiplier.
struct Random(u64);

impl Random {
    /// The same numbers for the same seed, which must not be 0.
    fn new(seed: u64) -> Self {
        eprintln!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// Waits until no request is under way.
async fn idle(daemon: &Daemon) -> Status {
    daemon
        .until_status("no request is under way", |status| {
            (status.active, status.queued) == (0, 0)
        })
        .await
}

/// Waits until hobd has no more files open than before.
async fn no_files_left(daemon: &Daemon, before: usize) {
    eventually("files are closed", async || {
        (daemon.files() <= before).then_some(())
    })
    .await;
}

/// The error in a raw reply, with a cause and a hint.
fn raw_error(reply: &str) -> ApiError {
    let (_, body) = reply.split_once("\r\n\r\n").unwrap();
    let start = body.find('{').unwrap();
    let end = body.rfind('}').unwrap();
    let body: ErrorBody = serde_json::from_str(&body[start..=end]).unwrap();
    assert!(!body.error.message.is_empty() && body.error.hint.is_some());
    body.error
}
