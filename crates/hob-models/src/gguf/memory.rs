//! How much memory a model needs at a context size.

use serde::Serialize;

use super::Header;

/// The engine's `n_ubatch`: tokens worked on in one pass.
const N_UBATCH: u64 = 256;
/// The KV cache of a sliding-window layer grows in steps of this many tokens.
const WINDOW_STEP: u64 = 256;
/// Bytes of a cached key or value element (f16).
const F16: u64 = 2;
/// Bytes of an intermediate result (f32).
const F32: u64 = 4;

/// Memory that a loaded model needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The weights; mapped from the file, so that the kernel can drop and reread them.
    pub weights: u64,
    /// The KV caches of all sequences.
    pub kv: u64,
    /// Intermediate results; an estimate that errs upwards.
    pub compute_estimate: u64,
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
    /// The memory needed for `parallel` sequences of `n_ctx` tokens each.
    ///
    /// - Weights: the tensors' bytes.
    /// - KV: for each sequence and layer `tokens × n_head_kv × (key_length +
    ///   value_length) × 2` bytes. `tokens` is `n_ctx`, and in a sliding-window layer
    ///   `min(n_ctx, window + n_ubatch)` rounded up to 256, as llama.cpp sizes it in
    ///   `llama-kv-cache-iswa.cpp` when the caches are kept apart for each sequence.
    /// - Compute: llama.cpp reuses one buffer for a pass over `n_ubatch` tokens, so that
    ///   the largest step counts: the logits (`n_vocab`) or a layer's feed-forward
    ///   (`3 n_ff + 4 n_embd`), times 4 bytes; and, as the engine works without flash
    ///   attention, one layer's scores and the mask: `(n_head + 1) × n_ctx` f32 for each
    ///   token of the pass.
    pub fn memory_needed(&self, n_ctx: u32, parallel: u32) -> Memory {
        let n_ctx = u64::from(n_ctx);
        let window = self.sliding_window.map_or(n_ctx, |window| {
            n_ctx
                .min(u64::from(window) + N_UBATCH)
                .next_multiple_of(WINDOW_STEP)
        });
        let per_head = u64::from(self.key_length) + u64::from(self.value_length);
        let per_sequence = self
            .n_head_kv
            .iter()
            .zip(&self.windowed)
            .map(|(heads, windowed)| {
                let tokens = if *windowed { window } else { n_ctx };
                tokens
                    .saturating_mul(u64::from(*heads))
                    .saturating_mul(per_head)
                    .saturating_mul(F16)
            })
            .fold(0, u64::saturating_add);
        let layer = 3 * u64::from(self.n_ff) + 4 * u64::from(self.n_embd);
        let widest = layer.max(u64::from(self.vocabulary));
        Memory {
            weights: self.weights_bytes,
            kv: per_sequence.saturating_mul(u64::from(parallel)),
            compute_estimate: widest
                .saturating_add(n_ctx.saturating_mul(u64::from(self.n_head) + 1))
                .saturating_mul(N_UBATCH * F32),
        }
    }
}
