//! Waiting. Tests never sleep for a guessed time: they wait for what they expect, for so long
//! that only a fault can use the time up, even on a slow and busy machine.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(20);

/// The output of `future`.
///
/// # Panics
/// If it takes longer than [`PATIENCE`]; `what` says what was awaited.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Asks `probe` again and again until it gives a value, and returns that.
///
/// # Panics
/// If that takes longer than [`PATIENCE`]; `what` says what was awaited.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {what}"
        );
        tokio::time::sleep(POLL).await;
    }
}
