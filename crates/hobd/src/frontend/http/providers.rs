//! `/hob/v1/providers`: what the caller's homes can do, and nobody else's.

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::response::Response;
use axum::routing::{get, patch};
use hob_api::provider::{Provider, ProviderDeleted, ProviderList};
use hob_api::{ApiError, ErrorCode};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::info;

use super::body;
use super::reply::{self, Refusal};
use super::routes::Door;
use crate::providers::ProviderName;
use crate::request::{self, Caller};

/// A name in a path, or what is wrong with it.
type Name = Result<Path<String>, PathRejection>;

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
    let providers = door.daemon.providers().clone();
    let shown = computed(move || {
        let fields = request::parse_provider(&body)?;
        providers.put(caller.uid, name, fields)
    })
    .await?;
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
    let providers = door.daemon.providers().clone();
    let shown = computed(move || {
        let patch = request::parse_targets(&body)?;
        providers.patch(caller.uid, &name, patch)
    });
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

/// How many such computations run at once; others wait, as many as there are connections.
static PLACES: Semaphore = Semaphore::const_new(1);

/// What takes a processor for some milliseconds, beside the thread on which everybody is answered.
/// Who goes away while it waits is not computed for.
pub(super) async fn computed<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    // It is closed by nobody.
    let place = PLACES.acquire().await;
    let placed = move || {
        let _place = place;
        work()
    };
    spawn_blocking(placed).await.unwrap_or_else(|_| {
        Err(ApiError::new(ErrorCode::Internal, "hobd failed at this")
            .hint("hobd's log may tell more"))
    })
}

/// A path that is not UTF-8 is no name.
fn read_name(name: Name) -> Result<ProviderName, ApiError> {
    ProviderName::parse(&name.map_or_else(|_| String::new(), |Path(name)| name))
}
