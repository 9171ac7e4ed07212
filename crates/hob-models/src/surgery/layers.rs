//! The model that has some of a model's layers.
//!
//! A layer adds something to what passes through it, so that a model without one of them still computes;
//! how well is for others to measure. What stays is numbered anew, and so is whatever the metadata says of
//! each layer: llama.cpp demands that its lists are as long as there are layers. Left out by these rules
//! alone, layers of many architectures would change places in a pattern that llama.cpp knows by their
//! numbers (every fourth without positions, every sixth with the whole context), and nothing would tell:
//! only architectures whose code was looked through for that are taken. Of one pattern, that of windows,
//! a file can say what each layer is, and then does.
//!
//! That deep models can spare layers is known from `ShortGPT`, <https://arxiv.org/abs/2403.03853>.

use super::SurgeryError;
use crate::gguf::{Document, Rewrite, Value};

/// The architectures whose layers can be left out: in llama.cpp's `src/models`, nothing of these depends
/// on a layer's number but, with `gemma3`, whether it looks through a window.
pub const LAYERED_ARCHITECTURES: [&str; 7] = [
    "gemma", "gemma3", "granite", "llama", "mistral3", "qwen2", "qwen3",
];
/// Of these, the ones for which llama.cpp takes a list of which layers look through a window.
const WINDOWED: [&str; 1] = ["gemma3"];
/// llama.cpp takes a `gemma3` with so many layers for the one whose attention is scaled otherwise.
const GEMMA3_SCALED_OTHERWISE: usize = 62;

/// What the metadata may have a list of, with a value for each layer.
const LISTS: [&str; 4] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.sliding_window_pattern",
    "feed_forward_length",
];
const WINDOWS: &str = "attention.sliding_window_pattern";
/// What else tells layers apart by their numbers, unless it is 0.
const PATTERNS: [&str; 9] = [
    "attention.recurrent_layers",
    "attention.shared_kv_layers",
    "deepstack_mapping",
    "full_attention_interval",
    "interleave_moe_layer_step",
    "leading_dense_block_count",
    "moe_every_n_layers",
    "n_deepstack_layers",
    "nextn_predict_layers",
];

/// A model's layers.
#[derive(Clone, Debug)]
pub struct Layers<'d> {
    document: &'d Document,
    /// Bytes of the weights of each.
    bytes: Vec<u64>,
}

fn wrong(key: String, why: &'static str) -> SurgeryError {
    SurgeryError::Metadata { key, why }
}

impl<'d> Layers<'d> {
    /// Reads a model's layers.
    ///
    /// # Errors
    /// [`SurgeryError`], if it is a model whose layers can't be left out.
    pub fn read(document: &'d Document) -> Result<Self, SurgeryError> {
        let header = document.header();
        let architecture = header.architecture.as_str();
        if !LAYERED_ARCHITECTURES.contains(&architecture) {
            return Err(SurgeryError::Layered(architecture.to_owned()));
        }
        let mut bytes = vec![0; header.n_layer as usize];
        for tensor in document.tensors() {
            if !tensor.name().starts_with(BLOCK) {
                continue;
            }
            let layer = layer(tensor.name()).map(|(layer, _)| layer);
            let known = layer.and_then(|layer| bytes.get_mut(layer as usize));
            let strange = || SurgeryError::LayerTensor(tensor.name().to_owned());
            *known.ok_or_else(strange)? += tensor.bytes();
        }
        let layers = Self { document, bytes };
        layers.check()?;
        Ok(layers)
    }

