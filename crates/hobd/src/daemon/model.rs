//! From a model's name to an opened, verified file, and what to say when that fails.

use std::sync::Arc;

use hob_api::model::DEFAULT_MODEL;
use hob_api::{ApiError, ErrorCode};
use hob_models::catalog::Catalog;
use hob_models::gguf::Header;
use hob_models::store::{OpenModel, Store, StoreError, Verified};
use hob_models::{ModelName, ToolFormat};
use tokio::task::JoinHandle;

use crate::budget::{self, Budget, Plan, Refusal, Wish};
use crate::kernels::Choice;
use crate::settings::Settings;
use crate::supply::Tree;

/// Most installed models that are looked at for one that fits instead.
const INSTEAD_MAX: usize = 64;

/// An open, verified model, how to load it, and what loads it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) engine: Choice,
    pub(super) model: OpenModel,
    pub(super) plan: Plan,
    /// In which form it knows calls.
    pub(super) format: ToolFormat,
}

/// A model being opened and hashed on another thread.
pub(super) type Opening = JoinHandle<Result<Box<Opened>, ApiError>>;

/// Opens and verifies in the background, and sees how the model fits into what memory there is
/// then.
pub(super) fn open(
    store: Arc<Store>,
    verified: Arc<Verified>,
    name: ModelName,
    engine: Choice,
    memory: Tree,
    settings: Arc<Settings>,
) -> Opening {
    tokio::task::spawn_blocking(move || {
        let opened = store.open_verified(&name, &verified);
        let model = opened.map_err(|error| refused(&error))?;
        let wish = Wish::of(&settings.engine, engine.kernels());
        let budget = Budget::of(settings.engine.memory, &memory.supply());
        let plan = budget::plan(&model.header, &wish, budget);
        let plan = plan.map_err(|refusal| {
            let instead = match refusal {
                Refusal::TooLarge { .. } => instead(&store, &wish, budget),
                Refusal::KvType { .. } => None,
            };
            // The command that would choose it.
            let instead = instead.map(|name| format!("{name}{}", store.option()));
            refusal.error(name.as_str(), instead.as_deref())
        })?;
        let format = format(&model);
        Ok(Box::new(Opened {
            engine,
            model,
            plan,
            format,
        }))
    })
}

/// In which form a model knows calls: what the catalog says, else its chat template.
fn format(model: &OpenModel) -> ToolFormat {
    // The built-in catalog is always whole, as a test reads it.
    let catalog = Catalog::built_in().ok();
    let entry = catalog.as_ref().and_then(|c| c.by_digest(&model.sha256));
    let told = entry.and_then(|entry| entry.tool_format);
    let template = || ToolFormat::of_template(model.header.chat_template.as_deref()?);
    told.or_else(template).unwrap_or(ToolFormat::Json)
}

/// The largest installed model that would fit.
fn instead(store: &Store, wish: &Wish, budget: Budget) -> Option<ModelName> {
    let mut installed = store.list().ok()?;
    installed.sort_by_key(|model| std::cmp::Reverse(model.manifest.size_bytes));
    let fits = |name: &ModelName| -> Option<()> {
        let file = std::fs::File::open(store.model_path(name)).ok()?;
        let size = file
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_file)?
            .len();
        let header = Header::read(file, size).ok()?;
        budget::plan(&header, wish, budget).ok().map(drop)
    };
    let names = installed
        .into_iter()
        .take(INSTEAD_MAX)
        .map(|model| model.name);
    names.into_iter().find(|name| fits(name).is_some())
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
pub(super) fn not_found(name: &str, store: &Store) -> ApiError {
    let message = format!("the model {name:?} is not installed");
    let hint = format!(
        "`hob models list{}` shows what is; leave the model out to use the one that is loaded",
        store.option()
    );
    let error = ApiError::new(ErrorCode::ModelNotFound, message);
    error.param("model").hint(hint)
}

/// The error of a request for a model other than the loaded one.
pub(super) fn not_loaded(name: &str, loaded: &str, store: &Store) -> ApiError {
    let message = format!("the model {name:?} is not loaded; {loaded:?} is");
    ApiError::new(ErrorCode::ModelNotFound, message)
        .param("model")
        .hint(format!(
            "leave the model out, or load the other one with `hob models use {name}{}`",
            store.option()
        ))
}
