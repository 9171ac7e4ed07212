//! Accepting connections, and what each may cost.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::hangup::HangUp;
use super::places::{Place, Places};
use super::reply;
use super::stall::WriteStall;
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
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` to clients of `listener` until `shutdown`, then lets connections finish.
pub(super) async fn serve(
    listener: UnixListener,
    router: Router,
    limits: &Limits,
    own_uid: u32,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let places = Places::new(limits.connections, own_uid);
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
            let connection =
                Connection::new(place, caller, router.clone(), limits, shutdown.clone());
            connections.spawn(connection.run(stream));
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
    Ok(())
}

/// Whether accepting may work again later: descriptors or memory ran out, or one client gave up.
fn is_passing(error: &io::Error) -> bool {
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

fn full() -> ApiError {
    ApiError::new(ErrorCode::Busy, "hobd has as many connections as it may")
        .hint("try again in a second, and close connections after use")
        .retry_after_ms(1000)
}

/// One client's connection.
struct Connection {
    /// Held until the connection ends.
    _place: Place,
    caller: Caller,
    router: Router,
    header_timeout: Duration,
    stall_timeout: Duration,
    shutdown: CancellationToken,
}

impl Connection {
    fn new(
        place: Place,
        caller: Caller,
        router: Router,
        limits: &Limits,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            _place: place,
            caller,
            router,
            header_timeout: limits.header_timeout,
            stall_timeout: limits.stall_timeout,
            shutdown,
        }
    }

    async fn run(self, stream: UnixStream) {
        let caller = self.caller;
        let hang_up = match HangUp::of(&stream) {
            Ok(hang_up) => hang_up,
            Err(error) => {
                warn!(%error, "a connection can't be watched");
                return last_word(stream, full()).await;
            }
        };
        let router = self.router.clone();
        let asked = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            asks.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(caller);
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
            ended = served => ended,
            // What was under way is dropped with the connection, and so cancelled.
            () = hang_up.wait() => return debug!(uid = caller.uid, "a client hung up"),
        };
        let Err(error) = ended else {
            return;
        };
        debug!(uid = caller.uid, %error, "a connection ended early");
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
async fn last_word(mut stream: UnixStream, error: ApiError) {
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
