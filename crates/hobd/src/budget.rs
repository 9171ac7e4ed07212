//! One budget for all that the engine keeps in memory: how much it may take, and how a model is
//! loaded within that. Pure; [`crate::supply`] reads what there is.

use hob_api::{ApiError, ErrorCode};
use hob_ipc::memory::{KvType, Weights};
use hob_ipc::message::PARALLEL_MAX;
use hob_models::fit::{self, Fit, PARALLEL_AUTO_MAX, TooLarge};
use hob_models::gguf::{Header, Kernels, Memory};

use crate::settings::{EngineSettings, WeightsSetting};
use crate::supply::Supply;

mod gpu;
#[cfg(test)]
mod tests;

pub use gpu::{DRIVER_BYTES, offload};

/// Reserved, not used: the stack of each thread, and what allocators keep together.
/// `RLIMIT_DATA` counts it all, and a healthy engine must never meet it.
const RESERVED_BYTES: u64 = 512 << 20;
/// What hobd chooses by itself may be asked for, too.
const _: () = assert!(PARALLEL_AUTO_MAX <= PARALLEL_MAX);

/// Who set the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The setting `engine.memory`.
    Setting,
    /// The control group that hobd runs in, or one above it.
    Cgroup,
    /// The memory that the machine has available.
    Machine,
    /// Nobody: nothing is known of this machine's memory.
    Unknown,
}

impl Source {
    /// Its name in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Cgroup => "cgroup",
            Self::Machine => "machine",
            Self::Unknown => "unknown",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Setting => "engine.memory allows",
            Self::Cgroup => "hobd's control group leaves",
            Self::Machine | Self::Unknown => "this machine leaves",
        }
    }
}

/// What the engine may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// In bytes; `u64::MAX` if nothing is known.
    pub bytes: u64,
    /// Who says so.
    pub source: Source,
}

impl Budget {
    /// The setting's word, else the least that control groups and machine leave.
    pub fn of(setting: Option<u64>, supply: &Supply) -> Self {
        if let Some(bytes) = setting {
            let source = Source::Setting;
            return Self { bytes, source };
        }
        let machine = supply.machine.map(|machine| {
            let reserve = fit::reserve(machine.total);
            (machine.available.saturating_sub(reserve), Source::Machine)
        });
        let cgroup = supply.cgroup_left.map(|bytes| (bytes, Source::Cgroup));
        let least = [cgroup, machine].into_iter().flatten();
        let (bytes, source) = least
            .min_by_key(|(bytes, _)| *bytes)
            .unwrap_or((u64::MAX, Source::Unknown));
        Self { bytes, source }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Tokens of context of each request.
    pub n_ctx: u32,
    /// Requests at once; `None` for what processors and memory allow.
    pub parallel: Option<u32>,
    /// Processors that hobd may use.
    pub processors: u32,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Where the weights are to lie.
    pub weights: WeightsSetting,
    /// The engine's kernels.
    pub kernels: Kernels,
    /// The prefix cache, in bytes; the first to be cut.
    pub cache: u64,
}

impl Wish {
    /// What the settings ask for on this machine, of an engine with `kernels`.
    pub fn of(settings: &EngineSettings, kernels: Kernels) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            n_ctx: settings.n_ctx,
            parallel: settings.parallel,
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            kv_type: settings.kv_type,
            weights: settings.weights,
            kernels,
            cache: settings.cache_bytes,
        }
    }

    /// What of it decides how much memory is needed.
    fn of_memory(&self) -> fit::Wish {
        fit::Wish {
            n_ctx: self.n_ctx,
            parallel: self.parallel,
            processors: self.processors,
            kv_block: self.kv_type.block(),
            cache: self.cache,
        }
    }
}

/// How a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it may take.
    pub budget: Budget,
    /// What it needs.
    pub needed: Memory,
    /// Set aside for a context of embeddings' own, in bytes; 0 if there is no room for one.
    pub embeddings: u64,
    /// What is left of the prefix cache, in bytes.
    pub cache: u64,
    /// Tokens of context of each request.
    pub n_ctx: u32,
    /// Requests at once.
    pub parallel: u32,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Where the weights lie.
    pub weights: Weights,
    /// Whether all of it stays in RAM.
    pub lock: bool,
}

