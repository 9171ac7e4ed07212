//! Pinned prefixes in the real engine: read when idle, saved into shared memory, restored from it,
//! and never garbage.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use driver::{Engine, Outcome, complete, load, sliding_model, test_model};
use hob_api::chat::Role;
use hob_ipc::constraint::Constraint;
use hob_ipc::memory::KvType;
use hob_ipc::message::{
    ChatMessage, FailureCode, Generate, Load, Pin, PinFailure, PinId, PinState, Prompt,
};
use hob_ipc::{Command, EngineEvent, RequestId};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");
const OWNER: u32 = 1000;
const CACHE_BYTES: u64 = 64 << 20;
/// A whole piece is read behind a prefix, with its last tokens if what follows is shorter.
const PIECE: u32 = 64;

/// The sliding model is a base model, without a template of its own.
const TEMPLATE: &str =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}answer:";

fn start(model: &Path, cache_bytes_max: u64) -> Engine {
    let load = Load {
        chat_template: (model == sliding_model()).then(|| TEMPLATE.to_owned()),
        parallel: 1,
        n_ctx: 2048,
        cache_bytes_max,
        ..load()
    };
    Engine::start(BINARY, &load, model).0
}

fn persona(sentences: usize) -> Vec<ChatMessage> {
    let facts = "The harbour has nine boats, and the red one belongs to Alma. ".repeat(sentences);
    vec![ChatMessage {
        role: Role::System,
        content: format!("You answer in one short line. {facts}"),
    }]
}

fn pin(id: u64, owner: Option<u32>, messages: Vec<ChatMessage>) -> Command {
    Command::Pin(Box::new(Pin {
        id: PinId(id),
        owner,
        messages,
        state_bytes: None,
    }))
}

/// A question behind the persona.
fn question(id: u64, owner: Option<u32>, sentences: usize) -> Generate {
    let mut messages = persona(sentences);
    messages.push(ChatMessage {
        role: Role::User,
        content: "What is the capital of France?".to_owned(),
    });
    Generate {
        prompt: Prompt::Chat(messages),
        cache_owner: owner,
        stop: vec!["\n".to_owned()],
        ..complete(id, "", 16)
    }
}

/// What is said of pin `id` next, progress with reading aside.
fn state(engine: &mut Engine, id: u64) -> PinState {
    loop {
        match engine.next_work() {
            Some(EngineEvent::Pin {
                state: PinState::Reading { .. },
                ..
            }) => {}
            Some(EngineEvent::Pin { id: of, state }) if of == PinId(id) => return state,
            event => panic!("{event:?}: {}", engine.log()),
        }
    }
}

fn ready(engine: &mut Engine, id: u64) -> (u32, u64, bool) {
    match state(engine, id) {
        PinState::Ready {
            tokens,
            bytes,
            restored,
        } => (tokens, bytes, restored),
        state => panic!("{state:?}"),
    }
}

/// Memory of so many bytes that can neither grow nor shrink.
fn memory(bytes: &[u8]) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("pin", flags).unwrap());
    file.write_all(bytes).unwrap();
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK).unwrap();
    file.rewind().unwrap();
    file
}

fn save(engine: &mut Engine, id: u64, bytes: u64) -> Vec<u8> {
    let mut file = memory(&vec![0; usize::try_from(bytes).unwrap()]);
    engine.send_with(&Command::SavePin { id: PinId(id) }, &[file.as_fd()]);
    let Some(EngineEvent::PinSaved { written: true, .. }) = engine.next_work() else {
        panic!("not saved");
    };
    let mut saved = Vec::new();
    file.read_to_end(&mut saved).unwrap();
    saved
}

fn restore(engine: &mut Engine, id: u64, messages: Vec<ChatMessage>, saved: &[u8]) {
    let command = Command::Pin(Box::new(Pin {
        id: PinId(id),
        owner: Some(OWNER),
        messages,
        state_bytes: Some(saved.len() as u64),
    }));
    engine.send_with(&command, &[memory(saved)]);
}

fn models() -> [PathBuf; 2] {
    [test_model(), sliding_model()]
}

/// Sentences that are more tokens than the sliding model's window.
const LONG: usize = 45;

fn fresh_answer(model: &Path) -> Outcome {
    start(model, 0).ask(question(1, None, LONG))
}

