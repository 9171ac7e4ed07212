//! Quantities in an utterance: figures and number words of English and German, with their units.

use std::ops::Range;

use super::words::Word;

/// What a quantity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Nothing that was said.
    None,
    Percent,
    Degrees,
    /// Degrees of a scale that few homes have.
    Fahrenheit,
    Seconds,
}

/// A number and its unit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantity {
    pub(super) value: f64,
    pub(super) unit: Unit,
    /// The words that say it.
    pub(super) words: Range<usize>,
}

/// Number words, folded. Those of German from 21 on are one word, which [`german`] takes apart.
const SMALL: &[(&str, f64)] = &[
    ("zero", 0.0),
    ("null", 0.0),
    ("one", 1.0),
    ("eins", 1.0),
    ("two", 2.0),
    ("zwei", 2.0),
    ("three", 3.0),
    ("drei", 3.0),
    ("four", 4.0),
    ("vier", 4.0),
    ("five", 5.0),
    ("fuenf", 5.0),
    ("six", 6.0),
    ("sechs", 6.0),
    ("seven", 7.0),
    ("sieben", 7.0),
    ("eight", 8.0),
    ("acht", 8.0),
    ("nine", 9.0),
    ("neun", 9.0),
    ("ten", 10.0),
    ("zehn", 10.0),
    ("eleven", 11.0),
    ("elf", 11.0),
    ("twelve", 12.0),
    ("zwoelf", 12.0),
    ("thirteen", 13.0),
    ("dreizehn", 13.0),
    ("fourteen", 14.0),
    ("vierzehn", 14.0),
    ("fifteen", 15.0),
    ("fuenfzehn", 15.0),
    ("sixteen", 16.0),
    ("sechzehn", 16.0),
    ("seventeen", 17.0),
    ("siebzehn", 17.0),
    ("eighteen", 18.0),
    ("achtzehn", 18.0),
    ("nineteen", 19.0),
    ("neunzehn", 19.0),
];

const TENS: &[(&str, f64)] = &[
    ("twenty", 20.0),
    ("zwanzig", 20.0),
    ("thirty", 30.0),
    ("dreissig", 30.0),
    ("forty", 40.0),
    ("vierzig", 40.0),
    ("fifty", 50.0),
    ("fuenfzig", 50.0),
    ("sixty", 60.0),
    ("sechzig", 60.0),
    ("seventy", 70.0),
    ("siebzig", 70.0),
    ("eighty", 80.0),
    ("achtzig", 80.0),
    ("ninety", 90.0),
    ("neunzig", 90.0),
];

const HUNDREDS: &[&str] = &["hundred", "hundert", "einhundert"];
const HALVES: &[&str] = &["half", "halb", "halbe", "halben", "haelfte"];
const MOST: &[&str] = &["full", "max", "maximum", "maximal", "voll", "volle"];

/// The quantities that `words` name, in order.
pub(super) fn quantities(words: &[Word]) -> Vec<Quantity> {
    let mut found: Vec<Quantity> = Vec::new();
    let mut place = 0;
    while place < words.len() {
        let Some(quantity) = quantity(words, place) else {
            place += 1;
            continue;
        };
        place = quantity.words.end;
        match found.last_mut() {
            Some(last) if continues(last, &quantity, words) => {
                last.value += quantity.value;
                last.words.end = quantity.words.end;
            }
            _ => found.push(quantity),
        }
    }
    found
}

/// Whether two quantities are one duration: two hours and thirty minutes.
fn continues(last: &Quantity, next: &Quantity, words: &[Word]) -> bool {
    let between = &words[last.words.end..next.words.start];
    let joined = match between {
        [] => true,
        [word] => matches!(word.folded.as_str(), "and" | "und"),
        _ => false,
    };
    joined && last.unit == Unit::Seconds && next.unit == Unit::Seconds && next.value < last.value
}

