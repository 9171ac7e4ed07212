//! Orders that name nothing and say how something is to be, as in "louder": what they may be meant for.

use std::collections::BTreeSet;

use hob_api::home::Outcome;

use super::evidence::Comparison;
use super::heard::HeardWord;
use super::lexicon;
use super::reading::{ALTERNATIVES_MAX, Candidate, Reading, unsure};
use super::verdict::Verdict;
use super::words::stem;

/// Words that say what becomes more or less, each line with a word of the family of things that it is
/// said of.
const SAID_OF: &[(&str, &str)] = &[
    ("speaker", "louder quieter softer lauter leiser"),
    ("lamp", "brighter darker dimmer heller dunkler"),
    (
        "thermostat",
        "warmer hotter cooler colder waermer kaelter kuehler",
    ),
    ("fan", "faster slower schneller langsamer"),
];
/// How much more or less it is to be.
const SIZES: &[&str] = &[
    "bit", "little", "slightly", "much", "lot", "far", "etwas", "bisschen", "wenig", "viel",
    "deutlich",
];

/// The one call that can be meant, or all that can; nothing if more was said than that.
pub(super) fn read<'a>(
    comparison: &Comparison<'_>,
    verdicts: impl Iterator<Item = &'a Verdict>,
) -> Option<Reading> {
    let words = &comparison.heard.words;
    let said = words.iter().filter(|word| !word.filler);
    let said: Vec<&str> = said.map(HeardWord::folded).collect();
    let family = said.iter().find_map(|word| family(word))?;
    let plain = |word: &&str| SIZES.contains(word) || self::family(word).is_some();
    if !said.iter().all(plain) {
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut meant: Vec<&Verdict> = verdicts
        .filter(|verdict| verdict.acts && verdict.call.is_ok())
        .filter(|verdict| match verdict.targets.as_slice() {
            [one] => comparison.index.targets[*one].named_families & family != 0,
            _ => false,
        })
        .filter(|verdict| seen.insert(verdict.targets.clone()))
        .collect();
    let here = |verdict: &&Verdict| comparison.is_here(verdict.targets[0]);
    if meant.iter().any(here) {
        meant.retain(here);
    }
    meant.truncate(ALTERNATIVES_MAX);
    #[allow(clippy::cast_precision_loss, reason = "at most eight")]
    let probability = 1.0 / meant.len().max(1) as f64;
    let calls = meant.iter().filter_map(|verdict| {
        let call = verdict.call.as_ref().ok()?.clone();
        Some(Candidate { call, probability })
    });
    let calls: Vec<Candidate> = calls.collect();
    match calls.len() {
        0 => None,
        1 => Some(Reading {
            outcome: Outcome::Call,
            calls,
            ..Reading::default()
        }),
        _ => Some(unsure(calls, "it is not clear which thing is meant")),
    }
}

/// The family of things of which the word is said.
fn family(folded: &str) -> Option<u32> {
    let mut lines = SAID_OF.iter();
    let line = lines.find(|(_, words)| words.split(' ').any(|word| word == folded))?;
    Some(lexicon::families(stem(line.0)))
}