#[test]
fn a_pinned_prefix_is_read_saved_and_restored_and_the_answer_is_the_same() {
    for model in models() {
        let fresh = fresh_answer(&model);
        let mut engine = start(&model, CACHE_BYTES);
        engine.send(&pin(1, Some(OWNER), persona(LONG)));
        let (tokens, bytes, restored) = ready(&mut engine, 1);
        assert!(tokens > 550 && !restored, "{tokens}");
        let read = engine.ask(question(1, Some(OWNER), LONG));
        assert_eq!(read.text, fresh.text);
        assert!(read.finished().cached_tokens >= tokens - PIECE);
        let saved = save(&mut engine, 1, bytes);
        drop(engine);

        let mut engine = start(&model, CACHE_BYTES);
        restore(&mut engine, 7, persona(LONG), &saved);
        assert_eq!(ready(&mut engine, 7), (tokens, bytes, true));
        let again = engine.ask(question(1, Some(OWNER), LONG));
        assert_eq!(again.text, fresh.text);
        assert!(
            again.finished().cached_tokens >= tokens - PIECE,
            "{tokens}: {:?}",
            again.finished()
        );
        // Displaced and restored again.
        engine.ask(complete(2, "Once upon a time", 4));
        let again = engine.ask(question(3, Some(OWNER), LONG));
        assert_eq!(again.text, fresh.text);
        assert!(
            again.finished().cached_tokens >= tokens - PIECE,
            "{tokens}: {:?}",
            again.finished()
        );
    }
}

#[test]
fn a_state_that_does_not_fit_is_read_instead_and_spoils_nothing() {
    let model = test_model();
    let fresh = fresh_answer(&model);
    let mut engine = start(&model, CACHE_BYTES);
    engine.send(&pin(1, Some(OWNER), persona(LONG)));
    let (_, bytes, _) = ready(&mut engine, 1);
    let saved = save(&mut engine, 1, bytes);
    // Another prefix's: its tokens are others.
    restore(&mut engine, 2, persona(6), &saved);
    assert_eq!(state(&mut engine, 2), PinState::Refused);
    assert!(!ready(&mut engine, 2).2);
    drop(engine);

    // Too short for its own head, and cut within what llama.cpp reads.
    for cut in [0, 3, 100, saved.len() / 2, saved.len() - 1] {
        let mut engine = start(&model, CACHE_BYTES);
        restore(&mut engine, 1, persona(LONG), &saved[..cut]);
        let offered = state(&mut engine, 1);
        let answer = engine.ask(question(1, Some(OWNER), LONG));
        assert_eq!(answer.text, fresh.text, "cut to {cut} bytes: {offered:?}");
        let again = engine.ask(question(2, Some(OWNER), LONG));
        assert_eq!(again.text, fresh.text, "cut to {cut} bytes");
    }
}

