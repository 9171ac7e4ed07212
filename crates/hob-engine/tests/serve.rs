//! The decode loop with a model of the test's own, over a pipe in memory.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hob_api::chat::{Class, Role};
use hob_api::event::FinishReason;
use hob_engine::grammar::TokenSet;
use hob_engine::inbox::{Inbound, Inbox, Interrupt, Sender, inbox};
use hob_engine::prompt::Token;
use hob_engine::pulse::Pulse;
use hob_engine::serve::{Failure, Limits, Model, Row, Step, serve};
use hob_engine::wire::{Events, ReadError, read_commands};
use hob_ipc::frame::COMMAND_BYTES_MAX;
use hob_ipc::message::{
    ChatMessage, Drafts, FailureCode, Finished, Generate, PinId, Prompt, Sampling,
};
use hob_ipc::score::{Score, ScorePart};
use hob_ipc::{Command, Decoder, EngineEvent, RequestId, encode};

/// Says the prompt backwards, one byte a token, then ends. Checks what it is asked.
struct Mirror {
    limits: Limits,
    /// Bytes that each sequence has seen, in order.
    seen: Vec<Vec<u8>>,
    rows: Vec<Row>,
    /// Steps until decoding fails.
    fails_in: Option<usize>,
    /// Largest step.
    rows_max: usize,
    /// Whether it can't go back to an earlier place in a sequence.
    keeps_nothing: bool,
    /// Whether what it saved is of no use to it.
    restores_nothing: bool,
    /// Rows of all steps.
    rows_seen: usize,
    /// Steps that take until something ends them.
    hangs: Option<Hangs>,
}

/// The next so many steps take until the interrupt is raised.
struct Hangs {
    interrupt: Arc<Interrupt>,
    left: usize,
    begun: Arc<AtomicUsize>,
}

const END: Token = 256;
/// Tokens: the bytes, and [`END`].
const SCORES_LEN: usize = 257;
/// Scores of which any [`SCORES_LEN`] that begin so that the middle is at a token make it twice as
/// likely as any other.
static SCORES: [f32; 2 * SCORES_LEN] = {
    let mut scores = [0.0; 2 * SCORES_LEN];
    scores[SCORES_LEN] = std::f32::consts::LN_2;
    scores
};

impl Mirror {
    fn new(n_ctx: u32, n_batch: u32, parallel: u32) -> Self {
        Self {
            limits: Limits {
                n_ctx,
                n_batch,
                parallel,
                goes_back: true,
                cache_bytes: 0,
            },
            seen: vec![Vec::new(); parallel as usize],
            rows: Vec::new(),
            fails_in: None,
            rows_max: 0,
            keeps_nothing: false,
            restores_nothing: false,
            rows_seen: 0,
            hangs: None,
        }
    }
}

impl Model for Mirror {
    /// Bytes still to say.
    type Sampler = Vec<u8>;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<Token>, Failure> {
        match prompt {
            Prompt::Text(text) => Ok(text.bytes().map(Token::from).collect()),
            Prompt::Dialogue(_) => unreachable!("these tests have no dialogues"),
            Prompt::Chat(messages) => match messages.last() {
                Some(last) => Ok(last.content.bytes().map(Token::from).collect()),
                None => Err(Failure::new(FailureCode::NoChatTemplate, "none")),
            },
        }
    }

    fn sampler(&self, _: &Sampling, prompt: &[Token]) -> Vec<u8> {
        prompt
            .iter()
            .map(|token| u8::try_from(*token).unwrap())
            .collect()
    }

