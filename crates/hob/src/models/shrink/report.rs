//! What a smaller model is like, beside the one that it was made of.

use std::collections::BTreeMap;

use hob_ipc::quantize::Scheme;
use serde_json::{Value, json};

use super::Made;
use super::depth::{self, Greedy, Without};
use super::matrices::Mix;
use super::mixes::Stop;
use super::search::Tried;
use super::trial::Trials;
use crate::clean::{clean, clean_line};
use crate::failure::Failure;
use crate::models::Place;
use crate::models::corpus::Corpus;
use crate::models::samples::SAMPLES;
use crate::render::bytes;
use crate::table::Table;

/// Bytes and tokens of one text, before and after.
struct Line {
    text: String,
    bytes: u64,
    before: u64,
    after: u64,
}

impl Line {
    fn json(&self) -> Value {
        json!({
            "text": self.text,
            "bytes": self.bytes,
            "tokens_before": self.before,
            "tokens": self.after,
        })
    }
}

/// The corpus's files, then the samples.
fn lines(made: &Made, corpus: &Corpus) -> (Vec<Line>, Vec<Line>) {
    let files = corpus.files().iter().zip(&made.before.files);
    let files = files.zip(&made.after.files);
    let files = files.map(|((path, (bytes, before)), (_, after))| Line {
        text: path.display().to_string(),
        bytes: *bytes,
        before: *before,
        after: *after,
    });
    let samples = SAMPLES.iter().zip(&made.before.samples);
    let samples = samples.zip(&made.after.samples);
    let samples = samples.map(|(((language, text), before), after)| Line {
        text: (*language).to_owned(),
        bytes: text.len() as u64,
        before: *before,
        after: *after,
    });
    (files.collect(), samples.collect())
}

/// Shows it.
pub(super) fn show(made: &Made, corpus: &Corpus, place: &mut Place<'_>) -> Result<(), Failure> {
    let (files, samples) = lines(made, corpus);
    let manifest = &made.installed.manifest;
    let layers = made
        .trials
        .as_ref()
        .and_then(|trials| trials.layers.as_ref());
    if place.json {
        let list = |lines: &[Line]| lines.iter().map(Line::json).collect::<Vec<_>>();
        let object = json!({
            "name": made.installed.name,
            "sha256": manifest.sha256,
            "size_bytes_before": made.source_bytes,
            "size_bytes": manifest.size_bytes,
            "vocabulary_before": made.tokens.0,
            "vocabulary": made.tokens.1,
            "layers_before": made.layers.0,
            "layers": made.layers.1,
            "layers_left_out": made.out,
            "layers_alone": layers.map_or(Vec::new(), |greedy| list_of(greedy.alone())),
            "layers_one_after_another": layers.map_or(Vec::new(), |greedy| list_of(greedy.gone())),
            "types_bytes_before": made.types[0],
            "types_bytes": made.types[1],
            "parameters": manifest.parameters,
            "licence": manifest.licence,
            "lineage": manifest.lineage,
            "corpus": list(&files),
            "languages": list(&samples),
            "tried": made.trials.iter().flat_map(all_tried).collect::<Vec<_>>(),
            "path": place.store.model_path(&made.installed.name).display().to_string(),
        });
        return place.output.write(&crate::ask::to_json(&object)?);
    }
    let name = &made.installed.name;
    let (before, after) = made.tokens;
    let (small, large) = (bytes(manifest.size_bytes), bytes(made.source_bytes));
    let fewer = after < before;
    let mut told = vec![format!("{name} is installed: {small} instead of {large}")];
    if fewer {
        told.push(format!(", {after} tokens instead of {before}"));
    }
    if !made.out.is_empty() {
        let (all, out) = (made.layers.0, depth::named(&made.out));
        told.push(format!(", without layers {out} of {all}"));
    }
    told.push(".\n".to_owned());
    if made.types[0] != made.types[1] {
        let [before, now] = made.types.each_ref().map(types);
        told.push(format!(
            "Its weights are stored as {now}; before as {before}.\n"
        ));
    }
    if let Some(id) = &manifest.licence {
        told.push(format!("Its licence is that of its source: {id}.\n"));
    }
    if let Some(trials) = &made.trials {
        told.push(lost(trials));
    }
    if let Some(greedy) = layers {
        told.push(costs(greedy, &made.out));
    }
    if fewer {
        told.push(format!("\n{}", table(&files, &samples)));
    }
    let lineage = manifest.lineage.as_ref();
    let source = lineage.map_or("SOURCE", |lineage| lineage.source.as_str());
    let option = place.store.option();
    told.push(format!(
        "\n`hob fairness audit {name} --against {source} --data FOLDER{option}` compares it with its \
         source; then `hob models use {name}{option}` makes it the default.\n"
    ));
    place.output.write(&clean(&told.concat()))
}

