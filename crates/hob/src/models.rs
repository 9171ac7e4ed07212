//! `hob models`: which models there are, and bringing them in, checked, and out.
//!
//! Works on the store's folder, not through the daemon: downloads are made by the person
//! who may, and the daemon has no network.

mod corpus;
mod estimate;
mod evaluate;
mod fetch;
pub(crate) mod gate;
mod keep;
mod list;
pub(crate) mod ordinary;
pub(crate) mod progress;
mod samples;
mod show;
mod shrink;
#[cfg(test)]
pub(crate) mod tests;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueHint};
use hob_models::catalog::{Catalog, CatalogError};
use hob_models::gguf::Header;
use hob_models::locations::{self, Scope};
use hob_models::source::FetchError;
use hob_models::store::{OpenModel, Store, StoreError, Verified};
use hob_models::{ModelName, Sha256};

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use evaluate::{Against, EvaluateOptions};
use progress::Meter;

/// Where `hob models` works.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ModelsOptions {
    /// The board's models, in /var/lib/hob/models, whatever else is set; changes need root
    // Its own id: a question's `--system` is another option of that name.
    #[arg(id = "board", long = "system", global = true)]
    pub(crate) system: bool,

    /// The folder of models [default: your own data folder's hob/models]
    #[arg(long, value_name = "FOLDER", env = "HOB_MODELS_DIR", global = true)]
    #[arg(hide_env_values = true, value_hint = ValueHint::DirPath)]
    pub(crate) models_dir: Option<PathBuf>,

    /// A catalog to use instead of the built-in one
    #[arg(long, value_name = "FILE", global = true, value_hint = ValueHint::FilePath)]
    pub(crate) catalog: Option<PathBuf>,

    /// Write JSON
    #[arg(id = "models_json", long = "json", global = true)]
    pub(crate) json: bool,
}

/// What to do with models.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the installed models
    List {
        /// List the catalog's models instead
        #[arg(long)]
        available: bool,
    },
    /// Show what a model is and how much memory it needs
    Show {
        /// An installed model's name, or a GGUF file
        #[arg(value_name = "NAME|FILE", value_hint = ValueHint::FilePath)]
        model: String,
        /// Print the model's chat template and nothing else
        #[arg(long)]
        template: bool,
    },
    /// Download a model of the catalog and verify it
    Pull {
        /// The model [default: the catalog's default]
        name: Option<String>,
        /// Accept the model's licence without being asked
        #[arg(long)]
        accept_licence: bool,
    },
    /// Copy a GGUF file into the store, as from a USB stick
    Import {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// What to call it [default: made of the file's name]
        #[arg(long)]
        name: Option<ModelName>,
        /// The sha256 it must have [default: the catalog's, if it is one of its models]
        #[arg(long, value_name = "HEX")]
        sha256: Option<Sha256>,
    },
    /// Check that installed models are what was installed
    Verify {
        /// One model [default: all]
        name: Option<String>,
    },
    /// Measure what models are worth and what they cost: how well they foresee a text, speed, memory
    Evaluate {
        /// Installed models; the others are compared with the first
        #[arg(required = true)]
        models: Vec<String>,
        /// An installed model that has all tokens of the others: how far from it are they, token by token?
        #[arg(long, value_name = "MODEL")]
        against: Option<String>,
        #[command(flatten)]
        options: EvaluateOptions,
    },
    /// Measure two models side by side, and mark what differs beyond error
    Compare {
        /// An installed model
        a: String,
        /// Another one, compared with it
        b: String,
        #[command(flatten)]
        options: EvaluateOptions,
    },
    /// Make a smaller model of an installed one, for what a text of yours is like
    Shrink(shrink::ShrinkOptions),
    /// Remove an installed model
    Remove {
        /// The model
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Choose the model that is loaded by default
    Use {
        /// An installed model
        name: String,
        /// Choose a model that was made here though no comparison with its source was passed
        #[arg(long)]
        anyway: bool,
    },
}

/// What a command changed that a running daemon should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The model that a daemon should load now.
    pub(crate) default_changed: Option<ModelName>,
    /// A model that is gone from the store; a daemon may have it in memory still.
    pub(crate) removed: Option<ModelName>,
}

/// Where and how a command works.
pub(crate) struct Place<'a> {
    /// The models.
    pub(crate) store: Store,
    catalog: Catalog,
    /// Whether results are JSON.
    pub(crate) json: bool,
    /// Whether there is a person to answer questions.
    can_ask: bool,
    /// Where results go.
    pub(crate) output: &'a mut Output,
}

/// Runs a command.
///
/// # Errors
/// When it fails, with a cause and mostly a hint.
pub(crate) fn run(
    command: ModelsCommand,
    options: &ModelsOptions,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    run_for(command, options, can_ask, output)
}

