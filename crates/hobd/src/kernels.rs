//! Which engine is started: of those in a package, the one with the best kernels that this processor
//! has.
//!
//! [`Engines`] is what lies at `engine.path`, and [`choose`], which is pure, takes one of them. Nothing
//! else has a say: neither the environment nor the working folder is looked at.

use std::path::{Path, PathBuf};

use hob_api::{ApiError, ErrorCode};
use hob_ipc::kernels::{self, ENGINE, Feature, Features, Level};
use hob_models::gguf;

pub mod gpu;

/// The engines at `engine.path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engines {
    /// One, of a level that it tells itself when it runs.
    One(PathBuf),
    /// A package's: a folder for each level, from the least to the best.
    Levels(Vec<(Level, PathBuf)>),
}

impl Engines {
    /// Those at `path`: a folder of levels or of a single engine, or an engine, whether it is there or
    /// not.
    pub fn at(path: &Path) -> Self {
        if !path.is_dir() {
            return Self::One(path.to_owned());
        }
        let levels = kernels::installed(path);
        let single = path.join(ENGINE);
        if levels.is_empty() && single.is_file() {
            return Self::One(single);
        }
        Self::Levels(levels)
    }
}

/// The engine to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its binary.
    pub binary: PathBuf,
    /// Its level; `None` until it tells.
    pub level: Option<Level>,
    /// Why this one, in words for people.
    pub reason: String,
    /// Whether it is to compute on a GPU.
    pub gpu: bool,
}

impl Choice {
    /// Which weights its kernels put into another order.
    pub fn kernels(&self) -> gguf::Kernels {
        let Some(level) = self.level else {
            return gguf::Kernels::here();
        };
        let needed = level.needs();
        gguf::Kernels {
            avx2: needed.contains(Feature::Avx2),
            avx512: needed.contains(Feature::Avx512),
            dotprod: needed.contains(Feature::Dotprod),
        }
    }
}

/// Why none is started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEngine {
    /// The folder holds none for this architecture.
    #[error("no engine is installed")]
    NoneInstalled,
    /// `engine.kernels` names a level that is not in the folder.
    #[error("there is no engine with the kernels {}", .wanted.as_str())]
    NotInstalled {
        /// What was asked for.
        wanted: Level,
        /// What is there.
        installed: Vec<Level>,
    },
    /// `engine.kernels` names a level, and `engine.path` one engine, of whatever level it is.
    #[error("engine.kernels names {}, but engine.path is a single engine", .0.as_str())]
    NoFolder(Level),
    /// No GPU computes, and `engine.gpu` requires one.
    #[error("no GPU can compute the model: {0}")]
    Gpu(gpu::NoGpu),
    /// The level that was asked for, or the least that is installed, is too high.
    #[error("this processor lacks {missing}, which the kernels {} use", .level.as_str())]
    Lacking {
        /// Of the engine.
        level: Level,
        /// Names of features.
        missing: String,
    },
}

impl NoEngine {
    /// What it means to clients.
    pub fn error(&self) -> ApiError {
        let hint = match self {
            Self::NoneInstalled => "install hob's package again, or check engine.path".to_owned(),
            Self::NotInstalled { installed, .. } => {
                format!(
                    "set engine.kernels to \"auto\", or to one of: {}",
                    names(installed)
                )
            }
            Self::NoFolder(_) => {
                "leave engine.kernels at \"auto\", or set engine.path to the package's folder"
                    .to_owned()
            }
            Self::Gpu(_) => gpu::HINT.to_owned(),
            Self::Lacking { .. } => {
                "engine.kernels = \"auto\" takes one that it can run, if any is installed"
                    .to_owned()
            }
        };
        ApiError::new(ErrorCode::ModelFailed, self.to_string()).hint(hint)
    }
}

/// The engine to start on a processor that `has` these features: of the level `wanted`, or the best.
///
/// # Errors
/// [`NoEngine`]: never one that the processor can't run, as far as its level is known.
pub fn choose(
    engines: &Engines,
    wanted: Option<Level>,
    has: &Features,
) -> Result<Choice, NoEngine> {
    let engines = match (engines, wanted) {
        (Engines::Levels(engines), _) => engines,
        (Engines::One(_), Some(wanted)) => return Err(NoEngine::NoFolder(wanted)),
        (Engines::One(binary), None) => {
            return Ok(Choice {
                binary: binary.clone(),
                level: None,
                reason: "the only engine here".to_owned(),
                gpu: false,
            });
        }
    };
    let least = engines.first().ok_or(NoEngine::NoneInstalled)?;
    let levels: Vec<_> = engines.iter().map(|(level, _)| *level).collect();
    let mut upwards = engines.iter();
    let ((level, binary), reason) = if let Some(wanted) = wanted {
        let named = upwards.find(|(level, _)| *level == wanted);
        let named = named.ok_or(NoEngine::NotInstalled {
            wanted,
            installed: levels,
        })?;
        (named, "set by engine.kernels".to_owned())
    } else {
        let best = upwards.rfind(|(level, _)| has.lack(&level.needs()).is_none());
        let reason = format!("the best for this processor of {}", names(&levels));
        (best.unwrap_or(least), reason)
    };
    if let Some(missing) = has.lack(&level.needs()) {
        let level = *level;
        return Err(NoEngine::Lacking { level, missing });
    }
    Ok(Choice {
        binary: binary.clone(),
        level: Some(*level),
        reason,
        gpu: false,
    })
}

fn names(levels: &[Level]) -> String {
    let names: Vec<_> = levels.iter().map(|level| level.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
