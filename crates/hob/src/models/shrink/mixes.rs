//! In which types the layers' matrices are stored, from as they are to as coarse as may be. Pure.
//!
//! Rounding to one bit fewer makes four times the noise (W. R. Bennett, "Spectra of quantized signals",
//! 1948), and for small noise what is lost grows with it. So that is measured once in the coarsest type, where
//! it is plainest, and of finer ones follows from it. What is lost by several matrices together is about the
//! sum of what is lost by each (V. Malinovskii et al., "Pushing the limits of large language model
//! quantization via the linearity theorem", 2024). Then the way down takes step after step what saves
//! most for what it loses.

use std::collections::BTreeMap;

use hob_ipc::quantize::Scheme;
use hob_models::gguf::Document;

use super::matrices::{Matrices, Mix, Span, roles};
use super::quant;

/// What is tried, the finest first. Of types of as many bits one: for rows that are not whole blocks of 256
/// weights `IQ4_NL`, as llama.cpp has no `Q4_K` for them.
const TYPES: [Scheme; 6] = [
    Scheme::Q8_0,
    Scheme::Q6_K,
    Scheme::Q5_K_S,
    Scheme::Q4_K_S,
    Scheme::IQ4_NL,
    Scheme::Q3_K_S,
];
/// Most spans of neighbouring layers that have types of their own. What a single layer loses is little, and a
/// measurement is needed for each.
const BANDS: u32 = 8;
/// Most stops on the way down, but for the first: enough to tell sizes apart by a percent.
const STOPS: usize = 96;
/// By how much more is lost with a bit fewer.
const NOISE_PER_BIT: f64 = 4.0;

/// What is lost in a type, by what is lost in a coarser one.
pub(super) fn finer(loss: f64, coarsest_bits: f64, bits: f64) -> f64 {
    loss * NOISE_PER_BIT.powf((coarsest_bits - bits).min(0.0))
}

/// The matrices of one name in neighbouring layers, which get one type.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) matrices: Matrices,
    weights: u64,
    bytes: u64,
    /// The types that make them smaller, the finest first, and the bytes that they take in them. Not empty.
    types: Vec<(Scheme, u64)>,
    /// What is lost in the coarsest.
    loss: f64,
}

impl Group {
    /// Those of a model that may be stored more coarsely; none that are coarse already unless somebody insists.
    pub(super) fn all(document: &Document, insist: bool) -> Vec<Self> {
        let bands = || Span::bands(document.header().n_layer, BANDS);
        let roles = roles(document).into_iter();
        let each = roles.flat_map(|role| bands().map(move |layers| Matrices { role, layers }));
        each.filter_map(|matrices| Self::of(document, matrices, insist))
            .collect()
    }

    fn of(document: &Document, named: Matrices, insist: bool) -> Option<Self> {
        let matrices = named.of(document);
        if !insist && matrices.iter().any(|matrix| quant::is_coarse(matrix)) {
            return None;
        }
        let bytes = matrices.iter().map(|matrix| matrix.bytes()).sum();
        let mut types: Vec<(Scheme, u64)> = Vec::new();
        for scheme in TYPES {
            let settled = matrices.iter().map(|matrix| quant::settled(scheme, matrix));
            let settled: Option<Vec<Scheme>> = settled.collect();
            let scheme = settled?.first().copied()?;
            let stored = matrices
                .iter()
                .map(|matrix| quant::bytes_as(scheme, matrix).min(matrix.bytes()));
            let stored = stored.sum();
            if stored < types.last().map_or(bytes, |(_, finer)| *finer) {
                types.push((scheme, stored));
            }
        }
        (!types.is_empty()).then(|| Self {
            matrices: named,
            weights: matrices.iter().map(|matrix| matrix.elements()).sum(),
            bytes,
            types,
            loss: 0.0,
        })
    }

    /// The type that makes them smallest.
    pub(super) fn coarsest(&self) -> Option<Scheme> {
        self.types.last().map(|(scheme, _)| *scheme)
    }

    /// The bytes that it saves.
    pub(super) fn saves(&self) -> u64 {
        self.types.last().map_or(0, |(_, bytes)| self.bytes - bytes)
    }

    /// What is lost with so many of the types' steps taken.
    fn loss_after(&self, steps: usize) -> f64 {
        let bits_after = |steps| bits(self.bytes_after(steps), self.weights);
        match steps {
            0 => 0.0,
            _ => finer(self.loss, bits_after(self.types.len()), bits_after(steps)),
        }
    }

