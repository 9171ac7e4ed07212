//! Which words of targets somebody may mean by one that was said: the same, one that means the same,
//! parts of a compound, or one that is written almost alike.

use hob_api::home::Aid;

use super::Options;
use super::index::{Index, WordId};
use super::lexicon;
use super::synonyms::synonyms;
use super::words::{self, Word};

/// How sure a word is that begins or ends like a longer one, from 0 to 1.
const PART_STRENGTH: f64 = 0.7;
/// How sure a part of a compound is.
const PARTED_STRENGTH: f64 = 0.95;
/// How sure a misspelt word is.
const MISSPELT_STRENGTH: f64 = 0.8;
/// How sure a word is that means the same as the one that was said.
const SYNONYM_STRENGTH: f64 = 0.9;
/// The same if the word that was said is one of a target, too.
const SYNONYM_BESIDE_STRENGTH: f64 = 0.75;
/// Shortest last part of a compound of words that are all known, in bytes: a Gartentor.
const LAST_PART_BYTES_MIN: usize = 3;
/// Longer words are not taken for compounds.
const COMPOUND_BYTES_MAX: usize = 48;
/// Shortest word that another may begin or end with, in characters.
const PART_CHARS_MIN: usize = 4;
/// Targets' words that one heard word may be, at most: a home may have thousands that begin alike.
const MATCHES_MAX: usize = 16;
/// Longer words are not compared for likeness, which takes time with the square of their length.
const FUZZY_CHARS_MAX: usize = 32;
/// Shortest words with one and with two mistakes, in characters.
const MISSPELT_CHARS_MIN: [usize; 2] = [5, 9];
/// Most words of targets whose letters are compared with those of one heard word: each takes about a
/// microsecond, and who names thousands of things alike can't be understood anyway.
const COMPARED_MAX: usize = 256;

/// The words of targets that `word` may be.
pub(super) fn matched(word: &Word, index: &Index, options: &Options) -> Vec<(WordId, f64)> {
    let mut matches = Vec::new();
    let known = index.id(&word.stem);
    matches.extend(known.map(|id| (id, 1.0)));
    if options.uses(Aid::Lexicon) {
        let strength = if known.is_some() {
            SYNONYM_BESIDE_STRENGTH
        } else {
            SYNONYM_STRENGTH
        };
        add_synonyms(&word.stem, index, strength, &mut matches);
    }
    let parts = lexicon::parts(&word.folded).filter(|_| options.uses(Aid::Fuzzy));
    if known.is_some() && parts.is_none() {
        return matches;
    }
    for floor in lexicon::floor_words(&word.folded) {
        let id = index.id(words::stem(&floor));
        matches.extend(id.map(|id| (id, 1.0)));
    }
    if !options.uses(Aid::Fuzzy) {
        return matches;
    }
    if lexicon::meanings(&word.stem).is_empty()
        && let Some(parts) = parts
    {
        for part in parts {
            let id = index.id(&part);
            matches.extend(id.map(|id| (id, PARTED_STRENGTH)));
            if options.uses(Aid::Lexicon) {
                add_synonyms(&part, index, SYNONYM_STRENGTH, &mut matches);
            }
            // That one thing is called by the part does not keep another from being called otherwise.
            add_compound(&part, index, options, &mut matches);
        }
        if known.is_some() {
            return matches;
        }
    } else if matches.is_empty() {
        add_compound(&word.folded, index, options, &mut matches);
    }
    // What tools are spoken of in is understood already.
    if index.profile.knows_any(&word.stem, options) {
        return matches;
    }
    let sure = matches.len();
    for (id, strength) in alike(&word.stem, index) {
        if matches[..sure].iter().all(|(other, _)| *other != id) {
            matches.push((id, strength));
        }
    }
    matches.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    matches.truncate(MATCHES_MAX);
    matches
}

