//! What a request leaves in the engine's memory makes the next one quicker and nothing else: with
//! real models, the answers are the same as without.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::path::Path;

use driver::{Engine, Outcome, complete, load, sliding_model, test_model};
use hob_ipc::message::{FailureCode, Generate, Load};
use hob_ipc::{Command, EngineEvent, RequestId};

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");
const OWNER: u32 = 1000;
const SHELF_BYTES: u64 = 64 << 20;
const QUESTIONS: [&str; 3] = [
    "What is the capital of France?",
    "What is the capital of Italy?",
    "What is the capital of Japan?",
];

/// Some 15 tokens a sentence that no two conversations have in common.
fn story(of: &str, sentences: usize) -> String {
    let sentence = format!("{of} walked along the harbour and counted the boats one by one. ");
    let example = "Question: What is the capital of Spain?\nAnswer: Madrid";
    format!("{of} begins.\n{}\n{example}", sentence.repeat(sentences))
}

fn with_owner(id: u64, text: &str, owner: Option<u32>) -> Generate {
    Generate {
        cache_owner: owner,
        // Answers of one line. What a small model rambles on with hangs on the last digits of its
        // numbers, and those differ between a token that was read and the same token written.
        stop: vec!["\n".to_owned()],
        ..complete(id, text, 24)
    }
}

/// A conversation that grows by each question and its answer.
struct Talk {
    text: String,
    answers: Vec<String>,
    cached: Vec<u32>,
}

impl Talk {
    fn begin(of: &str, sentences: usize) -> Self {
        Self {
            text: story(of, sentences),
            answers: Vec::new(),
            cached: Vec::new(),
        }
    }

    fn ask(&mut self, engine: &mut Engine, id: u64, owner: Option<u32>, question: &str) {
        self.text = format!("{}\nQuestion: {question}\nAnswer:", self.text);
        let outcome = engine.ask(with_owner(id, &self.text, owner));
        self.cached.push(outcome.finished().cached_tokens);
        self.text += &outcome.text;
        self.answers.push(outcome.text);
    }
}

fn start(model: &Path, parallel: u32) -> Engine {
    start_with(model, parallel, 0)
}

fn start_with(model: &Path, parallel: u32, cache_bytes_max: u64) -> Engine {
    let load = Load {
        parallel,
        n_ctx: 2048,
        cache_bytes_max,
        ..load()
    };
    Engine::start(BINARY, &load, model).0
}

/// Two conversations in turns, with room for `parallel` of them.
fn two_talks(
    model: &Path,
    (sentences, turns): (usize, usize),
    parallel: u32,
    cache_bytes_max: u64,
    owner: Option<u32>,
) -> [Talk; 2] {
    let mut engine = start_with(model, parallel, cache_bytes_max);
    let mut talks = ["Alma", "Bruno"].map(|of| Talk::begin(of, sentences));
    let mut id = 0;
    for question in &QUESTIONS[..turns] {
        for talk in &mut talks {
            id += 1;
            talk.ask(&mut engine, id, owner, question);
        }
    }
    talks
}

fn assert_same_answers(model: &Path, sentences: usize, turns: usize) {
    let size = (sentences, turns);
    let without = two_talks(model, size, 2, 0, None);
    let with = two_talks(model, size, 2, 0, Some(OWNER));
    let evicted = two_talks(model, size, 1, 0, Some(OWNER));
    let shelved = two_talks(model, size, 1, SHELF_BYTES, Some(OWNER));
    let story_tokens = u32::try_from(sentences * 12).unwrap();
    for (at, talk) in without.iter().enumerate() {
        assert!(talk.cached.iter().all(|cached| *cached == 0));
        assert!(talk.answers[0].contains("Paris"), "{:?}", talk.answers);
        assert_eq!(talk.answers, with[at].answers);
        assert_eq!(talk.answers, evicted[at].answers);
        assert_eq!(talk.answers, shelved[at].answers);
        // Each later turn computes its question alone.
        assert_eq!(with[at].cached[0], 0);
        assert!(
            with[at].cached[1..]
                .iter()
                .all(|cached| *cached > story_tokens),
            "{:?}",
            with[at].cached
        );
        // With one sequence each displaces the other, and finds itself on the shelf.
        assert_eq!(with[at].cached, shelved[at].cached);
        // Without a shelf each evicts the other, and the common part of two stories is a token or so.
        assert!(
            evicted[at].cached.iter().all(|cached| *cached < 8),
            "{:?}",
            evicted[at].cached
        );
    }
}

