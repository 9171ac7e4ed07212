//! From text to words that can be compared: case, accents, umlauts, apostrophes and endings do not
//! count.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::lexicon;

/// Shortest folded word, in bytes, that loses a plural's s.
const PLURAL_BYTES_MIN: usize = 4;
/// Shortest folded word, in bytes, that loses a German ending.
const ENDING_BYTES_MIN: usize = 5;

/// What ends like another form of a word that means something else.
const NOUNS: &[&str] = &["player", "cooler", "offen"];

/// One word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Where it stands in the text, in bytes.
    pub(super) span: Range<usize>,
    /// In lower case of ASCII as far as there is any.
    pub(super) folded: String,
    /// What it is compared by.
    pub(super) stem: String,
}

/// The words of `text`; with `ordinals`, number words up to twelve are their figures.
pub(super) fn words(text: &str, ordinals: bool) -> Vec<Word> {
    let mut words = Vec::new();
    for span in spans(text) {
        let mut folded = fold_word(&text[span.clone()]);
        if is_negative(text, span.start) && folded.starts_with(|c: char| c.is_ascii_digit()) {
            folded.insert(0, '-');
        }
        if folded.is_empty() {
            continue;
        }
        let figure = lexicon::figure(&folded).filter(|_| ordinals);
        let stem = figure.map_or_else(|| stem(&folded).to_owned(), str::to_owned);
        words.push(Word { span, folded, stem });
    }
    words
}

/// The stems of `text`, as names and examples are kept.
pub(super) fn stems(text: &str) -> Vec<String> {
    words(text, true)
        .into_iter()
        .map(|word| word.stem)
        .collect()
}

/// The words of an utterance or example, without an `on` that is a preposition.
pub(super) fn said(text: &str, ordinals: bool) -> Vec<Word> {
    let words = words(text, ordinals);
    let folded: Vec<&str> = words.iter().map(|word| word.folded.as_str()).collect();
    let kept: Vec<bool> = (folded.iter().enumerate())
        .map(|(place, word)| *word != "on" || lexicon::is_particle(&folded, place))
        .collect();
    let words = words.into_iter().zip(kept);
    words
        .filter_map(|(word, kept)| kept.then_some(word))
        .collect()
}

/// A word without what its inflection adds, lightly: too little is mended by the fuzzy comparison,
/// too much would confuse.
pub(super) fn stem(folded: &str) -> &str {
    if !folded.is_ascii() {
        return folded;
    }
    let mut stem = folded;
    if stem.len() >= PLURAL_BYTES_MIN && stem.ends_with('s') && !stem.ends_with("ss") {
        stem = &stem[..stem.len() - 1];
    }
    if NOUNS.contains(&stem) {
        return stem;
    }
    for ending in ["en", "er", "em", "es", "e", "n"] {
        if stem.len() >= ENDING_BYTES_MIN
            && stem.len() - ending.len() >= PLURAL_BYTES_MIN - 1
            && let Some(short) = stem.strip_suffix(ending)
        {
            return short;
        }
    }
    stem
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Sign,
    Other,
}

fn class(c: char) -> Class {
    if c.is_numeric() {
        Class::Digit
    } else if c.is_alphabetic() || is_combining_mark(c) {
        Class::Letter
    } else if matches!(c, '%' | '°') {
        Class::Sign
    } else {
        Class::Other
    }
}

/// Runs of letters, or of digits with a decimal point or comma; an ideograph or a sign alone.
fn spans(text: &str) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut last = Class::Other;
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let end = start + c.len_utf8();
        let next = chars.peek().map(|(_, next)| class(*next));
        let here = class(c);
        let joins = match c {
            // Bob's, and 21.5: a mark within a word or number.
            '\'' | '’' => last == Class::Letter && next == Some(Class::Letter),
            '.' | ',' => last == Class::Digit && next == Some(Class::Digit),
            _ => here == last && matches!(here, Class::Letter | Class::Digit) && !is_ideograph(c),
        };
        match spans.last_mut() {
            Some(span) if joins && span.end == start => span.end = end,
            _ if here != Class::Other => spans.push(start..end),
            _ => {}
        }
        if !joins || here != Class::Other {
            last = if is_ideograph(c) { Class::Other } else { here };
        }
    }
    spans
}

