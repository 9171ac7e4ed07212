//! What is tried: vocabularies, types of their table and of the layers' matrices, and the sizes that models
//! of them would have.

use std::ops::Range;

use hob_ipc::quantize::Scheme;
use hob_models::gguf::Tensor;
use hob_models::surgery::{self, Budget, Demand, Vocabulary};

use super::depth::Depth;
use super::forecast::Forecast;
use super::matrices::{self, Mix};
use super::mixes::{self, Group};
use super::quant::{self, Quant};
use super::search::{self, Candidate, Limits, Search};
use super::trial::Quest;
use super::{Choice, Recipe, Shop, Source, Vocab};
use crate::failure::Failure;

/// What a file may be longer than its tables' lengths tell, by a key of the metadata and by padding.
const SLACK: u64 = 256;

/// Sizes of vocabularies that are tried, in sixteenths of the model's own.
const SIXTEENTHS: [usize; 10] = [16, 12, 10, 8, 7, 6, 5, 4, 3, 2];
/// Vocabularies are a multiple of this.
const STEP: usize = 64;

/// In which types something is tried.
#[derive(Clone, Debug)]
pub(super) struct Among {
    /// Of the table; `None` for as it is.
    pub(super) tables: Vec<Option<Scheme>>,
    /// Of the layers' matrices: these of [`Forecast::stops`].
    pub(super) stops: Range<usize>,
}

impl Shop {
    /// Refuses a limit of size that no candidate keeps to, before candidates are measured. Where as many layers
    /// may go as pay, smaller ones may come.
    pub(super) fn fits(&mut self, quest: &Quest<'_>, limits: Limits) -> Result<(), Failure> {
        if limits.bytes.is_none() || quest.recipe.depth == Depth::Auto {
            return Ok(());
        }
        let coarsest = mixes::coarsest(&quest.recipe.groups(quest.source));
        let known = Forecast::of_types(quest.source.all(), coarsest);
        let among = Among {
            tables: quest.recipe.types(quest.source),
            stops: 0..known.stops.len(),
        };
        let sizes = quest.sizes(limits);
        let smallest = sizes.get(..1).unwrap_or_default();
        let candidates = self.candidates(quest, smallest, &among, &known, limits)?;
        Search::new(limits, candidates).map(|_| ())
    }

    /// Vocabularies of these sizes and types, with the bytes that they would make.
    pub(super) fn candidates(
        &mut self,
        quest: &Quest<'_>,
        sizes: &[usize],
        among: &Among,
        known: &Forecast,
        limits: Limits,
    ) -> Result<Vec<Candidate>, Failure> {
        let (source, out) = (quest.source, quest.out());
        let mut found = Vec::new();
        let gone = source.weight(&out);
        let stops = known.stops.iter();
        let saved: Vec<u64> = stops.map(|stop| source.saved_by(&stop.mix, &out)).collect();
        let saved = |stop: usize| saved.get(stop).copied().unwrap_or(0);
        let most_saved = among.stops.clone().map(saved).max().unwrap_or(0);
        for (place, tokens) in sizes.iter().copied().enumerate() {
            self.interrupt.check()?;
            // The smallest is put together in any case, as its size is told.
            let least = || source.least(tokens, &among.tables, gone + most_saved);
            if place > 0 && limits.bytes.is_some_and(|most| least() > most) {
                break;
            }
            let mut rewrite = source.copy();
            source.prune(&mut rewrite, source.kept(tokens, quest.demand)?.as_deref())?;
            source.leave_out(&mut rewrite, &out)?;
            let whole = rewrite.size();
            for (embedding, stop) in among.each() {
                let as_now = tokens == source.all() && embedding.is_none() && stop == 0;
                if as_now && out.is_empty() {
                    continue;
                }
                let table = embedding.map_or(0, |scheme| source.saved(scheme, tokens));
                let slack = if embedding.is_some() || stop > 0 {
                    SLACK
                } else {
                    0
                };
                found.push(Candidate {
                    tokens,
                    embedding,
                    stop,
                    layers_out: out.len(),
                    bytes: (whole + slack).saturating_sub(table + saved(stop)),
                    forecast: known.loss(tokens, embedding, stop),
                });
            }
        }
        Ok(found)
    }
}

impl Among {
    /// Each table with each stop.
    fn each(&self) -> impl Iterator<Item = (Option<Scheme>, usize)> {
        let tables = self.tables.iter();
        tables.flat_map(|table| self.stops.clone().map(|stop| (*table, stop)))
    }
}

