//! Embeddings by the real engine, of models that were made to answer.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::path::Path;

use driver::{Engine, complete, load, sliding_model, test_model};
use hob_api::chat::Class;
use hob_ipc::embedding::{Embed, EmbedFailure, EmbedInput};
use hob_ipc::message::{FailureCode, Finished, Load};
use hob_ipc::{Command, EngineEvent, RequestId};

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");

const TEXTS: [&str; 4] = [
    "The cat sleeps on the sofa.",
    "A kitten is napping on the couch.",
    "The central bank raised interest rates by half a point.",
    "Inflation led the bank to raise its rates again.",
];

fn start(model: &Path, load: &Load) -> Engine {
    Engine::start(BINARY, load, model).0
}

fn request(id: u64, inputs: Vec<EmbedInput>) -> Embed {
    Embed {
        id: RequestId(id),
        inputs,
        dimensions: None,
        class: Class::Batch,
    }
}

fn texts(texts: &[&str]) -> Vec<EmbedInput> {
    let texts = texts.iter();
    texts
        .map(|text| EmbedInput::Text((*text).to_owned()))
        .collect()
}

type Outcome = (Vec<Vec<f32>>, Result<Finished, FailureCode>);

fn outcome(engine: &mut Engine, of: u64) -> Outcome {
    let mut vectors = Vec::new();
    loop {
        match engine.next_work().unwrap() {
            EngineEvent::Embedding(made) if made.id.0 == of => {
                assert_eq!(made.index as usize, vectors.len());
                vectors.push(made.vector.0);
            }
            EngineEvent::Finished(finished) if finished.id.0 == of => {
                return (vectors, Ok(finished));
            }
            EngineEvent::Failed { id, code, .. } if id.0 == of => return (vectors, Err(code)),
            EngineEvent::Delta { .. } | EngineEvent::Finished(_) | EngineEvent::Prefill { .. } => {}
            event => panic!("unexpected {event:?}"),
        }
    }
}

