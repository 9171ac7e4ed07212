//! `/hob/v1/tuning`: measuring this board, for those who may load models.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use hob_api::tuning::TuningReply;
use tracing::info;

use super::reply::{self, Refusal};
use super::routes::{Door, check_may_manage};
use crate::request::Caller;

pub(super) fn router() -> Router<Door> {
    Router::new().route("/hob/v1/tuning", get(show).post(tune).delete(forget))
}

async fn show(State(door): State<Door>) -> Response {
    let tuning = door.daemon.tuning();
    reply::ok(&TuningReply { tuning })
}

/// One record a line. The body owns the channel: hyper drops it when the client goes away, and that
/// ends the measurement.
async fn tune(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    check_may_manage(&door, caller)?;
    info!(uid = caller.uid, "measuring asked for over HTTP");
    let events = door.daemon.tune().await?;
    let lines = stream::unfold(events, |mut events| async {
        let mut line = serde_json::to_vec(&events.recv().await?).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), events))
    });
    Ok(reply::body(
        "application/x-ndjson",
        Body::from_stream(lines),
    ))
}

async fn forget(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    check_may_manage(&door, caller)?;
    info!(
        uid = caller.uid,
        "forgetting what was measured, as asked over HTTP"
    );
    door.daemon.forget_tuning().await?;
    Ok(reply::ok(&TuningReply::default()))
}
