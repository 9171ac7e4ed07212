//! `PropertiesChanged` of the main object. What it tells goes to every client on the bus, so it
//! tells of the model and never of requests.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use hob_api::dbus::{ASSISTANT_INTERFACE, OBJECT_PATH};
use hob_api::status::{ModelStatus, State, Status};
use tokio::sync::watch;
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, Variant, fdo};

use super::assistant::{context_size, model_details, sandbox};
use crate::daemon::DaemonHandle;

/// At most five signals a second, however fast a model loads.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

type Changes = HashMap<&'static str, Variant<'static>>;

/// What clients were told last.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    state: State,
    load_percent: u32,
    model: Option<ModelStatus>,
    sandbox: Vec<String>,
}

impl From<&Status> for Told {
    fn from(status: &Status) -> Self {
        Self {
            state: status.state,
            load_percent: status.load_percent,
            model: status.model.clone(),
            sandbox: sandbox(status),
        }
    }
}

/// The daemon's state, and how much of it clients know.
#[derive(Debug)]
pub(super) struct Publication {
    watch: watch::Receiver<Status>,
    told: Told,
}

impl Publication {
    /// Starts from the state as it is. To be made before the bus name is owned: whoever reads the
    /// properties after that hears of every change.
    pub(super) fn new(daemon: &DaemonHandle) -> Self {
        let mut watch = daemon.status();
        let told = Told::from(&*watch.borrow_and_update());
        Self { watch, told }
    }

    /// Emits changes until the bus is gone.
    pub(super) async fn publish(&mut self, connection: &Connection) {
        let Ok(emitter) = SignalEmitter::new(connection, OBJECT_PATH) else {
            return;
        };
        while self.watch.changed().await.is_ok() {
            let status = self.watch.borrow_and_update().clone();
            let now = Told::from(&status);
            let changed = changes(&self.told, &now, &status);
            if changed.is_empty() {
                continue;
            }
            if let Err(error) = emit(&emitter, changed).await {
                tracing::debug!(%error, "the bus did not take PropertiesChanged");
                return;
            }
            self.told = now;
            tokio::time::sleep(INTERVAL_MIN).await;
        }
        // The daemon ends; the door still has replies to send.
        std::future::pending::<()>().await;
    }
}

async fn emit(emitter: &SignalEmitter<'_>, changed: Changes) -> zbus::Result<()> {
    let interface = InterfaceName::from_static_str_unchecked(ASSISTANT_INTERFACE);
    let invalidated = Cow::Borrowed([].as_slice());
    fdo::Properties::properties_changed(emitter, interface, changed, invalidated).await
}

fn changes(told: &Told, now: &Told, status: &Status) -> Changes {
    let mut changed = Changes::new();
    if told.state != now.state {
        changed.insert("State", Variant::from(now.state.as_u32()));
    }
    if told.load_percent != now.load_percent {
        changed.insert("LoadPercent", Variant::from(now.load_percent));
    }
    if told.model != now.model {
        changed.insert("Model", Variant::from(model_details(status)));
        changed.insert("ContextSize", Variant::from(context_size(status)));
    }
    if told.sandbox != now.sandbox {
        changed.insert("Sandbox", Variant::from(now.sandbox.clone()));
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_nobody_elses_business() {
        let idle = Status::default();
        let busy = Status {
            active: 3,
            queued: 9,
            uptime_s: 1,
            ..Status::default()
        };
        assert!(changes(&Told::from(&idle), &Told::from(&busy), &busy).is_empty());
    }

    #[test]
    fn what_changed_is_told_and_nothing_else() {
        let before = Status::default();
        let after = Status {
            state: State::Loading,
            load_percent: 40,
            ..Status::default()
        };
        let changed = changes(&Told::from(&before), &Told::from(&after), &after);
        assert_eq!(changed.len(), 2);
        assert_eq!(changed["State"], Variant::from(2_u32));
        assert_eq!(changed["LoadPercent"], Variant::from(40_u32));
    }
}
