//! Layers measured, and chosen to be left out.

use hob_models::gguf::{Document, Rewrite};
use hob_models::surgery::Layers;

use super::depth::{Depth, Greedy, Without};
use super::yardstick::{Texts, loss};
use super::{Choice, Shop, Source};
use crate::failure::Failure;
use crate::models::estimate::Piece;

/// Of a model's layers, the share that the search may leave out by itself: a half.
const AUTO_SHARE: usize = 2;

impl Depth {
    /// The layers of a model, where some of them may be left out.
    ///
    /// # Errors
    /// When so many can't be.
    pub(super) fn layers<'d>(
        &self,
        document: &'d Document,
        say: impl FnOnce(&str),
    ) -> Result<Option<Layers<'d>>, Failure> {
        match (self, Layers::read(document)) {
            (Self::Keep, _) => Ok(None),
            (Self::Count(wanted), Ok(layers)) if *wanted >= layers.len() => {
                Err(Failure::usage(format!(
                    "the model has {} layers, so that {wanted} cannot be left out",
                    layers.len()
                ))
                .hint("Ask for a few with --drop-layers: each loses some percent."))
            }
            (Self::These(out), Ok(layers)) => {
                // What would be refused later is refused before anything is read.
                layers.leave_out(&mut Rewrite::of(document), out)?;
                Ok(Some(layers))
            }
            (Self::Auto, Err(error)) => {
                say(&format!("all layers stay: {error}"));
                Ok(None)
            }
            (_, layers) => Ok(Some(layers?)),
        }
    }

    /// As many layers of a model may go at most.
    pub(super) fn most(&self, layers: &Layers<'_>) -> usize {
        match self {
            Self::Keep => 0,
            Self::Count(layers) => *layers,
            Self::These(out) => out.len(),
            Self::Auto => layers.len() / AUTO_SHARE,
        }
    }
}

impl Shop {
    /// Measures what each layer costs that is left out by itself. So many are to go after that
    /// ([`Shop::next_layer`]), which says how long it takes.
    pub(super) fn survey(
        &mut self,
        source: &Source<'_>,
        layers: &Layers<'_>,
        to_go: usize,
        texts: &Texts,
    ) -> Result<Survey, Failure> {
        let all = 0..u32::try_from(layers.len()).unwrap_or(u32::MAX);
        let known = |layer: &u32| self.known(&without(&[*layer]), texts).is_some();
        let before = all.clone().filter(known).count();
        let again = match before {
            0 => String::new(),
            some => format!(", {some} of them measured before"),
        };
        self.meter.say(&format!(
            "measuring the model without each of its {} layers{again}",
            layers.len()
        ));
        let measurements = 1 + Greedy::measurements(layers.len(), to_go) as u64;
        self.meter
            .share("measuring layers", measurements * texts.bytes());
        let base = self.bits(source, &Choice::default(), texts, None)?;
        let mut alone = Vec::new();
        for layer in all {
            alone.push(self.without(source, &[], layer, &base, texts)?);
        }
        Ok(Survey {
            greedy: Greedy::new(alone),
            base,
            texts: texts.clone(),
        })
    }

    /// Lets the layer go that costs least beside those that are gone.
    pub(super) fn next_layer(
        &mut self,
        source: &Source<'_>,
        survey: &mut Survey,
    ) -> Result<Option<Without>, Failure> {
        let gone = survey.greedy.out();
        let mut measured = Vec::new();
        for layer in survey.greedy.short() {
            measured.push(self.without(source, &gone, layer, &survey.base, &survey.texts)?);
        }
        Ok(survey.greedy.go(&measured))
    }

    /// Lets so many layers go, one after another the cheapest.
    pub(super) fn cheapest(
        &mut self,
        source: &Source<'_>,
        layers: usize,
        texts: &Texts,
    ) -> Result<Survey, Failure> {
        let all = source
            .layers
            .ok_or_else(|| Failure::new("no layer of this model can go"))?;
        let mut survey = self.survey(source, all, layers, texts)?;
        for _ in 0..layers {
            if let Some(gone) = self.next_layer(source, &mut survey)? {
                self.meter.say(&format!(
                    "layer {} goes: {:+.2} % is lost by now",
                    gone.layer,
                    gone.loss * 100.0
                ));
            }
        }
        Ok(survey)
    }

    /// What is lost without a layer beside others.
    fn without(
        &mut self,
        source: &Source<'_>,
        gone: &[u32],
        layer: u32,
        base: &[Piece],
        texts: &Texts,
    ) -> Result<Without, Failure> {
        let out = [gone, &[layer]].concat();
        let found = self.bits(source, &without(&out), texts, None)?;
        let lost = loss(base, &found)?;
        Ok(Without {
            layer,
            loss: lost.value,
            error: lost.error,
        })
    }
}

/// The source without some layers, and otherwise as it is.
fn without(out: &[u32]) -> Choice {
    Choice {
        out: out.to_vec(),
        ..Choice::default()
    }
}

/// What is known of a model's layers.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) greedy: Greedy,
    /// By this text they are told apart.
    texts: Texts,
    /// What the source makes of it.
    base: Vec<Piece>,
}

impl Survey {
    /// What is read to let the next layer go.
    pub(super) fn next_bytes(&self) -> u64 {
        self.greedy.short().len() as u64 * self.texts.bytes()
    }
}
