//! Asks the engine without hobd, and tells how fast it is.
//!
//! ```text
//! cargo run --release -p hob-engine --example ask -- MODEL.gguf "What is a dew point?"
//! ```
//! Options come from the environment: `HOB_ENGINE` (the binary; by default the one beside this
//! example), `ASK_TOKENS` (128), `ASK_THREADS`, `ASK_RAW` (go on from the text instead of
//! chatting), `ASK_TIMES` (1), `ASK_CTX` (2048), `ASK_PARALLEL` (2), `ASK_KV` (f16), `ASK_WEIGHTS`
//! (mapped), `ASK_LOCK`, `ASK_SANDBOX=off` (for debuggers), `HOB_ENGINE_LOG=debug` (with standard error
//! going to a pipe, such as `2>&1 | cat`: the engine may not write to files).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a small program for people who debug"
)]

#[path = "../tests/driver/mod.rs"]
mod driver;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use driver::Engine;
use hob_api::chat::Role;
use hob_ipc::EngineEvent;
use hob_ipc::memory::{KvType, Weights};
use hob_ipc::message::{ChatMessage, Load, Prompt, SandboxPolicy};

fn number(name: &str) -> Option<u32> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

/// The value that the variable names, or the first.
fn chosen<T: Copy, const N: usize>(name: &str, of: [T; N], as_str: fn(T) -> &'static str) -> T {
    let Ok(wanted) = std::env::var(name) else {
        return of[0];
    };
    *of.iter().find(|value| as_str(**value) == wanted).unwrap()
}

/// How much memory of which kind a process has, from `/proc`.
fn memory(pid: u32) -> String {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let wanted = ["Rss:", "Pss:", "Anonymous:", "Locked:", "VmData:", "VmHWM:"];
    let lines = rollup.lines().chain(status.lines());
    let found = lines.filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let words = found.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    words.collect::<Vec<_>>().join(", ")
}

fn beside() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent().unwrap().parent().unwrap().join("hob-engine")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, question] = &arguments[..] else {
        println!("usage: ask MODEL.gguf QUESTION");
        std::process::exit(2);
    };
    let sandbox = match std::env::var("ASK_SANDBOX").as_deref() {
        Ok("off") => SandboxPolicy::Off,
        _ => SandboxPolicy::Required,
    };
    let load = Load {
        sandbox,
        threads: number("ASK_THREADS"),
        n_ctx: number("ASK_CTX").unwrap_or(2048),
        parallel: number("ASK_PARALLEL").unwrap_or(2),
        kv_type: chosen("ASK_KV", KvType::ALL, KvType::as_str),
        weights: chosen(
            "ASK_WEIGHTS",
            [Weights::Mapped, Weights::Copied],
            Weights::as_str,
        ),
        lock: std::env::var_os("ASK_LOCK").is_some(),
        ..driver::load()
    };
    let binary = std::env::var_os("HOB_ENGINE").map_or_else(beside, PathBuf::from);
    let began = Instant::now();
    let (mut engine, started) = Engine::start(binary, &load, Path::new(model));
    println!("ready after {:.0?}: {started:?}", began.elapsed());
    println!("[{}]", memory(engine.child.id()));
    if let Some(mut log) = engine.child.stderr.take() {
        std::thread::spawn(move || {
            let mut line = [0; 4096];
            while let Ok(bytes @ 1..) = log.read(&mut line) {
                let _ = std::io::stderr().write_all(&line[..bytes]);
            }
        });
    }
    for id in 0..number("ASK_TIMES").unwrap_or(1) {
        ask(&mut engine, u64::from(id), question);
        println!("[{}]", memory(engine.child.id()));
    }
}

fn ask(engine: &mut Engine, id: u64, question: &str) {
    let mut request = driver::complete(id, question, number("ASK_TOKENS").unwrap_or(128));
    if std::env::var_os("ASK_RAW").is_none() {
        request.prompt = Prompt::Chat(vec![ChatMessage {
            role: Role::User,
            content: question.to_owned(),
        }]);
    }
    engine.generate(request);
    loop {
        match engine.next_work().unwrap() {
            EngineEvent::Delta { text, .. } => {
                print!("{text}");
                std::io::stdout().flush().unwrap();
            }
            EngineEvent::Finished(end) => {
                let rate = |tokens: u32, us: u64| f64::from(tokens) * 1e6 / us.max(1) as f64;
                println!(
                    "\n[{:?}: prompt {} tokens, {:.1}/s; answer {} tokens, {:.1}/s]",
                    end.reason,
                    end.prompt_tokens,
                    rate(end.prompt_tokens, end.prefill_us),
                    end.completion_tokens,
                    rate(end.completion_tokens, end.decode_us),
                );
                return;
            }
            EngineEvent::Failed { message, .. } => return println!("[{message}]"),
            event => println!("[{event:?}]"),
        }
    }
}
