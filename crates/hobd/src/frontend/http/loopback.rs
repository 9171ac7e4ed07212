//! The door over TCP, on loopback: who has the token counts as one user.
//!
//! No kernel tells who is at the other end of a TCP connection. So a request is heard if it shows the
//! token, and then it is that of the user whom the settings name, with that user's limits,
//! conversations and pins. What a browser could be made to send is refused before that, by `guard`.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hob_api::{ApiError, ErrorCode};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connection::{ACCEPT_PAUSE, Client, Connection, finish, full, is_passing};
use super::hangup::HangUp;
use super::places::Places;
use super::reply::{self, Refusal};
use super::strangers::{Stranger, Strangers};
use crate::request::Caller;
use crate::settings::Limits;
use crate::token::Token;

/// How long a wrong token is not answered. Each guess takes a connection as well, and of those who
/// know no token there are few.
const GUESS_PAUSE: Duration = Duration::from_secs(1);
/// Wrong tokens are told to the log this often at most.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Who may come in, and as whom.
#[derive(Debug)]
pub struct Admission {
    /// What they have to show.
    pub token: Token,
    /// The user that they are then.
    pub uid: u32,
}

/// What the middleware needs.
pub(super) struct Entrance {
    admission: Admission,
    places: Places,
    guesses: Mutex<Guesses>,
}

/// Wrong tokens since the log was told.
#[derive(Default)]
struct Guesses {
    count: u64,
    told: Option<Instant>,
}

/// `router`, for who has the token.
pub(super) fn guarded(router: Router, admission: Admission, places: Places) -> Router {
    let entrance = Arc::new(Entrance {
        admission,
        places,
        guesses: Mutex::default(),
    });
    router.layer(middleware::from_fn_with_state(entrance, admit))
}

/// Serves `router` to clients of `listener` until `shutdown`, then lets connections finish.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let strangers = Arc::new(Strangers::default());
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_passing(&error) => {
                    warn!(%error, "a connection over TCP can't be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        // Each token of an answer is a small write of its own. It goes without this, too, later.
        let _ = stream.set_nodelay(true);
        let hang_up = HangUp::at_end_of_input(&stream);
        let client = Client::Stranger(Arc::new(strangers.come()));
        let connection = Connection::new(router.clone(), limits, shutdown.clone());
        connections.spawn(connection.run(stream, hang_up, client));
        // Who has sent the token already is known before the next one comes.
        yield_now().await;
    }
    drop(listener);
    finish(connections, limits).await;
    Ok(())
}

/// The middleware: hears who has the token.
async fn admit(
    State(entrance): State<Arc<Entrance>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(stranger) = request.extensions_mut().remove::<Arc<Stranger>>() else {
        return Refusal(no_entry()).into_response();
    };
    let shown = shown(request.headers());
    if !shown.is_some_and(|token| entrance.admission.token.is(token)) {
        let challenge = match shown {
            None => "Bearer realm=\"hob\"",
            Some(_) => "Bearer realm=\"hob\", error=\"invalid_token\"",
        };
        entrance.note_guess();
        sleep(GUESS_PAUSE).await;
        let mut response = reply::error_with_status(StatusCode::UNAUTHORIZED, no_entry());
        let headers = response.headers_mut();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let uid = entrance.admission.uid;
    if !stranger.becomes_known(uid, &entrance.places) {
        let mut response = Refusal(full()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    // No log and no route needs to see the token.
    request.headers_mut().remove(AUTHORIZATION);
    request.extensions_mut().insert(Caller { uid });
    next.run(request).await
}

/// The token that a request shows: one header with the scheme `Bearer` (RFC 6750).
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let value = given.next()?.as_bytes();
    if given.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ")).then(|| token.trim_ascii())
}

fn no_entry() -> ApiError {
    ApiError::new(
        ErrorCode::AccessDenied,
        "the request does not show the token that this address asks for",
    )
    .hint("give the content of http.token_file as the API key, or use the Unix socket")
}

impl Entrance {
    /// Counts a wrong token, and tells the log now and then.
    fn note_guess(&self) {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.count += 1;
        let due = guesses
            .told
            .is_none_or(|told| told.elapsed() >= WARNING_INTERVAL);
        if due {
            warn!(
                requests = guesses.count,
                "requests over http.listen did not show its token"
            );
            *guesses = Guesses {
                count: 0,
                told: Some(Instant::now()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_in_one_header_as_a_bearers() {
        let header = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            shown(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(header(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(header(&["bearer  abc "]), Some(b"abc".to_vec()));
        for other in [
            &[][..],
            &["Basic abc"],
            &["abc"],
            &["Bearer"],
            &["Bearerabc"],
            &["Bearer abc", "Bearer abc"],
        ] {
            assert_eq!(header(other), None, "{other:?}");
        }
    }
}
