//! Smaller models tried before one is made: each is written to a file without a name, and measured on the
//! last tenth of each file of the corpus, by which no token was chosen.

use hob_ipc::quantize::Scheme;
use hob_models::gguf::Tensor;
use hob_models::store::Loss;
use hob_models::surgery::{self, Budget, Demand, Vocabulary};

use super::depth::{Depth, Greedy};
use super::layers::Survey;
use super::quant::{self, Quant};
use super::search::{self, Candidate, Limits, Search, Tried};
use super::yardstick::{self, Yardstick};
use super::{Choice, Recipe, Shop, Source, Vocab};
use crate::failure::Failure;
use crate::models::estimate::{Estimate, Piece};
use crate::render::bytes;

/// What a file may be longer than its tables' lengths tell, by a key of the metadata and by padding.
const SLACK: u64 = 256;

/// Sizes of vocabularies that are tried, in sixteenths of the model's own.
const SIXTEENTHS: [usize; 10] = [16, 12, 10, 8, 7, 6, 5, 4, 3, 2];
/// Vocabularies are a multiple of this.
const STEP: usize = 64;

/// What was tried, and what is lost by what was chosen.
pub(super) struct Trials {
    /// On text that neither made nor chose it.
    pub(super) loss: Loss,
    pub(super) tried: Vec<Tried>,
    /// What is known of layers, if any were to go.
    pub(super) layers: Option<Greedy>,
    /// The limit of loss, if there was one.
    pub(super) most: Option<f64>,
}

/// What is looked for, from the first candidate to the last.
struct Quest<'q> {
    source: &'q Source<'q>,
    recipe: &'q Recipe,
    demand: &'q Demand,
    yardstick: Yardstick,
    /// What the source makes of the text that models are chosen by; measured when it is needed.
    base: Option<Vec<Piece>>,
    tried: Vec<Tried>,
    survey: Option<Survey>,
}

impl Quest<'_> {
    /// The layers that are gone.
    fn out(&self) -> Vec<u32> {
        match (&self.survey, &self.recipe.depth) {
            (Some(survey), _) => survey.greedy.out(),
            (None, Depth::These(layers)) => layers.clone(),
            (None, _) => Vec::new(),
        }
    }
}

impl Shop {
    /// The choice without the layers that are to go, and what that loses.
    pub(super) fn leave_out(
        &mut self,
        source: &Source<'_>,
        depth: &Depth,
        choice: Choice,
    ) -> Result<(Choice, Trials), Failure> {
        let yardstick = Yardstick::of(&self.held_out)?;
        let survey = match depth {
            Depth::Count(layers) => Some(self.cheapest(source, *layers, &yardstick.layers)?),
            _ => None,
        };
        let choice = match &survey {
            Some(survey) => Choice {
                out: survey.greedy.out(),
                ..choice
            },
            None => choice,
        };
        let trials = Trials {
            loss: self.told(source, &choice, &yardstick)?,
            tried: Vec::new(),
            layers: survey.map(|survey| survey.greedy),
            most: None,
        };
        Ok((choice, trials))
    }

    /// Tries candidates within `limits`, and chooses one. Whether layers should go is tried last, one
    /// layer after another, as each costs several measurements: as long as that loses less, or makes a
    /// smaller model that loses no more.
    pub(super) fn search(
        &mut self,
        source: &Source<'_>,
        recipe: &Recipe,
        demand: &Demand,
        limits: Limits,
    ) -> Result<(Choice, Trials), Failure> {
        let yardstick = Yardstick::of(&self.held_out)?;
        let survey = match &recipe.depth {
            Depth::Count(layers) => Some(self.cheapest(source, *layers, &yardstick.layers)?),
            _ => None,
        };
        let mut quest = Quest {
            source,
            recipe,
            demand,
            yardstick,
            base: None,
            tried: Vec::new(),
            survey,
        };
        let best = self.best(&mut quest, limits)?;
        let choice = source.choice(best.candidate, demand, &quest.out())?;
        let trials = Trials {
            loss: self.told(source, &choice, &quest.yardstick)?,
            tried: quest.tried,
            layers: quest.survey.map(|survey| survey.greedy),
            most: limits.loss,
        };
        Ok((choice, trials))
    }

