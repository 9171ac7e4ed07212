//! Paths and what they do.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hob_api::chat::StreamOptions;
use hob_api::status::{State as ModelState, Status};
use hob_api::{ApiError, ErrorCode};
use hob_ipc::RequestId;
use serde_json::json;
use tracing::info;

use super::openai::{Api, Heading};
use super::reply::{self, Refusal, not_found};
use super::{
    body, conversations, decisions, embeddings, home, path, pins, providers, stream, tuning,
};
use crate::answer::Answer;
use crate::daemon::DaemonHandle;
use crate::request::{self, Caller, ValidRequest};
use crate::settings::Settings;

/// What the routes need.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) daemon: DaemonHandle,
    pub(super) settings: Arc<Settings>,
    /// Who may load and unload beside root; `None` for nobody at all, root included.
    pub(super) manager: Option<u32>,
}

/// How the client wants its answer.
struct Delivery {
    api: Api,
    stream: bool,
    include_usage: bool,
    /// hob's own events instead of `OpenAI`'s records.
    event_lines: bool,
}

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/hob/v1/status", get(status))
        .route("/hob/v1/load", post(load))
        .route("/hob/v1/unload", post(unload))
        .merge(embeddings::router())
        .merge(decisions::router())
        .merge(conversations::router())
        .merge(pins::router())
        .merge(providers::router())
        .merge(home::router())
        .merge(tuning::router())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(door)
}

async fn chat(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let limits = &door.settings.limits;
    let event_lines = wants_event_lines(request.headers());
    let chat = request::parse_chat(&body::read(request, limits).await?)?;
    let delivery = Delivery::new(
        Api::Chat,
        chat.stream,
        chat.stream_options.as_ref(),
        event_lines,
    )?;
    let valid = ValidRequest::chat(chat, caller, &door.settings.sampling, limits)?;
    answer(&door, valid, delivery).await
}

async fn completion(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let limits = &door.settings.limits;
    let event_lines = wants_event_lines(request.headers());
    let completion = request::parse_completion(&body::read(request, limits).await?)?;
    let delivery = Delivery::new(
        Api::Completion,
        completion.stream,
        completion.stream_options.as_ref(),
        event_lines,
    )?;
    let valid = ValidRequest::completion(completion, caller, &door.settings.sampling, limits)?;
    answer(&door, valid, delivery).await
}

impl Delivery {
    fn new(
        api: Api,
        stream: bool,
        options: Option<&StreamOptions>,
        event_lines: bool,
    ) -> Result<Self, ApiError> {
        if options.is_some() && !stream {
            return Err(ApiError::new(
                ErrorCode::InvalidRequest,
                "`stream_options` is given without `stream`",
            )
            .hint("set `stream` to true")
            .param("stream_options"));
        }
        Ok(Self {
            api,
            stream,
            include_usage: options.is_some_and(|options| options.include_usage),
            event_lines,
        })
    }
}

pub(super) fn wants_event_lines(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("application/x-ndjson"))
}

/// Hands the request in and sends its answer. This future owns the answer or hands it to the
/// response's body; hyper drops either when the client goes away, and that cancels the request.
async fn answer(
    door: &Door,
    request: ValidRequest,
    delivery: Delivery,
) -> Result<Response, Refusal> {
    let events = door.daemon.submit(request).await?;
    let id = events.id();
    let response = deliver(door, events, &delivery)
        .await
        .unwrap_or_else(|error| Refusal(error).into_response());
    Ok(reply::numbered(response, id))
}

async fn deliver(door: &Door, events: Answer, delivery: &Delivery) -> Result<Response, ApiError> {
    let id = events.id();
    let heading = || heading(door, delivery.api, id);
    match delivery {
        Delivery { stream: false, .. } => Ok(reply::ok(&stream::gathered(events, heading).await?)),
        Delivery {
            event_lines: true, ..
        } => stream::event_lines(events).await,
        Delivery { include_usage, .. } => {
            stream::server_sent(events, heading, *include_usage).await
        }
    }
}

fn heading(door: &Door, api: Api, id: RequestId) -> Heading {
    let created = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let model = match &door.daemon.status().borrow().model {
        Some(model) => model.name.clone(),
        None => String::new(),
    };
    Heading {
        api,
        id,
        created,
        model,
    }
}

