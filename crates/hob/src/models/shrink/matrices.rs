//! Which matrices of the layers are meant: those of a name, in all layers or in some. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use hob_ipc::quantize::Scheme;
use hob_models::gguf::{Document, Tensor};

/// What a layer's matrices are called that may each be stored in a type of their own, by GGUF's names: of
/// attention, of the feed-forward block, and of its experts. What else layers have is small, or llama.cpp
/// leaves it as it is.
pub(super) const ROLES: [&str; 11] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
];

/// Layers from the first to the last, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    first: u32,
    last: u32,
}

impl Span {
    /// Every layer that there is.
    pub(super) const ALL: Self = Self {
        first: 0,
        last: u32::MAX,
    };

    /// These layers; `None` if they end before they begin.
    pub(super) fn new(layers: RangeInclusive<u32>) -> Option<Self> {
        let (first, last) = layers.into_inner();
        (first <= last).then_some(Self { first, last })
    }

    /// `4`, or `0-9`.
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        Self::new(number(first)?..=number(last)?)
    }

    /// Whether a model of so many layers has them all.
    pub(super) fn is_of(self, layers: u32) -> bool {
        self == Self::ALL || self.last < layers
    }

    /// Whether all of them are among these.
    pub(super) fn within(self, layers: &[u32]) -> bool {
        // A few, where what is meant is all.
        self != Self::ALL && (self.first..=self.last).all(|layer| layers.contains(&layer))
    }

    pub(super) fn contains(self, layer: u32) -> bool {
        (self.first..=self.last).contains(&layer)
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// All layers of a model of so many, in at most `most` spans of as many layers each, but for the last.
    pub(super) fn bands(layers: u32, most: u32) -> impl Iterator<Item = Self> {
        let each = layers.div_ceil(most.max(1)).max(1);
        let firsts = (0..layers).step_by(each as usize);
        firsts.map(move |first| Self {
            first,
            last: first.saturating_add(each).min(layers) - 1,
        })
    }
}

/// Matrices of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Matrices {
    pub(super) role: &'static str,
    pub(super) layers: Span,
}

impl Matrices {
    /// `attn_q`, or `attn_q:0-9`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, layers) = match text.split_once(':') {
            None => (text, Some(Span::ALL)),
            Some((name, layers)) => (name, Span::parse(layers)),
        };
        if name == "embedding" {
            return Err("a table of tokens has no layers: say embedding=TYPE".to_owned());
        }
        let role = ROLES.into_iter().find(|known| *known == name);
        let role = role.ok_or_else(|| {
            format!(
                "{name}= is none: say embedding=TYPE, or one of {}=TYPE",
                ROLES.join("=TYPE, ")
            )
        })?;
        let layers = layers.ok_or_else(|| {
            format!(
                "{text} names no layers: say {name}:4 for the fifth, {name}:0-9 for the first ten, or {name} for \
                 all"
            )
        })?;
        Ok(Self { role, layers })
    }

    /// Whether a tensor is one of these.
    pub(super) fn has(self, tensor: &Tensor) -> bool {
        place(tensor).is_some_and(|place| self.are_at(place))
    }

    fn are_at(self, (role, layer): (&str, u32)) -> bool {
        role == self.role && self.layers.contains(layer)
    }

    /// Those that a model has.
    pub(super) fn of(self, document: &Document) -> Vec<&Tensor> {
        let all = document.tensors().iter();
        all.filter(|tensor| self.has(tensor)).collect()
    }
}

impl fmt::Display for Matrices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (role, Span { first, last }) = (self.role, self.layers);
        match self.layers {
            Span::ALL => f.write_str(role),
            _ if first == last => write!(f, "{role}:{first}"),
            _ => write!(f, "{role}:{first}-{last}"),
        }
    }
}

/// In which types matrices of the layers are stored. None is named twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mix(BTreeMap<Matrices, Scheme>);

impl Mix {
    /// Adds some in a type; `false` if there are some of them already.
    #[must_use]
    pub(super) fn add(&mut self, matrices: Matrices, scheme: Scheme) -> bool {
        let both = |other: &Matrices| {
            other.role == matrices.role && other.layers.overlaps(matrices.layers)
        };
        let free = !self.0.keys().any(both);
        if free {
            self.0.insert(matrices, scheme);
        }
        free
    }

    /// Each with its type.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Matrices, Scheme)> {
        self.0.iter().map(|(matrices, scheme)| (*matrices, *scheme))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The type that a tensor gets.
    pub(super) fn of(&self, tensor: &Tensor) -> Option<Scheme> {
        let place = place(tensor)?;
        let found = self.0.iter().find(|(matrices, _)| matrices.are_at(place));
        found.map(|(_, scheme)| *scheme)
    }

    /// The same with other types.
    pub(super) fn map(self, each: impl Fn(Matrices, Scheme) -> Scheme) -> Self {
        let all = self.0.into_iter();
        Self(
            all.map(|(matrices, scheme)| (matrices, each(matrices, scheme)))
                .collect(),
        )
    }

