//! `GET /v1/models`, and hob's own calls that load and unload.

use serde::{Deserialize, Serialize};

/// The name that stands for no model in particular: in a request for the one that is loaded, in a
/// setting for the one that the store chooses.
pub const DEFAULT_MODEL: &str = "default";

/// The answer to `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models in the store, by name.
    pub data: Vec<ModelEntry>,
}

/// One model in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelEntry {
    /// The name to give in a request.
    pub id: String,
    /// `model`.
    pub object: String,
    /// When it was installed, in seconds since the Unix epoch.
    pub created: u64,
    /// `hob`.
    pub owned_by: String,
    /// hob's own: whether it is the one that is loaded.
    #[serde(default)]
    pub loaded: bool,
    /// hob's own: size of the file in bytes.
    #[serde(default)]
    pub size_bytes: u64,
}

/// The body of `POST /hob/v1/load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadRequest {
    /// The model's name, or `default`.
    pub model: String,
}
