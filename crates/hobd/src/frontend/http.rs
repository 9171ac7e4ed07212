//! HTTP/1.1 on the Unix socket, and on loopback if the settings want it: `OpenAI`'s API, and hob's own
//! calls below `/hob/v1/`.
//!
//! A client's rights are its uid's, as the kernel tells it, or those of the user that the settings
//! name for who has the token. Everything that a client can make
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
pub mod loopback;
mod openai;
mod path;
mod pins;
mod places;
mod providers;
mod reply;
mod routes;
mod stall;
mod strangers;
mod stream;
mod tuning;

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::guard::Hosts;
use self::loopback::Admission;
use self::places::Places;
use crate::daemon::DaemonHandle;
use crate::listen::Listeners;
use crate::settings::Settings;

/// Serves clients of `listeners` until `shutdown` is cancelled and the last connection has ended, at
/// most `limits.shutdown_grace` and a second later. Over TCP it serves those that `admission` lets in,
/// and nobody if that is `None`.
///
/// # Errors
/// If a listener can't accept at all. A shortage of descriptors only delays the next accept.
pub async fn serve(
    listeners: Listeners,
    admission: Option<Admission>,
    daemon: DaemonHandle,
    settings: Arc<Settings>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let own_uid = rustix::process::geteuid().as_raw();
    let limits = settings.limits.clone();
    let places = Places::new(limits.connections, own_uid);
    let door = routes::Door {
        daemon,
        settings,
        manager: Some(own_uid),
    };
    let over_tcp = over_tcp(
        listeners.loopback,
        admission,
        door.clone(),
        places.clone(),
        shutdown.clone(),
    );
    let router = guard::guarded(routes::router(door), Hosts::Local);
    let over_unix = connection::serve(listeners.unix, router, &limits, places, shutdown);
    tokio::try_join!(over_unix, over_tcp).map(|_| ())
}

async fn over_tcp(
    listener: Option<TcpListener>,
    admission: Option<Admission>,
    door: routes::Door,
    places: Places,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (Some(listener), Some(admission)) = (listener, admission) else {
        return Ok(());
    };
    let limits = door.settings.limits.clone();
    let hosts = Hosts::Loopback(listener.local_addr()?.port());
    // A token is for asking: it loads and unloads nothing.
    let door = routes::Door {
        manager: None,
        ..door
    };
    let router = loopback::guarded(routes::router(door), admission, places);
    // What a web page sends is refused before its token is looked at.
    let router = guard::guarded(router, hosts);
    loopback::serve(listener, router, &limits, shutdown).await
}
