//! One budget for all that the engine keeps in memory: how much it may take, and how a model is
//! loaded within that. Pure; [`crate::supply`] reads what there is.

use hob_api::{ApiError, ErrorCode};
use hob_ipc::memory::{KvType, Weights};
use hob_ipc::message::PARALLEL_MAX;
use hob_models::gguf::{Header, Kernels, Memory, Shape};

use crate::settings::{EngineSettings, WeightsSetting};
use crate::supply::Supply;

#[cfg(test)]
mod tests;

/// Most requests at once that hobd chooses by itself: more gain little on a board's processor, as
/// each slows the others down.
const PARALLEL_AUTO_MAX: u32 = 4;
/// Contexts of this size are proposed in steps, and none below is: a prompt with a few lines of
/// instructions would not fit.
const N_CTX_STEP: u32 = 256;
/// Reserved, not used: the stack of each thread, and what allocators keep together.
/// `RLIMIT_DATA` counts it all, and a healthy engine must never meet it.
const RESERVED_BYTES: u64 = 512 << 20;
/// How often what the cache holds may be in memory at once: snapshots on their way to or from the
/// disk lie, together as large as the cache at most, in memory that hobd and the engine share.
const CACHE_COPIES: u64 = 2;
/// What stays free of the machine's memory, at the least and at the most: room for a burst of
/// other programs before the kernel has to swap or kill.
const RESERVE: (u64, u64) = (64 << 20, 512 << 20);
/// The part of the machine's memory that stays free within these bounds.
const RESERVE_PART: u64 = 16;

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
            let reserve = (machine.total / RESERVE_PART).clamp(RESERVE.0, RESERVE.1);
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
    /// The processor's kernels.
    pub kernels: Kernels,
    /// The prefix cache, in bytes; the first to be cut.
    pub cache: u64,
}

impl Wish {
    /// What the settings ask for on this machine.
    pub fn of(settings: &EngineSettings) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            n_ctx: settings.n_ctx,
            parallel: settings.parallel,
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            kv_type: settings.kv_type,
            weights: settings.weights,
            kernels: Kernels::here(),
            cache: settings.cache_bytes,
        }
    }

    fn shape(&self, n_ctx: u32, parallel: u32) -> Shape {
        Shape {
            n_ctx,
            parallel,
            kv_block: self.kv_type.block(),
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
        /// What it needs.
        needed: Memory,
        /// Tokens of context of each request.
        n_ctx: u32,
        /// Requests at once.
        parallel: u32,
        /// A context that would fit with one request at a time.
        fits: Option<u32>,
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
    let (block, _) = wish.kv_type.block();
    let heads = [header.key_length, header.value_length];
    if let Some(head) = heads.into_iter().find(|length| length % block != 0) {
        let kv_type = wish.kv_type;
        return Err(Refusal::KvType { kv_type, head });
    }
    let n_ctx = wish.n_ctx.min(header.n_ctx_train.max(1));
    let needed = |n_ctx, parallel| header.memory_of(&wish.shape(n_ctx, parallel));
    let parallel = wish.parallel.unwrap_or_else(|| {
        let most = wish
            .processors
            .clamp(1, PARALLEL_AUTO_MAX.min(PARALLEL_MAX));
        let fits = |parallel: &u32| {
            let needed = needed(n_ctx, *parallel);
            needed.total() <= budget.bytes && needed.kv <= budget.bytes / 2
        };
        (1..=most).rev().find(fits).unwrap_or(1)
    });
    let needs = needed(n_ctx, parallel);
    if needs.total() > budget.bytes {
        let smaller = (1..=n_ctx / N_CTX_STEP).rev().map(|n| n * N_CTX_STEP);
        let fits = smaller
            .filter(|tokens| *tokens < n_ctx || parallel > 1)
            .find(|tokens| needed(*tokens, 1).total() <= budget.bytes);
        return Err(Refusal::TooLarge {
            budget,
            needed: needs,
            n_ctx,
            parallel,
            fits,
        });
    }
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
    let left = budget.bytes - needs.total();
    let embeddings = Some(header.embeddings_memory(n_ctx)).filter(|bytes| *bytes <= left);
    let embeddings = embeddings.unwrap_or(0);
    Ok(Plan {
        budget,
        needed: needs,
        embeddings,
        cache: wish.cache.min((left - embeddings) / CACHE_COPIES),
        n_ctx,
        parallel,
        kv_type: wish.kv_type,
        weights,
        lock,
    })
}

impl Refusal {
    /// What callers are told. `instead` is an installed model that would fit.
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
            Self::TooLarge {
                budget,
                needed,
                n_ctx,
                parallel,
                fits,
            } => {
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
                    ways.push(format!("{name} would fit: `hob models use {name}`"));
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
