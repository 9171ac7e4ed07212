//! The one thread that touches the folders of pins and snapshots. Jobs are done one after another,
//! so that what lies on the disk is always what the last one said.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hob_api::ApiError;
use hob_api::pin::Pin;
use hob_ipc::message::{PINS_MAX, PinId};
use rustix::fs::OFlags;
use tokio::sync::{mpsc, oneshot};

use super::definitions::{self, UNFINISHED};
use super::snapshot::{self, Header, ReadError, Snapshot};
use super::wear::Wear;
use super::{Definition, HOME_TEXT, Owner, PinName, TextId};
use crate::settings::{PinSettings, SnapshotSettings};

/// Jobs that may wait: each pin has at most a few.
const JOBS_MAX: usize = 8 * PINS_MAX;
/// Bytes that are left free on the disk.
const FREE_MARGIN: u64 = 32 << 20;
/// What may be written within 24 hours, in multiples of `snapshots.bytes`. All pins are seldom changed
/// more often than a few times a day; an SD card of 16 GiB that bears 500 rewrites lasts ten years with
/// the 2 GiB a day that this makes of the default. A restart of hobd begins anew.
const WRITES_A_DAY: u64 = 4;
const EXTENSION: &str = "snap";
/// For how long a home's snapshot is kept after its last use: a hub may be away for some days.
const HOME_UNUSED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Who waits for a pin to be stored.
pub(crate) type PutReply = oneshot::Sender<Result<Pin, ApiError>>;
/// Who waits for a pin to be deleted.
pub(crate) type RemoveReply = oneshot::Sender<Result<(), ApiError>>;

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Store a definition.
    Store(Definition, PutReply),
    /// Delete a definition.
    Delete(Owner, PinName, RemoveReply),
    /// Delete the snapshots of a text, for every model.
    Forget(TextId),
    /// Delete one that turned out to be of no use.
    Discard { model: String, text: TextId },
    /// Read and check a snapshot of at most so many bytes.
    Read {
        id: PinId,
        model: String,
        text: TextId,
        bytes_max: u64,
    },
    /// Write a snapshot of what this memory holds.
    Write {
        id: PinId,
        owner: Owner,
        header: Header,
        memory: File,
    },
}

/// What was done.
#[derive(Debug)]
pub(crate) enum Done {
    Stored(Definition, io::Result<()>, PutReply),
    Deleted(Owner, PinName, io::Result<()>, RemoveReply),
    Read(PinId, Found),
    Written {
        id: PinId,
        /// Bytes of memory that are free now.
        taken: u64,
        /// Bytes written, 0 if the same lay there.
        result: io::Result<u64>,
    },
}

/// What reading a snapshot gave.
#[derive(Debug)]
pub(crate) enum Found {
    Whole(Snapshot),
    /// There is none, or it can't be used now.
    Nothing,
    /// It was damaged, and is gone.
    Damaged,
}

/// The way to the thread and back.
#[derive(Debug)]
pub(super) struct Disk {
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Done>,
}

impl Disk {
    /// Starts the thread. Leftovers of an earlier life, and snapshots of what is no longer pinned,
    /// are deleted first; all of them if there are to be none.
    pub(super) fn start(
        pins: &PinSettings,
        snapshots: &SnapshotSettings,
        known: &[TextId],
    ) -> Self {
        let (jobs, job_receiver) = mpsc::channel(JOBS_MAX);
        let (done_sender, done) = mpsc::channel(JOBS_MAX);
        let worker = Worker {
            pins: pins.dir.clone(),
            snapshots: snapshots.dir.clone(),
            bytes_max: snapshots.bytes,
            wear: Wear::new(snapshots.bytes.saturating_mul(WRITES_A_DAY)),
        };
        let known = known.to_vec();
        let thread = std::thread::Builder::new().name("pins".to_owned());
        let started = thread.spawn(move || worker.run(&known, job_receiver, &done_sender));
        if let Err(error) = started {
            tracing::error!(%error, "pins can't be kept");
        }
        Self { jobs, done }
    }

    /// Hands in a job, without waiting; gives it back if there is no room.
    pub(super) fn submit(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job) => job,
        })
    }

    /// The next thing done; pending for ever if there will be none.
    pub(super) async fn done(&mut self) -> Done {
        match self.done.recv().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }
}

struct Worker {
    pins: PathBuf,
    snapshots: PathBuf,
    bytes_max: u64,
    wear: Wear,
}

impl Worker {
    fn run(mut self, known: &[TextId], mut jobs: mpsc::Receiver<Job>, done: &mpsc::Sender<Done>) {
        self.tidy(known);
        while let Some(job) = jobs.blocking_recv() {
            if let Some(result) = self.work(job)
                && done.blocking_send(result).is_err()
            {
                return;
            }
        }
    }

    fn work(&mut self, job: Job) -> Option<Done> {
        match job {
            Job::Store(definition, reply) => {
                let result = definitions::store(&self.pins, &definition);
                Some(Done::Stored(definition, result, reply))
            }
            Job::Delete(owner, name, reply) => {
                let result = definitions::delete(&self.pins, owner, &name);
                Some(Done::Deleted(owner, name, result, reply))
            }
            Job::Forget(text) => {
                self.remove_where(|name| name.starts_with(&text.0));
                None
            }
            Job::Discard { model, text } => {
                let _ = fs::remove_file(self.path(&model, &text));
                None
            }
            Job::Read {
                id,
                model,
                text,
                bytes_max,
            } => Some(Done::Read(id, self.read(&model, &text, bytes_max))),
            Job::Write {
                id,
                owner,
                header,
                memory,
            } => Some(Done::Written {
                id,
                taken: header.bytes,
                result: self.write(owner, &header, &memory),
            }),
        }
    }

