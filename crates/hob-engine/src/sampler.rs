//! How tokens are chosen: from the request's numbers, and from the model's scores.
//!
//! The steps and their order are those of llama.cpp's own server. The first ones look at each token
//! of the vocabulary, and the model waits meanwhile: penalties and the choice of the likeliest are
//! done here in one pass each, and the rest, with a few candidates left, by llama.cpp's samplers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};

use hob_ipc::message::Sampling;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use crate::grammar::TokenSet;
use crate::prompt::Token;

/// Latest tokens that the penalties look at, the prompt's included.
pub const PENALTY_TOKENS: usize = 64;
/// Below this temperature the likeliest token is always taken. llama.cpp divides the scores by the
/// temperature; what is no number any more then makes it take the last candidate.
const TEMPERATURE_MIN: f32 = 1e-6;
/// Tokens that each filter leaves at least.
const KEEP_MIN: usize = 1;

/// The way to choose tokens for one request.
#[derive(Debug)]
pub struct Sampler {
    penalties: Option<Penalties>,
    /// What draws a token from the likeliest ones; `None` for the likeliest always.
    draw: Option<Draw>,
    /// Scores of the tokens that may come; kept to spare allocations.
    kept: Vec<f32>,
}

#[derive(Debug)]
struct Draw {
    /// Candidates; 0 for all.
    top_k: usize,
    /// The filters that follow, and the draw.
    chain: LlamaSampler,
}

impl Sampler {
    /// The way to choose tokens after `prompt`.
    pub fn new(sampling: &Sampling, prompt: &[Token]) -> Self {
        Self {
            penalties: penalizes(sampling).then(|| Penalties::new(sampling, prompt)),
            draw: (sampling.temperature >= TEMPERATURE_MIN).then(|| Draw {
                top_k: usize::try_from(sampling.top_k).unwrap_or(usize::MAX),
                chain: chain(sampling),
            }),
            kept: Vec::new(),
        }
    }

    /// The next token, one of `allowed` if that is given, by the score of each token of the
    /// vocabulary; `None` if these are not numbers. What is chosen counts as said.
    pub fn choose(&mut self, scores: &[f32], allowed: Option<&TokenSet>) -> Option<Token> {
        // Sorting and normalizing such numbers is undefined or aborts in C++.
        if scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let scores = match allowed {
            Some(allowed) => {
                allowed.keep(scores, &mut self.kept);
                &self.kept
            }
            None => scores,
        };
        let scores = match &mut self.penalties {
            Some(penalties) => penalties.apply(scores),
            None => scores,
        };
        let token = match &mut self.draw {
            Some(draw) => draw.choose(scores)?,
            None => likeliest(scores)?,
        };
        if let Some(penalties) = &mut self.penalties {
            penalties.said(token);
        }
        Some(token)
    }
}

/// The token with the highest score, the first of equals.
fn likeliest(scores: &[f32]) -> Option<Token> {
    let highest = scores.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let at = scores
        .iter()
        .position(|score| score.total_cmp(&highest).is_eq())?;
    highest.is_finite().then(|| token(at))
}

fn token(at: usize) -> Token {
    // Vocabularies are counted by llama.cpp in the same type.
    Token::try_from(at).unwrap_or(Token::MAX)
}

impl Draw {
    fn choose(&mut self, scores: &[f32]) -> Option<Token> {
        let mut candidates = if self.top_k == 0 {
            (0..scores.len()).collect()
        } else {
            top(scores, self.top_k.min(scores.len()))
        };
        // What may not come at all is no candidate.
        candidates.retain(|at| scores[*at] > f32::NEG_INFINITY);
        let highest = candidates
            .iter()
            .map(|at| scores[*at])
            .fold(f32::NEG_INFINITY, f32::max);
        if !highest.is_finite() {
            return None;
        }
        let data = candidates.into_iter();
        let data = data.map(|at| LlamaTokenData::new(LlamaToken(token(at)), scores[at], 0.0));
        let mut array = LlamaTokenDataArray::new(data.collect(), self.top_k > 0);
        array.apply_sampler(&mut self.chain);
        array.selected_token().map(|token| token.0)
    }
}