    fn decode(&mut self, rows: &[Row]) -> Result<Step, Failure> {
        assert!(!rows.is_empty() && rows.len() <= self.limits.n_batch as usize);
        self.rows_max = self.rows_max.max(rows.len());
        if let Some(left) = &mut self.fails_in {
            if *left == 0 {
                self.fails_in = None;
                return Err(Failure::new(FailureCode::Decode, "as told"));
            }
            *left -= 1;
        }
        if let Some(hangs) = &mut self.hangs
            && hangs.left > 0
        {
            hangs.left -= 1;
            hangs.begun.fetch_add(1, Ordering::Relaxed);
            while !hangs.interrupt.is_raised() {
                std::thread::yield_now();
            }
            return Ok(Step::Stopped);
        }
        for row in rows {
            let seen = &mut self.seen[row.sequence as usize];
            assert_eq!(seen.len(), row.position as usize, "positions have no gap");
            assert!(row.position < self.limits.n_ctx);
            seen.push(u8::try_from(row.token).unwrap());
        }
        self.rows = rows.to_vec();
        self.rows_seen += rows.len();
        Ok(Step::Done)
    }

    fn sample(
        &mut self,
        row: usize,
        left: &mut Vec<u8>,
        _: Option<&TokenSet>,
    ) -> Result<Token, Failure> {
        assert!(self.rows[row].logits);
        Ok(left.pop().map_or(END, Token::from))
    }

    fn continuation(&self, text: &str) -> Result<Vec<Token>, Failure> {
        Ok(text.bytes().map(Token::from).collect())
    }

    fn scores(&self, row: usize) -> Result<&[f32], Failure> {
        let row = self.rows[row];
        assert!(row.logits);
        let last = usize::from(self.seen[row.sequence as usize][row.position as usize]);
        // Twice as likely as any other: what the last byte was.
        Ok(&SCORES[SCORES_LEN - last..][..SCORES_LEN])
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
        let seen = &mut self.seen[sequence as usize];
        assert!(tokens <= seen.len());
        seen.truncate(tokens);
        !self.keeps_nothing
    }

    fn forget(&mut self, sequence: u32) {
        self.seen[sequence as usize].clear();
    }

    fn cuts(&self, _: usize, _: usize) -> bool {
        !self.keeps_nothing
    }

    fn saved_bytes(&self, sequence: u32) -> usize {
        self.seen[sequence as usize].len()
    }

    fn save(&mut self, sequence: u32) -> Option<Vec<u8>> {
        Some(self.seen[sequence as usize].clone())
    }

    fn restore(&mut self, sequence: u32, tokens: usize, state: &[u8]) -> bool {
        assert_eq!(state.len(), tokens);
        self.seen[sequence as usize] = state.to_vec();
        !self.restores_nothing
    }
}

#[derive(Default)]
struct Record {
    events: Mutex<Vec<EngineEvent>>,
    /// Events until hobd is gone.
    gone_after: Option<usize>,
}

impl Events for Record {
    fn send(&self, event: &EngineEvent) -> io::Result<()> {
        let mut events = self.events.lock().unwrap();
        if self.gone_after == Some(events.len()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        events.push(event.clone());
        Ok(())
    }
}

impl Record {
    fn text(&self, of: u64) -> String {
        self.events
            .lock()
            .unwrap()
            .iter()
            .filter_map(|event| match event {
                EngineEvent::Delta { id, text } if id.0 == of => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The one terminal event, after which nothing came.
    fn end(&self, of: u64) -> Result<Finished, (FailureCode, u32)> {
        let events = self.events.lock().unwrap();
        let own: Vec<_> = events
            .iter()
            .filter(|event| match event {
                EngineEvent::Delta { id, .. }
                | EngineEvent::Prefill { id, .. }
                | EngineEvent::Failed { id, .. } => id.0 == of,
                EngineEvent::Finished(finished) => finished.id.0 == of,
                _ => false,
            })
            .collect();
        let ends = own
            .iter()
            .filter(|e| matches!(e, EngineEvent::Finished(_) | EngineEvent::Failed { .. }))
            .count();
        assert_eq!(ends, 1, "of request {of}: {own:?}");
        match own.last().unwrap() {
            EngineEvent::Finished(finished) => Ok(*finished),
            EngineEvent::Failed {
                code,
                prompt_tokens,
                ..
            } => Err((*code, *prompt_tokens)),
            other => panic!("{other:?} after the end"),
        }
    }
}

fn generate(id: u64, text: &str, max_tokens: u32) -> Generate {
    Generate {
        id: RequestId(id),
        prompt: Prompt::Text(text.to_owned()),
        max_tokens,
        stop: Vec::new(),
        sampling: Sampling::GREEDY,
        cache_owner: None,
        class: Class::Chat,
        drafts: true,
        constraint: None,
    }
}

fn channel(commands: Vec<Inbound>) -> (Sender, Inbox) {
    let (sender, receiver) = inbox();
    for command in commands {
        sender.send(command).unwrap();
    }
    (sender, receiver)
}

/// Serves `requests`, all there from the start, until each has ended.
fn run(model: &mut Mirror, requests: Vec<Generate>) -> Record {
    let requests = requests.into_iter();
    let commands = requests.map(|request| Inbound::Generate(Box::new(request), Instant::now()));
    run_commands(model, commands.collect())
}

fn run_commands(model: &mut Mirror, commands: Vec<Inbound>) -> Record {
    let record = Record::default();
    let count = commands.len();
    let (sender, receiver) = channel(commands);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let events = record.events.lock().unwrap();
                let ends = events
                    .iter()
                    .filter(|e| matches!(e, EngineEvent::Finished(_) | EngineEvent::Failed { .. }))
                    .count();
                drop(events);
                if ends == count {
                    drop(sender);
                    return;
                }
                std::thread::yield_now();
            }
        });
        serve(model, Drafts::Always, &receiver, &record, &Pulse::new()).unwrap();
    });
    record
}

