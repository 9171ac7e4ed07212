//! What models are worth, by `hob models evaluate` and `compare`: the real programs, the real engine, a real
//! model.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hob_e2e::{Setup, TEST_MODEL, binary, refused};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A text of the project's own.
fn text() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}

fn hob(setup: &Setup, arguments: &[&str]) -> Command {
    let mut command = setup.command(&binary("hob"));
    command
        .arg("models")
        .args(arguments)
        .env("HOB_ENGINE_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn done(output: &Output) -> &Output {
    assert!(output.status.success(), "{output:?}");
    output
}

/// A store of one's own with the test model in it, the same once more as "twin", and one with fewer tokens
/// as "pruned".
fn setup() -> Setup {
    let setup = Setup::own();
    let file = setup.models_dir().join(format!("{TEST_MODEL}.gguf"));
    let file = file.to_str().unwrap();
    done(
        &hob(&setup, &["import", file, "--name", "twin"])
            .output()
            .unwrap(),
    );
    // As much as is read soon.
    let beginning: String = fs::read_to_string(text())
        .unwrap()
        .chars()
        .take(6000)
        .collect();
    let corpus = setup.home().join("corpus.txt");
    fs::write(&corpus, beginning).unwrap();
    let corpus = [
        "shrink",
        TEST_MODEL,
        "--out",
        "pruned",
        "--corpus",
        corpus.to_str().unwrap(),
    ];
    done(&hob(&setup, &corpus).output().unwrap());
    setup
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_model_is_like_its_twin_and_another_vocabulary_is_not_compared_by_tokens() {
    let setup = setup();
    let text = text();
    let text = text.to_str().unwrap();
    let page = setup.home().join("page.html");
    let small = ["--quick", "--pieces", "2", "--windows", "2", "--text", text];
    let compared = hob(&setup, &["compare", TEST_MODEL, "twin", "--json", "--html"])
        .arg(&page)
        .args(small)
        .output()
        .unwrap();
    let card: Value = serde_json::from_slice(&done(&compared).stdout).unwrap();
    assert_eq!(
        (&card["pieces"], &card["against"]),
        (&2.into(), &TEST_MODEL.into())
    );
    let [one, twin] = [0, 1].map(|at| &card["models"][at]);
    let bits = number(&one["bits_per_byte"]["value"]);
    assert!((0.3..3.0).contains(&bits), "{card}");
    let perplexity = number(&one["perplexity"]["value"]);
    assert!((2.0..200.0).contains(&perplexity), "{card}");
    // Sums of the same numbers, in the same order.
    assert!(number(&twin["difference"]["value"]).abs() < 1e-9, "{card}");
    assert!(
        number(&twin["perplexity_percent_more"]["value"]).abs() < 1e-6,
        "{card}"
    );
    let apart = &twin["against"];
    assert!(number(&apart["divergence"]["value"]) < 1e-9, "{card}");
    assert!(
        (number(&apart["agreement"]["value"]) - 1.0).abs() < 1e-9,
        "{card}"
    );
    assert_eq!(twin["windows"], 2);
    assert_eq!(one["vocabulary"], 49_152);
    for figure in [
        "prefill_per_second",
        "decode_per_second",
        "memory_peak_bytes",
    ] {
        assert!(number(&one[figure]) > 0.0, "{figure}: {card}");
    }
    assert_eq!(one["languages"].as_array().unwrap().len(), 16);

    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(TEST_MODEL) && page.contains("<svg") && page.ends_with("</html>\n"));

    // A model that lost tokens alone expects the others as before, if it read the same. Were its table of
    // tokens stored as Q5_0, it would be a hundredth apart.
    let pruned = hob(&setup, &["compare", TEST_MODEL, "pruned", "--json"])
        .args(small)
        .output()
        .unwrap();
    let card: Value = serde_json::from_slice(&done(&pruned).stdout).unwrap();
    let apart = &card["models"][1]["against"];
    assert_eq!(apart["pieces"], 2);
    assert!(number(&apart["divergence"]["value"]) < 1e-5, "{card}");
    assert!(number(&apart["agreement"]["value"]) > 0.99, "{card}");
    let others = number(&apart["other_tokens"]["value"]);
    assert!((0.005..0.2).contains(&others), "{card}");
    // The other way round some tokens are not there.
    let unlike = hob(&setup, &["evaluate", TEST_MODEL, "--against", "pruned"])
        .args(small)
        .output()
        .unwrap();
    assert!(refused(&unlike).contains("another vocabulary"));
    let less = ["--quick", "--pieces", "1", "--windows", "1", "--text", text];
    let compared = hob(&setup, &["compare", "pruned", TEST_MODEL])
        .args(less)
        .output()
        .unwrap();
    let card = String::from_utf8(done(&compared).stdout.clone()).unwrap();
    for line in [
        "bits per byte",
        "more than",
        "perplexity",
        "tokens/100 bytes, Hindi",
    ] {
        assert!(card.contains(line), "{line}: {card}");
    }
    assert!(!card.contains("divergence"), "{card}");
}

#[test]
fn what_can_not_be_measured_is_refused_at_once() {
    let setup = Setup::real();
    let write = |name: &str, text: &[u8]| {
        let path = setup.home().join(name);
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let tiny = write("tiny.txt", b"abc");
    let latin = write("latin1.txt", b"caf\xe9 au lait");
    let text = text().into_os_string().into_string().unwrap();
    let pipe = setup.home().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let pipe = pipe.to_str().unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&[TEST_MODEL, "--text", &tiny], "too short"),
        (&[TEST_MODEL, "--text", &latin], "UTF-8"),
        (&[TEST_MODEL, "--text", pipe], "regular file"),
        (&[TEST_MODEL, "--text", "/dev/zero"], "regular file"),
        (&[TEST_MODEL, "--against", TEST_MODEL], "--text"),
        (
            &[TEST_MODEL, "--html", "/nowhere/page.html"],
            "can't be written",
        ),
        (&[TEST_MODEL, "--html", "/"], "can't be written"),
        (&["nobody", "--text", &text], "not installed"),
    ];
    for (arguments, reason) in cases {
        let output = hob(&setup, &["evaluate"]).args(arguments).output().unwrap();
        let said = refused(&output);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[test]
fn ctrl_c_ends_it_soon() {
    let setup = Setup::real();
    let text = text();
    let arguments = ["evaluate", TEST_MODEL, "--text", text.to_str().unwrap()];
    let run = hob(&setup, &arguments).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    let asked = Instant::now();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    // The engine's next heartbeat at the latest, on a machine that may be busy.
    assert!(asked.elapsed() < Duration::from_secs(30));
}

/// An engine that neither reads nor says anything writes its own number first, so that it is known to run.
#[test]
fn ctrl_c_ends_it_though_the_engine_says_nothing() {
    use std::os::unix::fs::PermissionsExt as _;

    let setup = Setup::real();
    let (engine, pid) = (setup.home().join("mute"), setup.home().join("pid"));
    let script = format!(
        "#!/bin/sh\necho $$ >{}\nexec /bin/sleep 600\n",
        pid.display()
    );
    fs::write(&engine, script).unwrap();
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).unwrap();
    let text = text();
    let arguments = ["evaluate", TEST_MODEL, "--text", text.to_str().unwrap()];
    let mut command = hob(&setup, &arguments);
    let run = command.env("HOB_ENGINE_PATH", &engine).spawn().unwrap();
    while !fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n')) {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    // Not "it has said nothing for 30 s".
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

/// The example of a home, and where a daemon's own folder is made.
fn home_files(setup: &Setup, sentences: &str) -> (PathBuf, PathBuf, PathBuf) {
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/house.json");
    let (file, temporary) = (setup.home().join("said.jsonl"), setup.home().join("tmp"));
    fs::write(&file, sentences).unwrap();
    fs::create_dir_all(&temporary).unwrap();
    (definition, file, temporary)
}

/// `hob models evaluate` with a home.
fn with_home(setup: &Setup, sentences: &str) -> (Command, PathBuf) {
    let (definition, file, temporary) = home_files(setup, sentences);
    let mut command = hob(setup, &["evaluate", TEST_MODEL, "--quick", "--json"]);
    command
        .arg("--home")
        .args([definition, file])
        .env("TMPDIR", &temporary);
    (command, temporary)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn what_is_said_at_a_home_is_read_and_judged_and_nothing_is_left() {
    let setup = Setup::own();
    let sentences = "{\"text\": \"turn on the desk lamp\", \"tool\": \"turn_on\", \"targets\": [\"light.desk\"]}\n\n\
        {\"text\": \"lock the front door\", \"tool\": \"lock\", \"targets\": [\"lock.front\"]}\n\
        {\"text\": \"lock the front door\", \"outcome\": \"talk\"}\n";
    // An audit's card, as `hob fairness audit` writes it: the figures that count are shown with the others.
    let manifest = fs::read_to_string(setup.models_dir().join(format!("{TEST_MODEL}.toml")));
    let sha256 = manifest.unwrap();
    let sha256 = sha256
        .lines()
        .find_map(|line| line.strip_prefix("sha256 = "))
        .unwrap();
    let figure = r#"{"measure": "ambiguous_right", "is_bias": false, "value": 0.25, "interval": [0.125, 0.5]}"#;
    let card = format!(
        r#"{{"model_sha256": {sha256}, "scope": "SCOPE", "sets": [{{"set": "BBQ", "questions": 7,
            "scored": [{{"counts": true, "figures": [{figure}]}}]}}]}}"#
    );
    fs::write(
        setup
            .models_dir()
            .join(format!("{TEST_MODEL}.fairness.json")),
        card,
    )
    .unwrap();

    let (mut command, temporary) = with_home(&setup, sentences);
    let card: Value = serde_json::from_slice(&done(&command.output().unwrap()).stdout).unwrap();
    let model = &card["models"][0];
    let home = &model["home"];
    assert_eq!(home["sentences"], 3, "{home}");
    // By words the first two are certain, and the third is a call that is not meant.
    let words = &home["words"];
    let counts =
        |of: &Value| ["exact", "wrong_call", "not_done"].map(|key| of[key].as_u64().unwrap());
    assert_eq!(counts(words), [2, 1, 0], "{home}");
    assert_eq!(counts(&home["model"]).iter().sum::<u64>(), 3, "{home}");
    assert_eq!(home["where_words_fail"]["sentences"], 1, "{home}");
    assert!(number(&home["model_ms_median"]) > 0.0, "{home}");
    let fairness = &model["fairness"];
    assert_eq!(
        (&fairness["questions"], &fairness["scope"]),
        (&7.into(), &"SCOPE".into())
    );
    assert_eq!(fairness["figures"][0]["measure"], "ambiguous_right");
    assert!(is_empty(&temporary));
}

