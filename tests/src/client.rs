//! HTTP over the Unix socket, one connection a request.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hob_api::error::ErrorBody;
use hob_api::status::Status;
use hob_api::{ApiError, ErrorCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::stream::Stream;
use crate::wait::patiently;

/// A way to one hobd.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    /// Who it connects as, if not the tester.
    uid: Option<u32>,
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// A client of the hobd that listens on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            uid: None,
        }
    }

    /// The same way, taken by the user `uid`. Only root can do that.
    #[must_use]
    pub fn of_uid(&self, uid: u32) -> Self {
        Self {
            socket: self.socket.clone(),
            uid: Some(uid),
        }
    }

    /// A bare connection, for clients that misbehave.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect(&self) -> std::io::Result<UnixStream> {
        match self.uid {
            None => UnixStream::connect(&self.socket).await,
            Some(uid) => connect_as(&self.socket, uid),
        }
    }

    /// Sends `bytes`, then returns all that comes back until hobd closes the connection.
    ///
    /// # Panics
    /// If hobd does not close it.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await.expect("connecting");
        // hobd may answer and close before it has read everything; what it answers counts.
        let _ = stream.write_all(bytes).await;
        let mut reply = Vec::new();
        let _ = patiently("hobd closes", stream.read_to_end(&mut reply)).await;
        String::from_utf8_lossy(&reply).into_owned()
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        let stream = self.connect().await.expect("connecting to hobd's socket");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The request's own error tells more than the connection's.
            let _ = connection.await;
        });
        patiently("hobd's reply", sender.send_request(request)).await
    }

    /// A whole exchange.
    ///
    /// # Panics
    /// If hobd hangs up or takes too long.
    pub async fn exchange(&self, request: Request<Full<Bytes>>) -> Reply {
        let response = self.send(request).await.expect("a reply from hobd");
        let (head, body) = response.into_parts();
        let body = patiently("the body", body.collect())
            .await
            .expect("the whole body");
        Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        }
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Reply {
        self.exchange(request(Method::GET, path, "", Bytes::new()))
            .await
    }

    /// `POST path` with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_bytes(path, body.to_string().into()).await
    }

    /// `PATCH path` with JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        let body = body.to_string().into();
        self.exchange(request(Method::PATCH, path, "", body)).await
    }

    /// `PUT path` with JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        let body = body.to_string().into();
        self.exchange(request(Method::PUT, path, "", body)).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Reply {
        self.exchange(request(Method::DELETE, path, "", Bytes::new()))
            .await
    }

    /// `POST path` with bytes that claim to be JSON.
    pub async fn post_bytes(&self, path: &str, body: Bytes) -> Reply {
        self.exchange(request(Method::POST, path, "", body)).await
    }

    /// `POST path` for a streamed answer in `accept`'s type. An HTTP error counts as an answer
    /// that failed before it began: hobd gives an early error its own status.
    ///
    /// # Panics
    /// If the reply is neither a stream nor an error.
    pub async fn stream(&self, path: &str, body: &Value, accept: &str) -> Stream {
        let body = body.to_string().into();
        let response = self
            .send(request(Method::POST, path, accept, body))
            .await
            .expect("a reply from hobd");
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let body = patiently("the body", body.collect()).await;
            let reply = Reply {
                status: head.status,
                headers: head.headers,
                body: body.expect("the whole body").to_bytes(),
            };
            return Stream::refused(reply.any_error());
        }
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        Stream::new(body, kind.unwrap_or_default())
    }

    /// One question; the answer comes in hob's own records.
    pub async fn ask(&self, question: &str) -> Stream {
        self.ask_with(question, &json!({})).await
    }

    /// One question with more fields; the answer comes in hob's own records.
    pub async fn ask_with(&self, question: &str, fields: &Value) -> Stream {
        let body = chat(question, fields, true);
        self.stream("/v1/chat/completions", &body, "application/x-ndjson")
            .await
    }

    /// One question, answered in one piece.
    pub async fn ask_whole(&self, question: &str) -> Reply {
        self.post("/v1/chat/completions", &chat(question, &json!({}), false))
            .await
    }

    /// The status.
    pub async fn status(&self) -> Status {
        self.get("/hob/v1/status").await.json()
    }
}

/// Connects as another user. The kernel tells hobd who a thread was when it connected, so one with
/// that uid connects and ends.
/// A connection of the user `uid`; only root can make one.
pub(crate) fn connect_as(socket: &Path, uid: u32) -> std::io::Result<UnixStream> {
    let socket = socket.to_owned();
    let connecting = std::thread::spawn(move || {
        let uid = Uid::from_raw(uid);
        set_thread_res_uid(None, uid, None).expect("only root can be another user");
        std::os::unix::net::UnixStream::connect(socket)
    });
    let stream = connecting.join().expect("connecting as another user")?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// A chat request of one question, with `fields` added.
fn chat(question: &str, fields: &Value, stream: bool) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": question}],
        "stream": stream,
    });
    if let (Some(body), Some(fields)) = (body.as_object_mut(), fields.as_object()) {
        body.extend(fields.clone());
    }
    body
}

fn request(method: Method, path: &str, accept: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost");
    if !accept.is_empty() {
        builder = builder.header(ACCEPT, accept);
    }
    if !body.is_empty() {
        builder = builder.header(CONTENT_TYPE, "application/json");
    }
    builder.body(Full::new(body)).expect("a valid request")
}

impl Reply {
    /// The body as `T`.
    ///
    /// # Panics
    /// Unless the status is 200 and the body a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("unexpected body: {error}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The error, which must have this status and code, and both a cause and a hint.
    ///
    /// # Panics
    /// If it has not.
    pub fn error(&self, status: u16, code: ErrorCode) -> ApiError {
        let error = self.any_error();
        let found = (self.status.as_u16(), error.code);
        assert_eq!(found, (status, code), "{}", self.text());
        error
    }

    /// The error, whatever it is, which must have a cause and a hint.
    ///
    /// # Panics
    /// If it has not, or the reply is none.
    pub fn any_error(&self) -> ApiError {
        assert!(self.status.as_u16() >= 400, "{}", self.text());
        let body: ErrorBody = serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not an error: {error}: {}", self.text()));
        assert_helpful(&body.error);
        body.error
    }
}

/// Every error that a client sees tells the cause and what to do about it.
fn assert_helpful(error: &ApiError) {
    assert!(!error.message.is_empty(), "no cause: {error:?}");
    let hint = error.hint.as_deref().unwrap_or_default();
    assert!(!hint.is_empty(), "no hint: {error:?}");
}
