//! `hob doctor --plan`: which models fit a board, with which settings, before anything is loaded or
//! even bought. By the calculator that hobd loads models with, [`hob_models::fit`].

mod room;
mod show;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, ValueHint};
use hob_ipc::memory::KvType;
use hob_models::catalog::Catalog;
use hob_models::fit::{self, Fit, Wish};
use hob_models::gguf::Header;
use hob_models::store::Store;
use serde::Serialize;

use crate::ask::to_json;
use crate::cli::Global;
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::models::{self, ModelsOptions};
use crate::output::Output;
use room::Room;

/// Contexts that are planned for, and the model's own if it is smaller than the first.
const CONTEXTS: [u32; 6] = [1024, 2048, 4096, 8192, 16_384, 32_768];
/// The prefix cache that hobd keeps unless it is set, in bytes.
const CACHE: u64 = 64 << 20;
/// What is proposed, the best first: hobd's default, then less context before less exact contexts,
/// and no less than a few lines of instructions and an answer need.
const LADDER: [(u32, KvType); 6] = [
    (4096, KvType::F16),
    (2048, KvType::F16),
    (2048, KvType::Q8_0),
    (1024, KvType::F16),
    (1024, KvType::Q8_0),
    (1024, KvType::Q4_0),
];

/// Options of a plan.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Plan options")]
pub(crate) struct PlanOptions {
    /// Show which models fit this board, with which settings, instead of checking
    #[arg(long)]
    pub(crate) plan: bool,

    /// Plan for boards with so much memory instead of for this one, such as 512M or 1G,8G
    #[arg(long, value_name = "SIZE", requires = "plan", value_delimiter = ',')]
    #[arg(value_parser = parse_memory)]
    pub(crate) memory: Vec<u64>,

    /// Plan for this model alone, with every context: one that is installed or in the catalog, or a GGUF file
    #[arg(value_name = "NAME|FILE", requires = "plan", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<String>,

    /// Look at the board's models, in /var/lib/hob/models
    // Its own id: a question's `--system` is another option of that name.
    #[arg(id = "plan_system", long = "system", requires = "plan")]
    pub(crate) system: bool,
}

/// Memory in bytes, written with a binary unit: `512M`, `4G`, `1.5GiB`.
fn parse_memory(text: &str) -> Result<u64, String> {
    let wrong = || "write for example 512M, 1.5G or 4G".to_owned();
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches("ib").trim_end_matches('b');
    let (digits, shift) = match number.as_bytes().last() {
        Some(b'm') => (number.trim_end_matches('m'), 20),
        Some(b'g') => (number.trim_end_matches('g'), 30),
        _ => return Err(wrong()),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let places = u32::try_from(part.len())
        .ok()
        .filter(|n| (1..=3).contains(n));
    let unit = 10u64.pow(places.ok_or_else(wrong)?);
    let digits: u64 = format!("{whole}{part}").parse().map_err(|_| wrong())?;
    let bytes = digits.checked_mul(1 << shift).ok_or_else(wrong)? / unit;
    if whole.is_empty() || !(64 << 20..=1 << 50).contains(&bytes) {
        return Err("a board has between 64M and 1048576G".to_owned());
    }
    Ok(bytes)
}

/// Where a model's figures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Known {
    /// Its file's header.
    File,
    /// The dimensions that its publisher gives; the weights are estimated.
    Dimensions,
}

/// A model to plan for.
#[derive(Debug)]
struct Candidate {
    name: String,
    installed: bool,
    /// `None` while too little is known of it.
    header: Option<(Header, Known)>,
}

/// A way to load a model with one request at a time, and what it takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Load {
    n_ctx: u32,
    kv_type: &'static str,
    weights_bytes: u64,
    kv_bytes: u64,
    compute_bytes: u64,
    cache_bytes: u64,
    hobd_bytes: u64,
    total_bytes: u64,
    fits: bool,
}

/// Settings to paste, and what the engine takes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Proposal {
    n_ctx: u32,
    parallel: u32,
    kv_type: &'static str,
    cache: u64,
    /// Weights, contexts, computing; without the cache and hobd itself.
    engine_bytes: u64,
}

/// What is planned of one model for one board.
#[derive(Debug, Serialize)]
struct Planned {
    name: String,
    installed: bool,
    known: Option<Known>,
    proposal: Option<Proposal>,
    loads: Vec<Load>,
}

/// What is planned for one board.
#[derive(Debug, Serialize)]
struct Plan {
    #[serde(flatten)]
    room: Room,
    models: Vec<Planned>,
}

/// Plans and shows it.
///
/// # Errors
/// A store or a file that can't be read, a model that is not known, or stdout.
pub(crate) async fn run(
    options: &PlanOptions,
    json: bool,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let candidates = candidates(options)?;
    let rooms = if options.memory.is_empty() {
        let status = match Client::find(global.socket.as_deref()).await {
            Ok(client) => client.status().await.ok(),
            Err(_) => None,
        };
        vec![room::here(status.as_ref())?]
    } else {
        options.memory.iter().copied().map(room::supposed).collect()
    };
    let plans: Vec<Plan> = rooms
        .into_iter()
        .map(|room| plan(room, &candidates))
        .collect();
    let text = match (json, &options.model) {
        (true, _) => to_json(&plans)?,
        (false, Some(_)) => show::model(&plans, output.color()),
        (false, None) => show::boards(&plans, output.color()),
    };
    output.write(&text)?;
    let mut proposals = plans.iter().flat_map(|plan| &plan.models);
    // For scripts: who names a model asks whether it fits.
    if options.model.is_some() && proposals.all(|model| model.proposal.is_none()) {
        return Ok(ExitStatus::Model);
    }
    Ok(ExitStatus::Success)
}

