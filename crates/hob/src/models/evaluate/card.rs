//! What was measured, as a card in the terminal and as JSON.

use serde_json::{Value, json};

use super::super::Place;
use super::super::estimate::{self, Estimate, Piece};
use super::fairness;
use super::home::{self, Home};
use super::measure::{Apart, Measured, WINDOW, Windows, Work};
use crate::failure::Failure;
use crate::render::{bytes, counted};
use crate::table::Table;

/// Stands behind a difference that its interval does not explain.
pub(super) const BEYOND: &str = " *";

/// How busy the machine was before anything was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// How many tasks wanted a processor, on average of the last minute.
    tasks: f64,
    processors: usize,
}

impl Load {
    /// Whether so much was going on that speeds are not those of a quiet machine: half a processor's worth.
    pub(super) fn is_busy(self) -> bool {
        self.tasks >= 0.5
    }

    /// A sentence about it.
    pub(super) fn sentence(self) -> String {
        let Self { tasks, processors } = self;
        if self.is_busy() {
            format!(
                "The machine was busy ({tasks:.1} tasks on {processors} processors): speeds are lower than on \
                 a quiet one."
            )
        } else {
            format!("The machine was quiet ({tasks:.1} tasks on {processors} processors).")
        }
    }
}

/// As `/proc/loadavg` has it (proc(5)).
pub(super) fn load() -> Option<Load> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let tasks = text.split(' ').next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().ok()?.get();
    Some(Load { tasks, processors })
}

/// One line of the card: what it is of, and each model's figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) label: String,
    pub(super) cells: Vec<String>,
}

/// Shows all models side by side, or writes an object.
pub(super) fn show(
    measured: &[Measured],
    work: &Work,
    place: &mut Place<'_>,
) -> Result<(), Failure> {
    if place.json {
        return place
            .output
            .write(&crate::ask::to_json(&object(measured, work))?);
    }
    let names = measured.iter().map(|one| one.name.to_string());
    let mut table = Table::new([String::new()].into_iter().chain(names));
    for Row { label, cells } in rows(measured, work) {
        table.add([vec![label], cells].concat());
    }
    let notes = notes(measured, work).join("\n");
    place
        .output
        .write(&format!("{}\n{notes}\n", table.text(&[])))
}

/// The card's lines.
pub(super) fn rows(measured: &[Measured], work: &Work) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |label: &str, cell: &dyn Fn(&Measured) -> String| {
        let cells: Vec<String> = measured.iter().map(cell).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            rows.push(Row {
                label: label.to_owned(),
                cells,
            });
        }
    };
    row("size", &|one| bytes(one.size_bytes));
    row("vocabulary", &|one| format!("{} tokens", one.vocabulary));
    row("bits per byte", &|one| plain(bits(one)));
    let first = &measured[0];
    let more = format!("  more than {}", first.name);
    row(&more, &|one| signed(bits_apart(first, one)));
    row("perplexity", &|one| plain(perplexity(one)));
    let ratio = format!("  % more than {}", first.name);
    row(&ratio, &|one| signed(perplexity_apart(first, one)));
    if let Some(reference) = &work.reference {
        let windows =
            |one: &Measured, of: fn(&Apart) -> &Vec<Piece>| estimate::rate(of(apart(one)?));
        row(&format!("divergence from {reference}"), &|one| {
            plain(windows(one, |apart| &apart.divergence))
        });
        row(&format!("% of tokens foreseen as by {reference}"), &|one| {
            percent(windows(one, |apart| &apart.agree))
        });
        row(
            &format!("% that {reference} gives to tokens that are gone"),
            &|one| percent(others(one)),
        );
    }
    row("reads, tokens/s", &|one| {
        format!("{:.0}", one.speed.prefill)
    });
    row("writes, tokens/s", &|one| {
        one.speed
            .decode
            .map_or_else(String::new, |rate| format!("{rate:.1}"))
    });
    row("memory at most", &|one| {
        one.footprint.map_or_else(String::new, |of| bytes(of.peak))
    });
    row("  of it not the file's", &|one| {
        one.footprint
            .map_or_else(String::new, |of| bytes(of.private))
    });
    for (place, (language, ..)) in first.languages.iter().enumerate() {
        row(&format!("tokens/100 bytes, {language}"), &|one| {
            one.languages
                .get(place)
                .map_or_else(String::new, |(_, bytes, tokens)| {
                    (tokens * 100 / (*bytes).max(1)).to_string()
                })
        });
    }
    rows.extend(home::rows(measured));
    rows.extend(fairness::rows(measured));
    rows
}

