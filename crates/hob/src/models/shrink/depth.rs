//! How many layers are left out, and which ones. Pure.
//!
//! What a layer costs depends on which others are gone, and all sets are too many to measure. First each
//! layer is left out by itself; then, one layer at a time, the few that cost least so far are measured
//! again together with those that are gone, and the cheapest goes too.

use std::collections::BTreeMap;

/// As many are measured again for each layer after the first.
const SHORT: usize = 5;

/// Which layers are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Depth {
    /// None.
    #[default]
    Keep,
    /// So many, the cheapest.
    Count(usize),
    /// These.
    These(Vec<u32>),
    /// As many as cost less than what else would make the model as small.
    Auto,
}

/// `auto`, `none`, a number, or the layers themselves: `L4,L25`.
pub(super) fn parse(text: &str) -> Result<Depth, String> {
    const HELP: &str = "say auto, none, a number of layers, or which ones, as in L4,L25";
    match (text, text.parse()) {
        ("none", _) => return Ok(Depth::Keep),
        ("auto", _) => return Ok(Depth::Auto),
        (_, Ok(layers)) if layers > 0 => return Ok(Depth::Count(layers)),
        _ => {}
    }
    let named = text.split(',').map(|name| {
        let number = name.strip_prefix(['L', 'l'])?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<u32>().ok().filter(|_| digits)
    });
    let mut layers: Vec<u32> = named.collect::<Option<_>>().ok_or(HELP)?;
    layers.sort_unstable();
    layers.dedup();
    Ok(Depth::These(layers))
}

/// For `--help`.
pub(super) const LONG_HELP: &str = "How many layers are left out. Each is left out by itself first, and what \
    that costs is measured on the last tenth of each file of the corpus, in bits per byte; then the \
    cheapest goes, and of the few that are cheapest beside it the next. \"3\" leaves out three so, \"L4,L25\" \
    these two (the first is L0) without measuring others; \"auto\", \
    with --max-size or --max-loss, as many as cost less than the tokens that would have to go instead; \
    \"none\" leaves all. A layer of a small model costs some percent, much more than most tokens do. \
    Measuring takes minutes; what was measured is kept, so that a search that was stopped goes on. \
    Works with the architectures whose layers are all alike (llama, qwen2, qwen3, gemma, gemma3, granite, \
    mistral3)";

/// Numbers of layers, rising: `4, 5 and 25`.
pub(super) fn named(layers: &[u32]) -> String {
    let mut layers = layers.to_vec();
    layers.sort_unstable();
    let mut names: Vec<String> = layers.iter().map(u32::to_string).collect();
    match (names.pop(), names.len()) {
        (None, _) => String::new(),
        (Some(only), 0) => only,
        (Some(last), _) => format!("{} and {last}", names.join(", ")),
    }
}

/// What is lost without a layer, beside others that may be gone already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Without {
    /// Its number in the source, from 0.
    pub(super) layer: u32,
    /// Bits per byte more than the source takes, as a share of these.
    pub(super) loss: f64,
    /// Half of the width of the loss's interval of 95 %; `None` of a single piece.
    pub(super) error: Option<f64>,
}

/// Layers that go one after another.
#[derive(Clone, Debug)]
pub(super) struct Greedy {
    /// Each layer left out by itself, in their order.
    alone: Vec<Without>,
    /// By how much a layer that stays made the loss larger when it was measured last.
    costs: BTreeMap<u32, f64>,
    gone: Vec<Without>,
}

impl Greedy {
    /// A choice among layers of which it is known what each costs alone.
    pub(super) fn new(alone: Vec<Without>) -> Self {
        Self {
            costs: alone.iter().map(|one| (one.layer, one.loss)).collect(),
            alone,
            gone: Vec::new(),
        }
    }

    /// Each layer left out by itself, in their order.
    pub(super) fn alone(&self) -> &[Without] {
        &self.alone
    }

    /// The layers that are gone, in that order, each with what is lost by then.
    pub(super) fn gone(&self) -> &[Without] {
        &self.gone
    }

    /// The numbers of the layers that are gone.
    pub(super) fn out(&self) -> Vec<u32> {
        self.gone.iter().map(|without| without.layer).collect()
    }

