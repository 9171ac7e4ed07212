//! The residual stream, read and changed, by the real engine and real models.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use driver::{Engine, Started, load, sliding_model, test_model};
use hob_api::chat::Class;
use hob_ipc::message::{FailureCode, Load, LoadFailure, Prompt};
use hob_ipc::residual::{Control, ReadResidual, residual_bytes};
use hob_ipc::score::{Score, ScorePart};
use hob_ipc::{Command, EngineEvent, RequestId, shared};

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");
/// Layers and width of the test models.
const SMOL: (u32, u32) = (30, 576);
const GEMMA: (u32, u32) = (18, 640);

fn memory_of(numbers: &[f32]) -> File {
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let mut memory = shared::fixed("test", bytes.len() as u64).unwrap();
    memory.write_all(&bytes).unwrap();
    memory
}

fn start(model: &Path) -> Engine {
    Engine::start(BINARY, &load(), model).0
}

fn start_with(
    model: &Path,
    layer: u32,
    memory: File,
) -> Result<(Engine, Started), (LoadFailure, String)> {
    let load = Load {
        control: Some(Control { layer }),
        ..load()
    };
    let mut engine = Engine::spawn(BINARY);
    let model = File::open(model).unwrap();
    engine.send_with(&Command::Load(load), &[model, memory]);
    let started = engine.wait_until_ready()?;
    Ok((engine, started))
}

fn read_into(
    engine: &mut Engine,
    prompt: &str,
    answer: &str,
    memory: &File,
) -> Result<u32, FailureCode> {
    let command = Command::ReadResidual(Box::new(ReadResidual {
        id: RequestId(1),
        prompt: prompt.to_owned(),
        answer: answer.to_owned(),
    }));
    engine.send_with(&command, &[memory]);
    match engine.next_work().unwrap() {
        EngineEvent::ResidualRead(read) => Ok(read.tokens),
        EngineEvent::Failed { code, .. } => Err(code),
        event => panic!("unexpected {event:?}"),
    }
}

/// The stream behind each layer.
fn read(
    engine: &mut Engine,
    prompt: &str,
    answer: &str,
    (layers, width): (u32, u32),
) -> Vec<Vec<f32>> {
    let memory = shared::fixed("test", residual_bytes(layers, width)).unwrap();
    read_into(engine, prompt, answer, &memory).unwrap();
    let mut bytes = vec![0; (layers * width) as usize * 4];
    memory.read_exact_at(&mut bytes, 0).unwrap();
    let (words, _) = bytes.as_chunks();
    let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    numbers
        .chunks(width as usize)
        .map(<[f32]>::to_vec)
        .collect()
}

/// How likely a token is behind a prompt.
fn likelihood(engine: &mut Engine, prompt: &str, next: &str) -> f64 {
    engine.send(&Command::Score(Box::new(Score {
        id: RequestId(2),
        parts: vec![ScorePart {
            prompt: Prompt::Text(prompt.to_owned()),
            continuations: vec![next.to_owned()],
        }],
        ends: false,
        single_tokens: false,
        cache_owner: None,
        class: Class::Batch,
    })));
    let mut found = None;
    loop {
        match engine.next_work().unwrap() {
            EngineEvent::Scored(scored) => found = Some(scored.likelihoods[0].clone()),
            EngineEvent::Finished(_) => break,
            event => panic!("unexpected {event:?}"),
        }
    }
    let found = found.unwrap();
    assert_eq!(found.tokens, 1, "{next} is to be one token");
    found.log_probability
}

#[test]
fn what_was_added_behind_the_last_layer_is_what_the_model_goes_on_from() {
    for (model, shape) in [(test_model(), SMOL), (sliding_model(), GEMMA)] {
        let mut engine = start(&model);
        let here = read(&mut engine, "The capital of France", " is", shape);
        let there = read(&mut engine, "A dog has four", " legs", shape);
        let last = shape.0 - 1;
        let vector: Vec<f32> = there[last as usize]
            .iter()
            .zip(&here[last as usize])
            .map(|(there, here)| there - here)
            .collect();
        let next = [" the", " a", ",", " and"];
        let of = |engine: &mut Engine, prompt| next.map(|next| likelihood(engine, prompt, next));
        let plain = of(&mut engine, "The capital of France is");
        let wanted = of(&mut engine, "A dog has four legs");
        let (mut steered, _) = start_with(&model, last, memory_of(&vector)).unwrap();
        let found = of(&mut steered, "The capital of France is");
        let apart = |one: [f64; 4], other: [f64; 4]| {
            let each = one
                .iter()
                .zip(other)
                .map(|(one, other)| (one - other).abs());
            each.fold(0.0, f64::max)
        };
        assert!(apart(found, wanted) < 0.1, "{found:?} {wanted:?}");
        assert!(apart(plain, wanted) > 1.0, "{plain:?} {wanted:?}");
        // Nothing added changes nothing, whatever the layer.
        let nothing = memory_of(&vec![0.0; shape.1 as usize]);
        let (mut same, _) = start_with(&model, 0, nothing).unwrap();
        assert!(apart(of(&mut same, "The capital of France is"), plain) < 1e-6);
    }
}

