//! Which words go with which tool, by its name, its description and its examples.
//!
//! A tool is judged by how often each word is in what is said of it, word by word on its own (naive
//! Bayes over the presence of words), against the other tools that could be meant. What is said of
//! it is few lines, so counts are smoothed.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use hob_api::home::Aid;
use hob_api::provider::Scalar;

use super::Options;
use super::index::Index;
use super::lexicon::{self, Meanings};
use super::words;
use crate::providers::{Provider, Tool, Values};

/// What is added to each count. Fitted on a development split of phrases (`bench/home.py`).
const SMOOTHING: f64 = 0.2;

/// A word that is said of so many targets is no name of one.
const GENERAL_TARGETS_MIN: usize = 4;

/// Most different words of all tools that are counted; those of names and descriptions always are.
/// Homes have some hundreds.
const WORDS_MAX: usize = 8192;

/// How many texts of a tool have a word: its own (name and description) and its examples.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    own: f64,
    examples: f64,
}

impl Count {
    fn all(self, options: &Options) -> f64 {
        if options.uses(Aid::Examples) {
            self.own + self.examples
        } else {
            self.own
        }
    }
}

/// The words of all tools of a provider.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// By word: the tools that have it.
    counts: HashMap<String, Vec<(usize, Count)>>,
    /// By tool: how many texts there are.
    texts: Vec<Count>,
    /// By tool: what its name says that it does.
    meanings: Vec<Meanings>,
    /// By tool: which other tools act on the same targets, by the place of the first.
    groups: Vec<usize>,
}

/// What one utterance's words say of each tool.
#[derive(Debug)]
pub(super) struct Judgement {
    /// By word and tool: the logarithm of how often it is in what is said of the tool; `None` for
    /// a word that is in nothing.
    words: Vec<Option<Vec<f64>>>,
    /// By word and group of tools: how much more it goes with that than with all.
    groups: Vec<Option<Vec<f64>>>,
    /// By tool: the logarithm of how often it is meant.
    prior: Vec<f64>,
}

impl Profile {
    pub(super) fn new(provider: &Provider, index: &Index) -> Self {
        let tools = provider.tools();
        let mut profile = Self {
            texts: vec![Count::default(); tools.len()],
            meanings: vec![Meanings::default(); tools.len()],
            groups: groups(tools),
            ..Self::default()
        };
        let ids: HashMap<&str, usize> = (provider.targets().iter().enumerate())
            .map(|(place, target)| (target.id.as_str(), place))
            .collect();
        let examples = Examples::new(tools);
        for (place, tool) in tools.iter().enumerate() {
            let name = own_name(tool);
            for stem in words::stems(&name) {
                profile.meanings[place] = profile.meanings[place].with(lexicon::meanings(&stem));
            }
            let arguments = of_arguments(tool);
            for text in [&name, tool.description(), &arguments] {
                if !text.is_empty() {
                    profile.add(place, &features(&words::stems(text)), true);
                }
            }
            for (example, stems) in tool.examples().iter().zip(&examples.stems[place]) {
                let target = example.target.as_deref().and_then(|id| ids.get(id));
                let said = stems.iter().filter(|stem| {
                    let named = target.is_some_and(|target| index.is_named(*target, stem));
                    !named && examples.is_general(stem)
                });
                let said: Vec<String> = said.cloned().collect();
                profile.add(place, &features(&said), false);
            }
        }
        profile
    }

    fn add(&mut self, tool: usize, features: &BTreeSet<String>, own: bool) {
        let field = |count: &mut Count| {
            if own {
                count.own += 1.0;
            } else {
                count.examples += 1.0;
            }
        };
        field(&mut self.texts[tool]);
        for feature in features {
            if !own && self.counts.len() >= WORDS_MAX && !self.counts.contains_key(feature) {
                continue;
            }
            let tools = self.counts.entry(feature.clone()).or_default();
            match tools.last_mut() {
                Some((last, count)) if *last == tool => field(count),
                _ => {
                    let mut count = Count::default();
                    field(&mut count);
                    tools.push((tool, count));
                }
            }
        }
    }

    /// How many different words are counted.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether the word goes with a tool, so that it says nothing about a target.
    pub(super) fn has(&self, stem: &str) -> bool {
        self.counts.contains_key(stem)
    }

    /// By tool: whether something said of it has the word or something that means the same.
    pub(super) fn known(&self, stem: &str, options: &Options) -> Vec<bool> {
        let mut known = vec![false; self.texts.len()];
        let mut know = |feature: &str| {
            for (tool, count) in self.counts.get(feature).into_iter().flatten() {
                known[*tool] |= count.all(options) > 0.0;
            }
        };
        know(stem);
        if options.uses(Aid::Lexicon) {
            lexicon::meanings(stem).names().for_each(know);
        }
        known
    }

