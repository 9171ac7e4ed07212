//! Bringing a model into the store, all of it or nothing.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Installed, Lineage, Manifest, Part, Store, StoreError, disk};
use crate::digest::Hasher;
use crate::gguf::Header;
use crate::{ModelName, Sha256};

/// An unfinished download is swept after this long.
const MAX_PART_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is known of a model before it is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its digest; without one any model is taken.
    pub sha256: Option<Sha256>,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// Where a model comes from and what one may do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// For people, and to know whether an unfinished download can be resumed.
    pub origin: String,
    /// The licence's identifier.
    pub licence: Option<String>,
}

/// How to go on with an unfinished download. Lies beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {
    origin: String,
    sha256: Option<Sha256>,
    /// What the server calls this version of the file (a strong `ETag`).
    validator: Option<String>,
    /// Members that are in the file whole, and the bytes they make.
    members: usize,
    member_bytes: u64,
}

/// A model on its way into the store. Dropping it leaves at most what can be resumed.
#[derive(Debug)]
pub struct Installing {
    store: Store,
    name: ModelName,
    provenance: Provenance,
    lineage: Option<Lineage>,
    expected: Expected,
    resume: Resume,
    part: File,
    path: PathBuf,
    hasher: Hasher,
    length: u64,
    _lock: disk::Lock,
}

impl Store {
    /// Starts to install a model, or goes on with one whose fetching was cut short.
    ///
    /// # Errors
    /// When the name is taken, another process is at it, or the folder cannot be written.
    pub fn install(
        &self,
        name: &ModelName,
        provenance: Provenance,
        expected: Expected,
    ) -> Result<Installing, StoreError> {
        disk::create_folder(&self.root)?;
        let lock = self.lock(name)?;
        self.sweep(name);
        self.require_unused(name)?;
        disk::remove(&self.path(name, Part::PipFolder))?;
        let resume = Resume {
            origin: provenance.origin.clone(),
            sha256: expected.sha256,
            ..Resume::default()
        };
        let path = self.path(name, Part::Partial);
        let mut installing = Installing {
            store: self.clone(),
            name: name.clone(),
            provenance,
            lineage: None,
            expected,
            resume,
            part: disk::open_private(&path)?,
            path,
            hasher: Hasher::default(),
            length: 0,
            _lock: lock,
        };
        installing.take_up()?;
        Ok(installing)
    }