#[test]
fn answers_come_in_order_and_places_are_used_again() {
    let mut model = Mirror::new(64, 16, 2);
    let record = run(
        &mut model,
        vec![generate(1, "abc", 10), generate(2, "xyz", 10)],
    );
    assert_eq!(record.text(1), "cba");
    assert_eq!(record.text(2), "zyx");
    let end = record.end(1).unwrap();
    assert_eq!(end.reason, FinishReason::Stop);
    assert_eq!((end.prompt_tokens, end.completion_tokens), (3, 4));
    assert!(
        model.seen.iter().all(Vec::is_empty),
        "sequences are forgotten"
    );
    let record = run(&mut model, vec![generate(3, "again", 10)]);
    assert_eq!(record.text(3), "niaga");
}

#[test]
fn a_prompt_longer_than_a_batch_takes_several_steps() {
    let mut model = Mirror::new(600, 16, 2);
    let long = "a".repeat(500);
    let record = run(
        &mut model,
        vec![generate(1, &long, 3), generate(2, "hi", 9)],
    );
    assert_eq!(record.text(1), "aaa");
    assert_eq!(record.end(1).unwrap().reason, FinishReason::Length);
    assert_eq!(record.text(2), "ih");
    assert!(model.rows_max <= 16);
}

#[test]
fn limits_end_answers() {
    let mut model = Mirror::new(8, 16, 1);
    let record = run(&mut model, vec![generate(1, "abcde", 100)]);
    assert_eq!(record.text(1), "edc", "5 + 3 tokens fill a context of 8");
    assert_eq!(record.end(1).unwrap().reason, FinishReason::Length);
    let record = run(&mut model, vec![generate(2, "abcdefgh", 1)]);
    assert_eq!(record.end(2), Err((FailureCode::ContextOverflow, 8)));
    let record = run(&mut model, vec![generate(3, "abcdefg", 9)]);
    assert_eq!(record.end(3).unwrap().completion_tokens, 1);
}

#[test]
fn stop_strings_end_answers() {
    let mut model = Mirror::new(64, 16, 1);
    let stop = Generate {
        stop: vec!["CB".to_owned()],
        ..generate(1, "ABCDE", 10)
    };
    let record = run(&mut model, vec![stop]);
    assert_eq!(record.text(1), "ED");
    assert_eq!(record.end(1).unwrap().reason, FinishReason::Stop);
}

