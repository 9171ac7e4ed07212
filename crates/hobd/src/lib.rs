//! The hob daemon: front doors, scheduler, engine supervisor.
//!
//! Commands go down (`frontend` → [`daemon`] → [`engine`]), events come up, and nobody calls up.
//! [`request`] is the only way from wire types to valid ones; [`scheduler`] decides and does
//! nothing else; [`daemon`] is the one task that owns it. `ARCHITECTURE.md` traces one request
//! through these files.

pub mod answer;
pub mod budget;
mod calls;
pub mod conversations;
pub mod daemon;
pub mod decision;
pub mod engine;
pub mod frontend;
pub mod home;
pub mod listen;
mod name;
pub mod notify;
pub mod pins;
pub mod pressure;
pub mod providers;
pub mod request;
pub mod scheduler;
pub mod settings;
pub mod supply;

use std::sync::Arc;

use hob_models::store::Store;
use settings::Settings;
use tokio_util::sync::CancellationToken;

/// Why hobd ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no socket to listen on.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
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
    let (listener, _claim) = listen::listen(&settings.socket, settings.scope)?;
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
    frontend::http::serve(listener, daemon, settings, shutdown).await?;
    // The task ends when no answer is owed any more; then the bus has nothing left to say.
    for ended in [task.await, bus.await] {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of hobd failed");
        }
    }
    conversations.close().await;
    Ok(())
}
