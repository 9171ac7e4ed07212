//! Accepting connections, and what each may cost.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hob_api::{ApiError, ErrorCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::hangup::HangUp;
use super::places::{Place, Places};
use super::reply;
use super::stall::WriteStall;
use super::strangers::Stranger;
use crate::request::Caller;
use crate::settings::Limits;

/// Bytes that hobd holds per connection for reading, and again for writing. A head must fit.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Connections without a place that are told so with patience; more get one write and no read.
const TURNED_AWAY_MAX: usize = 128;
/// How long a last word to a client may take.
const LAST_WORD_TIME_MAX: Duration = Duration::from_secs(1);
/// How much of what a client already sent is read before it is left; closing a socket with unread
/// bytes would cost it the answer.
const LAST_READ_BYTES_MAX: usize = 64 << 10;
/// How long to wait when no descriptor is free.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client's socket.
pub(super) trait Socket: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static> Socket for S {}

/// Serves `router` to clients of `listener` until `shutdown`, then lets connections finish.
pub(super) async fn serve(
    listener: UnixListener,
    router: Router,
    limits: &Limits,
    places: Places,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut turned_away = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            Some(_) = turned_away.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_passing(&error) => {
                    warn!(%error, "a connection can't be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        // A client whose identity the kernel does not tell has none.
        let Ok(credentials) = stream.peer_cred() else {
            continue;
        };
        let caller = Caller {
            uid: credentials.uid(),
        };
        if let Some(place) = places.take(caller.uid) {
            let connection = Connection::new(router.clone(), limits, shutdown.clone());
            let hang_up = HangUp::of(&stream);
            let client = Client::Known {
                caller,
                _place: place,
            };
            connections.spawn(connection.run(stream, hang_up, client));
        } else {
            debug!(uid = caller.uid, "no place for a connection");
            if turned_away.len() < TURNED_AWAY_MAX {
                turned_away.spawn(last_word(stream, full()));
            } else {
                // A new socket's buffer is empty: the write is whole or the client is gone.
                let _ = stream.try_write(&reply::raw(full()));
            }
        }
    }
    drop(listener);
    finish(connections, limits).await;
    Ok(())
}

/// Waits for connections to end, for as long as running answers may go on.
pub(super) async fn finish(mut connections: JoinSet<()>, limits: &Limits) {
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.shutdown_grace + LAST_WORD_TIME_MAX, all)
        .await
        .is_err()
    {
        warn!(
            connections = connections.len(),
            "closing connections that do not end"
        );
    }
}

/// Whether accepting may work again later: descriptors or memory ran out, or one client gave up.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PERM,
        Errno::PROTO,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| passing.iter().any(|errno| errno.raw_os_error() == code))
}

pub(super) fn full() -> ApiError {
    ApiError::new(ErrorCode::Busy, "hobd has as many connections as it may")
        .hint("try again in a second, and close connections after use")
        .retry_after_ms(1000)
}

/// Who is at the other end of a connection; held until it ends.
pub(super) enum Client {
    /// Somebody whom the kernel names, with a place of their own.
    Known {
        caller: Caller,
        /// Goes back when the connection ends.
        _place: Place,
    },
    /// Somebody who has yet to show the token.
    Stranger(Arc<Stranger>),
}

impl Client {
    /// Tells the routes who asks.
    fn introduce(&self, request: &mut Request<Incoming>) {
        match self {
            Self::Known { caller, .. } => {
                request.extensions_mut().insert(*caller);
            }
            Self::Stranger(stranger) => {
                request.extensions_mut().insert(Arc::clone(stranger));
            }
        }
    }

    /// Returns when the client has to make room for another.
    async fn turned_away(&self) {
        match self {
            Self::Known { .. } => std::future::pending().await,
            Self::Stranger(stranger) => stranger.turned_away().await,
        }
    }
}

/// One client's connection.
pub(super) struct Connection {
    router: Router,
    header_timeout: Duration,
    stall_timeout: Duration,
    shutdown: CancellationToken,
}

impl Connection {
    pub(super) fn new(router: Router, limits: &Limits, shutdown: CancellationToken) -> Self {
        Self {
            router,
            header_timeout: limits.header_timeout,
            stall_timeout: limits.stall_timeout,
            shutdown,
        }
    }

    pub(super) async fn run(
        self,
        stream: impl Socket,
        hang_up: io::Result<HangUp>,
        client: Client,
    ) {
        let hang_up = match hang_up {
            Ok(hang_up) => hang_up,
            Err(error) => {
                warn!(%error, "a connection can't be watched");
                return last_word(stream, full()).await;
            }
        };
        let router = self.router.clone();
        let client = &client;
        let asked = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            asks.store(true, Ordering::Relaxed);
            client.introduce(&mut request);
            let response = router.clone().oneshot(request.map(Body::new));
            let response: Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>> =
                Box::pin(response);
            response
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            // The end of what a client sends is not the end of its wish for an answer.
            .half_close(true)
            .serve_connection(
                TokioIo::new(WriteStall::new(stream, self.stall_timeout)),
                service,
            );
        let served = async {
            tokio::select! {
                ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => return ended,
                () = self.shutdown.cancelled() => {}
            }
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        };
        let ended = tokio::select! {
            // What has arrived is read before anybody has to make room.
            biased;
            ended = served => ended,
            // What was under way is dropped with the connection, and so cancelled.
            () = hang_up.wait() => return debug!("a client hung up"),
            () = client.turned_away() => return debug!("a client without a token made room"),
        };
        let Err(error) = ended else {
            return;
        };
        debug!(%error, "a connection ended early");
        let parts = connection.into_parts();
        // A client that keeps its connection after an answer is left without a word: it could
        // take one for the answer to its next request. Any other hears why it gets none.
        let expects_a_word = !asked.load(Ordering::Relaxed) || !parts.read_buf.is_empty();
        if error.is_timeout() && expects_a_word {
            let stream = parts.io.into_inner().into_inner();
            last_word(stream, late(self.header_timeout)).await;
        }
    }
}

fn late(header_timeout: Duration) -> ApiError {
    ApiError::new(
        ErrorCode::RequestTimeout,
        format!(
            "the request's head did not arrive within {} s",
            header_timeout.as_secs_f32()
        ),
    )
    .hint("send the whole head at once")
}

/// Tells a client `error` and leaves it, within bounds of time and bytes.
async fn last_word(mut stream: impl Socket, error: ApiError) {
    let exchange = async {
        stream.write_all(&reply::raw(error)).await?;
        stream.shutdown().await?;
        let mut buffer = [0; 4096];
        let mut bytes = 0;
        while bytes < LAST_READ_BYTES_MAX {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => bytes += read,
            }
        }
        io::Result::Ok(())
    };
    // A client that is gone misses nothing.
    let _ = timeout(LAST_WORD_TIME_MAX, exchange).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
