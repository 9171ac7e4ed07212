//! `POST /hob/v1/home`: what is meant by what somebody said. Nothing is done about it here.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::post;

use super::body;
use super::reply::{self, Refusal};
use super::routes::Door;
use crate::request::{self, Caller, ValidHome};

pub(super) fn router() -> Router<Door> {
    Router::new().route("/hob/v1/home", post(read))
}

async fn read(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = body::read(request, &door.settings.limits).await?;
    let said = ValidHome::new(request::parse_home(&body)?)?;
    Ok(reply::ok(&door.daemon.interpret(caller.uid, said).await?))
}
