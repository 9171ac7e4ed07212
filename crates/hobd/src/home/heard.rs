//! What an utterance's words may be: words of targets, of tools, of common language.

use std::collections::{HashMap, HashSet};

use hob_api::home::Aid;

use super::Options;
use super::index::{Index, WordId};
use super::lexicon::{self, Meanings};
use super::profile::features_of;
use super::words::{self, Word};

/// How sure a word is that begins or ends like a longer one, from 0 to 1.
const PART_STRENGTH: f64 = 0.7;
/// How sure a part of a compound is.
const PARTED_STRENGTH: f64 = 0.95;
/// How sure a misspelt word is.
const MISSPELT_STRENGTH: f64 = 0.8;
/// Shortest word that another may begin or end with, in characters.
const PART_CHARS_MIN: usize = 4;
/// Targets' words that one heard word may be, at most: a home may have thousands that begin alike.
const MATCHES_MAX: usize = 16;
/// Longer words are not compared for likeness, which takes time with the square of their length.
const FUZZY_CHARS_MAX: usize = 32;
/// Shortest words with one and with two mistakes, in characters.
const MISSPELT_CHARS_MIN: [usize; 2] = [5, 9];

/// One word, and what it may be.
#[derive(Debug)]
pub(super) struct HeardWord {
    pub(super) word: Word,
    /// It says nothing.
    pub(super) filler: bool,
    pub(super) meanings: Meanings,
    pub(super) families: u32,
    /// Words of targets, each with how sure that is, from 0 to 1.
    pub(super) matches: Vec<(WordId, f64)>,
    /// What is counted of it for tools.
    pub(super) features: Vec<String>,
}

/// A clause, and what its words may be.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) words: Vec<HeardWord>,
    /// By word of a target: how sure it was said, and the place of the word that is it.
    pub(super) strengths: HashMap<WordId, (f64, usize)>,
    pub(super) forms: HashSet<String>,
    pub(super) meanings: Meanings,
    pub(super) families: u32,
    /// Somebody says that all are meant.
    pub(super) all: bool,
    /// A thing of some family is named in the plural.
    pub(super) plural: bool,
}

impl Heard {
    pub(super) fn new(text: &str, index: &Index, options: &Options) -> Self {
        let words = words::said(text, options.uses(Aid::Ordinals));
        let count = words.len();
        let mut heard = Self {
            words: Vec::with_capacity(count),
            strengths: HashMap::new(),
            forms: HashSet::new(),
            meanings: Meanings::default(),
            families: 0,
            all: false,
            plural: false,
        };
        let mut content = 0;
        let mut power = false;
        for (place, word) in words.into_iter().enumerate() {
            let last = place + 1 == count && count > 1;
            let down = power && word.folded == "down";
            power = lexicon::is_power(&word.folded);
            let mut known = heard_word(word, last, content == 0, index, options);
            if down && options.uses(Aid::Lexicon) {
                known.mean(lexicon::meanings("off"));
            }
            content += usize::from(!known.filler);
            heard.take(place, known);
        }
        heard.families = heard.words.iter().fold(0, |all, word| all | word.families);
        heard
    }

    fn take(&mut self, place: usize, word: HeardWord) {
        // Of two things in a row, as in "light switch", the first says which of the second.
        if let Some(before) = self.words.last_mut()
            && word.families != 0
            && before.families & word.families == 0
            && before.meanings.is_empty()
        {
            before.families = 0;
        }
        for (id, strength) in &word.matches {
            let known = self.strengths.entry(*id).or_insert((0.0, place));
            if *strength > known.0 {
                *known = (*strength, place);
            }
        }
        self.all |= lexicon::is_all(&word.word.folded);
        self.plural |= word.families != 0 && is_plural(&word.word.folded);
        self.meanings = self.meanings.with(word.meanings);
        self.forms.insert(word.word.folded.clone());
        self.words.push(word);
    }

    /// Whether the word of a target was said, more or less.
    pub(super) fn strength(&self, id: WordId) -> f64 {
        self.strengths
            .get(&id)
            .map_or(0.0, |(strength, _)| *strength)
    }
}

impl HeardWord {
    /// Lets it say something else than it does alone.
    fn mean(&mut self, meanings: Meanings) {
        self.features.retain(|feature| !feature.starts_with('#'));
        self.features.extend(meanings.names().map(str::to_owned));
        self.meanings = meanings;
    }
}

