//! `hob models show`: what a model is, and the memory it needs.

use std::fs::File;
use std::path::{Path, PathBuf};

use hob_models::ModelName;
use hob_models::catalog::Parameters;
use hob_models::gguf::Header;
use hob_models::store::{Change, ControlVector, Installed, Lineage, StoreError, Verification};
use serde_json::{Value, json};

use super::Place;
use super::gate::{self, Gate};
use crate::clean::{clean, clean_line};
use crate::failure::Failure;
use crate::output::Style;
use crate::render::bytes;

/// Context sizes that memory is shown for, and the model's own.
const CONTEXTS: [u32; 5] = [1024, 2048, 4096, 8192, 32768];

/// Shows an installed model, or a file that need not be.
pub(super) fn run(model: &str, template: bool, place: &mut Place<'_>) -> Result<(), Failure> {
    let (installed, path) = find(model, place)?;
    let header = read(&path)?;
    if template {
        return match &header.chat_template {
            Some(text) => place.output.write_clean(&format!("{text}\n")),
            None => Err(Failure::new("the model has no chat template")),
        };
    }
    if place.json {
        let mut object = object(&header, installed.as_ref(), &path);
        if let Some((path, gate)) = card(installed.as_ref(), place) {
            object["fairness"] = json!({ "card": path.display().to_string(), "gate": gate });
        }
        if let Some(beside) = control(&header, installed.as_ref(), place) {
            object["control_vector"] = control_object(&beside);
        }
        return place.output.write(&crate::ask::to_json(&object)?);
    }
    let color = place.output.color();
    let mut rows = description(&header);
    if let Some(installed) = &installed {
        let manifest = &installed.manifest;
        rows.push(("size", bytes(manifest.size_bytes)));
        rows.push(("sha256", manifest.sha256.to_string()));
        rows.extend(manifest.licence.iter().map(|id| ("licence", id.clone())));
        rows.push(("from", manifest.origin.clone()));
        rows.extend(manifest.lineage.iter().flat_map(lineage));
    }
    rows.extend(card(installed.as_ref(), place).map(fairness));
    rows.extend(control(&header, installed.as_ref(), place).map(control_row));
    rows.push(("file", path.display().to_string()));
    let lines = rows.iter().map(|(label, value)| {
        let label = format!("{label:<15}");
        format!(
            "{}{}\n",
            Style::Bold.paint(&label, color),
            clean_line(value)
        )
    });
    let text = lines.collect::<Vec<_>>().concat() + "\n" + &memory(&header, color);
    place.output.write(&text)
}

/// A name finds an installed model; what looks like a path, or is only a file, is one.
fn find(model: &str, place: &Place<'_>) -> Result<(Option<Installed>, PathBuf), Failure> {
    if let Ok(name) = ModelName::new(model) {
        match place.store.get(&name) {
            Ok(installed) => return Ok((Some(installed), place.store.model_path(&name))),
            Err(StoreError::NotInstalled { .. }) if is_path(model) => {}
            Err(error @ StoreError::NotInstalled { .. }) => {
                return Err(super::fetch::not_installed(&name, error, place));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((None, PathBuf::from(model)))
}

fn is_path(model: &str) -> bool {
    let path = Path::new(model);
    path.extension()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("gguf"))
        || path.is_file()
}

/// A regular file, and its size in bytes.
pub(super) fn open(path: &Path) -> Result<(File, u64), Failure> {
    let unreadable = |error| Failure::io(&format!("{} cannot be read", path.display()), &error);
    // Opening a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile(path.to_path_buf()).into());
    }
    Ok((File::open(path).map_err(unreadable)?, metadata.len()))
}

/// The header of a GGUF file.
pub(super) fn read(path: &Path) -> Result<Header, Failure> {
    let (file, size) = open(path)?;
    Header::read(file, size).map_err(|error| {
        Failure::new(format!("{}: {error}", path.display()))
            .hint("hob runs whole, single GGUF files of language models.")
    })
}

fn description(header: &Header) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    rows.extend(header.name.iter().map(|name| ("name", name.clone())));
    rows.push(("architecture", header.architecture.clone()));
    rows.push((
        "parameters",
        format!("{} ({})", Parameters(header.parameters), header.parameters),
    ));
    rows.push((
        "quantization",
        if header.quantization == header.main_tensor_type {
            header.quantization.clone()
        } else {
            format!(
                "{} (mostly {})",
                header.quantization, header.main_tensor_type
            )
        },
    ));
    rows.push(("context", format!("{} tokens", header.n_ctx_train)));
    if let Some(window) = header.sliding_window {
        let layers = header.windowed.iter().filter(|windowed| **windowed).count();
        let all = header.n_layer;
        rows.push((
            "sliding window",
            format!("{window} tokens, in {layers} of {all} layers"),
        ));
    }
    let kv = header.n_head_kv.iter().max().copied().unwrap_or(0);
    rows.push((
        "layers",
        format!(
            "{}, of {} wide, with {} heads and {kv} KV heads",
            header.n_layer, header.n_embd, header.n_head
        ),
    ));
    rows.push(("vocabulary", format!("{} tokens", header.vocabulary)));
    let chat = match &header.chat_template {
        Some(text) => format!("yes, {} bytes (--template prints it)", text.len()),
        None => "no: a base model, which continues text".to_owned(),
    };
    rows.push(("chat template", chat));
    rows
}

/// Where a model's fairness card lies, and what came of comparing it.
fn card(installed: Option<&Installed>, place: &Place<'_>) -> Option<(PathBuf, Option<Gate>)> {
    let Installed { name, manifest } = installed?;
    let (beside, card) = gate::Card::found(name, manifest.sha256, place)?;
    Some((place.store.fairness_path(&beside), card.gate))
}

