//! `hob models shrink`: a smaller model made of an installed one.
//!
//! The weights that stay are copied, or stored more coarsely by an engine. The sandboxed engine makes
//! tokens of the corpus with the model as it was, to see which are needed, and with the new one before it
//! counts as installed, so that nothing is installed that was not loaded and did not write the corpus as
//! before.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use hob_models::gguf::{Document, Header, Rewrite, RewriteError};
use hob_models::store::{
    Expected, Installed, Installing, Lineage, OpenModel, Provenance, StoreError,
};
use hob_models::surgery::{self, Budget, SurgeryError, Vocabulary};
use hob_models::{ModelName, Sha256};

use super::Place;
use super::corpus::Corpus;
use super::progress::Meter;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::render::bytes;
use cutting::Cutting;
use quant::Quant;

mod cutting;
mod quant;
mod report;
mod weights;

/// What a corpus must have at least for a vocabulary to be chosen by it.
const CORPUS_BYTES_MIN: u64 = 1 << 10;
/// Less than this leaves out many words that will be said.
const CORPUS_BYTES_GOOD: u64 = 100 << 10;

/// What is to be made of what.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShrinkOptions {
    /// An installed model
    model: String,

    /// How many tokens stay: "auto" (all that the corpus needs, and a quarter at least), a number, or
    /// "keep" for all
    #[arg(long, value_name = "auto|N|keep", default_value = "auto", value_parser = parse_vocab)]
    vocab: Vocab,

    /// How weights are stored: "keep", a type of llama.cpp's, or "embedding=TYPE" for the table of tokens
    /// alone
    #[arg(long, value_name = "TYPE|keep", default_value = "keep", value_parser = quant::parse)]
    #[arg(long_help = quant::LONG_HELP)]
    quant: Quant,

    /// Store weights anew that have fewer than 8 bits already, whatever is lost
    #[arg(long)]
    requantize: bool,

    /// UTF-8 text of the kind that the model is to read and write, some hundred kilobytes or more; not
    /// needed with --vocab keep
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "vocab")]
    #[arg(value_hint = ValueHint::FilePath)]
    corpus: Vec<PathBuf>,

    /// What to call it [default: the model's name with -small]
    #[arg(long, value_name = "NAME")]
    out: Option<ModelName>,
}

/// Which tokens stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vocab {
    Keep,
    Prune(Budget),
}

fn parse_vocab(text: &str) -> Result<Vocab, String> {
    match (text, text.parse()) {
        ("keep", _) => Ok(Vocab::Keep),
        ("auto", _) => Ok(Vocab::Prune(Budget::Auto)),
        (_, Ok(tokens)) if tokens > 0 => Ok(Vocab::Prune(Budget::Tokens(tokens))),
        _ => Err("say auto, keep, or a number of tokens".to_owned()),
    }
}

/// What a smaller model is like.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    vocab: Vocab,
    quant: Quant,
    requantize: bool,
}

/// Makes a smaller model and installs it.
pub(super) fn run(options: ShrinkOptions, place: &mut Place<'_>) -> Result<(), Failure> {
    let source = place.installed_name(&options.model)?;
    let recipe = Recipe {
        vocab: options.vocab,
        quant: options.quant,
        requantize: options.requantize,
    };
    if recipe.vocab == Vocab::Keep && recipe.quant.is_keep() {
        return Err(Failure::usage("nothing is to become smaller")
            .hint("Say what with --vocab or --quant, or leave both out for --vocab auto."));
    }
    if recipe.vocab != Vocab::Keep && options.corpus.is_empty() {
        return Err(Failure::usage("no text is given to choose tokens by")
            .hint("Give --corpus FILE, or say --vocab keep."));
    }
    let out = match options.out {
        Some(name) => name,
        None => ModelName::new(format!("{source}-small")).map_err(|error| {
            Failure::usage(error.to_string()).hint("Give the new model a name with --out.")
        })?,
    };
    super::let_others_go_first();
    let corpus = Corpus::open(&options.corpus)?;
    let mut shop = Shop {
        meter: Meter::new(out.as_str()),
        interrupt: Interrupt::watch()?,
        corpus,
    };
    let made = shop.make(&source, &out, recipe, place);
    shop.meter.finish();
    report::show(&made?, &shop.corpus, place)
}