#[test]
fn a_home_that_is_none_and_labels_that_are_not_its_are_named() {
    let setup = Setup::real();
    let talk = "{\"text\": \"hello\", \"outcome\": \"talk\"}\n";
    for (wrong, reason) in [
        (
            "{\"text\": \"x\", \"tool\": \"fly\"}",
            "line 2: the home has no tool \"fly\"",
        ),
        ("{\"text\": \"x\"", "said.jsonl, line 2: "),
    ] {
        let (mut command, temporary) = with_home(&setup, &format!("{talk}{wrong}\n"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = refused(&output);
        assert!(said.contains(reason), "{said}");
        assert!(is_empty(&temporary));
    }
    let (_, file, temporary) = home_files(&setup, talk);
    let definition = setup.home().join("broken.json");
    fs::write(&definition, "{\"tools\": 3}").unwrap();
    let output = hob(&setup, &["evaluate", TEST_MODEL, "--quick", "--home"])
        .args([definition, file])
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let said = refused(&output);
    assert!(
        said.contains("broken.json: ") && said.contains("tools"),
        "{said}"
    );
    assert!(is_empty(&temporary));
}

/// Waits for the socket of the daemon that `hob` started.
fn socket_in(temporary: &Path) -> PathBuf {
    loop {
        let folders = fs::read_dir(temporary).unwrap().flatten();
        let sockets = folders.map(|folder| folder.path().join("hob.sock"));
        for socket in sockets {
            if UnixStream::connect(&socket).is_ok() {
                return socket;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_daemon_of_a_home_ends_with_who_started_it() {
    let setup = Setup::real();
    let sentence = "{\"text\": \"turn on the desk lamp\", \"outcome\": \"talk\"}\n";
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let (mut command, temporary) = with_home(&setup, &sentence.repeat(1000));
        let run = command.spawn().unwrap();
        let socket = socket_in(&temporary);
        kill_process(Pid::from_child(&run), signal).unwrap();
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code, "{output:?}");
        // Of one that was killed the folder stays, but the daemon does not.
        let asked = Instant::now();
        while UnixStream::connect(&socket).is_ok() {
            assert!(asked.elapsed() < Duration::from_secs(60), "{signal:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(is_empty(&temporary), signal == Signal::INT);
    }
}
