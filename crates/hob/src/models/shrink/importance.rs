//! Which columns of a model's weights matter for the corpus, so that coarse types round these least.
//!
//! A sample of the corpus is read by the model as it was. Of what is held out to measure a loss on, nothing
//! is read.

use clap::ValueEnum;
use hob_ipc::importance::{MATRICES_MAX, Matrix, NUMBERS_MAX, numbers};
use hob_ipc::quantize::Scheme;
use hob_models::gguf::{Document, Tensor};

use super::quant::{self, Quant};
use super::{Choice, Recipe, Shop, Source};
use crate::engine::{Engine, Importance};
use crate::failure::Failure;
use crate::render::bytes;

/// Of less text, too little would be known.
const SAMPLE_BYTES_MIN: u64 = 8 << 10;
/// Tokens that are read at once, as llama.cpp's tool has it.
const WINDOW: u32 = 512;

/// Whether it is looked at what weights matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weighing {
    /// Where there is a corpus, and a type that can make use of it
    #[default]
    Auto,
    /// Never
    None,
}

/// For `--help`.
pub(super) const LONG_HELP: &str = "Whether weights that matter more for the corpus are rounded less, as far \
    as a type allows: \"auto\" where there is a corpus, or \"none\". The model reads up to 32 KiB of the \
    corpus for that, which takes as long as prompts of some 8,000 tokens. Q8_0 makes no use of it";

impl Shop {
    /// Reads a sample of the corpus for what `source` multiplies its matrices with, if weights are to be
    /// stored in types that make use of that.
    pub(super) fn weigh(
        &mut self,
        source: &Source<'_>,
        recipe: &Recipe,
    ) -> Result<Option<Importance>, Failure> {
        let of_use = if recipe.limits.is_some() && recipe.tries_types {
            let tables = recipe.types(source).into_iter().flatten();
            let groups = recipe.groups(source).into_iter();
            let matrices = groups.filter_map(|group| group.coarsest());
            tables.chain(matrices).any(uses)
        } else {
            makes_use(&recipe.quant)
        };
        if !of_use || recipe.weighing == Weighing::None || self.corpus.files().is_empty() {
            return Ok(None);
        }
        let text: String = self.excerpts.iter().map(|e| e.text.as_str()).collect();
        if (text.len() as u64) < SAMPLE_BYTES_MIN {
            self.meter.say(&format!(
                "excerpts of the corpus are too short ({}) to tell which weights matter: all are rounded alike",
                bytes(text.len() as u64)
            ));
            return Ok(None);
        }
        let matrices = matrices(source.document);
        let told = numbers(&matrices);
        if matrices.len() > MATRICES_MAX || told > NUMBERS_MAX {
            self.meter.say(&format!(
                "the model has too many columns ({told}) to tell which matter: all weights are rounded alike"
            ));
            return Ok(None);
        }
        let window = source.document.header().n_ctx_train.min(WINDOW);
        self.meter.share("finding which weights matter", 1);
        let (meter, mut begun) = (&mut self.meter, false);
        let open = &source.open.file;
        let found = Engine::observe(open, &text, window, matrices, &self.interrupt, |seen| {
            if !begun {
                meter.share("finding which weights matter", u64::from(seen.of));
                begun = true;
            }
            meter.advance(1);
        });
        found.map(Some).map_err(|error| {
            Failure::from(error).hint("--importance none rounds all weights alike.")
        })
    }

    /// What is done by a choice, for a model's lineage.
    pub(super) fn steps(&self, choice: &Choice, all: usize, layers: u32) -> Vec<String> {
        let known = self
            .importance
            .as_ref()
            .filter(|_| makes_use(&choice.quant));
        let weighed = known.map(|known| {
            let tokens = known.tokens();
            format!("weights rounded by what matters for {tokens} tokens of the corpus")
        });
        choice
            .steps(all, layers)
            .into_iter()
            .chain(weighed)
            .collect()
    }
}

fn makes_use(quant: &Quant) -> bool {
    quant.schemes().any(uses)
}

/// Whether a scheme rounds by what matters (`ggml_quantize_chunk` of `ggml.c`).
fn uses(scheme: Scheme) -> bool {
    scheme != Scheme::Q8_0
}

/// All that may be stored anew.
fn matrices(document: &Document) -> Vec<Matrix> {
    let stored = document.tensors().iter().filter(|t| quant::is_matrix(t));
    stored.filter_map(matrix).collect()
}

fn matrix(tensor: &Tensor) -> Option<Matrix> {
    let length = |place: usize| tensor.dimensions().get(place).copied().unwrap_or(1);
    let columns = u32::try_from(length(0)).ok()?;
    let experts = u32::try_from(length(2)).ok()?;
    // llama.cpp looks for as many numbers as these make, and finds none for a fourth dimension.
    (length(3) == 1).then(|| Matrix {
        name: tensor.name().to_owned(),
        columns,
        experts,
    })
}