    /// The best that was found with as many layers as are best.
    fn best(&mut self, quest: &mut Quest<'_>, limits: Limits) -> Result<Tried, Failure> {
        let mut types = quest.recipe.types(quest.source);
        let mut limits = limits;
        let mut best = self.round(quest, &types, limits)?;
        loop {
            if let Ok(best) = &best {
                types = vec![best.candidate.embedding];
                if limits.loss.is_some() {
                    limits.bytes = Some(best.candidate.bytes.saturating_sub(1));
                }
            }
            let most = limits.loss.or(best.as_ref().ok().map(|best| best.loss));
            if !self.one_more(quest, most)? {
                return best;
            }
            match (&best, self.round(quest, &types, limits)?) {
                (Err(_), Err(_)) => {}
                (Ok(_), Err(_)) => return best,
                (Ok(so_far), Ok(found)) if limits.loss.is_none() && found.loss >= so_far.loss => {
                    return best;
                }
                (_, found) => best = found,
            }
        }
    }

    /// Lets one layer more go where the search may, if that can pay: without a layer whose absence alone
    /// loses more than `most`, nothing that is better can be made.
    fn one_more(&mut self, quest: &mut Quest<'_>, most: Option<f64>) -> Result<bool, Failure> {
        let (Some(layers), Depth::Auto) = (quest.source.layers, &quest.recipe.depth) else {
            return Ok(false);
        };
        let mut survey = match quest.survey.take() {
            Some(survey) => survey,
            None => self.survey(quest.source, layers, 1, &quest.yardstick.layers)?,
        };
        let more = survey.greedy.gone().len() < quest.recipe.depth.most(layers);
        let next = if more {
            self.meter.share("measuring layers", survey.next_bytes());
            self.next_layer(quest.source, &mut survey)?
        } else {
            None
        };
        quest.survey = Some(survey);
        let Some(next) = next else {
            return Ok(false);
        };
        let pays = most.is_none_or(|most| next.loss < most);
        self.meter.say(&format!(
            "without layer {}, all else being kept, {:.2} % is lost: {}",
            next.layer,
            next.loss * 100.0,
            if pays { "that may pay" } else { "it stays" },
        ));
        Ok(pays)
    }

    /// Measures candidates without the layers that are gone, as far as they need be; the best of them.
    fn round(
        &mut self,
        quest: &mut Quest<'_>,
        types: &[Option<Scheme>],
        limits: Limits,
    ) -> Result<Result<Tried, Failure>, Failure> {
        let candidates = self.candidates(quest, types, limits)?;
        let mut search = match Search::new(limits, candidates) {
            Ok(search) => search,
            Err(none) => return Ok(Err(none)),
        };
        let base = match quest.base.take() {
            Some(base) => base,
            None => self.bits(
                quest.source,
                &Choice::default(),
                &quest.yardstick.choosing,
                Some("measuring the source"),
            )?,
        };
        while let Some(candidate) = search.next() {
            let tried = self.try_one(quest, candidate, &base, search.left() - 1)?;
            search.note(tried);
        }
        quest.base = Some(base);
        quest.tried.extend(search.tried());
        Ok(search.best())
    }

    fn try_one(
        &mut self,
        quest: &Quest<'_>,
        candidate: Candidate,
        base: &[Piece],
        left: usize,
    ) -> Result<Tried, Failure> {
        let choice = quest.source.choice(candidate, quest.demand, &quest.out())?;
        let texts = &quest.yardstick.choosing;
        let before = match self.known(&choice, texts) {
            Some(_) => " (measured before)",
            None => "",
        };
        self.meter.say(&format!(
            "trying {} with {} tokens{}{}{before}; {left} more at most",
            bytes(candidate.bytes),
            candidate.tokens,
            stored(candidate.embedding),
            fewer(candidate.layers_out),
        ));
        let found = self.bits(quest.source, &choice, texts, Some("measuring"))?;
        let lost = yardstick::loss(base, &found)?;
        let error = lost
            .error
            .map_or_else(String::new, |error| format!(" ±{:.2}", error * 100.0));
        self.meter
            .say(&format!("that loses {:+.2} %{error}", lost.value * 100.0));
        Ok(Tried {
            candidate,
            loss: lost.value,
            error: lost.error,
        })
    }

