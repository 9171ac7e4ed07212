//! Answers that are one JSON object: results and errors.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hob_api::error::ErrorBody;
use hob_api::{ApiError, ErrorCode};
use hob_ipc::RequestId;
use serde::Serialize;

use crate::frontend::error::appearance;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `OpenAI`'s clients obey it.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

const UNENCODABLE: &str = r#"{"error":{"code":"internal","type":"server_error","message":"the answer could not be encoded","param":null}}"#;

/// An error, as the answer to a request.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) ApiError);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(appearance(self.0.code).status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        error_with_status(status, self.0)
    }
}

/// `error` with a status other than the table's.
pub(super) fn error_with_status(status: StatusCode, error: ApiError) -> Response {
    let retry_after = error.retry_after_ms.map(|ms| ms.div_ceil(1000).max(1));
    let retry = appearance(error.code).retry;
    let mut response = encoded(status, &ErrorBody { error });
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    headers.insert(
        SHOULD_RETRY,
        HeaderValue::from_static(if retry { "true" } else { "false" }),
    );
    response
}

/// `value` with status 200.
pub(super) fn ok(value: &impl Serialize) -> Response {
    encoded(StatusCode::OK, value)
}

/// `body` of the given type with status 200.
pub(super) fn body(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Answers are private, and the next one differs.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The same response, with the request's number in a header.
pub(super) fn numbered(mut response: Response, id: RequestId) -> Response {
    response
        .headers_mut()
        .insert(REQUEST_ID, HeaderValue::from(id.0));
    response
}

fn encoded(status: StatusCode, value: &impl Serialize) -> Response {
    // No type of hob-api fails to encode; were it so, the client still learns whose fault it is.
    let (status, json) = serde_json::to_vec(value).map_or_else(
        |_| (StatusCode::INTERNAL_SERVER_ERROR, UNENCODABLE.into()),
        |json| (status, json),
    );
    let mut response = body("application/json", Body::from(json));
    *response.status_mut() = status;
    response
}

/// A response head and body as bytes, for a connection that gets no place and thus no router.
pub(super) fn raw(error: ApiError) -> Vec<u8> {
    let status = appearance(error.code).status;
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    let retry_after = error
        .retry_after_ms
        .map(|ms| format!("retry-after: {}\r\n", ms.div_ceil(1000).max(1)))
        .unwrap_or_default();
    let json = serde_json::to_vec(&ErrorBody { error }).unwrap_or_default();
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n\
         cache-control: no-store\r\ncontent-length: {}\r\n{retry_after}connection: close\r\n\r\n",
        json.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&json);
    bytes
}

/// No such path, model or method.
pub(super) fn not_found(code: ErrorCode, message: String, hint: &str) -> Refusal {
    Refusal(ApiError::new(code, message).hint(hint))
}
