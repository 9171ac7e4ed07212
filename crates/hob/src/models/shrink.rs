//! `hob models shrink`: a smaller model made of an installed one.
//!
//! The weights that stay are copied; nothing is computed. The sandboxed engine makes tokens of the corpus
//! with the model as it was, to see which are needed, and with the new one before it counts as installed,
//! so that nothing is installed that was not loaded and did not write the corpus as before.

use std::fs::File;
use std::path::PathBuf;

use hob_ipc::tokens::TEXT_BYTES_MAX;
use hob_models::gguf::{Document, Rewrite, RewriteError};
use hob_models::store::{
    Expected, Installed, Installing, Lineage, OpenModel, Provenance, StoreError,
};
use hob_models::surgery::{self, Budget, SurgeryError, Vocabulary};
use hob_models::{ModelName, Sha256};

use super::Place;
use super::corpus::Corpus;
use super::progress::Meter;
use super::samples::SAMPLES;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

mod report;

/// `auto`, or a number of tokens.
pub(super) fn parse_vocab(text: &str) -> Result<Budget, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Budget::Auto),
        (_, Ok(tokens)) if tokens > 0 => Ok(Budget::Tokens(tokens)),
        _ => Err("say auto, or a number of tokens".to_owned()),
    }
}

/// Makes a smaller model and installs it.
pub(super) fn run(
    model: &str,
    vocab: Budget,
    corpus: &[PathBuf],
    out: Option<ModelName>,
    place: &mut Place<'_>,
) -> Result<(), Failure> {
    let source = place.installed_name(model)?;
    let out = match out {
        Some(name) => name,
        None => ModelName::new(format!("{source}-small")).map_err(|error| {
            Failure::usage(error.to_string()).hint("Give the new model a name with --out.")
        })?,
    };
    super::let_others_go_first();
    let corpus = Corpus::open(corpus)?;
    let mut shop = Shop {
        meter: Meter::new(out.as_str()),
        interrupt: Interrupt::watch()?,
        corpus,
    };
    let made = shop.make(&source, &out, vocab, place);
    shop.meter.finish();
    report::show(&made?, &shop.corpus, place)
}

/// What the work needs from its beginning to its end.
struct Shop {
    meter: Meter,
    interrupt: Interrupt,
    corpus: Corpus,
}

/// How a vocabulary cuts texts.
#[derive(Clone, Debug, Default)]
struct Cutting {
    /// How often each token came up in the corpus.
    counts: Vec<u64>,
    /// Bytes and tokens of each of the corpus's files.
    files: Vec<(u64, u64)>,
    /// Tokens of each sample.
    samples: Vec<u64>,
    /// Pieces of text that their tokens spell again.
    exact: u64,
}

/// A model that was made, beside what it was made of.
struct Made {
    installed: Installed,
    source_bytes: u64,
    tokens: (usize, usize),
    before: Cutting,
    after: Cutting,
}

impl Shop {
    fn make(
        &mut self,
        source: &ModelName,
        out: &ModelName,
        vocab: Budget,
        place: &Place<'_>,
    ) -> Result<Made, Failure> {
        let store = &place.store;
        let manifest = store.get(source)?.manifest;
        let provenance = Provenance {
            origin: format!("made of {source} by hob models shrink"),
            licence: manifest.licence.clone(),
        };
        // First of all, as the name may be taken. It holds the name until the end.
        let begun = store.install(out, provenance, Expected::default());
        let mut installing = begun.map_err(|error| match error {
            StoreError::AlreadyInstalled { .. } | StoreError::Foreign(_) => {
                Failure::from(error).hint("Give the new model another name with --out.")
            }
            other => other.into(),
        })?;
        installing.restart()?;
        let open = place.open(source, &mut self.meter)?;
        self.interrupt.check()?;
        let document =
            Document::read(&open.file, open.size_bytes).map_err(|error| StoreError::Gguf {
                name: source.clone(),
                source: error,
            })?;
        let vocabulary = Vocabulary::read(&document)?;
        let (before, corpus) = self.cut("reading the corpus", &open.file, vocabulary.len())?;
        let kept = vocabulary.choose(&before.counts, vocab)?;
        let rewrite = surgery::prune(&document, &vocabulary, &kept)?;
        self.write(&rewrite, &open, &mut installing)?;
        let (after, again) = self.check(&rewrite, &open, &installing, kept.len())?;
        if again != corpus {
            return Err(Failure::new("the corpus changed while it was read"));
        }
        if after.exact < before.exact {
            return Err(Failure::new(
                "the new model does not write the corpus as the old one did, and was thrown away",
            ));
        }
        if !open.witness.holds() {
            return Err(StoreError::Changed {
                name: source.clone(),
            }
            .into());
        }
        let mut steps = manifest.lineage.map_or(Vec::new(), |lineage| lineage.steps);
        steps.push(format!(
            "vocabulary pruned from {} to {} tokens",
            vocabulary.len(),
            kept.len()
        ));
        installing.descends(Lineage {
            source: source.clone(),
            source_sha256: open.sha256,
            steps,
            corpus_sha256: corpus,
            corpus_bytes: before.bytes(),
            corpus_tokens_before: before.tokens(),
            corpus_tokens: after.tokens(),
        });
        self.interrupt.check()?;
        Ok(Made {
            installed: installing.finish()?,
            source_bytes: open.size_bytes,
            tokens: (vocabulary.len(), kept.len()),
            before,
            after,
        })
    }

