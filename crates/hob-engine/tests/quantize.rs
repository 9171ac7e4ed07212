//! Weights stored anew by the sandboxed engine.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use driver::Engine;
use hob_ipc::message::{LoadFailure, SandboxPolicy};
use hob_ipc::quantize::{Quantize, Scheme};
use hob_ipc::{Command, EngineEvent};
use hob_models::gguf::Document;

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");

fn order(scheme: Scheme, uniform: bool) -> Quantize {
    Quantize {
        version: hob_ipc::VERSION,
        sandbox: SandboxPolicy::Required,
        threads: Some(1),
        bytes_max: 1 << 30,
        scheme,
        uniform,
        importance: Vec::new(),
    }
}

/// What became of it, and the file that was written.
fn quantize(source: &File, order: Quantize) -> (Result<(), (LoadFailure, String)>, File) {
    let mut engine = Engine::spawn(BINARY);
    let target = tempfile::tempfile().unwrap();
    engine.send_with(&Command::Quantize(order), &[source, &target]);
    let end = loop {
        match engine.next_work() {
            Some(EngineEvent::Sandboxed { layers }) => {
                assert!(layers.iter().any(|layer| layer.starts_with("landlock")));
            }
            Some(EngineEvent::Quantized) => break Ok(()),
            Some(EngineEvent::LoadFailed { code, message }) => break Err((code, message)),
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(engine.exit().code(), Some(i32::from(end.is_err())));
    (end, target)
}

fn document(file: &File) -> Document {
    Document::read(file, file.metadata().unwrap().len()).unwrap()
}

fn types(document: &Document) -> Vec<(&'static str, u64)> {
    let header = document.header();
    header.bytes_by_type.clone().into_iter().collect()
}

#[test]
fn weights_are_stored_as_asked_and_the_model_stays_as_it_was() {
    let source = File::open(driver::test_model()).unwrap();
    let before = document(&source);
    let (end, target) = quantize(&source, order(Scheme::Q8_0, true));
    end.unwrap();
    let after = document(&target);
    let matrices = types(&after);
    assert!(
        matches!(matrices[..], [("F32", _), ("Q8_0", _)]),
        "{matrices:?}"
    );
    assert_eq!(after.header().parameters, before.header().parameters);
    assert_eq!(after.header().vocabulary, before.header().vocabulary);
    assert_eq!(after.header().quantization, "Q8_0");
    let size = |name: &str| {
        let tensor = after.tensors().iter().find(|tensor| tensor.name() == name);
        tensor.unwrap().dimensions().to_vec()
    };
    for tensor in before.tensors() {
        assert_eq!(size(tensor.name()), tensor.dimensions());
    }

    // It says the same: SmolLM2's weights are of 4 bits, and 8 hold them.
    let answer = |file: &File| {
        let mut file = file.try_clone().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut engine = Engine::spawn(BINARY);
        engine.send_with(&Command::Load(driver::load()), &[file]);
        while !matches!(engine.next_work(), Some(EngineEvent::Ready(_))) {}
        let text = "The largest planet of the solar system is";
        engine.ask(driver::complete(1, text, 6)).text
    };
    assert_eq!(answer(&target), answer(&source));
}

#[test]
fn rows_that_are_not_whole_blocks_are_stored_as_told() {
    let source = File::open(driver::test_model()).unwrap();
    let (end, target) = quantize(&source, order(Scheme::Q3_K_S, true));
    end.unwrap();
    let fallback = Scheme::Q3_K_S.fallback().unwrap().name;
    let names: Vec<&str> = types(&document(&target))
        .iter()
        .map(|(name, _)| *name)
        .collect();
    // Of SmolLM2, those of 576 weights are not, and those of 1,536 are.
    assert_eq!(names, ["F32", "Q3_K", fallback]);
}

fn refused(source: &File, order: Quantize) -> (LoadFailure, String) {
    quantize(source, order).0.unwrap_err()
}

#[test]
fn what_is_no_model_or_a_lying_one_is_refused() {
    let whole = fs::read(driver::test_model()).unwrap();
    let mut no_layers = whole.clone();
    // Its architecture gets a name that there is not.
    let at = no_layers
        .windows(5)
        .position(|window| window == b"llama")
        .unwrap();
    no_layers[at..at + 5].copy_from_slice(b"llamb");
    for bytes in [
        &b""[..],
        b"GGUF",
        &whole[..5000],
        &whole[..whole.len() / 2],
        &no_layers,
    ] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let (code, message) = refused(&file, order(Scheme::Q8_0, false));
        assert_eq!(code, LoadFailure::Quantize, "{message}");
        assert!(message.contains("llama.cpp can't store"), "{message}");
    }
}

#[test]
fn no_more_is_written_than_allowed() {
    let source = File::open(driver::test_model()).unwrap();
    let mut engine = Engine::spawn(BINARY);
    let target = tempfile::tempfile().unwrap();
    let bytes_max = 1 << 20;
    let order = Quantize {
        bytes_max,
        ..order(Scheme::Q8_0, true)
    };
    engine.send_with(&Command::Quantize(order), &[&source, &target]);
    while let Some(event) = engine.next_work() {
        assert!(matches!(event, EngineEvent::Sandboxed { .. }), "{event:?}");
    }
    assert!(!engine.exit().success());
    assert!(target.metadata().unwrap().len() <= bytes_max);
}

#[test]
fn the_model_stays_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model.gguf");
    fs::copy(driver::test_model(), &copy).unwrap();
    let digest = |path: &Path| {
        let mut hasher = hob_models::digest::Hasher::default();
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        hasher.update(&bytes);
        hasher.finish()
    };
    let before = digest(&copy);
    // Open for writing too: still nothing is written.
    let file = File::options().read(true).write(true).open(&copy).unwrap();
    quantize(&file, order(Scheme::Q4_0, true)).0.unwrap();
    assert_eq!(digest(&copy), before);
}

#[test]
fn one_descriptor_or_another_version_is_refused() {
    let source = File::open(driver::test_model()).unwrap();
    let mut engine = Engine::spawn(BINARY);
    engine.send_with(&Command::Quantize(order(Scheme::Q8_0, true)), &[&source]);
    let Some(EngineEvent::LoadFailed { code, message }) = engine.next_work() else {
        panic!("it began");
    };
    assert_eq!(code, LoadFailure::Protocol);
    assert!(message.contains("1 descriptors instead of 2"), "{message}");
    let future = Quantize {
        version: hob_ipc::VERSION + 1,
        ..order(Scheme::Q8_0, true)
    };
    let mut engine = Engine::spawn(BINARY);
    engine.send_with(&Command::Quantize(future), &[&source, &source]);
    let Some(EngineEvent::LoadFailed { message, .. }) = engine.next_work() else {
        panic!("it began");
    };
    assert!(message.contains("version"), "{message}");
}