/// What is to be known of the figures.
pub(super) fn notes(measured: &[Measured], work: &Work) -> Vec<String> {
    let mut notes = Vec::new();
    if work.texts.pieces.is_empty() {
        notes.push(
            "Without a text (--text FILE) nothing is known of how well a model foresees one."
                .to_owned(),
        );
    } else {
        let (count, scored) = (work.texts.pieces.len() as u64, work.texts.scored_bytes());
        notes.push(format!(
            "Bits per byte are of {scored} bytes in {}; ± is an interval of 95 %.",
            counted(count, "piece")
        ));
        let windows = measured.iter().filter_map(|one| one.windows.as_ref());
        match windows.map(|windows| windows.own.len() as u64).max() {
            Some(count) => notes.push(format!(
                "Perplexity is of {} of {WINDOW} tokens, the second half of each; it compares models of one \
                 vocabulary alone.",
                counted(count, "window")
            )),
            None if work.texts.windows == 0 => {}
            None => notes.push(format!("The text, or a context, has no {WINDOW} tokens: no perplexity.")),
        }
    }
    if let Some(reference) = &work.reference {
        let fewer = |one: &Measured| {
            let (name, count) = (&one.name, one.kept.as_ref()?.others.len() as u64);
            if count == 0 {
                return Some(format!(
                    "{name} has some of {reference}'s tokens, and spells no piece of the text with them to the \
                     byte: how far it is from it is not known."
                ));
            }
            Some(format!(
                "{name} has some of {reference}'s tokens: how far it is from it is told of {} that they spell, \
                 cut as {name} cuts them, and as if there were no other tokens.",
                counted(count, "piece")
            ))
        };
        notes.extend(measured.iter().filter_map(fewer));
    }
    if measured.len() > 1 {
        notes.push(format!("A difference with{BEYOND} is beyond its interval."));
    }
    let answers = counted(work.answers as u64, "answer");
    let busy = work
        .load
        .map_or_else(String::new, |load| format!(" {}", load.sentence()));
    notes.push(format!(
        "Speed is the median of {answers}, with a context of 2048 tokens.{busy}"
    ));
    notes.extend(work.home.as_ref().map(Home::note));
    notes.extend(fairness::notes(measured, &work.store_option));
    notes
}

fn object(measured: &[Measured], work: &Work) -> Value {
    let models = measured.iter().map(|one| model(&measured[0], one, work));
    json!({
        "pieces": work.texts.pieces.len(),
        "bytes": work.texts.scored_bytes(),
        "window_tokens": WINDOW,
        "against": work.reference,
        "busy": work.load.map(Load::is_busy),
        "answers": work.answers,
        "models": models.collect::<Vec<_>>(),
    })
}

fn model(first: &Measured, one: &Measured, work: &Work) -> Value {
    let windows = one.windows.as_ref();
    let apart = apart(one);
    let languages = one.languages.iter().map(|(language, bytes, tokens)| {
        json!({ "language": language, "bytes": bytes, "tokens": tokens })
    });
    json!({
        "name": one.name,
        "size_bytes": one.size_bytes,
        "vocabulary": one.vocabulary,
        "bits_per_byte": number(bits(one)),
        "difference": number(bits_apart(first, one)),
        "tokens": one.tokens,
        "windows": windows.map(|windows| windows.own.len()),
        "perplexity": number(perplexity(one)),
        "perplexity_percent_more": number(perplexity_apart(first, one)),
        "against": apart.map(|apart| json!({
            "reference": work.reference,
            "perplexity": number(estimate::rate(&apart.reference).map(exponential)),
            "divergence": number(estimate::rate(&apart.divergence)),
            "agreement": number(estimate::rate(&apart.agree)),
            "pieces": one.kept.as_ref().map(|kept| kept.others.len()),
            "other_tokens": number(others(one)),
        })),
        "prefill_per_second": one.speed.prefill,
        "decode_per_second": one.speed.decode,
        "memory_peak_bytes": one.footprint.map(|of| of.peak),
        "memory_private_bytes": one.footprint.map(|of| of.private),
        "languages": languages.collect::<Vec<_>>(),
        "home": home::object(first, one),
        "fairness": one.fairness,
    })
}

