//! What the store remembers of an installed model.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::gguf::{Descent, Header};
use crate::{ModelName, Sha256};

/// Longest manifest in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// An installed model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its name.
    pub name: ModelName,
    /// What is known of it.
    pub manifest: Manifest,
}

/// What a model was made of, if hob made it, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The name of the model that it was made of, at that time.
    pub source: ModelName,
    /// That model's digest.
    pub source_sha256: Sha256,
    /// The digests of what that was made of in turn, if it was made here, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_sha256: Vec<Sha256>,
    /// What was done, in sentences, the first first; of a model that was itself made here, its steps
    /// come before. None of a copy that was made elsewhere.
    pub steps: Vec<String>,
    /// The digest of the text that it was fitted to, all files one after the other, if to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus_sha256: Option<Sha256>,
    /// Bytes of that text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus_bytes: Option<u64>,
    /// Tokens that the text was to the model that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus_tokens_before: Option<u64>,
    /// Tokens that the text is to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus_tokens: Option<u64>,
    /// What was lost, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
}

impl Lineage {
    /// What a file says of itself, of which nothing else is known.
    pub(super) fn told(descent: &Descent) -> Self {
        Self {
            source: descent.source.clone(),
            source_sha256: descent.source_sha256,
            further_sha256: descent.further_sha256.clone(),
            steps: Vec::new(),
            corpus_sha256: None,
            corpus_bytes: None,
            corpus_tokens_before: None,
            corpus_tokens: None,
            loss: None,
        }
    }

    /// The digests of all that the model descends from, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = &Sha256> {
        std::iter::once(&self.source_sha256).chain(&self.further_sha256)
    }
}

/// What a smaller model loses, measured on text that it was not fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// By how many ten-thousandths it takes more bits for a byte than the model that it was made of.
    pub basis_points: i32,
    /// Half of the width of the interval of 95 %, likewise; none of a single piece of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_basis_points: Option<u32>,
    /// Bytes of that text that were to be foreseen.
    pub bytes: u64,
}

/// What the store remembers of an installed model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The file's digest.
    pub sha256: Sha256,
    /// The file's size.
    pub size_bytes: u64,
    /// Where it came from.
    pub origin: String,
    /// Its licence, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// When it was installed, in seconds since the Unix epoch.
    pub installed: u64,
    /// See [`Header::architecture`].
    pub architecture: String,
    /// See [`Header::parameters`].
    pub parameters: u64,
    /// See [`Header::quantization`].
    pub quantization: String,
    /// See [`Header::n_ctx_train`].
    pub context: u32,
    /// Whether there is a chat template.
    pub chat: bool,
    /// What it was made of, if it was made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
}

impl Manifest {
    pub(super) fn new(
        sha256: Sha256,
        size_bytes: u64,
        origin: String,
        licence: Option<String>,
        lineage: Option<Lineage>,
        header: &Header,
    ) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            sha256,
            size_bytes,
            origin,
            licence,
            installed: now.map_or(0, |since| since.as_secs()),
            architecture: header.architecture.clone(),
            parameters: header.parameters,
            quantization: header.quantization.clone(),
            context: header.n_ctx_train,
            chat: header.chat_template.is_some(),
            lineage,
        }
    }

    pub(super) fn read(path: &Path) -> Result<Self, StoreError> {
        let unreadable = |e| StoreError::io("read", path, e);
        if fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
            return Err(unreadable(std::io::ErrorKind::FileTooLarge.into()));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        toml::from_str(&text).map_err(|error| StoreError::Manifest {
            path: path.to_path_buf(),
            line: line(&text, &error),
            why: error.message().to_owned(),
        })
    }

    pub(super) fn to_text(&self, path: &Path) -> Result<String, StoreError> {
        toml::to_string(self).map_err(|error| StoreError::Manifest {
            path: path.to_path_buf(),
            line: 1,
            why: error.to_string(),
        })
    }
}

/// The line, from 1, that a text is refused for.
pub(super) fn line(text: &str, error: &toml::de::Error) -> usize {
    let at = error.span().map_or(0, |span| span.start);
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
