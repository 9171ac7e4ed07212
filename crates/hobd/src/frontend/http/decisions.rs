//! `POST /v1/systemone`.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::post;

use super::body;
use super::reply::{self, Refusal};
use super::routes::Door;
use crate::request::{self, Caller, ValidDecision};

pub(super) fn router() -> Router<Door> {
    Router::new().route("/v1/systemone", post(decide))
}

/// Hands the request in and sends the answers. This future owns the request; dropping it cancels
/// it.
async fn decide(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let limits = &door.settings.limits;
    let asked = request::parse_decision(&body::read(request, limits).await?)?;
    let valid = ValidDecision::new(asked, caller, limits)?;
    Ok(reply::ok(&door.daemon.decide(valid).await?))
}
