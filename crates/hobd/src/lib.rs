//! The hob daemon: front doors, scheduler, engine supervisor.
//!
//! Commands go down (`frontend` → [`daemon`] → [`engine`]), events come up, and nobody calls up.
//! [`request`] is the only way from wire types to valid ones; [`scheduler`] decides and does
//! nothing else; [`daemon`] is the one task that owns it. `ARCHITECTURE.md` traces one request
//! through these files.

pub mod answer;
pub mod daemon;
pub mod frontend;
pub mod listen;
pub mod notify;
pub mod request;
pub mod settings;

use settings::Settings;
use tokio_util::sync::CancellationToken;

/// Why hobd ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no socket to listen on.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// [`RunError`].
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), RunError> {
    let (_listener, _claim) = listen::listen(&settings.socket, settings.scope)?;
    let notifier = notify::Notifier::from_env();
    notifier.ready();
    shutdown.cancelled().await;
    Ok(())
}
