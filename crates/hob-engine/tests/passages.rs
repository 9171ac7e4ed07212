//! Texts read passage by passage, by the real engine and real models.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use driver::{Engine, complete, load, sliding_model, test_model};
use hob_api::chat::Class;
use hob_ipc::message::{FailureCode, Prompt};
use hob_ipc::passages::{self, Cut, OpenText, OpenTokens, Piece, ReadText, Scores};
use hob_ipc::passages::{TOKEN_PASSAGES_MAX, TOKENS_MAX, TextOpened, TextRead, TokenPassage};
use hob_ipc::score::{Score, ScorePart};
use hob_ipc::tokens::Tokenize;
use hob_ipc::{Command, EngineEvent, RequestId, shared};

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");
/// The test models' vocabularies.
const SMOL: u32 = 49_152;
const GEMMA: u32 = 262_144;
const TEXT: &str = "The window of the kitchen is open. Before it rains tonight, somebody should close it, as \
                    the floor there is made of wood. Water that stays on such a floor for a night leaves marks, \
                    and they do not go away again. Nobody wants to see them every morning.";

fn start(model: &Path) -> Engine {
    Engine::start(BINARY, &load(), model).0
}

fn memory_of(bytes: &[u8]) -> File {
    let mut memory = shared::fixed("test", bytes.len() as u64).unwrap();
    memory.write_all(bytes).unwrap();
    memory
}

/// What comes of an event, if it is for request `of`.
fn answer<T>(
    engine: &mut Engine,
    take: impl Fn(&EngineEvent) -> Option<T>,
) -> Result<T, FailureCode> {
    match engine.next_work().unwrap() {
        EngineEvent::Failed { code, .. } => Err(code),
        event => Ok(take(&event).unwrap_or_else(|| panic!("unexpected {event:?}"))),
    }
}

fn open_bytes(
    engine: &mut Engine,
    text: &[u8],
    bytes: u64,
    cut: Cut,
) -> Result<TextOpened, FailureCode> {
    let id = RequestId(1);
    let command = Command::OpenText(OpenText { id, bytes, cut });
    engine.send_with(&command, &[memory_of(text)]);
    answer(engine, |event| match event {
        EngineEvent::TextOpened(opened) => Some(*opened),
        _ => None,
    })
}

fn open(engine: &mut Engine, text: &str, cut: Cut) -> Result<TextOpened, FailureCode> {
    open_bytes(engine, text.as_bytes(), text.len() as u64, cut)
}

fn read(engine: &mut Engine, passage: u32, from: u32, rows: u32) -> Result<TextRead, FailureCode> {
    read_with(engine, (passage, from, rows), Scores::Drop, &[])
}

fn read_with(
    engine: &mut Engine,
    (passage, from, rows): (u32, u32, u32),
    scores: Scores,
    memory: &[&File],
) -> Result<TextRead, FailureCode> {
    let id = RequestId(2);
    let command = Command::ReadText(ReadText {
        id,
        passage,
        from,
        rows,
        scores,
    });
    engine.send_with(&command, memory);
    answer(engine, |event| match event {
        EngineEvent::TextRead(read) => Some(*read),
        _ => None,
    })
}

/// The sum over a passage, read in steps of so many rows.
fn whole(engine: &mut Engine, passage: u32, rows: u32) -> (f64, u32, u64) {
    let (mut sum, mut tokens, mut bytes) = (0.0, 0, 0);
    loop {
        let step = read(engine, passage, tokens, rows).unwrap();
        sum += step.log_probability;
        tokens += step.rows;
        bytes += step.bytes;
        if step.left == 0 {
            return (sum, tokens, bytes);
        }
    }
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.02 * one.abs().max(1.0)
}

#[test]
fn pieces_are_scored_as_continuations_are() {
    for model in [test_model(), sliding_model()] {
        let mut engine = start(&model);
        let (before, scored) = TEXT.split_at(45);
        let count = |text: &str| u32::try_from(text.len()).unwrap();
        let piece = Piece {
            before: count(before),
            scored: count(scored),
        };
        let opened = open(&mut engine, &TEXT.repeat(2), Cut::Pieces(vec![piece; 2])).unwrap();
        assert_eq!(opened.passages, 2);
        let (sum, tokens, bytes) = whole(&mut engine, 1, 256);
        assert_eq!(bytes, scored.len() as u64);
        // In other steps, but for last digits, it is the same.
        let (again, same_tokens, _) = whole(&mut engine, 0, 7);
        assert!(near(sum, again) && tokens == same_tokens, "{sum} {again}");

        engine.send(&Command::Score(Box::new(Score {
            id: RequestId(3),
            parts: vec![ScorePart {
                prompt: Prompt::Text(before.to_owned()),
                continuations: vec![scored.to_owned()],
            }],
            ends: false,
            single_tokens: false,
            cache_owner: None,
            class: Class::Chat,
        })));
        let Some(EngineEvent::Scored(likelihoods)) = engine.next_work() else {
            panic!("no likelihoods");
        };
        let likelihood = &likelihoods.likelihoods[0];
        assert_eq!(likelihood.tokens, tokens);
        assert!(
            near(likelihood.log_probability, sum),
            "{likelihood:?} {sum}"
        );
    }
}

