//! A corpus: text files that show what a model is for, read piece by piece.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hob_models::Sha256;
use hob_models::digest::Hasher;

use crate::failure::Failure;

/// Text files, of which there is something to read.
#[derive(Debug)]
pub(super) struct Corpus {
    files: Vec<PathBuf>,
    /// Of each file, when it was looked at.
    lengths: Vec<u64>,
}

/// Why a file is no text.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is not UTF-8 text: the byte at {0} does not belong to any character")]
    Encoding(u64),
    /// Who took the pieces wants no more.
    #[error(transparent)]
    Stopped(Failure),
}

impl Corpus {
    /// Looks at the files.
    pub(super) fn open(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut lengths = Vec::new();
        for path in files {
            // Before it is opened: opening a FIFO would wait for a writer.
            let metadata = std::fs::metadata(path).map_err(|error| {
                Failure::io(&format!("{} cannot be read", path.display()), &error)
            })?;
            if !metadata.is_file() {
                let problem = format!("{} is not a regular file", path.display());
                return Err(Failure::new(problem).hint("Give one or more text files."));
            }
            lengths.push(metadata.len());
        }
        Ok(Self {
            files: files.to_vec(),
            lengths,
        })
    }

    /// Its files.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Bytes of each file, when it was looked at.
    pub(super) fn lengths(&self) -> &[u64] {
        &self.lengths
    }

    /// Bytes of all files, when they were looked at.
    pub(super) fn bytes(&self) -> u64 {
        self.lengths.iter().sum()
    }

    /// A piece that begins behind so many bytes of a file, parted where the last tenth of that begins:
    /// behind a word, where there is one.
    pub(super) fn part<'t>(&self, file: usize, begins: u64, text: &'t str) -> (&'t str, &'t str) {
        let length = self.lengths.get(file).copied().unwrap_or(0);
        let before = (length - length / 10).saturating_sub(begins);
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        if before >= text.len() {
            return (text, "");
        }
        let at = (0..=before).rev().find(|at| text.is_char_boundary(*at));
        let at = at.unwrap_or(0);
        let word = text[..at].rfind(char::is_whitespace);
        text.split_at(word.unwrap_or(at))
    }

    /// Hands all text to `each`, with its file's place, in pieces of at most `most` bytes, which end at a
    /// line's or word's end where there is one. The digest of all.
    ///
    /// # Errors
    /// When a file can't be read or is no text, there is none at all, or `each` fails.
    pub(super) fn read(
        &self,
        most: usize,
        mut each: impl FnMut(usize, &str) -> Result<(), Failure>,
    ) -> Result<Sha256, Failure> {
        let mut hasher = Hasher::default();
        let mut blank = true;
        for (place, path) in self.files.iter().enumerate() {
            let mut take = |text: &str| {
                hasher.update(text.as_bytes());
                blank &= text.trim().is_empty();
                each(place, text)
            };
            File::open(path)
                .map_err(Unreadable::from)
                .and_then(|file| pieces(file, most, &mut take))
                .map_err(|error| refuse(path, error))?;
        }
        if blank {
            return Err(Failure::new("there is no text in what was given")
                .hint("Give files of text, some kilobytes at least."));
        }
        Ok(hasher.finish())
    }
}

fn refuse(path: &Path, error: Unreadable) -> Failure {
    let failure = Failure::new(format!("{}: {error}", path.display()));
    match error {
        Unreadable::Stopped(failure) => failure,
        Unreadable::Encoding(_) => {
            failure.hint("Convert it, as with `iconv -f ISO-8859-1 -t UTF-8`.")
        }
        Unreadable::Io(_) => failure,
    }
}

/// Cuts text into pieces.
fn pieces(
    mut file: impl Read,
    most: usize,
    each: &mut impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Unreadable> {
    let mut held: Vec<u8> = Vec::new();
    let mut before = 0u64;
    loop {
        let missing = most.saturating_sub(held.len());
        let read = (&mut file).take(missing as u64).read_to_end(&mut held)?;
        if held.is_empty() {
            return Ok(());
        }
        let end = if read < missing {
            held.len()
        } else {
            cut(&held)
        };
        let text = std::str::from_utf8(&held[..end])
            .map_err(|error| Unreadable::Encoding(before + error.valid_up_to() as u64))?;
        each(text).map_err(Unreadable::Stopped)?;
        held.drain(..end);
        before += end as u64;
    }
}

/// Where a piece of text ends: behind its last line, else before its last space, else before its last
/// character, which may not be whole. At least 1.
fn cut(held: &[u8]) -> usize {
    let line = held
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map(|at| at + 1);
    let word = || held.iter().rposition(|byte| *byte == b' ');
    let character = || held.iter().rposition(|byte| !(0x80..0xc0).contains(byte));
    let end = line.or_else(|| word().filter(|at| *at > 0));
    end.or_else(|| character().filter(|at| *at > 0))
        .unwrap_or(held.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 4096;

    fn cut_up(bytes: &[u8]) -> Result<Vec<String>, Unreadable> {
        let mut found = Vec::new();
        pieces(bytes, MOST, &mut |text: &str| {
            found.push(text.to_owned());
            Ok(())
        })?;
        Ok(found)
    }

    proptest! {
        #[test]
        fn pieces_are_the_text_and_short(text in "(\\PC{0,40}[ \n]?){0,600}") {
            let found = cut_up(text.as_bytes()).unwrap();
            prop_assert_eq!(found.concat(), text);
            prop_assert!(found.iter().all(|p| (1..=MOST).contains(&p.len())));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            match (cut_up(&bytes), String::from_utf8(bytes)) {
                (Ok(found), Ok(text)) => prop_assert_eq!(found.concat(), text),
                (Err(Unreadable::Encoding(at)), Err(error)) => {
                    prop_assert_eq!(at, error.utf8_error().valid_up_to() as u64);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn of_small_files_too_the_last_tenth_alone_is_parted_off(
            text in "([a-zäöü]{1,9}[ \n]){20,300}",
            most in 5usize..4096,
        ) {
            let corpus = Corpus { files: Vec::new(), lengths: vec![text.len() as u64] };
            let (mut begins, mut kept, mut last) = (0, String::new(), String::new());
            pieces(text.as_bytes(), most, &mut |piece: &str| {
                let (before, behind) = corpus.part(0, begins, piece);
                assert_eq!(before.len() + behind.len(), piece.len());
                kept.push_str(before);
                last.push_str(behind);
                begins += piece.len() as u64;
                Ok(())
            })
            .unwrap();
            prop_assert_eq!(kept.clone() + &last, text.clone());
            // A word more than a tenth at most.
            prop_assert!(last.len() >= text.len() / 10 && last.len() <= text.len() / 10 + 20);
        }
    }

    #[test]
    fn pieces_end_where_lines_and_words_do() {
        let line = format!("{}\n", "word ".repeat(300));
        let text = line.repeat(20);
        let found = cut_up(text.as_bytes()).unwrap();
        assert!(found.len() > 4 && found.iter().all(|piece| piece.ends_with('\n')));
        let words = "word ".repeat(5000);
        let found = cut_up(words.as_bytes()).unwrap();
        assert!(found[1..].iter().all(|piece| piece.starts_with(' ')));
        // One word without an end is cut between characters.
        let long = "ä".repeat(9000);
        assert_eq!(cut_up(long.as_bytes()).unwrap().concat(), long);
    }
}