    /// Vocabularies and types, with the sizes that they would make.
    fn candidates(
        &mut self,
        quest: &Quest<'_>,
        types: &[Option<Scheme>],
        limits: Limits,
    ) -> Result<Vec<Candidate>, Failure> {
        let (source, out) = (quest.source, quest.out());
        let mut found = Vec::new();
        let sizes = match (quest.recipe.vocab, source.vocabulary) {
            (Vocab::Prune(Budget::Auto), Some(vocabulary)) => {
                sizes(vocabulary, limits.loss.is_none())
            }
            (Vocab::Prune(Budget::Tokens(tokens)), _) => vec![tokens],
            _ => vec![source.all()],
        };
        let gone = source.weight(&out);
        for (place, tokens) in sizes.into_iter().enumerate() {
            self.interrupt.check()?;
            // The smallest is put together in any case, as its size is told.
            if place > 0
                && limits
                    .bytes
                    .is_some_and(|most| source.least(tokens, types, gone) > most)
            {
                break;
            }
            let mut rewrite = source.copy();
            source.prune(&mut rewrite, source.kept(tokens, quest.demand)?.as_deref())?;
            source.leave_out(&mut rewrite, &out)?;
            let whole = rewrite.size();
            for embedding in types {
                let shorter = |scheme| (whole + SLACK).saturating_sub(source.saved(scheme, tokens));
                let bytes = embedding.map_or(whole, shorter);
                if tokens < source.all() || embedding.is_some() || !out.is_empty() {
                    found.push(Candidate {
                        tokens,
                        embedding: *embedding,
                        layers_out: out.len(),
                        bytes,
                    });
                }
            }
        }
        Ok(found)
    }

    /// What a choice loses on text that had no say in it.
    fn told(
        &mut self,
        source: &Source<'_>,
        choice: &Choice,
        yardstick: &Yardstick,
    ) -> Result<Loss, Failure> {
        let texts = &yardstick.telling;
        let what = Some("measuring what is lost");
        let base = self.bits(source, &Choice::default(), texts, what)?;
        let found = self.bits(source, choice, texts, what)?;
        let lost = yardstick::loss(&base, &found)?;
        Ok(loss(lost, texts.counted()))
    }
}

impl Recipe {
    /// In which types the table of tokens is tried.
    fn types(&self, source: &Source<'_>) -> Vec<Option<Scheme>> {
        if self.tries_types {
            quants(source)
        } else {
            vec![None]
        }
    }

    /// The limits in bytes, if there are any, and if a model can keep to them for all that the source says
    /// of itself.
    pub(super) fn limits(&self, source: &Source<'_>) -> Result<Option<Limits>, Failure> {
        let Some((size, loss)) = self.limits else {
            return Ok(None);
        };
        let most = size.map(|size| size.of(source.open.size_bytes));
        let least = self.least(source);
        if let Some(most) = most.filter(|most| *most < least) {
            return Err(search::too_large(most, least, "at least "));
        }
        Ok(Some(Limits { bytes: most, loss }))
    }

    /// What the smallest model that may be made takes at least.
    fn least(&self, source: &Source<'_>) -> u64 {
        let tokens = match (self.vocab, source.vocabulary) {
            (Vocab::Prune(Budget::Tokens(tokens)), _) => tokens,
            (Vocab::Prune(Budget::Auto), Some(vocabulary)) => vocabulary.least(),
            _ => source.all(),
        };
        let mut layers = source.layers.map_or(Vec::new(), |l| l.bytes().to_vec());
        let most = source.layers.map_or(0, |layers| self.depth.most(layers));
        layers.sort_unstable();
        let gone = layers.iter().rev().take(most).sum();
        source.least(tokens, &self.types(source), gone)
    }
}

