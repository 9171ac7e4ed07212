//! What `GET /metrics` tells Prometheus. Counts and durations of everybody together: no label
//! says who asked, and none holds text.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hob_api::ErrorCode;
use hob_api::event::{Timings, Usage};
use hob_api::status::{Status, WorkStatus};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::work::Work;
use crate::pressure::Level;

type Labels = [(&'static str, String); 1];

/// The metrics of one daemon.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    tokens: Family<Labels, Counter>,
    queued_for: Histogram,
    first_token: Histogram,
    per_token: Histogram,
    engine_losses: Counter,
    work: Mutex<Work>,
    requests_now: Family<Labels, Gauge>,
    memory: Family<Labels, Gauge>,
    engine_memory: Family<Labels, Gauge>,
    memory_available: Gauge,
    given_up: Gauge,
    cache: Family<Labels, Gauge>,
    pins: Family<Labels, Counter>,
    snapshot_bytes: Counter,
    state: Gauge,
    uptime: Gauge<f64, AtomicU64>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("hob"),
            requests: Family::default(),
            tokens: Family::default(),
            // From 10 ms to 80 s.
            queued_for: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            first_token: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            // From 1 ms (a PC) to 2 s (a large model on a small board).
            per_token: Histogram::new(exponential_buckets(0.001, 2.0, 12)),
            engine_losses: Counter::default(),
            work: Mutex::default(),
            requests_now: Family::default(),
            memory: Family::default(),
            engine_memory: Family::default(),
            memory_available: Gauge::default(),
            given_up: Gauge::default(),
            cache: Family::default(),
            pins: Family::default(),
            snapshot_bytes: Counter::default(),
            state: Gauge::default(),
            uptime: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Requests that ended, by result: ok or an error's code",
            self.requests.clone(),
        );
        registry.register(
            "tokens",
            "Tokens, by kind: read (computed), cached (remembered instead), written, and of drafts \
             accepted (part of written) and rejected",
            self.tokens.clone(),
        );
        registry.register(
            "engine_losses",
            "Engine processes that ended without being asked to",
            self.engine_losses.clone(),
        );
        registry.register(
            "requests_now",
            "Requests at this moment, by stage: active or queued",
            self.requests_now.clone(),
        );
        registry.register(
            "cache",
            "Of the prefix cache beside the sequences: bytes, entries, pins and pins_ready",
            self.cache.clone(),
        );
        registry.register(
            "pin_loads",
            "Pinned prefixes that became ready, by result: computed or restored; and snapshots that \
             were damaged or could not be written (unsaved)",
            self.pins.clone(),
        );
        registry.register(
            "snapshot_written_bytes",
            "Bytes of snapshots written to the disk",
            self.snapshot_bytes.clone(),
        );
        registry.register(
            "state",
            "0 unknown, 1 no model, 2 loading, 3 ready, 4 sleeping, 5 failed",
            self.state.clone(),
        );
        registry.register_with_unit(
            "queue_time",
            "How long answered requests waited for the engine",
            Unit::Seconds,
            self.queued_for.clone(),
        );
        registry.register_with_unit(
            "time_to_first_token",
            "From a request's arrival to its answer's first token",
            Unit::Seconds,
            self.first_token.clone(),
        );
        registry.register_with_unit(
            "time_per_token",
            "Between two tokens of an answer, averaged over each answer",
            Unit::Seconds,
            self.per_token.clone(),
        );
        registry.register_with_unit(
            "memory",
            "Resident memory, by process: hobd or engine",
            Unit::Bytes,
            self.memory.clone(),
        );
        registry.register_with_unit(
            "engine_memory",
            "What the engine's memory is for, by kind: weights, kv, compute, cache, and the budget",
            Unit::Bytes,
            self.engine_memory.clone(),
        );
        registry.register_with_unit(
            "memory_available",
            "What the machine has available",
            Unit::Bytes,
            self.memory_available.clone(),
        );
        registry.register(
            "memory_given_up",
            "For want of memory: 0 nothing, 1 the cache, 2 also new requests, 3 also the model",
            self.given_up.clone(),
        );
        registry.register_with_unit(
            "uptime",
            "Since hobd started",
            Unit::Seconds,
            self.uptime.clone(),
        );
    }

    /// A request was answered, and had its first token so long after it came.
    pub(super) fn answered(&self, usage: &Usage, timings: &Timings, first_token: Duration) {
        self.requests
            .get_or_create(&[("result", "ok".to_owned())])
            .inc();
        self.lately().answered(usage, timings);
        let cached = usage.prompt_tokens_details.cached_tokens;
        let drafts = usage.completion_tokens_details;
        for (kind, count) in [
            ("read", usage.prompt_tokens - cached),
            ("cached", cached),
            ("written", usage.completion_tokens),
            ("accepted", drafts.accepted_prediction_tokens),
            ("rejected", drafts.rejected_prediction_tokens),
        ] {
            let tokens = self.tokens.get_or_create(&[("kind", kind.to_owned())]);
            tokens.inc_by(u64::from(count));
        }
        self.queued_for.observe(timings.queue_ms / 1e3);
        // Embeddings have no tokens.
        if usage.completion_tokens > 0 {
            self.first_token.observe(first_token.as_secs_f64());
        }
        if usage.completion_tokens > 1 {
            let steps = f64::from(usage.completion_tokens - 1);
            self.per_token.observe(timings.decode_ms / 1e3 / steps);
        }
    }

    /// How much was answered, and how fast.
    pub(super) fn work(&self) -> WorkStatus {
        self.lately().status()
    }

    fn lately(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request failed or was refused.
    pub(super) fn failed(&self, code: ErrorCode) {
        self.lately().failed();
        let result = name(code);
        self.requests.get_or_create(&[("result", result)]).inc();
    }

    /// All metrics in the text format of `OpenMetrics` 1.0.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub(super) fn text(&self, status: &Status) -> Result<String, std::fmt::Error> {
        let set = |family: &Family<Labels, Gauge>, label, word: &str, value: u64| {
            let gauge = family.get_or_create(&[(label, word.to_owned())]);
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(
            &self.requests_now,
            "stage",
            "active",
            u64::from(status.active),
        );
        set(
            &self.requests_now,
            "stage",
            "queued",
            u64::from(status.queued),
        );
        let engine = status.engine.as_ref().map_or(0, |engine| engine.rss_bytes);
        set(&self.memory, "process", "hobd", status.hobd_rss_bytes);
        set(&self.memory, "process", "engine", engine);
        let memory = &status.memory;
        for (kind, bytes) in [
            ("weights", memory.weights_bytes),
            ("kv", memory.kv_bytes),
            ("compute", memory.compute_bytes),
            ("cache", memory.cache_bytes),
            ("budget", memory.budget_bytes.unwrap_or(0)),
        ] {
            let bytes = if status.engine.is_some() { bytes } else { 0 };
            set(&self.engine_memory, "kind", kind, bytes);
        }
        let available = i64::try_from(memory.available_bytes);
        self.memory_available.set(available.unwrap_or(i64::MAX));
        let given_up = Level::ALL.iter();
        let given_up = given_up.take_while(|level| level.as_str() != memory.given_up);
        self.given_up
            .set(i64::try_from(given_up.count() % Level::ALL.len()).unwrap_or(0));
        let cache = &status.cache;
        for (figure, value) in [
            ("bytes", cache.bytes),
            ("entries", cache.entries.into()),
            ("pins", cache.pins.into()),
            ("pins_ready", cache.pins_ready.into()),
        ] {
            set(&self.cache, "figure", figure, value);
        }
        for (result, value) in [
            ("computed", cache.computed),
            ("restored", cache.restored),
            ("damaged", cache.damaged),
            ("unsaved", cache.unsaved),
        ] {
            let counter = self.pins.get_or_create(&[("result", result.to_owned())]);
            counter.inc_by(value.saturating_sub(counter.get()));
        }
        let written = self.snapshot_bytes.get();
        self.snapshot_bytes
            .inc_by(cache.written_bytes.saturating_sub(written));
        self.state.set(i64::from(status.state.as_u32()));
        #[allow(
            clippy::cast_precision_loss,
            reason = "seconds of uptime are far below 2^52"
        )]
        self.uptime.set(status.uptime_s as f64);
        let counted = self.engine_losses.get();
        self.engine_losses
            .inc_by(status.engine_losses.saturating_sub(counted));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The code as clients see it.
