//! What the columns of a model's matrices matter, and weights stored by that.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use driver::Engine;
use hob_ipc::importance::{Matrix, NUMBERS_MAX, Observe, Observed, numbers};
use hob_ipc::message::{Load, LoadFailure, SandboxPolicy};
use hob_ipc::quantize::{Quantize, Scheme};
use hob_ipc::{Command, EngineEvent, shared};
use hob_models::gguf::Document;

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");
const WINDOW: u32 = 32;
const TEXT: &str = include_str!("importance.rs");

fn model() -> File {
    File::open(driver::test_model()).unwrap()
}

/// The model's matrices.
fn matrices() -> Vec<Matrix> {
    let file = model();
    let document = Document::read(&file, file.metadata().unwrap().len()).unwrap();
    let tensors = document.tensors().iter();
    let matrices = tensors.filter(|tensor| tensor.dimensions().len() == 2);
    let matrix = matrices.map(|tensor| Matrix {
        name: tensor.name().to_owned(),
        columns: u32::try_from(tensor.dimensions()[0]).unwrap(),
        experts: 1,
    });
    matrix.collect()
}

fn order(text: &str, matrices: Vec<Matrix>) -> Observe {
    Observe {
        load: Load {
            n_ctx: WINDOW,
            parallel: 1,
            embeddings: false,
            ..driver::load()
        },
        text_bytes: text.len() as u64,
        matrices,
    }
}

fn memory(bytes: &[u8]) -> File {
    let mut memory = shared::fixed("test", bytes.len() as u64).unwrap();
    memory.write_all(bytes).unwrap();
    memory
}

type Outcome<T> = Result<T, (LoadFailure, String)>;

/// How many windows were read; what was written lies in `numbers`.
fn observe(order: Observe, text: &[u8], numbers: &File) -> Outcome<u32> {
    let mut engine = Engine::spawn(BINARY);
    let files = [model(), memory(text), numbers.try_clone().unwrap()];
    engine.send_with(&Command::Observe(Box::new(order)), &files);
    let mut read = 0;
    let end = loop {
        match engine.next_work() {
            Some(EngineEvent::Sandboxed { layers }) => {
                assert!(layers.iter().any(|layer| layer.starts_with("landlock")));
            }
            Some(EngineEvent::Observed(Observed { windows, of })) => {
                read += 1;
                assert_eq!(windows, read);
                if windows == of {
                    break Ok(of);
                }
            }
            Some(EngineEvent::LoadFailed { code, message }) => break Err((code, message)),
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(engine.exit().code(), Some(i32::from(end.is_err())));
    end
}

/// The numbers of each matrix, by what a text is like.
fn means(text: &str) -> HashMap<String, Vec<f32>> {
    let matrices = matrices();
    let length = usize::try_from(numbers(&matrices)).unwrap() * 4;
    let memory = memory(&vec![0; length]);
    observe(order(text, matrices.clone()), text.as_bytes(), &memory).unwrap();
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, 0).unwrap();
    let (words, _) = bytes.as_chunks();
    let mut all = words.iter().map(|word| f32::from_le_bytes(*word));
    let mut own = |matrix: &Matrix| {
        let count = usize::try_from(matrix.numbers()).unwrap();
        all.by_ref().take(count).collect()
    };
    matrices.iter().map(|m| (m.name.clone(), own(m))).collect()
}

#[test]
fn every_matrix_is_seen_with_what_it_is_multiplied_with() {
    let text = &TEXT[..700];
    let found = means(text);
    for (name, means) in &found {
        assert!(means.iter().all(|mean| (0.0..1e9).contains(mean)), "{name}");
        assert!(means.iter().any(|mean| *mean > 0.0), "{name}");
    }
    let of = |name: &str| &found[&format!("{name}.weight")];
    for layer in 0..30 {
        let own = |name: &str| of(&format!("blk.{layer}.{name}"));
        // These are multiplied with the same.
        assert_eq!(own("attn_q"), own("attn_k"));
        assert_eq!(own("attn_q"), own("attn_v"));
        assert_eq!(own("ffn_up"), own("ffn_gate"));
        assert_ne!(own("attn_q"), own("ffn_up"));
        assert_eq!(own("ffn_down").len(), 1536);
    }
    // The table is the last matrix, too.
    assert_eq!(of("token_embd").len(), 576);
    assert_ne!(of("token_embd"), of("blk.0.attn_q"));
    assert_eq!(means(text), found, "the same text");
    assert_ne!(means(&TEXT[1000..1700]), found, "another text");
}

#[test]
fn what_can_not_be_told_is_refused() {
    let all = matrices();
    let length = usize::try_from(numbers(&all)).unwrap() * 4;
    let room = || memory(&vec![0; length]);
    let refused = |order: Observe, text: &[u8], memory: File, reason: &str| {
        let (code, message) = observe(order, text, &memory).unwrap_err();
        assert_eq!(code, LoadFailure::Observe, "{message}");
        assert!(message.contains(reason), "{message}");
    };
    let text = &TEXT[..400];
    let short = "Too short for a window.";
    refused(
        order(short, all.clone()),
        short.as_bytes(),
        room(),
        "a window 32",
    );
    let latin = b"caf\xe9 au lait caf\xe9 au lait caf\xe9 au lait";
    let said = Observe {
        text_bytes: latin.len() as u64,
        ..order(text, all.clone())
    };
    refused(said, latin, room(), "can't be read");
    let longer = Observe {
        text_bytes: 900,
        ..order(text, all.clone())
    };
    refused(longer, text.as_bytes(), room(), "can't be read");
    let more = memory(&vec![0; length + 4]);
    refused(
        order(text, all.clone()),
        text.as_bytes(),
        more,
        "handed over",
    );
    refused(order(text, Vec::new()), text.as_bytes(), room(), "so many");
    let mut many = all[0].clone();
    (many.columns, many.experts) = (u32::MAX, u32::MAX);
    assert!(many.numbers() > NUMBERS_MAX);
    refused(order(text, vec![many]), text.as_bytes(), room(), "so many");
}

#[test]
fn of_what_the_model_has_not_nothing_is_seen() {
    let mut other = matrices().swap_remove(0);
    "elsewhere.weight".clone_into(&mut other.name);
    let mut wider = matrices().swap_remove(1);
    wider.columns += 1;
    let asked = vec![other, wider];
    let length = usize::try_from(numbers(&asked)).unwrap() * 4;
    let memory = memory(&vec![1; length]);
    let text = &TEXT[..400];
    observe(order(text, asked), text.as_bytes(), &memory).unwrap();
    let mut bytes = vec![1; length];
    memory.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, vec![0; length]);
}

