//! `POST /hob/v1/home`: what is meant by what somebody said. Nothing is done about it here.

use std::time::Instant;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::post;
use hob_api::{ApiError, ErrorCode};

use super::body;
use super::providers::computed;
use super::reply::{self, Refusal};
use super::routes::Door;
use crate::home;
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
    let asked = ValidHome::new(request::parse_home(&body)?)?;
    let providers = door.daemon.providers();
    let entries = match &asked.provider {
        Some(name) => vec![providers.get(caller.uid, name)?],
        None => providers.all(caller.uid),
    };
    if entries.is_empty() {
        let message = "you have registered no provider";
        return Err(Refusal(ApiError::new(ErrorCode::NotFound, message).hint(
            "PUT /hob/v1/providers/NAME tells hobd what your home can do; hobd forgets it when it ends",
        )));
    }
    let answer = computed(move || {
        let started = Instant::now();
        let mut answer = home::answer(&entries, &asked.text, &asked.options)?;
        answer.read_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(answer)
    });
    Ok(reply::ok(&answer.await?))
}