/// What the work needs from its beginning to its end.
struct Shop {
    meter: Meter,
    interrupt: Interrupt,
    corpus: Corpus,
}

/// A model that was made, beside what it was made of.
struct Made {
    installed: Installed,
    source_bytes: u64,
    tokens: (usize, usize),
    /// Bytes of each type of weights.
    types: [BTreeMap<&'static str, u64>; 2],
    before: Cutting,
    after: Cutting,
}

impl Shop {
    fn make(
        &mut self,
        source: &ModelName,
        out: &ModelName,
        recipe: Recipe,
        place: &Place<'_>,
    ) -> Result<Made, Failure> {
        let manifest = place.store.get(source)?.manifest;
        let mut installing = begin(source, out, manifest.licence.clone(), place)?;
        let open = place.open(source, &mut self.meter)?;
        self.interrupt.check()?;
        let document =
            Document::read(&open.file, open.size_bytes).map_err(|error| StoreError::Gguf {
                name: source.clone(),
                source: error,
            })?;
        let remarks = recipe.quant.check(&document, recipe.requantize)?;
        let vocabulary = match recipe.vocab {
            Vocab::Keep => None,
            Vocab::Prune(budget) => Some((Vocabulary::read(&document)?, budget)),
        };
        for remark in remarks {
            self.meter.say(&remark);
        }
        let all = document.header().vocabulary as usize;
        let (before, corpus) = self.cut("reading the corpus", &open.file, all)?;
        let mut rewrite = Rewrite::of(&document);
        let mut steps = manifest.lineage.map_or(Vec::new(), |lineage| lineage.steps);
        let mut left = all;
        if let Some((vocabulary, budget)) = vocabulary {
            self.enough(&before)?;
            let kept = vocabulary.choose(&before.counts, budget)?;
            self.store_anew(recipe.quant, &open, &document, &installing, &mut rewrite)?;
            surgery::prune_within(&mut rewrite, &document, &vocabulary, &kept)?;
            left = kept.len();
            steps.push(format!("vocabulary pruned from {all} to {left} tokens"));
        } else {
            self.store_anew(recipe.quant, &open, &document, &installing, &mut rewrite)?;
        }
        steps.extend(recipe.quant.steps());
        self.write(&rewrite, &open, &mut installing)?;
        let (header, after, again) = self.check(&rewrite, &open, &installing)?;
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
        installing.descends(lineage(source, &open, steps, corpus, [&before, &after]));
        self.interrupt.check()?;
        Ok(Made {
            installed: installing.finish()?,
            source_bytes: open.size_bytes,
            tokens: (all, left),
            types: [
                document.header().bytes_by_type.clone(),
                header.bytes_by_type,
            ],
            before,
            after,
        })
    }

    /// Whether the corpus is long enough to choose tokens by.
    fn enough(&self, cutting: &Cutting) -> Result<(), Failure> {
        let there = cutting.bytes();
        if there < CORPUS_BYTES_MIN {
            return Err(Failure::new(format!(
                "the corpus has {there} bytes, too few to tell which tokens are needed"
            ))
            .hint("Give text of the kind that the model is for, some hundred kilobytes or more."));
        }
        if there < CORPUS_BYTES_GOOD {
            self.meter.say(&format!(
                "the corpus is short ({}): words that it lacks will be cut into more tokens",
                bytes(there)
            ));
        }
        Ok(())
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

/// Begins to install, first of all, as the name may be taken; it is held until the end.
fn begin(
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

fn lineage(
    source: &ModelName,
    open: &OpenModel,
    steps: Vec<String>,
    corpus: Option<Sha256>,
    [before, after]: [&Cutting; 2],
) -> Lineage {
    Lineage {
        source: source.clone(),
        source_sha256: open.sha256,
        steps,
        corpus_sha256: corpus,
        corpus_bytes: corpus.map(|_| before.bytes()),
        corpus_tokens_before: corpus.map(|_| before.tokens()),
        corpus_tokens: corpus.map(|_| after.tokens()),
    }
}

impl From<SurgeryError> for Failure {
    fn from(error: SurgeryError) -> Self {
        super::with_hint(Self::new(error.to_string()), error.hint())
    }
}