#[test]
fn answers_are_the_same_with_and_without_a_memory() {
    assert_same_answers(&test_model(), 8, 3);
}

#[test]
fn answers_are_the_same_when_a_window_slides_over_the_conversation() {
    // More than the window's 512 tokens.
    assert_same_answers(&sliding_model(), 40, 2);
}

/// Rambling answers, whose every token hangs on the last digits of the model's numbers, in two
/// conversations in turns: each answer, and how many tokens were known.
fn seeded_talks(
    model: &Path,
    sentences: usize,
    (parallel, cache_bytes_max): (u32, u64),
    owner: Option<u32>,
) -> (Vec<String>, u32) {
    let mut engine = start_with(model, parallel, cache_bytes_max);
    let mut texts = ["Alma", "Bruno"].map(|of| story(of, sentences));
    let mut answers = Vec::new();
    let mut cached = 0;
    let mut id = 0;
    for (turn, begin) in ["And then", "On day two", "At last"].iter().enumerate() {
        for text in &mut texts {
            id += 1;
            *text = format!("{text}\n{begin}");
            let request = |id| {
                let mut request = complete(id, text, 40);
                request.cache_owner = owner;
                request.sampling.seed = Some(7);
                request
            };
            if turn == 2 {
                // The same, given up halfway, leaves a part of the answer.
                engine.generate(request(100 + id));
                while !matches!(engine.next_work(), Some(EngineEvent::Delta { .. })) {}
                engine.send(&Command::Cancel {
                    id: RequestId(100 + id),
                });
                engine.outcomes([100 + id]);
            }
            let outcome = engine.ask(request(id));
            cached += outcome.finished().cached_tokens;
            *text += &outcome.text;
            answers.push(outcome.text);
        }
    }
    (answers, cached)
}

#[test]
fn who_gives_a_seed_gets_the_same_digits_whatever_is_remembered() {
    let small = [(2, 0), (1, 0), (1, SHELF_BYTES)];
    let sliding = [(1, SHELF_BYTES)];
    let models = [
        (test_model(), 8, &small[..]),
        (sliding_model(), 40, &sliding[..]),
    ];
    for (model, sentences, rooms) in models {
        let (fresh, none) = seeded_talks(&model, sentences, (2, 0), None);
        assert_eq!(none, 0);
        for &room in rooms {
            let (answers, cached) = seeded_talks(&model, sentences, room, Some(OWNER));
            assert_eq!(answers, fresh, "{room:?}");
            assert!(room == (1, 0) || cached > 400, "{room:?}: {cached}");
        }
    }
}

#[test]
fn a_prompt_cut_short_is_gone_on_from_where_that_is_possible() {
    // A window that has moved on a little still knows what the shorter prompt needs.
    for (model, sentences, cuts) in [
        (test_model(), 80, true),
        (sliding_model(), 25, true),
        (sliding_model(), 80, false),
    ] {
        let mut engine = start(&model, 1);
        let long = story("Clara", 20) + &story("Dario", sentences);
        let shorter = story("Clara", 20) + "\nThe capital of France is";
        let fresh: Outcome = engine.ask(with_owner(1, &shorter, None));
        let first = engine.ask(with_owner(2, &long, Some(OWNER))).finished();
        assert!(
            first.prompt_tokens > 550,
            "longer than the window: {first:?}"
        );
        let again = engine.ask(with_owner(3, &shorter, Some(OWNER)));
        assert_eq!(again.text, fresh.text);
        assert_eq!(
            again.finished().cached_tokens > 200,
            cuts,
            "{:?}",
            again.finished()
        );
    }
}

