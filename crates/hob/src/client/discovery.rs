//! Which daemon to talk to.

use std::path::{Path, PathBuf};

use hob_models::locations::{Scope, socket_path};

use super::{Client, ClientError, connect};

/// The sockets to try, in order.
pub(super) fn candidates(explicit: Option<&Path>) -> Vec<PathBuf> {
    match explicit {
        Some(socket) => vec![socket.to_owned()],
        // Without a home folder there is no user daemon to find, only the board's.
        None => [Scope::User, Scope::System]
            .into_iter()
            .filter_map(|scope| socket_path(scope).ok())
            .collect(),
    }
}

/// See [`Client::find`].
pub(super) async fn find(explicit: Option<&Path>) -> Result<Client, ClientError> {
    let sockets = candidates(explicit);
    let mut problem = None;
    for socket in &sockets {
        match connect(socket).await {
            Ok(_) => {
                return Ok(Client {
                    socket: socket.clone(),
                });
            }
            Err(ClientError::NoDaemon { .. }) => {}
            // A socket that is there but unusable says more than one that is not.
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    Err(problem.unwrap_or(ClientError::NoDaemon { sockets }))
}
