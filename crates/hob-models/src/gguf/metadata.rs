//! The key-value part of a header.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::bounded::BoundedReader;
use super::tensors::Tensors;
use super::{Descent, GgufError, Header, MAX_TEMPLATE_BYTES};

/// Most keys; real models have under a hundred.
pub(super) const MAX_KEYS: u64 = 4096;
/// Longest key in bytes; the specification allows 65,535, real keys stay under 80.
pub(super) const MAX_KEY_BYTES: u64 = 512;
/// Longest string value in bytes that is passed over or kept.
pub(super) const MAX_STRING_BYTES: u64 = MAX_TEMPLATE_BYTES;
/// Most elements of one array; the largest vocabularies have some 300,000 tokens.
pub(super) const MAX_ARRAY: u64 = 1 << 24;
/// Arrays of numbers up to this length are kept: one value for each layer.
const MAX_KEPT_ARRAY: u64 = 1024;
/// Most layers; the largest models have some 130.
const MAX_LAYERS: u64 = MAX_KEPT_ARRAY;
/// All strings that are kept, in bytes; one template and a lot of small ones.
const MAX_KEPT_BYTES: usize = 4 << 20;

/// A value as far as it is kept.
#[derive(Debug)]
enum Value {
    Unsigned(u64),
    Text(String),
    Numbers(Vec<u64>),
    /// An array too long to be kept, or of strings.
    Length(u64),
    /// Negative, fractional: nothing that is asked for.
    Other,
}

/// The type tags of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Bytes, and whether it is signed.
    Integer(u32, bool),
    Float(u32),
    Bool,
    Text,
    Array,
}

impl Type {
    pub(super) fn from_tag(tag: u32, at: u64) -> Result<Self, GgufError> {
        Ok(match tag {
            0 => Self::Integer(1, false),
            1 => Self::Integer(1, true),
            2 => Self::Integer(2, false),
            3 => Self::Integer(2, true),
            4 => Self::Integer(4, false),
            5 => Self::Integer(4, true),
            6 => Self::Float(4),
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::Integer(8, false),
            11 => Self::Integer(8, true),
            12 => Self::Float(8),
            other => {
                return Err(GgufError::Invalid {
                    what: "value type",
                    at,
                    why: format!("there is no type {other}"),
                });
            }
        })
    }
}

