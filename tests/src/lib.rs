//! What the end-to-end tests share: the real binaries, started in a folder of their own with
//! nothing of the user's environment, and reached through their public doors.
//!
//! ```text
//! Setup::real()               the real engine and the real test model, installed once
//! Setup::fake().model(…)      the fake engine, and a tiny GGUF that tells it what to do
//!     .toml("…")              settings
//!     .start().await          → Daemon: a running hobd, whose socket answers
//! daemon.client()             → Client: HTTP over the Unix socket
//! daemon.hob()                → a Command that runs `hob` against it
//! ```
//!
//! When a test panics its daemon's log is printed. A daemon that ends before its test does,
//! unless the test stops it, fails that test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failure of the harness is a failed test, and says so on stderr"
)]

mod altered;
mod binary;
mod bus;
mod client;
mod daemon;
mod gguf;
mod root;
mod setup;
mod stream;
mod wait;

pub use altered::altered;
pub use binary::{binary, python, refused, test_store};
pub use bus::Bus;
pub use client::{Client, Reply};
pub use daemon::Daemon;
pub use gguf::Gguf;
pub use root::ran_as_root;
pub use setup::{Setup, Store, TEST_MODEL};
pub use stream::{Answer, Stream};
pub use wait::{PATIENCE, eventually, patiently};
