//! Answers that must be something: by the decode loop with a model of the test's own, whatever it
//! chooses.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::time::Instant;

use driver::complete;
use driver::sequences::Sequences;
use hob_api::event::FinishReason;
use hob_engine::grammar::alphabet::Alphabet;
use hob_engine::grammar::compiler::{Compiler, Compiling};
use hob_engine::grammar::{GrammarError, TokenSet, Wanted};
use hob_engine::inbox::{Inbound, Inbox, Sender, inbox};
use hob_engine::prompt::Token;
use hob_engine::pulse::Pulse;
use hob_engine::serve::{Failure, Limits, Model, Row, Step, serve};
use hob_engine::wire::Events;
use hob_ipc::constraint::{Constraint, ConstraintFailure};
use hob_ipc::message::{Drafts, FailureCode, Finished, Generate, Prompt, Sampling};
use hob_ipc::{EngineEvent, RequestId};
use proptest::prelude::*;

const END: Token = 256;

/// A model of bytes that chooses anything.
struct Whim {
    sequences: Sequences,
    compiler: Compiler,
    /// Whether it can't go back to an earlier place in a sequence.
    keeps_nothing: bool,
    /// What stood before each choice, by prompt.
    before: HashMap<Vec<Token>, Vec<Vec<Token>>>,
}

/// A prompt, and the state of a generator of numbers (Marsaglia's xorshift).
struct Chance {
    prompt: Vec<Token>,
    state: u64,
}

impl Whim {
    fn new(n_batch: u32, parallel: u32, keeps_nothing: bool, inbox: &Inbox) -> Self {
        let limits = Limits {
            n_ctx: 400,
            n_batch,
            parallel,
            goes_back: true,
            cache_bytes: 0,
        };
        Self {
            sequences: Sequences::new(limits),
            compiler: Compiler::start(bytes, inbox.own_sender()).unwrap(),
            keeps_nothing,
            before: HashMap::new(),
        }
    }
}

/// Each byte is a token.
fn bytes() -> Alphabet {
    let mut spellings: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    spellings.push(Vec::new());
    Alphabet {
        spellings,
        controls: HashMap::new(),
        ends: vec![END],
        tokenize: Box::new(|text| text.bytes().map(Token::from).collect()),
    }
}

impl Model for Whim {
    type Sampler = Chance;

    fn limits(&self) -> Limits {
        self.sequences.limits()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<Token>, Failure> {
        Ok(Sequences::tokenize(prompt))
    }

    fn sampler(&self, sampling: &Sampling, prompt: &[Token]) -> Chance {
        Chance {
            prompt: prompt.to_vec(),
            state: u64::from(sampling.seed.unwrap_or(7)) * 2 + 1,
        }
    }

    fn decode(&mut self, rows: &[Row]) -> Result<Step, Failure> {
        self.sequences.decode(rows);
        Ok(Step::Done)
    }

    fn sample(
        &mut self,
        row: usize,
        chance: &mut Chance,
        allowed: Option<&TokenSet>,
    ) -> Result<Token, Failure> {
        let before = self.sequences.up_to(row);
        assert!(before.starts_with(&chance.prompt));
        let answer = before[chance.prompt.len()..].to_vec();
        self.before
            .entry(chance.prompt.clone())
            .or_default()
            .push(answer);
        let may = |token: &Token| allowed.is_none_or(|set| set.contains(*token));
        let all: Vec<_> = (0..=END).filter(may).collect();
        chance.state ^= chance.state << 13;
        chance.state ^= chance.state >> 7;
        chance.state ^= chance.state << 17;
        let at = usize::try_from(chance.state >> 33).unwrap() % all.len();
        Ok(all[at])
    }

    fn continuation(&self, _: &str) -> Result<Vec<Token>, Failure> {
        unreachable!("these tests ask for no likelihoods")
    }

    fn scores(&self, _: usize) -> Result<&[f32], Failure> {
        unreachable!("these tests ask for no likelihoods")
    }

    fn end_tokens(&self) -> &[Token] {
        &[]
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.push(u8::try_from(token).unwrap());
    }

    fn keep(&mut self, sequence: u32, tokens: usize) -> bool {
        self.sequences.keep(sequence, tokens);
        !self.keeps_nothing
    }

    fn forget(&mut self, sequence: u32) {
        self.sequences.forget(sequence);
    }

    fn cuts(&self, _: usize, _: usize) -> bool {
        !self.keeps_nothing
    }

    fn saved_bytes(&self, sequence: u32) -> usize {
        self.sequences.known(sequence)
    }

    fn save(&mut self, _: u32) -> Option<Vec<u8>> {
        None
    }

    fn restore(&mut self, _: u32, _: usize, _: &[u8]) -> bool {
        false
    }

    fn compile(&mut self, id: RequestId, wanted: Wanted) -> Result<Compiling, GrammarError> {
        self.compiler.begin(id, wanted)
    }
}

#[derive(Default)]
struct Record {
    texts: Mutex<HashMap<u64, String>>,
    ends: Mutex<HashMap<u64, Result<Finished, FailureCode>>>,
}

impl Events for Record {
    fn send(&self, event: &EngineEvent) -> io::Result<()> {
        let mut ends = self.ends.lock().unwrap();
        let mut end = |id: RequestId, end| {
            assert!(ends.insert(id.0, end).is_none(), "two ends of {id}");
        };
        match event {
            EngineEvent::Delta { id, text } => {
                let mut texts = self.texts.lock().unwrap();
                texts.entry(id.0).or_default().push_str(text);
            }
            EngineEvent::Finished(finished) => end(finished.id, Ok(*finished)),
            EngineEvent::Failed { id, code, .. } => end(*id, Err(*code)),
            _ => {}
        }
        Ok(())
    }
}

impl Record {
    fn text(&self, id: u64) -> String {
        let texts = self.texts.lock().unwrap();
        texts.get(&id).cloned().unwrap_or_default()
    }