    /// The same said in fewer words, of a model of so many layers: neighbours of one type together.
    pub(super) fn joined(self, layers: u32) -> Self {
        let mut joined: Vec<(Matrices, Scheme)> = Vec::new();
        for (matrices, scheme) in self.0 {
            match joined.last_mut() {
                Some((before, type_before))
                    if before.role == matrices.role
                        && *type_before == scheme
                        && before.layers.last.saturating_add(1) == matrices.layers.first =>
                {
                    before.layers.last = matrices.layers.last;
                }
                _ => joined.push((matrices, scheme)),
            }
        }
        for (matrices, _) in &mut joined {
            if matrices.layers.first == 0 && matrices.layers.last.saturating_add(1) >= layers {
                matrices.layers = Span::ALL;
            }
        }
        Self(joined.into_iter().collect())
    }
}

/// Of what overlaps, the first counts.
impl FromIterator<(Matrices, Scheme)> for Mix {
    fn from_iter<I: IntoIterator<Item = (Matrices, Scheme)>>(each: I) -> Self {
        let mut mix = Self::default();
        for (matrices, scheme) in each {
            let _ = mix.add(matrices, scheme);
        }
        mix
    }
}

/// `attn_q as Q4_K, ffn_down:0-9 as Q6_K`.
impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (matrices, scheme)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{matrices} as {}", scheme.block().name)?;
        }
        Ok(())
    }
}

/// What a layer's matrix is called, if it may be stored in a type of its own.
pub(super) fn role(tensor: &Tensor) -> Option<&'static str> {
    let (_, name) = in_layer(tensor)?;
    let name = name.strip_suffix(".weight")?;
    ROLES.into_iter().find(|role| *role == name)
}

/// The number of the layer that a tensor is of.
pub(super) fn layer(tensor: &Tensor) -> Option<u32> {
    let (number, _) = in_layer(tensor)?;
    number.parse().ok()
}

/// What a matrix is called, and the number of its layer.
fn place(tensor: &Tensor) -> Option<(&'static str, u32)> {
    Some((role(tensor)?, layer(tensor)?))
}

/// The layer's number, and what the tensor is called there.
fn in_layer(tensor: &Tensor) -> Option<(&str, &str)> {
    tensor.name().strip_prefix("blk.")?.split_once('.')
}

/// The names of a model's matrices that may be stored in a type of their own.
pub(super) fn roles(document: &Document) -> Vec<&'static str> {
    let all = |role| Matrices {
        role,
        layers: Span::ALL,
    };
    let there = |role: &&'static str| !all(*role).of(document).is_empty();
    ROLES.into_iter().filter(there).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_is_what_is_named() {
        for text in ["attn_q", "ffn_down:4", "ffn_gate_exps:0-9"] {
            assert_eq!(Matrices::parse(text).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "head",
            "attn_q:",
            "attn_q:9-0",
            "attn_q:x",
            "attn_q:1-",
            "attn_q:-1",
            "attn_q:0:1",
        ] {
            assert!(Matrices::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_known_to_be_of_a_model() {
        let span = |text| Span::parse(text).unwrap();
        assert!(span("0-29").is_of(30) && Span::ALL.is_of(30));
        assert!(!span("0-30").is_of(30) && !span("30").is_of(30));
        assert!(span("4-5").within(&[5, 4, 9]) && !span("4-6").within(&[5, 4, 9]));
        assert!(!Span::ALL.within(&[0, 1]));
    }

    #[test]
    fn no_matrix_gets_two_types() {
        let mut mix = Mix::default();
        let mut add = |text| mix.add(Matrices::parse(text).unwrap(), Scheme::Q8_0);
        assert!(add("attn_q:0-4") && add("attn_q:6") && add("attn_k"));
        assert!(!add("attn_q:4-5") && !add("attn_q") && !add("attn_k:7"));
        assert!(add("attn_q:5"));
    }

    proptest! {
        #[test]
        fn bands_are_all_layers_one_after_another(layers in 0u32..200, most in 0u32..20) {
            let bands: Vec<Span> = Span::bands(layers, most).collect();
            prop_assert!(bands.len() <= most.max(1) as usize);
            let of: Vec<u32> = bands.iter().flat_map(|band| band.first..=band.last).collect();
            prop_assert_eq!(of, (0..layers).collect::<Vec<_>>());
        }

        #[test]
        fn joined_or_not_each_layer_gets_the_same(types in proptest::collection::vec(0usize..3, 1..30)) {
            let schemes = [Scheme::Q8_0, Scheme::Q4_0];
            let mut mix = Mix::default();
            for (layer, kind) in (0u32..).zip(&types) {
                if let Some(scheme) = schemes.get(*kind) {
                    let layers = Span::new(layer..=layer).unwrap();
                    let one = Matrices { role: "attn_q", layers };
                    prop_assert!(mix.add(one, *scheme));
                }
            }
            let of = |mix: &Mix, layer: u32| {
                let found = mix.iter().find(|(matrices, _)| matrices.layers.contains(layer));
                found.map(|(_, scheme)| scheme)
            };
            let layers = u32::try_from(types.len()).unwrap();
            let joined = mix.clone().joined(layers);
            for layer in 0..layers {
                prop_assert_eq!(of(&mix, layer), of(&joined, layer));
            }
            let neighbours: Vec<_> = joined.iter().collect();
            let short = neighbours.windows(2).all(|two| {
                two[0].1 != two[1].1 || two[0].0.layers.last + 1 < two[1].0.layers.first
            });
            prop_assert!(short);
        }
    }
}
