//! The control vector beside a model: what a daemon adds to what the model's layers hand on.
//!
//! `NAME.control` is TOML with the digest of the file that the vector was learned from, the layer, the numbers
//! as the hexadecimal digits of their bits, which keep each of them exactly, and what came of verifying it.
//! hob writes one only for what passed on questions that it was not learned from; whoever may change the
//! folder may change it, as the models themselves.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::manifest::line;
use super::verify::open_regular;
use super::{Part, Store, StoreError, disk};
use crate::digest::Hasher;
use crate::gguf::Header;
use crate::{ModelName, Sha256};

/// Longest file in bytes: eight times as long as that of the widest model that is known.
const BYTES_MAX: u64 = 1 << 20;
/// Most characters of what is wrong with a file's text.
const WORDS_MAX: usize = 200;
/// All answers, in ten-thousandths.
const ALL: u32 = 10_000;
/// Hexadecimal digits of a number.
const DIGITS: usize = 8;

/// A control vector that fits its model: as many numbers as the residual stream is wide, all finite, and a layer
/// that there is.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlVector {
    model_sha256: Sha256,
    layer: u32,
    numbers: Vec<f32>,
    verified: Verification,
}

/// What came of verifying a control vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// When, in seconds since the Unix epoch.
    pub verified: u64,
    /// What it was learned from, for people.
    pub contrast: String,
    /// The digest of the files that the questions were drawn from.
    pub data_sha256: Sha256,
    /// How many were asked.
    pub questions: u32,
    /// Their categories: each was left out once, and answered with a vector of the others.
    pub categories: Vec<String>,
    /// By how many ten-thousandths ordinary text takes more bits for a byte.
    pub text_loss_basis_points: i32,
    /// Right answers to questions that can't be answered.
    pub ambiguous: Change,
    /// Right answers to questions that can.
    pub disambiguated: Change,
}

/// A share of right answers, in ten-thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Without the vector.
    pub before: u32,
    /// With it.
    pub after: u32,
}

/// Why something is no control vector of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlFault {
    /// Not the text that hob writes.
    #[error("line {line}: {why}")]
    Text {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// More bytes than any has.
    #[error("it is longer than any control vector")]
    TooLong,
    /// The model has fewer layers.
    #[error("it is for layer {layer}, counted from 0, and the model has {layers}")]
    Layer {
        /// The layer, from 0.
        layer: u32,
        /// How many the model has.
        layers: u32,
    },
    /// More numbers than the model's stream is wide, or fewer.
    #[error("it has {found} numbers, and the model is {width} wide")]
    Width {
        /// How many.
        found: usize,
        /// How many there must be.
        width: u32,
    },
    /// What should be a number is none.
    #[error("its number {at}, counted from 0, is not a finite one")]
    NoNumber {
        /// Which, from 0.
        at: usize,
    },
    /// Of all answers, more than all are told to be right.
    #[error("what it tells of its verification is no share of answers")]
    NoShare,
    /// Not the numbers that were written.
    #[error("its numbers are not those that were written")]
    Digest,
}

/// The file's text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    model_sha256: Sha256,
    layer: u32,
    numbers_sha256: Sha256,
    numbers: String,
    verification: Verification,
}

impl ControlVector {
    /// A vector that is added behind `layer`, counted from 0, of the model whose file has this digest and header.
    ///
    /// # Errors
    /// When it is none for this model.
    pub fn new(
        (model_sha256, header): (Sha256, &Header),
        layer: u32,
        numbers: Vec<f32>,
        verified: Verification,
    ) -> Result<Self, ControlFault> {
        let (layers, width) = (header.n_layer, header.n_embd);
        if layer >= layers {
            return Err(ControlFault::Layer { layer, layers });
        }
        let found = numbers.len();
        if u32::try_from(found) != Ok(width) {
            return Err(ControlFault::Width { found, width });
        }
        if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(ControlFault::NoNumber { at });
        }
        Ok(Self {
            model_sha256,
            layer,
            numbers,
            verified,
        })
    }

    /// The digest of the model's file.
    pub fn model_sha256(&self) -> Sha256 {
        self.model_sha256
    }

    /// The layer behind which it is added, from 0.
    pub fn layer(&self) -> u32 {
        self.layer
    }

    /// The numbers, as many as the model is wide.
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// What came of verifying it.
    pub fn verified(&self) -> &Verification {
        &self.verified
    }

    /// The digest of layer and numbers, which tells it from any other.
    pub fn digest(&self) -> Sha256 {
        digest(self.layer, &self.numbers)
    }

    fn to_text(&self) -> Result<String, ControlFault> {
        let mut numbers = String::with_capacity(DIGITS * self.numbers.len());
        for number in &self.numbers {
            // Writing to a string can't fail.
            let _ = write!(numbers, "{:08x}", number.to_bits());
        }
        let stored = Stored {
            model_sha256: self.model_sha256,
            layer: self.layer,
            numbers_sha256: self.digest(),
            numbers,
            verification: self.verified.clone(),
        };
        let text = toml::to_string(&stored).map_err(|error| ControlFault::Text {
            line: 1,
            why: error.to_string(),
        })?;
        if text.len() as u64 > BYTES_MAX {
            return Err(ControlFault::TooLong);
        }
        Ok(text)
    }
}