    /// Has a model make tokens of the corpus, and of the samples.
    fn cut(
        &mut self,
        what: &'static str,
        model: &File,
        vocabulary: usize,
    ) -> Result<(Cutting, Sha256), Failure> {
        self.meter.stage(what, self.corpus.bytes());
        let tokens = u32::try_from(vocabulary).unwrap_or(u32::MAX);
        let mut engine = Engine::load(model, tokens, &self.interrupt)?;
        let mut cutting = Cutting {
            counts: vec![0; vocabulary],
            files: vec![(0, 0); self.corpus.files().len()],
            ..Cutting::default()
        };
        let (meter, interrupt) = (&mut self.meter, &self.interrupt);
        let digest = self.corpus.read(TEXT_BYTES_MAX, |file, text| {
            interrupt.check()?;
            let found = engine.tokenize(text)?;
            for token in &found.tokens {
                cutting.counts[*token as usize] += 1;
            }
            let (bytes, tokens) = &mut cutting.files[file];
            *bytes += text.len() as u64;
            *tokens += found.tokens.len() as u64;
            cutting.exact += u64::from(found.exact);
            meter.advance(text.len() as u64);
            Ok(())
        })?;
        for (_, text) in SAMPLES {
            let found = engine.tokenize(text)?;
            cutting.exact += u64::from(found.exact);
            cutting.samples.push(found.tokens.len() as u64);
        }
        Ok((cutting, digest))
    }

    /// Writes the new model beside its place in the store.
    fn write(
        &mut self,
        rewrite: &Rewrite,
        open: &OpenModel,
        installing: &mut Installing,
    ) -> Result<(), Failure> {
        let size = rewrite.size();
        installing.announce(Some(size), 0)?;
        self.meter.stage("writing", size);
        let (meter, interrupt) = (&mut self.meter, &self.interrupt);
        let written = rewrite.write(&open.file, |bytes| -> Result<(), Failure> {
            interrupt.check()?;
            installing.add(bytes)?;
            meter.advance(bytes.len() as u64);
            Ok(())
        });
        written.map_err(|error| match error {
            RewriteError::Sink(failure) => failure,
            RewriteError::Source(error) => {
                Failure::io(&format!("{} cannot be read", open.name), &error)
            }
        })
    }

    /// Reads the new file back, and has the engine load it and make tokens of the corpus.
    fn check(
        &mut self,
        rewrite: &Rewrite,
        open: &OpenModel,
        installing: &Installing,
        tokens: usize,
    ) -> Result<(Cutting, Sha256), Failure> {
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
        self.cut("trying the new model", &written, tokens)
    }
}

impl Cutting {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|(bytes, _)| bytes).sum()
    }

    fn tokens(&self) -> u64 {
        self.files.iter().map(|(_, tokens)| tokens).sum()
    }
}

impl From<SurgeryError> for Failure {
    fn from(error: SurgeryError) -> Self {
        super::with_hint(Self::new(error.to_string()), error.hint())
    }
}