fn embed(engine: &mut Engine, id: u64, inputs: Vec<EmbedInput>) -> Vec<Vec<f32>> {
    let count = inputs.len();
    engine.send(&Command::Embed(Box::new(request(id, inputs))));
    let (vectors, end) = outcome(engine, id);
    end.unwrap();
    assert_eq!(vectors.len(), count);
    vectors
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn what_is_alike_lies_near_and_company_changes_nothing() {
    for model in [test_model(), sliding_model()] {
        let mut engine = start(&model, &load());
        let together = embed(&mut engine, 1, texts(&TEXTS));
        let near = [(0, 1), (2, 3)].map(|(a, b)| cosine(&together[a], &together[b]));
        let far = [(0, 2), (0, 3), (1, 2), (1, 3)].map(|(a, b)| cosine(&together[a], &together[b]));
        let least_near = near.into_iter().fold(1.0, f32::min);
        let most_far = far.into_iter().fold(-1.0, f32::max);
        assert!(
            least_near > most_far,
            "{near:?} {far:?} {}",
            model.display()
        );
        for (id, (text, in_company)) in (2..).zip(TEXTS.iter().zip(&together)) {
            let alone = embed(&mut engine, id, texts(&[text]));
            let same = cosine(&alone[0], in_company);
            assert!(same > 0.9999, "{same} {}", model.display());
        }
    }
}

/// What was read before in the context, and how many pieces an input is read in, change nothing.
#[test]
fn a_long_input_is_one_input() {
    for model in [test_model(), sliding_model()] {
        let mut engine = start(&model, &load());
        let long: Vec<i32> = (0..300).map(|n| 300 + n % 200).collect();
        let inputs = |tokens: &[i32]| vec![EmbedInput::Tokens(tokens.to_vec())];
        let first = embed(&mut engine, 1, inputs(&long));
        embed(&mut engine, 2, texts(&TEXTS));
        let again = embed(&mut engine, 3, inputs(&long));
        assert!(cosine(&first[0], &again[0]) > 0.9999);
        // Its end counts: a context that lost the beginning or the end would not tell.
        let mut other = long.clone();
        other[200..].reverse();
        let other = embed(&mut engine, 4, inputs(&other));
        assert!(cosine(&first[0], &other[0]) < 0.9999);
        let beginning = embed(&mut engine, 5, inputs(&long[..64]));
        let split = embed(
            &mut engine,
            6,
            vec![
                EmbedInput::Tokens(long[..64].to_vec()),
                EmbedInput::Tokens(long[..100].to_vec()),
                EmbedInput::Text(TEXTS[0].to_owned()),
            ],
        );
        assert!(cosine(&beginning[0], &split[0]) > 0.9999);
    }
}

#[test]
fn answers_go_on_beside_embeddings_and_stay_the_same() {
    let mut engine = start(&test_model(), &load());
    let alone = engine.ask(complete(1, "The capital of France is", 12));
    let long = vec![EmbedInput::Tokens(vec![500; 1500])];
    engine.send(&Command::Embed(Box::new(request(2, long))));
    engine.generate(complete(3, "The capital of France is", 12));
    let (mut text, mut embedded) = (String::new(), 0);
    loop {
        match engine.next_work().unwrap() {
            EngineEvent::Delta { text: more, .. } => text.push_str(&more),
            EngineEvent::Embedding(_) => embedded += 1,
            EngineEvent::Finished(finished) if finished.id.0 == 3 => break,
            EngineEvent::Finished(_) | EngineEvent::Prefill { .. } => {}
            event => panic!("unexpected {event:?}"),
        }
    }
    assert_eq!(text, alone.text);
    assert_eq!(embedded, 0, "a long input is still being read");
    assert!(outcome(&mut engine, 2).1.is_ok());
}

#[test]
fn a_cancel_ends_it_in_the_middle() {
    let mut engine = start(&test_model(), &load());
    let many = vec![EmbedInput::Tokens(vec![500; 200]); 60];
    engine.send(&Command::Embed(Box::new(request(1, many))));
    // It is under way when the first embedding has come.
    while !matches!(engine.next_work().unwrap(), EngineEvent::Embedding(_)) {}
    engine.send(&Command::Cancel { id: RequestId(1) });
    let code = loop {
        match engine.next_work().unwrap() {
            EngineEvent::Embedding(_) => {}
            EngineEvent::Failed { code, .. } => break code,
            event => panic!("unexpected {event:?}"),
        }
    };
    assert_eq!(code, FailureCode::Cancelled);
    // Idle, and the context is as good as new.
    let idle = |event: &EngineEvent| matches!(event, EngineEvent::Heartbeat { working: false, .. });
    while !idle(&engine.next().unwrap()) {}
    let [a, b] = [2, 3].map(|id| embed(&mut engine, id, texts(&TEXTS[..1])));
    assert!(cosine(&a[0], &b[0]) > 0.9999);
}

#[test]
fn what_can_t_be_made_fails_with_a_reason() {
    let mut engine = start(&test_model(), &load());
    let tokens = |tokens: &[i32]| EmbedInput::Tokens(tokens.to_vec());
    let cases = [
        (
            vec![tokens(&[1]), tokens(&vec![1; 2049])],
            EmbedFailure::TooLong { index: 1 },
        ),
        (
            vec![tokens(&[1]), tokens(&[])],
            EmbedFailure::Empty { index: 1 },
        ),
        (vec![tokens(&[1 << 30])], EmbedFailure::Token { index: 0 }),
    ];
    for (id, (inputs, expected)) in (1..).zip(cases) {
        engine.send(&Command::Embed(Box::new(request(id, inputs))));
        let (vectors, end) = outcome(&mut engine, id);
        assert_eq!((vectors.len(), end), (0, Err(FailureCode::Embed(expected))));
    }
    let mut short = request(7, texts(&TEXTS));
    short.dimensions = Some(64);
    engine.send(&Command::Embed(Box::new(short)));
    let model = EmbedFailure::Dimensions { model: 576 };
    assert_eq!(outcome(&mut engine, 7).1, Err(FailureCode::Embed(model)));

    let without = Load {
        embeddings: false,
        ..load()
    };
    let mut engine = start(&test_model(), &without);
    engine.send(&Command::Embed(Box::new(request(1, texts(&TEXTS)))));
    let memory = FailureCode::Embed(EmbedFailure::Memory);
    assert_eq!(outcome(&mut engine, 1).1, Err(memory));
}

#[test]
fn together_with_answers_no_more_than_were_agreed_on() {
    let mut engine = start(&test_model(), &load());
    let long = || vec![EmbedInput::Tokens(vec![500; 1000]); 3];
    for id in 1..=3 {
        engine.send(&Command::Embed(Box::new(request(id, long()))));
    }
    assert_eq!(outcome(&mut engine, 3).1, Err(FailureCode::Overcommitted));
}
