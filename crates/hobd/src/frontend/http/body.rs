//! Reading a request's body within bounds.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use bytes::Bytes;
use hob_api::{ApiError, ErrorCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::settings::Limits;

/// How much of a body that is too large is read and thrown away. Simple clients send all before
/// they look at the answer, and would otherwise see a broken pipe instead of it.
const DISCARD_BYTES_MAX: usize = 16 << 20;
/// For how long.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// The whole body of `request`. Its `Content-Type` is not looked at: curl's `-d` names a wrong
/// one, and pages of other origins are refused by `Origin` already.
///
/// # Errors
/// `payload_too_large`; `request_timeout` if it does not arrive in time; `invalid_request` if it
/// breaks off.
pub(super) async fn read(request: Request, limits: &Limits) -> Result<Bytes, ApiError> {
    let (head, mut body) = request.into_parts();
    if announced_bytes(&head.headers).is_some_and(|bytes| bytes > limits.body_bytes) {
        // A client that asks first has sent nothing yet, and need not.
        if !head.headers.contains_key(EXPECT) {
            discard(&mut body).await;
        }
        return Err(too_large(limits));
    }
    let whole = Limited::new(&mut body, limits.body_bytes).collect();
    match timeout(limits.stall_timeout, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(&mut body).await;
            Err(too_large(limits))
        }
        Ok(Err(_)) => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "the request's body is malformed or breaks off",
        )
        .hint("send as many bytes as the head announces")),
        Err(_) => Err(ApiError::new(
            ErrorCode::RequestTimeout,
            format!(
                "the request's body did not arrive within {} s",
                limits.stall_timeout.as_secs_f32()
            ),
        )
        .hint("send the whole body at once")),
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    // hyper let only digits through; what usize can't hold is too large as well.
    Some(length.parse().unwrap_or(usize::MAX))
}

async fn discard(body: &mut Body) {
    let all = async {
        let mut bytes = 0;
        while bytes < DISCARD_BYTES_MAX {
            let Some(Ok(frame)) = body.frame().await else {
                break;
            };
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // If time runs out the connection is closed with the rest unread.
    let _ = timeout(DISCARD_TIME_MAX, all).await;
}

fn too_large(limits: &Limits) -> ApiError {
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!(
            "the request's body is larger than {} bytes",
            limits.body_bytes
        ),
    )
    .hint("send a shorter text")
}
