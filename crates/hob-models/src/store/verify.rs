//! Opening a model so that what was verified is what is loaded.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};

use super::{Store, StoreError};
use crate::digest::Hasher;
use crate::gguf::Header;
use crate::{ModelName, Sha256};

/// Verdicts that are kept.
const MAX_VERDICTS: usize = 64;
/// A file changed within this many seconds may change again within the same tick of
/// the file system's clock, so that its times do not identify its content.
const SETTLED_SECS: i64 = 2;

/// An installed model, open and verified. Give the open file on, never the path.
#[derive(Debug)]
pub struct OpenModel {
    /// The file that was hashed, at its beginning.
    pub file: File,
    /// The model.
    pub name: ModelName,
    /// Its digest.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its header.
    pub header: Header,
    /// Tells later whether the file is still what was verified.
    pub witness: Witness,
}

/// Keeps an eye on a verified file while somebody uses it, such as by a memory map, in which
/// whatever is written to the file appears.
#[derive(Debug)]
pub struct Witness {
    file: File,
    size: u64,
    modified: (i64, i64),
}

impl Witness {
    fn of(file: &File, identity: &Identity) -> io::Result<Self> {
        Ok(Self {
            file: file.try_clone()?,
            size: identity.size,
            modified: identity.modified,
        })
    }

    /// Whether nobody wrote to the file since it was opened. A file that was removed or replaced by
    /// another one of its name is still the same; one whose owner wrote to it and then set its time
    /// back is not found out.
    pub fn holds(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| {
            let now = Identity::of(&metadata);
            (now.size, now.modified) == (self.size, self.modified)
        })
    }
}

/// What tells a file from any other and from itself before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        now.saturating_sub(self.changed.0.max(self.modified.0)) >= SETTLED_SECS
    }
}

/// Digests of files that were hashed before and have not changed since, so that loading
/// a model again does not read it all. Lives as long as the process.
#[derive(Debug, Default)]
pub struct Verified(Mutex<HashMap<Identity, Sha256>>);

impl Verified {
    fn get(&self, identity: &Identity) -> Option<Sha256> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(identity).copied()
    }

    fn remember(&self, identity: Identity, digest: Sha256) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_VERDICTS {
            known.clear();
        }
        known.insert(identity, digest);
    }
}

impl Store {
    /// Opens an installed model once, reads its header, and compares the digest of that
    /// same open file with the manifest. Takes as long as reading the file, unless
    /// `verdicts` has the answer.
    ///
    /// # Errors
    /// When it is not installed, not a regular file, no GGUF model, or not the file that
    /// was installed.
    pub fn open_verified(
        &self,
        name: &ModelName,
        verdicts: &Verified,
    ) -> Result<OpenModel, StoreError> {
        self.open_verified_watched(name, verdicts, |_| ())
    }

    /// As [`Store::open_verified`], telling `each` after every step how many more bytes
    /// were hashed.
    ///
    /// # Errors
    /// As there.
    pub fn open_verified_watched(
        &self,
        name: &ModelName,
        verdicts: &Verified,
        each: impl FnMut(u64),
    ) -> Result<OpenModel, StoreError> {
        let manifest = self.get(name)?.manifest;
        let path = self.model_path(name);
        let (mut file, identity) = open_regular(&path)?;
        if identity.size != manifest.size_bytes {
            return Err(StoreError::Size {
                name: name.clone(),
                expected: manifest.size_bytes,
                actual: identity.size,
            });
        }
        let header = Header::read(&mut file, identity.size).map_err(|source| StoreError::Gguf {
            name: name.clone(),
            source,
        })?;
        let actual = match verdicts.get(&identity) {
            Some(digest) => digest,
            None => digest(&mut file, identity, name, &path, verdicts, each)?,
        };
        if actual != manifest.sha256 {
            return Err(StoreError::Digest {
                name: name.clone(),
                expected: manifest.sha256,
                actual,
            });
        }
        rewind(&mut file, &path)?;
        let witness =
            Witness::of(&file, &identity).map_err(|e| StoreError::io("open", &path, e))?;
        Ok(OpenModel {
            file,
            witness,
            name: name.clone(),
            sha256: actual,
            size_bytes: identity.size,
            header,
        })
    }
}

/// Opens a file, and nothing that merely has a file's place.
pub(super) fn open_regular(path: &Path) -> Result<(File, Identity), StoreError> {
    // NONBLOCK: a FIFO must not hold up the open. It means nothing for regular files.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(StoreError::NotAFile(path.to_path_buf())),
        Err(error) => return Err(StoreError::io("open", path, error.into())),
    };
    let metadata = stat(&file, path)?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile(path.to_path_buf()));
    }
    Ok((file, Identity::of(&metadata)))
}

fn stat(file: &File, path: &Path) -> Result<Metadata, StoreError> {
    file.metadata()
        .map_err(|e| StoreError::io("look at", path, e))
}

fn rewind(file: &mut File, path: &Path) -> Result<(), StoreError> {
    file.seek(SeekFrom::Start(0))
        .map(|_| ())
        .map_err(|e| StoreError::io("read", path, e))
}

/// Hashes all of a file and remembers the digest, if the file held still meanwhile.
fn digest(
    file: &mut File,
    identity: Identity,
    name: &ModelName,
    path: &Path,
    verdicts: &Verified,
    each: impl FnMut(u64),
) -> Result<Sha256, StoreError> {
    let settled = identity.is_settled();
    rewind(file, path)?;
    let mut hasher = Hasher::default();
    hasher
        .update_from(&mut *file, each)
        .map_err(|e| StoreError::io("read", path, e))?;
    if Identity::of(&stat(file, path)?) != identity {
        return Err(StoreError::Changed { name: name.clone() });
    }
    let digest = hasher.finish();
    if settled {
        verdicts.remember(identity, digest);
    }
    Ok(digest)
}
