//! What an audit measured, kept so that one that was cut goes on and a second one need not begin anew: of each
//! model, data and way of asking, the scores of each group of questions.

use std::path::Path;

use hob_models::Sha256;
use hob_models::digest::Hasher;

use super::question::{Question, Scores};
use crate::failure::Failure;
use crate::kept;

/// What the scores mean. Goes up with every change of a prompt or of a score.
const FORMAT: u32 = 2;
/// Longest file in bytes; all of BBQ's four largest categories in all orders are a tenth of it.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Measured groups. Nobody else is at them until this is dropped.
#[derive(Debug)]
pub(super) struct Kept(kept::Kept<Vec<Scores>>);

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
        let opened = kept::Kept::open(folder, hasher.finish(), FILE_BYTES_MAX)?;
        opened.map(Self).ok_or_else(|| {
            Failure::new("another audit of this model is under way")
                .hint("Wait for it, or stop it; what it measured is kept.")
        })
    }

    /// What was measured of a group, if it can be that.
    pub(super) fn get(&self, group: &str, questions: &[Question]) -> Option<&[Scores]> {
        let scores = self.0.get(group)?;
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
        self.0.add(group, scores)
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
    fn what_was_measured_is_there_again_where_it_fits() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = open(folder.path(), "data").unwrap();
        kept.add("one", scores()).unwrap();
        drop(kept);
        let kept = open(folder.path(), "data").unwrap();
        assert_eq!(kept.get("one", &[question()]), Some(&scores()[..]));
        // Of other questions, or with other data, nothing is known.
        let mut other = question();
        other.answers.push(" c".to_owned());
        assert_eq!(kept.get("one", &[other]), None);
        let other = open(folder.path(), "other data").unwrap();
        assert_eq!(other.get("one", &[question()]), None);
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
}
