//! `hob models evaluate`: how well models foresee a text.
//!
//! Each piece of text is cut in two: the first part is what goes before, and of the rest it is counted
//! how surprised the model is. All models see the same pieces.

use std::path::PathBuf;

use hob_models::ModelName;
use serde_json::json;

use super::Place;
use super::corpus::Corpus;
use super::estimate::{self, Estimate, Piece};
use super::progress::Meter;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::render::bytes;
use crate::table::Table;

/// Longest piece in bytes: no tokenizer makes more tokens of it than an engine has context.
const PIECE_BYTES: usize = 1536;
/// What goes before, of each piece, at most.
const BEFORE_BYTES: usize = 384;
/// Shorter pieces are left out: little would be known of what goes before.
const SHORTEST: usize = 128;

/// What one model made of the pieces.
struct Measured {
    name: ModelName,
    size_bytes: u64,
    pieces: Vec<Piece>,
    tokens: u64,
}

/// Measures models on the same pieces of text, of which there are at most `most`.
pub(super) fn run(
    models: &[String],
    text: &[PathBuf],
    most: usize,
    place: &mut Place<'_>,
) -> Result<(), Failure> {
    let names = models.iter().map(|model| place.installed_name(model));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    super::let_others_go_first();
    let texts = pieces(&Corpus::open(text)?, most)?;
    let interrupt = Interrupt::watch()?;
    let mut measured = Vec::new();
    for name in &names {
        let mut meter = Meter::new(name.as_str());
        let found = measure(name, &texts, &interrupt, &mut meter, place);
        meter.finish();
        measured.push(found?);
    }
    show(&measured, &texts, place)
}

/// Pieces of the text, spread over all of it.
fn pieces(corpus: &Corpus, most: usize) -> Result<Vec<String>, Failure> {
    let mut there = 0;
    corpus.read(PIECE_BYTES, |_, text| {
        there += usize::from(text.len() >= SHORTEST);
        Ok(())
    })?;
    let (mut at, mut kept) = (0, Vec::new());
    corpus.read(PIECE_BYTES, |_, text| {
        if text.len() >= SHORTEST {
            // Of each run of pieces as long as makes `most` runs, the first.
            if at == 0 || at * most / there != (at - 1) * most / there || most >= there {
                kept.push(text.to_owned());
            }
            at += 1;
        }
        Ok(())
    })?;
    kept.truncate(most);
    if kept.is_empty() {
        return Err(Failure::new("the text is too short to tell anything from")
            .hint("Give some kilobytes, and none that the models were made for."));
    }
    Ok(kept)
}

/// What goes before, and what is to be foreseen: words stay whole where there are any.
fn part(text: &str) -> (&str, &str) {
    let most = (text.len() / 4).clamp(1, BEFORE_BYTES);
    let within = text.char_indices().take_while(|(at, _)| *at <= most);
    let word = within.filter(|(at, letter)| *at > 0 && letter.is_whitespace());
    let letter = || text.char_indices().find(|(at, _)| *at >= most);
    let at = word.last().or_else(letter);
    text.split_at(at.map_or(text.len(), |(at, _)| at))
}

fn measure(
    name: &ModelName,
    texts: &[String],
    interrupt: &Interrupt,
    meter: &mut Meter,
    place: &Place<'_>,
) -> Result<Measured, Failure> {
    let open = place.open(name, meter)?;
    let total: usize = texts.iter().map(String::len).sum();
    meter.stage("reading the text", total as u64);
    let mut engine = Engine::load(&open.file, open.header.vocabulary, interrupt)?;
    let mut measured = Measured {
        name: name.clone(),
        size_bytes: open.size_bytes,
        pieces: Vec::new(),
        tokens: 0,
    };
    for text in texts {
        interrupt.check()?;
        let (before, rest) = part(text);
        let found = engine.likelihood(before, rest)?;
        #[allow(clippy::cast_precision_loss, reason = "some hundred bytes")]
        measured.pieces.push(Piece {
            bytes: rest.len() as f64,
            bits: -found.log_probability / std::f64::consts::LN_2,
        });
        measured.tokens += u64::from(found.tokens);
        meter.advance(text.len() as u64);
    }
    Ok(measured)
}

fn show(measured: &[Measured], texts: &[String], place: &mut Place<'_>) -> Result<(), Failure> {
    let foreseen: u64 = texts.iter().map(|text| part(text).1.len() as u64).sum();
    let first = measured.first();
    let apart = |one: &Measured| {
        let first = first.filter(|first| first.name != one.name)?;
        estimate::difference(&first.pieces, &one.pieces)
    };
    if place.json {
        let number = |estimate: Option<Estimate>| {
            estimate.map(|found| json!({ "value": found.value, "error_95": found.error }))
        };
        let models = measured.iter().map(|one| {
            json!({
                "name": one.name,
                "size_bytes": one.size_bytes,
                "bits_per_byte": number(estimate::rate(&one.pieces)),
                "difference": number(apart(one)),
                "tokens": one.tokens,
            })
        });
        let object = json!({
            "pieces": texts.len(),
            "bytes": foreseen,
            "models": models.collect::<Vec<_>>(),
        });
        return place.output.write(&crate::ask::to_json(&object)?);
    }
    let shown = |estimate: Option<Estimate>, sign: bool| match estimate {
        None => String::new(),
        Some(Estimate { value, error }) => {
            let value = if sign {
                format!("{value:+.4}")
            } else {
                format!("{value:.4}")
            };
            error.map_or_else(|| value.clone(), |error| format!("{value} ±{error:.4}"))
        }
    };
    let mut table = Table::new([
        "MODEL",
        "SIZE",
        "BITS PER BYTE",
        "TOKENS/1000 BYTES",
        "AGAINST THE FIRST",
    ]);
    for one in measured {
        let rate = one.tokens.saturating_mul(1000) / foreseen.max(1);
        table.add([
            one.name.to_string(),
            bytes(one.size_bytes),
            shown(estimate::rate(&one.pieces), false),
            rate.to_string(),
            shown(apart(one), true),
        ]);
    }
    let count = texts.len();
    let tail = format!("Of {foreseen} bytes in {count} pieces; ± is an interval of 95 %.\n");
    place.output.write(&(table.text(&[1, 2, 3]) + &tail))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_end_with_words() {
        let text = "The window of the kitchen is open, and it will rain tonight.";
        assert_eq!(part(text).0, "The window of");
        assert_eq!(part("äöüä").0.len() % 2, 0);
    }

    proptest! {
        #[test]
        fn parts_are_the_text_and_neither_is_empty(text in "\\PC{2,600}") {
            let (before, rest) = part(&text);
            prop_assert_eq!(before.to_owned() + rest, text.as_str());
            prop_assert!(!before.is_empty());
            prop_assert!(!rest.is_empty());
            prop_assert!(before.len() <= BEFORE_BYTES + 4);
        }
    }
}
