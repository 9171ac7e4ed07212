//! What a candidate may be expected to lose, by a few measurements on a little text. It tells which candidates
//! are worth measuring; what is chosen, is chosen by their own.

use std::collections::{BTreeMap, BTreeSet};

use hob_ipc::quantize::Scheme;
use hob_models::surgery::Token;

use super::matrices::{Mix, Span};
use super::mixes::{self, Group, Stop, finer, tell_apart, way_down};
use super::quant::Quant;
use super::trial::Quest;
use super::yardstick::loss;
use super::{Choice, Shop};
use crate::failure::Failure;

/// Sizes of the vocabulary that are measured, as one of so many parts of all.
const PARTS: [usize; 3] = [8, 4, 2];
/// For so many sizes, in even steps to all, it is counted what text lacks in them.
const COUNTED: usize = 16;
/// By how many times more a forecast lets text lack, where little of it lacks anything.
const LACK_MAX: f64 = 100.0;

/// What is lost at least, for a forecast: what little text seems to gain by is luck.
const LOSS_MIN: f64 = 0.0001;

/// What is known of a model's parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Forecast {
    /// Vocabularies and what is lost with them, the smallest first; the last is all, and loses nothing. Between
    /// them it falls evenly.
    tokens: Vec<(usize, f64)>,
    /// What is lost with the table in the coarsest type, and that type.
    table: Option<(Scheme, f64)>,
    /// How the layers' matrices may be stored, from as they are.
    pub(super) stops: Vec<Stop>,
}

impl Forecast {
    /// Where only the number of tokens differs: the fewer, the more is lost.
    pub(super) fn of_tokens(all: usize) -> Self {
        Self {
            tokens: vec![(0, 1.0), (all, 0.0)],
            table: None,
            stops: vec![Stop::default()],
        }
    }

    /// Where matrices are as they are or stored so, and what is lost is not known.
    pub(super) fn of_types(all: usize, mix: Mix) -> Self {
        let coarse = Stop {
            mix,
            ..Stop::default()
        };
        let mut forecast = Self::of_tokens(all);
        forecast.stops.push(coarse);
        forecast
    }

    /// Of a vocabulary of so many tokens, a table in such a type, and the matrices as at that stop.
    pub(super) fn loss(&self, tokens: usize, table: Option<Scheme>, stop: usize) -> f64 {
        let table = self.table.zip(table);
        let table =
            table.map(|((coarsest, loss), scheme)| finer(loss, bits(coarsest), bits(scheme)));
        let matrices = self.stops.get(stop).map_or(0.0, |stop| stop.loss);
        self.of_vocabulary(tokens) + table.unwrap_or(0.0) + matrices
    }

    /// Between what was measured, along a line.
    #[allow(clippy::cast_precision_loss, reason = "numbers of tokens")]
    fn of_vocabulary(&self, tokens: usize) -> f64 {
        let after = self
            .tokens
            .iter()
            .position(|(measured, _)| *measured >= tokens);
        let Some(after) = after else {
            return 0.0;
        };
        let before = after.saturating_sub(1);
        let two = self.tokens.get(before).zip(self.tokens.get(before + 1));
        two.map_or(0.0, |((low, lost), (high, kept))| {
            let share = (tokens as f64 - *low as f64) / (*high as f64 - *low as f64);
            (lost + (kept - lost) * share).max(0.0)
        })
    }
}

fn bits(scheme: Scheme) -> f64 {
    let block = scheme.block();
    mixes::bits(block.bytes, block.weights)
}