/// What the catalog and the store have, or the one that was named.
fn candidates(options: &PlanOptions) -> Result<Vec<Candidate>, Failure> {
    let place = ModelsOptions {
        system: options.system,
        models_dir: std::env::var_os("HOB_MODELS_DIR").map(PathBuf::from),
        ..ModelsOptions::default()
    };
    let store = Store::open(models::folder(&place)?);
    let catalog = Catalog::built_in()?;
    let Some(wanted) = &options.model else {
        return all(&store, &catalog);
    };
    let named = all(&store, &catalog)?.into_iter();
    if let Some(candidate) = named.into_iter().find(|one| one.name == *wanted) {
        return Ok(vec![candidate]);
    }
    let path = PathBuf::from(wanted);
    // Opening a FIFO would wait for a writer.
    if path.exists() && !path.is_file() {
        let failure = Failure::new(format!("{wanted} is not a regular file"));
        return Err(failure
            .status(ExitStatus::Model)
            .hint("name a model, or a GGUF file"));
    }
    if !path.exists() {
        let near = catalog
            .nearest(wanted)
            .map(|near| format!("did you mean {near}?"));
        let hint = near.unwrap_or_else(|| "`hob doctor --plan` lists what there is".to_owned());
        let failure = Failure::new(format!("there is no model and no file {wanted}"));
        return Err(failure.status(ExitStatus::Model).hint(hint));
    }
    Ok(vec![Candidate {
        name: wanted.clone(),
        installed: false,
        header: Some((models::read_header(&path)?, Known::File)),
    }])
}

/// The catalog's models in its order, then those that are only in the store.
fn all(store: &Store, catalog: &Catalog) -> Result<Vec<Candidate>, Failure> {
    let installed = store.list()?;
    let read = |name| models::read_header(&store.model_path(name)).map(|it| (it, Known::File));
    let mut candidates = Vec::new();
    for entry in catalog.entries() {
        let installed = installed.iter().any(|model| model.name == entry.name);
        let header = if installed {
            Some(read(&entry.name)?)
        } else {
            entry.expected_header().map(|it| (it, Known::Dimensions))
        };
        let name = entry.name.to_string();
        candidates.push(Candidate {
            name,
            installed,
            header,
        });
    }
    for model in installed
        .iter()
        .filter(|model| catalog.get(&model.name).is_none())
    {
        candidates.push(Candidate {
            name: model.name.to_string(),
            installed: true,
            header: Some(read(&model.name)?),
        });
    }
    Ok(candidates)
}

fn plan(room: Room, candidates: &[Candidate]) -> Plan {
    let planned = candidates.iter().map(|candidate| {
        let header = candidate.header.as_ref().map(|(header, _)| header);
        Planned {
            name: candidate.name.clone(),
            installed: candidate.installed,
            known: candidate.header.as_ref().map(|(_, known)| *known),
            proposal: header.and_then(|header| propose(header, &room)),
            loads: header.map_or_else(Vec::new, |header| loads(header, &room)),
        }
    });
    let models = planned.collect();
    Plan { room, models }
}

/// A context of this type, if it can be had of this model.
fn wish(header: &Header, n_ctx: u32, kv: KvType, room: &Room) -> Option<Wish> {
    fit::odd_head(header, kv.block()).is_none().then_some(Wish {
        n_ctx,
        parallel: None,
        processors: room.processors,
        kv_block: kv.block(),
        cache: CACHE,
    })
}

/// The first step of the ladder that the board has room for.
fn propose(header: &Header, room: &Room) -> Option<Proposal> {
    LADDER.iter().find_map(|&(n_ctx, kv)| {
        let fit = fit::fit(header, &wish(header, n_ctx, kv, room)?, room.engine_bytes).ok()?;
        let Fit {
            n_ctx,
            parallel,
            cache,
            needed,
            ..
        } = fit;
        Some(Proposal {
            n_ctx,
            parallel,
            kv_type: kv.as_str(),
            cache,
            engine_bytes: needed.total(),
        })
    })
}

/// Every context with every type of keys and values.
fn loads(header: &Header, room: &Room) -> Vec<Load> {
    let own = header.n_ctx_train;
    let smaller = CONTEXTS.into_iter().filter(|n_ctx| *n_ctx <= own);
    let contexts = smaller.chain((own < CONTEXTS[0]).then_some(own));
    let pairs = contexts.flat_map(|n_ctx| KvType::ALL.map(|kv| (n_ctx, kv)));
    let load = |(n_ctx, kv): (u32, KvType)| {
        let wish = Wish {
            parallel: Some(1),
            ..wish(header, n_ctx, kv, room)?
        };
        let fit = fit::fit(header, &wish, room.engine_bytes);
        let cache_bytes = fit.map_or(0, |fit| fit.cache);
        let needed = match fit {
            Ok(Fit { needed, .. }) => needed,
            Err(too_large) => too_large.needed,
        };
        let beside = cache_bytes + room::HOBD_BYTES;
        Some(Load {
            n_ctx,
            kv_type: kv.as_str(),
            weights_bytes: needed.weights,
            kv_bytes: needed.kv,
            compute_bytes: needed.compute_estimate,
            cache_bytes,
            hobd_bytes: room::HOBD_BYTES,
            total_bytes: needed.total().saturating_add(beside),
            fits: fit.is_ok(),
        })
    };
    pairs.filter_map(load).collect()
}
