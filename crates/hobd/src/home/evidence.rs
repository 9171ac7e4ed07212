//! How well a target, and a tool on a target, fit what was heard.
//!
//! Each is a logarithm of odds, up to what all candidates have in common; the weights below were
//! fitted by hand on a development split of phrases for an imaginary house (`bench/home.py` says
//! which). A name counts by how rare its words are among the targets, so that "kitchen" says more
//! than "light".

use hob_api::home::Aid;
use hob_api::provider::Target;

use super::Options;
use super::heard::{Heard, HeardWord};
use super::index::{Index, NameWords, WordId, calling};
use super::lexicon::Meanings;
use super::profile::Judgement;
use crate::providers::Provider;

/// Most that a word of the name says which names the kind of target that it is.
const KIND_WORD_MAX: f64 = 1.2;
/// Against each word of the name that was not said, times its rarity up to [`UNSAID_RARITY_MAX`].
const UNSAID: f64 = 0.3;
const UNSAID_RARITY_MAX: f64 = 3.0;
/// Against each word of the name that was not said and names what it is in another word than its kind.
const UNSAID_KIND: f64 = 0.45;
/// Of a word that was said exactly behind the one behind which the name has it.
const ORDER: f64 = 0.3;
/// Of a word that examples of the target have, times its rarity.
const LEARNED: f64 = 0.7;
/// Against each word of other targets that was said, times its rarity.
const FOREIGN: f64 = 0.4;
/// Of a kind that was named.
const KIND: f64 = 1.5;
/// Of a thing that was named and is in the target's name, and not its kind: a switch for the lamps.
const NAMED_KIND: f64 = 0.8;
/// Of a tool that does something that was said.
const ACTS: f64 = 1.5;
/// The same of what the tool does beside its own.
const ACTS_TOO: f64 = 0.75;
/// Of each word that was said exactly as it is written.
const EXACT: f64 = 0.3;
/// Of examples that name the target: times the logarithm of their number and a half.
const MENTIONS: f64 = 0.2;
/// Of examples that call the target by the same words: times the logarithm of their number and one.
const CALLED: f64 = 0.8;
/// Of a room that was said, beside the name, times its rarity.
const PLACE: f64 = 1.0;
/// Of the room in which it was said.
const HERE: f64 = 1.5;
/// Of what tools of the same targets are spoken of in.
const GROUP: f64 = 0.3;
/// Of a tool that is meant often.
const PRIOR: f64 = 0.3;
/// Against a tool that does the opposite of what was said.
const ANTONYM: f64 = 3.0;
/// The rarity of each word when rarity does not count.
const COMMON_RARITY: f64 = 2.5;
/// From this strength on a word counts as explained.
pub(super) const EXPLAINED: f64 = 0.6;

/// How well a target fits.
#[derive(Clone, Debug)]
pub(super) struct TargetFit {
    /// The logarithm of its odds.
    pub(super) score: f64,
    /// What words say that name this target and not its kind alone.
    pub(super) specific: f64,
    /// Words of its name were not said, other than what it is.
    pub(super) unsaid: bool,
    /// By word heard: whether the target explains it.
    pub(super) explains: Vec<bool>,
    /// By word heard: whether it is left for the tool to explain.
    pub(super) left: Vec<bool>,
}

/// What a word says of a target beside its names.
#[derive(Clone, Copy, Debug, Default)]
struct Beside {
    /// As its room, or as examples have it.
    own: Option<f64>,
    /// As a word of others.
    foreign: f64,
}

