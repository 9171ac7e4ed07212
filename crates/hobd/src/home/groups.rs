//! Several targets at once: all lights upstairs, the blinds in the kitchen, everything.

use std::collections::BTreeSet;

use super::evidence::{Comparison, EXPLAINED, TargetFit};
use super::index::WordId;

/// Targets that are meant together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) targets: Vec<usize>,
    /// By word heard: whether the group explains it.
    pub(super) explains: Vec<bool>,
    /// By word heard: whether it is left for the tool to explain.
    pub(super) left: Vec<bool>,
}

/// The targets that are meant together, if that is how it was said. `best` is the one that fits
/// best alone.
pub(super) fn group(comparison: &Comparison<'_>, best: Option<&TargetFit>) -> Option<Group> {
    find(comparison, best, comparison.heard.plural)
}

/// The targets that are asked about by what they are: "which light is on?" asks about each.
pub(super) fn asked(comparison: &Comparison<'_>, fits: &[TargetFit]) -> Option<Group> {
    let best = fits.iter().max_by(|a, b| a.score.total_cmp(&b.score));
    find(comparison, best, true)
}

fn find(comparison: &Comparison<'_>, best: Option<&TargetFit>, plural: bool) -> Option<Group> {
    let heard = comparison.heard;
    let places = said_places(comparison);
    let of_place: BTreeSet<WordId> = places.iter().flat_map(|p| p.words.clone()).collect();
    let several = plural && !names_one(comparison, best, &of_place);
    if !heard.all && !several {
        return None;
    }
    let area = comparison.options.area.is_some() && places.is_empty() && !heard.all;
    let targets: Vec<usize> = (0..comparison.index.targets.len())
        .filter(|target| {
            let words = &comparison.index.targets[*target];
            let family = heard.families == 0 || words.named_families & heard.families != 0;
            let place = places.iter().all(|place| place.targets.contains(target));
            family && place && (!area || comparison.is_here(*target))
        })
        .collect();
    let enough = if heard.all { 1 } else { 2 };
    if targets.len() < enough {
        return None;
    }
    let explains = |word: &super::heard::HeardWord| {
        let place = word.matches.iter().any(|(id, _)| of_place.contains(id));
        place || word.families != 0 || super::lexicon::is_all(&word.word.folded)
    };
    let explains: Vec<bool> = heard.words.iter().map(explains).collect();
    // The other words must be of tools: what nobody knows may name one of the targets.
    let known = |word: &super::heard::HeardWord| {
        let profile = &comparison.index.profile;
        word.filler
            || super::lexicon::is_asking(word.folded())
            || super::lexicon::is_any(word.folded())
            || !word.meanings.is_empty()
            || profile.knows_any(&word.word.stem, comparison.options)
    };
    let mut words = heard.words.iter().zip(&explains);
    if !heard.all && words.any(|(word, explained)| !explained && !known(word)) {
        return None;
    }
    let words = heard.words.iter().zip(&explains);
    Some(Group {
        targets,
        left: words
            .map(|(word, explained)| !explained || !word.meanings.is_empty())
            .collect(),
        explains,
    })
}

/// The rooms and floors of which all words were said.
fn said_places<'a>(comparison: &Comparison<'a>) -> Vec<&'a super::index::Place> {
    let said = |id: &WordId| comparison.heard.strength(*id) >= EXPLAINED;
    let places = comparison.index.places.iter();
    places
        .filter(|place| !place.words.is_empty() && place.words.iter().all(said))
        .collect()
}

/// Whether the target that fits best was named by more than its room and what it is.
fn names_one(
    comparison: &Comparison<'_>,
    best: Option<&TargetFit>,
    of_place: &BTreeSet<WordId>,
) -> bool {
    let Some(best) = best else {
        return false;
    };
    let mut words = comparison.heard.words.iter().zip(&best.explains);
    words.any(|(word, explained)| {
        let place = word.matches.iter().any(|(id, _)| of_place.contains(id));
        *explained && word.families == 0 && !place
    })
}