#[test]
fn what_the_prompt_said_of_the_answer_already_is_its_beginning() {
    let chat = |id, content: &str| Generate {
        prompt: Prompt::Chat(vec![ChatMessage {
            role: Role::User,
            content: content.to_owned(),
        }]),
        ..generate(id, "", 3)
    };
    let mut model = Mirror::new(64, 16, 1);
    let record = run(&mut model, vec![chat(1, "abc<think>\n")]);
    assert_eq!(record.text(1), "<think>\n\n>k");
    let record = run(&mut model, vec![chat(2, "<think></think>")]);
    assert_eq!(record.text(2), ">kn");
    let record = run(&mut model, vec![generate(3, "abc<think>", 3)]);
    assert_eq!(record.text(3), ">kn");
}

#[test]
fn bad_requests_fail_alone() {
    let mut model = Mirror::new(64, 16, 1);
    let chat = Generate {
        prompt: Prompt::Chat(Vec::new()),
        ..generate(2, "", 1)
    };
    let record = run(&mut model, vec![generate(1, "ab", 9), chat]);
    assert_eq!(record.text(1), "ba");
    // Both are there before the first step; the second has no place.
    assert_eq!(record.end(2), Err((FailureCode::Overcommitted, 0)));
    let record = run(&mut model, vec![generate(3, "", 9)]);
    assert_eq!(record.end(3), Err((FailureCode::Decode, 0)));
}

#[test]
fn a_failed_step_fails_its_requests_and_no_later_ones() {
    let mut model = Mirror::new(64, 16, 2);
    // One step reads the first prompt, one writes, one reads the second, and this one writes both.
    model.fails_in = Some(3);
    let record = run(
        &mut model,
        vec![generate(1, "abcdef", 9), generate(2, "xyz", 9)],
    );
    assert_eq!(record.end(1), Err((FailureCode::Decode, 0)));
    assert_eq!(record.end(2), Err((FailureCode::Decode, 0)));
    assert_eq!(run(&mut model, vec![generate(3, "ok", 9)]).text(3), "ko");
}

#[test]
fn a_cancelled_request_ends_once_and_others_go_on() {
    let mut model = Mirror::new(64, 16, 2);
    let record = Record::default();
    let now = Instant::now();
    let (sender, receiver) = channel(vec![
        Inbound::Generate(Box::new(generate(1, "abcdefghij", 50)), now),
        Inbound::Generate(Box::new(generate(2, "xyz", 50)), now),
        Inbound::Cancel(RequestId(1)),
        Inbound::Cancel(RequestId(1)),
        Inbound::Cancel(RequestId(9)),
    ]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while record.events.lock().unwrap().last().is_none_or(
                |event| !matches!(event, EngineEvent::Finished(finished) if finished.id.0 == 2),
            ) {
                std::thread::yield_now();
            }
            drop(sender);
        });
        serve(
            &mut model,
            Drafts::Always,
            &receiver,
            &record,
            &Pulse::new(),
        )
        .unwrap();
    });
    assert_eq!(record.end(1), Err((FailureCode::Cancelled, 0)));
    assert_eq!(record.text(2), "zyx");
}

#[test]
fn likelihoods_come_beside_answers_whether_the_model_can_go_back_or_not() {
    for keeps_nothing in [false, true] {
        let mut model = Mirror::new(64, 16, 2);
        model.keeps_nothing = keeps_nothing;
        let part = |prompt: &str, continuations: &[&str]| ScorePart {
            prompt: Prompt::Text(prompt.to_owned()),
            continuations: continuations.iter().map(|c| (*c).to_owned()).collect(),
        };
        let score = |id: u64, parts: Vec<ScorePart>| Score {
            id: RequestId(id),
            parts,
            ends: true,
            single_tokens: false,
            cache_owner: Some(7),
            class: Class::Chat,
        };
        let parts = vec![
            part("a long common beginning: aa", &["ab", "a", "b"]),
            part("a long common beginning: b", &["bbb"]),
        ];
        let now = Instant::now();
        let commands = vec![
            Inbound::Score(Box::new(score(1, parts)), now),
            Inbound::Generate(Box::new(generate(2, "xyz", 50)), now),
            Inbound::Score(Box::new(score(3, vec![part("x", &["y"])])), now),
        ];
        let record = run_commands(&mut model, commands);
        assert_eq!(record.text(2), "zyx");
        assert_eq!(record.end(3), Err((FailureCode::Overcommitted, 0)));
        let finished = record.end(1).unwrap();
        assert_eq!(finished.prompt_tokens, 27 + 4 + 26 + 3);
        assert_eq!(finished.completion_tokens, 0);
        // Twice as likely as any other: that the last byte comes again.
        let other = (1.0_f64 / 258.0).ln();
        let again = (2.0_f64 / 258.0).ln();
        let expected = [
            vec![again + other, again, other],
            vec![again + again + again],
        ];
        let events = record.events.lock().unwrap();
        let scored = events.iter().filter_map(|event| match event {
            EngineEvent::Scored(scored) => Some(scored),
            _ => None,
        });
        for (part, scored) in scored.enumerate() {
            assert_eq!((scored.id.0, scored.part as usize), (1, part));
            assert_eq!(scored.likelihoods.len(), expected[part].len());
            for (got, expected) in scored.likelihoods.iter().zip(&expected[part]) {
                assert!((got.log_probability - expected).abs() < 1e-5, "{got:?}");
                assert!((got.end.unwrap() - other).abs() < 1e-5, "{got:?}");
            }
        }
    }
}