/// Compares targets and tools with what was heard.
pub(super) struct Comparison<'a> {
    pub(super) provider: &'a Provider,
    pub(super) index: &'a Index,
    pub(super) heard: &'a Heard,
    pub(super) options: &'a Options,
    pub(super) judgement: Judgement,
    /// The words that call the thing, as they were said.
    calling: Vec<String>,
    /// By word heard and tool: whether what is said of the tool has the word.
    known: Vec<Vec<bool>>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        provider: &'a Provider,
        index: &'a Index,
        heard: &'a Heard,
        options: &'a Options,
    ) -> Self {
        let features: Vec<_> = heard.words.iter().map(|w| w.features.clone()).collect();
        let judgement = index.profile.judge(&features, options);
        let known = |word: &HeardWord| index.profile.known(&word.word.stem, options);
        Self {
            provider,
            index,
            heard,
            options,
            judgement,
            calling: calling(heard.words.iter().map(|word| &word.word)),
            known: heard.words.iter().map(known).collect(),
        }
    }

    pub(super) fn rarity(&self, id: WordId) -> f64 {
        if self.options.uses(Aid::Rarity) {
            self.index.rarity[id]
        } else {
            COMMON_RARITY
        }
    }

    /// How well a target fits, by its best name.
    pub(super) fn target(&self, place: usize) -> TargetFit {
        let names = &self.index.targets[place].names;
        let beside = self.beside(place);
        let fits = names.iter().map(|name| self.name(place, name, &beside));
        let best = fits.max_by(|a, b| a.score.total_cmp(&b.score));
        // A target has a name, but for one that is all fillers.
        best.unwrap_or_else(|| self.nothing())
    }

    fn nothing(&self) -> TargetFit {
        let count = self.heard.words.len();
        TargetFit {
            score: f64::MIN,
            specific: 0.0,
            unsaid: false,
            explains: vec![false; count],
            left: vec![true; count],
        }
    }

    fn name(&self, place: usize, name: &NameWords, beside: &[Beside]) -> TargetFit {
        let words = &self.index.targets[place];
        let mut fit = self.nothing();
        fit.score = 0.0;
        let mut places = 0;
        for id in &name.ids {
            let kind =
                words.kind.contains(id) || self.index.families[*id] & words.named_families != 0;
            let rarity = self.rarity(*id);
            let weight = if kind {
                rarity.min(KIND_WORD_MAX)
            } else {
                rarity
            };
            let said = self.heard.strengths.get(id);
            let strength = said.map_or(0.0, |said| said.strength);
            places |= said.map_or(0, |said| said.places);
            fit.score += strength * weight;
            if !kind {
                fit.specific += strength * weight;
                fit.unsaid |= strength < EXPLAINED;
            }
            // The player of a media player tells nothing, that of a radio player does.
            let unsaid = if words.kind.contains(id) {
                0.0
            } else if kind {
                UNSAID_KIND
            } else {
                UNSAID * weight.min(UNSAID_RARITY_MAX)
            };
            fit.score -= (1.0 - strength) * unsaid;
            if let Some(said) = said
                && said.strength >= EXPLAINED
            {
                for heard in self
                    .heard
                    .words
                    .iter()
                    .filter(|word| said.is_at(word.place))
                {
                    fit.explains[heard.place] = true;
                    fit.left[heard.place] = !heard.meanings.is_empty();
                }
            }
        }
        self.add_beside_name(place, name, beside, &mut fit);
        self.take_named(places, &mut fit);
        #[allow(clippy::cast_precision_loss, reason = "a handful of words")]
        let exact = name.forms.intersection(&self.heard.forms).count() as f64;
        fit.score += EXACT * exact + ORDER * self.in_order(name);
        fit
    }

    /// How many words of the name were said right behind the one that is before them there: a garage's
    /// side door is not the door of a side garage.
    fn in_order(&self, name: &NameWords) -> f64 {
        let place = |id: &WordId| {
            let said = self.heard.strengths.get(id)?;
            (said.strength >= EXPLAINED).then_some(said.place)
        };
        let follows = |pair: &&[WordId]| {
            let places = (place(&pair[0]), place(&pair[1]));
            matches!(places, (Some(first), Some(second)) if second == first + 1)
        };
        #[allow(clippy::cast_precision_loss, reason = "a handful of words")]
        let count = name.ids.windows(2).filter(follows).count() as f64;
        count
    }

    /// What each word says of the target beside its names.
    fn beside(&self, place: usize) -> Vec<Beside> {
        let words = &self.index.targets[place];
        let learned = self.options.uses(Aid::Learned);
        let of_word = |heard: &HeardWord| {
            let mut beside = Beside::default();
            for (id, strength) in &heard.matches {
                let weight = strength * self.rarity(*id);
                let own = if words.place.contains(id) {
                    PLACE * weight
                } else if learned && words.learned.contains(id) {
                    LEARNED * weight
                } else {
                    beside.foreign = beside.foreign.max(weight);
                    continue;
                };
                beside.own = Some(beside.own.unwrap_or_default().max(own));
            }
            beside
        };
        self.heard.words.iter().map(of_word).collect()
    }

    /// Takes from the tool what is in the name and comes behind what is to be done: who says "turn
    /// off the play room lamp" wants nothing played.
    fn take_named(&self, named: u64, fit: &mut TargetFit) {
        let acts = self.heard.acting & !named;
        if acts == 0 {
            return;
        }
        let behind = named & (u64::MAX << acts.trailing_zeros());
        for (place, left) in fit.left.iter_mut().take(u64::BITS as usize).enumerate() {
            *left &= behind & (1 << place) == 0;
        }
    }

    /// What counts beside the name: kind, room, examples, and words of other targets.
    fn add_beside_name(
        &self,
        place: usize,
        name: &NameWords,
        beside: &[Beside],
        fit: &mut TargetFit,
    ) {
        let words = &self.index.targets[place];
        let learned = self.options.uses(Aid::Learned);
        for (position, heard) in self.heard.words.iter().enumerate() {
            if heard.families & (words.families | words.of_families) != 0 {
                fit.explains[position] = true;
            }
            if fit.explains[position] || heard.filler {
                continue;
            }
            let Beside { own, foreign } = beside[position];
            match own {
                Some(weight) => {
                    fit.score += weight;
                    fit.specific += weight;
                    fit.explains[position] = true;
                    fit.left[position] = false;
                }
                None if heard.meanings.is_empty() => fit.score -= FOREIGN * foreign,
                None => {}
            }
        }
        if self.heard.families & words.families != 0 {
            fit.score += KIND;
        } else if self.heard.families & words.named_families != 0 {
            fit.score += NAMED_KIND;
        }
        if self.is_here(place) && !name.ids.is_empty() {
            fit.score += HERE;
        }
        if learned {
            #[allow(clippy::cast_precision_loss, reason = "at most some thousand examples")]
            let mentions = words.mentions as f64;
            fit.score += MENTIONS * (mentions + 0.5).ln();
            #[allow(clippy::cast_precision_loss, reason = "at most some thousand examples")]
            if let Some(count) = words.called.get(&self.calling) {
                fit.score += CALLED * (1.0 + *count as f64).ln();
            }
        }
    }

    /// Whether the target is in the room in which it was said, and no room was.
    pub(super) fn is_here(&self, place: usize) -> bool {
        let target: &Target = &self.provider.targets()[place];
        self.options.area.is_some() && target.area == self.options.area
    }

    /// How well each of `tools` fits the words that are left: logarithms of probabilities, the most
    /// probable of them against all.
    pub(super) fn tools(&self, tools: &[usize], left: &[bool]) -> Vec<f64> {
        let score =
            |tool: &usize| self.judgement.of(*tool, PRIOR, left) - self.antonym(*tool, left);
        let scores: Vec<f64> = tools.iter().map(score).collect();
        let all = log_sum(&scores);
        scores.iter().map(|score| score - all).collect()
    }

    /// How much more the words that are left go with the tools of `tool`'s group than with others.
    pub(super) fn group(&self, tool: usize, left: &[bool]) -> f64 {
        GROUP
            * self
                .judgement
                .of_group(self.index.profile.group(tool), left)
    }

    /// Whether something that is left was said that the tool does.
    pub(super) fn acts(&self, tool: usize, left: &[bool]) -> f64 {
        let does = self.index.profile.meanings(tool);
        let words = self.heard.words.iter().zip(left);
        let acts = |word: &HeardWord| {
            if word.meanings.primary().meets(does.primary()) || self.knows(tool, word) {
                ACTS
            } else if word.meanings.meets(does) {
                ACTS_TOO
            } else {
                0.0
            }
        };
        let said = words.filter(|(word, left)| **left && !word.filler);
        said.map(|(word, _)| acts(word)).fold(0.0, f64::max)
    }

    /// Whether what is said of a tool has the word.
    pub(super) fn knows(&self, tool: usize, word: &HeardWord) -> bool {
        self.known[word.place][tool]
    }

    /// How many tools' words the word is one of.
    pub(super) fn knowing(&self, word: &HeardWord) -> usize {
        self.known[word.place]
            .iter()
            .filter(|known| **known)
            .count()
    }

    fn antonym(&self, tool: usize, left: &[bool]) -> f64 {
        let does = self.index.profile.meanings(tool);
        let said = self.heard.words.iter().zip(left).filter(|(_, left)| **left);
        let said = said.fold(Meanings::default(), |all, (word, _)| {
            all.with(word.meanings)
        });
        let opposite = does.opposites().meets(said) && !does.meets(said);
        if opposite && self.options.uses(Aid::Antonyms) {
            ANTONYM
        } else {
            0.0
        }
    }
}

/// The logarithm of the sum of what these are logarithms of.
pub(super) fn log_sum(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::MIN, f64::max);
    if logs.is_empty() {
        return most;
    }
    most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln()
}
