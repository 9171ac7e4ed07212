//! `hob` as a person and a script use it: the real binary against a real hobd, in a real
//! terminal where it needs one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

#[path = "cli/conversations.rs"]
mod conversations;
#[path = "cli/terminal.rs"]
mod terminal;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hob_api::status::{State, Status};
use hob_e2e::{Daemon, Setup, binary, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Runs `hob` with `input` on stdin.
fn run_with(command: &mut Command, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("running hob");
    // hob may refuse before it has read everything.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("waiting for hob")
}

fn run(daemon: &Daemon, arguments: &[&str]) -> Output {
    run_with(&mut daemon.hob(), arguments, b"")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8 on stdout")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8 on stderr")
}

/// The output of a run that must succeed and say nothing on stderr.
fn answer(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stderr(output), "");
    stdout(output)
}

/// Asserts that a run failed with `code`, a cause that contains `cause`, and a hint with `hint`.
fn assert_failed(output: &Output, code: i32, cause: &str, hint: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let told = stderr(output);
    let (causes, hints) = told.split_once("\n hint: ").unwrap_or((&told, ""));
    assert!(
        causes.contains("error: ") && causes.contains(cause),
        "{told}"
    );
    assert!(hints.contains(hint), "{told}");
}

async fn until_idle(daemon: &Daemon) -> Status {
    daemon
        .until_status("no question is being answered", |status| status.active == 0)
        .await
}

#[tokio::test]
async fn a_question_is_answered() {
    let daemon = Setup::fake().ready().await;
    assert_eq!(answer(&run(&daemon, &["one two three"])), "one two three\n");
    assert_eq!(answer(&run(&daemon, &["one", "two"])), "one two\n");
    assert_eq!(answer(&run(&daemon, &["ask", "--", "status"])), "status\n");
}

#[tokio::test]
async fn stdin_is_context_or_question() {
    let daemon = Setup::fake().ready().await;
    let piped = run_with(&mut daemon.hob(), &["sum up"], b"one\ntwo\n");
    assert_eq!(answer(&piped), "sum up\n\none\ntwo\n");
    let alone = run_with(&mut daemon.hob(), &[], b"one two\n");
    assert_eq!(answer(&alone), "one two\n");

    let nothing = run_with(&mut daemon.hob(), &[], b"");
    assert_failed(&nothing, 2, "there is no question", "pipe it in");
    let long = run_with(&mut daemon.hob(), &["sum up"], &vec![b'x'; 300 * 1024]);
    assert_failed(&long, 2, "more than 256 KiB", "tail");
}

#[tokio::test]
async fn options_reach_the_engine() {
    let daemon = Setup::fake().ready().await;
    let arguments = [
        "--system",
        "Be brief.",
        "--max-tokens",
        "7",
        "--temperature",
        "0.5",
        "--seed",
        "42",
        "fake: show",
    ];
    let request: Value = serde_json::from_str(&answer(&run(&daemon, &arguments))).unwrap();
    let text = request.to_string();
    for part in ["Be brief.", "\"max_tokens\":7", "0.5", "42"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn json_is_one_object_also_for_errors() {
    let daemon = Setup::fake().ready().await;
    let output = answer(&run(&daemon, &["--json", "one two three"]));
    let json: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(json["text"], "one two three");
    assert_eq!(json["finish_reason"], "stop");
    assert_eq!(json["usage"]["completion_tokens"], 3);
    assert_eq!(json["model"], "fake");
    assert!(json["timings"]["decode_ms"].is_number(), "{json}");

    let failed = run(&daemon, &["--json", "fake: crash after 1"]);
    assert_eq!(failed.status.code(), Some(7), "{failed:?}");
    let json: Value = serde_json::from_str(&stdout(&failed)).expect("JSON");
    assert_eq!(json["error"]["exit_code"], 7);
    assert!(json["error"]["message"].is_string() && json["error"]["hint"].is_string());
}

/// A `hob` that has begun to print an answer without an end, and the rest of its output.
fn streaming(daemon: &Daemon) -> (Child, ChildStdout) {
    let mut hob = daemon
        .hob()
        .arg("fake: slow 50 1000000")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = hob.stdout.take().unwrap();
    let mut first = [0; 5];
    pipe.read_exact(&mut first).expect("the first word");
    assert_eq!(&first, b"word ");
    (hob, pipe)
}

#[tokio::test]
async fn tokens_come_as_they_are_made_and_a_reader_may_leave() {
    let daemon = Setup::fake().ready().await;
    let (hob, pipe) = streaming(&daemon);
    assert_eq!(
        daemon.status().await.active,
        1,
        "the answer goes on meanwhile"
    );
    drop(pipe);
    let output = hob.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stderr(&output), "");
    until_idle(&daemon).await;
}

#[tokio::test]
async fn an_interrupt_cancels() {
    let daemon = Setup::fake().ready().await;
    let (mut hob, mut pipe) = streaming(&daemon);
    let pid = Pid::from_child(&hob);
    kill_process(pid, Signal::INT).unwrap();
    let mut rest = String::new();
    pipe.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with('\n'), "{rest:?}");
    assert_eq!(hob.wait().unwrap().code(), Some(130));
    until_idle(&daemon).await;
}

