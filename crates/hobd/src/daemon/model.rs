//! From a model's name to an opened, verified file, and what to say when that fails.

use std::sync::Arc;

use hob_api::model::DEFAULT_MODEL;
use hob_api::{ApiError, ErrorCode};
use hob_models::ModelName;
use hob_models::store::{OpenModel, Store, StoreError, Verified};
use tokio::task::JoinHandle;

/// A model being opened and hashed on another thread.
pub(super) type Opening = JoinHandle<Result<Box<OpenModel>, ApiError>>;

/// Opens and verifies in the background.
pub(super) fn open(store: Arc<Store>, verified: Arc<Verified>, name: ModelName) -> Opening {
    tokio::task::spawn_blocking(move || {
        store
            .open_verified(&name, &verified)
            .map(Box::new)
            .map_err(|error| refused(&error))
    })
}

/// The model that `chosen` names, or the store's default.
pub(super) fn resolve(store: &Store, chosen: Option<&str>) -> Result<ModelName, ApiError> {
    let name = match chosen {
        Some(name) if !name.is_empty() && name != DEFAULT_MODEL => {
            ModelName::new(name).map_err(|error| {
                ApiError::new(ErrorCode::ModelNotFound, error.to_string()).param("model")
            })?
        }
        _ => store.default_model().map_err(|error| refused(&error))?,
    };
    store.get(&name).map_err(|error| refused(&error))?;
    Ok(name)
}

/// What a store's refusal means to clients.
fn refused(error: &StoreError) -> ApiError {
    let code = match error {
        // Waiting helps against neither.
        StoreError::NotInstalled { .. } | StoreError::NoDefault { .. } => ErrorCode::ModelNotFound,
        _ => ErrorCode::ModelFailed,
    };
    let refused = ApiError::new(code, error.to_string());
    match error.hint() {
        Some(hint) => refused.hint(hint),
        None => refused,
    }
}

/// The error of a request for a model that is not installed.
pub(super) fn not_found(name: &str) -> ApiError {
    let message = format!("the model {name:?} is not installed");
    ApiError::new(ErrorCode::ModelNotFound, message)
        .param("model")
        .hint("`hob models list` shows what is; leave the model out to use the one that is loaded")
}

/// The error of a request for a model other than the loaded one.
pub(super) fn not_loaded(name: &str, loaded: &str) -> ApiError {
    let message = format!("the model {name:?} is not loaded; {loaded:?} is");
    ApiError::new(ErrorCode::ModelNotFound, message)
        .param("model")
        .hint(format!(
            "leave the model out, or load the other one with `hob models use {name}`"
        ))
}