#[test]
fn the_loop_ends_when_hobd_is_gone() {
    let mut model = Mirror::new(64, 16, 1);
    let record = Record {
        gone_after: Some(2),
        ..Record::default()
    };
    let request = generate(1, "abcdef", 9);
    let (_sender, receiver) = channel(vec![Inbound::Generate(Box::new(request), Instant::now())]);
    let end = serve(
        &mut model,
        Drafts::Always,
        &receiver,
        &record,
        &Pulse::new(),
    );
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

/// How many tokens of the second prompt were known from the first, and how many rows it took.
fn second_turn(model: &mut Mirror, first: Generate, second: Generate) -> (u32, usize) {
    let record = Record::default();
    let id = second.id.0;
    let (sender, receiver) = inbox();
    let ended =
        |id: u64| {
            record.events.lock().unwrap().iter().any(
                |event| matches!(event, EngineEvent::Finished(finished) if finished.id.0 == id),
            )
        };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for request in [first, second] {
                let id = request.id.0;
                sender
                    .send(Inbound::Generate(Box::new(request), Instant::now()))
                    .unwrap();
                while !ended(id) {
                    std::thread::yield_now();
                }
            }
            drop(sender);
        });
        serve(model, Drafts::Always, &receiver, &record, &Pulse::new()).unwrap();
    });
    (record.end(id).unwrap().cached_tokens, model.rows_seen)
}

fn of_owner(id: u64, text: &str, owner: u32) -> Generate {
    Generate {
        cache_owner: Some(owner),
        ..generate(id, text, 3)
    }
}

#[test]
fn the_next_turn_computes_only_what_is_new() {
    // 6 tokens of prompt and 2 of the answer are seen; the third token of the answer is not.
    let first = || of_owner(1, "abcdef", 1000);
    let mut model = Mirror::new(64, 16, 2);
    let second = of_owner(2, "abcdeffe and more", 1000);
    assert_eq!(second_turn(&mut model, first(), second), (8, 8 + 9 + 2));
    // Another user computes everything, and so does one who asked for it.
    let mut model = Mirror::new(64, 16, 2);
    let second = of_owner(2, "abcdeffe and more", 1001);
    assert_eq!(second_turn(&mut model, first(), second), (0, 8 + 17 + 2));
    let mut model = Mirror::new(64, 16, 1);
    let second = generate(2, "abcdeffe and more", 3);
    assert_eq!(second_turn(&mut model, first(), second), (0, 8 + 17 + 2));
    assert!(model.seen.iter().all(Vec::is_empty));
    // So does a model that can't go back.
    let mut model = Mirror::new(64, 16, 1);
    model.keeps_nothing = true;
    let second = of_owner(2, "abcdeffe and more", 1000);
    assert_eq!(second_turn(&mut model, first(), second), (0, 8 + 17 + 2));
    // A prompt that ends within what is known goes back to the grid, here to its beginning.
    let mut model = Mirror::new(64, 16, 1);
    let second = of_owner(2, "abcd", 1000);
    assert_eq!(second_turn(&mut model, first(), second), (0, 8 + 4 + 2));
}