/// The places of the `count` highest scores, which are numbers, the highest first.
fn top(scores: &[f32], count: usize) -> Vec<usize> {
    // Numbers that are ordered as the scores are, so that they can be kept in a heap; adding zero
    // makes both zeros one.
    let ordered = |score: f32| {
        let bits = (score + 0.0).to_bits().cast_signed();
        if bits < 0 { i32::MIN - bits } else { bits }
    };
    let mut heap = BinaryHeap::with_capacity(count + 1);
    let mut least = f32::NEG_INFINITY;
    for (at, score) in scores.iter().enumerate() {
        if heap.len() == count && *score <= least {
            continue;
        }
        heap.push(Reverse((ordered(*score), Reverse(at))));
        if heap.len() > count {
            heap.pop();
        }
        if let Some(Reverse((_, Reverse(at)))) = heap.peek() {
            least = scores[*at];
        }
    }
    let sorted = heap.into_sorted_vec().into_iter();
    sorted.map(|Reverse((_, Reverse(at)))| at).collect()
}

/// Lower scores for what was said lately, as llama.cpp computes them.
#[derive(Debug)]
struct Penalties {
    repeat: f32,
    frequency: f32,
    presence: f32,
    /// The latest tokens, at most [`PENALTY_TOKENS`].
    recent: VecDeque<Token>,
    /// Scores with penalties; kept to spare allocations.
    scores: Vec<f32>,
}

impl Penalties {
    fn new(sampling: &Sampling, prompt: &[Token]) -> Self {
        let recent = &prompt[prompt.len().saturating_sub(PENALTY_TOKENS)..];
        Self {
            repeat: sampling.repeat_penalty,
            frequency: sampling.frequency_penalty,
            presence: sampling.presence_penalty,
            recent: recent.iter().copied().collect(),
            scores: Vec::new(),
        }
    }

    fn apply(&mut self, scores: &[f32]) -> &[f32] {
        self.scores.clear();
        self.scores.extend_from_slice(scores);
        for (at, token) in self.recent.iter().enumerate() {
            let place = usize::try_from(*token).ok();
            let score = place.and_then(|place| self.scores.get_mut(place));
            let Some(score) = score.filter(|_| !self.recent.range(..at).any(|t| t == token)) else {
                continue;
            };
            let said = self.recent.range(at..).filter(|other| *other == token);
            let said = u16::try_from(said.count()).unwrap_or(u16::MAX);
            // A negative score divided would be a higher one.
            if *score <= 0.0 {
                *score *= self.repeat;
            } else {
                *score /= self.repeat;
            }
            *score -= f32::from(said) * self.frequency + self.presence;
        }
        &self.scores
    }