/// The quantity that begins at `start`.
fn quantity(words: &[Word], start: usize) -> Option<Quantity> {
    let folded = |place: usize| words.get(place).map(|word| word.folded.as_str());
    let first = folded(start)?;
    if MOST.contains(&first) {
        return Some(Quantity {
            value: 100.0,
            unit: Unit::Percent,
            words: start..start + 1,
        });
    }
    if HALVES.contains(&first) {
        let article = matches!(folded(start + 1), Some("a" | "an"));
        let unit = start + 1 + usize::from(article);
        return Some(match folded(unit).and_then(duration) {
            Some(seconds) => Quantity {
                value: seconds / 2.0,
                unit: Unit::Seconds,
                words: start..unit + 1,
            },
            None => Quantity {
                value: 50.0,
                unit: Unit::Percent,
                words: start..start + 1,
            },
        });
    }
    if matches!(
        first,
        "a" | "an" | "one" | "ein" | "eine" | "einer" | "einen"
    ) && let Some(seconds) = folded(start + 1).and_then(duration)
    {
        return Some(Quantity {
            value: seconds,
            unit: Unit::Seconds,
            words: start..start + 2,
        });
    }
    if is_pronoun(words, start) {
        return None;
    }
    let (mut value, mut end) = number(words, start)?;
    let half = [folded(end), folded(end + 1), folded(end + 2)];
    if half == [Some("and"), Some("a"), Some("half")] {
        value += 0.5;
        end += 3;
    }
    let (factor, unit, end) = unit(words, end);
    Some(Quantity {
        value: value * factor,
        unit,
        words: start..end,
    })
}

/// Whether the `one` at `start` stands for a thing, as in "that one" and "the left one", and is no
/// number, as in "to one".
fn is_pronoun(words: &[Word], start: usize) -> bool {
    let folded = |place: usize| words.get(place).map_or("", |word| word.folded.as_str());
    let counts = HUNDREDS.contains(&folded(start + 1)) || unit(words, start + 1).1 != Unit::None;
    if folded(start) != "one" || counts {
        return false;
    }
    let before = |back: usize| start.checked_sub(back).map_or("", folded);
    let points = |word: &str| POINTING.contains(&word);
    let to = matches!(before(1), "to" | "at" | "by" | "for" | "and" | "minus");
    start == 0 || (!to && (points(before(1)) || points(before(2))))
}

/// Words that point at a thing which is then called "one".
const POINTING: &[&str] = &[
    "that", "this", "the", "which", "each", "every", "any", "other", "another",
];

/// A number without its unit, and where it ends.
fn number(words: &[Word], start: usize) -> Option<(f64, usize)> {
    let word = words.get(start)?.folded.as_str();
    if word == "minus" {
        let (value, end) = number(words, start + 1)?;
        return Some((-value, end));
    }
    let digits = word.strip_prefix('-').unwrap_or(word);
    if digits.starts_with(|c: char| c.is_ascii_digit()) {
        let value: f64 = word.replace(',', ".").parse().ok()?;
        return Some((value, start + 1));
    }
    let after = words.get(start + 1).map(|word| word.folded.as_str());
    let hundred = after.is_some_and(|after| HUNDREDS.contains(&after));
    if HUNDREDS.contains(&word) {
        return Some((100.0, start + 1));
    }
    if let Some(small) = find(SMALL, word) {
        return Some(if hundred {
            (100.0 * small, start + 2)
        } else {
            (small, start + 1)
        });
    }
    if let Some(tens) = find(TENS, word) {
        let ones = after
            .and_then(|after| find(SMALL, after))
            .filter(|ones| *ones < 10.0);
        return Some(match ones {
            Some(ones) => (tens + ones, start + 2),
            None => (tens, start + 1),
        });
    }
    german(word).map(|value| (value, start + 1))
}

/// Fünfundzwanzig, and dreieinhalb.
fn german(word: &str) -> Option<f64> {
    if let Some(whole) = word.strip_suffix("einhalb") {
        return find(SMALL, whole).map(|whole| whole + 0.5);
    }
    let (ones, tens) = word.split_once("und")?;
    let ones = if ones == "ein" {
        Some(1.0)
    } else {
        find(SMALL, ones)
    };
    Some(find(TENS, tens)? + ones?)
}

fn find(table: &[(&str, f64)], word: &str) -> Option<f64> {
    let found = table.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value)
}

