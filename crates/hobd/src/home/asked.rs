//! What a question asks about the home, and what the state of its targets says to it.

use hob_api::home::{AskedForm, Outcome};
use hob_api::provider::Target;

use super::evidence::{Comparison, EXPLAINED, TargetFit};
use super::groups::{self, Group};
use super::heard::{Heard, HeardWord};
use super::lexicon::{self, Meanings};
use super::reading::{ALTERNATIVES_MAX, Reading};
use super::{question, states};

/// How far the odds of two targets lie apart, as a logarithm, when both are answered.
const AS_WELL: f64 = 0.5;
/// The least part of a question that names what it asks about.
const ASKED_MIN: f64 = 0.4;

/// What is asked, by places of targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// How it is asked.
    pub form: AskedForm,
    /// Targets for which it is so.
    pub holds: Vec<usize>,
    /// Targets for which it is not.
    pub fails: Vec<usize>,
    /// The word that asks for a value.
    pub about: Option<String>,
    /// Names of the values that are asked for.
    pub values: Vec<(usize, String)>,
}

/// What somebody asks whether it is so.
enum Condition<'a> {
    /// Something that the lexicon knows: it is on, or closed.
    Known(Meanings),
    /// In the hub's own words, folded.
    Words(Vec<&'a str>),
}

/// Reads a question.
pub(super) fn read(
    comparison: &Comparison<'_>,
    fits: &[TargetFit],
    group: Option<Group>,
) -> Reading {
    let condition = condition(comparison.heard);
    let form = form(comparison.heard, condition.is_some());
    if condition.is_none()
        && matches!(form, AskedForm::How | AskedForm::Whether)
        && let Some(reading) = by_value(comparison, fits)
    {
        return reading;
    }
    let (mut targets, explains) = targets(comparison, fits, group, form);
    if targets.is_empty() || explained(comparison, &explains) < ASKED_MIN {
        return Reading::without_call(Outcome::Talk, "it asks about nothing of the home");
    }
    if condition.is_none()
        && let Some(word) = comparison.heard.words.iter().find(|word| asks_value(word))
    {
        return unknown_value(fits, targets, word.folded());
    }
    let unnamed = unnamed(comparison.heard, &explains);
    let condition = condition.map_or(Condition::Words(unnamed), Condition::Known);
    let asked = asked(comparison, form, &condition, &targets);
    if comparison.heard.families == 0 && targets.len() > ALTERNATIVES_MAX {
        targets.retain(|place| asked.holds.contains(place) || asked.fails.contains(place));
    }
    question(targets, asked)
}

/// Of a thing that was named, a value is asked for that its hub does not tell.
fn unknown_value(fits: &[TargetFit], mut targets: Vec<usize>, value: &str) -> Reading {
    targets.retain(|place| fits[*place].specific > 0.0);
    if targets.is_empty() {
        return Reading::without_call(Outcome::Talk, "it asks for nothing that the home tells");
    }
    let asked = Asked {
        about: Some(value.to_owned()),
        ..Asked::default()
    };
    question(targets, asked)
}

fn question(targets: Vec<usize>, asked: Asked) -> Reading {
    Reading {
        outcome: Outcome::Question,
        targets,
        asked: Some(asked),
        ..Reading::default()
    }
}

/// What the state of the targets says to it.
fn asked(
    comparison: &Comparison<'_>,
    form: AskedForm,
    condition: &Condition<'_>,
    targets: &[usize],
) -> Asked {
    let all = comparison.provider.targets();
    let is = |target: &Target| match condition {
        Condition::Known(said) => states::holds(*said, target),
        Condition::Words(words) => words.iter().find_map(|word| states::has_word(word, target)),
    };
    let mut asked = Asked {
        form,
        ..Asked::default()
    };
    for place in targets {
        // "Which is not locked?"
        match is(&all[*place]).map(|is| is != comparison.heard.forbids) {
            Some(true) => asked.holds.push(*place),
            Some(false) => asked.fails.push(*place),
            None => {}
        }
    }
    let known = !asked.holds.is_empty() || !asked.fails.is_empty();
    let plain = matches!(condition, Condition::Words(_));
    match form {
        // "How many lights are there?"
        AskedForm::Which | AskedForm::Count if !known && plain => asked.holds = targets.to_vec(),
        AskedForm::How => (asked.holds, asked.fails) = (Vec::new(), Vec::new()),
        AskedForm::Whether if !known => asked.form = AskedForm::How,
        // "What is playing?"
        AskedForm::Which if !plain => {
            let said = comparison.heard.folded();
            let value = |place: &usize| states::asked_value(&said, &all[*place]);
            let holds = asked.holds.iter();
            let values = holds.filter_map(|place| Some((*place, value(place)?.to_owned())));
            asked.values = values.collect();
        }
        _ => {}
    }
    asked
}

