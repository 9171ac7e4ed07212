//! What can go wrong in the store, each with a hint where there is one.

use std::io;
use std::path::{Path, PathBuf};

use super::ControlFault;
use crate::gguf::GgufError;
use crate::{ModelName, Sha256};

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No such model.
    #[error("model `{name}` is not installed")]
    NotInstalled {
        /// The name asked for.
        name: ModelName,
        /// An installed model whose name is close.
        nearest: Option<ModelName>,
        /// As [`crate::locations::models_option`] says it.
        option: String,
    },
    /// Nothing to choose from, or too much.
    #[error("{}", match installed { 0 => "no model is installed".to_owned(), n => format!("{n} models are installed and none is chosen") })]
    NoDefault {
        /// How many models are installed.
        installed: usize,
        /// As [`crate::locations::models_option`] says it.
        option: String,
    },
    /// Another process is at work.
    #[error("another process is installing or removing `{name}`")]
    Busy {
        /// The model.
        name: ModelName,
    },
    /// The name is taken.
    #[error("a model named `{name}` is installed already, with sha256 {sha256}")]
    AlreadyInstalled {
        /// The name.
        name: ModelName,
        /// The installed file's digest.
        sha256: Sha256,
    },
    /// A file in the way that hob did not put there.
    #[error("{} is in the way and was not installed by hob", .0.display())]
    Foreign(PathBuf),
    /// A manifest that cannot be used.
    #[error("{}:{line}: {why}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Not the bytes that were wanted.
    #[error("`{name}` has sha256 {actual}, expected {expected}")]
    Digest {
        /// The model.
        name: ModelName,
        /// What it should be.
        expected: Sha256,
        /// What it is.
        actual: Sha256,
    },
    /// Not as many bytes as were wanted.
    #[error("`{name}` is {actual} bytes long, expected {expected}")]
    Size {
        /// The model.
        name: ModelName,
        /// What it should be.
        expected: u64,
        /// What it is, or what it grew to before it was stopped.
        actual: u64,
    },
    /// Not a model.
    #[error("`{name}`: {source}")]
    Gguf {
        /// The model.
        name: ModelName,
        /// What is wrong with it.
        source: GgufError,
    },
    /// Something other than a regular file lies where the model should.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The file changed while it was being read.
    #[error("`{name}` changed while it was being verified")]
    Changed {
        /// The model.
        name: ModelName,
    },
    /// A control vector that was learned from another file than the model's.
    #[error(
        "the control vector of `{name}` was learned from another file, with sha256 {learned_from}"
    )]
    ControlStale {
        /// The model.
        name: ModelName,
        /// The other file.
        learned_from: Sha256,
        /// As [`crate::locations::models_option`] says it.
        option: String,
    },
    /// What should be a model's control vector can't be one.
    #[error("the control vector {} is damaged: {fault}", path.display())]
    ControlDamaged {
        /// The file.
        path: PathBuf,
        /// The model.
        name: ModelName,
        /// What is wrong with it.
        fault: ControlFault,
        /// As [`crate::locations::models_option`] says it.
        option: String,
    },
    /// Too little room, found before anything was written.
    #[error("{} has {free} bytes free, and {needed} are needed", path.display())]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The disk, a quota or a limit was reached on the way; what was written is removed.
    #[error("the disk is full: {} could not be written ({source})", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else about files.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let path = path.to_path_buf();
        if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            Self::Full { path, source }
        } else {
            Self::Io { what, path, source }
        }
    }

    /// What to do about it, in one sentence, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotInstalled {
                nearest: Some(nearest),
                ..
            } => format!("Did you mean `{nearest}`?"),
            Self::NotInstalled { option, .. } => format!(
                "`hob models list{option}` shows what is installed, and with --available what can be."
            ),
            Self::NoDefault {
                installed: 0,
                option,
            } => format!("Run `hob models pull smollm2-135m-instruct{option}`."),
            Self::NoDefault { option, .. } => {
                format!("Choose one with `hob models use NAME{option}`.")
            }
            Self::Busy { .. } => "Wait until it is done.".to_owned(),
            Self::AlreadyInstalled { name, .. } => {
                format!("Give another name with --name, or first run `hob models remove {name}`.")
            }
            Self::Foreign(_) => "Move it away, or import it under another name.".to_owned(),
            Self::Manifest { .. } => "Remove the model and pull or import it again.".to_owned(),
            Self::Digest { .. } | Self::Size { .. } | Self::Changed { .. } => {
                "The file is damaged or not the one it should be; get it again.".to_owned()
            }
            Self::Gguf { .. } => "hob runs whole, single GGUF files of language models.".to_owned(),
            Self::ControlStale { name, option, .. } | Self::ControlDamaged { name, option, .. } => {
                format!("`hob fairness mitigate {name} --remove{option}` takes it away.")
            }
            Self::NoSpace { .. } | Self::Full { .. } => {
                "Free some space, or keep models elsewhere with --models-dir.".to_owned()
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "With --system this needs root; without it models are kept in your own folders."
                    .to_owned()
            }
            Self::NotAFile(_) | Self::Io { .. } => return None,
        })
    }
}
