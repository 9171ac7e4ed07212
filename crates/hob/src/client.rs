//! HTTP/1.1 to the daemon over its Unix socket.
//!
//! Each request has a connection of its own, so that dropping an [`Answer`] closes it, which is
//! how a request is cancelled.

mod conversations;
mod decisions;
mod discovery;
mod home;
mod pins;
mod tuning;

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hob_api::chat::ChatRequest;
use hob_api::error::ErrorBody;
use hob_api::model::{LoadRequest, ModelList};
use hob_api::status::Status;
use hob_api::{ApiError, Event};
use hob_models::locations::{Scope, socket_path};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::exit::ExitStatus;
use crate::lines::{LineBuffer, LineTooLong};

/// How long the daemon may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take to answer what needs no model.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to accept a question; the answer itself streams.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest reply that is not a stream, in bytes: a conversation as long as the daemon stores, each
/// character escaped.
const REPLY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why the daemon could not be asked, or did not answer as agreed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nothing listens on any of the sockets.
    #[error("no hob daemon answers ({})", tried(.sockets))]
    NoDaemon {
        /// Where it was looked for.
        sockets: Vec<PathBuf>,
    },
    /// The socket is there, and may not be used.
    #[error("{} may not be used by this user", .socket.display())]
    PermissionDenied {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket could not be used for another reason.
    #[error("{}: {source}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon is there and does not react.
    #[error("hobd did not react within {} s", .after.as_secs())]
    Unresponsive {
        /// How long it was given.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection to hobd broke: {0}")]
    Http(#[from] hyper::Error),
    /// What came is not what a hob daemon sends.
    #[error("what answers on {} does not speak as hobd does: {what}", .socket.display())]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The stream ended before the answer did.
    #[error("the answer was cut: hobd closed the connection before the end")]
    Cut,
    /// The daemon's own error.
    #[error("{0}")]
    Api(Box<ApiError>),
}

fn tried(sockets: &[PathBuf]) -> String {
    let sockets: Vec<_> = sockets.iter().map(|s| s.display().to_string()).collect();
    format!("tried {}", sockets.join(" and "))
}

impl ClientError {
    /// The exit status that tells scripts about it.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        match self {
            Self::NoDaemon { .. }
            | Self::PermissionDenied { .. }
            | Self::Connect { .. }
            | Self::Unresponsive { .. } => ExitStatus::NoDaemon,
            Self::Http(_) | Self::Protocol { .. } | Self::Cut => ExitStatus::Failure,
            Self::Api(error) => error.code.into(),
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoDaemon { .. } => {
                "start one for yourself with `hobd --user`, or the board's with \
                 `sudo systemctl start hobd`"
            }
            Self::PermissionDenied { .. } => {
                "add yourself to its group with `sudo usermod -aG hob $USER`, then log in again"
            }
            Self::Connect { .. } => "check the path given with --socket or HOB_SOCKET",
            Self::Unresponsive { .. } => {
                "look at its log (`journalctl -u hobd`), and restart it if it hangs"
            }
            Self::Http(_) | Self::Cut => "see `hob status`; hobd may have been restarted",
            Self::Protocol { .. } => "hob and hobd may be of different versions: see `hob doctor`",
            Self::Api(error) => return error.hint.clone(),
        };
        Some(hint.to_owned())
    }
}

