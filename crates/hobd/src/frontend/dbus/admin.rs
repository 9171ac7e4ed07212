//! `org.hobd.Hob1.Admin`: loading and unloading, for those who may.

#![allow(
    clippy::doc_markdown,
    reason = "members' comments are served to bus clients as plain text"
)]

use std::collections::HashMap;
use std::time::Duration;

use hob_api::dbus::POLKIT_MANAGE_MODEL;
use hob_api::{ApiError, ErrorCode};
use zbus::message::{Flags, Header};
use zbus::{Connection, interface};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use super::Front;
use super::failure::Failure;
use super::options::{self, Dict};
use crate::request::MODEL_BYTES_MAX;
use crate::settings::Scope;

/// How long a person has to answer polkit's question.
const POLKIT_TIMEOUT: Duration = Duration::from_secs(120);

/// The object's interface for administrators.
#[derive(Debug)]
pub(super) struct Admin {
    front: Front,
}

#[interface(name = "org.hobd.Hob1.Admin")]
impl Admin {
    /// Loads a model and returns when it is ready, which may take minutes on a slow board: raise
    /// the timeout of this call. Running answers of the model before are cancelled.
    ///
    /// Who may: on the system bus root, and whom polkit's action org.hobd.Hob1.manage-model
    /// allows; without polkit root alone. On a session bus root and the user who runs hobd.
    ///
    /// `name` is a model in the store, or `default`. There are no `options` yet.
    ///
    /// Errors: org.freedesktop.DBus.Error.FileNotFound for a model that is not installed,
    /// .AccessDenied, .InteractiveAuthorizationRequired if the caller could be allowed but the
    /// call does not let polkit ask; org.hobd.Hob1.Error.ModelFailed, .NotReady,
    /// .InsufficientMemory (the model does not fit the memory that there is for it).
    async fn load_model(
        &self,
        name: String,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Failure> {
        // What is authorized is what is read here; nothing is read again after the check.
        options::none(&options)?;
        check_name(&name)?;
        self.authorize(&header, connection).await?;
        Ok(self.front.daemon.load_model(name).await?)
    }

    /// Ends the engine, which frees its memory; the next request loads the model again. Running
    /// answers are cancelled. Who may: as for LoadModel.
    ///
    /// Errors: org.hobd.Hob1.Error.NotReady if no model is loaded, and those of LoadModel about
    /// authorization.
    async fn unload_model(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Failure> {
        self.authorize(&header, connection).await?;
        Ok(self.front.daemon.unload_model().await?)
    }
}

impl Admin {
    pub(super) fn new(front: Front) -> Self {
        Self { front }
    }

    async fn authorize(&self, header: &Header<'_>, connection: &Connection) -> Result<(), Failure> {
        let sender = super::sender(header)?;
        let uid = super::uid_of(connection, &sender).await?;
        let own = rustix::process::geteuid().as_raw();
        match self.front.settings.scope {
            _ if uid == 0 => Ok(()),
            Scope::User if uid == own => Ok(()),
            Scope::User => Err(denied("only the user who runs hobd may do this")),
            Scope::System => ask_polkit(header, connection).await,
        }
    }
}

/// Asks polkit whether the connection that sent `header` may. The subject is the bus name, which
/// polkit resolves itself: a process id could be another process by then.
async fn ask_polkit(header: &Header<'_>, connection: &Connection) -> Result<(), Failure> {
    let interactive = header
        .primary()
        .flags()
        .contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let flags = if interactive {
        CheckAuthorizationFlags::ALLOW_USER_INTERACTION
    } else {
        CheckAuthorizationFlags::empty()
    };
    let check = async {
        let subject = Subject::new_for_message_header(header).ok()?;
        let polkit = AuthorityProxy::new(connection).await.ok()?;
        let details = HashMap::new();
        polkit
            .check_authorization(&subject, POLKIT_MANAGE_MODEL, &details, flags, "")
            .await
            .ok()
    };
    let result = tokio::time::timeout(POLKIT_TIMEOUT, check).await;
    match result.ok().flatten() {
        Some(result) if result.is_authorized => Ok(()),
        Some(result) if result.is_challenge && !interactive => Err(Failure::interaction_required()),
        Some(_) => Err(denied("polkit does not allow this")),
        None => Err(denied("polkit could not be asked")),
    }
}

fn denied(message: &str) -> Failure {
    ApiError::new(ErrorCode::AccessDenied, message)
        .hint("ask as root, or let a polkit rule allow org.hobd.Hob1.manage-model")
        .into()
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if (1..=MODEL_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("`name` must have 1 to {MODEL_BYTES_MAX} bytes");
    Err(ApiError::new(ErrorCode::InvalidRequest, message).param("name"))
}