    fn read(&self, model: &str, text: &TextId, bytes_max: u64) -> Found {
        let path = self.path(model, text);
        let read = open(&path).map_err(ReadError::Io).and_then(|file| {
            let snapshot = snapshot::read(file, bytes_max)?;
            // The file's name is a claim; the header, which the checksum covers, is the truth.
            let claimed = snapshot.header.model == model && snapshot.header.text == *text;
            claimed.then_some(snapshot).ok_or(ReadError::Damaged)
        });
        match read {
            Ok(snapshot) => {
                if text.0.starts_with(HOME_TEXT)
                    && let Err(error) = open(&path).and_then(|f| f.set_modified(SystemTime::now()))
                {
                    tracing::debug!(%error, "a snapshot's use can't be noted");
                }
                Found::Whole(snapshot)
            }
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(ReadError::Damaged) => {
                tracing::warn!(file = %path.display(), "a snapshot is damaged and is deleted");
                let _ = fs::remove_file(&path);
                Found::Damaged
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a snapshot can't be used");
                Found::Nothing
            }
        }
    }

    /// Writes a snapshot, deleting the oldest of other models if the bound asks for it.
    fn write(&mut self, owner: Owner, header: &Header, memory: &File) -> io::Result<u64> {
        definitions::make_private(&self.snapshots)?;
        let path = self.path(&header.model, &header.text);
        // The header is a few hundred bytes.
        let needed = header.bytes + (4 << 10);
        if needed > self.bytes_max {
            return Err(io::Error::other("it is larger than snapshots.bytes allows"));
        }
        // An engine without room for it may have had to read the text again: nothing is new then.
        if open(&path).is_ok_and(|file| snapshot::is_whole(file, header)) {
            return Ok(0);
        }
        let leaving = self.in_the_way(needed, &header.model, &path)?;
        let space = rustix::fs::statvfs(&self.snapshots)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let freed: u64 = leaving.iter().map(|(bytes, _)| bytes).sum();
        if free.saturating_add(freed) < needed.saturating_add(FREE_MARGIN) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if !self.wear.take(Instant::now(), owner, needed) {
            return Err(io::Error::other(
                "as much as the disk may bear of this user's in a day was written",
            ));
        }
        for (_, path) in leaving {
            fs::remove_file(path)?;
        }
        let mut bytes = 0;
        definitions::replace(&path, |file| {
            bytes = snapshot::write(file, header, memory)?;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// The files, with their sizes, that have to go for `needed` bytes more: the oldest of other
    /// models, then those of homes that were not used for longest. The others of `model` belong to
    /// pins that are still there, and would be written again with its next engine, and so on without
    /// end.
    fn in_the_way(
        &self,
        needed: u64,
        model: &str,
        replaced: &Path,
    ) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut others = Vec::new();
        let mut total = needed;
        let of_model = format!("-{model}.{EXTENSION}");
        for entry in fs::read_dir(&self.snapshots)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_ours(name)) else {
                continue;
            };
            if !metadata.is_file() || entry.path() == replaced {
                continue;
            }
            total += metadata.len();
            let own = name.ends_with(&of_model);
            if !own || name.starts_with(HOME_TEXT) {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                others.push((own, modified, metadata.len(), entry.path()));
            }
        }
        others.sort();
        let mut leaving = Vec::new();
        for (_, _, bytes, path) in others {
            if total <= self.bytes_max {
                break;
            }
            total -= bytes;
            leaving.push((bytes, path));
        }
        if total > self.bytes_max {
            let full = "snapshots of other pins take what snapshots.bytes allows";
            return Err(io::Error::other(full));
        }
        Ok(leaving)
    }

    fn tidy(&self, known: &[TextId]) {
        self.remove_where(|name| {
            // Who turns snapshots off does not want what users pinned to stay on the disk.
            self.bytes_max == 0
                || name.ends_with(UNFINISHED)
                || !(self.is_recent_home(name)
                    || known.iter().any(|text| name.starts_with(&text.0)))
        });
    }

    /// Whether it is of a home that may be registered again.
    fn is_recent_home(&self, name: &str) -> bool {
        let modified = || fs::metadata(self.snapshots.join(name))?.modified();
        // A clock that went back makes nothing old.
        let recent = |then: SystemTime| {
            let unused = SystemTime::now().duration_since(then);
            unused.map_or(true, |unused| unused < HOME_UNUSED_MAX)
        };
        name.starts_with(HOME_TEXT) && modified().is_ok_and(recent)
    }

    fn remove_where(&self, unwanted: impl Fn(&str) -> bool) {
        let Ok(entries) = fs::read_dir(&self.snapshots) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_ours(name) && unwanted(name) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, model: &str, text: &TextId) -> PathBuf {
        self.snapshots
            .join(format!("{}-{model}.{EXTENSION}", text.0))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    options.read(true).custom_flags(no_links).open(path)
}

/// Whether a file of this name is a snapshot, whole or not. The folder may be one in which others
/// keep files, and those are not to be deleted.
fn is_ours(name: &str) -> bool {
    let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
    let name = name.strip_prefix(HOME_TEXT).unwrap_or(name);
    let stem = name
        .strip_suffix(EXTENSION)
        .and_then(|n| n.strip_suffix('.'));
    let text = stem.and_then(|stem| stem.split_once('-'));
    text.is_some_and(|(text, _)| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()))
}