    fn bytes_after(&self, steps: usize) -> u64 {
        let taken = steps.checked_sub(1).and_then(|last| self.types.get(last));
        taken.map_or(self.bytes, |(_, bytes)| *bytes)
    }
}

/// All of these in the types that make them smallest.
pub(super) fn coarsest<'g>(groups: impl IntoIterator<Item = &'g Group>) -> Mix {
    let each = groups.into_iter();
    each.filter_map(|group| Some((group.matrices, group.coarsest()?)))
        .collect()
}

/// What each group loses in its coarsest type, of what the matrices of each name lose together, and those of
/// each span: as if some layers were more easily hurt than others, whatever is hurt of them.
pub(super) fn tell_apart(
    groups: &mut [Group],
    roles: &BTreeMap<&'static str, f64>,
    spans: &BTreeMap<Span, f64>,
) {
    let of_span = |span: Span| spans.get(&span).copied().unwrap_or(1.0);
    let mut together: BTreeMap<&'static str, f64> = BTreeMap::new();
    for Group { matrices, .. } in &*groups {
        *together.entry(matrices.role).or_default() += of_span(matrices.layers);
    }
    for Group { matrices, loss, .. } in groups {
        let of_role = roles.get(matrices.role).copied().unwrap_or(0.0);
        let all = together.get(matrices.role).copied().unwrap_or(1.0);
        *loss = of_role * of_span(matrices.layers) / all;
    }
}

/// A stop on the way down.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stop {
    pub(super) mix: Mix,
    /// What is expected to be lost.
    pub(super) loss: f64,
    /// Bits of each of the weights that may be stored so.
    pub(super) bits: f64,
}

impl Stop {
    /// For people: how coarse it is, unless everything is as it was.
    pub(super) fn told(&self) -> Option<String> {
        (!self.mix.is_empty()).then(|| format!("{:.1} bits", self.bits))
    }
}

/// Stops on the way down, the first with everything as it is and the last with all as coarse as may be: of a
/// long way some, evenly spread.
pub(super) fn way_down(groups: &[Group]) -> Vec<Stop> {
    let mut taken = vec![0; groups.len()];
    let mut left: usize = groups.iter().map(|group| group.types.len()).sum();
    let every = left.div_ceil(STOPS).max(1);
    let mut stops = vec![stop(groups, &taken)];
    while let Some(next) = cheapest(groups, &taken) {
        if let Some(steps) = taken.get_mut(next) {
            *steps += 1;
        }
        left -= 1;
        if left.is_multiple_of(every) {
            stops.push(stop(groups, &taken));
        }
    }
    stops
}

/// The group whose next step loses least for each byte that it saves.
#[allow(clippy::cast_precision_loss, reason = "bytes of a file")]
fn cheapest(groups: &[Group], taken: &[usize]) -> Option<usize> {
    let price = |group: &Group, steps: usize| {
        let saved = group.bytes_after(steps) - group.bytes_after(steps + 1);
        (group.loss_after(steps + 1) - group.loss_after(steps)) / saved.max(1) as f64
    };
    let open = groups.iter().zip(taken).enumerate();
    let open = open.filter(|(_, (group, steps))| **steps < group.types.len());
    let priced = open.map(|(place, (group, steps))| (place, price(group, *steps)));
    let least = priced.min_by(|one, other| one.1.total_cmp(&other.1));
    least.map(|(place, _)| place)
}

fn stop(groups: &[Group], taken: &[usize]) -> Stop {
    let mut stop = Stop::default();
    let (mut bytes, mut weights) = (0, 0);
    for (group, steps) in groups.iter().zip(taken) {
        stop.loss += group.loss_after(*steps);
        bytes += group.bytes_after(*steps);
        weights += group.weights;
    }
    let stored = groups.iter().zip(taken).filter_map(|(group, steps)| {
        let (scheme, _) = group.types.get(steps.checked_sub(1)?)?;
        Some((group.matrices, *scheme))
    });
    stop.mix = stored.collect();
    stop.bits = bits(bytes, weights);
    stop
}