/// The keys of a header, with the values that are of use.
#[derive(Debug)]
pub(super) struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read<R: Read + Seek>(
        reader: &mut BoundedReader<R>,
        count: u64,
    ) -> Result<Self, GgufError> {
        let mut values = BTreeMap::new();
        let mut kept = 0;
        for _ in 0..count {
            let at = reader.at();
            let key = reader.string("metadata key", MAX_KEY_BYTES)?;
            let value = read_value(reader)?;
            if let Value::Text(text) = &value {
                kept += text.len();
                if kept > MAX_KEPT_BYTES {
                    return Err(GgufError::TooMany {
                        what: "metadata text",
                        at,
                        value: kept as u64,
                        limit: MAX_KEPT_BYTES as u64,
                    });
                }
            }
            if values.contains_key(&key) {
                return Err(GgufError::Invalid {
                    what: "metadata key",
                    at,
                    why: format!("`{}` is there twice", key.escape_debug()),
                });
            }
            values.insert(key, value);
        }
        Ok(Self { values })
    }

    /// A number that cannot be negative, if the key is there.
    pub(super) fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(number)) => Ok(Some(*number)),
            Some(_) => Err(wrong(key, "a whole number")),
        }
    }

    /// The alignment of tensor data in bytes.
    pub(super) fn alignment(&self) -> Result<u64, GgufError> {
        let alignment = self.unsigned("general.alignment")?.unwrap_or(32);
        if alignment.is_power_of_two() && alignment <= 1 << 20 {
            Ok(alignment)
        } else {
            Err(wrong("general.alignment", "a power of two up to 1048576"))
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(key, "a string")),
        }
    }

    fn small(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.unsigned(key)?
            .map(|number| u32::try_from(number).map_err(|_| wrong(key, "below 4294967296")))
            .transpose()
    }

    fn required(&self, key: &str, limit: u64) -> Result<u32, GgufError> {
        let number = self.small(key)?.ok_or_else(|| GgufError::Missing {
            key: key.to_owned(),
        })?;
        if number == 0 || u64::from(number) > limit {
            return Err(wrong(key, "in a sane range"));
        }
        Ok(number)
    }

    /// A number for each layer: the file has one for all, or one for each.
    fn per_layer(&self, key: &str, n_layer: u32) -> Result<Option<Vec<u32>>, GgufError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Numbers(numbers)) if numbers.len() >= n_layer as usize => numbers
                .iter()
                .take(n_layer as usize)
                .map(|number| u32::try_from(*number).map_err(|_| wrong(key, "small numbers")))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(Value::Unsigned(_)) => {
                let number = self.small(key)?.unwrap_or_default();
                Ok(Some(vec![number; n_layer as usize]))
            }
            Some(_) => Err(wrong(key, "one number, or one for each layer")),
        }
    }

    /// Puts together what is shown and needed.
    pub(super) fn describe(&self, tensors: &Tensors) -> Result<Header, GgufError> {
        let architecture = self
            .text("general.architecture")?
            .filter(|name| !name.is_empty())
            .ok_or_else(|| GgufError::Missing {
                key: "general.architecture".to_owned(),
            })?;
        let key = |tail: &str| format!("{architecture}.{tail}");
        let n_layer = self.required(&key("block_count"), MAX_LAYERS)?;
        let n_embd = self.required(&key("embedding_length"), 1 << 24)?;
        let n_ctx_train = self.required(&key("context_length"), 1 << 30)?;
        let heads = self
            .per_layer(&key("attention.head_count"), n_layer)?
            .unwrap_or_default();
        let n_head = heads.iter().copied().max().unwrap_or(0);
        let mut n_head_kv = self
            .per_layer(&key("attention.head_count_kv"), n_layer)?
            .or((!heads.is_empty()).then_some(heads))
            .unwrap_or_else(|| vec![0; n_layer as usize]);
        self.drop_linear_layers(&key("full_attention_interval"), &mut n_head_kv)?;
        let per_head = n_embd.checked_div(n_head).unwrap_or(0);
        let sliding_window = self
            .small(&key("attention.sliding_window"))?
            .filter(|window| *window > 0);
        Ok(Header {
            name: self.text("general.name")?.map(str::to_owned),
            parameters: tensors.elements,
            quantization: self.quantization(tensors)?,
            main_tensor_type: tensors.main_type,
            n_ctx_train,
            n_layer,
            n_embd,
            n_ff: self
                .per_layer(&key("feed_forward_length"), n_layer)?
                .and_then(|widths| widths.into_iter().max())
                .unwrap_or(0),
            n_head,
            n_head_kv,
            key_length: self
                .small(&key("attention.key_length"))?
                .unwrap_or(per_head),
            value_length: self
                .small(&key("attention.value_length"))?
                .unwrap_or(per_head),
            sliding_window,
            windowed: self.windowed(architecture, n_layer, sliding_window.is_some())?,
            vocabulary: self.vocabulary()?,
            chat_template: self.text("tokenizer.chat_template")?.map(str::to_owned),
            weights_bytes: tensors.bytes,
            layers_bytes: tensors.layers_bytes,
            bytes_by_type: tensors.by_type.clone(),
            tensors: tensors.count,
            descent: Descent::read(self)?,
            architecture: architecture.to_owned(),
        })
    }

    /// Hybrid models keep a KV cache in every n-th layer only; the last of each n.
    fn drop_linear_layers(&self, key: &str, n_head_kv: &mut [u32]) -> Result<(), GgufError> {
        if let Some(interval) = self.small(key)?.filter(|interval| *interval > 0) {
            for (layer, heads) in (1u32..).zip(n_head_kv) {
                if layer % interval != 0 {
                    *heads = 0;
                }
            }
        }
        Ok(())
    }

    /// Which layers use the sliding window: the file's pattern, else what llama.cpp knows
    /// of the architecture (`set_swa_pattern` in its `src/models`), else none, which errs
    /// towards more memory.
    fn windowed(
        &self,
        architecture: &str,
        n_layer: u32,
        has_window: bool,
    ) -> Result<Vec<bool>, GgufError> {
        if !has_window {
            return Ok(vec![false; n_layer as usize]);
        }
        let key = format!("{architecture}.attention.sliding_window_pattern");
        let period = match self.values.get(&key) {
            Some(Value::Numbers(_)) => {
                let flags = self.per_layer(&key, n_layer)?.unwrap_or_default();
                return Ok(flags.into_iter().map(|flag| flag != 0).collect());
            }
            Some(Value::Unsigned(_)) => self.small(&key)?.unwrap_or(1),
            _ => match architecture {
                "gemma2" => 2,
                "cohere2" => 4,
                "gemma3n" => 5,
                "gemma3" => 6,
                _ => 1,
            },
        };
        // Every period-th layer sees the whole context; a period of 1 leaves no others.
        Ok((1..=n_layer)
            .map(|layer| period > 1 && layer % period != 0)
            .collect())
    }

    fn vocabulary(&self) -> Result<u32, GgufError> {
        let key = "tokenizer.ggml.tokens";
        match self.values.get(key) {
            Some(Value::Length(length)) => {
                u32::try_from(*length).map_err(|_| wrong(key, "a vocabulary"))
            }
            Some(_) => Err(wrong(key, "a list of strings")),
            None => Err(GgufError::Missing {
                key: key.to_owned(),
            }),
        }
    }

    fn quantization(&self, tensors: &Tensors) -> Result<String, GgufError> {
        let named = self
            .unsigned("general.file_type")?
            .and_then(file_type)
            .unwrap_or(tensors.main_type);
        Ok(named.to_owned())
    }
}