    /// Layers of which one is to go next, to be measured together with those that are gone. The first is
    /// known.
    pub(super) fn short(&self) -> Vec<u32> {
        if self.gone.is_empty() {
            return Vec::new();
        }
        let mut costs: Vec<(u32, f64)> = self.costs.iter().map(|(l, c)| (*l, *c)).collect();
        costs.sort_by(|one, other| one.1.total_cmp(&other.1));
        costs.truncate(SHORT);
        costs.into_iter().map(|(layer, _)| layer).collect()
    }

    /// Lets the cheapest of what was measured go, as [`Greedy::short`] asked for. `None` if no layer is
    /// left.
    pub(super) fn go(&mut self, measured: &[Without]) -> Option<Without> {
        let so_far = self.gone.last().map_or(0.0, |without| without.loss);
        for without in measured {
            self.costs.insert(without.layer, without.loss - so_far);
        }
        let among = if self.gone.is_empty() {
            &self.alone
        } else {
            measured
        };
        let next = among
            .iter()
            .min_by(|one, other| one.loss.total_cmp(&other.loss))
            .copied()?;
        self.costs.remove(&next.layer);
        self.gone.push(next);
        Some(next)
    }

    /// Measurements that letting so many layers go takes at most, of a model with `all`.
    pub(super) fn measurements(all: usize, layers: usize) -> usize {
        all + layers.saturating_sub(1) * SHORT
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use proptest::prelude::*;

    use super::*;

    fn without(layer: u32, loss: f64) -> Without {
        Without {
            layer,
            loss,
            error: None,
        }
    }

    fn greedy(losses: &[f64]) -> Greedy {
        let alone = (0..).zip(losses).map(|(layer, loss)| without(layer, *loss));
        Greedy::new(alone.collect())
    }

    /// Lets layers go while `loss` tells what is lost without those.
    fn run(greedy: &mut Greedy, layers: usize, loss: impl Fn(&[u32]) -> f64) -> usize {
        let mut measured = greedy.alone().len();
        for _ in 0..layers {
            let short = greedy.short();
            measured += short.len();
            let found = short.iter().map(|layer| {
                let out = [greedy.out(), vec![*layer]].concat();
                without(*layer, loss(&out))
            });
            let found: Vec<Without> = found.collect();
            greedy.go(&found).unwrap();
        }
        measured
    }

    proptest! {
        #[test]
        fn where_costs_add_up_the_cheapest_go(
            losses in proptest::collection::vec(-0.1f64..9.0, 2..30),
            layers in 1usize..8,
        ) {
            let layers = layers.min(losses.len() - 1);
            let mut greedy = greedy(&losses);
            let sum = |out: &[u32]| out.iter().map(|layer| losses[*layer as usize]).sum();
            let measured = run(&mut greedy, layers, sum);
            prop_assert!(measured <= Greedy::measurements(losses.len(), layers));
            let mut sorted = losses.clone();
            sorted.sort_by(f64::total_cmp);
            let cheapest: f64 = sorted[..layers].iter().sum();
            prop_assert!((sum(&greedy.out()) - cheapest).abs() < 1e-9);
            prop_assert!((greedy.gone().last().unwrap().loss - cheapest).abs() < 1e-9);
            let mut out = greedy.out();
            out.sort_unstable();
            out.dedup();
            prop_assert_eq!(out.len(), layers);
        }
    }

    #[test]
    fn layers_that_need_one_another_do_not_both_go() {
        // The two cheapest alone are dear together.
        let mut greedy = greedy(&[0.01, 0.02, 0.03, 0.5]);
        run(&mut greedy, 2, |out| match out {
            [0, 1] => 0.9,
            _ => 0.05,
        });
        assert_eq!(greedy.out()[0], 0);
        assert_ne!(greedy.out()[1], 1);
    }

    #[test]
    fn help_names_every_architecture() {
        for architecture in hob_models::surgery::LAYERED_ARCHITECTURES {
            assert!(LONG_HELP.contains(architecture), "{architecture}");
        }
        assert_eq!(named(&[25, 4, 5]), "4, 5 and 25");
        assert_eq!(named(&[4]), "4");
    }

    #[test]
    fn a_number_of_layers_is_told_as_people_write_it() {
        assert_eq!(parse("auto"), Ok(Depth::Auto));
        assert_eq!(parse("none"), Ok(Depth::Keep));
        assert_eq!(parse("3"), Ok(Depth::Count(3)));
        assert_eq!(parse("L25,l4,L4"), Ok(Depth::These(vec![4, 25])));
        for wrong in [
            "", "0", "-1", "few", "1.5", "keep", "L", "L4,5", "L+4", "L4,",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
