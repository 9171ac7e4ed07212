//! The real binary with the real model, driven as hobd drives it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use driver::{Engine, Started, complete, load, test_model};
use hob_api::chat::Role;
use hob_api::event::FinishReason;
use hob_ipc::message::{ChatMessage, FailureCode, Generate, Load, LoadFailure, Prompt, Sampling};
use hob_ipc::{Command, EngineEvent, RequestId};

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");

fn start(load: &Load) -> (Engine, Started) {
    Engine::start(BINARY, load, &test_model())
}

fn chat(id: u64, content: &str, max_tokens: u32) -> Generate {
    Generate {
        prompt: Prompt::Chat(vec![ChatMessage {
            role: Role::User,
            content: content.to_owned(),
        }]),
        ..complete(id, "", max_tokens)
    }
}

#[test]
fn it_tells_what_it_loaded_and_how_it_is_locked_in() {
    let (_engine, started) = start(&Load {
        n_ctx: 1_000_000,
        parallel: 1,
        threads: Some(1),
        ..load()
    });
    let ready = started.ready;
    assert_eq!(
        ready.n_ctx, 8192,
        "lowered to what the model was trained for"
    );
    assert_eq!(ready.n_ctx_train, 8192);
    assert_eq!(ready.parameters, 134_515_008);
    assert_eq!(ready.architecture, "llama");
    assert_eq!((ready.threads, ready.parallel), (1, 1));
    assert!(ready.chat);
    assert!(started.percents.is_sorted());
    assert_eq!(started.percents.last(), Some(&100));
    for layer in [
        "rlimits",
        "no-dumpable",
        "no-new-privs",
        "landlock-abi-",
        "seccomp",
    ] {
        assert!(
            started.layers.iter().any(|name| name.starts_with(layer)),
            "{layer} in {:?}",
            started.layers
        );
    }
}

#[test]
fn it_knows_the_capital_of_france_and_says_it_twice_alike() {
    let (mut engine, _) = start(&load());
    let first = engine.ask(complete(1, "The capital of France is", 16));
    assert!(first.text.contains("Paris"), "{}", first.text);
    let end = first.finished();
    assert_eq!((end.prompt_tokens, end.completion_tokens), (5, 16));
    assert_eq!(end.reason, FinishReason::Length);
    assert!(end.prefill_us > 0 && end.decode_us > 0);
    let second = engine.ask(complete(2, "The capital of France is", 16));
    assert_eq!(first.text, second.text);
}

#[test]
fn a_chat_ends_by_itself() {
    let (mut engine, _) = start(&load());
    let outcome = engine.ask(chat(1, "What is the capital of France? One sentence.", 200));
    let end = outcome.finished();
    assert_eq!(end.reason, FinishReason::Stop);
    assert!(outcome.text.contains("Paris"), "{}", outcome.text);
    assert!(!outcome.text.contains("<|im_end|>"));
}

#[test]
fn interleaved_requests_do_not_mix() {
    let (mut engine, _) = start(&load());
    let alone = [
        engine.ask(complete(1, "One, two, three, four,", 24)).text,
        engine.ask(complete(2, "The sun rises in the", 24)).text,
    ];
    engine.generate(complete(3, "One, two, three, four,", 24));
    engine.generate(complete(4, "The sun rises in the", 24));
    let [numbers, sun] = engine.outcomes([3, 4]);
    assert_eq!(numbers.finished().completion_tokens, 24);
    assert_eq!(sun.finished().completion_tokens, 24);
    // Batched arithmetic may round otherwise, so the answers need not be equal to the letter.
    assert!(numbers.text.contains("five") && !numbers.text.contains("sun"));
    assert_eq!(alone[0].get(..6), numbers.text.get(..6));
    assert_eq!(alone[1].get(..6), sun.text.get(..6));
}

#[test]
fn more_requests_than_agreed_are_refused() {
    let (mut engine, _) = start(&Load {
        parallel: 1,
        ..load()
    });
    engine.generate(complete(1, "Once upon a time", 64));
    engine.generate(complete(2, "Once upon a time", 1));
    let [first, second] = engine.outcomes([1, 2]);
    assert_eq!(first.finished().completion_tokens, 64);
    assert_eq!(second.failure().0, FailureCode::Overcommitted);
    // The place is free again.
    assert_eq!(
        engine.ask(complete(3, "Once", 2)).finished().id,
        RequestId(3)
    );
}

