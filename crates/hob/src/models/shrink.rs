//! `hob models shrink`: a smaller model made of an installed one.
//!
//! The weights that stay are copied, or stored more coarsely by an engine. The sandboxed engine makes
//! tokens of the corpus with the model as it was, to see which are needed, and with the new one before it
//! counts as installed, so that nothing is installed that was not loaded and did not write the corpus as
//! before.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use hob_models::ModelName;
use hob_models::gguf::{Descent, Document, Rewrite};
use hob_models::store::{Installed, Installing, Lineage, OpenModel, StoreError};
use hob_models::surgery::{self, Layers, SurgeryError, Vocabulary};

use super::Place;
use super::corpus::Corpus;
use super::progress::Meter;
use crate::engine::{Engine, EngineError, Importance};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::kept::Kept;
use crate::render::bytes;
use cutting::Cutting;
use depth::Depth;
use excerpts::Excerpt;
use importance::Weighing;
use making::{begin, write_out, writes_the_same};
use quant::Quant;
use recipe::{Recipe, Vocab};
use search::{Limits, Size};
use trial::Trials;
use weights::Stored;
use yardstick::Yardstick;

mod apart;
mod candidates;
mod cutting;
mod depth;
mod descent;
mod excerpts;
mod expected;
mod forecast;
mod importance;
mod layers;
mod making;
mod matrices;
mod mixes;
mod quant;
mod recipe;
mod report;
mod search;
mod trial;
mod weights;
mod yardstick;

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
    #[arg(long, value_name = "auto|N|keep", default_value = "auto", value_parser = recipe::parse_vocab)]
    vocab: Vocab,

    /// How weights are stored: "keep", a type of llama.cpp's, "embedding=TYPE" for the table of tokens alone,
    /// or as "NAME=TYPE" the layers' matrices of a name
    #[arg(long, value_name = "TYPE|keep", value_parser = quant::parse)]
    #[arg(long_help = quant::LONG_HELP)]
    quant: Option<Quant>,

    /// Try vocabularies, types of their table and of the layers' matrices, and make the one that loses least
    /// within this size, such as 80MB or 50%
    #[arg(long, value_name = "SIZE", value_parser = search::parse_size)]
    max_size: Option<Size>,

    /// The same, and make the smallest that loses no more than this on the last tenth of each file of the
    /// corpus, in bits per byte
    #[arg(long, value_name = "PERCENT", value_parser = search::parse_loss)]
    #[arg(allow_negative_numbers = true)]
    max_loss: Option<f64>,

    /// Whether weights that matter more for the corpus are rounded less: "auto" or "none"
    #[arg(
        long,
        value_name = "auto|none",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    #[arg(long_help = importance::LONG_HELP)]
    importance: Weighing,

    /// Which layers are left out: "none", a number for those that cost least, their names, or, with
    /// --max-size or --max-loss, "auto" for as many as cost less than fewer tokens
    #[arg(long, value_name = "auto|N|L4,L25|none", default_value = "none", value_parser = depth::parse)]
    #[arg(allow_negative_numbers = true, long_help = depth::LONG_HELP)]
    drop_layers: Depth,

    /// Store weights anew that have fewer than 8 bits already, whatever is lost; or, within limits, try that,
    /// too
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

/// What is made; the same model by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    /// The tokens that stay; `None` for all.
    kept: Option<Vec<surgery::Token>>,
    quant: Quant,
    /// The layers that are left out.
    out: Vec<u32>,
}

/// What a model is made of, and where.
#[derive(Clone, Copy)]
struct Source<'s> {
    open: &'s OpenModel,
    document: &'s Document,
    /// Of a model whose tokens may go.
    vocabulary: Option<&'s Vocabulary<'s>>,
    /// Of a model whose layers may go.
    layers: Option<&'s Layers<'s>>,
    installing: &'s Installing,
    /// What a model that is made of it says of that.
    descent: &'s Descent,
}

