//! `POST /v1/embeddings`.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::StreamExt;
use hob_api::embedding::{EmbeddingEntry, EmbeddingList, EmbeddingUsage, EncodingFormat, Numbers};
use hob_api::{ApiError, Event};
use hob_ipc::embedding::Vector;

use super::reply::{self, Refusal};
use super::routes::{Door, wants_event_lines};
use super::{body, stream};
use crate::answer::Answer;
use crate::request::{self, Caller, ValidEmbedding};

pub(super) fn router() -> Router<Door> {
    Router::new().route("/v1/embeddings", post(embed))
}

/// Hands the request in and sends what comes of it: whole, or as events for who wants those. This
/// future owns the answer, as with all others; dropping it cancels the request.
async fn embed(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let limits = &door.settings.limits;
    let event_lines = wants_event_lines(request.headers());
    let asked = request::parse_embedding(&body::read(request, limits).await?)?;
    let format = asked.encoding_format;
    let valid = ValidEmbedding::new(asked, caller, limits)?;
    let events = door.daemon.embed(valid).await?;
    let id = events.id();
    let response = if event_lines {
        stream::event_lines(events).await
    } else {
        gathered(events, format).await.map(|list| reply::ok(&list))
    };
    let response = response.unwrap_or_else(|error| Refusal(error).into_response());
    Ok(reply::numbered(response, id))
}

/// All embeddings of one request: no more than were asked for, as [`crate::engine::Ledger`] sees to.
async fn gathered(mut events: Answer, format: EncodingFormat) -> Result<EmbeddingList, ApiError> {
    let mut data = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Queued { .. }
            | Event::Prefill { .. }
            | Event::Reasoning { .. }
            | Event::Delta { .. }
            | Event::ToolCall { .. }
            | Event::ToolArguments { .. }
            | Event::Scored { .. } => {}
            Event::Embedding {
                index, embedding, ..
            } => data.push(EmbeddingEntry {
                object: "embedding".to_owned(),
                index,
                embedding: match format {
                    EncodingFormat::Float => Numbers::Float(embedding),
                    EncodingFormat::Base64 => Numbers::Base64(Vector(embedding).to_base64()),
                },
            }),
            Event::Done(done) => {
                return Ok(EmbeddingList {
                    object: "list".to_owned(),
                    data,
                    model: done.model,
                    usage: EmbeddingUsage {
                        prompt_tokens: done.usage.prompt_tokens,
                        total_tokens: done.usage.total_tokens,
                    },
                });
            }
            Event::Error { error } => return Err(error),
        }
    }
    Err(stream::cut())
}