    /// Whether one of the tools knows the word.
    pub(super) fn knows_any(&self, stem: &str, options: &Options) -> bool {
        self.known(stem, options).contains(&true)
    }

    /// What the tool's name says that it does.
    pub(super) fn meanings(&self, tool: usize) -> Meanings {
        self.meanings[tool]
    }

    /// The tools that act on the same targets as `tool` have the same number.
    pub(super) fn group(&self, tool: usize) -> usize {
        self.groups[tool]
    }

    /// What each of `words` says of each tool; a word is given by the features that it has.
    pub(super) fn judge(&self, words: &[Vec<String>], options: &Options) -> Judgement {
        let texts: Vec<f64> = self.texts.iter().map(|count| count.all(options)).collect();
        let judge_word = |features: &Vec<String>| self.judge_word(features, &texts, options);
        let (words, groups) = words.iter().map(judge_word).unzip();
        Judgement {
            words,
            groups,
            prior: texts.iter().map(|texts| (texts + 1.0).ln()).collect(),
        }
    }

    /// By tool, and by group.
    fn judge_word(
        &self,
        features: &[String],
        texts: &[f64],
        options: &Options,
    ) -> (Option<Vec<f64>>, Option<Vec<f64>>) {
        let mut tools: Option<Vec<f64>> = None;
        let mut groups: Option<Vec<f64>> = None;
        let all_texts: f64 = texts.iter().sum();
        let group_texts = self.by_group(texts);
        for feature in features {
            let Some(counts) = self.feature_counts(feature, options) else {
                continue;
            };
            let sums = tools.get_or_insert_with(|| vec![0.0; texts.len()]);
            for ((sum, count), texts) in sums.iter_mut().zip(&counts).zip(texts) {
                *sum += ((count + SMOOTHING) / (texts + 2.0 * SMOOTHING)).ln();
            }
            let usual = (counts.iter().sum::<f64>() + 1.0) / (all_texts + 2.0);
            let sums = groups.get_or_insert_with(|| vec![0.0; texts.len()]);
            let counts = self.by_group(&counts);
            for ((sum, count), texts) in sums.iter_mut().zip(&counts).zip(&group_texts) {
                *sum += ((count + 1.0) / (texts + 2.0) / usual).ln();
            }
        }
        (tools, groups)
    }

    /// Sums of what is given by tool, at the place of each group.
    fn by_group(&self, tools: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; tools.len()];
        for (group, value) in self.groups.iter().zip(tools) {
            sums[*group] += value;
        }
        sums
    }

    /// How many texts of each tool have the feature; `None` if none has.
    fn feature_counts(&self, feature: &str, options: &Options) -> Option<Vec<f64>> {
        let tools = self.counts.get(feature)?;
        let mut counts = vec![0.0; self.texts.len()];
        for (tool, count) in tools {
            counts[*tool] = count.all(options);
        }
        counts.iter().any(|count| *count > 0.0).then_some(counts)
    }
}

/// The words of all examples, and of what they are said.
struct Examples<'a> {
    /// By tool and example.
    stems: Vec<Vec<Vec<String>>>,
    /// By word.
    said: HashMap<String, Said<'a>>,
}

/// Of what a word is said.
#[derive(Default)]
struct Said<'a> {
    /// Of targets that examples name, as many as make it general.
    targets: Vec<&'a str>,
    /// In examples that name none.
    of_any: bool,
}

impl<'a> Examples<'a> {
    fn new(tools: &'a [Tool]) -> Self {
        let mut all: HashMap<String, Said<'a>> = HashMap::new();
        let mut stems = Vec::with_capacity(tools.len());
        for tool in tools {
            let mut of_tool = Vec::with_capacity(tool.examples().len());
            for example in tool.examples() {
                let words = words::said(&without_slots(&example.text), true);
                let words: Vec<String> = words.into_iter().map(|word| word.stem).collect();
                for stem in &words {
                    let said = all.entry(stem.clone()).or_default();
                    match &example.target {
                        Some(target) => {
                            let target = target.as_str();
                            let counted = said.targets.len() >= GENERAL_TARGETS_MIN;
                            if !counted && !said.targets.contains(&target) {
                                said.targets.push(target);
                            }
                        }
                        None => said.of_any = true,
                    }
                }
                of_tool.push(words);
            }
            stems.push(of_tool);
        }
        Self { stems, said: all }
    }