/// Lets the next `steps` hang; the count of those that began.
fn hang(model: &mut Mirror, inbox: &Inbox, steps: usize) -> Arc<AtomicUsize> {
    let begun: Arc<AtomicUsize> = Arc::default();
    model.hangs = Some(Hangs {
        interrupt: Arc::clone(inbox.interrupt()),
        left: steps,
        begun: Arc::clone(&begun),
    });
    begun
}

#[test]
fn a_cancel_ends_a_step_that_its_request_has_to_itself() {
    let mut model = Mirror::new(64, 16, 1);
    let record = Record::default();
    let (sender, receiver) = inbox();
    hang(&mut model, &receiver, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = Box::new(generate(1, "abc", 9));
            sender
                .send(Inbound::Generate(request, Instant::now()))
                .unwrap();
            sender.send(Inbound::Cancel(RequestId(1))).unwrap();
            drop(sender);
        });
        // Returns when both commands are taken: the step would go on for ever otherwise.
        serve(
            &mut model,
            Drafts::Always,
            &receiver,
            &record,
            &Pulse::new(),
        )
        .unwrap();
    });
    assert_eq!(record.end(1), Err((FailureCode::Cancelled, 0)));
}

#[test]
fn a_step_ends_for_who_arrives_and_is_computed_again() {
    let mut model = Mirror::new(600, 64, 2);
    let record = Record::default();
    let (sender, receiver) = inbox();
    // The first step hangs until the second request is there. Those that follow would end for it,
    // too, if they were not owed their time.
    hang(&mut model, &receiver, 1);
    let long = "a".repeat(300) + "end";
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for request in [generate(1, &long, 3), generate(2, "hi", 9)] {
                let request = Inbound::Generate(Box::new(request), Instant::now());
                sender.send(request).unwrap();
            }
            let ended = || {
                let events = record.events.lock().unwrap();
                let ends = events
                    .iter()
                    .filter(|e| matches!(e, EngineEvent::Finished(_)));
                ends.count()
            };
            while ended() < 2 {
                std::thread::yield_now();
            }
            drop(sender);
        });
        serve(
            &mut model,
            Drafts::Always,
            &receiver,
            &record,
            &Pulse::new(),
        )
        .unwrap();
    });
    assert_eq!(record.text(1), "dne");
    assert_eq!(record.text(2), "ih");
    // Who arrived later, with little to read, is answered first.
    let events = record.events.lock().unwrap();
    let first = events.iter().find_map(|event| match event {
        EngineEvent::Finished(finished) => Some(finished.id.0),
        _ => None,
    });
    assert_eq!(first, Some(2));
}

/// Another short request comes whenever one ends, until the first one, or 200 of them, have ended.
struct Stream {
    sender: Mutex<Option<Sender>>,
    ended: AtomicUsize,
}

impl Events for Stream {
    fn send(&self, event: &EngineEvent) -> io::Result<()> {
        let EngineEvent::Finished(finished) = event else {
            return Ok(());
        };
        let mut sender = self.sender.lock().unwrap();
        if finished.id == RequestId(1) {
            *sender = None;
        } else if let Some(sender) = sender.as_ref()
            && self.ended.fetch_add(1, Ordering::Relaxed) < 200
        {
            let next = generate(finished.id.0 + 2, "hi", 1);
            let next = Inbound::Generate(Box::new(next), Instant::now());
            sender.send(next).unwrap();
        }
        Ok(())
    }
}

#[test]
fn no_stream_of_newcomers_keeps_a_prompt_from_being_read() {
    let mut model = Mirror::new(600, 64, 3);
    let long = generate(1, &"a".repeat(300), 1);
    let requests = [long, generate(2, "hi", 1), generate(3, "hi", 1)];
    let commands = requests.map(|request| Inbound::Generate(Box::new(request), Instant::now()));
    let (sender, receiver) = channel(commands.into());
    let stream = Stream {
        sender: Mutex::new(Some(sender)),
        ended: AtomicUsize::new(0),
    };
    serve(&mut model, Drafts::Off, &receiver, &stream, &Pulse::new()).unwrap();
    // A step in three, at least, is the long one's.
    let ended = stream.ended.load(Ordering::Relaxed);
    assert!(ended < 40, "{ended} came before it");
}