/// Words of targets that mean the same as `stem`.
fn add_synonyms(stem: &str, index: &Index, strength: f64, matches: &mut Vec<(WordId, f64)>) {
    for other in synonyms(stem) {
        let id = index
            .id(other)
            .filter(|id| matches.iter().all(|(known, _)| known != id));
        matches.extend(id.map(|id| (id, strength)));
    }
}

/// The two words of targets of which `word` is made: Billardtisch for the pool table.
fn add_compound(folded: &str, index: &Index, options: &Options, matches: &mut Vec<(WordId, f64)>) {
    let part = |text: &str| {
        let mut found = Vec::new();
        let stem = words::stem(text);
        found.extend(index.id(stem).map(|id| (id, PARTED_STRENGTH)));
        if options.uses(Aid::Lexicon) {
            add_synonyms(stem, index, SYNONYM_STRENGTH, &mut found);
        }
        found
    };
    if folded.len() > COMPOUND_BYTES_MAX {
        return;
    }
    let splits = (PART_CHARS_MIN..folded.len().saturating_sub(LAST_PART_BYTES_MIN - 1)).rev();
    for split in splits.filter(|split| folded.is_char_boundary(*split)) {
        let (first, last) = (part(&folded[..split]), part(&folded[split..]));
        if !first.is_empty() && !last.is_empty() {
            matches.extend(first);
            matches.extend(last);
            return;
        }
    }
}

/// What decides whether a word is like another, looked at before their letters are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    chars: usize,
    first: Option<char>,
    /// Which letters it has, as a set of bits; all others are one.
    letters: u32,
}

impl Shape {
    pub(super) fn new(word: &str) -> Self {
        let letter = |c: char| {
            if c.is_ascii_lowercase() {
                u32::from(c) - u32::from('a')
            } else {
                31
            }
        };
        Self {
            chars: word.chars().count(),
            first: word.chars().next(),
            letters: word.chars().fold(0, |all, c| all | 1 << letter(c)),
        }
    }

    /// Whether words of these shapes may be the same but for so many mistakes. The first letter is
    /// seldom wrong; each mistake changes at most two letters.
    fn is_near(self, other: Self, mistakes: u32) -> bool {
        self.first == other.first
            && self.chars.abs_diff(other.chars) <= mistakes as usize
            && (self.letters ^ other.letters).count_ones() <= 2 * mistakes
    }
}

/// The words of targets that are like `heard`, each with how sure it is that it is meant.
fn alike(heard: &str, index: &Index) -> Vec<(WordId, f64)> {
    let shape = Shape::new(heard);
    if shape.chars > FUZZY_CHARS_MAX {
        return Vec::new();
    }
    let mut compared = 0;
    let mut found = Vec::new();
    for (id, (known, known_shape)) in index.words.iter().zip(&index.shapes).enumerate() {
        let least = shape.chars.min(known_shape.chars);
        if known_shape.chars > FUZZY_CHARS_MAX || least < PART_CHARS_MIN {
            continue;
        }
        let mistakes = mistakes(least);
        if is_part(heard, known) {
            found.push((id, PART_STRENGTH));
        } else if mistakes > 0 && compared < COMPARED_MAX && shape.is_near(*known_shape, mistakes) {
            compared += 1;
            if strsim::damerau_levenshtein(heard, known) <= mistakes as usize {
                found.push((id, MISSPELT_STRENGTH));
            }
        }
    }
    found
}

/// Whether one of the words begins or ends with the other.
fn is_part(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    long.starts_with(short) || long.ends_with(short)
}

/// How many mistakes are forgiven in words of so many characters.
fn mistakes(chars: usize) -> u32 {
    MISSPELT_CHARS_MIN
        .iter()
        .map(|least| u32::from(chars >= *least))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How sure it is that who said `heard` means `known`.
    fn similarity(heard: &str, known: &str) -> f64 {
        let index = Index::of_words(&[known]);
        alike(heard, &index)
            .first()
            .map_or(0.0, |(_, strength)| *strength)
    }

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
