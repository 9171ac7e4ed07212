//! Values of a header's metadata as they stand in the file, for those who write them again.

use std::io::{Read, Seek};

use super::GgufError;
use super::bounded::BoundedReader;
use super::metadata::{MAX_ARRAY, MAX_STRING_BYTES, Type};

const TAG_U32: u32 = 4;
const TAG_TEXT: u32 = 8;
const TAG_ARRAY: u32 = 9;

/// A value of the metadata. What was read is written the same, bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, or true or false.
    Scalar(Scalar),
    /// A text.
    Text(String),
    /// Numbers of one type.
    Scalars(Scalars),
    /// Texts, or what should be.
    Texts(Texts),
}

/// A number, or true or false, with its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar {
    tag: u32,
    width: usize,
    /// The first `width` are its bytes.
    bytes: [u8; 8],
}

/// Numbers of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalars {
    tag: u32,
    width: usize,
    bytes: Vec<u8>,
}

/// Many texts in one piece of memory; a vocabulary has hundreds of thousands. They need not be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
}

/// Bytes of a scalar; `None` for texts and arrays.
fn width(kind: Type) -> Option<usize> {
    match kind {
        Type::Integer(width, _) | Type::Float(width) => usize::try_from(width).ok(),
        Type::Bool => Some(1),
        Type::Text | Type::Array => None,
    }
}

impl Value {
    pub(super) fn read<R: Read + Seek>(reader: &mut BoundedReader<R>) -> Result<Self, GgufError> {
        let at = reader.at();
        let tag = reader.u32("value type")?;
        let kind = Type::from_tag(tag, at)?;
        match (kind, width(kind)) {
            (Type::Text, _) => Ok(Self::Text(reader.string("string", MAX_STRING_BYTES)?)),
            (_, Some(width)) => {
                let run = reader.run("value", width as u64)?;
                Ok(Self::Scalar(Scalar::new(tag, &run)))
            }
            _ => Self::read_array(reader),
        }
    }

    fn read_array<R: Read + Seek>(reader: &mut BoundedReader<R>) -> Result<Self, GgufError> {
        let at = reader.at();
        let tag = reader.u32("array's type")?;
        let kind = Type::from_tag(tag, at)?;
        let length = reader.count("array's length", MAX_ARRAY)?;
        match (kind, width(kind)) {
            (_, Some(width)) => Ok(Self::Scalars(Scalars {
                tag,
                width,
                bytes: reader.run("array", length * width as u64)?,
            })),
            (Type::Text, _) => {
                let mut texts = Texts::default();
                for _ in 0..length {
                    let length = reader.count("string in an array", MAX_STRING_BYTES)?;
                    texts.push(&reader.run("string in an array", length)?);
                }
                Ok(Self::Texts(texts))
            }
            _ => Err(GgufError::Invalid {
                what: "array",
                at,
                why: "arrays of arrays are not allowed".to_owned(),
            }),
        }
    }

    /// Appends it as it stands in a file: its type, then its bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let number = |out: &mut Vec<u8>, number: usize| out.extend((number as u64).to_le_bytes());
        match self {
            Self::Scalar(scalar) => {
                out.extend(scalar.tag.to_le_bytes());
                out.extend(&scalar.bytes[..scalar.width]);
            }
            Self::Text(text) => {
                out.extend(TAG_TEXT.to_le_bytes());
                number(out, text.len());
                out.extend(text.as_bytes());
            }
            Self::Scalars(scalars) => {
                out.extend(TAG_ARRAY.to_le_bytes());
                out.extend(scalars.tag.to_le_bytes());
                number(out, scalars.len());
                out.extend(&scalars.bytes);
            }
            Self::Texts(texts) => {
                out.extend(TAG_ARRAY.to_le_bytes());
                out.extend(TAG_TEXT.to_le_bytes());
                number(out, texts.len());
                for text in texts.iter() {
                    number(out, text.len());
                    out.extend(text);
                }
            }
        }
    }
}

impl From<u32> for Scalar {
    fn from(number: u32) -> Self {
        Self::new(TAG_U32, &number.to_le_bytes())
    }
}

impl Scalar {
    fn new(tag: u32, run: &[u8]) -> Self {
        let mut bytes = [0; 8];
        bytes[..run.len()].copy_from_slice(run);
        Self {
            tag,
            width: run.len(),
            bytes,
        }
    }

    fn kind(&self) -> Option<Type> {
        Type::from_tag(self.tag, 0).ok()
    }

    /// The whole number that it is, unless it is negative.
    pub fn unsigned(&self) -> Option<u64> {
        let bits = u64::from_le_bytes(self.bytes);
        match self.kind()? {
            Type::Integer(_, false) => Some(bits),
            // The sign is the top bit of its last byte.
            Type::Integer(..) => (self.bytes[self.width - 1] < 0x80).then_some(bits),
            _ => None,
        }
    }

    /// Another whole number of the same type; `None` if that can't hold it.
    pub fn replaced(&self, number: u64) -> Option<Self> {
        let Type::Integer(_, signed) = self.kind()? else {
            return None;
        };
        let bits = 8 * self.width - usize::from(signed);
        if bits < 64 && number >> bits != 0 {
            return None;
        }
        Some(Self::new(self.tag, &number.to_le_bytes()[..self.width]))
    }

    /// The 32-bit fraction that it is.
    pub fn fraction(&self) -> Option<f32> {
        let bytes = self.bytes.first_chunk()?;
        (self.kind()? == Type::Float(4)).then(|| f32::from_le_bytes(*bytes))
    }
}

impl Scalars {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Scalar> {
        let runs = self.bytes.chunks_exact(self.width);
        runs.map(|run| Scalar::new(self.tag, run))
    }

    /// Those at `places`, in that order; places that there are not are passed over.
    #[must_use]
    pub fn select(&self, places: &[u32]) -> Self {
        let runs = places.iter().filter_map(|place| {
            let start = usize::try_from(*place).ok()?.checked_mul(self.width)?;
            self.bytes.get(start..start + self.width)
        });
        Self {
            tag: self.tag,
            width: self.width,
            bytes: runs.flatten().copied().collect(),
        }
    }

    /// The same with each number replaced, of those that `replace` has another for.
    #[must_use]
    pub fn map(&self, replace: impl Fn(Scalar) -> Option<Scalar>) -> Self {
        let mut mapped = self.clone();
        let runs = mapped.bytes.chunks_exact_mut(self.width);
        for (run, before) in runs.zip(self.iter()) {
            if let Some(after) = replace(before).filter(|after| after.tag == self.tag) {
                run.copy_from_slice(&after.bytes[..after.width]);
            }
        }
        mapped
    }
}

impl FromIterator<u32> for Scalars {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self {
            tag: TAG_U32,
            width: 4,
            bytes: numbers.into_iter().flat_map(u32::to_le_bytes).collect(),
        }
    }
}

impl Texts {
    /// Adds one. All that a header can hold stay below the limit of the ends.
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The one at `place`.
    pub fn get(&self, place: usize) -> Option<&[u8]> {
        let end = *self.ends.get(place)? as usize;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start as usize..end)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|place| self.get(place))
    }
}

impl<'t> FromIterator<&'t [u8]> for Texts {
    fn from_iter<I: IntoIterator<Item = &'t [u8]>>(texts: I) -> Self {
        let mut collected = Self::default();
        for text in texts {
            collected.push(text);
        }
        collected
    }
}
