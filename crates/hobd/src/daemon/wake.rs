//! What wakes the daemon's loop.

use std::time::{Duration, Instant};

use hob_api::{ApiError, ErrorCode};
use hob_ipc::RequestId;
use tokio::sync::{mpsc, watch};
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use super::{Message, model};
use crate::engine::{Engine, Report};
use crate::notify::Notifier;
use crate::pins::{self, HomePrefix, Pins};
use crate::providers::Providers;

/// Where everything comes in.
pub(super) struct Inputs {
    inbox: mpsc::Receiver<Message>,
    cancellations: mpsc::UnboundedReceiver<RequestId>,
    providers: Providers,
    homes: watch::Receiver<()>,
    watchdog: Option<Interval>,
    shutdown: CancellationToken,
    shutting_down: bool,
}

/// What woke the loop.
pub(super) enum Wake {
    Message(Message),
    Cancelled(RequestId),
    Opened(Result<Box<model::Opened>, ApiError>),
    Engine(Report),
    Shutdown,
    Watchdog,
    Time,
    Pins(pins::Done),
    Homes(Vec<HomePrefix>),
}

impl Inputs {
    pub(super) fn new(
        inbox: mpsc::Receiver<Message>,
        cancellations: mpsc::UnboundedReceiver<RequestId>,
        providers: Providers,
        notifier: &Notifier,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            homes: providers.changes(),
            providers,
            inbox,
            cancellations,
            watchdog: notifier.watchdog_interval().map(tokio::time::interval),
            shutdown,
            shutting_down: false,
        }
    }

    /// The next thing that happens: from outside, from the engine, or at `wakeup`.
    pub(super) async fn next(
        &mut self,
        engine: Option<&mut Engine>,
        opening: Option<&mut model::Opening>,
        pins: &mut Pins,
        wakeup: Option<Instant>,
    ) -> Wake {
        tokio::select! {
            Some(message) = self.inbox.recv() => Wake::Message(message),
            Some(id) = self.cancellations.recv() => Wake::Cancelled(id),
            report = report(engine) => Wake::Engine(report),
            opened = opened(opening) => Wake::Opened(opened),
            done = pins.done() => Wake::Pins(done),
            Ok(()) = self.homes.changed() => Wake::Homes(self.providers.prefixes()),
            () = self.shutdown.cancelled(), if !self.shutting_down => {
                self.shutting_down = true;
                Wake::Shutdown
            }
            () = tick(self.watchdog.as_mut()) => Wake::Watchdog,
            () = until(wakeup) => Wake::Time,
        }
    }
}

async fn report(engine: Option<&mut Engine>) -> Report {
    match engine {
        Some(engine) => engine.report().await,
        None => std::future::pending().await,
    }
}

async fn opened(opening: Option<&mut model::Opening>) -> Result<Box<model::Opened>, ApiError> {
    let Some(opening) = opening else {
        return std::future::pending().await;
    };
    let lost = || ApiError::new(ErrorCode::Internal, "the model's file could not be read");
    opening.await.unwrap_or_else(|_| Err(lost()))
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => {
            // A wake-up that is due is handled once; never spin on one that the scheduler keeps.
            let floor = Instant::now() + Duration::from_millis(1);
            tokio::time::sleep_until(time.max(floor).into()).await;
        }
        None => std::future::pending().await,
    }
}