    /// Whether the word goes with tools: what is said of few targets alone may be another name.
    fn is_general(&self, stem: &str) -> bool {
        let of_many = |said: &Said<'_>| said.of_any || said.targets.len() >= GENERAL_TARGETS_MIN;
        !lexicon::meanings(stem).is_empty() || self.said.get(stem).is_none_or(of_many)
    }
}

impl Judgement {
    /// How well the words that `left` lets through go with `tool`, as a logarithm.
    pub(super) fn of(&self, tool: usize, prior: f64, left: &[bool]) -> f64 {
        let words = self.words.iter().zip(left);
        let said = words.filter_map(|(word, left)| left.then(|| word.as_ref()).flatten());
        prior * self.prior[tool] + said.map(|tools| tools[tool]).sum::<f64>()
    }

    /// How much more the words that `left` lets through go with a group of tools than with all.
    pub(super) fn of_group(&self, group: usize, left: &[bool]) -> f64 {
        let words = self.groups.iter().zip(left);
        let said = words.filter_map(|(word, left)| left.then(|| word.as_ref()).flatten());
        said.map(|groups| groups[group]).sum()
    }
}

/// What is counted of some words, each once.
pub(super) fn features(stems: &[String]) -> BTreeSet<String> {
    stems
        .iter()
        .flat_map(|stem| features_of(stem, true))
        .collect()
}

/// What is counted of a word: itself and what it means.
pub(super) fn features_of(stem: &str, lexicon: bool) -> Vec<String> {
    if lexicon::is_filler(stem) {
        return Vec::new();
    }
    let meanings = lexicon::meanings(stem).names().filter(|_| lexicon);
    std::iter::once(stem.to_owned())
        .chain(meanings.map(str::to_owned))
        .collect()
}

/// What is said of a tool's arguments: their names, what they mean, and what they may be.
fn of_arguments(tool: &Tool) -> String {
    let mut text = String::new();
    for parameter in tool.parameters() {
        let name = spaced(&parameter.name);
        // Writing to a string can't fail.
        let _ = write!(text, "{name} {} ", parameter.description);
        if let Values::Choice(choices) = &parameter.values {
            for choice in choices {
                if let Scalar::Text(choice) = choice {
                    text.push_str(choice);
                    text.push(' ');
                }
            }
        }
    }
    text
}

/// By tool: the place of the first that acts on the same.
fn groups(tools: &[Tool]) -> Vec<usize> {
    let first = |tool: &Tool| {
        let same = |other: &Tool| other.acts_on() == tool.acts_on();
        tools.iter().position(same).unwrap_or_default()
    };
    tools.iter().map(first).collect()
}

/// The words of a tool's name, but for those in front that name the kind of thing it acts on: who
/// says "light" names one, and does not mean `light.turn_on` before other tools.
fn own_name(tool: &Tool) -> String {
    let kinds = tool.acts_on().map_or(&[][..], |acts_on| &acts_on.kinds);
    let kinds: BTreeSet<String> = kinds
        .iter()
        .flat_map(|kind| words::stems(&spaced(kind)))
        .collect();
    let name = spaced(tool.name());
    let words: Vec<&str> = name.split_whitespace().collect();
    let is_kind = |word: &&&str| words::stems(word).iter().all(|stem| kinds.contains(stem));
    let front = words.iter().take_while(is_kind).count();
    // `lock.lock` has to do something.
    words[front.min(words.len().saturating_sub(1))..].join(" ")
}

/// A tool's name as words: `HassTurnOn` and `light.turn_on` have several.
pub(super) fn spaced(name: &str) -> String {
    let mut spaced = String::with_capacity(name.len() + 8);
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            spaced.push(' ');
        }
        spaced.push(if c.is_ascii_alphanumeric() { c } else { ' ' });
        before = c;
    }
    spaced
}

/// An example without its `{slots}`.
fn without_slots(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, slot)) = rest.split_once('{') {
        left.push_str(before);
        // A filler, so that the words around it are not taken for the first or the last.
        left.push_str(" it ");
        rest = slot.split_once('}').map_or("", |(_, after)| after);
    }
    left + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tools_are_words() {
        assert_eq!(spaced("HassTurnOn"), "Hass Turn On");
        assert_eq!(spaced("light.turn_on"), "light turn on");
    }

    #[test]
    fn slots_are_no_words() {
        assert_eq!(without_slots("set {target} to {x}%"), "set  it  to  it %");
        assert_eq!(without_slots("an open {slot"), "an open  it ");
        assert_eq!(without_slots("no slots}"), "no slots}");
    }
}