    fn end(&self, id: u64) -> Result<Finished, FailureCode> {
        self.ends.lock().unwrap()[&id]
    }
}

fn must_be(id: u64, constraint: &Constraint, max_tokens: u32) -> Generate {
    Generate {
        constraint: Some(constraint.clone()),
        ..complete(id, &format!("prompt {id}: "), max_tokens)
    }
}

/// Serves `requests`, and what `then` sends after them, all there from the start.
fn run(
    requests: Vec<Generate>,
    (n_batch, parallel, keeps_nothing): (u32, u32, bool),
    then: impl FnOnce(&Sender),
) -> (Record, Whim) {
    let record = Record::default();
    let count = requests.len();
    let (sender, inbox) = inbox();
    let mut model = Whim::new(n_batch, parallel, keeps_nothing, &inbox);
    for request in requests {
        let inbound = Inbound::Generate(Box::new(request), Instant::now());
        sender.send(inbound).unwrap();
    }
    then(&sender);
    let record_of = &record;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while record_of.ends.lock().unwrap().len() < count {
                std::thread::yield_now();
            }
            drop(sender);
        });
        serve(&mut model, Drafts::Always, &inbox, &record, &Pulse::new()).unwrap();
    });
    (record, model)
}

fn long_names() -> Constraint {
    let names = [
        "temperature_of_the_room",
        "humidity_of_the_room",
        "switched_on",
    ];
    let kinds = [r#"{"type":"integer","minimum":0,"maximum":99}"#; 3];
    let properties = names.iter().zip(kinds);
    let properties: Vec<_> = properties.map(|(n, k)| format!("\"{n}\":{k}")).collect();
    Constraint::JsonSchema(format!(
        r#"{{"type":"object","properties":{{{}}},"required":["{}"],"additionalProperties":false}}"#,
        properties.join(","),
        names.join("\",\"")
    ))
}

#[test]
fn what_has_to_follow_is_computed_in_one_step_with_what_was_chosen() {
    let (record, model) = run(vec![must_be(1, &long_names(), 300)], (64, 1, false), |_| {});
    let end = record.end(1).unwrap();
    let value: HashMap<String, u8> = serde_json::from_str(&record.text(1)).unwrap();
    assert_eq!(value.len(), 3);
    assert_eq!(end.reason, FinishReason::Stop);
    assert_eq!(end.completion_tokens as usize, record.text(1).len());
    // The prompt comes with what the answer begins with, and each number has one digit or two.
    assert!(end.passes <= 7, "{end:?}");
    assert_eq!(end.passes as usize, model.sequences.steps);
    assert!(end.forced_tokens >= 70, "{end:?}");
}

#[test]
fn a_limit_cuts_what_has_to_follow_and_says_so() {
    for max_tokens in [1, 5, 40, 75] {
        let requests = vec![must_be(1, &long_names(), max_tokens)];
        let (record, _) = run(requests, (64, 1, false), |_| {});
        let end = record.end(1).unwrap();
        assert_eq!(end.reason, FinishReason::Length);
        assert_eq!(end.completion_tokens, max_tokens);
        assert_eq!(record.text(1).len(), max_tokens as usize);
    }
    let whole = Constraint::Regex("all of it".to_owned());
    let (record, _) = run(vec![must_be(1, &whole, 9)], (64, 1, false), |_| {});
    let end = record.end(1).unwrap();
    assert_eq!((end.reason, end.passes), (FinishReason::Stop, 1));
    let (record, _) = run(vec![must_be(1, &whole, 8)], (64, 1, false), |_| {});
    assert_eq!(record.end(1).unwrap().reason, FinishReason::Length);
    assert_eq!(record.text(1), "all of i");
}

#[test]
fn a_stop_string_ends_what_has_to_follow() {
    let stopped = Generate {
        stop: vec!["humidity".to_owned()],
        ..must_be(1, &long_names(), 300)
    };
    let at_once = Generate {
        stop: vec!["temp".to_owned()],
        ..must_be(2, &long_names(), 300)
    };
    let (record, _) = run(vec![stopped, at_once], (64, 2, false), |_| {});
    assert_eq!(record.end(1).unwrap().reason, FinishReason::Stop);
    assert!(record.text(1).ends_with(", \""), "{}", record.text(1));
    assert_eq!(record.text(2), "{\"");
}

#[test]
fn what_cannot_be_fails_alone_and_a_place_is_kept_for_what_is_compiled() {
    let refused = Constraint::JsonSchema(r#"{"enum": []}"#.to_owned());
    let number = Constraint::Regex("[0-9]{4}".to_owned());
    let requests = vec![
        must_be(1, &refused, 9),
        must_be(2, &number, 9),
        must_be(3, &number, 9),
    ];
    let (record, _) = run(requests, (64, 2, false), |_| {});
    let refused = FailureCode::Constraint(ConstraintFailure::Refused);
    assert_eq!(record.end(1), Err(refused));
    assert!(record.text(2).parse::<u16>().is_ok());
    assert_eq!(record.end(3), Err(FailureCode::Overcommitted));
}

#[test]
fn a_cancel_ends_a_request_that_waits_for_its_grammar() {
    let number = Constraint::Regex("[0-9]{400}".to_owned());
    let requests = vec![must_be(1, &number, 300), must_be(2, &number, 300)];
    let (record, _) = run(requests, (64, 2, false), |sender| {
        sender.send(Inbound::Cancel(RequestId(1))).unwrap();
    });
    assert_eq!(record.end(1), Err(FailureCode::Cancelled));
    assert_eq!(record.text(2).len(), 300);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the model chooses, how many there are, whether drafts hold or the model loses what it
    /// knew: each answer is what it must be, and each choice was made behind exactly that answer.
    #[test]
    fn every_answer_is_what_it_must_be(
        kinds in proptest::collection::vec((0_usize..4, 0_u32..1000, 1_u32..120), 1..4),
        n_batch in prop_oneof![Just(4_u32), Just(9), Just(64)],
        keeps_nothing in any::<bool>(),
    ) {
        let constraints = [
            long_names(),
            Constraint::Regex("(abcabcab|[ab]{3,20}|x)+y".to_owned()),
            Constraint::JsonSchema(
                r#"{"type":"array","minItems":2,"maxItems":4,"items":{"enum":["one","other","otherwise"]}}"#
                    .to_owned(),
            ),
            Constraint::Lark("start: (\"yes\" | \"no\")+ \".\"".to_owned()),
        ];
        let requests: Vec<_> = (1..).zip(&kinds).map(|(id, (kind, seed, max_tokens))| Generate {
            sampling: Sampling { seed: Some(*seed), ..Sampling::GREEDY },
            ..must_be(id, &constraints[*kind], *max_tokens)
        }).collect();
        let parallel = u32::try_from(requests.len()).unwrap();
        let (record, model) = run(requests, (n_batch, parallel, keeps_nothing), |_| {});
        for (id, (kind, _, max_tokens)) in (1..).zip(&kinds) {
            let text = record.text(id);
            let end = record.end(id).unwrap();
            prop_assert_eq!(end.completion_tokens as usize, text.len());
            if end.reason == FinishReason::Length {
                prop_assert_eq!(end.completion_tokens, *max_tokens);
            } else {
                let words = |text: &str| text.replace("yes", "").replace("no", "");
                prop_assert!(match kind {
                    0 => serde_json::from_str::<HashMap<String, u8>>(&text).is_ok_and(|v| v.len() == 3),
                    1 => text.ends_with('y') && text.chars().all(|c| "abcxy".contains(c)),
                    2 => serde_json::from_str::<Vec<String>>(&text).is_ok_and(|v| (2..=4).contains(&v.len())),
                    _ => words(&text) == ".",
                }, "{}", text);
            }
            let prompt: Vec<_> = format!("prompt {id}: ").bytes().map(Token::from).collect();
            let whole: Vec<_> = text.bytes().map(Token::from).collect();
            for before in model.before.get(&prompt).into_iter().flatten() {
                prop_assert!(whole.starts_with(before), "{:?} in {:?}", before, whole);
            }
        }
    }
}
