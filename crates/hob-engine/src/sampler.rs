//! How tokens are chosen: the request's numbers become a chain of llama.cpp's samplers.

use std::hash::{BuildHasher, Hasher, RandomState};

use hob_ipc::message::Sampling;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;

use crate::prompt::Token;

/// Latest tokens that the penalties look at, the prompt's included.
pub const PENALTY_TOKENS: usize = 64;
/// Tokens that each filter leaves at least.
const KEEP_MIN: usize = 1;

/// The chain for one request, in the order that llama.cpp's own server applies.
pub fn chain(sampling: &Sampling, n_vocab: i32, prompt: &[Token]) -> LlamaSampler {
    let mut samplers = Vec::new();
    if penalizes(sampling) {
        samplers.push(LlamaSampler::penalties(
            n_vocab,
            i32::try_from(PENALTY_TOKENS).unwrap_or(i32::MAX),
            sampling.repeat_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        ));
    }
    if sampling.temperature <= 0.0 {
        samplers.push(LlamaSampler::greedy());
    } else {
        if sampling.top_k > 0 {
            samplers.push(LlamaSampler::top_k(
                i32::try_from(sampling.top_k).unwrap_or(i32::MAX),
            ));
        }
        if sampling.top_p < 1.0 {
            samplers.push(LlamaSampler::top_p(sampling.top_p, KEEP_MIN));
        }
        if sampling.min_p > 0.0 {
            samplers.push(LlamaSampler::min_p(sampling.min_p, KEEP_MIN));
        }
        samplers.push(LlamaSampler::temp(sampling.temperature));
        samplers.push(LlamaSampler::dist(
            sampling.seed.unwrap_or_else(random_seed),
        ));
    }
    // Without timings: llama.cpp's are not reported.
    let recent = &prompt[prompt.len().saturating_sub(PENALTY_TOKENS)..];
    LlamaSampler::chain(samplers, true).with_tokens(recent.iter().copied().map(LlamaToken))
}

#[allow(clippy::float_cmp, reason = "these exact values mean: no penalty")]
fn penalizes(sampling: &Sampling) -> bool {
    sampling.repeat_penalty != 1.0
        || sampling.frequency_penalty != 0.0
        || sampling.presence_penalty != 0.0
}

fn random_seed() -> u32 {
    // The standard library seeds its hashers from the system's random generator.
    let random = RandomState::new().build_hasher().finish();
    let [a, b, c, d, ..] = random.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
