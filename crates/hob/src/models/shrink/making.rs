//! How the new model gets into the store: written, read back, tried.

use hob_models::gguf::{Header, Rewrite, RewriteError};
use hob_models::store::{Expected, Installing, OpenModel, Provenance, StoreError};
use hob_models::{ModelName, Sha256};

use super::Shop;
use super::cutting::Cutting;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::models::Place;

impl Shop {
    /// Writes the new model beside its place in the store.
    pub(super) fn write(
        &mut self,
        rewrite: &Rewrite,
        open: &OpenModel,
        installing: &mut Installing,
    ) -> Result<(), Failure> {
        let size = rewrite.size();
        installing.announce(Some(size), 0)?;
        self.meter.stage("writing", size);
        let (meter, interrupt) = (&mut self.meter, &self.interrupt);
        write_out(rewrite, open, interrupt, |bytes| {
            installing.add(bytes)?;
            meter.advance(bytes.len() as u64);
            Ok(())
        })
    }

    /// Reads the new file back, and has the engine load it and make tokens of the corpus.
    pub(super) fn check(
        &mut self,
        rewrite: &Rewrite,
        open: &OpenModel,
        installing: &Installing,
    ) -> Result<(Header, Cutting, Option<Sha256>), Failure> {
        let written = installing.read_back()?;
        self.meter.stage("reading back", rewrite.size());
        let (meter, interrupt) = (&mut self.meter, &self.interrupt);
        let same = rewrite.compare(&open.file, &written, |bytes| {
            meter.advance(bytes);
            interrupt.check().map_err(std::io::Error::other)
        });
        self.interrupt.check()?;
        same.map_err(|error| {
            Failure::new(format!("the new model was not written well: {error}"))
                .hint("The disk may be failing.")
        })?;
        let header = Header::read(&written, rewrite.size())
            .map_err(|error| Failure::new(format!("the new model is none: {error}")))?;
        let tokens = header.vocabulary as usize;
        let (cutting, digest) = self.cut("trying the new model", &written, tokens)?;
        Ok((header, cutting, digest))
    }
}

/// Hands all bytes of a model to `put`, piece by piece, until Ctrl-C.
pub(super) fn write_out(
    rewrite: &Rewrite,
    open: &OpenModel,
    interrupt: &Interrupt,
    mut put: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let written = rewrite.write(&open.file, |bytes| {
        interrupt.check()?;
        put(bytes)
    });
    written.map_err(|error| match error {
        RewriteError::Sink(failure) => failure,
        RewriteError::Source(error) => {
            Failure::io(&format!("{} cannot be read", open.name), &error)
        }
    })
}

/// Begins to install, first of all, as the name may be taken; it is held until the end.
pub(super) fn begin(
    source: &ModelName,
    out: &ModelName,
    licence: Option<String>,
    place: &Place<'_>,
) -> Result<Installing, Failure> {
    let provenance = Provenance {
        origin: format!("made of {source} by hob models shrink"),
        licence,
    };
    let begun = place.store.install(out, provenance, Expected::default());
    let mut installing = begun.map_err(|error| match error {
        StoreError::AlreadyInstalled { .. } | StoreError::Foreign(_) => {
            Failure::from(error).hint("Give the new model another name with --out.")
        }
        other => other.into(),
    })?;
    installing.restart()?;
    Ok(installing)
}

/// Whether the new model writes the corpus, which must be the same still, as the old one did.
pub(super) fn writes_the_same(
    [before, after]: [&Cutting; 2],
    same_corpus: bool,
) -> Result<(), Failure> {
    if !same_corpus {
        return Err(Failure::new("the corpus changed while it was read"));
    }
    if after.exact < before.exact {
        return Err(Failure::new(
            "the new model does not write the corpus as the old one did, and was thrown away",
        ));
    }
    Ok(())
}
