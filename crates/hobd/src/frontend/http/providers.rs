//! `/hob/v1/providers`: what the caller's homes can do, and nobody else's.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::{get, patch};
use hob_api::ApiError;
use hob_api::provider::{Provider, ProviderDeleted, ProviderList};
use tracing::info;

use super::body;
use super::path::{self, Name};
use super::reply::{self, Refusal};
use super::routes::Door;
use crate::providers::ProviderName;
use crate::request::{self, Caller};

pub(super) fn router() -> Router<Door> {
    Router::new()
        .route("/hob/v1/providers", get(list))
        .route(
            "/hob/v1/providers/{name}",
            get(show).put(put).delete(delete),
        )
        .route("/hob/v1/providers/{name}/targets", patch(change))
}

async fn list(State(door): State<Door>, Extension(caller): Extension<Caller>) -> Response {
    let entries = door.daemon.providers().all(caller.uid);
    reply::ok(&ProviderList {
        object: "list".to_owned(),
        data: entries.iter().map(|entry| entry.shown()).collect(),
    })
}

async fn show(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    name: Name,
) -> Result<Response, Refusal> {
    let entry = door.daemon.providers().get(caller.uid, &read_name(name)?)?;
    Ok(reply::ok(&Provider {
        fields: Some(entry.provider.fields()),
        ..entry.shown()
    }))
}

async fn put(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    name: Name,
    request: Request,
) -> Result<Response, Refusal> {
    let name = read_name(name)?;
    let body = body::read(request, &door.settings.limits).await?;
    let parse = move || request::parse_provider(&body);
    let put = door.daemon.put_provider(caller.uid, name, parse, None);
    let shown = put.await?;
    let (tools, targets) = (shown.tools, shown.targets);
    info!(
        uid = caller.uid,
        tools, targets, "provider registered over HTTP"
    );
    Ok(reply::ok(&shown))
}

async fn change(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    name: Name,
    request: Request,
) -> Result<Response, Refusal> {
    let name = read_name(name)?;
    let body = body::read(request, &door.settings.limits).await?;
    let parse = move || request::parse_targets(&body);
    let shown = door.daemon.patch_provider(caller.uid, name, parse);
    Ok(reply::ok(&shown.await?))
}

async fn delete(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    name: Name,
) -> Result<Response, Refusal> {
    let name = read_name(name)?;
    door.daemon.providers().remove(caller.uid, &name)?;
    info!(uid = caller.uid, "provider unregistered over HTTP");
    Ok(reply::ok(&ProviderDeleted {
        name: name.as_str().to_owned(),
        object: "provider.deleted".to_owned(),
        deleted: true,
    }))
}

fn read_name(name: Name) -> Result<ProviderName, ApiError> {
    ProviderName::parse(&path::name(name))
}