    fn require_unused(&self, name: &ModelName) -> Result<(), StoreError> {
        let model = self.path(name, Part::Model);
        match self.get(name) {
            Ok(installed) => Err(StoreError::AlreadyInstalled {
                name: name.clone(),
                sha256: installed.manifest.sha256,
            }),
            Err(StoreError::NotInstalled { .. }) if fs::symlink_metadata(&model).is_ok() => {
                Err(StoreError::Foreign(model))
            }
            Err(StoreError::NotInstalled { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Removes what interrupted installs left, unless it is still of use: downloads that
    /// can be resumed stay for a week, and nothing is taken from a process at work, such as this one, which
    /// has `own` locked.
    fn sweep(&self, own: &ModelName) {
        let Ok(files) = fs::read_dir(&self.root) else {
            return;
        };
        for file in files.flatten() {
            let file_name = file.file_name();
            let parts = file_name
                .to_str()
                .and_then(|name| name.strip_prefix('.')?.rsplit_once('.'));
            let Some((name, kind @ ("part" | "resume" | "new" | "pip" | "lock"))) = parts else {
                continue;
            };
            let Some(name) = ModelName::new(name).ok().filter(|name| name != own) else {
                continue;
            };
            let age = file.metadata().and_then(|what| what.modified());
            let age = age.map_or(Duration::ZERO, |at| {
                SystemTime::now().duration_since(at).unwrap_or_default()
            });
            let resumable = self.path(&name, Part::Resume).exists();
            if resumable && matches!(kind, "part" | "resume") && age < MAX_PART_AGE {
                continue;
            }
            // What cannot be swept now will be another time. A lock goes when it is given back.
            if let Ok(_lock) = self.lock(&name)
                && kind != "lock"
            {
                let _ = disk::remove(&file.path());
            }
        }
    }
}

/// What cannot be resumed is not left lying around.
impl Drop for Installing {
    fn drop(&mut self) {
        if self.resume.validator.is_none() && self.resume.members == 0 {
            self.abandon();
        } else {
            // The next attempt makes a fresh one; failing to remove it now costs only room.
            let _ = disk::remove(&self.store.path(&self.name, Part::PipFolder));
        }
    }
}

impl Installing {
    /// Continues with what is there if it is a part of the same thing, else starts afresh.
    fn take_up(&mut self) -> Result<(), StoreError> {
        let record = fs::read_to_string(self.resume_path()).unwrap_or_default();
        let known = toml::from_str::<Resume>(&record).ok().filter(|known| {
            known.origin == self.resume.origin && known.sha256 == self.resume.sha256
        });
        let Some(known) = known else {
            return self.restart();
        };
        let found = self.part.metadata().map_err(|e| self.broken(e))?.len();
        // With members only whole ones count; with a validator, every byte does.
        let usable = if known.validator.is_some() {
            found
        } else {
            known.member_bytes
        };
        if usable > found || self.expected.size.is_some_and(|size| usable > size) {
            return self.restart();
        }
        self.part.set_len(usable).map_err(|e| self.broken(e))?;
        let part = File::open(&self.path).map_err(|e| self.broken(e))?;
        self.hasher = Hasher::default();
        self.length = self
            .hasher
            .update_from(part, |_| ())
            .map_err(|e| self.broken(e))?;
        self.resume = known;
        Ok(())
    }

    /// Throws away what was fetched so far.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        disk::remove(&self.resume_path())?;
        self.part.set_len(0).map_err(|e| self.broken(e))?;
        self.hasher = Hasher::default();
        self.length = 0;
        self.resume = Resume {
            validator: None,
            members: 0,
            member_bytes: 0,
            ..self.resume.clone()
        };
        Ok(())
    }

    fn resume_path(&self) -> PathBuf {
        self.store.path(&self.name, Part::Resume)
    }

    fn broken(&self, source: std::io::Error) -> StoreError {
        StoreError::io("write", &self.path, source)
    }

    /// Bytes that are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The size that it must have, if known.
    pub fn expected_size(&self) -> Option<u64> {
        self.expected.size
    }

    /// What the server called the version of the file that the bytes so far are of.
    pub fn validator(&self) -> Option<&str> {
        self.resume.validator.as_deref()
    }

    /// Members that are there whole.
    pub fn members(&self) -> usize {
        self.resume.members
    }

    /// An empty folder on the same disk for what a source needs on the way.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<PathBuf, StoreError> {
        let path = self.store.path(&self.name, Part::PipFolder);
        disk::remove(&path)?;
        fs::create_dir(&path).map_err(|e| StoreError::io("create", &path, e))?;
        Ok(path)
    }

    /// An empty file on the same disk, with room for so many bytes, that has no name: it goes when it is
    /// closed, however the process ends.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], or when it cannot be made.
    pub fn unnamed(&self, bytes: u64) -> Result<File, StoreError> {
        let root = &self.store.root;
        disk::require_space(root, bytes)?;
        tempfile::tempfile_in(root).map_err(|e| StoreError::io("write in", root, e))
    }

    /// Checks what a source says of the size before it is fetched, and that there is
    /// room for it and `extra` bytes more.
    ///
    /// # Errors
    /// [`StoreError::Size`] or [`StoreError::NoSpace`].
    pub fn announce(&self, size: Option<u64>, extra: u64) -> Result<(), StoreError> {
        if let (Some(expected), Some(actual)) = (self.expected.size, size)
            && expected != actual
        {
            return Err(self.wrong_size(expected, actual));
        }
        let size = size.or(self.expected.size).unwrap_or(0);
        let missing = size.saturating_sub(self.length);
        disk::require_space(&self.store.root, missing.saturating_add(extra))
    }

    fn wrong_size(&self, expected: u64, actual: u64) -> StoreError {
        StoreError::Size {
            name: self.name.clone(),
            expected,
            actual,
        }
    }

    /// Notes the version of the file that is about to be fetched from its beginning.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note_validator(&mut self, validator: Option<String>) -> Result<(), StoreError> {
        self.resume.validator = validator;
        self.write_resume()
    }

    /// Notes that another member is there whole.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note_member(&mut self) -> Result<(), StoreError> {
        self.part.sync_data().map_err(|e| self.broken(e))?;
        self.resume.members += 1;
        self.resume.member_bytes = self.length;
        self.write_resume()
    }