fn run_for(
    command: ModelsCommand,
    options: &ModelsOptions,
    can_ask: bool,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let place = &mut Place::new(options, can_ask, output)?;
    match command {
        ModelsCommand::List { available: false } => list::installed(place)?,
        ModelsCommand::List { available: true } => list::available(place)?,
        ModelsCommand::Show { model, template } => show::run(&model, template, place)?,
        ModelsCommand::Pull {
            name,
            accept_licence,
        } => return fetch::pull(name.as_deref(), accept_licence, place),
        ModelsCommand::Import { file, name, sha256 } => {
            return fetch::import(&file, name, sha256, place);
        }
        ModelsCommand::Verify { name } => keep::verify(name.as_deref(), place)?,
        ModelsCommand::Evaluate {
            models,
            against,
            options,
        } => {
            let against = against.map_or(Against::Nobody, Against::Model);
            evaluate::run(&models, &against, &options, place)?;
        }
        ModelsCommand::Compare { a, b, options } => {
            evaluate::run(&[a, b], &Against::First, &options, place)?;
        }
        ModelsCommand::Shrink(options) => shrink::run(options, place)?,
        ModelsCommand::Remove { name, yes } => return keep::remove(&name, yes, place),
        ModelsCommand::Use { name, anyway } => return keep::choose(&name, anyway, place),
    }
    Ok(Outcome::default())
}

/// The header of a GGUF file.
///
/// # Errors
/// When it can't be read, or is none of a language model.
pub(crate) fn read_header(path: &Path) -> Result<Header, Failure> {
    show::read(path)
}

/// The folder of models that the options mean.
///
/// # Errors
/// When no home folder is known.
pub(crate) fn folder(options: &ModelsOptions) -> Result<PathBuf, Failure> {
    let scope = match &options.models_dir {
        _ if options.system => Scope::System,
        Some(folder) => return Ok(folder.clone()),
        None => Scope::User,
    };
    locations::models_dir(scope).map_err(|error| Failure::new(error.to_string()))
}

/// How much others go before work on models (`nice(2)`): a daemon that answers is not to wait for it.
const NICENESS: i32 = 10;

/// Lets others go first from now on; an engine inherits it. A system that refuses lets them compete.
pub(crate) fn let_others_go_first() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

impl<'a> Place<'a> {
    /// Where the options say.
    ///
    /// # Errors
    /// When no home folder is known, or the catalog can't be used.
    pub(crate) fn new(
        options: &ModelsOptions,
        can_ask: bool,
        output: &'a mut Output,
    ) -> Result<Self, Failure> {
        Ok(Self {
            store: Store::open(folder(options)?),
            catalog: match &options.catalog {
                Some(path) => Catalog::from_file(path)?,
                None => Catalog::built_in()?,
            },
            json: options.json,
            can_ask,
            output,
        })
    }

    /// A model, verified, which the meter shows. It stays readable if somebody removes it meanwhile.
    ///
    /// # Errors
    /// When it is not installed, or not what was installed.
    pub(crate) fn open(&self, name: &ModelName, meter: &mut Meter) -> Result<OpenModel, Failure> {
        meter.checking(self.store.get(name)?.manifest.size_bytes);
        let advance = |more| meter.advance(more);
        let open = self
            .store
            .open_verified_watched(name, &Verified::default(), advance)?;
        Ok(open)
    }

    /// An installed model's name as it was typed.
    ///
    /// # Errors
    /// When there is no such model.
    pub(crate) fn installed_name(&self, name: &str) -> Result<ModelName, Failure> {
        let parsed = ModelName::new(name.to_ascii_lowercase())
            .map_err(|error| Failure::new(error.to_string()).status(ExitStatus::Usage))?;
        match self.store.get(&parsed) {
            Err(error @ StoreError::NotInstalled { .. }) => {
                Err(fetch::not_installed(&parsed, error, self))
            }
            // A broken one can still be named, for it to be removed.
            _ => Ok(parsed),
        }
    }

    /// Shows a result: a sentence for people, or an object.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn report(
        &mut self,
        sentence: &str,
        json: &impl serde::Serialize,
    ) -> Result<(), Failure> {
        if self.json {
            self.output.write(&crate::ask::to_json(json)?)
        } else {
            self.output.write_clean(&format!("{sentence}\n"))
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotInstalled { .. } | StoreError::NoDefault { .. } => ExitStatus::Model,
            _ => ExitStatus::Failure,
        };
        with_hint(Self::new(error.to_string()).status(status), error.hint())
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        with_hint(Self::new(error.to_string()), error.hint())
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        Self::new(error.to_string())
    }
}

fn with_hint(failure: Failure, hint: Option<String>) -> Failure {
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