/// The places of what is asked about, and the words that are explained by them.
fn targets(
    comparison: &Comparison<'_>,
    fits: &[TargetFit],
    group: Option<Group>,
    form: AskedForm,
) -> (Vec<usize>, Vec<bool>) {
    let several = matches!(form, AskedForm::Which | AskedForm::Count)
        || comparison
            .heard
            .words
            .iter()
            .any(|word| lexicon::is_any(word.folded()));
    let group = group.or_else(|| several.then(|| groups::asked(comparison, fits)).flatten());
    match group {
        Some(group) => (group.targets, group.explains),
        None => best(comparison.heard, fits, |_| true),
    }
}

/// The targets that fit best among those that `among` lets through, and the words that the first
/// explains.
fn best(
    heard: &Heard,
    fits: &[TargetFit],
    among: impl Fn(usize) -> bool,
) -> (Vec<usize>, Vec<bool>) {
    let fits: Vec<_> = (fits.iter().enumerate())
        .filter(|(place, _)| among(*place))
        .collect();
    let most = fits.iter().map(|(_, fit)| fit.score);
    let most = most.fold(f64::MIN, f64::max);
    let about = |fit: &TargetFit| fit.specific > 0.0 || heard.families != 0;
    let mut best = fits.into_iter();
    let best: Vec<_> = best
        .by_ref()
        .filter(|(_, fit)| fit.score >= most - AS_WELL && about(fit))
        .take(ALTERNATIVES_MAX)
        .collect();
    let explains = best
        .first()
        .map_or(Vec::new(), |(_, fit)| fit.explains.clone());
    (best.into_iter().map(|(place, _)| place).collect(), explains)
}

/// The answer to a question for a value: of the targets that have it, those that fit best. Nothing if
/// it names a place or thing of which no such value is known.
fn by_value(comparison: &Comparison<'_>, fits: &[TargetFit]) -> Option<Reading> {
    let heard = comparison.heard;
    let said = heard.folded();
    let all = comparison.provider.targets();
    let value = |place: &usize| states::asked_value(&said, &all[*place]);
    // "The temperature" names a value, "the fan's speed" a thing as well.
    let things = heard
        .words
        .iter()
        .filter(|word| !states::asks_value(word.folded()));
    let families = things.fold(0, |all, word| all | word.families);
    let is_meant = |place: &usize| {
        let named = comparison.index.targets[*place].named_families;
        value(place).is_some() && (families == 0 || families & named != 0)
    };
    let having: Vec<usize> = (0..all.len()).filter(is_meant).collect();
    let (mut targets, explains) = best(heard, fits, |place| having.contains(&place));
    if targets.is_empty() {
        // Who names nothing asks about where it is said, or everywhere.
        let here = |place: &usize| comparison.is_here(*place);
        let near: Vec<usize> = having.iter().copied().filter(here).collect();
        targets = if near.is_empty() { having } else { near };
        targets.truncate(ALTERNATIVES_MAX);
    }
    let names = |word: &&HeardWord| {
        let mut matches = word.matches.iter();
        let sure = matches.any(|(_, sure)| *sure >= EXPLAINED);
        let known = !word.meanings.is_empty() || word.families != 0;
        let asks = states::asks_value(word.folded()) || lexicon::is_asking(word.folded());
        !word.filler && !asks && (sure || !known)
    };
    let explains_word = |word: &HeardWord| explains.get(word.place).is_some_and(|is| *is);
    let elsewhere = heard
        .words
        .iter()
        .filter(names)
        .any(|word| !explains_word(word));
    if targets.is_empty() || elsewhere || explained(comparison, &explains) < ASKED_MIN {
        return None;
    }
    let values = targets.iter();
    let values = values.filter_map(|place| Some((*place, value(place)?.to_owned())));
    let about = said.iter().find(|word| states::asks_value(word));
    let asked = Asked {
        about: about.map(|word| (*word).to_owned()),
        values: values.collect(),
        ..Asked::default()
    };
    Some(question(targets, asked))
}