    fn said(&mut self, token: Token) {
        if self.recent.len() == PENALTY_TOKENS {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }
}

fn chain(sampling: &Sampling) -> LlamaSampler {
    let mut samplers = Vec::new();
    if sampling.top_p < 1.0 {
        samplers.push(LlamaSampler::top_p(sampling.top_p, KEEP_MIN));
    }
    if sampling.min_p > 0.0 {
        samplers.push(LlamaSampler::min_p(sampling.min_p, KEEP_MIN));
    }
    samplers.push(LlamaSampler::temp(sampling.temperature));
    let seed = sampling.seed.unwrap_or_else(random_seed);
    samplers.push(LlamaSampler::dist(seed));
    // Without timings: llama.cpp's are not reported.
    LlamaSampler::chain(samplers, true)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What llama.cpp chooses with its own samplers alone.
    fn reference(
        sampling: &Sampling,
        prompt: &[Token],
        scores: &[f32],
        count: usize,
    ) -> Vec<Token> {
        let n_vocab = i32::try_from(scores.len()).unwrap_or(0);
        let mut samplers = Vec::new();
        if penalizes(sampling) {
            samplers.push(LlamaSampler::penalties(
                n_vocab,
                i32::try_from(PENALTY_TOKENS).unwrap_or(0),
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            ));
        }
        if sampling.temperature > 0.0 {
            if sampling.top_k > 0 {
                samplers.push(LlamaSampler::top_k(sampling.top_k.cast_signed()));
            }
            samplers.push(chain(sampling));
        } else {
            samplers.push(LlamaSampler::greedy());
        }
        let mut sampler =
            LlamaSampler::chain(samplers, true).with_tokens(prompt.iter().copied().map(LlamaToken));
        let mut chosen = Vec::new();
        for _ in 0..count {
            let data = scores.iter().enumerate();
            let data =
                data.map(|(at, score)| LlamaTokenData::new(LlamaToken(token(at)), *score, 0.0));
            let mut array = LlamaTokenDataArray::new(data.collect(), false);
            array.apply_sampler(&mut sampler);
            let next = array.selected_token().unwrap_or(LlamaToken(-1));
            sampler.accept(next);
            chosen.push(next.0);
        }
        chosen
    }

    proptest! {
        #[test]
        fn choices_are_those_of_llama_cpp(
            scores in Just((0_i16..60).collect::<Vec<_>>()).prop_shuffle(),
            prompt in proptest::collection::vec(0_i32..60, 0..100),
            temperature in prop_oneof![Just(0.0_f32), Just(0.3), Just(1.5)],
            top_k in prop_oneof![Just(0_u32), Just(1), Just(7), Just(200)],
            top_p in prop_oneof![Just(1.0_f32), Just(0.9)],
            min_p in prop_oneof![Just(0.0_f32), Just(0.05)],
            repeat_penalty in prop_oneof![Just(1.0_f32), Just(1.1), Just(0.7)],
            frequency_penalty in prop_oneof![Just(0.0_f32), Just(0.35)],
            presence_penalty in prop_oneof![Just(0.0_f32), Just(-0.55)],
            seed in 0_u32..9,
        ) {
            // No two are equal, as the order of equals is nobody's promise.
            let scores: Vec<f32> = scores.iter().map(|s| f32::from(*s) * 0.237 - 7.0).collect();
            let sampling = Sampling {
                temperature, top_k, top_p, min_p, repeat_penalty, frequency_penalty,
                presence_penalty, seed: Some(seed),
            };
            let mut sampler = Sampler::new(&sampling, &prompt);
            let chosen: Vec<_> = (0..80).map(|_| sampler.choose(&scores, None).unwrap_or(-2)).collect();
            prop_assert_eq!(chosen, reference(&sampling, &prompt, &scores, 80));
        }

        #[test]
        fn the_top_is_what_sorting_gives(
            scores in proptest::collection::vec(-9_i16..9, 1..80),
            count in 1_usize..20,
        ) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut sorted: Vec<usize> = (0..scores.len()).collect();
            sorted.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            sorted.truncate(count);
            prop_assert_eq!(top(&scores, count), sorted);
        }
    }

    #[test]
    fn the_lowest_temperature_chooses_the_likeliest() {
        for temperature in [f32::from_bits(1), 1e-38, 1e-7, 1e-6] {
            let sampling = Sampling {
                temperature,
                top_k: 3,
                ..Sampling::GREEDY
            };
            let mut sampler = Sampler::new(&sampling, &[]);
            assert_eq!(sampler.choose(&[10.0, 20.0, 30.0, -40.0], None), Some(2));
        }
    }

    #[test]
    fn what_is_no_number_is_not_chosen_from() {
        let drawn = Sampling {
            temperature: 1.0,
            top_k: 2,
            ..Sampling::GREEDY
        };
        for sampling in [Sampling::GREEDY, drawn] {
            let choose = |scores: &[f32]| Sampler::new(&sampling, &[]).choose(scores, None);
            assert_eq!(choose(&[1.0, f32::NAN, 3.0]), None);
            assert_eq!(choose(&[f32::NEG_INFINITY; 3]), None);
            assert_eq!(choose(&[1.0, f32::INFINITY, 3.0]), None);
            assert_eq!(choose(&[]), None);
            assert_eq!(choose(&[f32::NEG_INFINITY, 1.0]), Some(1));
        }
    }
}
