//! Drafts change how quickly an answer comes, and nothing else: by the decode loop with a model of
//! the test's own, for any text, and by real models.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use driver::sequences::Sequences;
use driver::{Engine, complete, load, sliding_model, test_model};
use hob_engine::grammar::TokenSet;
use hob_engine::inbox::{Inbound, inbox};
use hob_engine::prompt::Token;
use hob_engine::pulse::Pulse;
use hob_engine::serve::{Failure, Limits, Model, Row, Step, serve};
use hob_engine::wire::Events;
use hob_ipc::EngineEvent;
use hob_ipc::message::{Drafts, Finished, Generate, Load, Prompt, Sampling};
use proptest::prelude::*;

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");
const END: Token = 256;

/// A model whose next byte follows from all bytes before it: mostly it repeats what stood so many
/// bytes before.
struct Repeater {
    sequences: Sequences,
}

/// What the sampler has chosen: it must be what stands in the sequence.
#[derive(Default)]
struct Chosen {
    prompt: Vec<Token>,
    tokens: Vec<Token>,
}

impl Model for Repeater {
    type Sampler = Chosen;

    fn limits(&self) -> Limits {
        self.sequences.limits()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<Token>, Failure> {
        Ok(Sequences::tokenize(prompt))
    }

    fn sampler(&self, _: &Sampling, prompt: &[Token]) -> Chosen {
        Chosen {
            prompt: prompt.to_vec(),
            tokens: Vec::new(),
        }
    }

    fn decode(&mut self, rows: &[Row]) -> Result<Step, Failure> {
        self.sequences.decode(rows);
        Ok(Step::Done)
    }

    fn sample(
        &mut self,
        row: usize,
        chosen: &mut Chosen,
        _: Option<&TokenSet>,
    ) -> Result<Token, Failure> {
        let before = self.sequences.up_to(row);
        let truth = chosen.prompt.iter().chain(&chosen.tokens);
        assert!(
            before.iter().eq(truth),
            "each token is chosen once, after all before it"
        );
        let hash = before.iter().fold(7_i32, |hash, token| {
            hash.wrapping_mul(31).wrapping_add(*token)
        });
        let token = match hash.rem_euclid(11) {
            0 => hash.rem_euclid(3) + Token::from(b'a'),
            _ if hash.rem_euclid(97) == 1 => END,
            _ => before[before.len().saturating_sub(5)],
        };
        chosen.tokens.push(token);
        Ok(token)
    }

    fn continuation(&self, _: &str) -> Result<Vec<Token>, Failure> {
        unreachable!("these tests ask for no likelihoods")
    }

    fn scores(&self, _: usize) -> Result<&[f32], Failure> {
        unreachable!("these tests ask for no likelihoods")
    }

    fn end_tokens(&self) -> &[Token] {
        &[END]
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.push(u8::try_from(token).unwrap());
    }

    fn keep(&mut self, sequence: u32, tokens: usize) -> bool {
        self.sequences.keep(sequence, tokens);
        true
    }

    fn forget(&mut self, sequence: u32) {
        self.sequences.forget(sequence);
    }

    fn cuts(&self, _: usize, _: usize) -> bool {
        self.sequences.limits().goes_back
    }

    fn saved_bytes(&self, _: u32) -> usize {
        0
    }

    fn save(&mut self, _: u32) -> Option<Vec<u8>> {
        None
    }

    fn restore(&mut self, _: u32, _: usize, _: &[u8]) -> bool {
        false
    }
}

#[derive(Default)]
struct Answers {
    texts: Mutex<Vec<(u64, String)>>,
    ends: Mutex<Vec<Finished>>,
}

impl Events for Answers {
    fn send(&self, event: &EngineEvent) -> io::Result<()> {
        match event {
            EngineEvent::Delta { id, text } => {
                self.texts.lock().unwrap().push((id.0, text.clone()));
            }
            EngineEvent::Finished(finished) => self.ends.lock().unwrap().push(*finished),
            EngineEvent::Prefill { .. } => {}
            other => panic!("{other:?}"),
        }
        Ok(())
    }
}

/// Text and end of each request, in their order, and how many steps they took together.
fn answers(
    requests: &[Generate],
    limits: Limits,
    drafts: Drafts,
) -> (Vec<(String, Finished)>, usize) {
    let mut model = Repeater {
        sequences: Sequences::new(limits),
    };
    let record = Answers::default();
    let (sender, receiver) = inbox();
    for request in requests.iter().cloned() {
        let request = Inbound::Generate(Box::new(request), Instant::now());
        sender.send(request).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while record.ends.lock().unwrap().len() < requests.len() {
                std::thread::yield_now();
            }
            drop(sender);
        });
        serve(&mut model, drafts, &receiver, &record, &Pulse::new()).unwrap();
    });
    let texts = record.texts.lock().unwrap();
    let ends = record.ends.lock().unwrap();
    let of = |request: &Generate| {
        let own = texts.iter().filter(|(id, _)| *id == request.id.0);
        let text = own.map(|(_, text)| text.as_str()).collect();
        let end = ends.iter().find(|end| end.id == request.id);
        (text, *end.unwrap())
    };
    (requests.iter().map(of).collect(), model.sequences.steps)
}