/// That for people.
fn fairness((path, gate): (PathBuf, Option<Gate>)) -> (&'static str, String) {
    let compared = gate.map_or_else(String::new, |gate| {
        let passed = if gate.passed {
            "passed"
        } else {
            "did not pass"
        };
        format!(", {passed} beside {}", gate.against)
    });
    (
        "fairness",
        format!("measured{compared} ({})", path.display()),
    )
}

/// The control vector beside a model, or what is wrong with it, and where it lies.
type Beside = (PathBuf, Result<ControlVector, StoreError>);

fn control(header: &Header, installed: Option<&Installed>, place: &Place<'_>) -> Option<Beside> {
    let Installed { name, manifest } = installed?;
    let found = place.store.control_vector(name, (manifest.sha256, header));
    Some((place.store.control_path(name), found.transpose()?))
}

/// That for people.
fn control_row((path, found): Beside) -> (&'static str, String) {
    let path = path.display();
    let told = match found {
        Err(error) => format!("not added: {error}"),
        Ok(vector) => {
            let Verification {
                contrast,
                questions,
                categories,
                text_loss_basis_points,
                ambiguous,
                disambiguated,
                ..
            } = vector.verified();
            let percent = |points: u32| f64::from(points) / 100.0;
            let change = |of: &Change| {
                format!(
                    "{:.1} % ({:.1} % without)",
                    percent(of.after),
                    percent(of.before)
                )
            };
            format!(
                "{contrast}, behind layer {}; of {questions} questions in {} categories left out, right of \
                 ambiguous questions {}, of others {}; {:+.2} % on text ({path})",
                vector.layer(),
                categories.len(),
                change(ambiguous),
                change(disambiguated),
                f64::from(*text_loss_basis_points) / 100.0,
            )
        }
    };
    ("control vector", told)
}

fn control_object((path, found): &Beside) -> Value {
    let vector = found.as_ref().ok();
    json!({
        "file": path.display().to_string(),
        "layer": vector.map(ControlVector::layer),
        "sha256": vector.map(|vector| vector.digest().to_string()),
        "verification": vector.map(ControlVector::verified),
        "problem": found.as_ref().err().map(ToString::to_string),
    })
}

/// What a model was made of, and how.
fn lineage(lineage: &Lineage) -> Vec<(&'static str, String)> {
    let mut rows = vec![(
        "made of",
        format!("{} ({})", lineage.source, lineage.source_sha256),
    )];
    rows.extend(lineage.steps.iter().map(|step| ("step", step.clone())));
    if let Some(length) = lineage.corpus_bytes {
        let tokens = [lineage.corpus_tokens, lineage.corpus_tokens_before];
        let [now, before] = tokens.map(Option::unwrap_or_default);
        let text = bytes(length);
        rows.push((
            "fitted to",
            format!("{text} of text: {now} tokens, {before} before"),
        ));
    }
    if let Some(loss) = lineage.loss {
        let percent = f64::from(loss.basis_points) / 100.0;
        let error = loss.error_basis_points.map_or_else(String::new, |error| {
            format!(" ±{:.2}", f64::from(error) / 100.0)
        });
        let of = bytes(loss.bytes);
        rows.push((
            "loss",
            format!("{percent:+.2} %{error} bits per byte, on {of} held out"),
        ));
    }
    rows
}

/// The context sizes worth showing for a model.
fn contexts(header: &Header) -> Vec<u32> {
    let own = header.n_ctx_train;
    let mut sizes: Vec<u32> = CONTEXTS.into_iter().filter(|size| *size < own).collect();
    sizes.push(own);
    sizes
}

fn memory(header: &Header, color: bool) -> String {
    let head = format!(
        "{:>9}  {:>10}  {:>10}  {:>10}  {:>10}",
        "CONTEXT", "WEIGHTS", "KV CACHE", "COMPUTE", "MEMORY"
    );
    let lines = contexts(header).into_iter().map(|n_ctx| {
        let memory = header.memory_needed(n_ctx, 1);
        format!(
            "{n_ctx:>9}  {:>10}  {:>10}  {:>10}  {:>10}\n",
            bytes(memory.weights),
            bytes(memory.kv),
            bytes(memory.compute_estimate),
            bytes(memory.total()),
        )
    });
    format!(
        "{}\n{}One request at a time; each further one adds a KV cache. Compute is an estimate.\n",
        Style::Bold.paint(&head, color),
        lines.collect::<Vec<_>>().concat()
    )
}

fn object(header: &Header, installed: Option<&Installed>, path: &Path) -> Value {
    let memory: Vec<Value> = contexts(header)
        .into_iter()
        .map(|n_ctx| {
            let memory = header.memory_needed(n_ctx, 1);
            json!({
                "n_ctx": n_ctx,
                "weights_bytes": memory.weights,
                "kv_bytes": memory.kv,
                "compute_estimate_bytes": memory.compute_estimate,
                "total_bytes": memory.total(),
            })
        })
        .collect();
    json!({
        "name": installed.map(|model| &model.name),
        "file": path.display().to_string(),
        "title": header.name.as_deref().map(clean),
        "architecture": header.architecture,
        "parameters": header.parameters,
        "quantization": header.quantization,
        "main_tensor_type": header.main_tensor_type,
        "n_ctx_train": header.n_ctx_train,
        "n_layer": header.n_layer,
        "n_embd": header.n_embd,
        "n_head": header.n_head,
        "n_head_kv": header.n_head_kv,
        "key_length": header.key_length,
        "value_length": header.value_length,
        "sliding_window": header.sliding_window,
        "vocabulary": header.vocabulary,
        "chat_template": header.chat_template.is_some(),
        "weights_bytes": header.weights_bytes,
        "installed": installed.map(|model| &model.manifest),
        "memory": memory,
    })
}