impl Source<'_> {
    /// Its tokens.
    fn all(&self) -> usize {
        self.document.header().vocabulary as usize
    }

    /// The same model, as one that is made of it.
    fn copy(&self) -> Rewrite {
        let mut rewrite = Rewrite::of(self.document);
        self.descent.write(&mut rewrite);
        rewrite
    }

    fn prune(
        &self,
        rewrite: &mut Rewrite,
        kept: Option<&[surgery::Token]>,
    ) -> Result<(), SurgeryError> {
        match (self.vocabulary, kept) {
            (Some(vocabulary), Some(kept)) => {
                surgery::prune_within(rewrite, self.document, vocabulary, kept)
            }
            _ => Ok(()),
        }
    }

    fn leave_out(&self, rewrite: &mut Rewrite, out: &[u32]) -> Result<(), SurgeryError> {
        match self.layers {
            Some(layers) => layers.leave_out(rewrite, out),
            None => Ok(()),
        }
    }
}

impl Choice {
    /// Everything stays, and is stored so.
    fn stored(quant: Quant) -> Self {
        Self {
            quant,
            ..Self::default()
        }
    }

    /// What is done with a model of so many tokens and layers, for the lineage of what is made.
    fn steps(&self, all: usize, layers: u32) -> Vec<String> {
        let pruned = self.kept.iter();
        let pruned =
            pruned.map(|kept| format!("vocabulary pruned from {all} to {} tokens", kept.len()));
        let shorter = (!self.out.is_empty()).then(|| {
            let out = depth::named(&self.out);
            format!("of {layers} layers, counted from 0, left out: {out}")
        });
        pruned.chain(self.quant.steps()).chain(shorter).collect()
    }
}

/// Makes a smaller model and installs it.
pub(super) fn run(options: ShrinkOptions, place: &mut Place<'_>) -> Result<(), Failure> {
    let source = place.installed_name(&options.model)?;
    let limits = (options.max_size, options.max_loss);
    let tries_types = options.quant.is_none();
    let recipe = Recipe {
        vocab: options.vocab,
        quant: options.quant.unwrap_or_default(),
        requantize: options.requantize,
        weighing: options.importance,
        depth: options.drop_layers,
        limits: (limits != (None, None)).then_some(limits),
        tries_types,
    };
    let corpus = !options.corpus.is_empty();
    recipe.check(corpus)?;
    let out = match options.out {
        Some(name) => name,
        None => ModelName::new(format!("{source}-small")).map_err(|error| {
            Failure::usage(error.to_string()).hint("Give the new model a name with --out.")
        })?,
    };
    super::let_others_go_first();
    let mut shop = Shop {
        meter: Meter::new(out.as_str()),
        interrupt: Interrupt::watch()?,
        corpus: Corpus::open(&options.corpus)?,
        holds_out: recipe.measures(corpus),
        held_out: Vec::new(),
        excerpts: Vec::new(),
        importance: None,
        kept: None,
        stored: Stored::new(),
    };
    let made = shop.make(&source, &out, &recipe, place);
    shop.meter.finish();
    report::show(&made?, &shop.corpus, place)
}

/// What the work needs from its beginning to its end.
struct Shop {
    meter: Meter,
    interrupt: Interrupt,
    corpus: Corpus,
    /// Whether the last tenth of each file is for measuring, and chooses no token.
    holds_out: bool,
    /// That text.
    held_out: Vec<String>,
    /// Parts of the rest.
    excerpts: Vec<Excerpt>,
    /// Which weights matter, once that is known.
    importance: Option<Importance>,
    /// What was measured before, where that is looked for.
    kept: Option<Kept<Vec<f64>>>,
    /// What was stored in other types, for whatever is tried next.
    stored: Stored,
}

/// A model that was made, beside what it was made of.
struct Made {
    installed: Installed,
    source_bytes: u64,
    tokens: (usize, usize),
    layers: (u32, u32),
    /// Which of the former are gone.
    out: Vec<u32>,
    /// Bytes of each type of weights.
    types: [BTreeMap<&'static str, u64>; 2],
    before: Cutting,
    after: Cutting,
    /// What was tried, if anything was.
    trials: Option<Trials>,
}

impl Shop {
    /// An engine with a model of so many tokens.
    fn engine(&self, model: &File, tokens: usize) -> Result<Engine, EngineError> {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        Engine::load(model, tokens, &self.interrupt)
    }