    /// Whether nothing is there that tells layers apart, and is not known to.
    fn check(&self) -> Result<(), SurgeryError> {
        const APART: &str = "tells layers apart in a way that hob does not know";
        let all = self.len();
        let header = self.document.header();
        if header.architecture == "gemma3" && all == GEMMA3_SCALED_OTHERWISE {
            let why = "is that of a model which llama.cpp knows by it, and would take for another";
            return Err(wrong(self.key("block_count"), why));
        }
        let prefix = self.key("");
        for (key, value) in self.document.pairs() {
            let Some(name) = key.strip_prefix(&prefix) else {
                continue;
            };
            let apart = match value {
                Value::Scalar(number) => PATTERNS.contains(&name) && number.unsigned() != Some(0),
                Value::Scalars(numbers) if LISTS.contains(&name) => {
                    if numbers.len() != all {
                        return Err(wrong(key.to_owned(), "has not one number for each layer"));
                    }
                    false
                }
                Value::Scalars(numbers) => PATTERNS.contains(&name) || numbers.len() == all,
                Value::Texts(texts) => texts.len() == all,
                Value::Text(_) => false,
            };
            if apart {
                return Err(wrong(key.to_owned(), APART));
            }
        }
        let windows = header.windowed.contains(&true);
        if windows && !WINDOWED.contains(&header.architecture.as_str()) {
            return Err(wrong(self.key("attention.sliding_window"), APART));
        }
        Ok(())
    }

    /// How many layers there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of the weights of each layer, in their order.
    pub fn bytes(&self) -> &[u64] {
        &self.bytes
    }

    /// Makes of a file that has all of the document's layers still one without those in `out`.
    ///
    /// # Errors
    /// [`SurgeryError::NoSuchLayer`], [`SurgeryError::AllLayers`].
    pub fn leave_out(&self, rewrite: &mut Rewrite, out: &[u32]) -> Result<(), SurgeryError> {
        let all = self.len();
        if let Some(layer) = out.iter().find(|layer| **layer as usize >= all) {
            return Err(SurgeryError::NoSuchLayer { layer: *layer, all });
        }
        let numbers = 0..u32::try_from(all).unwrap_or(u32::MAX);
        let stay: Vec<u32> = numbers.filter(|layer| !out.contains(layer)).collect();
        if stay.is_empty() {
            return Err(SurgeryError::AllLayers { all });
        }
        if stay.len() == all {
            return Ok(());
        }
        rewrite.rename(|name| match layer(name) {
            None => Some(name.to_owned()),
            Some((number, rest)) => {
                let place = stay.binary_search(&number).ok()?;
                Some(format!("{BLOCK}{place}.{rest}"))
            }
        });
        self.describe(rewrite, &stay)
    }

    /// What the metadata says, of the layers that stay.
    fn describe(&self, rewrite: &mut Rewrite, stay: &[u32]) -> Result<(), SurgeryError> {
        let count = self.key("block_count");
        let fewer = match self.document.get(&count) {
            Some(Value::Scalar(number)) => number.replaced(stay.len() as u64),
            _ => None,
        };
        let fewer = fewer.ok_or_else(|| wrong(count.clone(), "is not a whole number"))?;
        rewrite.set(&count, Value::Scalar(fewer));
        for list in LISTS {
            let key = self.key(list);
            if let Some(Value::Scalars(numbers)) = self.document.get(&key) {
                rewrite.set(&key, Value::Scalars(numbers.select(stay)));
            }
        }
        let windows = self.key(WINDOWS);
        let windowed = &self.document.header().windowed;
        let listed = matches!(self.document.get(&windows), Some(Value::Scalars(_)));
        if windowed.contains(&true) && !listed {
            let flags = stay
                .iter()
                .filter_map(|layer| windowed.get(*layer as usize));
            rewrite.set(
                &windows,
                Value::Scalars(flags.copied().map(u32::from).collect()),
            );
        }
        Ok(())
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.document.header().architecture)
    }
}

const BLOCK: &str = "blk.";

/// The number of the layer that a tensor belongs to, and its name within that. What is written otherwise
/// than llama.cpp does is no number.
fn layer(name: &str) -> Option<(u32, &str)> {
    let (number, rest) = name.strip_prefix(BLOCK)?.split_once('.')?;
    let plain = number == "0" || !number.starts_with('0');
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| plain && digits)?, rest))
}

#[cfg(test)]
mod tests;