#[test]
fn a_long_prompt_reports_progress_and_can_be_cancelled() {
    let (mut engine, _) = start(&Load {
        n_ctx: 8192,
        parallel: 1,
        ..load()
    });
    engine.generate(complete(1, &"The quick brown fox jumps. ".repeat(1000), 8));
    let progress = engine.next_work().unwrap();
    let EngineEvent::Prefill {
        processed, total, ..
    } = progress
    else {
        panic!("{progress:?}");
    };
    assert!(processed > 0 && processed < total && total > 5000);
    let asked = Instant::now();
    engine.send(&Command::Cancel { id: RequestId(1) });
    let [outcome] = engine.outcomes([1]);
    assert_eq!(outcome.failure().0, FailureCode::Cancelled);
    // The step under way ends at once; other programs may need the processor as well.
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    engine.send(&Command::Cancel { id: RequestId(1) });
    engine.send(&Command::Cancel { id: RequestId(77) });
    assert!(
        engine
            .ask(complete(2, "The capital of France is", 8))
            .text
            .contains("Paris")
    );
    assert_eq!(
        engine.log(),
        "",
        "llama.cpp's warnings about stopped steps are not passed on"
    );
}

#[test]
fn a_stop_string_ends_the_answer_and_does_not_show() {
    let (mut engine, _) = start(&load());
    let outcome = engine.ask(Generate {
        stop: vec!["ris".to_owned(), "unlikely".to_owned()],
        ..complete(1, "The capital of France is", 64)
    });
    assert_eq!(outcome.text, " Pa");
    let end = outcome.finished();
    assert_eq!(end.reason, FinishReason::Stop);
    assert!(end.completion_tokens < 5);
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_its_size() {
    let (mut engine, _) = start(&Load {
        n_ctx: 64,
        ..load()
    });
    let (code, message, tokens) = engine.ask(complete(1, &"word ".repeat(100), 8)).failure();
    assert_eq!(code, FailureCode::ContextOverflow);
    assert!((100..=102).contains(&tokens), "{tokens}");
    assert!(message.contains(&tokens.to_string()) && message.contains("64"));
    let full = engine
        .ask(complete(2, &"word ".repeat(50), 1000))
        .finished();
    assert_eq!(full.reason, FinishReason::Length);
    assert_eq!(full.prompt_tokens + full.completion_tokens, 64);
}

#[test]
fn a_seed_makes_chance_repeat_itself() {
    let (mut engine, _) = start(&load());
    let mut roll = |id: u64, seed: Option<u32>| {
        let sampling = Sampling {
            temperature: 1.2,
            top_k: 50,
            top_p: 0.95,
            min_p: 0.01,
            repeat_penalty: 1.1,
            frequency_penalty: 0.1,
            presence_penalty: 0.1,
            seed,
        };
        engine
            .ask(Generate {
                sampling,
                ..complete(id, "Once upon a time", 24)
            })
            .text
    };
    let first = roll(1, Some(7));
    assert_eq!(first, roll(2, Some(7)));
    assert_ne!(first, roll(3, Some(8)));
    assert_ne!(roll(4, None), roll(5, None));
}

#[test]
fn a_penalty_keeps_an_answer_from_repeating() {
    let (mut engine, _) = start(&load());
    let prompt = "ha ha ha ha ha ha ha ha ha ha";
    let repeated = engine.ask(complete(1, prompt, 16)).text;
    assert!(repeated.matches("ha").count() >= 8, "{repeated}");
    let penalized = engine.ask(Generate {
        sampling: Sampling {
            repeat_penalty: 2.0,
            ..Sampling::GREEDY
        },
        ..complete(2, prompt, 16)
    });
    assert!(
        penalized.text.matches("ha").count() < 8,
        "{}",
        penalized.text
    );
}

#[test]
fn characters_of_several_tokens_come_whole() {
    let (mut engine, _) = start(&load());
    let outcome = engine.ask(complete(1, "🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃", 32));
    assert!(
        outcome.text.contains('🙂') || outcome.text.contains('🙃'),
        "{}",
        outcome.text
    );
    assert!(!outcome.text.contains('\u{fffd}'), "{}", outcome.text);
    // Any text at all gets an answer or a typed failure.
    for (id, text) in (2..).zip(["", " ", "\0", "\u{10ffff}", "<|im_start|>", "\r\n\t"]) {
        let outcome = engine.ask(complete(id, text, 2));
        assert!(outcome.end.is_some(), "{text:?}");
    }
}

#[test]
fn the_heartbeat_tells_work_from_rest() {
    let (mut engine, _) = start(&load());
    let mut beat = || loop {
        if let Some(EngineEvent::Heartbeat { progress, working }) = engine.next() {
            return (progress, working);
        }
    };
    let (loaded, _) = beat();
    assert!(loaded > 0, "loading is progress");
    let (_, working) = beat();
    assert!(!working);
    engine.generate(complete(1, "Once upon a time", 2000));
    // The first beats may come before the first step is done.
    loop {
        match engine.next().unwrap() {
            EngineEvent::Heartbeat { progress, working } if working && progress > loaded => break,
            EngineEvent::Finished(_) => panic!("no heartbeat told of the work"),
            _ => {}
        }
    }
}

#[test]
fn the_end_of_the_stream_is_the_end_of_the_engine_even_at_work() {
    let (mut engine, _) = start(&Load {
        n_ctx: 8192,
        ..load()
    });
    engine.generate(complete(1, &"The quick brown fox jumps. ".repeat(1000), 8));
    engine.next_work().unwrap();
    engine.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(engine.exit().code(), Some(0));
}

#[test]
fn a_model_without_a_chat_template_is_told_and_another_template_taken() {
    let broken = Load {
        chat_template: Some("{% for %}".to_owned()),
        ..load()
    };
    let (_engine, outcome) = Engine::try_start(BINARY, &broken, &test_model());
    let (code, message) = outcome.unwrap_err();
    assert_eq!(code, LoadFailure::Template, "{message}");

    let own = Load {
        chat_template: Some(
            "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}\
             {{ messages[0].content }} is"
                .to_owned(),
        ),
        ..load()
    };
    let (mut engine, _) = Engine::start(BINARY, &own, &test_model());
    let outcome = engine.ask(chat(1, "The capital of France", 8));
    assert!(outcome.text.contains("Paris"), "{}", outcome.text);
    let mut two = chat(2, "secret", 8);
    if let Prompt::Chat(messages) = &mut two.prompt {
        messages.extend(messages.clone());
    }
    let (code, message, _) = engine.ask(two).failure();
    assert_eq!(code, FailureCode::Template);
    assert!(message.contains("one message only"), "{message}");
}

fn refused(bytes: &[u8]) -> (LoadFailure, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let (mut engine, outcome) = Engine::try_start(BINARY, &load(), file.path());
    let failure = outcome.unwrap_err();
    assert_eq!(engine.exit().code(), Some(1), "{failure:?}");
    failure
}

#[test]
fn files_that_are_not_models_are_refused() {
    let model = std::fs::read(test_model()).unwrap();
    for bytes in [
        &b""[..],
        b"GGUF",
        b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x7f",
        &[0xa5; 4096],
        &model[..1 << 20],
        &model[..model.len() / 2],
        &model[..model.len() - 1],
    ] {
        let (code, message) = refused(bytes);
        assert_eq!(code, LoadFailure::Model, "{} bytes: {message}", bytes.len());
        assert!(message.contains("llama.cpp"), "{message}");
    }
}

#[test]
fn a_folder_is_not_a_model() {
    let (_engine, outcome) = Engine::try_start(BINARY, &load(), Path::new("/"));
    let (code, message) = outcome.unwrap_err();
    assert_eq!(code, LoadFailure::Model, "{message}");
}

#[test]
fn too_little_memory_ends_the_engine_and_nothing_else() {
    let (mut engine, outcome) = Engine::try_start(
        BINARY,
        &Load {
            n_ctx: 8192,
            parallel: 16,
            memory_bytes_max: Some(512 << 20),
            ..load()
        },
        &test_model(),
    );
    let (code, message) = outcome.unwrap_err();
    assert_eq!(code, LoadFailure::Memory, "{message}");
    assert_eq!(engine.exit().code(), Some(1));
}

fn handshake_failure(command: &Command, descriptors: usize) -> String {
    let mut engine = Engine::spawn(BINARY);
    let files: Vec<File> = (0..descriptors)
        .map(|_| File::open(test_model()).unwrap())
        .collect();
    engine.send_with(command, &files);
    let event = engine.next_work();
    let Some(EngineEvent::LoadFailed { code, message }) = event else {
        panic!("{event:?}");
    };
    assert_eq!(code, LoadFailure::Protocol);
    assert_eq!(engine.exit().code(), Some(2));
    message
}

#[test]
fn a_wrong_first_message_is_refused() {
    let future = Load {
        version: hob_ipc::VERSION + 1,
        ..load()
    };
    assert!(handshake_failure(&Command::Load(future), 1).contains("version"));
    assert!(handshake_failure(&Command::Load(load()), 0).contains("0 descriptors"));
    assert!(handshake_failure(&Command::Load(load()), 2).contains("2 descriptors"));
    let cancel = Command::Cancel { id: RequestId(1) };
    assert!(handshake_failure(&cancel, 1).contains("must be Load"));
}

#[test]
fn garbage_ends_the_engine_with_its_own_code() {
    let (mut engine, _) = start(&load());
    engine.socket.write_all(&[0xff; 64]).unwrap();
    assert_eq!(engine.exit().code(), Some(2));

    let mut silent = Engine::spawn(BINARY);
    silent.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(silent.exit().code(), Some(2));
}
