//! From a model's name to an opened, verified file, and what to say when that fails.

use std::sync::Arc;

use hob_api::model::DEFAULT_MODEL;
use hob_api::{ApiError, ErrorCode};
use hob_ipc::gpu::Offload;
use hob_models::catalog::Catalog;
use hob_models::gguf::Header;
use hob_models::store::{ControlVector, Lineage, OpenModel, Store, StoreError, Verified};
use hob_models::{ModelName, Sha256, ToolFormat};
use tokio::task::JoinHandle;

use crate::budget::{self, Budget, Plan, Refusal, Wish};
use crate::kernels::Choice;
use crate::settings::{ControlSetting, Settings};
use crate::supply::Tree;

/// Most installed models that are looked at for one that fits instead.
const INSTEAD_MAX: usize = 64;

/// An open, verified model, how to load it, and what loads it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) engine: Choice,
    pub(super) model: OpenModel,
    pub(super) plan: Plan,
    /// What is asked for of a GPU.
    pub(super) offload: Option<Offload>,
    /// In which form it knows calls.
    pub(super) format: ToolFormat,
    /// The control vector that lies beside it and is wanted, or why it can't be added.
    pub(super) control: Result<Option<ControlVector>, StoreError>,
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
        let format = format(&model, &store);
        let control = match settings.engine.control_vector {
            ControlSetting::Verified => store.control_vector(&name, (model.sha256, &model.header)),
            ControlSetting::Off => Ok(None),
        };
        let asked = || budget::offload(&model.header, &plan, &settings.engine);
        let offload = engine.gpu.then(asked).flatten();
        Ok(Box::new(Opened {
            engine,
            model,
            plan,
            offload,
            format,
            control,
        }))
    })
}

/// In which form a model knows calls: what the catalog says of it, or of what it was made of, else its
/// chat template.
fn format(model: &OpenModel, store: &Store) -> ToolFormat {
    let lineage = store.get(&model.name).ok();
    let lineage = lineage.and_then(|installed| installed.manifest.lineage);
    let ancestors = lineage.iter().flat_map(Lineage::ancestors);
    let told = told(std::iter::once(&model.sha256).chain(ancestors));
    let template = || ToolFormat::of_template(model.header.chat_template.as_deref()?);
    told.or_else(template).unwrap_or(ToolFormat::Json)
}

/// What the catalog says of the first of these files that it has and knows a form of.
fn told<'d>(mut digests: impl Iterator<Item = &'d Sha256>) -> Option<ToolFormat> {
    // The built-in catalog is always whole, as a test reads it.
    let catalog = Catalog::built_in().ok()?;
    digests.find_map(|digest| catalog.by_digest(digest)?.tool_format)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_model_that_was_made_here_knows_calls_as_what_it_was_made_of() {
        let catalog = Catalog::built_in().unwrap();
        let models = catalog.entries().iter();
        let (form, digest) = models
            .filter_map(|entry| Some((entry.tool_format?, entry.sha256)))
            .find(|(form, _)| *form != ToolFormat::Json)
            .unwrap();
        let own: Sha256 = "0".repeat(64).parse().unwrap();
        assert_eq!(told([own].iter()), None);
        assert_eq!(told([own, own, digest].iter()), Some(form));
    }
}
