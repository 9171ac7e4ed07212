//! Weights stored more coarsely, by llama.cpp in an engine of its own.
//!
//! Of what it writes, only the weights are taken; what the new file says of itself is hob's. A table of
//! tokens, and matrices that have a type of their own, are handed to it in a file without the other weights.
//! Each row is stored by itself, so that rows can be left out afterwards as well as before, and what was
//! stored once is used again by whatever is tried next.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use hob_ipc::quantize::Scheme;
use hob_models::gguf::{Document, Rewrite, Scalar, Tensor, Value};
use hob_models::store::{Installing, StoreError};

use super::matrices::{self, Matrices};
use super::quant::{self, Quant};
use super::{Shop, Source, write_out};
use crate::engine::{Engine, EngineError, Order};
use crate::failure::Failure;

/// The file type that a header tells.
const FILE_TYPE: &str = "general.file_type";
/// `GGML_QNT_VERSION` of ggml.h: the format of blocks.
const QUANTIZATION_VERSION: (&str, u32) = ("general.quantization_version", 2);

/// What a stream of libstdc++ says when a write fails (`ios_base::failure`).
const WRITE_FAILED: &str = "iostream error";

/// Weights that were stored anew, by what they are and as what they are stored.
pub(super) type Stored = BTreeMap<(Part, Scheme), Anew>;

/// A part of a model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The tables with a row for each token.
    Tables,
    /// The layers' matrices that are called so.
    Role(&'static str),
}

impl Part {
    /// Whether a tensor is one of these and to be stored so: what is coarser already stays.
    fn has(self, tensor: &Tensor, scheme: Scheme) -> bool {
        let is_one = match self {
            Self::Tables => quant::is_table(tensor),
            Self::Role(name) => matrices::role(tensor) == Some(name),
        };
        is_one && quant::bytes_as(scheme, tensor) < tensor.bytes()
    }
}

/// Some of a part that gets a type of its own.
struct Share {
    part: Part,
    scheme: Scheme,
    /// Which of the layers' matrices; `None` for all of the part.
    matrices: Option<Matrices>,
}

impl Share {
    fn has(&self, tensor: &Tensor) -> bool {
        self.matrices.is_none_or(|matrices| matrices.has(tensor))
    }
}

/// What has a type of its own.
fn shares(quant: &Quant) -> impl Iterator<Item = Share> {
    let mix = quant.mix.iter().map(|(matrices, scheme)| Share {
        part: Part::Role(matrices.role),
        scheme,
        matrices: Some(matrices),
    });
    let tables = quant.embedding.map(|scheme| Share {
        part: Part::Tables,
        scheme,
        matrices: None,
    });
    mix.chain(tables)
}

/// A model with its weights stored anew, in a file without a name.
#[derive(Clone)]
pub(super) struct Anew {
    document: Document,
    file: Arc<File>,
}

impl Shop {
    /// Has weights stored anew, and puts them into `rewrite` in place of the model's own.
    pub(super) fn store_anew(
        &mut self,
        quant: &Quant,
        source: &Source<'_>,
        rewrite: &mut Rewrite,
    ) -> Result<(), Failure> {
        let Source { open, document, .. } = *source;
        if let Some(scheme) = quant.weights {
            let anew = self.quantize(scheme, false, (&open.file, document), source)?;
            for tensor in document.tensors() {
                anew.put(tensor.name(), rewrite)?;
            }
            rewrite.set(FILE_TYPE, Value::Scalar(Scalar::from(scheme.file_type())));
        }
        for share in shares(quant) {
            let anew = self.part_anew(share.part, share.scheme, source)?;
            let tensors = anew.document.tensors().iter();
            for tensor in tensors.filter(|tensor| share.has(tensor)) {
                anew.put(tensor.name(), rewrite)?;
            }
        }
        if !quant.is_keep() {
            let (key, version) = QUANTIZATION_VERSION;
            rewrite.set(key, Value::Scalar(Scalar::from(version)));
        }
        Ok(())
    }

    /// Has parts of the weights stored, so that a model that is tried with them is soon written.
    pub(super) fn prepare(&mut self, quant: &Quant, source: &Source<'_>) -> Result<(), Failure> {
        for share in shares(quant) {
            self.part_anew(share.part, share.scheme, source)?;
        }
        Ok(())
    }