/// Bits for each byte of the pieces.
pub(super) fn bits(one: &Measured) -> Option<Estimate> {
    estimate::rate(&one.pieces)
}

fn bits_apart(first: &Measured, one: &Measured) -> Option<Estimate> {
    (first.name != one.name).then_some(())?;
    estimate::difference(&first.pieces, &one.pieces)
}

/// How far it is from the reference.
fn apart(one: &Measured) -> Option<&Apart> {
    let windows = one
        .windows
        .as_ref()
        .and_then(|windows| windows.apart.as_ref());
    windows.or(one.kept.as_ref().map(|kept| &kept.apart))
}

/// How probable the reference finds tokens that it lacks.
fn others(one: &Measured) -> Option<Estimate> {
    estimate::rate(&one.kept.as_ref()?.others)
}

/// Of the mean of nats; the error grows with the slope there.
fn exponential(nats: Estimate) -> Estimate {
    let value = nats.value.exp();
    Estimate {
        value,
        error: nats.error.map(|error| error * value),
    }
}

fn perplexity(one: &Measured) -> Option<Estimate> {
    estimate::rate(&one.windows.as_ref()?.own).map(exponential)
}

/// By how many percent the perplexity is above the first one's, where both read the same tokens.
fn perplexity_apart(first: &Measured, one: &Measured) -> Option<Estimate> {
    (first.name != one.name).then_some(())?;
    let same = |a: &&Windows, b: &Windows| a.digest == b.digest && a.own.len() == b.own.len();
    let theirs = one.windows.as_ref()?;
    let base = first.windows.as_ref().filter(|base| same(base, theirs))?;
    let ratio = exponential(estimate::difference(&base.own, &theirs.own)?);
    Some(Estimate {
        value: (ratio.value - 1.0) * 100.0,
        error: ratio.error.map(|error| error * 100.0),
    })
}

fn number(estimate: Option<Estimate>) -> Value {
    estimate.map_or(
        Value::Null,
        |found| json!({ "value": found.value, "error_95": found.error }),
    )
}

/// As many decimals as make four digits with those before them.
fn decimals(value: f64) -> usize {
    match value.abs() {
        large if large >= 1000.0 => 0,
        large if large >= 10.0 => 2,
        _ => 4,
    }
}

fn plain(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(String::new, |Estimate { value, error }| {
        let places = decimals(value);
        let error = error.map_or_else(String::new, |error| format!(" ±{error:.places$}"));
        format!("{value:.places$}{error}")
    })
}

fn percent(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(String::new, |Estimate { value, error }| {
        let error = error.map_or_else(String::new, |error| format!(" ±{:.2}", error * 100.0));
        format!("{:.2}{error}", value * 100.0)
    })
}