/// Bits of each of so many weights.
#[allow(clippy::cast_precision_loss, reason = "bytes and weights of a file")]
pub(super) fn bits(bytes: u64, weights: u64) -> f64 {
    bytes as f64 * 8.0 / weights.max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(role: &'static str, weights: u64, loss: f64) -> Group {
        let bytes = |scheme: &Scheme| {
            let block = scheme.block();
            (*scheme, weights / block.weights * block.bytes)
        };
        let types = [Scheme::Q8_0, Scheme::Q5_K_S, Scheme::Q4_K_S];
        Group {
            matrices: Matrices {
                role,
                layers: Span::ALL,
            },
            weights,
            bytes: weights * 2,
            types: types.iter().map(bytes).collect(),
            loss,
        }
    }

    /// By how many bytes a model is smaller.
    fn saved(stop: &Stop, groups: &[Group]) -> u64 {
        let saved = groups.iter().map(|group| {
            let mut mixed = stop.mix.iter();
            let mixed = mixed.find(|(matrices, _)| *matrices == group.matrices);
            let mixed = mixed.map(|(_, scheme)| scheme);
            let stored = group
                .types
                .iter()
                .find(|(scheme, _)| Some(*scheme) == mixed);
            stored.map_or(0, |(_, bytes)| group.bytes - bytes)
        });
        saved.sum()
    }

    proptest! {
        #[test]
        fn no_other_way_saves_as_much_and_loses_less(
            given in proptest::collection::vec((1u64..40, 0.0f64..0.1), 3),
        ) {
            let names = ["attn_q", "ffn_up", "ffn_down"];
            let groups = given.iter().zip(names);
            let groups: Vec<Group> = groups
                .map(|((blocks, loss), name)| group(name, blocks * 256, *loss))
                .collect();
            let stops = way_down(&groups);
            prop_assert_eq!(stops.len(), 10);
            prop_assert_eq!(&stops[0], &Stop { bits: 16.0, ..Stop::default() });
            for stop in &stops {
                for taken in 0..64 {
                    let other = super::stop(&groups, &[taken % 4, taken / 4 % 4, taken / 16]);
                    prop_assert!(
                        saved(&other, &groups) < saved(stop, &groups) || other.loss >= stop.loss - 1e-12,
                        "{stop:?} {other:?}"
                    );
                }
            }
            let saved = |stop| saved(stop, &groups);
            let falls = stops
                .windows(2)
                .all(|two| saved(&two[0]) < saved(&two[1]) && two[0].bits > two[1].bits);
            prop_assert!(falls);
        }
    }

    #[test]
    fn what_a_kind_loses_is_spread_over_layers_as_these_are_hurt() {
        let spans: Vec<Span> = Span::bands(4, 2).collect();
        let of = |role, layers| Group {
            matrices: Matrices { role, layers },
            ..group(role, 256, 0.0)
        };
        let mut groups = [
            of("attn_q", spans[0]),
            of("attn_q", spans[1]),
            of("ffn_up", spans[1]),
        ];
        let roles = [("attn_q", 0.04), ("ffn_up", 0.02)].into();
        let hurt = [(spans[0], 0.03), (spans[1], 0.01)].into();
        tell_apart(&mut groups, &roles, &hurt);
        let near = |found: f64, wanted: f64| (found - wanted).abs() < 1e-12;
        assert!(near(groups[0].loss, 0.03) && near(groups[1].loss, 0.01));
        assert!(near(groups[2].loss, 0.02));
        // Of a model that is one span, nothing is known of spans.
        tell_apart(&mut groups[..1], &roles, &BTreeMap::new());
        assert!(near(groups[0].loss, 0.04));
    }

    #[test]
    fn a_long_way_has_few_stops_and_both_ends() {
        let layers = Span::bands(100, 100);
        let groups: Vec<Group> = layers
            .map(|layers| Group {
                matrices: Matrices {
                    role: "attn_q",
                    layers,
                },
                ..group("attn_q", 256, 0.001)
            })
            .collect();
        let stops = way_down(&groups);
        assert!((2..=STOPS + 1).contains(&stops.len()), "{}", stops.len());
        assert!(stops[0].mix.is_empty());
        let last = stops.last().map(|stop| &stop.mix);
        assert_eq!(last, Some(&coarsest(&groups)));
    }

    #[test]
    fn a_bit_fewer_loses_four_times_as_much() {
        assert!((finer(0.08, 4.5, 5.5) - 0.02).abs() < 1e-12);
        assert!((finer(0.08, 4.5, 4.5) - 0.08).abs() < 1e-12);
    }
}
