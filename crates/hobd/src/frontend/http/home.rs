//! `POST /hob/v1/home`: what is meant by what somebody said; with `execute`, done as well.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::post;
use futures_util::StreamExt as _;
use hob_api::home::HomeAnswer;
use hob_api::{ApiError, Event};

use super::body;
use super::reply::{self, Refusal};
use super::routes::Door;
use super::stream;
use crate::answer::Answer;
use crate::request::{self, Caller, ValidFulfilment, ValidHome};

pub(super) fn router() -> Router<Door> {
    Router::new().route("/hob/v1/home", post(read))
}

async fn read(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let limits = &door.settings.limits;
    let request = request::parse_home(&body::read(request, limits).await?)?;
    if request.execute {
        let sampling = &door.settings.sampling;
        let valid = ValidFulfilment::of_text(request, caller, sampling, limits)?;
        let answer = door.daemon.fulfil(valid).await?;
        return Ok(reply::ok(&gathered(answer).await?));
    }
    request::check_only_read(&request)?;
    let said = ValidHome::new(request)?;
    Ok(reply::ok(&door.daemon.interpret(caller.uid, said).await?))
}

/// What was done, with the reply, whoever wrote it. Dropping the future cancels what is under way.
async fn gathered(mut answer: Answer) -> Result<HomeAnswer, ApiError> {
    let mut text = String::new();
    while let Some(event) = answer.next().await {
        match event {
            Event::Delta { text: more } if text.len() + more.len() > stream::ANSWER_BYTES_MAX => {
                return Err(stream::too_long());
            }
            Event::Delta { text: more } => text.push_str(&more),
            Event::Done(done) => {
                let mut home = done.home.map_or_else(HomeAnswer::default, |home| *home);
                home.reply = Some(text);
                return Ok(home);
            }
            Event::Error { error } => return Err(error),
            Event::Queued { .. }
            | Event::Prefill { .. }
            | Event::Reasoning { .. }
            | Event::ToolCall { .. }
            | Event::ToolArguments { .. }
            | Event::Embedding { .. }
            | Event::Scored { .. } => {}
        }
    }
    Err(stream::cut())
}