fn name(code: ErrorCode) -> String {
    let name = serde_json::to_value(code).ok();
    let name = name.as_ref().and_then(|name| name.as_str());
    name.unwrap_or("other").to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn what_happened_can_be_read() {
        let metrics = Metrics::new();
        let timings = Timings {
            queue_ms: 500.0,
            prefill_ms: 100.0,
            decode_ms: 90.0,
            ..Timings::default()
        };
        metrics.answered(
            &Usage::new(30, 20, 10).with_drafts(9, 4),
            &timings,
            Duration::from_millis(600),
        );
        metrics.failed(ErrorCode::Busy);
        metrics.failed(ErrorCode::Busy);
        let mut status = Status {
            active: 1,
            engine_losses: 2,
            ..Status::default()
        };
        metrics.text(&status).unwrap();
        status.active = 3;
        let text = metrics.text(&status).unwrap();
        for line in [
            "hob_requests_total{result=\"ok\"} 1",
            "hob_requests_total{result=\"busy\"} 2",
            "hob_tokens_total{kind=\"read\"} 10",
            "hob_tokens_total{kind=\"cached\"} 20",
            "hob_tokens_total{kind=\"written\"} 10",
            "hob_tokens_total{kind=\"accepted\"} 4",
            "hob_tokens_total{kind=\"rejected\"} 5",
            "hob_requests_now{stage=\"active\"} 3",
            "hob_engine_losses_total 2",
            "hob_queue_time_seconds_sum 0.5",
            "hob_time_to_first_token_seconds_count 1",
            "hob_time_per_token_seconds_sum 0.01",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
