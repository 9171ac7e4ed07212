//! The installed models: a folder in which a model is either whole and verified, or not
//! there.
//!
//! For a model `NAME` the folder has `NAME.gguf` (read-only) and `NAME.toml`, its
//! [`Manifest`]. Both must be there for the model to count as installed; the model file
//! gets its name last. `NAME.fairness.json` may tell what was measured of it, and `NAME.control` hold its
//! [`ControlVector`]. The file `default` holds the chosen model's name. Everything that
//! is under way has a name that starts with a dot: `.NAME.part` (a download so far),
//! `.NAME.resume` (how to go on with it), `.NAME.new`, `.NAME.pip`, and `.NAME.lock`,
//! which whoever changes `NAME` holds a lock on.

mod control;
mod disk;
mod error;
mod install;
mod manifest;
#[cfg(test)]
mod tests;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

pub use control::{Change, ControlFault, ControlVector, Verification, digest as control_digest};
pub use error::StoreError;
pub use install::{Expected, Installing, Provenance};
pub use manifest::{Installed, Lineage, Loss, Manifest};
pub use verify::{OpenModel, Verified, Witness};

use crate::catalog::nearest;
use crate::locations;
use crate::{ModelName, Sha256};

/// Longest card in bytes.
const CARD_BYTES_MAX: u64 = 1 << 20;

/// A folder of models. Opening it touches nothing; a folder that is not there is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
}

/// What belongs to a model in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Model,
    Manifest,
    /// What an audit found.
    Fairness,
    /// What is added to what its layers hand on.
    Control,
    /// Bytes fetched so far.
    Partial,
    Resume,
    NewManifest,
    PipFolder,
    Lock,
}

impl Store {
    /// The store in the folder `root`.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `hob models COMMAND` needs behind it to mean this store; see
    /// [`locations::models_option`].
    pub fn option(&self) -> String {
        locations::models_option(&self.root)
    }

    fn path(&self, name: &ModelName, part: Part) -> PathBuf {
        self.root.join(match part {
            Part::Model => format!("{name}.gguf"),
            Part::Manifest => format!("{name}.toml"),
            Part::Fairness => format!("{name}.fairness.json"),
            Part::Control => format!("{name}.control"),
            Part::Partial => format!(".{name}.part"),
            Part::Resume => format!(".{name}.resume"),
            Part::NewManifest => format!(".{name}.new"),
            Part::PipFolder => format!(".{name}.pip"),
            Part::Lock => format!(".{name}.lock"),
        })
    }

    /// Where an installed model's file lies, for messages.
    pub fn model_path(&self, name: &ModelName) -> PathBuf {
        self.path(name, Part::Model)
    }