impl Plan {
    /// The bound of the engine's private memory, `RLIMIT_DATA`. An engine that keeps to the budget
    /// does not meet it.
    pub fn memory_bytes_max(&self) -> Option<u64> {
        let known = self.budget.source != Source::Unknown;
        let reserved = RESERVED_BYTES.saturating_add(self.needed.unused);
        known.then(|| self.budget.bytes.saturating_add(reserved))
    }
}

/// Why a model is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not fit, even without a prefix cache and one request at a time where those are for
    /// hobd to choose.
    TooLarge {
        /// What there is.
        budget: Budget,
        /// What it needs, and what would fit.
        too_large: TooLarge,
    },
    /// A head is not made of whole blocks of this type.
    KvType {
        /// The type.
        kv_type: KvType,
        /// Elements of a head.
        head: u32,
    },
}

/// Says how the model is loaded within the budget: the prefix cache shrinks first, then the
/// requests at once if their number is for hobd to choose.
///
/// # Errors
/// [`Refusal`].
pub fn plan(header: &Header, wish: &Wish, budget: Budget) -> Result<Plan, Refusal> {
    if let Some(head) = fit::odd_head(header, wish.kv_type.block()) {
        let kv_type = wish.kv_type;
        return Err(Refusal::KvType { kv_type, head });
    }
    let fit = fit::fit(header, &wish.of_memory(), budget.bytes);
    let Fit {
        needed,
        embeddings,
        cache,
        n_ctx,
        parallel,
    } = fit.map_err(|too_large| Refusal::TooLarge { budget, too_large })?;
    let (weights, lock) = match wish.weights {
        WeightsSetting::Mapped => (Weights::Mapped, false),
        WeightsSetting::Copied => (Weights::Copied, false),
        choice => {
            // With little to gain, pages that the kernel may drop are worth more.
            let reordered = header.reordered_bytes(wish.kernels) >= header.weights_bytes / 2;
            let weights = if reordered {
                Weights::Copied
            } else {
                Weights::Mapped
            };
            (weights, choice == WeightsSetting::Locked)
        }
    };
    Ok(Plan {
        budget,
        needed,
        embeddings,
        cache,
        n_ctx,
        parallel,
        kv_type: wish.kv_type,
        weights,
        lock,
    })
}

impl Refusal {
    /// What callers are told. `instead` is what `hob models use` needs to choose an installed model
    /// that would fit.
    pub fn error(&self, model: &str, instead: Option<&str>) -> ApiError {
        match self {
            Self::KvType { kv_type, head } => {
                let (block, _) = kv_type.block();
                let message = format!(
                    "a context of type {} has blocks of {block} elements, and the heads of {model} \
                     have {head}",
                    kv_type.as_str()
                );
                ApiError::new(ErrorCode::ModelFailed, message).hint("set engine.kv_type = \"f16\"")
            }
            Self::TooLarge { budget, too_large } => {
                let TooLarge {
                    needed,
                    n_ctx,
                    parallel,
                    fits,
                } = too_large;
                let requests = if *parallel == 1 {
                    "one request"
                } else {
                    "requests"
                };
                let at_once = match parallel {
                    1 => String::new(),
                    more => format!("{more} "),
                };
                let message = format!(
                    "{model} with {at_once}{requests} of {n_ctx} tokens needs {} of memory \
                     (weights {}, contexts {}, computing {}), and {} {}",
                    mib(needed.total()),
                    mib(needed.weights),
                    mib(needed.kv),
                    mib(needed.compute_estimate),
                    budget.source.in_words(),
                    mib(budget.bytes),
                );
                let mut ways = Vec::new();
                if let Some(tokens) = fits {
                    ways.push(format!(
                        "engine.n_ctx = {tokens} with engine.parallel = 1 would fit"
                    ));
                }
                if let Some(name) = instead {
                    ways.push(format!(
                        "`hob models use {name}` chooses one that would fit"
                    ));
                }
                if ways.is_empty() {
                    ways.push("free memory, or install a smaller model".to_owned());
                }
                ApiError::new(ErrorCode::InsufficientMemory, message).hint(ways.join("; "))
            }
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
