//! How much memory a model needs at a context size.

use serde::Serialize;

use super::Header;

/// The engine's `n_ubatch`: tokens worked on in one pass.
const N_UBATCH: u64 = 256;
/// KV caches grow in steps of this many tokens.
const CACHE_STEP: u64 = 256;
/// Bytes of an intermediate result (f32).
const F32: u64 = 4;
/// Most rows of scores over the vocabulary that are computed in one pass, of the `n_ubatch` that
/// llama.cpp sets address space aside for: one for each sequence, and those of drafts.
const SCORED_ROWS: u64 = 16;

/// Rows of one pass that makes embeddings.
const EMBEDDED_ROWS: u64 = 64;

/// What the engine keeps beside weights and caches: its code, the vocabulary, and what libraries
/// allocate. Measured: resident memory less all buffers that llama.cpp reports.
const PROCESS_BYTES: u64 = 12 << 20;
/// The same for each token of the vocabulary: its text, in two maps.
const PROCESS_BYTES_PER_TOKEN: u64 = 200;

/// How a model is to be loaded, as far as memory depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tokens of context of each sequence.
    pub n_ctx: u32,
    /// Sequences.
    pub parallel: u32,
    /// Elements and bytes of a block of keys or values in the KV cache.
    pub kv_block: (u32, u32),
}

impl Shape {
    /// Keys and values of 16 bits.
    pub fn new(n_ctx: u32, parallel: u32) -> Self {
        Self {
            n_ctx,
            parallel,
            kv_block: (1, 2),
        }
    }
}

/// Memory that a loaded model needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The weights.
    pub weights: u64,
    /// The KV caches of all sequences.
    pub kv: u64,
    /// The part of them of the layer that has most.
    #[serde(skip)]
    pub kv_layer: u64,
    /// Intermediate results and the process itself; an estimate that errs upwards.
    pub compute_estimate: u64,
    /// Address space that is set aside for intermediate results and never used; no memory.
    pub unused: u64,
}

impl Memory {
    /// All of it in bytes.
    pub fn total(&self) -> u64 {
        self.weights
            .saturating_add(self.kv)
            .saturating_add(self.compute_estimate)
    }
}

impl Header {
    /// The memory needed for `parallel` sequences of `n_ctx` tokens each, as
    /// [`Header::memory_of`] of the usual [`Shape`].
    pub fn memory_needed(&self, n_ctx: u32, parallel: u32) -> Memory {
        self.memory_of(&Shape::new(n_ctx, parallel))
    }

    /// The memory needed.
    ///
    /// - Weights: the tensors' bytes.
    /// - KV: for each sequence and layer `tokens × n_head_kv × (key_length + value_length)`
    ///   elements. `tokens` is `n_ctx`, and in a sliding-window layer `window + n_ubatch` if that
    ///   is less, rounded up to 256, as llama.cpp sizes it in `llama-kv-cache-iswa.cpp` when the
    ///   caches are kept apart for each sequence.
    /// - Compute: for each token of a pass over `n_ubatch`, in 4 bytes each, a layer's feed-forward
    ///   (`3 n_ff + 4 n_embd`), its ends (`8 n_embd`), and the mask (`n_ctx`), as flash attention
    ///   keeps no scores; then the vocabulary's scores of the tokens for which they are asked.
    ///   llama.cpp reuses some of that, so that this errs upwards.
    pub fn memory_of(&self, shape: &Shape) -> Memory {
        let n_ctx = u64::from(shape.n_ctx).next_multiple_of(CACHE_STEP);
        let layer = 3 * u64::from(self.n_ff) + 12 * u64::from(self.n_embd);
        let vocabulary = u64::from(self.vocabulary);
        let process = PROCESS_BYTES + vocabulary * PROCESS_BYTES_PER_TOKEN;
        Memory {
            weights: self.weights_bytes,
            kv: self.kv_bytes(n_ctx, shape, |tokens| tokens.fold(0, u64::saturating_add)),
            kv_layer: self.kv_bytes(n_ctx, shape, |tokens| tokens.max().unwrap_or(0)),
            compute_estimate: layer
                .saturating_add(n_ctx)
                .saturating_mul(N_UBATCH * F32)
                .saturating_add(vocabulary * SCORED_ROWS * F32)
                .saturating_add(process),
            unused: vocabulary * (N_UBATCH - SCORED_ROWS) * F32,
        }
    }

    /// The memory needed for a context in which embeddings of inputs of up to `n_ctx` tokens are made,
    /// beside that for answers, in bytes. As [`Header::memory_of`] with 16-bit keys and values of all
    /// tokens in all layers (a window's cache grows with the sequences), for passes over
    /// `EMBEDDED_ROWS`, one layer's scores, and the vocabulary's scores of each row twice: once where they are computed
    /// and once where llama.cpp puts them; and the context itself, taken to be as large as
    /// `PROCESS_BYTES`. With `n_ctx` 2048, resident memory grew by 74 MiB with SmolLM2-135M (89 by
    /// this), and by 171 MiB with Gemma 3 270M (182).
    pub fn embeddings_memory(&self, n_ctx: u32) -> u64 {
        let n_ctx = u64::from(n_ctx).next_multiple_of(CACHE_STEP);
        let per_head = u64::from(self.key_length) + u64::from(self.value_length);
        let heads = self.n_head_kv.iter().map(|heads| u64::from(*heads));
        let kv = heads
            .fold(0, u64::saturating_add)
            .saturating_mul(per_head)
            .saturating_mul(n_ctx)
            .saturating_mul(2);
        let layer = 3 * u64::from(self.n_ff) + 12 * u64::from(self.n_embd);
        let row = layer
            .saturating_add(n_ctx.saturating_mul(u64::from(self.n_head) + 1))
            .saturating_add(2 * u64::from(self.vocabulary));
        kv.saturating_add(row.saturating_mul(EMBEDDED_ROWS * F32))
            .saturating_add(PROCESS_BYTES)
    }

    /// The KV caches of all sequences, of what `of_layers` makes of the layers' elements.
    fn kv_bytes(
        &self,
        n_ctx: u64,
        shape: &Shape,
        of_layers: impl FnOnce(&mut dyn Iterator<Item = u64>) -> u64,
    ) -> u64 {
        let window = self.sliding_window.map_or(n_ctx, |window| {
            let needed = u64::from(window) + N_UBATCH;
            n_ctx.min(needed.next_multiple_of(CACHE_STEP))
        });
        let (elements, bytes) = shape.kv_block;
        let per_head = u64::from(self.key_length) + u64::from(self.value_length);
        let layers = self.n_head_kv.iter().zip(&self.windowed);
        let mut each = layers.map(|(heads, windowed)| {
            let tokens = if *windowed { window } else { n_ctx };
            tokens
                .saturating_mul(u64::from(*heads))
                .saturating_mul(per_head)
        });
        of_layers(&mut each)
            .saturating_mul(u64::from(shape.parallel))
            .saturating_mul(u64::from(bytes))
            / u64::from(elements.max(1))
    }
}
