//! What readers are told when the scheduler ends or refuses a request.

use std::time::Duration;

use hob_api::{ApiError, ErrorCode};

/// When a client that finds the queue full may expect room: about one short answer.
const BUSY_RETRY_MS: u64 = 2_000;
/// When memory may be easier to come by: as long as `pressure` waits before it believes so.
const CALM_RETRY_MS: u64 = 10_000;
/// When a client whose engine was lost may expect the next one.
const RESTART_RETRY_MS: u64 = 1_000;

pub(crate) fn queue_full(bound: usize) -> ApiError {
    let message = format!("all {bound} places in the queue are taken");
    ApiError::new(ErrorCode::Busy, message)
        .hint("try again in a moment")
        .retry_after_ms(BUSY_RETRY_MS)
}

pub(crate) fn share_full(bound: usize) -> ApiError {
    let message = format!("you have {bound} requests under way, which is the limit for one user");
    ApiError::new(ErrorCode::Busy, message)
        .hint("wait for one of them to end, or cancel one")
        .retry_after_ms(BUSY_RETRY_MS)
}

pub(super) fn memory_scarce() -> ApiError {
    let message = "memory is scarce on this machine, so no new requests are taken";
    ApiError::new(ErrorCode::Busy, message)
        .hint("try again later, or free memory; `hob status` shows what is used")
        .retry_after_ms(CALM_RETRY_MS)
}

pub(super) fn too_late(wait: Duration) -> ApiError {
    let seconds = wait.as_secs_f32();
    let message = format!(
        "the deadline can't be met: the requests before this one take {seconds:.1} s at the least"
    );
    ApiError::new(ErrorCode::DeadlineExceeded, message)
        .hint("give more time (timeout_ms, --timeout), or ask again when there is less to do")
        .retry_after_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn deadline() -> ApiError {
    let message = "the deadline passed before the answer was complete";
    ApiError::new(ErrorCode::DeadlineExceeded, message)
        .hint("give more time (timeout_ms, --timeout), or ask for fewer tokens")
}

pub(super) fn engine_lost() -> ApiError {
    let message = "the engine process ended while it worked on this request";
    ApiError::new(ErrorCode::EngineLost, message)
        .hint("ask again; hobd's log tells how the engine ended")
        .retry_after_ms(RESTART_RETRY_MS)
}

pub(super) fn engine_hung() -> ApiError {
    let message = "the engine process made no progress on this request and was ended";
    ApiError::new(ErrorCode::EngineLost, message)
        .hint("ask again; engine.hang_timeout sets how long hobd waits")
        .retry_after_ms(RESTART_RETRY_MS)
}

pub(super) fn misbehaved() -> ApiError {
    let message = "the engine process broke its protocol with hobd and was ended";
    ApiError::new(ErrorCode::EngineLost, message)
        .hint("ask again; hobd's log tells what the engine sent")
        .retry_after_ms(RESTART_RETRY_MS)
}

pub(super) fn quarantined() -> ApiError {
    let message = "the model's engine crashed three times within a minute, so it is left alone";
    ApiError::new(ErrorCode::ModelFailed, message).hint(
        "see hobd's log, check the file with `hob models verify`, or choose another model with \
         `hob models use`; the model is tried again after ten minutes",
    )
}

pub(super) fn load_timeout(bound: Duration) -> ApiError {
    let message = format!("the model did not load within {} s", bound.as_secs());
    ApiError::new(ErrorCode::ModelFailed, message)
        .hint("choose a smaller model, or raise engine.load_timeout")
}

pub(super) fn model_changed() -> ApiError {
    ApiError::new(ErrorCode::Cancelled, "another model is being loaded")
        .hint("ask again when it is ready")
}

pub(super) fn model_overwritten() -> ApiError {
    let message = "the model's file was written to while it was loaded";
    ApiError::new(ErrorCode::ModelFailed, message)
        .hint("check it with `hob models verify`, with --system for the board's; models are replaced by `hob models pull`")
}

pub(super) fn model_unloaded() -> ApiError {
    ApiError::new(ErrorCode::Cancelled, "the model was unloaded").hint("ask again: that loads it")
}

pub(super) fn shutting_down() -> ApiError {
    ApiError::new(ErrorCode::NotReady, "hobd is shutting down")
        .hint("ask again when it has started")
}
