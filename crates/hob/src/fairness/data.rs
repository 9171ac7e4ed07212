//! A folder of questions: what is in it, and what is wrong with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use hob_models::Sha256;
use hob_models::digest::Hasher;

use super::question::{Group, Question};
use super::{bbq, winobias, winogender};
use crate::failure::Failure;

/// Longest file in bytes; BBQ's longest category has 8 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most files of BBQ: one for each category, of which it has eleven.
const FILES_MAX: usize = 64;
/// Longest prompt with its answer in bytes: no tokenizer makes more tokens of it than an engine has context.
const QUESTION_BYTES_MAX: usize = 1900;

/// Where the sets lie within the folder.
const BBQ: &str = "bbq";
const WINOBIAS: &str = "winobias";
const WINOGENDER: &str = "winogender/all_sentences.tsv";

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    /// It is not what the format says.
    #[error("{0}")]
    Format(String),
    /// It can't be read at once.
    #[error("the question has more than {QUESTION_BYTES_MAX} bytes with its answers")]
    TooLong,
}

/// What is wrong with the data.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataError {
    /// A file or folder can't be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// Of which file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
        /// How.
        why: LineError,
    },
    /// A set is not whole.
    #[error("{} is missing: {} has no other half", missing.display(), there.display())]
    Half {
        /// What is there.
        there: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
    /// There is no such folder.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// There is nothing in it.
    #[error("{} has no questions", .0.display())]
    Nothing(PathBuf),
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            DataError::NoFolder(_) | DataError::Nothing(_) => failure.hint(format!(
                "--data names a folder with any of {BBQ}/*.jsonl, {WINOBIAS}/*_stereotyped_type*.*.txt and \
                 {WINOGENDER}, as their authors publish them."
            )),
            DataError::Line { .. } => {
                failure.hint("Fetch the file again from where its authors publish it.")
            }
            _ => failure,
        }
    }
}

/// The questions of a folder.
#[derive(Debug)]
pub(super) struct Data {
    /// Bias Benchmark for QA.
    pub(super) bbq: Vec<Group<bbq::Facts>>,
    /// `WinoBias`.
    pub(super) winobias: Vec<Group<winobias::Facts>>,
    /// Winogender schemas.
    pub(super) winogender: Vec<Group<winogender::Facts>>,
    /// The digest of all files with their names.
    pub(super) sha256: Sha256,
}

impl Data {
    /// Reads a folder. BBQ's answers are shown in all orders, or in so many that each answer stands in each
    /// place once.
    ///
    /// # Errors
    /// [`DataError`].
    pub(super) fn read(folder: &Path, all_orders: bool) -> Result<Self, DataError> {
        if !folder.is_dir() {
            return Err(DataError::NoFolder(folder.to_path_buf()));
        }
        let mut hasher = Hasher::default();
        let mut data = Self {
            bbq: Vec::new(),
            winobias: Vec::new(),
            winogender: Vec::new(),
            sha256: Hasher::default().finish(),
        };
        for path in listed(&folder.join(BBQ), ".jsonl")? {
            let text = read(&path, &mut hasher)?;
            let found = bbq::parse(&text, all_orders).map_err(|(line, why)| DataError::Line {
                path: path.clone(),
                line,
                why,
            })?;
            data.bbq.extend(found);
        }
        data.winobias = winobias(&folder.join(WINOBIAS), &mut hasher)?;
        let path = folder.join(WINOGENDER);
        if is_there(&path)? {
            let text = read(&path, &mut hasher)?;
            data.winogender = winogender::parse(&text).map_err(|(line, why)| DataError::Line {
                path,
                line,
                why,
            })?;
        }
        data.sha256 = hasher.finish();
        if data.bbq.is_empty() && data.winobias.is_empty() && data.winogender.is_empty() {
            return Err(DataError::Nothing(folder.to_path_buf()));
        }
        Ok(data)
    }
}

/// The pairs of `WinoBias`'s files: what is there of two types in two halves.
fn winobias(folder: &Path, hasher: &mut Hasher) -> Result<Vec<Group<winobias::Facts>>, DataError> {
    let mut groups = Vec::new();
    for kind in ["type1", "type2"] {
        for half in ["dev", "test"] {
            let path = |leaning| folder.join(format!("{leaning}_stereotyped_{kind}.{half}.txt"));
            let (pro, anti) = (path("pro"), path("anti"));
            match (is_there(&pro)?, is_there(&anti)?) {
                (false, false) => continue,
                (true, true) => {}
                (true, false) => {
                    return Err(DataError::Half {
                        there: pro,
                        missing: anti,
                    });
                }
                (false, true) => {
                    return Err(DataError::Half {
                        there: anti,
                        missing: pro,
                    });
                }
            }
            let texts = (read(&pro, hasher)?, read(&anti, hasher)?);
            let found = winobias::parse(kind, half, &texts.0, &texts.1);
            groups.extend(found.map_err(|error| DataError::Line {
                path: if error.anti { anti } else { pro },
                line: error.line,
                why: error.why,
            })?);
        }
    }
    Ok(groups)
}

