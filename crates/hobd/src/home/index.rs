//! What the words of a provider's targets say.

use std::collections::{BTreeSet, HashMap, HashSet};

use hob_api::provider::Target;

use super::lexicon;
use super::matches::Shape;
use super::profile::Profile;
use super::words::{self, stem};
use crate::providers::{Provider, Tool};

/// Most words that examples bring beside those of names, of all targets and of one.
const LEARNED_MAX: usize = 4096;
const LEARNED_PER_TARGET_MAX: usize = 64;

/// A word of the targets, by its place in [`Index::words`].
pub(super) type WordId = usize;

/// A provider's words, ready to be compared with an utterance's.
#[derive(Debug, Default)]
pub struct Index {
    ids: HashMap<String, WordId>,
    /// The stems, by id.
    pub(super) words: Vec<String>,
    /// What the stems look like, by id.
    pub(super) shapes: Vec<Shape>,
    /// The families that the stems name, by id.
    pub(super) families: Vec<u32>,
    /// How rare each word is among the targets: the logarithm of their number over that of those
    /// which have it, as is usual in the ranking of documents.
    pub(super) rarity: Vec<f64>,
    /// By the targets' places.
    pub(super) targets: Vec<TargetWords>,
    /// Words that say nothing elsewhere and are the whole name of a target here.
    pub(super) bare_names: HashSet<String>,
    /// Rooms and floors.
    pub(super) places: Vec<Place>,
    /// What goes with each tool.
    pub(super) profile: Profile,
}

/// The words of one target.
#[derive(Debug, Default)]
pub(super) struct TargetWords {
    /// Its name and its aliases.
    pub(super) names: Vec<NameWords>,
    /// Of its room and floor.
    pub(super) place: BTreeSet<WordId>,
    /// Of its kind.
    pub(super) kind: BTreeSet<WordId>,
    /// The families of its kind's words, as a set of bits.
    pub(super) families: u32,
    /// The families of what such a thing belongs to: a lock to a door.
    pub(super) of_families: u32,
    /// The families of its kind's and its name's words.
    pub(super) named_families: u32,
    /// Of examples that name it, and not of its names.
    pub(super) learned: BTreeSet<WordId>,
    /// How many examples name it.
    pub(super) mentions: usize,
    /// In which words they do, and how many.
    pub(super) called: HashMap<Vec<String>, usize>,
}

/// The words of one name.
#[derive(Debug)]
pub(super) struct NameWords {
    /// The words as they follow each other, none twice.
    pub(super) ids: Vec<WordId>,
    /// As they are written, folded.
    pub(super) forms: HashSet<String>,
}

/// A room or floor.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) words: BTreeSet<WordId>,
    pub(super) targets: BTreeSet<usize>,
}

impl Index {
    /// Reads a provider's words: some ten milliseconds for a thousand targets.
    pub fn new(provider: &Provider) -> Self {
        let mut index = Self::default();
        for target in provider.targets() {
            let words = index.target_words(target);
            index.targets.push(words);
        }
        index.read_places(provider.targets());
        index.profile = Profile::new(provider, &index);
        index.learn(provider);
        index.rarity = index.rarities();
        index.shapes = index.words.iter().map(|word| Shape::new(word)).collect();
        index.families = index
            .words
            .iter()
            .map(|word| lexicon::families(word))
            .collect();
        index
    }

    /// An index of a few words that belong to nothing.
    #[cfg(test)]
    pub(super) fn of_words(words: &[&str]) -> Self {
        let mut index = Self::default();
        for word in words {
            index.intern(word);
        }
        index.shapes = words.iter().map(|word| Shape::new(word)).collect();
        index
    }

    /// The word's id, if a target has it.
    pub(super) fn id(&self, stem: &str) -> Option<WordId> {
        self.ids.get(stem).copied()
    }

    /// Whether the word is in a name of the target, and says nothing of what is to be done.
    pub(super) fn is_named(&self, target: usize, stem: &str) -> bool {
        let names = &self.targets[target].names;
        let any = |id| names.iter().any(|name| name.ids.contains(&id));
        lexicon::meanings(stem).is_empty() && self.id(stem).is_some_and(any)
    }

    fn intern(&mut self, stem: &str) -> WordId {
        if let Some(id) = self.ids.get(stem) {
            return *id;
        }
        let id = self.words.len();
        self.words.push(stem.to_owned());
        self.ids.insert(stem.to_owned(), id);
        id
    }

    fn intern_all(&mut self, text: &str) -> BTreeSet<WordId> {
        let stems = words::stems(text);
        stems.iter().map(|stem| self.intern(stem)).collect()
    }