/// A daemon that listened when it was looked for.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// The path of what has this name in a collection. What can't be in a name is escaped, for the daemon
/// to refuse.
fn named(collection: &str, name: &str) -> String {
    let mut path = format!("{collection}/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

impl Client {
    /// Looks for the daemon: on `explicit` alone if given, else on the user's socket, then on
    /// the board's.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`], or what is wrong with the one socket that is there.
    pub(crate) async fn find(explicit: Option<&Path>) -> Result<Self, ClientError> {
        discovery::find(explicit).await
    }

    /// The daemon on this socket, which need not listen yet.
    pub(crate) fn on(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What `hob models COMMAND` needs behind it to mean this daemon's models, as far as its socket
    /// tells.
    pub(crate) fn models_option(&self) -> &'static str {
        let board = socket_path(Scope::System);
        if board.as_deref() == Ok(self.socket.as_path()) {
            " --system"
        } else {
            ""
        }
    }

    /// `GET /hob/v1/status`.
    pub(crate) async fn status(&self) -> Result<Status, ClientError> {
        self.call(Method::GET, "/hob/v1/status", Bytes::new(), REPLY_TIMEOUT)
            .await
    }

    /// `GET /v1/models`.
    pub(crate) async fn models(&self) -> Result<ModelList, ClientError> {
        self.call(Method::GET, "/v1/models", Bytes::new(), REPLY_TIMEOUT)
            .await
    }

    /// `POST /hob/v1/load`: returns when the model is ready, which takes as long as it takes;
    /// the daemon bounds it.
    pub(crate) async fn load(&self, model: &str) -> Result<(), ClientError> {
        let body = self.encode(&LoadRequest {
            model: model.to_owned(),
        })?;
        let response = self
            .send(Method::POST, "/hob/v1/load", body, Duration::MAX)
            .await?;
        self.accepted(response).await.map(drop)
    }

    /// Asks; the answer's events then come through [`Answer::next`].
    pub(crate) async fn chat(&self, request: &ChatRequest) -> Result<Answer, ClientError> {
        let body = self.encode(request)?;
        let response = self
            .send(Method::POST, "/v1/chat/completions", body, ACCEPT_TIMEOUT)
            .await?;
        let exchange = self.accepted(response).await?;
        Ok(Answer {
            socket: self.socket.clone(),
            exchange,
            lines: LineBuffer::default(),
            ended: false,
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        reply_timeout: Duration,
    ) -> Result<T, ClientError> {
        let reply = self.reply(method, path, body, reply_timeout).await?;
        serde_json::from_slice(&reply).map_err(|error| self.protocol(error.to_string()))
    }

    /// The body of a reply.
    async fn reply(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        reply_timeout: Duration,
    ) -> Result<Bytes, ClientError> {
        let whole = async {
            let exchange = self.send(method, path, body, reply_timeout).await?;
            let exchange = self.accepted(exchange).await?;
            self.collect(exchange).await
        };
        let too_late = ClientError::Unresponsive {
            after: reply_timeout,
        };
        timeout(reply_timeout, whole).await.unwrap_or(Err(too_late))
    }

    fn encode<T: serde::Serialize>(&self, body: &T) -> Result<Bytes, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.protocol(error.to_string()))?;
        Ok(json.into())
    }

    /// Sends a request over a new connection and waits for the head of the reply.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        head_timeout: Duration,
    ) -> Result<Exchange, ClientError> {
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut wire = Wire(Some(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/x-ndjson, application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.protocol(error.to_string()))?;
        let response = timeout(head_timeout, wire.drive(sender.send_request(request)))
            .await
            .map_err(|_| ClientError::Unresponsive {
                after: head_timeout,
            })??;
        Ok(Exchange { response, wire })
    }

    /// The exchange if its status is a success, else the daemon's error.
    async fn accepted(&self, exchange: Exchange) -> Result<Exchange, ClientError> {
        let status = exchange.response.status();
        if status.is_success() {
            return Ok(exchange);
        }
        let reply = timeout(REPLY_TIMEOUT, self.collect(exchange))
            .await
            .map_err(|_| ClientError::Unresponsive {
                after: REPLY_TIMEOUT,
            })??;
        match serde_json::from_slice::<ErrorBody>(&reply) {
            Ok(body) => Err(ClientError::Api(Box::new(body.error))),
            Err(_) if status == StatusCode::NOT_FOUND => {
                Err(self.protocol("it does not know the path asked for".to_owned()))
            }
            Err(_) => Err(self.protocol(format!("status {status} without an error"))),
        }
    }

    async fn collect(&self, mut exchange: Exchange) -> Result<Bytes, ClientError> {
        let body = Limited::new(exchange.response.into_body(), REPLY_BYTES_MAX);
        match exchange.wire.drive(body.collect()).await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.protocol(error.to_string())),
        }
    }

    fn protocol(&self, what: String) -> ClientError {
        ClientError::Protocol {
            socket: self.socket.clone(),
            what,
        }
    }
}