/// Whether a sign stands right before `start`, and is no dash between two words or numbers.
fn is_negative(text: &str, start: usize) -> bool {
    let mut before = text[..start].chars().rev();
    matches!(before.next(), Some('-' | '−')) && before.next().is_none_or(char::is_whitespace)
}

/// Scripts that are written without spaces are compared sign by sign.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// `word` in lower case of ASCII, as far as there is any.
pub(super) fn fold_word(word: &str) -> String {
    let composed = word.nfc().flat_map(char::to_lowercase);
    let mut folded = String::with_capacity(word.len());
    for c in composed {
        match c {
            'ä' => folded.push_str("ae"),
            'ö' => folded.push_str("oe"),
            'ü' => folded.push_str("ue"),
            'ß' => folded.push_str("ss"),
            '\'' | '’' => {}
            _ => folded.extend([c].into_iter().nfkd().filter(|c| !is_combining_mark(*c))),
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Vec<String> {
        let words = words(text, false).into_iter();
        words.map(|word| word.folded).collect()
    }

    #[test]
    fn case_accents_and_punctuation_do_not_count() {
        assert_eq!(folded("Café, ÉTAGE!"), ["cafe", "etage"]);
        assert_eq!(folded("Küchen-Straße"), ["kuechen", "strasse"]);
        // The same letter, written as two characters.
        assert_eq!(folded("Ku\u{308}che"), folded("Küche"));
        assert_eq!(
            folded("Bob's lamp isn’t on"),
            ["bobs", "lamp", "isnt", "on"]
        );
        assert_eq!(folded("  ...  "), [""; 0]);
    }

    #[test]
    fn numbers_stand_alone() {
        assert_eq!(folded("garage2"), ["garage", "2"]);
        assert_eq!(
            folded("to 21.5°C, 50% now."),
            ["to", "21.5", "°", "c", "50", "%", "now"]
        );
        assert_eq!(folded("auf 21,5 Grad"), ["auf", "21,5", "grad"]);
        assert_eq!(
            stems("the second lamp, zwei, two"),
            ["the", "2", "lamp", "2", "2"]
        );
    }

    #[test]
    fn scripts_without_spaces_are_read_sign_by_sign() {
        assert_eq!(folded("厨房灯"), ["厨", "房", "灯"]);
        assert_eq!(folded("свет на кухне"), ["свет", "на", "кухне"]);
    }

    #[test]
    fn inflection_does_not_count() {
        for (a, b) in [
            ("lights", "light"),
            ("Lampen", "Lampe"),
            ("Küchen", "Küche"),
            ("Jalousien", "Jalousie"),
            ("schalten", "schalte"),
            ("Rollos", "Rollo"),
        ] {
            assert_eq!(stems(a), stems(b), "{a} {b}");
        }
        for word in ["off", "den", "glass", "bus"] {
            assert_eq!(stem(word), word);
        }
    }

    #[test]
    fn an_on_that_is_a_preposition_is_left_out() {
        let has_on = |text: &str| said(text, true).iter().any(|word| word.folded == "on");
        for text in [
            "turn on the lamp",
            "turn the lamp on",
            "lights on",
            "on with the lamp",
        ] {
            assert!(has_on(text), "{text}");
        }
        for text in [
            "next track on the stereo",
            "turn off the light on the porch",
        ] {
            assert!(!has_on(text), "{text}");
        }
    }

    #[test]
    fn spans_are_where_the_words_stand() {
        let text = "Füg Öl, bitte!";
        let shown: Vec<&str> = words(text, true)
            .into_iter()
            .map(|word| &text[word.span])
            .collect();
        assert_eq!(shown, ["Füg", "Öl", "bitte"]);
    }
}
