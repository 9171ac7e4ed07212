//! `/hob/v1/conversations`: the caller's conversations, and nobody else's.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::get;
use hob_api::conversation::{ConversationDeleted, ConversationList};
use hob_api::{ApiError, ErrorCode};

use super::body;
use super::path::{self, Name};
use super::reply::{self, Refusal};
use super::routes::Door;
use crate::conversations::{self, ConversationId};
use crate::request::{self, Caller};

pub(super) fn router() -> Router<Door> {
    Router::new()
        .route("/hob/v1/conversations", get(list).post(create))
        .route(
            "/hob/v1/conversations/{id}",
            get(transcript).patch(change).delete(delete),
        )
        .route("/hob/v1/conversations/{id}/export", get(export))
}

async fn list(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    let data = door.daemon.conversations().list(caller.uid).await?;
    Ok(reply::ok(&ConversationList {
        object: "list".to_owned(),
        data,
    }))
}

async fn create(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = body::read(request, &door.settings.limits).await?;
    let fields = request::parse_conversation(&body)?;
    let conversations = door.daemon.conversations();
    Ok(reply::ok(&conversations.create(caller.uid, fields).await?))
}

async fn transcript(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    id: Name,
) -> Result<Response, Refusal> {
    let conversations = door.daemon.conversations();
    let transcript = conversations.transcript(caller.uid, read_id(id)?).await?;
    Ok(reply::ok(&transcript))
}

async fn change(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    id: Name,
    request: Request,
) -> Result<Response, Refusal> {
    let id = read_id(id)?;
    let body = body::read(request, &door.settings.limits).await?;
    let fields = request::parse_conversation(&body)?;
    let conversations = door.daemon.conversations();
    Ok(reply::ok(
        &conversations.change(caller.uid, id, fields).await?,
    ))
}

async fn delete(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    id: Name,
) -> Result<Response, Refusal> {
    let id = read_id(id)?;
    let conversations = door.daemon.conversations();
    conversations.delete(caller.uid, id.clone()).await?;
    Ok(reply::ok(&ConversationDeleted {
        id: id.as_str().to_owned(),
        object: "conversation.deleted".to_owned(),
        deleted: true,
    }))
}

async fn export(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    id: Name,
    uri: Uri,
) -> Result<Response, Refusal> {
    let id = read_id(id)?;
    let json = match uri.query().unwrap_or_default() {
        "" | "format=markdown" => false,
        "format=json" => true,
        _ => {
            return Err(Refusal(
                ApiError::new(
                    ErrorCode::InvalidRequest,
                    "the query names no format that there is",
                )
                .param("format")
                .hint("write ?format=markdown or ?format=json"),
            ));
        }
    };
    let conversations = door.daemon.conversations();
    let transcript = conversations.transcript(caller.uid, id).await?;
    if json {
        return Ok(reply::ok(&transcript));
    }
    let markdown = conversations::markdown(&transcript);
    Ok(reply::body(
        "text/markdown; charset=utf-8",
        Body::from(markdown),
    ))
}

/// What can't be an id is one that the caller does not have.
fn read_id(id: Name) -> Result<ConversationId, ApiError> {
    ConversationId::parse(&path::name(id)).ok_or_else(conversations::not_found)
}