fn heard_word(
    word: Word,
    last: bool,
    first_content: bool,
    index: &Index,
    options: &Options,
) -> HeardWord {
    let lexicon = options.uses(Aid::Lexicon);
    let mut meanings = Meanings::default();
    if lexicon {
        meanings = lexicon::meanings(&word.stem);
        if last {
            meanings = meanings.with(lexicon::end_meanings(&word.folded));
        }
    }
    // »Switch off the fan« speaks of no switch, nor does »schalte das Licht aus«.
    let verb = (first_content && word.folded == "switch")
        || matches!(word.folded.as_str(), "schalte" | "schalten" | "schaltet");
    let filler = lexicon::is_filler(&word.folded) && meanings.is_empty();
    let mut families = lexicon::families(&word.stem);
    let mut matches = Vec::new();
    if !filler && !verb {
        matches = matched(&word, index, options);
        if families == 0
            && meanings.is_empty()
            && let Some((_, thing)) = lexicon::parted(&word.folded)
        {
            families = lexicon::families(&thing);
        }
    }
    if verb || !options.uses(Aid::Kinds) {
        families = 0;
    }
    let mut features = features_of(&word.stem, lexicon);
    for name in meanings.names() {
        if !features.iter().any(|known| known == name) {
            features.push(name.to_owned());
        }
    }
    HeardWord {
        word,
        filler,
        meanings,
        families,
        matches,
        features,
    }
}

/// The words of targets that `word` may be.
fn matched(word: &Word, index: &Index, options: &Options) -> Vec<(WordId, f64)> {
    if let Some(id) = index.id(&word.stem) {
        return vec![(id, 1.0)];
    }
    let mut matches = Vec::new();
    for floor in lexicon::floor_words(&word.folded) {
        let id = index.id(words::stem(&floor));
        matches.extend(id.map(|id| (id, 1.0)));
    }
    if !options.uses(Aid::Fuzzy) {
        return matches;
    }
    if lexicon::meanings(&word.stem).is_empty()
        && let Some((first, thing)) = lexicon::parted(&word.folded)
    {
        for part in [first, thing] {
            let id = index.id(&part);
            matches.extend(id.map(|id| (id, PARTED_STRENGTH)));
        }
    }
    // What tools are spoken of in is understood already.
    if index.profile.knows_any(&word.stem, options) {
        return matches;
    }
    let sure = matches.len();
    for (id, known) in index.words.iter().enumerate() {
        let strength = similarity(&word.stem, known);
        if strength > 0.0 && matches[..sure].iter().all(|(other, _)| *other != id) {
            matches.push((id, strength));
        }
    }
    matches.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    matches.truncate(MATCHES_MAX);
    matches
}

/// How sure it is that who said `heard` means `known`, which differs from it: from 0 to 1.
fn similarity(heard: &str, known: &str) -> f64 {
    let (a, b) = (heard.chars().count(), known.chars().count());
    let (short, long) = if a < b {
        (heard, known)
    } else {
        (known, heard)
    };
    if a.max(b) > FUZZY_CHARS_MAX {
        return 0.0;
    }
    let least = a.min(b);
    if least >= PART_CHARS_MIN && (long.starts_with(short) || long.ends_with(short)) {
        return PART_STRENGTH;
    }
    let mistakes = MISSPELT_CHARS_MIN.iter().filter(|chars| least >= **chars);
    let mistakes = mistakes.count();
    // The first letter is seldom wrong, and looking at it spares most comparisons.
    if a.abs_diff(b) <= mistakes
        && mistakes > 0
        && heard.chars().next() == known.chars().next()
        && strsim::damerau_levenshtein(heard, known) <= mistakes
    {
        return MISSPELT_STRENGTH;
    }
    0.0
}

fn is_plural(folded: &str) -> bool {
    (folded.ends_with('s') && !folded.ends_with("ss")) || folded.ends_with("en") || {
        // German plurals that end otherwise.
        matches!(folded, "lichter" | "rollos" | "fenster" | "schloesser")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_alike_are_recognised() {
        assert!(similarity("stairwell", "stair") > 0.0);
        assert!(similarity("chandelir", "chandeli") > 0.0);
        assert!(similarity("kithcen", "kitchen") > 0.0);
        assert!(similarity("hallwya", "hallway") > 0.0);
    }

    #[test]
    fn words_that_are_not_alike_are_not() {
        for (a, b) in [
            ("pool", "door"),
            ("bed", "bedroom"),
            ("den", "garden"),
            ("on", "off"),
        ] {
            assert!(similarity(a, b).abs() < f64::EPSILON, "{a} {b}");
        }
    }
}