fn all_tried(trials: &Trials) -> Vec<Value> {
    let one = |tried| tried_json(tried, trials);
    trials.tried.iter().map(one).collect()
}

fn tried_json(tried: &Tried, trials: &Trials) -> Value {
    let kind = |scheme: Scheme| scheme.block().name;
    let mix = trials.stops.get(tried.candidate.stop).map(|stop| &stop.mix);
    let mix: BTreeMap<_, _> = mix
        .into_iter()
        .flat_map(Mix::iter)
        .map(|(matrices, scheme)| (matrices.to_string(), kind(scheme)))
        .collect();
    json!({
        "tokens": tried.candidate.tokens,
        "layers_left_out": tried.candidate.layers_out,
        "embedding": tried.candidate.embedding.map(kind),
        "matrices": mix,
        "forecast": tried.candidate.forecast,
        "size_bytes": tried.candidate.bytes,
        "loss": tried.loss,
        "error_95": tried.error,
    })
}

fn list_of(layers: &[Without]) -> Vec<Value> {
    let one = |without: &Without| {
        json!({
            "layer": without.layer,
            "loss": without.loss,
            "error_95": without.error,
        })
    };
    layers.iter().map(one).collect()
}

/// A share in percent, with its error.
fn percent(share: f64, error: Option<f64>) -> String {
    let error = error.map_or_else(String::new, |error| format!(" ±{:.2}", error * 100.0));
    format!("{:+.2}{error}", share * 100.0)
}

/// What was tried, and what the model that was made loses.
fn lost(trials: &Trials) -> String {
    let loss = &trials.loss;
    let share = |points: f64| points / 10_000.0;
    let more = share(f64::from(loss.basis_points));
    let error = loss.error_basis_points.map(|e| share(f64::from(e)));
    let beyond = match trials.most {
        Some(most) if more > most => format!(
            " That is more than the {:.2} % allowed: by the text that chose it, it loses less.",
            most * 100.0
        ),
        _ => String::new(),
    };
    let told = format!(
        "It takes {} % bits for each byte of text that neither made nor chose it ({} of the corpus's ends; \
         fewer is better).{beyond}\n",
        percent(more, error),
        bytes(loss.bytes)
    );
    if trials.tried.is_empty() {
        return told;
    }
    let mut table = Table::new([
        "TRIED",
        "TOKENS",
        "THEIR TABLE",
        "MATRICES",
        "LAYERS OUT",
        "LOSS, %",
    ]);
    for one in &trials.tried {
        let kind = one
            .candidate
            .embedding
            .map_or("as before", |scheme| scheme.block().name);
        let bits = trials.stops.get(one.candidate.stop).and_then(Stop::told);
        let bits = bits.unwrap_or_else(|| "as before".to_owned());
        table.add([
            bytes(one.candidate.bytes),
            one.candidate.tokens.to_string(),
            kind.to_owned(),
            bits,
            one.candidate.layers_out.to_string(),
            percent(one.loss, one.error),
        ]);
    }
    format!("{told}\n{}", table.text(&[0, 1, 4, 5]))
}

/// What each layer costs, the cheapest first.
fn costs(greedy: &Greedy, out: &[u32]) -> String {
    let mut table = Table::new(["LAYER", "LOSS WITHOUT IT, %", ""]);
    let mut alone: Vec<&Without> = greedy.alone().iter().collect();
    alone.sort_by(|one, other| one.loss.total_cmp(&other.loss));
    for one in alone {
        let gone = greedy.gone().iter().find(|gone| gone.layer == one.layer);
        let gone = gone.filter(|gone| out.contains(&gone.layer));
        let gone = gone.map_or_else(String::new, |gone| {
            format!("left out: {} by then", percent(gone.loss, gone.error))
        });
        table.add([one.layer.to_string(), percent(one.loss, one.error), gone]);
    }
    format!("\n{}", table.text(&[0, 1]))
}

/// `Q5_0 (120 MB), F32 (1 MB)`, the most first.
fn types(of: &BTreeMap<&'static str, u64>) -> String {
    let mut types: Vec<_> = of.iter().collect();
    types.sort_by_key(|(name, size)| (std::cmp::Reverse(**size), **name));
    let types = types.into_iter();
    let named: Vec<String> = types
        .map(|(name, size)| format!("{name} ({})", bytes(*size)))
        .collect();
    named.join(", ")
}

/// Tokens of the corpus and of the samples, as words of other languages may now be many.
fn table(files: &[Line], samples: &[Line]) -> String {
    let mut table = Table::new(["TOKENS", "OF BYTES", "BEFORE", "NOW"]);
    for line in files.iter().chain(samples) {
        table.add([
            clean_line(&line.text),
            line.bytes.to_string(),
            line.before.to_string(),
            line.after.to_string(),
        ]);
    }
    table.text(&[1, 2, 3])
}