    fn write_resume(&self) -> Result<(), StoreError> {
        let path = self.resume_path();
        let text = toml::to_string(&self.resume).map_err(|error| StoreError::Manifest {
            path: path.clone(),
            line: 1,
            why: error.to_string(),
        })?;
        disk::replace(
            &self.store.path(&self.name, Part::NewManifest),
            &path,
            &text,
        )
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When there are more than expected, or the disk is full; in both cases what was
    /// fetched so far is removed.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let length = self.length.saturating_add(bytes.len() as u64);
        if let Some(expected) = self.expected.size.filter(|size| length > *size) {
            self.abandon();
            return Err(self.wrong_size(expected, length));
        }
        if let Err(error) = self.part.write_all(bytes) {
            let error = self.broken(error);
            if matches!(error, StoreError::Full { .. }) {
                self.abandon();
            }
            return Err(error);
        }
        self.hasher.update(bytes);
        self.length = length;
        Ok(())
    }

    /// What was added so far, open for reading. It is on the disk, and can be checked before it becomes a
    /// model.
    ///
    /// # Errors
    /// When it cannot be written or opened.
    pub fn read_back(&self) -> Result<File, StoreError> {
        self.part.sync_data().map_err(|e| self.broken(e))?;
        File::open(&self.path).map_err(|e| StoreError::io("read", &self.path, e))
    }

    /// Notes what the model was made of.
    pub fn descends(&mut self, lineage: Lineage) {
        self.lineage = Some(lineage);
    }

    /// Removes all traces. The failure that led here matters, not that of clearing up.
    fn abandon(&self) {
        for part in [
            Part::Partial,
            Part::Resume,
            Part::NewManifest,
            Part::PipFolder,
        ] {
            let _ = disk::remove(&self.store.path(&self.name, part));
        }
    }

    /// Verifies what was fetched and makes it a model of the store.
    ///
    /// # Errors
    /// When size or digest are wrong or it is no model; then nothing is kept.
    pub fn finish(self) -> Result<Installed, StoreError> {
        let manifest = self.verify().inspect_err(|_| self.abandon())?;
        self.publish(&manifest).inspect_err(|error| {
            if matches!(error, StoreError::Full { .. }) {
                self.abandon();
            }
        })?;
        Ok(Installed {
            name: self.name.clone(),
            manifest,
        })
    }

    fn verify(&self) -> Result<Manifest, StoreError> {
        if let Some(expected) = self.expected.size.filter(|size| *size != self.length) {
            return Err(self.wrong_size(expected, self.length));
        }
        let actual = self.hasher.clone().finish();
        if let Some(expected) = self.expected.sha256.filter(|digest| *digest != actual) {
            return Err(StoreError::Digest {
                name: self.name.clone(),
                expected,
                actual,
            });
        }
        let header = Header::read(&self.part, self.length).map_err(|source| StoreError::Gguf {
            name: self.name.clone(),
            source,
        })?;
        // A copy of a model that was made is one that was made, whatever it is called.
        let told = || header.descent.as_ref().map(Lineage::told);
        let lineage = self.lineage.clone().or_else(told);
        Ok(Manifest::new(
            actual,
            self.length,
            self.provenance.origin.clone(),
            self.provenance.licence.clone(),
            lineage,
            &header,
        ))
    }

    /// The model file's rename comes last and makes it count.
    fn publish(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let path = |part| self.store.path(&self.name, part);
        self.part
            .set_permissions(Permissions::from_mode(0o444))
            .and_then(|()| self.part.sync_all())
            .map_err(|e| self.broken(e))?;
        let manifest_path = path(Part::Manifest);
        let text = manifest.to_text(&manifest_path)?;
        disk::replace(&path(Part::NewManifest), &manifest_path, &text)?;
        let model = path(Part::Model);
        fs::rename(&self.path, &model).map_err(|e| StoreError::io("write", &model, e))?;
        disk::sync_folder(&self.store.root)?;
        disk::remove(&path(Part::Resume))?;
        disk::remove(&path(Part::PipFolder))
    }
}