proptest! {
    #[test]
    fn any_answer_is_the_same_with_drafts(
        requests in proptest::collection::vec(
            ("[abc]{1,30}", 1_u32..60, proptest::collection::vec("[abc]{3,5}", 0..2), any::<bool>()),
            1..4,
        ),
        n_ctx in 32_u32..80,
        n_batch in 4_u32..40,
        always in any::<bool>(),
    ) {
        let limits = Limits { n_ctx, n_batch, parallel: 3, goes_back: true, cache_bytes: 0 };
        let requests: Vec<_> = requests
            .into_iter()
            .zip(1..)
            .map(|((text, max_tokens, stop, owned), id)| Generate {
                stop,
                cache_owner: owned.then_some(1000),
                ..complete(id, &text, max_tokens)
            })
            .collect();
        let (plain, steps_plain) = answers(&requests, limits, Drafts::Off);
        let mode = if always { Drafts::Always } else { Drafts::Auto };
        let (drafted, steps) = answers(&requests, limits, mode);
        prop_assert!(steps <= steps_plain);
        for ((plain, plain_end), (drafted, end)) in plain.iter().zip(&drafted) {
            prop_assert_eq!(plain, drafted);
            prop_assert_eq!(plain_end.reason, end.reason);
            prop_assert_eq!(plain_end.completion_tokens, end.completion_tokens);
            prop_assert_eq!(plain_end.drafted_tokens, 0);
            prop_assert!(end.accepted_tokens <= end.drafted_tokens);
            prop_assert!(end.accepted_tokens <= end.completion_tokens);
        }
    }
}

#[test]
fn drafts_save_steps_and_a_request_can_do_without() {
    let limits = Limits {
        n_ctx: 300,
        n_batch: 32,
        parallel: 1,
        goes_back: true,
        cache_bytes: 0,
    };
    let request = complete(1, "abcbaabcbaabcba", 200);
    let run = |request: &Generate, limits, mode| {
        let (answers, steps) = answers(std::slice::from_ref(request), limits, mode);
        (answers[0].1, steps)
    };
    let (plain, steps_plain) = run(&request, limits, Drafts::Off);
    let (drafted, steps) = run(&request, limits, Drafts::Always);
    assert!(drafted.accepted_tokens > 0);
    assert!(
        steps + drafted.accepted_tokens as usize == steps_plain,
        "{steps} {plain:?} {drafted:?}"
    );
    let without = Generate {
        drafts: false,
        ..request.clone()
    };
    assert_eq!(run(&without, limits, Drafts::Always).0.drafted_tokens, 0);
    let fixed = Limits {
        goes_back: false,
        cache_bytes: 0,
        ..limits
    };
    assert_eq!(run(&request, fixed, Drafts::Always).0.drafted_tokens, 0);
}

