//! The D-Bus door: `org.hobd.Hob1` on the system bus, or on the session bus in user mode.
//!
//! The bus says who calls; a caller's requests end when it leaves. Handlers take `&self` and hold
//! no lock while they wait, so no request can hold up another, a property or an introspection.
//! Answers go into one reply or down a file descriptor, never into a broadcast.

mod admin;
mod asking;
mod assistant;
mod callers;
mod conversation;
mod deciding;
mod delivery;
mod failure;
mod homes;
mod hubs;
mod line;
mod messages;
mod options;
mod publication;
mod request;
mod values;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use hob_api::dbus::{BUS_NAME, OBJECT_PATH};
use hob_api::{ApiError, ErrorCode};
use tokio_util::sync::CancellationToken;
use zbus::fdo::{DBusProxy, RequestNameFlags};
use zbus::message::{Header, Type};
use zbus::names::{BusName, UniqueName};
use zbus::{Connection, MatchRule, MessageStream, connection, fdo};

use self::admin::Admin;
use self::assistant::Assistant;
use self::callers::{Callers, Kind};
use self::hubs::Hubs;
use self::publication::Publication;
use crate::daemon::DaemonHandle;
use crate::settings::{Scope, Settings};

/// How long the bus may take to let hobd in, or to answer a question.
const BUS_TIMEOUT: Duration = Duration::from_secs(10);
/// The first wait before a lost bus is tried again; it doubles up to [`BACK_OFF_MAX`].
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait before a lost bus is tried again.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Conversations that one caller may have open at once.
const CONVERSATIONS_PER_CALLER_MAX: usize = 64;
/// How long the last replies may take to reach the bus when hobd ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why there is no D-Bus door.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the name.
    #[error(
        "the bus name {BUS_NAME} is taken: another hobd runs on this bus (hint: stop it first, \
         or set `dbus = false`)"
    )]
    NameTaken,
    /// The bus's policy does not let this user own the name.
    #[error(
        "the bus does not let hobd own {BUS_NAME} (hint: install org.hobd.Hob1.conf in \
         /usr/share/dbus-1/system.d, reload the bus, and run as the user hob)"
    )]
    NotAllowed,
    /// There is no bus to connect to.
    #[error(
        "hobd can't reach the {bus} bus: {cause} (hint: start it, or set `dbus = false` to go \
         without)"
    )]
    NoBus {
        /// `system` or `session`.
        bus: &'static str,
        /// What went wrong.
        cause: String,
    },
}

/// The door, open: the name is owned and calls are answered.
#[derive(Debug)]
pub struct Door {
    front: Front,
    link: Link,
}

/// What the interfaces work with.
#[derive(Clone, Debug)]
struct Front {
    daemon: DaemonHandle,
    settings: Arc<Settings>,
    callers: Arc<Callers>,
    /// The callers with open conversations.
    conversing: Arc<Callers>,
    /// The callers with providers.
    hubs: Arc<Hubs>,
}

/// One connection to the bus.
#[derive(Debug)]
struct Link {
    connection: Connection,
    departures: MessageStream,
    publication: Publication,
}

/// Opens the door. `None`, with a warning in the log, if a user has no session bus: hobd then
/// serves HTTP alone, as a person at a terminal needs no more.
///
/// The bus's address is the standard one, or that in `DBUS_SYSTEM_BUS_ADDRESS` or
/// `DBUS_SESSION_BUS_ADDRESS`.
///
/// # Errors
/// [`OpenError`].
pub async fn open(
    daemon: DaemonHandle,
    settings: Arc<Settings>,
) -> Result<Option<Door>, OpenError> {
    let front = Front {
        callers: Callers::new(Kind::Requests, settings.limits.per_uid),
        conversing: Callers::new(Kind::Conversations, CONVERSATIONS_PER_CALLER_MAX),
        hubs: Arc::new(Hubs::new(daemon.providers().clone())),
        daemon,
        settings,
    };
    match Link::open(&front).await {
        Ok(link) => Ok(Some(Door { front, link })),
        Err(OpenError::NoBus { cause, .. }) if front.settings.scope == Scope::User => {
            tracing::warn!(cause, "there is no session bus; going on without D-Bus");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Door {
    /// Serves until `shutdown`, then until the requests under way have ended, which the daemon
    /// sees to within its grace.
    ///
    /// A lost bus takes all callers and their requests with it, but not hobd: HTTP goes on, and
    /// the bus is tried again, with waits of 1 s doubling to 30 s.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self {
            mut front,
            mut link,
        } = self;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return link.close(&front).await,
                () = link.serve(&front) => {}
            }
            tracing::warn!("the bus is gone; its callers' requests are cancelled");
            front.callers.all_left();
            front.conversing.all_left();
            front.hubs.all_left();
            front.callers = Callers::new(Kind::Requests, front.settings.limits.per_uid);
            front.conversing = Callers::new(Kind::Conversations, CONVERSATIONS_PER_CALLER_MAX);
            link = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                link = Link::reopen(&front) => link,
            };
            tracing::info!("the bus is back");
        }
    }
}