#[test]
fn half_of_each_window_is_scored() {
    let mut engine = start(&test_model());
    let opened = open(&mut engine, &TEXT.repeat(3), Cut::Windows { tokens: 64 }).unwrap();
    assert_eq!(opened.tokens, opened.passages * 64);
    assert!(opened.passages >= 2);
    let (sum, tokens, bytes) = whole(&mut engine, 1, 256);
    assert_eq!(tokens, 31);
    // Words of English, not of this model's making.
    assert!(
        (60..250).contains(&bytes) && (-150.0..-5.0).contains(&sum),
        "{sum} {bytes}"
    );
}

/// How far the second engine is from the first over a window of 64 tokens, in steps of `rows`.
fn apart(engines: &mut [Engine; 2], vocabulary: u32, rows: u32) -> (f64, u32) {
    let (mut divergence, mut agree, mut from) = (0.0, 0, 0);
    while from < 31 {
        let rows = rows.min(31 - from);
        let bytes = passages::scores_bytes(rows, vocabulary);
        let memory = shared::fixed("test", bytes).unwrap();
        let asked = (0, from, rows);
        let one = read_with(&mut engines[0], asked, Scores::Write, &[&memory]).unwrap();
        assert_eq!((one.rows, one.apart), (rows, None));
        let other = read_with(&mut engines[1], asked, Scores::Compare, &[&memory]).unwrap();
        let apart = other.apart.unwrap();
        divergence += apart.divergence;
        agree += apart.agree;
        from += rows;
    }
    (divergence, agree)
}

#[test]
fn a_model_is_not_apart_from_itself() {
    for (model, vocabulary) in [(test_model(), SMOL), (sliding_model(), GEMMA)] {
        let mut engines = [start(&model), start(&model)];
        let opened = [0, 1].map(|at| {
            let cut = Cut::Windows { tokens: 64 };
            open(&mut engines[at], &TEXT.repeat(2), cut).unwrap()
        });
        assert_eq!(opened[0].digest, opened[1].digest);
        let (divergence, agree) = apart(&mut engines, vocabulary, 13);
        assert!(divergence < 1e-9, "{divergence}");
        assert_eq!(agree, 31);
    }
}

#[test]
fn a_model_that_read_something_else_is_apart() {
    let mut engines = [start(&test_model()), start(&test_model())];
    let cut = Cut::Windows { tokens: 64 };
    let one = open(&mut engines[0], &TEXT.repeat(2), cut.clone()).unwrap();
    let other = open(&mut engines[1], &TEXT.repeat(2)[90..], cut).unwrap();
    assert_ne!(one.digest, other.digest);
    let (divergence, agree) = apart(&mut engines, SMOL, 31);
    assert!(divergence > 20.0, "{divergence}");
    assert!(agree < 15, "{agree}");
}

/// How often a model expects each token of a window's second half, in steps of `rows`.
fn expected(engine: &mut Engine, vocabulary: u32, rows: u32) -> Vec<f32> {
    let bytes = passages::scores_bytes(1, vocabulary);
    let mut sums = vec![0.0; vocabulary as usize];
    let mut from = 0;
    while from < 31 {
        let rows = rows.min(31 - from);
        let memory = shared::fixed("test", bytes).unwrap();
        let read = read_with(engine, (0, from, rows), Scores::Expect, &[&memory]).unwrap();
        assert_eq!((read.rows, read.apart), (rows, None));
        let mut found = vec![0; usize::try_from(bytes).unwrap()];
        memory.read_exact_at(&mut found, 0).unwrap();
        let (words, _) = found.as_chunks();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum += f32::from_le_bytes(*word);
        }
        from += rows;
    }
    sums
}