    /// The installed models by name. One whose manifest cannot be read is left out;
    /// [`Store::get`] says what is wrong with it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Installed>, StoreError> {
        let mut models: Vec<Installed> = self
            .names()?
            .iter()
            .filter_map(|name| self.get(name).ok())
            .collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Names that have a manifest.
    fn names(&self) -> Result<Vec<ModelName>, StoreError> {
        let files = match fs::read_dir(&self.root) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("read the folder", &self.root, error)),
        };
        let mut names = Vec::new();
        for file in files {
            let file = file.map_err(|e| StoreError::io("read the folder", &self.root, e))?;
            let name = file.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".toml"));
            if let Some(Ok(name)) = name.map(ModelName::new) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// An installed model.
    ///
    /// # Errors
    /// [`StoreError::NotInstalled`], or a manifest that cannot be used.
    pub fn get(&self, name: &ModelName) -> Result<Installed, StoreError> {
        let model = self.path(name, Part::Model);
        let manifest = self.path(name, Part::Manifest);
        if fs::symlink_metadata(&model).is_err() || fs::symlink_metadata(&manifest).is_err() {
            return Err(self.not_installed(name));
        }
        Ok(Installed {
            name: name.clone(),
            manifest: Manifest::read(&manifest)?,
        })
    }

    fn not_installed(&self, name: &ModelName) -> StoreError {
        let names = self.names().unwrap_or_default();
        let others = names.iter().filter(|other| *other != name);
        StoreError::NotInstalled {
            name: name.clone(),
            nearest: nearest(name.as_str(), others).cloned(),
            option: self.option(),
        }
    }

    /// The model chosen by [`Store::set_default`], else the only one there is.
    ///
    /// # Errors
    /// [`StoreError::NoDefault`] when there is none, or several and none chosen.
    pub fn default_model(&self) -> Result<ModelName, StoreError> {
        let chosen = fs::read_to_string(self.root.join("default")).ok();
        let chosen = chosen.and_then(|name| ModelName::new(name.trim()).ok());
        if let Some(name) = chosen.filter(|name| self.get(name).is_ok()) {
            return Ok(name);
        }
        let mut models = self.list()?;
        match (models.pop(), models.len()) {
            (Some(only), 0) => Ok(only.name),
            (last, others) => Err(StoreError::NoDefault {
                installed: others + usize::from(last.is_some()),
                option: self.option(),
            }),
        }
    }

    /// Chooses the model that is loaded when none is named.
    ///
    /// # Errors
    /// When it is not installed, is no file, or the folder cannot be written.
    pub fn set_default(&self, name: &ModelName) -> Result<(), StoreError> {
        self.get(name)?;
        let model = self.path(name, Part::Model);
        if !fs::symlink_metadata(&model).is_ok_and(|found| found.is_file()) {
            return Err(StoreError::NotAFile(model));
        }
        let _alone = disk::lock(&self.root.join(".STORE.lock"))?;
        // No model's name has capitals, so that this file can't be one's.
        let new = self.root.join(".DEFAULT.new");
        disk::replace(&new, &self.root.join("default"), &format!("{name}\n"))
    }

    /// Removes a model; whoever has its file open can go on with it.
    ///
    /// # Errors
    /// When it is not installed, is being installed, or the folder cannot be written.
    pub fn remove(&self, name: &ModelName) -> Result<(), StoreError> {
        let model = self.path(name, Part::Model);
        let manifest = self.path(name, Part::Manifest);
        // Not `get`: a model with a broken manifest must be removable.
        if fs::symlink_metadata(&manifest).is_err() {
            return Err(self.not_installed(name));
        }
        let _lock = self.lock(name)?;
        // First: left behind, it would be in force for the next model of that file.
        disk::remove(&self.path(name, Part::Control))?;
        disk::remove(&model)?;
        disk::remove(&manifest)?;
        disk::remove(&self.path(name, Part::Fairness))?;
        let default = self.root.join("default");
        if fs::read_to_string(&default).is_ok_and(|chosen| chosen.trim() == name.as_str()) {
            disk::remove(&default)?;
        }
        disk::sync_folder(&self.root)
    }

    /// Where a model's fairness card lies, for messages.
    pub fn fairness_path(&self, name: &ModelName) -> PathBuf {
        self.path(name, Part::Fairness)
    }

    /// What [`Store::keep_fairness_card`] kept of a model; `None` if nothing.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is longer than any card.
    pub fn fairness_card(&self, name: &ModelName) -> Result<Option<String>, StoreError> {
        let path = self.path(name, Part::Fairness);
        let unreadable = |error| StoreError::io("read", &path, error);
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
            Ok(found) if !found.is_file() || found.len() > CARD_BYTES_MAX => {
                return Err(unreadable(std::io::ErrorKind::InvalidData.into()));
            }
            Ok(_) => {}
        }
        fs::read_to_string(&path).map(Some).map_err(unreadable)
    }

    /// Keeps what an audit found of a model's file beside it, in place of what another found. It goes with
    /// the model.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if the model is not that file any more; when it is not installed, is being
    /// changed, or the folder cannot be written.
    pub fn keep_fairness_card(
        &self,
        name: &ModelName,
        sha256: Sha256,
        card: &str,
    ) -> Result<(), StoreError> {
        self.put_beside(name, sha256, Part::Fairness, card)
    }

    /// Writes a small file of a model's own beside it, if it is the file with this digest.
    fn put_beside(
        &self,
        name: &ModelName,
        sha256: Sha256,
        part: Part,
        text: &str,
    ) -> Result<(), StoreError> {
        // Before the lock, which would need the folder.
        self.get(name)?;
        let _lock = self.lock(name)?;
        if self.get(name)?.manifest.sha256 != sha256 {
            return Err(StoreError::Changed { name: name.clone() });
        }
        let new = self.path(name, Part::NewManifest);
        disk::replace(&new, &self.path(name, part), text)
    }

    /// Whether something could be put beside a model now, for those who will have something after long work.
    ///
    /// # Errors
    /// When it is not installed, is being changed, or the folder cannot be written.
    pub fn check_changeable(&self, name: &ModelName) -> Result<(), StoreError> {
        self.get(name)?;
        self.lock(name).map(drop)
    }

    /// Keeps every other process from changing a model.
    fn lock(&self, name: &ModelName) -> Result<disk::Lock, StoreError> {
        disk::try_lock(&self.path(name, Part::Lock))?
            .ok_or_else(|| StoreError::Busy { name: name.clone() })
    }
}
