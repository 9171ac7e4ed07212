//! `/hob/v1/pins`: the caller's pins, and nobody else's.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::get;
use hob_api::ApiError;
use hob_api::pin::{PinDeleted, PinList};

use super::body;
use super::path::{self, Name};
use super::reply::{self, Refusal};
use super::routes::Door;
use crate::pins::{PinName, owner_of};
use crate::request::{self, Caller};

pub(super) fn router() -> Router<Door> {
    Router::new()
        .route("/hob/v1/pins", get(list))
        .route("/hob/v1/pins/{name}", get(show).put(put).delete(delete))
}

async fn list(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    Ok(reply::ok(&PinList {
        object: "list".to_owned(),
        data: door.daemon.pins(caller.uid).await?,
    }))
}

async fn show(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    name: Name,
) -> Result<Response, Refusal> {
    let pin = door.daemon.pin(owner_of(caller.uid), read_name(name)?);
    Ok(reply::ok(&pin.await?))
}

async fn put(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    name: Name,
    request: Request,
) -> Result<Response, Refusal> {
    let name = read_name(name)?;
    let body = body::read(request, &door.settings.limits).await?;
    let messages = request::pin_messages(request::parse_pin(&body)?)?;
    let pin = door.daemon.put_pin(owner_of(caller.uid), name, messages);
    Ok(reply::ok(&pin.await?))
}

async fn delete(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    name: Name,
) -> Result<Response, Refusal> {
    let name = read_name(name)?;
    let removed = door.daemon.remove_pin(owner_of(caller.uid), name.clone());
    removed.await?;
    Ok(reply::ok(&PinDeleted {
        name: name.into(),
        object: "pin.deleted".to_owned(),
        deleted: true,
    }))
}

fn read_name(name: Name) -> Result<PinName, ApiError> {
    PinName::parse(&path::name(name))
}
