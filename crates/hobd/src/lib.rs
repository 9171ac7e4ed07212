//! The hob daemon: front doors, scheduler, engine supervisor.
//!
//! Commands go down (`frontend` → [`daemon`] → [`engine`]), events come up, and nobody calls up.
//! [`request`] is the only way from wire types to valid ones; [`scheduler`] decides and does
//! nothing else; [`daemon`] is the one task that owns it. `ARCHITECTURE.md` traces one request
//! through these files.

pub mod answer;
pub mod budget;
pub mod conversations;
pub mod daemon;
pub mod decision;
pub mod decode;
pub mod engine;
mod forms;
pub mod frontend;
pub mod fulfilment;
pub mod home;
pub mod hub;
pub mod kernels;
#[cfg(test)]
mod language;
pub mod listen;
mod name;
pub mod notify;
mod output;
pub mod pins;
pub mod pressure;
pub mod providers;
mod reasoning;
pub mod request;
pub mod scheduler;
pub mod settings;
pub mod supply;
pub mod token;
pub mod tuning;
mod turns;

use std::path::PathBuf;
use std::sync::Arc;

use frontend::http::loopback::Admission;
use hob_models::store::Store;
use settings::{Scope, Settings};
use token::Token;
use tokio_util::sync::CancellationToken;

/// Why hobd ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no socket to listen on.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// The door over TCP is to be opened without a token that is one.
    #[error(transparent)]
    Token(#[from] token::TokenError),
    /// The bearer of the token would be hobd itself.
    #[error(
        "http.uid is hobd's own user ({0}), who may do more than a token should; give it another \
         user's number"
    )]
    OwnUser(u32),
    /// There is no bus to serve, or another hobd serves it.
    #[error(transparent)]
    Bus(#[from] frontend::dbus::OpenError),
    /// The socket can't be served any more.
    #[error("the socket can't accept connections: {0}")]
    Accept(#[from] std::io::Error),
}

/// Serves until `shutdown` is cancelled and the last answer has ended.
///
/// The doors open before the model is loaded: callers then wait, or see the state, instead of
/// finding nobody.
///
/// # Errors
/// [`RunError`].
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), RunError> {
    let listeners = listen::listen(&settings.socket, settings.scope, settings.http.listen)?;
    let admission = admission(&settings)?;
    let notifier = notify::Notifier::from_env();
    let settings = Arc::new(settings);
    let store = Store::open(&settings.models_dir);
    let (daemon, task) = daemon::start(
        Arc::clone(&settings),
        store,
        notifier.clone(),
        shutdown.clone(),
    );
    let conversations = daemon.conversations().clone();
    let bus = if settings.dbus {
        frontend::dbus::open(daemon.clone(), Arc::clone(&settings)).await?
    } else {
        None
    };
    let bus_shutdown = shutdown.clone();
    let bus = tokio::spawn(async move {
        if let Some(bus) = bus {
            bus.serve(bus_shutdown).await;
        }
    });
    notifier.ready();
    frontend::http::serve(listeners, admission, daemon, settings, shutdown).await?;
    // The task ends when no answer is owed any more; then the bus has nothing left to say.
    for ended in [task.await, bus.await] {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of hobd failed");
        }
    }
    conversations.close().await;
    Ok(())
}

/// Who comes in over TCP, if anybody may.
fn admission(settings: &Settings) -> Result<Option<Admission>, RunError> {
    let http = &settings.http;
    let (Some(address), Some(file)) = (http.listen, &http.token_file) else {
        return Ok(None);
    };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let token = Token::read(file, credentials.as_deref())?;
    let own = rustix::process::geteuid().as_raw();
    let uid = http.uid.unwrap_or(own);
    if uid == own && settings.scope == Scope::System {
        return Err(RunError::OwnUser(own));
    }
    tracing::info!(%address, uid, "listening for clients that have the token");
    Ok(Some(Admission { token, uid }))
}
