//! The tensor table of a header.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Seek};

use super::GgufError;
use super::bounded::BoundedReader;

/// Most tensors; a model of 100 layers has some 1,000, one with experts some 10,000.
pub(super) const MAX_TENSORS: u64 = 1 << 16;
/// Longest name in bytes, `GGML_MAX_NAME` less its terminating zero.
const MAX_NAME_BYTES: u64 = 63;
/// `GGML_MAX_DIMS`.
const MAX_DIMENSIONS: u32 = 4;

/// What the names of the layers' tensors begin with.
const LAYERS: &str = "blk.";

/// What the table adds up to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tensors {
    pub(super) count: u32,
    pub(super) elements: u64,
    pub(super) bytes: u64,
    /// Those of the layers.
    pub(super) layers_bytes: u64,
    /// The type that holds most bytes.
    pub(super) main_type: &'static str,
    /// Bytes of each type.
    pub(super) by_type: BTreeMap<&'static str, u64>,
}

/// Reads `count` entries and checks that their data lies in the file, one after the
/// other with the given alignment, as llama.cpp demands.
pub(super) fn read<R: Read + Seek>(
    reader: &mut BoundedReader<R>,
    count: u64,
    alignment: u64,
) -> Result<Vec<Tensor>, GgufError> {
    if count == 0 {
        return Err(GgufError::Invalid {
            what: "tensor count",
            at: 8,
            why: "a model without tensors".to_owned(),
        });
    }
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut names = HashSet::new();
    // Relative to the start of the data, which only the end of the table tells.
    let mut next_offset = 0u64;
    let mut last_end = 0u64;
    for _ in 0..count {
        let tensor = Tensor::read(reader)?;
        if tensor.offset != next_offset {
            let why = format!("its data is at {}, not {next_offset}", tensor.offset);
            return Err(tensor.refuse(why));
        }
        let overflow = || tensor.refuse("its size overflows".to_owned());
        last_end = tensor
            .offset
            .checked_add(tensor.bytes)
            .ok_or_else(overflow)?;
        next_offset = last_end
            .checked_next_multiple_of(alignment)
            .ok_or_else(overflow)?;
        if !names.insert(tensor.name.clone()) {
            return Err(tensor.refuse("it is there twice".to_owned()));
        }
        tensors.push(tensor);
    }
    let data = reader.at().next_multiple_of(alignment);
    if data
        .checked_add(last_end)
        .is_none_or(|end| end > reader.size())
    {
        return Err(GgufError::Truncated {
            what: "tensor data",
            at: data,
            size: reader.size(),
        });
    }
    Ok(tensors)
}

impl Tensors {
    /// What these add up to.
    pub(super) fn of(tensors: &[Tensor]) -> Result<Self, GgufError> {
        let mut by_type: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut elements = 0u64;
        // Their data lies in one file, so that no sum of bytes overflows.
        let (mut bytes, mut layers_bytes) = (0u64, 0u64);
        for tensor in tensors {
            let overflow = || tensor.refuse("its size overflows".to_owned());
            elements = elements.checked_add(tensor.elements).ok_or_else(overflow)?;
            bytes = bytes.checked_add(tensor.bytes).ok_or_else(overflow)?;
            if tensor.name.starts_with(LAYERS) {
                layers_bytes += tensor.bytes;
            }
            *by_type.entry(tensor.kind.name).or_default() += tensor.bytes;
        }
        Ok(Self {
            count: u32::try_from(tensors.len()).unwrap_or(u32::MAX),
            elements,
            bytes,
            layers_bytes,
            main_type: by_type
                .iter()
                .max_by_key(|(_, bytes)| **bytes)
                .map_or("unknown", |(name, _)| *name),
            by_type,
        })
    }
}

/// One entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    tag: u32,
    kind: TensorType,
    /// 1 to 4 lengths, a row's first.
    dimensions: Vec<u64>,
    elements: u64,
    bytes: u64,
    /// Bytes from the start of the data.
    offset: u64,
}

