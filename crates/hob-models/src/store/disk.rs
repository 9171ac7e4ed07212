//! File operations that survive a power cut or say why not.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};

use super::StoreError;

/// Bytes that are left free on the disk.
const MARGIN: u64 = 32 << 20;

/// How often a lock that seems taken is tried, and the pause between: a quarter of a second.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Makes sure that `needed` bytes fit, and some.
pub(super) fn require_space(folder: &Path, needed: u64) -> Result<(), StoreError> {
    let stat = rustix::fs::statvfs(folder)
        .map_err(|e| StoreError::io("ask for the free space of", folder, e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = needed.saturating_add(MARGIN);
    if free < needed {
        return Err(StoreError::NoSpace {
            path: folder.to_path_buf(),
            needed,
            free,
        });
    }
    Ok(())
}

/// Creates the folder; others may read it, so that the daemon can.
pub(super) fn create_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o755)))
        .map_err(|e| StoreError::io("create the folder", folder, e))
}

/// A file that is written from its beginning or appended to, never through a link.
pub(super) fn open_private(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|e| StoreError::io("write", path, e))
}

/// A lock that a file stands for. Dropping it gives it back and removes the file.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While the lock is held still, so that nobody else's file goes; one that stays does no harm.
        let _ = fs::remove_file(&self.path);
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Waits for the lock that this file stands for.
pub(super) fn lock(path: &Path) -> Result<Lock, StoreError> {
    loop {
        let file = open_private(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|e| StoreError::io("lock", path, e.into()))?;
        if let Some(lock) = taken(file, path)? {
            return Ok(lock);
        }
    }
}

/// Takes the lock that this file stands for, unless another process has it.
///
/// A child that another thread just started shares this process's locks until it runs its own
/// program, which closes them: a lock given back a moment ago may seem taken for that long.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, StoreError> {
    for _ in 0..LOCK_TRIES {
        let file = open_private(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                if let Some(lock) = taken(file, path)? {
                    return Ok(Some(lock));
                }
            }
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(StoreError::io("lock", path, error.into())),
        }
    }
    Ok(None)
}

/// The lock, unless whoever had it before removed the file since it was opened: then another file stands
/// for it, or will.
fn taken(file: File, path: &Path) -> Result<Option<Lock>, StoreError> {
    let metadata = file
        .metadata()
        .map_err(|e| StoreError::io("lock", path, e))?;
    // Made only then: what is dropped removes the file.
    Ok((metadata.nlink() > 0).then(|| Lock {
        file,
        path: path.to_path_buf(),
    }))
}

/// Writes a small file so that `path` has either the old text or the new one.
pub(super) fn replace(new: &Path, path: &Path, text: &str) -> Result<(), StoreError> {
    let written = (|| {
        let mut file = File::create(new)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(new, path)
    })();
    written.map_err(|e| {
        // The write's failure matters, not that of clearing up after it.
        let _ = fs::remove_file(new);
        StoreError::io("write", path, e)
    })?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Removes a file or an own folder, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|what| what.is_dir());
    let removed = if is_folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Makes renames in a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| StoreError::io("write the folder", folder, e))
}