    fn target_words(&mut self, target: &Target) -> TargetWords {
        let mut found = TargetWords::default();
        for name in std::iter::once(&target.name).chain(&target.aliases) {
            let words = words::words(name, true);
            let ids = once_each(words.iter().map(|word| self.intern(&word.stem)));
            for word in &words {
                found.named_families |= lexicon::families(stem(&word.folded));
            }
            let parted = self.parted(&words);
            // A filler in a name is not said by all who mean it, but where it is the name.
            if let [word] = words.as_slice()
                && lexicon::is_silent(word)
            {
                self.bare_names.insert(word.folded.clone());
            }
            let bare = words.len() == 1;
            let ids = ids
                .into_iter()
                .filter(|id| bare || !lexicon::is_filler(&self.words[*id]));
            found.names.push(NameWords {
                ids: ids.collect(),
                forms: words.into_iter().map(|word| word.folded).collect(),
            });
            found.names.extend(parted);
        }
        let kind = target.kind.replace(['_', '-', '.'], " ");
        for word in words::words(&kind, false) {
            found.families |= lexicon::families(&word.stem);
            found.of_families |= lexicon::families_served(&word.stem);
            found.kind.insert(self.intern(&word.stem));
        }
        found.named_families |= found.families;
        for place in [&target.area, &target.floor].into_iter().flatten() {
            found.place.extend(self.intern_all(place));
        }
        found
    }

    /// The same name with its compounds in parts, if it has any.
    fn parted(&mut self, words: &[words::Word]) -> Option<NameWords> {
        let mut ids = Vec::new();
        let mut any = false;
        for word in words {
            if let Some(parts) = lexicon::parts(&word.folded) {
                any = true;
                ids.extend(parts.iter().map(|part| self.intern(part)));
            } else if !lexicon::is_filler(&word.folded) {
                ids.push(self.intern(&word.stem));
            }
        }
        any.then(|| NameWords {
            ids: once_each(ids),
            forms: HashSet::new(),
        })
    }

    fn read_places(&mut self, targets: &[Target]) {
        let mut places: HashMap<&str, BTreeSet<usize>> = HashMap::new();
        for (target, fields) in targets.iter().enumerate() {
            for name in [&fields.area, &fields.floor].into_iter().flatten() {
                places.entry(name).or_default().insert(target);
            }
        }
        let mut named: Vec<_> = places.into_iter().collect();
        named.sort_unstable();
        for (name, targets) in named {
            let words = self.intern_all(name);
            self.places.push(Place { words, targets });
        }
    }

    /// What examples say of the targets that they name.
    fn learn(&mut self, provider: &Provider) {
        let places: HashMap<&str, usize> = (provider.targets().iter().enumerate())
            .map(|(place, target)| (target.id.as_str(), place))
            .collect();
        let most = self.words.len() + LEARNED_MAX;
        for example in provider.tools().iter().flat_map(Tool::examples) {
            let named = example.target.as_deref().and_then(|id| places.get(id));
            let Some(&target) = named else {
                continue;
            };
            let said = words::words(&example.text, true);
            // Who says the whole name gives it no other.
            if !self.says_name(target, &said) {
                for word in said {
                    let says_nothing = lexicon::is_filler(&word.folded)
                        || !lexicon::meanings(&word.stem).is_empty()
                        || self.profile.has(&word.stem)
                        || lexicon::families(&word.stem) != 0;
                    let full = self.words.len() >= most
                        || self.targets[target].learned.len() >= LEARNED_PER_TARGET_MAX;
                    if !says_nothing && !full {
                        let id = self.intern(&word.stem);
                        self.targets[target].learned.insert(id);
                    }
                }
            }
            self.targets[target].mentions += 1;
            let called = calling(&words::said(&example.text, true));
            *self.targets[target].called.entry(called).or_default() += 1;
        }
    }

    /// Whether all words of one of the target's names were said, but for those of its kind.
    fn says_name(&self, target: usize, said: &[words::Word]) -> bool {
        let families = self.targets[target].families;
        let parts: HashSet<String> = (said.iter())
            .filter_map(|word| lexicon::parts(&word.folded))
            .flatten()
            .chain(said.iter().map(|word| word.stem.clone()))
            .collect();
        let has = |id: &WordId| {
            let stem = &self.words[*id];
            lexicon::families(stem) & families != 0 || parts.contains(stem)
        };
        let mut names = self.targets[target].names.iter();
        names.any(|name| name.ids.iter().all(has))
    }

    fn rarities(&self) -> Vec<f64> {
        let mut holders = vec![0_u32; self.words.len()];
        for target in &self.targets {
            let names = target.names.iter().flat_map(|name| &name.ids);
            let mut held: HashSet<WordId> = names.copied().collect();
            held.extend(&target.place);
            held.extend(&target.learned);
            for id in held {
                holders[id] += 1;
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "at most a thousand")]
        let count = self.targets.len() as f64 + 1.0;
        let rarity = |holders: &u32| (count / (f64::from(*holders) + 0.5)).ln().max(0.1);
        holders.iter().map(rarity).collect()
    }
}

/// The words in their order, each where it comes first.
fn once_each(ids: impl IntoIterator<Item = WordId>) -> Vec<WordId> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

/// The words that call a thing: those that are not about what is to be done, as they are written.
pub(super) fn calling<'a>(said: impl IntoIterator<Item = &'a words::Word>) -> Vec<String> {
    let calls = said.into_iter().filter(|word| {
        !lexicon::is_silent(word)
            && !lexicon::is_general(&word.folded)
            && lexicon::meanings(&word.stem).is_empty()
    });
    calls.map(|word| word.folded.clone()).collect()
}