impl Tensor {
    fn read<R: Read + Seek>(reader: &mut BoundedReader<R>) -> Result<Self, GgufError> {
        let name = reader.string("tensor name", MAX_NAME_BYTES)?;
        let refuse = |why: String| GgufError::Tensor {
            name: name.escape_debug().to_string(),
            why,
        };
        let dimensions = reader.u32("tensor's dimensions")?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(refuse(format!("it has {dimensions} dimensions")));
        }
        let lengths = (0..dimensions).map(|_| reader.u64("tensor's dimension"));
        let dimensions = lengths.collect::<Result<Vec<_>, _>>()?;
        let row = dimensions[0];
        let elements = dimensions
            .iter()
            .try_fold(1u64, |elements, length| elements.checked_mul(*length))
            .filter(|elements| *elements > 0 && i64::try_from(*elements).is_ok())
            .ok_or_else(|| refuse("its number of elements is out of range".to_owned()))?;
        let tag = reader.u32("tensor's type")?;
        let kind = tensor_type(tag)
            .ok_or_else(|| refuse(format!("hob's llama.cpp has no tensor type {tag}")))?;
        if row % kind.block != 0 {
            return Err(refuse(format!(
                "rows of {row} elements are not whole {} blocks of {}",
                kind.name, kind.block
            )));
        }
        let bytes = (elements / kind.block)
            .checked_mul(kind.block_bytes)
            .ok_or_else(|| refuse("its size overflows".to_owned()))?;
        let offset = reader.u64("tensor's offset")?;
        Ok(Self {
            name,
            tag,
            kind,
            dimensions,
            elements,
            bytes,
            offset,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its lengths, a row's first; 1 to 4 of them, none of them 0.
    pub fn dimensions(&self) -> &[u64] {
        &self.dimensions
    }

    /// How many numbers it holds.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// The name of its type, such as `Q4_K`.
    pub fn type_name(&self) -> &'static str {
        self.kind.name
    }

    /// Bits that a number takes, rounded down: 4 of `Q4_0`, and 5 of `Q4_1`.
    pub fn bits(&self) -> u64 {
        self.kind.block_bytes * 8 / self.kind.block
    }

    /// Whether its numbers are stored in blocks that share a scale, and not each by itself.
    pub fn is_quantized(&self) -> bool {
        self.kind.block > 1
    }

    /// Bytes of its data.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where its data starts, in bytes from the start of all data.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of its type in the format.
    pub(super) fn tag(&self) -> u32 {
        self.tag
    }

    /// Bytes of one of the slices that its last dimension counts: of a matrix, a row. `None` where
    /// such a slice is no whole number of blocks.
    pub(super) fn slice_bytes(&self) -> Option<u64> {
        let slices = self.dimensions.last().copied().unwrap_or(1);
        let elements = self.elements / slices;
        elements
            .is_multiple_of(self.kind.block)
            .then(|| self.bytes / slices)
    }

    /// The same with so many slices, at least 1 and not more than there are.
    pub(super) fn with_slices(&self, slices: u64) -> Self {
        let before = self.dimensions.last().copied().unwrap_or(1);
        let mut fewer = self.clone();
        if let Some(last) = fewer.dimensions.last_mut() {
            *last = slices;
        }
        fewer.elements = self.elements / before * slices;
        fewer.bytes = self.bytes / before * slices;
        fewer
    }

    /// The same by another name, of at most 63 bytes.
    pub(super) fn renamed(&self, name: String) -> Self {
        Self {
            name,
            ..self.clone()
        }
    }

    fn refuse(&self, why: String) -> GgufError {
        GgufError::Tensor {
            name: self.name.escape_debug().to_string(),
            why,
        }
    }
}

/// How a tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TensorType {
    name: &'static str,
    /// Elements in a block.
    block: u64,
    /// Bytes of a block.
    block_bytes: u64,
}

/// `ggml_type` of ggml.h, with the block sizes of ggml-common.h.
fn tensor_type(tag: u32) -> Option<TensorType> {
    let (name, block, block_bytes) = match tag {
        0 => ("F32", 1, 4),
        1 => ("F16", 1, 2),
        2 => ("Q4_0", 32, 18),
        3 => ("Q4_1", 32, 20),
        6 => ("Q5_0", 32, 22),
        7 => ("Q5_1", 32, 24),
        8 => ("Q8_0", 32, 34),
        9 => ("Q8_1", 32, 36),
        10 => ("Q2_K", 256, 84),
        11 => ("Q3_K", 256, 110),
        12 => ("Q4_K", 256, 144),
        13 => ("Q5_K", 256, 176),
        14 => ("Q6_K", 256, 210),
        15 => ("Q8_K", 256, 292),
        16 => ("IQ2_XXS", 256, 66),
        17 => ("IQ2_XS", 256, 74),
        18 => ("IQ3_XXS", 256, 98),
        19 => ("IQ1_S", 256, 50),
        20 => ("IQ4_NL", 32, 18),
        21 => ("IQ3_S", 256, 110),
        22 => ("IQ2_S", 256, 82),
        23 => ("IQ4_XS", 256, 136),
        24 => ("I8", 1, 1),
        25 => ("I16", 1, 2),
        26 => ("I32", 1, 4),
        27 => ("I64", 1, 8),
        28 => ("F64", 1, 8),
        29 => ("IQ1_M", 256, 56),
        30 => ("BF16", 1, 2),
        34 => ("TQ1_0", 256, 54),
        35 => ("TQ2_0", 256, 66),
        39 => ("MXFP4", 32, 17),
        40 => ("NVFP4", 64, 36),
        41 => ("Q1_0", 128, 18),
        42 => ("Q2_0", 64, 18),
        _ => return None,
    };
    Some(TensorType {
        name,
        block,
        block_bytes,
    })
}