#[test]
fn tokens_are_expected_as_often_as_their_probabilities_say() {
    // Weights in another order than the file's are multiplied otherwise where fewer rows come at once: 2 % of all.
    for (model, vocabulary, most) in [(test_model(), SMOL, 0.001), (sliding_model(), GEMMA, 1.24)] {
        let mut engine = start(&model);
        open(&mut engine, &TEXT.repeat(2), Cut::Windows { tokens: 64 }).unwrap();
        let (one, other) = (
            expected(&mut engine, vocabulary, 31),
            expected(&mut engine, vocabulary, 7),
        );
        let total: f32 = one.iter().sum();
        assert!((total - 31.0).abs() < 0.01, "{total}");
        let apart: f32 = one
            .iter()
            .zip(&other)
            .map(|(one, other)| (one - other).abs())
            .sum();
        assert!(apart < most, "{apart}");
        // It is text, not noise: a few tokens have most of it.
        let mut sorted = one.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert!(sorted[..200].iter().sum::<f32>() > 15.0);
    }
}

fn open_tokens(
    engine: &mut Engine,
    passages: Vec<TokenPassage>,
    kept: Vec<i32>,
) -> Result<TextOpened, FailureCode> {
    let id = RequestId(3);
    engine.send(&Command::OpenTokens(OpenTokens { id, passages, kept }));
    answer(engine, |event| match event {
        EngineEvent::TextOpened(opened) => Some(*opened),
        _ => None,
    })
}

fn tokens(engine: &mut Engine, text: &str) -> Vec<i32> {
    engine.send(&Command::Tokenize(Tokenize {
        id: RequestId(4),
        text: text.to_owned(),
    }));
    let told = answer(engine, |event| match event {
        EngineEvent::Tokenized(told) => Some(told.tokens.clone()),
        _ => None,
    });
    told.unwrap()
}

#[test]
fn tokens_are_read_as_their_text_is() {
    for (model, vocabulary) in [(test_model(), SMOL), (sliding_model(), GEMMA)] {
        let mut engine = start(&model);
        let tokens = tokens(&mut engine, TEXT);
        let (before, scored) = (tokens.len() - 31, 31);
        let piece = TokenPassage {
            before: u32::try_from(before).unwrap(),
            tokens: tokens.clone(),
        };
        // As many bytes go before as those tokens stand for: words, so that the rest is cut the same.
        let opened = open_tokens(&mut engine, vec![piece.clone()], Vec::new()).unwrap();
        let (sum, count, bytes) = whole(&mut engine, 0, 256);
        assert_eq!(count, scored);
        let bytes = usize::try_from(bytes).unwrap();
        let text = Piece {
            before: u32::try_from(TEXT.len() - bytes).unwrap(),
            scored: u32::try_from(bytes).unwrap(),
        };
        let of_text = open(&mut engine, TEXT, Cut::Pieces(vec![text])).unwrap();
        assert_eq!(of_text.digest, opened.digest);
        assert!(near(whole(&mut engine, 0, 256).0, sum));

        // Where a model that has all tokens is compared, nothing is apart and there are no others.
        let mut all: Vec<i32> = (0..vocabulary.cast_signed()).collect();
        let mut reference = start(&model);
        open_tokens(&mut reference, vec![piece.clone()], all.clone()).unwrap();
        open_tokens(&mut engine, vec![piece.clone()], Vec::new()).unwrap();
        let memory = shared::fixed("test", passages::scores_bytes(9, vocabulary)).unwrap();
        let written = read_with(&mut reference, (0, 0, 9), Scores::Write, &[&memory]).unwrap();
        assert!(written.others.unwrap() < 1e-9, "{written:?}");
        let read = read_with(&mut engine, (0, 0, 9), Scores::Compare, &[&memory]).unwrap();
        assert!(
            read.apart.unwrap().divergence < 1e-9 && read.others.is_none(),
            "{read:?}"
        );
        assert_eq!(read.apart.unwrap().agree, 9);

        // Were a token taken for another one, it would show.
        all.reverse();
        open_tokens(&mut reference, vec![piece], all).unwrap();
        read_with(&mut reference, (0, 0, 9), Scores::Write, &[&memory]).unwrap();
        let read = read_with(&mut engine, (0, 0, 9), Scores::Compare, &[&memory]).unwrap();
        assert!(read.apart.unwrap().divergence > 9.0, "{read:?}");
    }
}