#[test]
fn a_request_comes_before_reading_and_nothing_read_is_lost() {
    let mut engine = start(&test_model(), CACHE_BYTES);
    engine.send(&pin(1, None, persona(90)));
    let first = engine.next_work();
    let Some(EngineEvent::Pin {
        state: PinState::Reading { processed, .. },
        ..
    }) = first
    else {
        panic!("{first:?}");
    };
    let other = engine.ask(complete(1, "Once upon a time", 4));
    assert!(other.end.is_some_and(|end| end.is_ok()));
    // Reading goes on from where it was: progress never falls.
    let mut last = processed;
    loop {
        match engine.next_work() {
            Some(EngineEvent::Pin {
                state: PinState::Reading { processed, .. },
                ..
            }) => {
                assert!(processed >= last, "{processed} after {last}");
                last = processed;
            }
            Some(EngineEvent::Pin {
                state: PinState::Ready { restored, .. },
                ..
            }) => break assert!(!restored),
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn a_request_that_waited_for_its_grammar_comes_before_reading_too() {
    let constrained = |id| Generate {
        constraint: Some(Constraint::Regex("(yes|no), [a-z ]{3,9}".to_owned())),
        ..complete(id, "Is the sea salty?", 16)
    };
    // With a model that can't go back, a step of reading ends for nobody who comes.
    let fresh = fresh_answer(&sliding_model());
    let mut engine = start(&sliding_model(), CACHE_BYTES);
    engine.send(&pin(1, None, persona(LONG)));
    // Meanwhile the prefix has the only sequence.
    engine.ask(constrained(1)).finished();
    let (tokens, ..) = ready(&mut engine, 1);
    let behind = engine.ask(question(2, Some(OWNER), LONG));
    assert!(behind.finished().cached_tokens >= tokens - PIECE);
    assert_eq!(behind.text, fresh.text);
}

#[test]
fn a_users_prefix_serves_that_user_and_everybodys_serves_all_who_let_it() {
    let mut engine = start(&test_model(), CACHE_BYTES);
    engine.send(&pin(1, Some(OWNER), persona(10)));
    let (tokens, ..) = ready(&mut engine, 1);
    let other = engine.ask(question(1, Some(OWNER + 1), 10));
    assert_eq!(other.finished().cached_tokens, 0);
    engine.send(&pin(2, None, persona(10)));
    assert_eq!(ready(&mut engine, 2).0, tokens);
    let third = engine.ask(question(2, Some(OWNER + 2), 10));
    assert!(third.finished().cached_tokens >= tokens - PIECE);
    let private = engine.ask(question(3, None, 10));
    assert_eq!(private.finished().cached_tokens, 0);
    // Unpinned, it serves nobody.
    engine.send(&pin(3, None, persona(11)));
    ready(&mut engine, 3);
    engine.send(&Command::Unpin { id: PinId(2) });
    engine.send(&Command::Unpin { id: PinId(3) });
    let fourth = engine.ask(question(5, Some(OWNER + 3), 10));
    assert_eq!(fourth.finished().cached_tokens, 0);
}

#[test]
fn what_can_not_be_pinned_says_why() {
    let mut engine = start(&test_model(), 4 << 20);
    engine.send(&pin(1, None, persona(300)));
    let failed = |reason| PinState::Failed { reason };
    assert_eq!(state(&mut engine, 1), failed(PinFailure::TooLong));
    engine.send(&pin(2, None, persona(LONG)));
    assert_eq!(state(&mut engine, 2), failed(PinFailure::NoRoom));
    // A higher limit has it read again.
    engine.send(&Command::LimitCache { bytes: CACHE_BYTES });
    assert!(!ready(&mut engine, 2).2);
    engine.send(&Command::LimitCache { bytes: 0 });
    assert_eq!(state(&mut engine, 2), failed(PinFailure::NoRoom));
    // It is gone from the shelf, and nothing is written where it is asked for.
    engine.send_with(&Command::SavePin { id: PinId(2) }, &[memory(&[0; 64])]);
    let saved = EngineEvent::PinSaved {
        id: PinId(2),
        written: false,
    };
    assert_eq!(engine.next_work(), Some(saved));
    engine.generate(question(1, None, 300));
    let [refused] = engine.outcomes([1]);
    assert_eq!(refused.failure().0, FailureCode::ContextOverflow);
    engine.send(&Command::Cancel { id: RequestId(1) });
}

#[test]
fn the_format_of_a_state_changes_with_what_llama_cpp_writes() {
    let format = |kv_type, parallel| {
        let load = Load {
            kv_type,
            parallel,
            ..load()
        };
        Engine::start(BINARY, &load, &test_model())
            .1
            .ready
            .state_format
    };
    assert_eq!(format(KvType::F16, 2), format(KvType::F16, 2));
    assert_ne!(format(KvType::F16, 2), format(KvType::Q8_0, 2));
    assert_ne!(format(KvType::F16, 2), format(KvType::F16, 3));
}

#[test]
fn a_saved_state_names_the_binding_that_wrote_it() {
    let lock = include_str!("../../../Cargo.lock");
    let package = "name = \"llama-cpp-sys-2\"\nversion = ";
    let version = hob_engine::raw::BINDING_VERSION;
    assert!(lock.contains(&format!("{package}\"{version}\"\n")));
}

#[test]
fn a_users_pin_that_gave_way_comes_back_when_room_is_made() {
    let mut engine = start(&test_model(), CACHE_BYTES);
    engine.send(&pin(1, Some(OWNER), persona(10)));
    let (_, bytes, _) = ready(&mut engine, 1);
    // Room for one of the two.
    let limit = Command::LimitCache {
        bytes: bytes * 3 / 2,
    };
    engine.send(&limit);
    engine.send(&pin(2, None, persona(10)));
    ready(&mut engine, 2);
    let no_room = PinState::Failed {
        reason: PinFailure::NoRoom,
    };
    assert_eq!(state(&mut engine, 1), no_room);
    engine.send(&Command::Unpin { id: PinId(2) });
    ready(&mut engine, 1);
}
