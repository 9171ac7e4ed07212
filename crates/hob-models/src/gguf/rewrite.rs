//! Another model file made of one: other metadata, fewer tensors, fewer rows, tensors of another file. What
//! is taken of weights is copied byte for byte, whatever its type.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::MAGIC;
use super::document::Document;
use super::tensors::Tensor;
use super::value::Value;

#[cfg(test)]
mod tests;

/// Bytes that are read and handed on at once.
const PIECE_BYTES: u64 = 1 << 20;

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError<E> {
    /// The model that it is made of can't be read any more.
    #[error("the model cannot be read: {0}")]
    Source(#[source] io::Error),
    /// What takes the bytes failed.
    #[error(transparent)]
    Sink(E),
}

/// A model file in the making. It reads nothing but what stays.
#[derive(Clone, Debug)]
pub struct Rewrite {
    version: u32,
    alignment: u64,
    pairs: Vec<(String, Value)>,
    tensors: Vec<Planned>,
}

/// A tensor of the new file.
#[derive(Clone, Debug)]
struct Planned {
    tensor: Tensor,
    /// The file that its data is in, if not the old one.
    file: Option<Arc<File>>,
    /// The bytes of that file that are its data, in their order.
    runs: Vec<Range<u64>>,
}

impl Planned {
    fn of(tensor: &Tensor, document: &Document, file: Option<Arc<File>>) -> Self {
        let start = document.data + tensor.offset();
        Self {
            tensor: tensor.clone(),
            file,
            runs: std::iter::once(start..start + tensor.bytes()).collect(),
        }
    }
}

impl Rewrite {
    /// The same file as the one that `document` was read from.
    pub fn of(document: &Document) -> Self {
        let tensors = document.tensors.iter();
        let tensors = tensors.map(|tensor| Planned::of(tensor, document, None));
        Self {
            version: document.version,
            alignment: document.alignment,
            pairs: document.pairs.clone(),
            tensors: tensors.collect(),
        }
    }

    /// Gives a key a value, in its place if it has one. Not for `general.alignment`.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.pairs.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((key.to_owned(), value)),
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) {
        self.pairs.retain(|(name, _)| name != key);
    }

    /// Gives every tensor another name, or takes it out where there is none.
    pub fn rename(&mut self, name: impl Fn(&str) -> Option<String>) {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        let renamed = tensors.filter_map(|planned| {
            Some(Planned {
                tensor: planned.tensor.renamed(name(planned.tensor.name())?),
                ..planned
            })
        });
        self.tensors = renamed.collect();
    }

    /// Keeps the tensors of which this holds.
    pub fn keep_tensors(&mut self, keep: impl Fn(&Tensor) -> bool) {
        self.tensors.retain(|planned| keep(&planned.tensor));
    }

    /// Takes a tensor's data, and how it is stored, from the tensor of the same name of another file,
    /// which `document` was read from. False if there is none of the same lengths.
    #[must_use]
    pub fn replace(&mut self, name: &str, document: &Document, file: &Arc<File>) -> bool {
        let ours = self.tensors.iter_mut().find(|t| t.tensor.name() == name);
        let theirs = document.tensors.iter().find(|tensor| tensor.name() == name);
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if ours.tensor.dimensions() == theirs.dimensions() => {
                *ours = Planned::of(theirs, document, Some(Arc::clone(file)));
                true
            }
            _ => false,
        }
    }

    /// Keeps these slices of a tensor's last dimension: rows of a matrix. `slices` rises, has at least
    /// one, and none that the tensor lacks. False if there is no such tensor, or a slice of it is no
    /// whole number of blocks.
    #[must_use]
    pub fn keep_slices(&mut self, name: &str, slices: &[u32]) -> bool {
        let found = self.tensors.iter_mut().find(|t| t.tensor.name() == name);
        let Some(planned) = found else {
            return false;
        };
        let (Some(width), Some(whole)) = (planned.tensor.slice_bytes(), planned.runs.first())
        else {
            return false;
        };
        let start = whole.start;
        let mut runs: Vec<Range<u64>> = Vec::new();
        for slice in slices {
            let from = start + u64::from(*slice) * width;
            match runs.last_mut() {
                Some(run) if run.end == from => run.end += width,
                _ => runs.push(from..from + width),
            }
        }
        planned.runs = runs;
        planned.tensor = planned.tensor.with_slices(slices.len() as u64);
        true
    }

    /// The new file's size in bytes.
    pub fn size(&self) -> u64 {
        let data = self.tensors.iter().map(|planned| self.padded(planned));
        self.head().len() as u64 + data.sum::<u64>()
    }

    fn padded(&self, planned: &Planned) -> u64 {
        planned.tensor.bytes().next_multiple_of(self.alignment)
    }

    /// All that stands before the weights, padded.
    fn head(&self) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        let mut out = MAGIC.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            text(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0u64;
        for planned in &self.tensors {
            let tensor = &planned.tensor;
            text(&mut out, tensor.name());
            let dimensions = tensor.dimensions();
            // At most four.
            out.extend(u32::try_from(dimensions.len()).unwrap_or(0).to_le_bytes());
            out.extend(dimensions.iter().flat_map(|length| length.to_le_bytes()));
            out.extend(tensor.tag().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += self.padded(planned);
        }
        pad(&mut out, self.alignment);
        out
    }

    /// Hands the new file to `sink`, piece by piece, copying weights from `source`, which the document
    /// was read from, and from the files that tensors were replaced from.
    ///
    /// # Errors
    /// [`RewriteError`].
    pub fn write<E>(
        &self,
        source: &File,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), RewriteError<E>> {
        self.head()
            .chunks(usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX))
            .try_for_each(&mut sink)
            .map_err(RewriteError::Sink)?;
        let mut piece = Vec::new();
        for planned in &self.tensors {
            let source = planned.file.as_deref().unwrap_or(source);
            for run in &planned.runs {
                let mut at = run.start;
                while at < run.end {
                    let length = PIECE_BYTES.min(run.end - at);
                    let held = piece.len();
                    piece.resize(held + usize::try_from(length).unwrap_or(0), 0);
                    source
                        .read_exact_at(&mut piece[held..], at)
                        .map_err(RewriteError::Source)?;
                    at += length;
                    // Single rows are short; they leave together.
                    if piece.len() as u64 >= PIECE_BYTES {
                        sink(&piece).map_err(RewriteError::Sink)?;
                        piece.clear();
                    }
                }
            }
            let padding = self.padded(planned) - planned.tensor.bytes();
            piece.resize(piece.len() + usize::try_from(padding).unwrap_or(0), 0);
        }
        sink(&piece).map_err(RewriteError::Sink)
    }

    /// Reads `written` back and compares it with what it should be, byte for byte.
    ///
    /// # Errors
    /// When it differs, as [`io::ErrorKind::InvalidData`], or one of the files can't be read.
    pub fn compare(
        &self,
        source: &File,
        written: &File,
        mut each: impl FnMut(u64) -> io::Result<()>,
    ) -> Result<(), RewriteError<io::Error>> {
        let mut at = 0u64;
        let mut found = Vec::new();
        let differs = || io::Error::new(io::ErrorKind::InvalidData, "it is not what was written");
        self.write(source, |expected| {
            found.resize(expected.len(), 0);
            written.read_exact_at(&mut found, at)?;
            at += expected.len() as u64;
            if found == expected {
                each(expected.len() as u64)
            } else {
                Err(differs())
            }
        })?;
        match written.metadata() {
            Ok(metadata) if metadata.len() == at => Ok(()),
            Ok(_) => Err(RewriteError::Sink(differs())),
            Err(error) => Err(RewriteError::Sink(error)),
        }
    }
}

fn pad(out: &mut Vec<u8>, alignment: u64) {
    let length = (out.len() as u64).next_multiple_of(alignment);
    out.resize(usize::try_from(length).unwrap_or(out.len()), 0);
}