/// A difference; marked if it is beyond its interval.
fn signed(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(String::new, |Estimate { value, error }| {
        let places = decimals(value);
        let beyond = error.is_some_and(|error| value.abs() > error);
        let mark = if beyond { BEYOND } else { "" };
        let error = error.map_or_else(String::new, |error| format!(" ±{error:.places$}"));
        format!("{value:+.places$}{error}{mark}")
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use hob_models::ModelName;

    use super::super::kept::Kept;
    use super::*;
    use crate::engine::{Footprint, Pace};

    /// A model whose pieces take so many bits a byte, with windows of as many nats a token.
    pub(in super::super) fn measured(name: &str, rate: f64) -> Measured {
        let each = |rate: f64| {
            let piece = |n: u32| Piece {
                bytes: 100.0,
                bits: (rate + f64::from(n % 3) / 10.0) * 100.0,
            };
            (0..9).map(piece).collect::<Vec<_>>()
        };
        Measured {
            name: ModelName::new(name).unwrap(),
            size_bytes: 100 << 20,
            vocabulary: 1000,
            speed: Pace {
                prefill: 200.0,
                decode: Some(40.0),
            },
            footprint: Some(Footprint {
                peak: 200 << 20,
                private: 50 << 20,
            }),
            languages: vec![("English", 64, 16)],
            pieces: each(rate),
            tokens: 500,
            windows: Some(Windows {
                digest: 1,
                own: each(rate),
                apart: Some(Apart {
                    reference: each(1.0),
                    divergence: each(0.25),
                    agree: each(0.8),
                }),
            }),
            kept: None,
            home: None,
            fairness: None,
        }
    }

    pub(in super::super) fn work() -> Work {
        Work {
            reference: Some(ModelName::new("base").unwrap()),
            kept: Vec::new(),
            texts: super::super::text::Texts::default(),
            answers: 3,
            load: None,
            home: None,
            store_option: String::new(),
            interrupt: crate::interrupt::Interrupt::default(),
        }
    }

    fn cell(rows: &[Row], label: &str, column: usize) -> String {
        let row = rows.iter().find(|row| row.label.starts_with(label));
        row.map(|row| row.cells[column].clone()).unwrap_or_default()
    }

    #[test]
    fn differences_beyond_their_interval_are_marked() {
        let models = [
            measured("base", 1.0),
            measured("worse", 1.2),
            measured("alike", 1.0),
        ];
        let rows = rows(&models, &work());
        assert_eq!(cell(&rows, "bits per byte", 0), "1.1000 ±0.0666");
        assert_eq!(cell(&rows, "  more than base", 0), "");
        assert_eq!(cell(&rows, "  more than base", 1), "+0.2000 ±0.0000 *");
        assert_eq!(cell(&rows, "  more than base", 2), "+0.0000 ±0.0000");
        // e to the 1.1.
        assert!(cell(&rows, "perplexity", 0).starts_with("3.0042 ±"));
        assert_eq!(cell(&rows, "  % more", 1), "+22.14 ±0.00 *");
        assert!(cell(&rows, "divergence from base", 1).starts_with("0.3500 ±"));
        assert!(cell(&rows, "% of tokens", 1).starts_with("90.00 ±"));
        assert_eq!(cell(&rows, "tokens/100 bytes, English", 0), "25");
    }

    #[test]
    fn perplexities_of_other_tokens_are_not_compared() {
        let mut other = measured("other", 1.2);
        other.windows.as_mut().unwrap().digest = 2;
        let models = [measured("base", 1.0), other];
        assert_eq!(cell(&rows(&models, &work()), "  % more", 1), "");
        let object = object(&models, &work());
        assert_eq!(object["models"][1]["perplexity_percent_more"], Value::Null);
        assert!(object["models"][1]["difference"]["value"].as_f64().unwrap() > 0.19);
    }

    #[test]
    fn a_model_with_fewer_tokens_is_told_of_those_that_both_have() {
        let mut fewer = measured("fewer", 1.2);
        let apart = fewer
            .windows
            .as_mut()
            .and_then(|windows| windows.apart.take());
        let others = apart.as_ref().unwrap().divergence.clone();
        fewer.kept = Some(Kept {
            apart: apart.unwrap(),
            others,
        });
        let mut models = [measured("base", 1.0), fewer];
        let rows = rows(&models, &work());
        assert!(cell(&rows, "divergence from base", 1).starts_with("0.3500 ±"));
        assert_eq!(cell(&rows, "% that base gives", 0), "");
        assert!(cell(&rows, "% that base gives", 1).starts_with("35.00 ±"));
        let notes = notes(&models, &work()).join(" ");
        assert!(notes.contains("fewer has some of base's tokens"), "{notes}");
        let object = object(&models, &work());
        assert_eq!(object["models"][0]["against"]["pieces"], Value::Null);
        assert_eq!(object["models"][1]["against"]["pieces"], 9);
        models[1].kept = Some(Kept::default());
        let notes = super::notes(&models, &work()).join(" ");
        assert!(notes.contains("spells no piece of the text"), "{notes}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut bare = measured("bare", 1.0);
        bare.pieces.clear();
        bare.windows = None;
        bare.footprint = None;
        let rows = rows(&[bare], &work());
        for label in ["bits per byte", "perplexity", "divergence", "memory"] {
            assert_eq!(cell(&rows, label, 0), "", "{label}");
        }
        let notes = notes(&[], &work()).join(" ");
        assert!(notes.contains("--text FILE"), "{notes}");
    }

    #[test]
    fn half_a_processor_is_busy() {
        let load = |tasks| Load {
            tasks,
            processors: 2,
        };
        assert!(load(0.5).is_busy() && !load(0.49).is_busy());
        assert!(load(3.0).sentence().contains("busy"));
    }
}