#[test]
fn the_stream_does_not_depend_on_what_was_read_before() {
    let long = "The cat sat on the mat, and the dog lay beside it. ".repeat(60);
    for (model, shape) in [(test_model(), SMOL), (sliding_model(), GEMMA)] {
        let mut one = start(&model);
        read(&mut one, &long, " Then it rained for a long time.", shape);
        let after = read(&mut one, &long, " Then", shape);
        let alone = read(&mut start(&model), &long, " Then", shape);
        assert_eq!(after.len(), shape.0 as usize);
        for (layer, (after, alone)) in after.iter().zip(&alone).enumerate() {
            let size = alone.iter().map(|x| x * x).sum::<f32>().sqrt();
            let apart = after.iter().zip(alone).map(|(a, b)| (a - b) * (a - b));
            let apart = apart.sum::<f32>().sqrt();
            assert!(
                size > 0.0 && apart < 0.05 * size,
                "layer {layer}: {apart} of {size}"
            );
        }
        let other = read(&mut one, "The cat", " sat", shape);
        assert_ne!(other, after);
    }
}

#[test]
fn what_is_no_control_vector_loads_no_model() {
    let model = test_model();
    let (layers, width) = (SMOL.0, SMOL.1 as usize);
    let refused = |layer, numbers: &[f32]| match start_with(&model, layer, memory_of(numbers)) {
        Err((code, _)) => code,
        Ok(_) => panic!("it was loaded"),
    };
    let mut none = vec![0.0; width];
    assert_eq!(refused(layers, &none), LoadFailure::Control);
    assert_eq!(refused(u32::MAX, &none), LoadFailure::Control);
    assert_eq!(refused(0, &none[1..]), LoadFailure::Control);
    none.push(0.0);
    assert_eq!(refused(0, &none), LoadFailure::Control);
    for bad in [f32::NAN, f32::INFINITY] {
        none[width - 1] = bad;
        assert_eq!(refused(0, &none[..width]), LoadFailure::Control);
    }
    // A message with one descriptor too few.
    let load = Load {
        control: Some(Control { layer: 0 }),
        ..load()
    };
    let failed = Engine::try_start(BINARY, &load, &model).1;
    assert_eq!(failed.unwrap_err().0, LoadFailure::Protocol);
}

#[test]
fn a_state_tells_what_it_was_computed_with() {
    let format = |layer, number| {
        let memory = memory_of(&[number; SMOL.1 as usize]);
        let (_engine, started) = start_with(&test_model(), layer, memory).unwrap();
        started.ready.state_format
    };
    let plain = Engine::start(BINARY, &load(), &test_model()).1;
    let formats = [
        plain.ready.state_format,
        format(3, 0.5),
        format(3, 0.25),
        format(4, 0.5),
    ];
    for (at, one) in formats.iter().enumerate() {
        assert!(
            formats[..at].iter().all(|other| other != one),
            "{formats:?}"
        );
    }
    assert_eq!(format(3, 0.5), formats[1]);
}

#[test]
fn what_can_not_be_read_is_refused_and_the_next_is_read() {
    let mut engine = start(&test_model());
    let (layers, width) = SMOL;
    let memory = |bytes| shared::fixed("test", bytes).unwrap();
    let whole = residual_bytes(layers, width);
    for bytes in [whole - 4, whole + 4] {
        let refused = read_into(&mut engine, "The cat", " sat", &memory(bytes));
        assert_eq!(refused, Err(FailureCode::Text));
    }
    let long = "rain ".repeat(2100);
    let refused = read_into(&mut engine, &long, " sat", &memory(whole));
    assert!(
        matches!(
            refused,
            Err(FailureCode::Text | FailureCode::ContextOverflow)
        ),
        "{refused:?}"
    );
    assert_eq!(
        read_into(&mut engine, "The cat", " sat", &memory(whole)),
        Ok(3)
    );
    read(&mut engine, "The cat", " sat", SMOL);
}
