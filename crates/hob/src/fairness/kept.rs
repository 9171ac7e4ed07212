//! What was measured, kept so that a cut audit goes on and a second one need not begin anew.
//!
//! One file for each model, data and way of asking, with a line for each group of questions. A line that
//! is not whole, as after a power cut, is measured again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hob_models::Sha256;
use hob_models::digest::Hasher;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::question::{Question, Scores};
use crate::failure::Failure;

/// What the lines mean. Goes up with every change of a prompt or of a score.
const FORMAT: u32 = 1;
/// Most files that are kept.
const FILES_MAX: usize = 32;
/// Longest file in bytes; all of BBQ's four largest categories in all orders are a tenth of it.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A line.
#[derive(Serialize, Deserialize)]
struct Line {
    group: String,
    scores: Vec<Scores>,
}

/// Measured groups. The file is locked until it is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    file: File,
    path: PathBuf,
    known: BTreeMap<String, Vec<Scores>>,
}

impl Kept {
    /// What was measured of a model with this data, asked in this many orders.
    ///
    /// # Errors
    /// When the file can't be used, or another audit is at it.
    pub(super) fn open(
        folder: &Path,
        model: Sha256,
        data: Sha256,
        orders: usize,
    ) -> Result<Self, Failure> {
        let mut hasher = Hasher::default();
        let version = env!("CARGO_PKG_VERSION");
        hasher.update(format!("{FORMAT} {version} {model} {data} {orders}").as_bytes());
        let path = folder.join(format!("{}.jsonl", hasher.finish()));
        let unusable = |error: io::Error| {
            Failure::io(&format!("{} cannot be used", path.display()), &error)
                .hint("It keeps what was measured; it can be removed.")
        };
        fs::create_dir_all(folder).map_err(unusable)?;
        sweep(folder, &path);
        let mut file = locked(&path).map_err(unusable)?.ok_or_else(|| {
            Failure::new("another audit of this model is under way")
                .hint("Wait for it, or stop it; what it measured is kept.")
        })?;
        if file.metadata().map_err(unusable)?.len() > FILE_BYTES_MAX {
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
        let lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let known = lines.map(|line| (line.group, line.scores)).collect();
        Ok(Self { file, path, known })
    }

    /// What was measured of a group, if it can be that.
    pub(super) fn get(&self, group: &str, questions: &[Question]) -> Option<&[Scores]> {
        let scores = self.known.get(group)?;
        let fit = scores.len() == questions.len()
            && scores
                .iter()
                .zip(questions)
                .all(|(scores, question)| scores.fits(question));
        fit.then_some(scores)
    }

    /// Keeps what was measured of a group.
    ///
    /// # Errors
    /// When it can't be written, as on a full disk.
    pub(super) fn add(&mut self, group: &str, scores: Vec<Scores>) -> Result<(), Failure> {
        let line = Line {
            group: group.to_owned(),
            scores,
        };
        let unwritten = |error| {
            Failure::io(
                &format!("{} cannot be written", self.path.display()),
                &error,
            )
        };
        let mut text = serde_json::to_vec(&line).map_err(|error| unwritten(error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(unwritten)?;
        self.known.insert(line.group, line.scores);
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

/// Removes the oldest files beyond those that are kept, but for those that an audit is at. What can't be
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

    use super::*;

    fn digest(of: &str) -> Sha256 {
        let mut hasher = Hasher::default();
        hasher.update(of.as_bytes());
        hasher.finish()
    }

    fn open(folder: &Path, data: &str) -> Result<Kept, Failure> {
        Kept::open(folder, digest("model"), digest(data), 3)
    }

    fn question() -> Question {
        Question {
            prompts: vec!["?".to_owned()],
            premise: "Answer:".to_owned(),
            answers: vec![" a".to_owned(), " b".to_owned()],
        }
    }

    fn scores() -> Vec<Scores> {
        vec![Scores {
            prompts: vec![vec![-1.25, -0.1]],
            premise: vec![-2.0, -3.0e-9],
            tokens: vec![1, 2],
        }]
    }

    #[test]
    fn what_was_measured_is_there_again_and_a_cut_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let questions = [question()];
        let path = {
            let mut kept = open(folder.path(), "data").unwrap();
            kept.add("one", scores()).unwrap();
            kept.add("two", scores()).unwrap();
            kept.path.clone()
        };
        let whole = fs::metadata(&path).unwrap().len();
        let cut = OpenOptions::new().write(true).open(&path).unwrap();
        cut.set_len(whole - 3).unwrap();
        let mut kept = open(folder.path(), "data").unwrap();
        assert_eq!(kept.get("one", &questions), Some(&scores()[..]));
        assert_eq!(kept.get("two", &questions), None);
        kept.add("three", scores()).unwrap();
        drop(kept);
        let kept = open(folder.path(), "data").unwrap();
        assert!(kept.get("three", &questions).is_some());
        // Of other questions, or with other data, nothing is known.
        let mut other = question();
        other.answers.push(" c".to_owned());
        assert_eq!(kept.get("three", &[other]), None);
        let other = open(folder.path(), "other data").unwrap();
        assert_eq!(other.get("three", &questions), None);
    }

    #[test]
    fn two_audits_of_the_same_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), "data").unwrap();
        let second = open(folder.path(), "data").unwrap_err();
        assert!(second.message.contains("another audit"), "{second}");
        drop(first);
        assert!(open(folder.path(), "data").is_ok());
    }

    #[test]
    fn few_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for at in 0..FILES_MAX + 5 {
            drop(open(folder.path(), &at.to_string()).unwrap());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), FILES_MAX);
    }

    #[test]
    fn what_an_audit_is_at_is_not_swept() {
        let folder = tempfile::tempdir().unwrap();
        let mut oldest = open(folder.path(), "data").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        oldest.file.set_modified(long_ago).unwrap();
        for at in 0..FILES_MAX + 5 {
            drop(open(folder.path(), &at.to_string()).unwrap());
        }
        oldest.add("one", scores()).unwrap();
        drop(oldest);
        let again = open(folder.path(), "data").unwrap();
        assert!(again.get("one", &[question()]).is_some());
    }
}