/// Something whose loss is measured.
enum Probe {
    Tokens(usize),
    Table(Scheme),
    /// All matrices of a name that may be stored more coarsely.
    Role(&'static str, Mix),
    /// All of neighbouring layers.
    Layers(Span, Mix),
}

impl Probe {
    /// The source with nothing else changed.
    fn choice(&self, quest: &Quest<'_>) -> Result<Choice, Failure> {
        let quant = match self {
            Self::Tokens(tokens) => {
                let source = quest.source;
                return source.choice_of(*tokens, Quant::default(), quest.demand);
            }
            Self::Table(scheme) => Quant {
                embedding: Some(*scheme),
                ..Quant::default()
            },
            Self::Role(_, mix) | Self::Layers(_, mix) => Quant {
                mix: mix.clone(),
                ..Quant::default()
            },
        };
        Ok(Choice::stored(quant))
    }
}

impl Shop {
    /// Measures what is needed to tell candidates apart.
    pub(super) fn forecast(
        &mut self,
        quest: &Quest<'_>,
        types: &[Option<Scheme>],
        sizes: &[usize],
    ) -> Result<Forecast, Failure> {
        let all = quest.source.all();
        let mut known = Forecast::of_tokens(all);
        let mut groups = quest.recipe.groups(quest.source);
        let probes = probes(quest, types, sizes, &groups);
        if probes.is_empty() {
            return Ok(known);
        }
        known.tokens = vec![(all, 0.0)];
        self.meter
            .say("measuring what vocabularies and types lose by themselves");
        let (mut roles, mut spans) = (BTreeMap::new(), BTreeMap::new());
        for (probe, lost) in self.measure(quest, probes)? {
            match probe {
                Probe::Tokens(tokens) => known.tokens.push((tokens, lost)),
                Probe::Table(scheme) => known.table = Some((scheme, lost)),
                Probe::Role(role, _) => {
                    roles.insert(role, lost);
                }
                Probe::Layers(span, _) => {
                    spans.insert(span, lost);
                }
            }
        }
        falling(&mut known.tokens);
        if known.tokens.len() > 1 {
            known.tokens = self.of_vocabularies(quest, sizes, &known.tokens)?;
        }
        tell_apart(&mut groups, &roles, &spans);
        let layers = quest.source.document.header().n_layer;
        known.stops = way_down(&groups);
        for stop in &mut known.stops {
            stop.mix = std::mem::take(&mut stop.mix).joined(layers);
        }
        Ok(known)
    }

    /// What vocabularies of more sizes lose, by what some do, the smallest first: text loses as it lacks tokens,
    /// and how many it lacks can be counted.
    fn of_vocabularies(
        &mut self,
        quest: &Quest<'_>,
        tried: &[usize],
        measured: &[(usize, f64)],
    ) -> Result<Vec<(usize, f64)>, Failure> {
        let counts = self.count(quest.source, &quest.yardstick.choosing)?;
        let all = quest.source.all();
        let least = tried.first().copied().unwrap_or(all);
        let mut sizes: BTreeSet<usize> = (1..=COUNTED).map(|part| all * part / COUNTED).collect();
        sizes.retain(|tokens| *tokens > least);
        sizes.insert(least);
        sizes.extend(measured.iter().map(|(tokens, _)| *tokens));
        let mut lacking = Vec::new();
        for tokens in sizes {
            self.interrupt.check()?;
            let kept = quest.source.kept(tokens, quest.demand)?;
            lacking.push((tokens, lacks(&counts, kept.as_deref())));
        }
        Ok(by_lack(&lacking, measured))
    }