    fn make(
        &mut self,
        source: &ModelName,
        out: &ModelName,
        recipe: &Recipe,
        place: &Place<'_>,
    ) -> Result<Made, Failure> {
        let manifest = place.store.get(source)?.manifest;
        let mut installing = begin(source, out, manifest.licence.clone(), place)?;
        let open = place.open(source, &mut self.meter)?;
        self.interrupt.check()?;
        let document = read(&open)?;
        for remark in recipe.quant.check(&document, recipe.requantize)? {
            self.meter.say(&remark);
        }
        let vocabulary = recipe.vocab.of(&document)?;
        let layers = recipe.depth.layers(&document, |why| self.meter.say(why))?;
        let told = descent::of(&open, manifest.lineage.as_ref());
        let made_of = Source {
            open: &open,
            document: &document,
            vocabulary: vocabulary.as_ref(),
            layers: layers.as_ref(),
            installing: &installing,
            descent: &told,
        };
        let limits = recipe.limits(&made_of)?;
        let all = document.header().vocabulary as usize;
        let (before, corpus) = self.cut("reading the corpus", &open.file, all)?;
        if let Some(corpus) = corpus.filter(|_| self.holds_out) {
            self.remember(open.sha256, corpus);
        }
        self.importance = self.weigh(&made_of, recipe)?;
        let (choice, trials) = self.choose(&made_of, recipe, limits, &before)?;
        let rewrite = self.rewrite(&made_of, &choice)?;
        if let Some(most) = limits.and_then(|limits| limits.bytes) {
            search::keeps_to(most, rewrite.size())?;
        }
        // What it has of these it holds itself.
        self.stored.clear();
        self.write(&rewrite, &open, &mut installing)?;
        let (header, after, again) = self.check(&rewrite, &open, &installing)?;
        writes_the_same([&before, &after], again == corpus)?;
        if !open.witness.holds() {
            return Err(StoreError::Changed {
                name: source.clone(),
            }
            .into());
        }
        installing.descends(Lineage {
            loss: trials.as_ref().map(|trials| trials.loss),
            ..descent::lineage(
                &told,
                manifest.lineage,
                self.steps(&choice, all, document.header().n_layer),
                corpus,
                [&before, &after],
            )
        });
        self.interrupt.check()?;
        Ok(Made {
            installed: installing.finish()?,
            source_bytes: open.size_bytes,
            tokens: (all, choice.kept.map_or(all, |kept| kept.len())),
            layers: (document.header().n_layer, header.n_layer),
            out: choice.out,
            types: [
                document.header().bytes_by_type.clone(),
                header.bytes_by_type,
            ],
            before,
            after,
            trials,
        })
    }

    /// What is made: what was asked for, or what was found within the limits.
    fn choose(
        &mut self,
        source: &Source<'_>,
        recipe: &Recipe,
        limits: Option<Limits>,
        before: &Cutting,
    ) -> Result<(Choice, Option<Trials>), Failure> {
        if source.vocabulary.is_some() {
            self.enough(before)?;
        }
        if self.holds_out {
            // What is too short to measure on is refused before the model reads any of it.
            Yardstick::of(&self.held_out)?;
        }
        let demand = self.demand(source, before)?;
        if let Some(limits) = limits {
            let (choice, trials) = self.search(source, recipe, &demand, limits)?;
            return Ok((choice, Some(trials)));
        }
        let kept = match (source.vocabulary, recipe.vocab) {
            (Some(vocabulary), Vocab::Prune(budget)) => Some(vocabulary.choose(&demand, budget)?),
            _ => None,
        };
        let out = match &recipe.depth {
            Depth::These(layers) => layers.clone(),
            _ => Vec::new(),
        };
        let quant = recipe.quant.clone().settled(source.document);
        let choice = Choice { kept, quant, out };
        if self.holds_out {
            let (choice, trials) = self.leave_out(source, &recipe.depth, choice)?;
            return Ok((choice, Some(trials)));
        }
        Ok((choice, None))
    }

    /// The model of a choice, with weights stored anew where that is a part of it.
    fn rewrite(&mut self, source: &Source<'_>, choice: &Choice) -> Result<Rewrite, Failure> {
        let mut rewrite = source.copy();
        self.store_anew(&choice.quant, source, &mut rewrite)?;
        source.prune(&mut rewrite, choice.kept.as_deref())?;
        source.leave_out(&mut rewrite, &choice.out)?;
        Ok(rewrite)
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
}

fn read(open: &OpenModel) -> Result<Document, StoreError> {
    Document::read(&open.file, open.size_bytes).map_err(|error| StoreError::Gguf {
        name: open.name.clone(),
        source: error,
    })
}

impl From<SurgeryError> for Failure {
    fn from(error: SurgeryError) -> Self {
        super::with_hint(Self::new(error.to_string()), error.hint())
    }
}