impl Quest<'_> {
    /// Sizes of vocabularies to try, rising.
    pub(super) fn sizes(&self, limits: Limits) -> Vec<usize> {
        match (self.recipe.vocab, self.source.vocabulary) {
            (Vocab::Prune(Budget::Auto), Some(vocabulary)) => {
                sizes(vocabulary, limits.loss.is_none())
            }
            (Vocab::Prune(Budget::Tokens(tokens)), _) => vec![tokens],
            _ => vec![self.source.all()],
        }
    }
}

impl Recipe {
    /// In which types the table of tokens is tried.
    pub(super) fn types(&self, source: &Source<'_>) -> Vec<Option<Scheme>> {
        if self.tries_types {
            tables(source, self.requantize)
        } else {
            vec![None]
        }
    }

    /// Which of the layers' matrices are tried in coarser types.
    pub(super) fn groups(&self, source: &Source<'_>) -> Vec<Group> {
        if self.tries_types {
            Group::all(source.document, self.requantize)
        } else {
            Vec::new()
        }
    }

    /// The limits in bytes, if there are any, and if a model can keep to them for all that the source says
    /// of itself.
    pub(super) fn limits(&self, source: &Source<'_>) -> Result<Option<Limits>, Failure> {
        let Some((size, loss)) = self.limits else {
            return Ok(None);
        };
        self.varies(source)?;
        let most = size.map(|size| size.of(source.open.size_bytes));
        let least = self.least(source);
        if let Some(most) = most.filter(|most| *most < least) {
            return Err(search::too_large(most, least, "at least "));
        }
        Ok(Some(Limits { bytes: most, loss }))
    }

    /// Whether there is anything to try.
    fn varies(&self, source: &Source<'_>) -> Result<(), Failure> {
        let tokens = self.vocab != Vocab::Keep;
        let types = self.types(source).len() > 1 || !self.groups(source).is_empty();
        if tokens || types || self.depth != Depth::Keep {
            return Ok(());
        }
        Err(Failure::usage(
            "nothing is to become smaller: all weights have fewer than 8 bits already",
        )
        .hint("Leave --vocab out, or insist with --requantize."))
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
        let gone: u64 = layers.iter().rev().take(most).sum();
        let groups = self.groups(source);
        let saved: u64 = groups.iter().map(Group::saves).sum();
        source.least(tokens, &self.types(source), gone + saved)
    }
}

/// Types that the table of tokens is tried in, the model's own first.
fn tables(source: &Source<'_>, insist: bool) -> Vec<Option<Scheme>> {
    let coarser = quant::types().filter(|scheme| {
        let quant = Quant {
            embedding: Some(*scheme),
            ..Quant::default()
        };
        quant.check(source.document, insist).is_ok()
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

impl Source<'_> {
    /// The choice that a candidate stands for.
    pub(super) fn choice(
        &self,
        candidate: Candidate,
        known: &Forecast,
        demand: &Demand,
        gone: &[u32],
    ) -> Result<Choice, Failure> {
        let stop = known.stops.get(candidate.stop);
        let quant = Quant {
            weights: None,
            mix: stop.map(|stop| stop.mix.clone()).unwrap_or_default(),
            embedding: candidate.embedding,
        };
        let gone = gone.iter().take(candidate.layers_out);
        Ok(Choice {
            out: gone.copied().collect(),
            ..self.choice_of(candidate.tokens, quant, demand)?
        })
    }

    /// So many tokens, stored so.
    pub(super) fn choice_of(
        &self,
        tokens: usize,
        quant: Quant,
        demand: &Demand,
    ) -> Result<Choice, Failure> {
        Ok(Choice {
            kept: self.kept(tokens, demand)?,
            quant,
            out: Vec::new(),
        })
    }

    /// Which tokens stay of a vocabulary of so many; `None` for all.
    pub(super) fn kept(
        &self,
        tokens: usize,
        demand: &Demand,
    ) -> Result<Option<Vec<surgery::Token>>, Failure> {
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

    /// By how much the layers' matrices are shorter if stored so, without those of layers that are gone.
    fn saved_by(&self, mix: &Mix, out: &[u32]) -> u64 {
        let gone =
            |tensor: &Tensor| matrices::layer(tensor).is_some_and(|layer| out.contains(&layer));
        let stay = self
            .document
            .tensors()
            .iter()
            .filter(|tensor| !gone(tensor));
        let saved = stay.filter_map(|tensor| {
            let stored = quant::bytes_as(mix.of(tensor)?, tensor);
            Some(tensor.bytes().saturating_sub(stored))
        });
        saved.sum()
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
