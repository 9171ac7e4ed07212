//! HTTP/1.1 on the Unix socket: `OpenAI`'s API, and hob's own calls below `/hob/v1/`.
//!
//! A client's rights are its uid's, as the kernel tells it. Everything that a client can make
//! hobd hold is bounded: connections, heads, bodies, and the time for each; a client that goes
//! away or stops reading drops its answer, which cancels the request.

mod body;
mod connection;
mod conversations;
mod decisions;
mod embeddings;
mod guard;
mod hangup;
mod home;
mod openai;
mod path;
mod pins;
mod places;
mod providers;
mod reply;
mod routes;
mod stall;
mod stream;

use std::io;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::daemon::DaemonHandle;
use crate::settings::Settings;

/// Serves clients of `listener` until `shutdown` is cancelled and the last connection has ended,
/// at most `limits.shutdown_grace` and a second later.
///
/// # Errors
/// If the listener can't accept at all. A shortage of descriptors only delays the next accept.
pub async fn serve(
    listener: UnixListener,
    daemon: DaemonHandle,
    settings: Arc<Settings>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let own_uid = rustix::process::geteuid().as_raw();
    let limits = settings.limits.clone();
    let router = routes::router(routes::Door {
        daemon,
        settings,
        own_uid,
    });
    connection::serve(listener, router, &limits, own_uid, shutdown).await
}