/// Types that the table of tokens is tried in, the model's own first.
pub(super) fn quants(source: &Source<'_>) -> Vec<Option<Scheme>> {
    let tables: Vec<_> = source
        .document
        .tensors()
        .iter()
        .filter(|t| quant::is_table(t))
        .collect();
    let coarser = quant::tables_schemes().filter(|scheme| {
        let quant = Quant {
            weights: None,
            embedding: Some(*scheme),
        };
        !tables.is_empty() && quant.check(source.document, false).is_ok()
    });
    std::iter::once(None).chain(coarser.map(Some)).collect()
}

/// Sizes of vocabularies to try: fine steps where all are looked at before any is measured.
fn sizes(vocabulary: &Vocabulary<'_>, fine: bool) -> Vec<usize> {
    let all = vocabulary.len();
    let least = vocabulary.least();
    let mut sizes: Vec<usize> = if fine {
        (1..=64).map(|part| all * part / 64 / STEP * STEP).collect()
    } else {
        SIXTEENTHS
            .iter()
            .map(|part| all * part / 16 / STEP * STEP)
            .collect()
    };
    sizes.retain(|size| (least..all).contains(size));
    sizes.push(all);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn stored(embedding: Option<Scheme>) -> String {
    embedding.map_or_else(String::new, |scheme| format!(", their table as {scheme}"))
}

fn fewer(layers: usize) -> String {
    match layers {
        0 => String::new(),
        1 => ", a layer fewer".to_owned(),
        more => format!(", {more} layers fewer"),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of fractions saturate, and a width is not negative"
)]
fn loss(lost: Estimate, bytes: u64) -> Loss {
    let points = |share: f64| (share * 10_000.0).round();
    Loss {
        basis_points: points(lost.value) as i32,
        error_basis_points: lost.error.map(|error| points(error) as u32),
        bytes,
    }
}

impl Source<'_> {
    /// The choice that a candidate stands for.
    fn choice(
        &self,
        candidate: Candidate,
        demand: &Demand,
        gone: &[u32],
    ) -> Result<Choice, Failure> {
        let gone = gone.iter().take(candidate.layers_out);
        Ok(Choice {
            out: gone.copied().collect(),
            kept: self.kept(candidate.tokens, demand)?,
            quant: Quant {
                weights: None,
                embedding: candidate.embedding,
            },
        })
    }

    /// Which tokens stay of a vocabulary of so many; `None` for all.
    fn kept(&self, tokens: usize, demand: &Demand) -> Result<Option<Vec<surgery::Token>>, Failure> {
        match self.vocabulary {
            Some(vocabulary) if tokens < vocabulary.len() => {
                Ok(Some(vocabulary.choose(demand, Budget::Tokens(tokens))?))
            }
            _ => Ok(None),
        }
    }

    /// Bytes of the weights of layers.
    fn weight(&self, layers: &[u32]) -> u64 {
        let bytes = |layer: &u32| self.layers?.bytes().get(*layer as usize).copied();
        layers.iter().filter_map(bytes).sum()
    }

    /// What the weights of a model with so many tokens take, in the coarsest of these types of the table,
    /// without layers of so many bytes.
    fn least(&self, tokens: usize, types: &[Option<Scheme>], gone: u64) -> u64 {
        let all = self.document.header().weights_bytes;
        let rows: u64 = self.tables().map(row_bytes).sum();
        let fewer = rows * self.all().saturating_sub(tokens) as u64;
        let saved = types
            .iter()
            .flatten()
            .map(|scheme| self.saved(*scheme, tokens));
        all.saturating_sub(fewer + saved.max().unwrap_or(0) + gone)
    }

    fn tables(&self) -> impl Iterator<Item = &Tensor> {
        let tensors = self.document.tensors().iter();
        tensors.filter(|tensor| quant::is_table(tensor))
    }

    /// By how much tables of so many rows are shorter if stored so.
    fn saved(&self, scheme: Scheme, tokens: usize) -> u64 {
        let block = scheme.block();
        let saved = self.tables().map(|table| {
            let now = row_bytes(table);
            now.saturating_sub(table.dimensions()[0] / block.weights * block.bytes) * tokens as u64
        });
        saved.sum()
    }
}

fn row_bytes(table: &Tensor) -> u64 {
    let rows = (table.elements() / table.dimensions()[0]).max(1);
    table.bytes() / rows
}
