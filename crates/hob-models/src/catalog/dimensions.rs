//! What is known of a model before its file is here: enough to say how much memory it will take.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Entry;
use crate::gguf::Header;

/// A model's dimensions, as its publisher's `config.json` gives them. For models all of whose layers
/// have attention and one feed-forward network, and whose output shares the weights of the embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dimensions {
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Width of the feed-forward networks.
    pub feed_forward: u32,
    /// Query heads of a layer.
    pub heads: u32,
    /// KV heads of a layer.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Layers with a sliding window, where there are any.
    pub window: Option<Window>,
}

/// Which layers look back over a window alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// How many tokens they look back.
    pub tokens: u32,
    /// One layer in so many has no window.
    pub full_every: u32,
}

/// What a file of such a model says at most about its context where the catalog says nothing.
const N_CTX_UNKNOWN: u32 = 8192;

/// Bits of an element in llama.cpp's tensor types, with scales (`ggml-common.h`).
mod bits {
    pub(super) const Q4_0: f64 = 4.5;
    pub(super) const Q4_1: f64 = 5.0;
    pub(super) const Q4_K: f64 = 4.5;
    pub(super) const Q5_0: f64 = 5.5;
    pub(super) const Q6_K: f64 = 6.5625;
    pub(super) const Q8_0: f64 = 8.5;
}

/// Elements of a block of the K types; rows that are not whole blocks are stored in larger types.
const K_BLOCK: u32 = 256;

impl Entry {
    /// The header that its file is expected to have, as far as memory depends on it; `None` where
    /// too little is known. The tensors' bytes are an estimate: norms and biases are left out, and
    /// files mix types as llama.cpp's `llama-quant.cpp` does by default. The two of the catalog that
    /// could be looked at have within 1 % of it.
    pub fn expected_header(&self) -> Option<Header> {
        let dimensions = self.dimensions.as_ref()?;
        let (matrices, more) = element_bits(&self.quantization, dimensions)?;
        let embedding = dimensions.embedding_elements();
        let bytes = embedding * wide_bits(dimensions.width) + matrices;
        let layers = usize::try_from(dimensions.layers).ok()?;
        let windowed = |layer: usize| {
            let every = dimensions.window.map_or(1, |window| window.full_every);
            every > 1 && !(layer + 1).is_multiple_of(every as usize)
        };
        // Far below 2^53, and positive.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes of weights"
        )]
        let (weights_bytes, layers_bytes) = ((bytes / 8.0) as u64, (matrices / 8.0) as u64);
        Some(Header {
            architecture: String::new(),
            name: None,
            parameters: self.parameters.0,
            quantization: self.quantization.clone(),
            main_tensor_type: more,
            n_ctx_train: self.context.unwrap_or(N_CTX_UNKNOWN),
            n_layer: dimensions.layers,
            n_embd: dimensions.width,
            n_ff: dimensions.feed_forward,
            n_head: dimensions.heads,
            n_head_kv: vec![dimensions.kv_heads; layers],
            key_length: dimensions.head,
            value_length: dimensions.head,
            sliding_window: dimensions.window.map(|window| window.tokens),
            windowed: (0..layers).map(windowed).collect(),
            vocabulary: dimensions.vocabulary,
            chat_template: None,
            weights_bytes,
            layers_bytes,
            bytes_by_type: BTreeMap::from([(more, weights_bytes)]),
            tensors: 0,
            descent: None,
        })
    }
}

/// Bits of a tensor of the wider type, with rows of so many elements.
fn wide_bits(row: u32) -> f64 {
    if row.is_multiple_of(K_BLOCK) {
        bits::Q6_K
    } else {
        bits::Q8_0
    }
}

/// Bits of all matrices of all layers, and the type that most of them have; `None` for a
/// quantization whose mix is not known here.
fn element_bits(quantization: &str, of: &Dimensions) -> Option<(f64, &'static str)> {
    let layers = f64::from(of.layers);
    let matrix = |rows: u32, columns: u32| f64::from(rows) * f64::from(columns);
    let queries = of.heads * of.head;
    let values = of.kv_heads * of.head;
    let query = matrix(queries, of.width);
    let key = matrix(values, of.width);
    let gate = matrix(of.feed_forward, of.width);
    let uniform = |bits: f64| layers * bits * (2.0 * query + 2.0 * key + 3.0 * gate);
    match quantization {
        "Q4_0" => Some((uniform(bits::Q4_0), "Q4_0")),
        "Q4_1" => Some((uniform(bits::Q4_1), "Q4_1")),
        "Q4_K_M" => {
            let plain = |row: u32| {
                if row.is_multiple_of(K_BLOCK) {
                    bits::Q4_K
                } else {
                    bits::Q5_0
                }
            };
            // Values and the way down are wide in half of the layers.
            let mixed = |row: u32| f64::midpoint(plain(row), wide_bits(row));
            let narrow = (query + key + 2.0 * gate) * plain(of.width) + query * plain(queries);
            let wide = key * mixed(of.width) + gate * mixed(of.feed_forward);
            Some((layers * (narrow + wide), "Q4_K"))
        }
        _ => None,
    }
}

impl Dimensions {
    fn embedding_elements(&self) -> f64 {
        f64::from(self.vocabulary) * f64::from(self.width)
    }
}