async fn models(State(door): State<Door>) -> Result<Response, Refusal> {
    Ok(reply::ok(&door.daemon.models().await?))
}

async fn model(State(door): State<Door>, name: path::Name) -> Result<Response, Refusal> {
    let models = door.daemon.models().await?;
    let name = path::name(name);
    match models.data.into_iter().find(|model| model.id == name) {
        Some(model) => Ok(reply::ok(&model)),
        None => Err(not_found(
            ErrorCode::ModelNotFound,
            "no model of that name is installed".to_owned(),
            "GET /v1/models lists the names",
        )),
    }
}

/// 200 if a question would be answered, 503 if not, as load balancers and llama.cpp's clients
/// expect.
async fn health(State(door): State<Door>) -> Response {
    match unhealthy(&door.daemon.status().borrow()) {
        None => reply::ok(&json!({"status": "ok"})),
        Some(error) => reply::error_with_status(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

fn unhealthy(status: &Status) -> Option<ApiError> {
    let not_ready = |message: String| ApiError::new(ErrorCode::NotReady, message);
    let error = match status.state {
        // A request wakes a sleeping model.
        ModelState::Ready | ModelState::Sleeping => return None,
        ModelState::Loading => not_ready(format!(
            "the model is being loaded ({} %)",
            status.load_percent
        ))
        .hint("try again in a second")
        .retry_after_ms(1000),
        ModelState::NoModel => not_ready("no model is installed or chosen".to_owned())
            .hint("`hob doctor` tells which command installs one"),
        ModelState::Failed => {
            not_ready("the model can't be loaded".to_owned()).hint("`hob status` tells why")
        }
        ModelState::Unknown => not_ready("hobd is starting".to_owned())
            .hint("try again in a second")
            .retry_after_ms(1000),
    };
    Some(status.problem.clone().unwrap_or(error))
}

/// For Prometheus, in the text format of `OpenMetrics`.
async fn metrics(State(door): State<Door>) -> Result<Response, Refusal> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = door.daemon.metrics()?;
    Ok(reply::body(OPEN_METRICS, text.into()))
}

async fn status(State(door): State<Door>) -> Response {
    reply::ok(&door.daemon.status_now())
}

async fn load(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    check_may_manage(&door, caller)?;
    let name = request::parse_load(&body::read(request, &door.settings.limits).await?)?;
    info!(uid = caller.uid, model = %name, "load asked for over HTTP");
    door.daemon.load_model(name).await?;
    Ok(reply::ok(&door.daemon.status_now()))
}

async fn unload(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    check_may_manage(&door, caller)?;
    info!(uid = caller.uid, "unload asked for over HTTP");
    door.daemon.unload_model().await?;
    Ok(reply::ok(&door.daemon.status_now()))
}

pub(super) fn check_may_manage(door: &Door, caller: Caller) -> Result<(), ApiError> {
    let Some(manager) = door.manager else {
        return Err(ApiError::new(
            ErrorCode::AccessDenied,
            "models are not loaded and unloaded over TCP",
        )
        .hint("use the Unix socket, or `hob models use`"));
    };
    if caller.uid == 0 || caller.uid == manager {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::AccessDenied,
        "only root and hobd's own user may load and unload models here",
    )
    .hint("use sudo, or the D-Bus method LoadModel, which asks polkit"))
}

async fn no_such_path(uri: Uri) -> Refusal {
    // A base address without /v1 is the usual mistake.
    let hint = match uri.path() {
        "/chat/completions" | "/completions" | "/embeddings" | "/systemone" | "/models" => {
            "put /v1 before the path"
        }
        _ => {
            "the paths are /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/systemone, \
              /v1/models, /health and /hob/v1/status"
        }
    };
    not_found(
        ErrorCode::NotFound,
        "there is no such path".to_owned(),
        hint,
    )
}

async fn no_such_method(method: Method) -> Response {
    let error = ApiError::new(
        ErrorCode::InvalidRequest,
        format!("this path does not take {}", request::echo(method.as_str())),
    )
    .hint("questions are asked with POST, the rest with GET");
    reply::error_with_status(StatusCode::METHOD_NOT_ALLOWED, error)
}

#[cfg(test)]
mod tests;