    /// A part of the weights in some type, which takes no time where it was stored so before.
    fn part_anew(
        &mut self,
        part: Part,
        scheme: Scheme,
        source: &Source<'_>,
    ) -> Result<Anew, Failure> {
        if let Some(known) = self.stored.get(&(part, scheme)) {
            return Ok(known.clone());
        }
        let alone = self.alone(part, scheme, source)?;
        let anew = self.quantize(scheme, true, (&alone.file, &alone.document), source)?;
        self.stored.insert((part, scheme), anew.clone());
        Ok(anew)
    }

    /// A file without a name for so many bytes. Where there is no room, what was kept for later goes first.
    pub(super) fn unnamed(&mut self, source: &Source<'_>, bytes: u64) -> Result<File, StoreError> {
        match source.installing.unnamed(bytes) {
            Err(StoreError::NoSpace { .. }) if !self.stored.is_empty() => {
                self.stored.clear();
                source.installing.unnamed(bytes)
            }
            other => other,
        }
    }

    /// A model that has nothing but this part of the weights.
    fn alone(&mut self, part: Part, scheme: Scheme, source: &Source<'_>) -> Result<Anew, Failure> {
        let mut rewrite = Rewrite::of(source.document);
        rewrite.keep_tensors(|tensor| part.has(tensor, scheme));
        let mut file = self.unnamed(source, rewrite.size())?;
        write_out(&rewrite, source.open, &self.interrupt, |bytes| {
            file.write_all(bytes)
                .map_err(|error| Failure::io("the weights cannot be written", &error))
        })?;
        Anew::read(file)
    }

    fn quantize(
        &mut self,
        scheme: Scheme,
        uniform: bool,
        (from, document): (&File, &Document),
        source: &Source<'_>,
    ) -> Result<Anew, Failure> {
        let source_bytes = from.metadata().map_or(0, |metadata| metadata.len());
        let head = source_bytes.saturating_sub(document.header().weights_bytes);
        let (expected, bytes_max) = quant::sizes(document, scheme, head);
        let target = self.unnamed(source, expected)?;
        let order = Order {
            scheme,
            uniform,
            bytes_max,
            importance: self.importance.as_ref(),
        };
        self.meter.stage("storing weights anew", expected);
        let (meter, mut seen) = (&mut self.meter, 0);
        let done = Engine::quantize(from, &target, order, &self.interrupt, |bytes| {
            let bytes = bytes.min(expected);
            meter.advance(bytes.saturating_sub(seen));
            seen = bytes.max(seen);
        });
        done.map_err(|error| unwritten(error, source.installing, expected - seen))?;
        Anew::read(target)
    }
}

/// Why weights were not stored, as llama.cpp says no more of a write that failed than that.
fn unwritten(error: EngineError, installing: &Installing, missing: u64) -> Failure {
    match error {
        EngineError::Failed(words) if words.contains(WRITE_FAILED) => {
            match installing.announce(Some(missing), 0) {
                Err(full) => full.into(),
                Ok(()) => Failure::new("the new weights cannot be written")
                    .hint("Files may not be so long here (`ulimit -f`), or the disk was full."),
            }
        }
        other => other.into(),
    }
}

impl Anew {
    fn read(file: File) -> Result<Self, Failure> {
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut document = Document::read(&file, size)
            .map_err(|error| Failure::new(format!("what the engine wrote is no model: {error}")))?;
        // A vocabulary is large, and of many parts that are kept the same.
        document.forget_metadata();
        Ok(Self {
            document,
            file: Arc::new(file),
        })
    }

    fn put(&self, name: &str, rewrite: &mut Rewrite) -> Result<(), Failure> {
        if rewrite.replace(name, &self.document, &self.file) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "what the engine wrote has no `{name}` of the same size"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use hob_models::ModelName;
    use hob_models::store::{Expected, Provenance, Store};

    use super::*;

    #[test]
    fn a_write_that_failed_is_told_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let provenance = Provenance {
            origin: "a test".to_owned(),
            licence: None,
        };
        let store = Store::open(folder.path().to_owned());
        let name = ModelName::new("x").unwrap();
        let installing = store.install(&name, provenance, Expected::default());
        let installing = installing.unwrap();
        let failed = || EngineError::Failed(format!("basic_ios::clear: {WRITE_FAILED}"));
        let full = unwritten(failed(), &installing, 1 << 60);
        assert!(full.message.contains("free"), "{full}");
        let short = unwritten(failed(), &installing, 1);
        assert!(short.message.contains("cannot be written"), "{short}");
        let other = EngineError::Failed("imatrix".to_owned());
        let other = unwritten(other, &installing, 1 << 60);
        assert!(other.message.contains("imatrix"), "{other}");
    }
}