#[tokio::test]
async fn an_interrupted_program_gets_its_one_object() {
    let daemon = Setup::fake().ready().await;
    let hob = daemon
        .hob()
        .args(["--json", "fake: slow 50 1000000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the answer goes on", async || {
        (daemon.status().await.active == 1).then_some(())
    })
    .await;
    kill_process(Pid::from_child(&hob), Signal::INT).unwrap();
    let output = hob.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let json: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(json["error"]["exit_code"], 130);
}

#[tokio::test]
async fn escape_sequences_do_not_come_through() {
    let daemon = Setup::fake().ready().await;
    let exact = "\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\rend\u{202e}";
    let shown = answer(&run(&daemon, &["fake: escape"]));
    assert_eq!(shown, "␛[31mred␛]0;title␇<U+009B>2Jend<U+202E>\n");
    assert_eq!(answer(&run(&daemon, &["--raw", "fake: escape"])), exact);

    let json = answer(&run(&daemon, &["--json", "fake: escape"]));
    assert!(
        json.chars().all(|c| c == '\n' || !c.is_control()),
        "{json:?}"
    );
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["text"], exact);
}

#[tokio::test]
async fn without_a_daemon_it_says_how_to_start_one() {
    let setup = Setup::empty();
    for arguments in [&["hello"][..], &["status"]] {
        let output = run_with(&mut setup.command(&binary("hob")), arguments, b"");
        assert_failed(&output, 3, "no hob daemon answers", "hobd --user");
    }
    let doctor = run_with(&mut setup.command(&binary("hob")), &["doctor"], b"");
    assert_eq!(doctor.status.code(), Some(1));
    assert!(stdout(&doctor).contains("✗ socket"), "{doctor:?}");
}

#[tokio::test]
async fn failures_have_their_own_exit_codes() {
    let daemon = Setup::fake_load("n_ctx 64").ready().await;
    let unknown = run(&daemon, &["--model", "nonesuch", "hello"]);
    assert_failed(&unknown, 7, "nonesuch", "");
    let long = run(&daemon, &[&"word ".repeat(100)]);
    assert_failed(&long, 5, "100", "");
    assert!(stderr(&long).contains("64"), "{long:?}");
    let slow = run(&daemon, &["--timeout", "500ms", "fake: slow 50 1000000"]);
    assert_eq!(slow.status.code(), Some(6), "{slow:?}");
    let lost = run(&daemon, &["fake: crash after 2"]);
    assert_failed(&lost, 7, "", "");
    assert_eq!(stdout(&lost), "word word \n");
    for usage in [
        &["--timeout", "30", "x"][..],
        &["stauts"],
        &["--max-tokens", "5", "status"],
    ] {
        assert_eq!(run(&daemon, usage).status.code(), Some(2), "{usage:?}");
    }
}