impl Stored {
    fn parse(bytes: &[u8]) -> Result<Self, ControlFault> {
        let text = std::str::from_utf8(bytes).map_err(|_| ControlFault::Text {
            line: 1,
            why: "it is no text".to_owned(),
        })?;
        toml::from_str(text).map_err(|error| ControlFault::Text {
            line: line(text, &error),
            why: plain(error.message()),
        })
    }

    /// What is written here, for the model that it was learned from.
    fn checked(self, header: &Header) -> Result<ControlVector, ControlFault> {
        let numbers = numbers(&self.numbers)?;
        let Verification {
            ambiguous,
            disambiguated,
            ..
        } = &self.verification;
        let shares = [ambiguous, disambiguated].map(|change| change.before.max(change.after));
        if shares.into_iter().any(|share| share > ALL) {
            return Err(ControlFault::NoShare);
        }
        let model = (self.model_sha256, header);
        let vector = ControlVector::new(model, self.layer, numbers, self.verification)?;
        if vector.digest() == self.numbers_sha256 {
            Ok(vector)
        } else {
            Err(ControlFault::Digest)
        }
    }
}

/// The first words of a message that quotes a file: it is told to everybody who asks how hobd is.
fn plain(message: &str) -> String {
    let shown = message.chars().filter(|c| !c.is_control());
    shown.take(WORDS_MAX).collect()
}

fn numbers(digits: &str) -> Result<Vec<f32>, ControlFault> {
    let each = digits.as_bytes().chunks(DIGITS).enumerate();
    let parsed = each.map(|(at, digits)| {
        let whole = digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| whole);
        let bits = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        bits.map(f32::from_bits)
            .ok_or(ControlFault::NoNumber { at })
    });
    parsed.collect()
}

/// The digest of a vector that is added behind a layer, counted from 0.
pub fn digest(layer: u32, numbers: &[f32]) -> Sha256 {
    let mut hasher = Hasher::default();
    hasher.update(&layer.to_le_bytes());
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finish()
}

impl Store {
    /// Where a model's control vector lies, for messages.
    pub fn control_path(&self, name: &ModelName) -> PathBuf {
        self.path(name, Part::Control)
    }

    /// The control vector beside a model whose file has this digest and header; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::ControlStale`] if it was learned from another file, [`StoreError::ControlDamaged`] if it
    /// can't be one of this model, or when it is no regular file or can't be read.
    pub fn control_vector(
        &self,
        name: &ModelName,
        (sha256, header): (Sha256, &Header),
    ) -> Result<Option<ControlVector>, StoreError> {
        let damaged = |fault| self.control_damaged(name, fault);
        let Some(bytes) = self.control_bytes(name)? else {
            return Ok(None);
        };
        let stored = Stored::parse(&bytes).map_err(damaged)?;
        if stored.model_sha256 != sha256 {
            return Err(StoreError::ControlStale {
                name: name.clone(),
                learned_from: stored.model_sha256,
                option: self.option(),
            });
        }
        stored.checked(header).map(Some).map_err(damaged)
    }

    /// Puts a control vector beside the model that it was learned from, in place of another. It goes with the
    /// model.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if the model is not that file any more; when it is not installed, is being
    /// changed, or the folder cannot be written.
    pub fn keep_control_vector(
        &self,
        name: &ModelName,
        vector: &ControlVector,
    ) -> Result<(), StoreError> {
        let text = vector.to_text();
        let text = text.map_err(|fault| self.control_damaged(name, fault))?;
        self.put_beside(name, vector.model_sha256, Part::Control, &text)
    }

    /// Whether something lies in the place of a model's control vector, whatever it is.
    pub fn has_control_vector(&self, name: &ModelName) -> bool {
        fs::symlink_metadata(self.control_path(name)).is_ok()
    }

    /// Takes the control vector beside a model away, whatever it is; whether there was one.
    ///
    /// # Errors
    /// When it is a folder, the model is being changed, or the folder cannot be written.
    pub fn remove_control_vector(&self, name: &ModelName) -> Result<bool, StoreError> {
        let path = self.control_path(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StoreError::io("look at", &path, error)),
            // A folder is none of hob's.
            Ok(found) if found.is_dir() => return Err(StoreError::NotAFile(path)),
            Ok(_) => {}
        }
        let _lock = self.lock(name)?;
        disk::remove(&path)?;
        disk::sync_folder(&self.root)?;
        Ok(true)
    }

    /// What lies there, not longer than any control vector.
    fn control_bytes(&self, name: &ModelName) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.control_path(name);
        let file = match open_regular(&path) {
            Ok((file, _)) => file,
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        // One more than there may be, also of a file that grows meanwhile.
        let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| StoreError::io("read", &path, error))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(self.control_damaged(name, ControlFault::TooLong));
        }
        Ok(Some(bytes))
    }

    fn control_damaged(&self, name: &ModelName, fault: ControlFault) -> StoreError {
        StoreError::ControlDamaged {
            path: self.control_path(name),
            name: name.clone(),
            fault,
            option: self.option(),
        }
    }
}

#[cfg(test)]
mod tests;