/// Connects, or tells why not in terms that a hint can be given for.
async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let connected = timeout(CONNECT_TIMEOUT, UnixStream::connect(socket))
        .await
        .map_err(|_| ClientError::Unresponsive {
            after: CONNECT_TIMEOUT,
        })?;
    connected.map_err(|source| match source.kind() {
        // A socket file without a listener is left when a daemon is killed.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon {
            sockets: vec![socket.to_owned()],
        },
        io::ErrorKind::PermissionDenied => ClientError::PermissionDenied {
            socket: socket.to_owned(),
        },
        _ => ClientError::Connect {
            socket: socket.to_owned(),
            source,
        },
    })
}

/// A reply and the connection that it arrives on.
#[derive(Debug)]
struct Exchange {
    response: Response<Incoming>,
    wire: Wire,
}

/// A connection, or `None` when it has ended.
///
/// It moves its bytes only while something of it is waited for. A task would outlive its drop:
/// between two answers of a chat nothing runs that could end it.
#[derive(Debug)]
struct Wire(Option<http1::Connection<TokioIo<UnixStream>, Full<Bytes>>>);

impl Wire {
    /// Waits for `future`, which needs this connection's bytes.
    async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(output);
            }
            let Some(connection) = &mut self.0 else {
                return Poll::Pending;
            };
            if Pin::new(connection).poll(context).is_ready() {
                // Its own error reaches the future, which has just lost what it waits for.
                self.0 = None;
                return future.as_mut().poll(context);
            }
            Poll::Pending
        })
        .await
    }
}

impl Exchange {
    /// Waits for more of the reply's body.
    ///
    /// # Errors
    /// [`ClientError::Cut`] if it ends, or what broke it.
    async fn read_on(&mut self, lines: &mut LineBuffer) -> Result<(), ClientError> {
        let Self { response, wire } = self;
        let frame = wire.drive(response.body_mut().frame()).await;
        match frame.ok_or(ClientError::Cut)? {
            Ok(frame) => {
                if let Ok(chunk) = frame.into_data() {
                    lines.push(&chunk);
                }
                Ok(())
            }
            Err(error) if error.is_incomplete_message() => Err(ClientError::Cut),
            Err(error) => Err(error.into()),
        }
    }
}

/// An answer as it arrives. Dropping it cancels the request.
#[derive(Debug)]
pub(crate) struct Answer {
    socket: PathBuf,
    exchange: Exchange,
    lines: LineBuffer,
    ended: bool,
}

impl Answer {
    /// The next event; `None` after the terminal one. May be dropped and called again.
    ///
    /// # Errors
    /// [`ClientError::Cut`] if the stream ends before a terminal event, or what broke it.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        if self.ended {
            return Ok(None);
        }
        loop {
            if let Some(event) = self.buffered()? {
                self.ended = event.is_terminal();
                return Ok(Some(event));
            }
            self.exchange.read_on(&mut self.lines).await?;
        }
    }

    /// The next event among the bytes that are here.
    fn buffered(&mut self) -> Result<Option<Event>, ClientError> {
        let protocol = |what: String| ClientError::Protocol {
            socket: self.socket.clone(),
            what,
        };
        let line = self.lines.next_line();
        let Some(line) = line.map_err(|error: LineTooLong| protocol(error.to_string()))? else {
            return Ok(None);
        };
        let event = serde_json::from_slice(line).map_err(|error| protocol(error.to_string()))?;
        Ok(Some(event))
    }
}
