//! What was measured, kept so that work that was cut short goes on and need not begin anew.
//!
//! One file for everything that is measured alike, with a line for each measurement. A line that is not
//! whole, as after a power cut, is measured again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hob_models::Sha256;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Most files that are kept in a folder.
const FILES_MAX: usize = 32;

/// A line.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    of: String,
    found: T,
}

/// Measurements, each by what it is of. The file is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    file: File,
    path: PathBuf,
    known: BTreeMap<String, T>,
}

impl<T: Serialize + DeserializeOwned> Kept<T> {
    /// What was measured alike, which `alike` is a digest of; nothing if that takes more than so many
    /// bytes. `None` if another process is at it.
    ///
    /// # Errors
    /// When the file can't be used.
    pub(crate) fn open(
        folder: &Path,
        alike: Sha256,
        bytes_max: u64,
    ) -> Result<Option<Self>, Failure> {
        let path = folder.join(format!("{alike}.jsonl"));
        let unusable = |error: io::Error| {
            Failure::io(&format!("{} cannot be used", path.display()), &error)
                .hint("It keeps what was measured; it can be removed.")
        };
        fs::create_dir_all(folder).map_err(unusable)?;
        sweep(folder, &path);
        let Some(mut file) = locked(&path).map_err(unusable)? else {
            return Ok(None);
        };
        if file.metadata().map_err(unusable)?.len() > bytes_max {
            file.set_len(0).map_err(unusable)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unusable)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        file.set_len(whole as u64).map_err(unusable)?;
        let lines = bytes[..whole].split(|byte| *byte == b'\n');
        let lines = lines.filter_map(|line| serde_json::from_slice::<Line<T>>(line).ok());
        let known = lines.map(|line| (line.of, line.found)).collect();
        Ok(Some(Self { file, path, known }))
    }

    /// What was found of something.
    pub(crate) fn get(&self, of: &str) -> Option<&T> {
        self.known.get(of)
    }

    /// Keeps what was found of something.
    ///
    /// # Errors
    /// When it can't be written, as on a full disk.
    pub(crate) fn add(&mut self, of: &str, found: T) -> Result<(), Failure> {
        let of = of.to_owned();
        let line = Line { of, found };
        let unwritten = |error| {
            Failure::io(
                &format!("{} cannot be written", self.path.display()),
                &error,
            )
        };
        let mut text = serde_json::to_vec(&line).map_err(|error| unwritten(error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(unwritten)?;
        self.known.insert(line.of, line.found);
        Ok(())
    }
}

/// The file at `path`, made if need be, and locked; `None` if somebody else has it.
fn locked(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = options().create(true).open(path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // Between opening and locking it, somebody may have swept it away.
        if file.metadata()?.nlink() > 0 {
            return Ok(Some(file));
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Removes the oldest files beyond those that are kept, but for those that somebody is at. What can't be
/// removed now will be another time.
fn sweep(folder: &Path, but: &Path) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let others = files.filter(|file| file.path() != but);
    let mut others: Vec<_> = others
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
        .collect();
    others.sort();
    let superfluous = (others.len() + 1).saturating_sub(FILES_MAX);
    for (_, path) in others.into_iter().take(superfluous) {
        let Ok(file) = options().open(&path) else {
            continue;
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use hob_models::digest::Hasher;

    use super::*;

    const BYTES_MAX: u64 = 1 << 10;

    fn open(folder: &Path, alike: &str) -> Option<Kept<Vec<f64>>> {
        let mut hasher = Hasher::default();
        hasher.update(alike.as_bytes());
        Kept::open(folder, hasher.finish(), BYTES_MAX).unwrap()
    }

    #[test]
    fn what_was_measured_is_there_again_and_a_cut_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let found = vec![-1.25, 0.375, 1024.0];
        let path = {
            let mut kept = open(folder.path(), "one").unwrap();
            kept.add("first", found.clone()).unwrap();
            kept.add("second", vec![1.0]).unwrap();
            kept.path.clone()
        };
        let whole = fs::metadata(&path).unwrap().len();
        let cut = OpenOptions::new().write(true).open(&path).unwrap();
        cut.set_len(whole - 3).unwrap();
        let mut kept = open(folder.path(), "one").unwrap();
        assert_eq!(kept.get("first"), Some(&found));
        assert_eq!(kept.get("second"), None);
        kept.add("third", vec![2.0]).unwrap();
        drop(kept);
        let kept = open(folder.path(), "one").unwrap();
        assert!(kept.get("first").is_some() && kept.get("third").is_some());
        // Of what is measured otherwise nothing is known.
        assert_eq!(open(folder.path(), "other").unwrap().get("third"), None);
    }

    #[test]
    fn nothing_grows_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = open(folder.path(), "one").unwrap();
        for at in 0..40 {
            kept.add(&at.to_string(), vec![0.125; 8]).unwrap();
        }
        drop(kept);
        assert_eq!(open(folder.path(), "one").unwrap().get("1"), None);
        for at in 0..FILES_MAX + 5 {
            drop(open(folder.path(), &at.to_string()));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), FILES_MAX);
    }

    #[test]
    fn what_somebody_is_at_is_neither_shared_nor_swept() {
        let folder = tempfile::tempdir().unwrap();
        let mut oldest = open(folder.path(), "one").unwrap();
        assert!(open(folder.path(), "one").is_none());
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        oldest.file.set_modified(long_ago).unwrap();
        for at in 0..FILES_MAX + 5 {
            drop(open(folder.path(), &at.to_string()));
        }
        oldest.add("first", vec![1.0]).unwrap();
        drop(oldest);
        assert!(open(folder.path(), "one").unwrap().get("first").is_some());
    }
}