impl Link {
    async fn open(front: &Front) -> Result<Self, OpenError> {
        let (bus, builder) = match front.settings.scope {
            Scope::System => ("system", connection::Builder::system()),
            Scope::User => ("session", connection::Builder::session()),
        };
        let no_bus = |cause: String| OpenError::NoBus { bus, cause };
        let opened = tokio::time::timeout(BUS_TIMEOUT, Self::connect(builder, front)).await;
        match opened {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(zbus::Error::NameTaken)) => Err(OpenError::NameTaken),
            Ok(Err(error)) if is_access_denied(&error) => Err(OpenError::NotAllowed),
            Ok(Err(error)) => Err(no_bus(error.to_string())),
            Err(_) => Err(no_bus("it does not answer".to_owned())),
        }
    }

    async fn connect(builder: connection::Builder<'_>, front: &Front) -> zbus::Result<Self> {
        let connection = builder
            .serve_at(OBJECT_PATH, Assistant::new(front.clone()))
            .serve_at(OBJECT_PATH, Admin::new(front.clone()))
            .build()
            .await?;
        // Before the name is owned there are no callers, so none can leave unnoticed.
        let left = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(2, "")
            .build()?;
        let departures = MessageStream::for_match_rule(left, &connection, None).await?;
        let publication = Publication::new(&front.daemon);
        // Neither queueing nor replacement, in either direction: a name that changes hands under
        // its callers would lose their requests.
        connection
            .request_name_with_flags(BUS_NAME, RequestNameFlags::DO_NOT_QUEUE)
            .await?;
        Ok(Self {
            connection,
            departures,
            publication,
        })
    }

    async fn reopen(front: &Front) -> Self {
        let mut wait = BACK_OFF_MIN;
        loop {
            tokio::time::sleep(wait).await;
            match Self::open(front).await {
                Ok(link) => return link,
                Err(error) => tracing::debug!(%error, "the bus is not back yet"),
            }
            wait = (wait * 2).min(BACK_OFF_MAX);
        }
    }

    /// Serves until the connection is lost. The calls themselves are served by zbus's own task.
    async fn serve(&mut self, front: &Front) {
        tokio::select! {
            () = self.connection.closed() => {}
            () = watch_departures(&mut self.departures, front) => {}
            () = self.publication.publish(&self.connection) => {}
        }
    }

    async fn close(mut self, front: &Front) {
        let callers = Arc::clone(&front.callers);
        let drained = front.settings.limits.shutdown_grace + LAST_WORDS;
        tokio::select! {
            () = self.serve(front) => {}
            () = callers.idle() => {}
            () = tokio::time::sleep(drained) => {}
        }
        callers.all_left();
        front.conversing.all_left();
        let _ = tokio::time::timeout(LAST_WORDS, front.hubs.part_with_all()).await;
        drop(self.departures);
        // Returns when the last handler has sent its reply and let go of the connection.
        let _ = tokio::time::timeout(LAST_WORDS, self.connection.graceful_shutdown()).await;
    }
}

/// Cancels the requests of whoever leaves the bus, closes its conversations, and takes its providers
/// out of force.
async fn watch_departures(departures: &mut MessageStream, front: &Front) {
    while let Some(message) = departures.next().await {
        let Ok(message) = message else { return };
        let body = message.body();
        let Ok((name, _, _)) = body.deserialize::<(BusName<'_>, &str, &str)>() else {
            continue;
        };
        if let BusName::Unique(name) = name {
            front.callers.left(&name);
            front.conversing.left(&name);
            front.hubs.left(&name);
        }
    }
}

fn is_access_denied(error: &zbus::Error) -> bool {
    // zbus has the standard errors apart from others that a bus may reply.
    matches!(error, zbus::Error::FDO(error)
        if matches!(**error, fdo::Error::AccessDenied(_)))
}

/// Who sent a call; on a bus, every call has a sender that the bus itself wrote.
fn sender<'h>(header: &Header<'h>) -> Result<UniqueName<'h>, ApiError> {
    let sender = header.sender().cloned();
    sender.ok_or_else(|| ApiError::new(ErrorCode::AccessDenied, "the call has no sender"))
}

/// What the bus says, if it does in time. It is asked in a task of its own: a question that was given
/// up half written would be the last that gets through.
async fn told_by_bus<T: Send + 'static>(
    ask: impl Future<Output = zbus::Result<T>> + Send + 'static,
) -> Option<T> {
    let asked = tokio::time::timeout(BUS_TIMEOUT, tokio::spawn(ask)).await;
    asked.ok()?.ok()?.ok()
}

/// The uid behind a unique name, as the bus got it from the kernel.
async fn uid_of(connection: &Connection, name: &UniqueName<'_>) -> Result<u32, ApiError> {
    let (connection, name) = (connection.clone(), name.to_owned());
    let uid = told_by_bus(async move {
        let bus = DBusProxy::new(&connection).await?;
        let credentials = bus.get_connection_credentials(name.into()).await?;
        Ok(credentials.unix_user_id())
    });
    uid.await.flatten().ok_or_else(|| {
        ApiError::new(
            ErrorCode::AccessDenied,
            "the bus does not say who the caller is",
        )
    })
}