/// The unit at `start`: what the number is to be multiplied by, and where the unit ends.
fn unit(words: &[Word], start: usize) -> (f64, Unit, usize) {
    let Some(word) = words.get(start).map(|word| word.folded.as_str()) else {
        return (1.0, Unit::None, start);
    };
    if matches!(word, "%" | "percent" | "prozent") {
        return (1.0, Unit::Percent, start + 1);
    }
    if matches!(word, "°" | "degree" | "degrees" | "grad") {
        let scale = words.get(start + 1).map(|word| word.folded.as_str());
        return match scale {
            Some("f" | "fahrenheit") => (1.0, Unit::Fahrenheit, start + 2),
            Some("c" | "celsius") => (1.0, Unit::Degrees, start + 2),
            _ => (1.0, Unit::Degrees, start + 1),
        };
    }
    match duration(word) {
        Some(seconds) => (seconds, Unit::Seconds, start + 1),
        None => (1.0, Unit::None, start),
    }
}

/// The seconds of a unit of time.
fn duration(word: &str) -> Option<f64> {
    match word {
        "second" | "seconds" | "sec" | "sekunde" | "sekunden" | "s" => Some(1.0),
        "minute" | "minutes" | "min" | "mins" | "minuten" => Some(60.0),
        "hour" | "hours" | "h" | "stunde" | "stunden" => Some(3600.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;

    fn of(text: &str) -> Vec<(f64, Unit)> {
        let found = quantities(&words(text, true));
        found.into_iter().map(|q| (q.value, q.unit)).collect()
    }

    #[test]
    fn figures_and_words_are_numbers() {
        for (text, value, unit) in [
            ("to 40 %", 40.0, Unit::Percent),
            ("to forty percent", 40.0, Unit::Percent),
            ("auf vierzig Prozent", 40.0, Unit::Percent),
            ("to seventy five", 75.0, Unit::None),
            ("auf fünfundsiebzig", 75.0, Unit::None),
            ("21.5 degrees", 21.5, Unit::Degrees),
            ("21,5 °C", 21.5, Unit::Degrees),
            ("-18 degrees", -18.0, Unit::Degrees),
            ("minus 18 grad", -18.0, Unit::Degrees),
            ("70 °F", 70.0, Unit::Fahrenheit),
            ("twenty one degrees celsius", 21.0, Unit::Degrees),
            ("two hundred", 200.0, Unit::None),
            ("dim to half", 50.0, Unit::Percent),
            ("auf die Hälfte", 50.0, Unit::Percent),
            ("full brightness", 100.0, Unit::Percent),
        ] {
            assert_eq!(of(text), [(value, unit)], "{text}");
        }
    }

    #[test]
    fn durations_are_seconds() {
        for (text, seconds) in [
            ("for 5 minutes", 300.0),
            ("half an hour", 1800.0),
            ("eine halbe Stunde", 1800.0),
            ("an hour", 3600.0),
            ("two and a half hours", 9000.0),
            ("dreieinhalb Stunden", 12600.0),
            ("seven hours and forty-five minutes", 27900.0),
            ("eine Stunde und zehn Minuten", 4200.0),
        ] {
            assert_eq!(of(text), [(seconds, Unit::Seconds)], "{text}");
        }
    }

    #[test]
    fn a_one_that_stands_for_a_thing_is_no_number() {
        for text in [
            "turn that one on",
            "the left one",
            "this one please",
            "one more light",
            "dim the other one to half",
        ] {
            let ones = of(text).iter().any(|(value, _)| *value < 2.0);
            assert!(!ones, "{text}");
        }
        for text in [
            "set this to one",
            "turn that one degree down",
            "that one hundred percent",
            "speed one",
            "set the fan to one",
        ] {
            assert_eq!(of(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["the lamp", "a light", "ein Licht", "und", "and a half"] {
            let none = of(text)
                .iter()
                .all(|(value, _)| (*value - 50.0).abs() < 0.1);
            assert!(none, "{text}");
        }
        assert_eq!(of("5 minutes and 7 hours").len(), 2);
    }
}