#[test]
fn a_cancel_ends_a_step_that_reads_whoever_else_is_there() {
    let mut model = Mirror::new(600, 64, 2);
    let record = Record::default();
    let (sender, receiver) = inbox();
    let now = Instant::now();
    for id in [1, 2] {
        let request = generate(id, &"ab".repeat(100), 3);
        sender
            .send(Inbound::Generate(Box::new(request), now))
            .unwrap();
    }
    let begun = hang(&mut model, &receiver, 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The first step ends for the second request; the second reads that, and ends for this.
            while begun.load(Ordering::Relaxed) < 2 {
                std::thread::yield_now();
            }
            sender.send(Inbound::Cancel(RequestId(2))).unwrap();
            while !record
                .events
                .lock()
                .unwrap()
                .iter()
                .any(|event| matches!(event, EngineEvent::Finished(finished) if finished.id.0 == 1))
            {
                std::thread::yield_now();
            }
            drop(sender);
        });
        serve(
            &mut model,
            Drafts::Always,
            &receiver,
            &record,
            &Pulse::new(),
        )
        .unwrap();
    });
    assert_eq!(record.end(2), Err((FailureCode::Cancelled, 0)));
    assert_eq!(record.text(1), "bab");
}

#[test]
fn the_reader_takes_frames_apart_and_stops_at_nonsense() {
    let read = |stream: &[u8]| {
        let (sender, receiver) = inbox();
        let (mut hobd, engine) = UnixStream::pair().unwrap();
        hobd.write_all(stream).unwrap();
        drop(hobd);
        let end = read_commands(&engine, Decoder::new(COMMAND_BYTES_MAX), &sender);
        let taken = std::iter::from_fn(|| receiver.try_receive().ok());
        (end, taken.count())
    };
    let frame = |command: &Command| encode(command, COMMAND_BYTES_MAX).unwrap();
    let cancel = frame(&Command::Cancel { id: RequestId(1) });
    let (end, count) = read(&[cancel.clone(), cancel.clone()].concat());
    assert!(end.is_ok() && count == 2);
    let (end, count) = read(&[&cancel[..], &[3, 0, 0, 0], b"no!"].concat());
    assert!(matches!(end, Err(ReadError::Frame(_))) && count == 1); // A message that comes with a descriptor, without one.
    let save = frame(&Command::SavePin { id: PinId(1) });
    let (end, count) = read(&[cancel, save].concat());
    assert!(matches!(end, Err(ReadError::Descriptors)) && count == 1);
}

/// Alma's prompt, Bruno's in the same sequence, and Alma's next turn: the rows that this took, and
/// what was cached of the last.
fn displaced_and_back(restores: bool) -> (usize, u32) {
    let mut model = Mirror::new(256, 128, 1);
    model.limits.cache_bytes = 10_000;
    model.restores_nothing = !restores;
    let record = Record::default();
    let (sender, receiver) = inbox();
    let texts = [
        "a".repeat(48),
        "b".repeat(48),
        "a".repeat(48) + &"z".repeat(64),
    ];
    for (id, text) in (1..).zip(&texts) {
        // Each takes one step and ends with it, before the next is taken: there is one place.
        let request = Box::new(Generate {
            max_tokens: 1,
            ..of_owner(id, text, 1000)
        });
        let request = Inbound::Generate(request, Instant::now());
        sender.send(request).unwrap();
    }
    drop(sender);
    serve(&mut model, Drafts::Off, &receiver, &record, &Pulse::new()).unwrap();
    let last = record.end(3).unwrap();
    (model.rows_seen, last.cached_tokens)
}

#[test]
fn what_was_displaced_is_restored_or_else_computed() {
    assert_eq!(displaced_and_back(true), (48 + 48 + 64, 48));
    assert_eq!(displaced_and_back(false), (48 + 48 + 112, 0));
}