fn quantize(matrices: Vec<Matrix>, numbers: &File) -> Outcome<Vec<u8>> {
    let mut engine = Engine::spawn(BINARY);
    let target = tempfile::tempfile().unwrap();
    let quantize = Quantize {
        version: hob_ipc::VERSION,
        sandbox: SandboxPolicy::Required,
        threads: Some(1),
        bytes_max: 1 << 30,
        scheme: Scheme::Q4_0,
        uniform: true,
        importance: matrices,
    };
    let mut files = vec![model(), target.try_clone().unwrap()];
    if !quantize.importance.is_empty() {
        files.push(numbers.try_clone().unwrap());
    }
    engine.send_with(&Command::Quantize(quantize), &files);
    loop {
        match engine.next_work() {
            Some(EngineEvent::Sandboxed { .. }) => {}
            Some(EngineEvent::Quantized) => break,
            Some(EngineEvent::LoadFailed { code, message }) => return Err((code, message)),
            event => panic!("{event:?}"),
        }
    }
    let mut bytes = vec![0; usize::try_from(target.metadata().unwrap().len()).unwrap()];
    target.read_exact_at(&mut bytes, 0).unwrap();
    Ok(bytes)
}

#[test]
fn weights_are_stored_by_what_matters() {
    let all = matrices();
    let count = usize::try_from(numbers(&all)).unwrap();
    let told = |mean: f32| memory(&mean.to_le_bytes().repeat(count));
    let without = quantize(Vec::new(), &told(1.0)).unwrap();
    let evenly = quantize(all.clone(), &told(1.0)).unwrap();
    assert_eq!(evenly.len(), without.len());
    assert!(evenly != without, "it is not made use of");
    // What matters is how much each column does beside the others.
    assert!(quantize(all.clone(), &told(2.0)).unwrap() == evenly);
    let table = all.iter().position(|m| m.name == "token_embd.weight");
    let table = all[table.unwrap()].clone();
    let one = quantize(vec![table], &told(1.0)).unwrap();
    assert!(one != without && one != evenly);
}

#[test]
fn numbers_that_are_none_are_not_stored_by() {
    let all = matrices();
    let count = usize::try_from(numbers(&all)).unwrap();
    for mean in [f32::NAN, f32::INFINITY] {
        let told = memory(&mean.to_le_bytes().repeat(count));
        let (code, message) = quantize(all.clone(), &told).unwrap_err();
        assert_eq!(code, LoadFailure::Quantize);
        assert!(message.contains("what matters"), "{message}");
    }
    let (_, message) = quantize(all.clone(), &memory(&[0; 8])).unwrap_err();
    assert!(message.contains("what matters"), "{message}");
    let mut wider = all;
    wider[1].columns -= 32;
    let told = memory(&1.0f32.to_le_bytes().repeat(count));
    let (code, message) = quantize(wider, &told).unwrap_err();
    assert_eq!(code, LoadFailure::Quantize, "{message}");
}
