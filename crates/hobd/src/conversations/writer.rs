//! The thread that owns the database, and the channel to it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hob_api::conversation::ConversationsStatus;
use tokio::sync::{mpsc, oneshot};

use super::error::StoreError;
use super::store::{Quota, Store, now};
use super::{lock, open};
use crate::settings::ConversationSettings;

/// Calls that may wait for the thread; more make their callers wait.
const JOBS_MAX: usize = 64;
/// How long a database that could not be opened is left alone.
const REOPEN_AFTER: Duration = Duration::from_secs(10);

/// Something to do with the database.
type Job = Box<dyn FnOnce(&mut Keeper) + Send>;

/// The way to the thread, which ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    status: Arc<Mutex<ConversationsStatus>>,
}

/// What the thread has.
struct Keeper {
    settings: ConversationSettings,
    status: Arc<Mutex<ConversationsStatus>>,
    store: Option<Store>,
    opened: Instant,
    /// When it last looked for what is out of retention.
    purged: Option<Instant>,
}

impl Writer {
    pub(super) fn start(settings: ConversationSettings) -> Self {
        let (jobs, inbox) = mpsc::channel(JOBS_MAX);
        let status = Arc::new(Mutex::new(ConversationsStatus {
            enabled: true,
            ..ConversationsStatus::default()
        }));
        let keeper = Keeper {
            settings,
            status: Arc::clone(&status),
            store: None,
            opened: Instant::now(),
            purged: None,
        };
        let thread = std::thread::Builder::new().name("conversations".to_owned());
        if let Err(error) = thread.spawn(move || keeper.run(inbox)) {
            // Calls then find the channel closed.
            tracing::error!(%error, "the thread of conversations can't be started");
        }
        Self { jobs, status }
    }

    pub(super) fn status(&self) -> ConversationsStatus {
        lock(&self.status).clone()
    }

    /// Reads from the database.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(move |keeper| keeper.work(read)).await
    }

    /// Changes the database; what this returns is on the disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(move |keeper| {
            let written = keeper.work(write);
            if written.as_ref().is_err_and(StoreError::is_fault) {
                return written;
            }
            // Whatever was wrong before is wrong no more.
            lock(&keeper.status).problem = None;
            written
        })
        .await
    }

    /// Closes the database; whatever comes after is refused.
    pub(super) async fn close(&self) {
        let closed = self.call(|keeper| {
            keeper.store = None;
            keeper.opened = Instant::now();
            Ok(())
        });
        // A thread that has ended has closed it.
        let _ = closed.await;
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Keeper) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |keeper| {
            // A caller that is gone does not need the reply.
            let _ = reply.send(call(keeper));
        });
        let ended = || StoreError::Closed("hobd's thread for them has ended".to_owned());
        self.jobs.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Deletes what is older than the retention, at once and then every `interval`, as long as
    /// anybody else holds a way to the thread.
    pub(super) async fn purge_every(self, interval: Duration) {
        let jobs = self.jobs.downgrade();
        drop(self);
        let mut interval = tokio::time::interval(interval);
        loop {
            interval.tick().await;
            let Some(jobs) = jobs.upgrade() else { return };
            if jobs.send(Box::new(Keeper::purge)).await.is_err() {
                return;
            }
        }
    }
}

impl Keeper {
    fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        self.open();
        while let Some(job) = inbox.blocking_recv() {
            job(&mut self);
        }
    }

    fn open(&mut self) {
        self.opened = Instant::now();
        match open::open(&self.settings.dir) {
            Ok(opened) => {
                let quota = Quota {
                    conversations: self.settings.per_uid,
                    bytes: self.settings.bytes_per_uid,
                };
                self.store = Some(Store::new(opened.connection, quota));
                let mut status = lock(&self.status);
                status.problem = None;
                if let Some(file) = &opened.set_aside {
                    tracing::error!(
                        set_aside = %file.display(),
                        "the database of conversations was damaged; a new one is begun"
                    );
                    status.set_aside = Some(name_of(file));
                }
            }
            Err(error) => {
                tracing::error!(%error, "conversations can't be opened; answers go on without");
                lock(&self.status).problem = Some(error.to_string());
            }
        }
    }

    /// Works with the database, opened again if it was not open and has been left alone for long
    /// enough.
    fn work<T>(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.store.is_none() && self.opened.elapsed() >= REOPEN_AFTER {
            self.open();
        }
        let Some(store) = &mut self.store else {
            let problem = lock(&self.status).problem.clone().unwrap_or_default();
            return Err(StoreError::Closed(problem));
        };
        let worked = work(store);
        if let Err(error) = &worked
            && error.is_fault()
        {
            tracing::error!(%error, "conversations can't be used as asked");
            lock(&self.status).problem = Some(error.to_string());
            if error.is_damage() {
                // Opening it again finds the damage too, and sets it aside.
                self.store = None;
                self.open();
            }
        }
        worked
    }

    fn purge(&mut self) {
        let days = self.settings.retention_days;
        if days == 0 {
            return;
        }
        let ran = self.purged.map(|at| at.elapsed());
        let purged = self.work(|store| store.purge(days, now(), ran));
        if purged.is_ok() {
            self.purged = Some(Instant::now());
        }
        match purged {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, days, "deleted conversations out of retention"),
            Err(error) => tracing::warn!(%error, "old conversations can't be deleted"),
        }
    }
}

fn name_of(file: &Path) -> String {
    file.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