#[tokio::test]
async fn a_model_that_loads_is_waited_for() {
    let daemon = Setup::fake_load("slow 1500").start().await;
    assert_eq!(daemon.status().await.state, State::Loading);
    assert_eq!(answer(&run(&daemon, &["one two"])), "one two\n");
}

#[tokio::test]
async fn status_and_doctor_tell_what_is_wrong() {
    let daemon = Setup::fake().ready().await;
    let table = answer(&run(&daemon, &["status"]));
    assert!(
        table.starts_with("state     ready\nmodel     fake"),
        "{table}"
    );
    let json = answer(&run(&daemon, &["status", "--json"]));
    let status: Status = serde_json::from_str(&json).expect("a status");
    assert_eq!(status.state, State::Ready);
    let doctor = stdout(&run(&daemon, &["doctor"]));
    for line in [
        "✓ daemon",
        "✓ state",
        "✓ models",
        "! sandbox",
        "cpu",
        "memory",
    ] {
        assert!(doctor.contains(line), "{line}: {doctor}");
    }

    let empty = Setup::empty().start().await;
    empty.until(State::NoModel).await;
    let status = run(&empty, &["status"]);
    assert_eq!(status.status.code(), Some(7), "{status:?}");
    assert!(stdout(&status).contains("hob models pull"), "{status:?}");
    assert_failed(&run(&empty, &["hello"]), 7, "no model", "hob models pull");
    let doctor = run(&empty, &["doctor", "--json"]);
    assert_eq!(doctor.status.code(), Some(1));
    let checks: Vec<Value> = serde_json::from_str(&stdout(&doctor)).expect("JSON");
    let models = checks
        .iter()
        .find(|check| check["name"] == "models")
        .unwrap();
    assert_eq!(models["verdict"], "problem");
}

#[tokio::test]
async fn completions_and_man_pages_are_made() {
    let setup = Setup::empty();
    let hob = || setup.command(&binary("hob"));
    for shell in ["bash", "zsh", "fish"] {
        let script = answer(&run_with(&mut hob(), &["completions", shell], b""));
        assert!(
            script.contains("doctor") && script.contains("max-tokens"),
            "{shell}"
        );
    }
    let folder = setup.home().to_str().unwrap();
    answer(&run_with(&mut hob(), &["generate", "man", folder], b""));
    let page = fs::read_to_string(setup.home().join("hob.1")).unwrap();
    assert!(
        page.contains("Exit codes") && page.contains("HOB"),
        "{page}"
    );
    assert!(setup.home().join("hob-models-pull.1").is_file());
}

#[tokio::test]
async fn an_answer_keeps_to_the_schema_in_a_file() {
    let daemon = Setup::real().ready().await;
    let file = daemon.home().join("bird.json");
    let schema = r#"{"type": "object", "properties": {"bird": {"enum": ["robin", "wren"]}},
        "required": ["bird"], "additionalProperties": false}"#;
    fs::write(&file, schema).unwrap();
    let file = file.to_str().unwrap();
    let answer = run(&daemon, &["--schema", file, "Name a bird."]);
    let bird: serde_json::Value = serde_json::from_str(&stdout(&answer)).unwrap();
    assert!(["robin", "wren"].contains(&bird["bird"].as_str().unwrap()));
    fs::write(file, "{").unwrap();
    let refused = run(&daemon, &["--schema", file, "Name a bird."]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    fs::write(file, r#"{"enum": []}"#).unwrap();
    let refused = run(&daemon, &["--schema", file, "Name a bird."]);
    assert_ne!(refused.status.code(), Some(0));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("hint"), "{stderr}");
}

#[tokio::test]
async fn the_real_model_repeats_itself_for_a_seed() {
    let daemon = Setup::real().ready().await;
    let arguments = ["--seed", "7", "--max-tokens", "16", "Name a colour."];
    let first = run(&daemon, &arguments);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert!(stdout(&first).trim().len() > 1, "{first:?}");
    assert_eq!(stdout(&run(&daemon, &arguments)), stdout(&first));
}