pub(super) fn wrong(key: &str, expected: &'static str) -> GgufError {
    GgufError::WrongValue {
        key: key.to_owned(),
        expected,
    }
}

fn read_value<R: Read + Seek>(reader: &mut BoundedReader<R>) -> Result<Value, GgufError> {
    let at = reader.at();
    match Type::from_tag(reader.u32("value type")?, at)? {
        Type::Text => Ok(Value::Text(reader.string("string", MAX_STRING_BYTES)?)),
        Type::Array => read_array(reader),
        scalar => Ok(read_scalar(reader, scalar)?.map_or(Value::Other, Value::Unsigned)),
    }
}

/// A number, unless it is negative or fractional.
fn read_scalar<R: Read + Seek>(
    reader: &mut BoundedReader<R>,
    kind: Type,
) -> Result<Option<u64>, GgufError> {
    let what = "value";
    Ok(match kind {
        Type::Integer(1, false) => Some(u64::from(reader.bytes::<1>(what)?[0])),
        Type::Integer(1, true) => i8::from_le_bytes(reader.bytes(what)?).try_into().ok(),
        Type::Integer(2, false) => Some(u16::from_le_bytes(reader.bytes(what)?).into()),
        Type::Integer(2, true) => i16::from_le_bytes(reader.bytes(what)?).try_into().ok(),
        Type::Integer(4, false) => Some(reader.u32(what)?.into()),
        Type::Integer(4, true) => i32::from_le_bytes(reader.bytes(what)?).try_into().ok(),
        Type::Integer(_, false) => Some(reader.u64(what)?),
        Type::Integer(_, true) => i64::from_le_bytes(reader.bytes(what)?).try_into().ok(),
        Type::Bool => {
            let at = reader.at();
            match reader.bytes::<1>(what)? {
                [flag @ (0 | 1)] => Some(flag.into()),
                [other] => {
                    return Err(GgufError::Invalid {
                        what: "true or false",
                        at,
                        why: format!("it is {other}"),
                    });
                }
            }
        }
        Type::Float(width) => {
            reader.skip(what, width.into())?;
            None
        }
        Type::Text | Type::Array => None,
    })
}

fn read_array<R: Read + Seek>(reader: &mut BoundedReader<R>) -> Result<Value, GgufError> {
    let at = reader.at();
    let kind = Type::from_tag(reader.u32("array's type")?, at)?;
    let length = reader.count("array's length", MAX_ARRAY)?;
    match kind {
        Type::Array => Err(GgufError::Invalid {
            what: "array",
            at,
            why: "arrays of arrays are not allowed".to_owned(),
        }),
        Type::Text => {
            for _ in 0..length {
                reader.skip_string("string in an array", MAX_STRING_BYTES)?;
            }
            Ok(Value::Length(length))
        }
        Type::Integer(..) | Type::Bool if length <= MAX_KEPT_ARRAY => {
            let mut numbers = Vec::new();
            let mut whole = true;
            for _ in 0..length {
                match read_scalar(reader, kind)? {
                    Some(number) => numbers.push(number),
                    None => whole = false,
                }
            }
            Ok(if whole {
                Value::Numbers(numbers)
            } else {
                Value::Other
            })
        }
        Type::Integer(width, _) | Type::Float(width) => {
            reader.skip("array", length * u64::from(width))?;
            Ok(Value::Length(length))
        }
        Type::Bool => {
            reader.skip("array", length)?;
            Ok(Value::Length(length))
        }
    }
}

/// `llama_ftype` of llama.h: how a whole file was quantized.
fn file_type(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    })
}