/// Whether a word asks for a value, and is no part of a name.
fn asks_value(word: &HeardWord) -> bool {
    let mut matches = word.matches.iter();
    states::asks_value(word.folded()) && !matches.any(|(_, sure)| *sure >= EXPLAINED)
}

/// How much of the question is about the home, from 0 to 1.
fn explained(comparison: &Comparison<'_>, explains: &[bool]) -> f64 {
    let (mut said, mut explained) = (0.0, 0.0);
    for word in &comparison.heard.words {
        let asks = lexicon::is_asking(word.folded()) || question::is_asking_for(word.folded());
        if word.filler || asks {
            continue;
        }
        let weight = comparison.weight(word);
        said += weight;
        let is = explains.get(word.place).is_some_and(|is| *is);
        if is
            || !word.meanings.is_empty()
            || states::asks_value(word.folded())
            || lexicon::is_any(word.folded())
        {
            explained += weight;
        }
    }
    if said > 0.0 { explained / said } else { 1.0 }
}

/// Words that are neither explained nor known: perhaps the hub's own.
fn unnamed<'a>(heard: &'a Heard, explains: &[bool]) -> Vec<&'a str> {
    let unnamed = heard.words.iter().filter(|word| {
        let is = explains.get(word.place).is_some_and(|is| *is);
        !is && !word.filler && !lexicon::is_asking(word.folded())
    });
    unnamed.map(HeardWord::folded).collect()
}

/// How it is asked, by the words with which it begins.
fn form(heard: &Heard, conditional: bool) -> AskedForm {
    let words = heard.folded();
    let has = |any: &[&str]| words.iter().any(|word| any.contains(word));
    let follow = |first: &[&str], second: &[&str]| {
        let mut pairs = words.windows(2);
        pairs.any(|pair| first.contains(&pair[0]) && second.contains(&pair[1]))
    };
    if follow(&["how", "wie"], &["many", "viele"]) || has(&["wieviele"]) {
        return AskedForm::Count;
    }
    if has(&["if", "whether", "ob"]) {
        return AskedForm::Whether;
    }
    let asking = words
        .iter()
        .find(|word| lexicon::is_asking(word) || word.starts_with("irgend"));
    match asking.copied() {
        Some("which" | "welche" | "welcher" | "welches" | "welchen") => AskedForm::Which,
        Some("what" | "whats" | "where" | "wheres" | "was" | "wo") if conditional => {
            AskedForm::Which
        }
        Some(
            "what" | "whats" | "where" | "wheres" | "was" | "wo" | "how" | "hows" | "wie" | "when"
            | "why" | "wann" | "warum" | "who" | "wer" | "status",
        )
        | None => AskedForm::How,
        Some(_) => AskedForm::Whether,
    }
}

/// What is asked whether it is so: what was said last, as in "is the open shelf's lamp on?".
fn condition(heard: &Heard) -> Option<Meanings> {
    let last = heard.words.len().saturating_sub(1);
    let said = |word: &HeardWord| {
        let next = heard.words.get(word.place + 1).map(HeardWord::folded);
        let meanings = match word.folded() {
            // »Welche Lichter sind an im Flur?«
            "an" | "aus" | "auf" | "zu" if word.place == last || next.is_some_and(is_where) => {
                lexicon::end_meanings(word.folded())
            }
            "brennt" | "leuchtet" | "brennen" | "leuchten" => lexicon::meanings("on"),
            // Things, whatever else they are.
            "lock" | "locks" | "vacuum" | "vacuums" => return None,
            _ => word.meanings,
        };
        states::is_condition(meanings).then_some(meanings)
    };
    heard.words.iter().rev().find_map(said)
}

/// Whether a word begins to say where, or ends what was asked: »ob das Fenster zu ist«.
fn is_where(folded: &str) -> bool {
    matches!(
        folded,
        "ist"
            | "sind"
            | "war"
            | "in"
            | "im"
            | "am"
            | "oben"
            | "unten"
            | "hier"
            | "draussen"
            | "drinnen"
    )
}
