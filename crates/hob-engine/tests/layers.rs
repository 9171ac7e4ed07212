//! Models with fewer layers, before llama.cpp: it loads them, and takes each layer for what it was.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use driver::Engine;
use hob_api::chat::Class;
use hob_ipc::message::Prompt;
use hob_ipc::score::{Score, ScorePart};
use hob_ipc::{Command, EngineEvent, RequestId};
use hob_models::gguf::{Document, Rewrite};
use hob_models::surgery::Layers;

const TEXT: &str = "The window of the kitchen is open, and it will rain soon. Somebody should close it \
    before the floor is wet.";

/// What a model makes of it, changed as `change` says.
fn log_probability(path: &Path, change: impl FnOnce(&Document, &mut Rewrite)) -> f64 {
    let source = File::open(path).unwrap();
    let size = source.metadata().unwrap().len();
    let document = Document::read(&source, size).unwrap();
    let mut rewrite = Rewrite::of(&document);
    change(&document, &mut rewrite);
    let mut file = tempfile::tempfile().unwrap();
    let written = rewrite.write(&source, |bytes| {
        file.write_all(bytes).unwrap();
        Ok::<(), Infallible>(())
    });
    written.unwrap();
    let mut engine = Engine::of_file(env!("CARGO_BIN_EXE_hob-engine"), file);
    engine.send(&Command::Score(Box::new(Score {
        id: RequestId(1),
        parts: vec![ScorePart {
            prompt: Prompt::Text("Hello.".to_owned()),
            continuations: vec![TEXT.to_owned()],
        }],
        ends: false,
        single_tokens: false,
        cache_owner: None,
        class: Class::Batch,
    })));
    loop {
        match engine.next_work().unwrap() {
            EngineEvent::Scored(scored) => return scored.likelihoods[0].log_probability,
            EngineEvent::Prefill { .. } => {}
            event => panic!("unexpected {event:?}"),
        }
    }
}

fn without(out: &[u32]) -> impl FnOnce(&Document, &mut Rewrite) + '_ {
    move |document, rewrite| {
        let layers = Layers::read(document).unwrap();
        layers.leave_out(rewrite, out).unwrap();
    }
}

#[test]
fn a_model_without_a_layer_loads_and_is_another() {
    let model = driver::test_model();
    let whole = log_probability(&model, |_, _| {});
    let same = log_probability(&model, without(&[]));
    assert!((whole - same).abs() < 1e-9, "{whole} {same}");
    let less = log_probability(&model, without(&[4]));
    assert!((whole - less).abs() > 0.1, "{whole} {less}");
    assert!(less > 1.2 * whole, "{whole} {less}");
    // What comes first is indispensable.
    let broken = log_probability(&model, without(&[0]));
    assert!(broken < 1.5 * whole, "{whole} {broken}");
}

/// Gemma 3 has windows in all layers but every sixth. Without the first six the rest is where it was in
/// that pattern, so that the list that is written says what llama.cpp would think by itself.
#[test]
fn llama_cpp_believes_which_layers_look_through_windows() {
    const LIST: &str = "gemma3.attention.sliding_window_pattern";
    let model = driver::sliding_model();
    let six: Vec<u32> = (0..6).collect();
    let listed = log_probability(&model, |document, rewrite| {
        without(&six)(document, rewrite);
    });
    let known = log_probability(&model, |document, rewrite| {
        without(&six)(document, rewrite);
        rewrite.remove(LIST);
    });
    assert!((listed - known).abs() < 1e-6, "{listed} {known}");
    // Where the pattern shifts, the list makes a difference.
    let one = [7];
    let listed = log_probability(&model, without(&one));
    let shifted = log_probability(&model, |document, rewrite| {
        without(&one)(document, rewrite);
        rewrite.remove(LIST);
    });
    assert!((listed - shifted).abs() > 0.1, "{listed} {shifted}");
}