const LIST: &str = "The kettle is on the stove. The lamp is on the table. The radio is on the shelf.\n\
    The list again, word for word:\nThe kettle is on the stove.";
const STORY: &str = "Question: What is the capital of France?\nAnswer: Paris\n\
    Question: What is the capital of Italy?\nAnswer: Rome\n\
    Question: What is the capital of Japan?\nAnswer:";

fn start(model: &Path, drafts: Drafts, parallel: u32) -> Engine {
    let load = Load {
        drafts,
        parallel,
        ..load()
    };
    Engine::start(BINARY, &load, model).0
}

#[test]
fn real_models_write_the_same_with_drafts() {
    // Longer than the window of the second, which then slides while drafts are taken back.
    let long = format!(
        "{}{LIST}",
        "The boats left the harbour one by one. ".repeat(70)
    );
    for model in [test_model(), sliding_model()] {
        let requests = || {
            [
                complete(1, LIST, 40),
                Generate {
                    stop: vec!["radio is".to_owned()],
                    ..complete(2, LIST, 40)
                },
                Generate {
                    stop: vec!["\n".to_owned()],
                    ..complete(3, STORY, 12)
                },
                complete(4, &long, 24),
            ]
        };
        let mut plain = start(&model, Drafts::Off, 1);
        let expected = requests().map(|request| plain.ask(request));
        let mut drafting = start(&model, Drafts::Always, 1);
        let alone = requests().map(|request| drafting.ask(request));
        let mut shared = start(&model, Drafts::Always, 4);
        for request in requests() {
            shared.generate(request);
        }
        let together = shared.outcomes([1, 2, 3, 4]);
        for ((expected, alone), together) in expected.iter().zip(&alone).zip(&together) {
            assert_eq!(expected.text, alone.text);
            assert_eq!(expected.text, together.text);
            assert_eq!(expected.finished().drafted_tokens, 0);
            let (plain, drafted) = (expected.finished(), alone.finished());
            assert_eq!(plain.completion_tokens, drafted.completion_tokens);
        }
        let [list, stopped, ..] = &alone;
        assert!(
            list.finished().accepted_tokens >= 10,
            "{:?}",
            list.finished()
        );
        assert!(!stopped.text.contains("radio is"));
    }
}

/// Within 256 tokens llama.cpp computes a row alone as it does in company, digit for digit: not even
/// an answer that hangs on a near tie changes.
#[test]
fn no_near_tie_falls_otherwise_in_a_short_context() {
    let model = test_model();
    let mut plain = start(&model, Drafts::Off, 1);
    let mut drafting = start(&model, Drafts::Always, 1);
    let mut accepted = 0;
    let subjects = ["kettle", "harbour", "violin", "garden", "clock", "bakery"];
    for (id, subject) in (1..).zip(subjects) {
        let text = format!("A poem about a {subject}, in which every line begins alike:\n");
        let expected = plain.ask(complete(id, &text, 200));
        let drafted = drafting.ask(complete(id, &text, 200));
        assert_eq!(expected.text, drafted.text);
        accepted += drafted.finished().accepted_tokens;
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn what_is_drawn_is_drafted_unless_it_must_come_again() {
    let model = test_model();
    let sampled = |id| Generate {
        sampling: Sampling {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            repeat_penalty: 1.1,
            seed: Some(5),
            ..Sampling::GREEDY
        },
        ..complete(id, LIST, 30)
    };
    let expected = start(&model, Drafts::Off, 1).ask(sampled(1));
    let mut drafting = start(&model, Drafts::Always, 1);
    let again = drafting.ask(sampled(1));
    assert_eq!(expected.text, again.text);
    assert_eq!(again.finished().drafted_tokens, 0);
    // What is drawn may repeat nothing, but not ten times.
    let drafted = (2..12).any(|id| {
        let mut drawn = sampled(id);
        drawn.sampling.seed = None;
        drafting.ask(drawn).finished().drafted_tokens > 0
    });
    assert!(drafted);
}