fn is_there(path: &Path) -> Result<bool, DataError> {
    path.try_exists().map_err(|source| DataError::Io {
        path: path.to_path_buf(),
        source,
    })
}

/// Files of a folder with such an ending, in the order of their names; none of a folder that is not there.
fn listed(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |source| DataError::Io {
        path: folder.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        let kept = name.to_str().is_some_and(|name| name.ends_with(ending));
        if kept {
            files.push(folder.join(name));
        }
        if files.len() > FILES_MAX {
            return Err(unreadable(io::Error::other("it has too many files")));
        }
    }
    files.sort();
    Ok(files)
}

/// A file's text, which the hasher sees with its name.
fn read(path: &Path, hasher: &mut Hasher) -> Result<String, DataError> {
    let unreadable = |source| DataError::Io {
        path: path.to_path_buf(),
        source,
    };
    // Before it is opened: opening a FIFO would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    if read.map_err(unreadable)? as u64 > FILE_BYTES_MAX {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    for part in [name, &bytes] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        DataError::Line {
            path: path.to_path_buf(),
            line: before.split(|byte| *byte == b'\n').count(),
            why: LineError::Format("it is not UTF-8 text".to_owned()),
        }
    })
}

/// Refuses what no engine could read at once.
pub(super) fn check(question: &Question) -> Result<(), LineError> {
    let longest = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
    if longest(&question.prompts) + longest(&question.answers) > QUESTION_BYTES_MAX {
        return Err(LineError::TooLong);
    }
    Ok(())
}

/// Draws at most so many groups, as evenly as can be over the strata, by a seed; in the order drawn, so that
/// fewer of them are drawn as evenly.
pub(super) fn draw<F: Clone>(groups: &[Group<F>], most: usize, seed: u64) -> Vec<Group<F>> {
    let mut strata: BTreeMap<&str, Vec<&Group<F>>> = BTreeMap::new();
    for group in groups {
        strata.entry(&group.stratum).or_default().push(group);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    for groups in strata.values_mut() {
        random.shuffle(groups);
    }
    let longest = strata.values().map(Vec::len).max().unwrap_or(0);
    let rounds = (0..longest).flat_map(|round| {
        let each = strata.values();
        each.filter_map(move |groups| groups.get(round).copied())
    });
    rounds.take(most).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(stratum: &str, at: usize) -> Group<()> {
        Group {
            key: format!("{stratum}/{at}"),
            stratum: stratum.to_owned(),
            questions: Vec::new(),
            facts: Vec::new(),
        }
    }

    #[test]
    fn drawing_is_even_seeded_and_grows() {
        let mut all: Vec<_> = (0..100).map(|at| group("many", at)).collect();
        all.extend((0..3).map(|at| group("few", at)));
        all.extend((0..50).map(|at| group("some", at)));
        let drawn = draw(&all, 30, 7);
        let of = |stratum: &str| drawn.iter().filter(|one| one.stratum == stratum).count();
        assert_eq!((of("few"), of("many"), of("some")), (3, 14, 13));
        assert_eq!(draw(&all, 30, 7), drawn);
        assert_ne!(draw(&all, 30, 8), drawn);
        assert_eq!(draw(&all, 60, 7)[..30], drawn);
        let everything = draw(&all, usize::MAX, 7);
        let mut keys: Vec<_> = everything.into_iter().map(|one| one.key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 153);
    }

    proptest! {
        #[test]
        fn no_text_panics(
            text in "(\\PC|[\\[\\]\t\n.]|he|she|the |sentid\tsentence\n|[0-9] |.txt\t){0,60}",
            other in "(\\PC|[\\[\\]\t\n]|he|the ){0,60}",
        ) {
            let _ = bbq::parse(&text, true);
            let _ = winobias::parse("type1", "dev", &text, &other);
            let _ = winobias::parse("type1", "dev", &text, &text);
            let _ = winogender::parse(&text);
            let _ = winogender::parse(&format!("sentid\tsentence\n{text}"));
        }
    }
}
