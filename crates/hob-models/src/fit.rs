//! How a model fits into memory: what of it is for hobd to choose, and what would fit instead.
//! Pure; hobd loads models by it, and `hob doctor --plan` tells beforehand what hobd will do.

use serde::Serialize;

use crate::gguf::{Header, Memory, Shape};

/// Most requests at once that hobd chooses by itself: more gain little on a board's processor, as
/// each slows the others down.
pub const PARALLEL_AUTO_MAX: u32 = 4;
/// Contexts of this size are proposed in steps, and none below is: a prompt with a few lines of
/// instructions would not fit.
const N_CTX_STEP: u32 = 256;
/// How often what the cache holds may be in memory at once: snapshots on their way to or from the
/// disk lie, together as large as the cache at most, in memory that hobd and the engine share.
const CACHE_COPIES: u64 = 2;
/// What stays free of the machine's memory, at the least and at the most: room for a burst of
/// other programs before the kernel has to swap or kill.
const RESERVE: (u64, u64) = (64 << 20, 512 << 20);
/// The part of the machine's memory that stays free within these bounds.
const RESERVE_PART: u64 = 16;

/// What hobd leaves free of a machine with `total` bytes of memory, in bytes.
pub fn reserve(total: u64) -> u64 {
    (total / RESERVE_PART).clamp(RESERVE.0, RESERVE.1)
}

/// The length of a head that is not made of whole blocks, if there is one: such keys and values
/// can't be kept so.
pub fn odd_head(header: &Header, block: (u32, u32)) -> Option<u32> {
    let heads = [header.key_length, header.value_length];
    heads
        .into_iter()
        .find(|length| !length.is_multiple_of(block.0.max(1)))
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Tokens of context of each request; a model that was trained for less gets less.
    pub n_ctx: u32,
    /// Requests at once; `None` for what processors and memory allow.
    pub parallel: Option<u32>,
    /// Processors that hobd may use.
    pub processors: u32,
    /// Elements and bytes of a block of keys or values in the KV cache.
    pub kv_block: (u32, u32),
    /// The prefix cache, in bytes; the first to be cut.
    pub cache: u64,
}

/// What a model gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
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
}

/// It does not fit, even without a prefix cache and one request at a time where those are for hobd
/// to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// What it needs.
    pub needed: Memory,
    /// Tokens of context of each request.
    pub n_ctx: u32,
    /// Requests at once.
    pub parallel: u32,
    /// A context that would fit with one request at a time.
    pub fits: Option<u32>,
}

/// Fits a model into `bytes`: the prefix cache shrinks first, then the requests at once if their
/// number is for hobd to choose.
///
/// # Errors
/// [`TooLarge`].
pub fn fit(header: &Header, wish: &Wish, bytes: u64) -> Result<Fit, TooLarge> {
    let n_ctx = wish.n_ctx.min(header.n_ctx_train.max(1));
    let needed = |n_ctx, parallel| {
        header.memory_of(&Shape {
            n_ctx,
            parallel,
            kv_block: wish.kv_block,
        })
    };
    let parallel = wish.parallel.unwrap_or_else(|| {
        let most = wish.processors.clamp(1, PARALLEL_AUTO_MAX);
        let fits = |parallel: &u32| {
            let needed = needed(n_ctx, *parallel);
            needed.total() <= bytes && needed.kv <= bytes / 2
        };
        (1..=most).rev().find(fits).unwrap_or(1)
    });
    let needs = needed(n_ctx, parallel);
    if needs.total() > bytes {
        let smaller = (1..=n_ctx / N_CTX_STEP).rev().map(|n| n * N_CTX_STEP);
        let fits = smaller
            .filter(|tokens| *tokens < n_ctx || parallel > 1)
            .find(|tokens| needed(*tokens, 1).total() <= bytes);
        return Err(TooLarge {
            needed: needs,
            n_ctx,
            parallel,
            fits,
        });
    }
    let left = bytes - needs.total();
    let embeddings = Some(header.embeddings_memory(n_ctx)).filter(|bytes| *bytes <= left);
    let embeddings = embeddings.unwrap_or(0);
    Ok(Fit {
        needed: needs,
        embeddings,
        cache: wish.cache.min((left - embeddings) / CACHE_COPIES),
        n_ctx,
        parallel,
    })
}