#[test]
fn a_cancelled_prompt_is_gone_on_from_and_spoils_nothing() {
    for model in [test_model(), sliding_model()] {
        let mut engine = start(&model, 1);
        let long = story("Clara", 40) + "\nThe capital of France is";
        let fresh = engine.ask(with_owner(1, &long, None));
        engine.generate(with_owner(2, &long, Some(OWNER)));
        let progress = engine.next_work().unwrap();
        let EngineEvent::Prefill { processed, .. } = progress else {
            panic!("{progress:?}");
        };
        engine.send(&Command::Cancel { id: RequestId(2) });
        let [cancelled] = engine.outcomes([2]);
        assert_eq!(cancelled.failure().0, FailureCode::Cancelled);
        let again = engine.ask(with_owner(3, &long, Some(OWNER)));
        assert_eq!(again.text, fresh.text);
        let cached = again.finished().cached_tokens;
        assert!(cached >= processed, "{cached} of {processed}");
    }
}

#[test]
fn nobody_profits_from_what_another_asked() {
    let mut engine = start(&test_model(), 2);
    let text = story("Alma", 16) + "\nThe capital of France is";
    engine.ask(with_owner(1, &text, Some(OWNER)));
    let other = engine.ask(with_owner(2, &text, Some(OWNER + 1)));
    assert_eq!(other.finished().cached_tokens, 0);
    let private = engine.ask(with_owner(3, &text, None));
    assert_eq!(private.finished().cached_tokens, 0);
    let own = engine.ask(with_owner(4, &text, Some(OWNER + 1)));
    assert!(own.finished().cached_tokens >= 128);
}

#[test]
fn several_users_conversations_come_back_from_the_shelf_and_no_other_user_profits() {
    let owners = [OWNER, OWNER + 1, OWNER + 2];
    for model in [test_model(), sliding_model()] {
        // All say the same, so that only the owner tells them apart.
        let talk = || Talk::begin("Alma", 12);
        let mut alone = talk();
        let mut fresh = start(&model, 1);
        let mut engine = start_with(&model, 1, SHELF_BYTES);
        let mut talks = owners.map(|_| talk());
        let mut id = 0;
        for question in &QUESTIONS[..2] {
            alone.ask(&mut fresh, 1, None, question);
            for (owner, talk) in owners.iter().zip(&mut talks) {
                id += 1;
                talk.ask(&mut engine, id, Some(*owner), question);
            }
        }
        for talk in &talks {
            assert_eq!(talk.answers, alone.answers);
            assert_eq!(talk.cached[0], 0, "the first turn is nobody else's");
            assert!(talk.cached[1] > 150, "{:?}", talk.cached);
        }
    }
}

#[test]
fn a_limit_that_is_lowered_frees_the_shelf_at_once() {
    let mut engine = start_with(&test_model(), 1, SHELF_BYTES);
    engine.ask(with_owner(1, &story("Alma", 20), Some(OWNER)));
    engine.generate(with_owner(2, &story("Bruno", 20), Some(OWNER)));
    engine.send(&Command::LimitCache { bytes: 1000 });
    let mut reports = Vec::new();
    while reports.last() != Some(&(0, 0)) {
        if let Some(EngineEvent::Cache { entries, bytes }) = engine.next() {
            reports.push((entries, bytes));
        }
    }
    assert_eq!(reports[0].0, 1, "Alma's: {reports:?}");
    assert!(reports[0].1 > 100_000);
    engine.outcomes([2]);
    let again = engine.ask(with_owner(3, &story("Alma", 20), Some(OWNER)));
    assert!(again.finished().cached_tokens < 16);
}