    /// What each loses: fewer tokens by bits per byte, and types, which change nothing else, by divergence.
    fn measure(
        &mut self,
        quest: &Quest<'_>,
        probes: Vec<Probe>,
    ) -> Result<Vec<(Probe, f64)>, Failure> {
        let (source, texts) = (quest.source, &quest.yardstick.little);
        let mut choices = Vec::new();
        for probe in probes {
            let choice = probe.choice(quest)?;
            if self.known(&choice, texts).is_none() && self.known_apart(&choice, texts).is_none() {
                self.prepare(&choice.quant, source)?;
            }
            choices.push((probe, choice));
        }
        self.meter
            .share("measuring parts", choices.len() as u64 * texts.bytes());
        let (mut base, mut reference) = (None, None);
        let mut measured = Vec::new();
        for (probe, choice) in choices {
            let apart = match probe {
                Probe::Tokens(_) => None,
                _ => self.apart(source, &choice, texts, &mut reference)?,
            };
            let lost = if let Some(apart) = apart {
                apart
            } else {
                let base = match &mut base {
                    Some(base) => base,
                    None => base.insert(self.bits(source, &Choice::default(), texts, None)?),
                };
                loss(base, &self.bits(source, &choice, texts, None)?)?.value
            };
            measured.push((probe, lost.max(LOSS_MIN)));
        }
        Ok(measured)
    }
}

/// How many of the tokens that came up are not among those that stay.
#[allow(clippy::cast_precision_loss, reason = "tokens of some pages")]
fn lacks(counts: &BTreeMap<Token, u64>, kept: Option<&[Token]>) -> f64 {
    let Some(kept) = kept else {
        return 0.0;
    };
    let kept: BTreeSet<Token> = kept.iter().copied().collect();
    let gone = counts.iter().filter(|(token, _)| !kept.contains(token));
    gone.map(|(_, count)| *count).sum::<u64>() as f64
}

/// What vocabularies lose that text lacks so much in, given what some of them do; both by size, rising, and the
/// last is all. Between two that were measured, as much is lost as more is lacking, and beyond the smallest of
/// these as much for each token that is lacking, but more than a line to nothing at all says.
#[allow(clippy::cast_precision_loss, reason = "numbers of tokens")]
fn by_lack(lacking: &[(usize, f64)], measured: &[(usize, f64)]) -> Vec<(usize, f64)> {
    let lack = |tokens: usize| {
        let found = lacking.iter().find(|(size, _)| *size == tokens);
        found.map_or(0.0, |(_, lack)| *lack)
    };
    let each = lacking.iter().map(|(tokens, here)| {
        let above = measured.iter().find(|(size, _)| size >= tokens);
        let below = measured.iter().rev().find(|(size, _)| size < tokens);
        let loss = match (below, above) {
            (Some((low, lost)), Some((high, kept))) => {
                let (most, least) = (lack(*low), lack(*high));
                let share = (here - least) / (most - least).max(f64::MIN_POSITIVE);
                kept + (lost - kept) * share.clamp(0.0, 1.0)
            }
            (None, Some((high, kept))) => {
                let lacking = here / lack(*high).max(f64::MIN_POSITIVE);
                let fewer = *high as f64 / (*tokens).max(1) as f64;
                kept * lacking.clamp(1.0, LACK_MAX).max(fewer)
            }
            _ => 0.0,
        };
        (*tokens, loss)
    });
    each.collect()
}

/// Sorts what vocabularies lose by their size, none less than one that is larger.
fn falling(tokens: &mut [(usize, f64)]) {
    tokens.sort_by_key(|(tokens, _)| std::cmp::Reverse(*tokens));
    let mut least = 0.0;
    for (_, lost) in &mut *tokens {
        *lost = lost.max(least);
        least = *lost + LOSS_MIN;
    }
    tokens.reverse();
}

/// What is to be measured: nothing where there is nothing to weigh against one another.
fn probes(
    quest: &Quest<'_>,
    types: &[Option<Scheme>],
    sizes: &[usize],
    groups: &[Group],
) -> Vec<Probe> {
    let coarsest = types.iter().flatten().max_by(|one, other| {
        let by_bits = bits(**other).total_cmp(&bits(**one));
        by_bits.then(one.cmp(other))
    });
    let table = coarsest.map(|scheme| Probe::Table(*scheme));
    let mut probes: Vec<Probe> = table.into_iter().chain(of_groups(groups)).collect();
    let (Some(least), true) = (sizes.first(), sizes.len() > 1 && !probes.is_empty()) else {
        return probes;
    };
    let parts = PARTS.map(|part| (quest.source.all() / part).max(*least));
    let mut measured: Vec<usize> = parts
        .into_iter()
        .filter(|tokens| *tokens < quest.source.all())
        .collect();
    measured.dedup();
    probes.extend(measured.into_iter().map(Probe::Tokens));
    probes
}

/// Matrices by their names, and by their layers where these are more than one span.
fn of_groups(groups: &[Group]) -> Vec<Probe> {
    let of = |is_one: &dyn Fn(&Group) -> bool| mixes::coarsest(groups.iter().filter(|g| is_one(g)));
    let roles: BTreeSet<_> = groups.iter().map(|group| group.matrices.role).collect();
    let spans: BTreeSet<_> = groups.iter().map(|group| group.matrices.layers).collect();
    let by_name = roles
        .into_iter()
        .map(|role| Probe::Role(role, of(&|group| group.matrices.role == role)));
    let several = spans.len() > 1;
    let by_layers = spans
        .into_iter()
        .filter(|_| several)
        .map(|span| Probe::Layers(span, of(&|group| group.matrices.layers == span)));
    by_name.chain(by_layers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-12
    }

    #[test]
    fn text_loses_as_it_lacks_tokens() {
        // What a size of 600 lacks is a quarter of what one of 400 does.
        let lacking = [(200, 100.0), (400, 40.0), (600, 10.0), (800, 0.0)];
        let found = by_lack(&lacking, &[(200, 0.3), (400, 0.08), (800, 0.0)]);
        let expected = [(200, 0.3), (400, 0.08), (600, 0.02), (800, 0.0)];
        for ((size, loss), (other, wanted)) in found.into_iter().zip(expected) {
            assert!(size == other && near(loss, wanted), "{size}: {loss}");
        }
        // Beyond the smallest that was measured, more is lost, also where nothing more is lacking.
        let lacking = [
            (50, 80.0),
            (100, 40.0),
            (200, 40.0),
            (400, 10.0),
            (800, 0.0),
        ];
        let found = by_lack(&lacking, &[(200, 0.3), (400, 0.08), (800, 0.0)]);
        assert!(near(found[1].1, 0.6) && near(found[0].1, 1.2), "{found:?}");
        // Text that lacks nothing anywhere says no more than what was measured.
        let found = by_lack(
            &[(200, 0.0), (400, 0.0), (800, 0.0)],
            &[(200, 0.3), (800, 0.0)],
        );
        assert!(found.iter().all(|(_, loss)| (0.0..=0.3).contains(loss)));
        let counts = [(1, 5), (2, 3), (7, 1)].into();
        assert!(near(lacks(&counts, Some(&[1, 7])), 3.0));
        assert!(near(lacks(&counts, None), 0.0));
    }

    #[test]
    fn what_was_not_measured_follows_from_what_was() {
        let forecast = Forecast {
            tokens: vec![(100, 0.3), (400, 0.06), (800, 0.0)],
            table: Some((Scheme::Q4_0, 0.04)),
            stops: vec![
                Stop::default(),
                Stop {
                    loss: 0.5,
                    ..Stop::default()
                },
            ],
        };
        let loss = |tokens, table, stop| forecast.loss(tokens, table, stop);
        assert!(near(loss(800, None, 0), 0.0));
        assert!(near(loss(400, None, 0), 0.06));
        assert!(near(loss(600, None, 0), 0.03));
        assert!(near(loss(250, None, 0), 0.18));
        // Beyond the smallest along the same line.
        assert!(near(loss(0, None, 0), 0.38));
        assert!(near(loss(800, Some(Scheme::Q4_0), 0), 0.04));
        assert!(near(loss(800, Some(Scheme::Q5_0), 0), 0.01));
        assert!(near(loss(400, Some(Scheme::Q5_0), 1), 0.57));
        let plain = Forecast::of_tokens(800);
        assert!(plain.loss(400, None, 0) > plain.loss(401, None, 0));
        let mut lucky = [(800, 0.0), (200, 0.02), (400, 0.0005), (100, 0.01)];
        falling(&mut lucky);
        assert!(
            lucky.is_sorted_by(|one, other| one.0 < other.0 && one.1 > other.1),
            "{lucky:?}"
        );
    }
}