#[test]
fn tokens_that_are_none_are_refused_and_the_engine_goes_on() {
    let mut engine = start(&test_model());
    let passage = |before, tokens: &[i32]| TokenPassage {
        before,
        tokens: tokens.to_vec(),
    };
    for passages in [
        Vec::new(),
        vec![passage(0, &[100, 200])],
        vec![passage(2, &[100, 200])],
        vec![passage(u32::MAX, &[100, 200])],
        vec![passage(1, &[100; 10_000])],
        vec![passage(1, &[])],
        vec![passage(1, &[100, 200]); TOKEN_PASSAGES_MAX + 1],
        vec![passage(1, &[100; TOKENS_MAX / TOKEN_PASSAGES_MAX + 1]); TOKEN_PASSAGES_MAX],
    ] {
        let refused = open_tokens(&mut engine, passages.clone(), Vec::new());
        assert_eq!(refused, Err(FailureCode::Text), "{passages:?}");
    }
    let valid = vec![passage(1, &[100, 200])];
    let refused = open_tokens(&mut engine, valid.clone(), vec![1; TOKENS_MAX + 1]);
    assert_eq!(refused, Err(FailureCode::Text));
    for token in [-1, i32::MIN, 49_152, i32::MAX] {
        let tokens = vec![passage(1, &[token, 200, 300])];
        open_tokens(&mut engine, tokens, Vec::new()).unwrap();
        assert!(read(&mut engine, 0, 0, 2).is_err(), "{token}");
        // Scores of tokens that there are not can't be written.
        open_tokens(&mut engine, valid.clone(), vec![1, token]).unwrap();
        let memory = shared::fixed("test", passages::scores_bytes(1, 2)).unwrap();
        let refused = read_with(&mut engine, (0, 0, 1), Scores::Write, &[&memory]);
        assert_eq!(refused, Err(FailureCode::Text), "{token}");
    }
    open_tokens(&mut engine, valid, vec![1, 7]).unwrap();
    let memory = shared::fixed("test", passages::scores_bytes(1, 2)).unwrap();
    let written = read_with(&mut engine, (0, 0, 1), Scores::Write, &[&memory]).unwrap();
    assert!(
        (0.5..=1.0).contains(&written.others.unwrap()),
        "{written:?}"
    );
}

#[test]
fn what_can_not_be_read_is_refused_and_the_engine_goes_on() {
    let mut engine = start(&test_model());
    assert_eq!(
        read(&mut engine, 0, 0, 1),
        Err(FailureCode::Text),
        "nothing is open"
    );
    let window = |tokens| Cut::Windows { tokens };
    let piece = |before, scored| Cut::Pieces(vec![Piece { before, scored }]);
    for cut in [
        window(512),
        window(3),
        window(4096),
        window(u32::MAX),
        piece(0, 10),
        piece(10, 0),
        piece(10, 10_000),
        piece(u32::MAX, u32::MAX),
        Cut::Pieces(Vec::new()),
    ] {
        let refused = open(&mut engine, TEXT, cut.clone());
        assert_eq!(refused, Err(FailureCode::Text), "{cut:?}");
    }
    let small = window(16);
    // Not a text, not as long as was said, and none.
    assert!(open_bytes(&mut engine, b"\xff\xfe text", 7, small.clone()).is_err());
    assert!(open_bytes(&mut engine, b"text", 5, small.clone()).is_err());
    assert!(open_bytes(&mut engine, b"text", 0, small.clone()).is_err());
    assert!(open_bytes(&mut engine, b"text", u64::MAX, small.clone()).is_err());
    // A text that was refused leaves none open.
    assert_eq!(read(&mut engine, 0, 0, 1), Err(FailureCode::Text));

    open(&mut engine, TEXT, small).unwrap();
    for asked in [
        (99, 0, 1),
        (u32::MAX, 0, 1),
        (0, 7, 1),
        (0, u32::MAX, 1),
        (0, 0, 0),
    ] {
        let (passage, from, rows) = asked;
        let refused = read(&mut engine, passage, from, rows);
        assert_eq!(refused, Err(FailureCode::Text), "{asked:?}");
    }
    // One step of rows that the passage does not have so many of.
    assert_eq!(read(&mut engine, 0, 0, u32::MAX).unwrap().rows, 7);
    // Memory of another size than the scores have, or fewer.
    let memory = shared::fixed("test", 100).unwrap();
    for scores in [Scores::Write, Scores::Compare, Scores::Expect] {
        let refused = read_with(&mut engine, (0, 0, 2), scores, &[&memory]);
        assert_eq!(refused, Err(FailureCode::Text), "{scores:?}");
    }
    // Numbers that are none.
    let bytes = usize::try_from(passages::scores_bytes(2, SMOL)).unwrap();
    let none = memory_of(&vec![0xff; bytes]);
    let refused = read_with(&mut engine, (0, 0, 2), Scores::Compare, &[&none]);
    assert_eq!(refused, Err(FailureCode::Decode));

    // Whatever else is done ends a passage.
    read(&mut engine, 0, 0, 3).unwrap();
    assert!(!engine.ask(complete(9, "The window is", 4)).text.is_empty());
    assert_eq!(read(&mut engine, 0, 3, 3), Err(FailureCode::Text));
    assert_eq!(read(&mut engine, 0, 0, 3).unwrap().left, 4);
}
