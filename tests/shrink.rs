//! Smaller models made by `hob models shrink`: the real programs, the real engine, a real model.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

#[path = "shrink/importance.rs"]
mod importance;
#[path = "shrink/layers.rs"]
mod layers;
#[path = "shrink/quantize.rs"]
mod quantize;
#[path = "shrink/search.rs"]
mod search;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use hob_api::chat::ChatCompletion;
use hob_e2e::{Gguf, Setup, TEST_MODEL, binary, refused};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What the small models are for: the project's own documents.
fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The beginning of one, so that a model has read it soon.
fn corpus() -> PathBuf {
    static BEGINNING: LazyLock<PathBuf> = LazyLock::new(|| {
        let text = fs::read_to_string(document("README.md")).unwrap();
        let beginning: String = text.chars().take(6000).collect();
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shrink-corpus.txt");
        fs::write(&path, beginning).unwrap();
        path
    });
    BEGINNING.clone()
}

/// A model `fine`, with weights of 8 bits that may be stored more coarsely.
const TO_FINE: [&str; 7] = [
    "--vocab",
    "keep",
    "--quant",
    "Q8_0",
    "--requantize",
    "--out",
    "fine",
];

fn shrink(setup: &Setup, arguments: &[&str]) -> Command {
    shrink_of(setup, TEST_MODEL, arguments)
}

fn shrink_of(setup: &Setup, model: &str, arguments: &[&str]) -> Command {
    // nohup(1) ignores the signal for whatever it starts, these tests too, and hob keeps to that.
    let mut command = setup.command(Path::new("/usr/bin/env"));
    command
        .arg("--default-signal=HUP")
        .arg(binary("hob"))
        .args(["models", "shrink", model])
        .args(arguments)
        .env("HOB_ENGINE_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(setup: &Setup, arguments: &[&str]) -> Output {
    shrink(setup, arguments).output().unwrap()
}

fn hob(setup: &Setup, arguments: &[&str]) -> String {
    let mut command = setup.command(&binary("hob"));
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What lies in the store.
fn files(setup: &Setup) -> Vec<String> {
    let mut files: Vec<String> = fs::read_dir(setup.models_dir())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files
}

fn untouched() -> [String; 2] {
    ["gguf", "toml"].map(|kind| format!("{TEST_MODEL}.{kind}"))
}

#[tokio::test]
async fn a_smaller_model_is_installed_and_answers() {
    let small = format!("{TEST_MODEL}-small");
    let setup = Setup::own().toml(&format!("model = {small:?}"));
    let corpus = corpus();
    let made = run(&setup, &["--json", "--corpus", corpus.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let (before, after) = (&made["size_bytes_before"], &made["size_bytes"]);
    assert!(after.as_u64().unwrap() * 100 < before.as_u64().unwrap() * 80);
    assert_eq!(made["vocabulary_before"], 49_152);
    assert!(made["vocabulary"].as_u64().unwrap() <= 49_152 / 2, "{made}");
    // All that the corpus is of is kept, so that it is the same tokens.
    let lineage = &made["lineage"];
    assert_eq!(lineage["corpus_tokens"], lineage["corpus_tokens_before"]);
    assert_eq!(
        lineage["corpus_bytes"],
        fs::metadata(&corpus).unwrap().len()
    );
    assert_eq!(lineage["source"], TEST_MODEL);
    assert_eq!(made["licence"], "Apache-2.0");
    for language in made["languages"].as_array().unwrap() {
        let count = |key: &str| language[key].as_u64().unwrap();
        assert!(count("tokens") >= count("tokens_before"), "{language}");
        assert!(count("tokens") <= count("bytes"), "{language}");
    }

    let list: Value = serde_json::from_str(&hob(&setup, &["models", "list", "--json"])).unwrap();
    let listed = list.as_array().unwrap();
    let listed = listed.iter().find(|model| model["name"] == small).unwrap();
    assert_eq!(listed["lineage"], *lineage);
    assert_eq!(listed["sha256"], made["sha256"]);
    assert!(hob(&setup, &["models", "list"]).contains("MADE OF"));
    let shown = hob(&setup, &["models", "show", &small]);
    assert!(shown.contains("vocabulary pruned from 49152"), "{shown}");
    assert!(hob(&setup, &["models", "verify", &small]).contains("verified"));

    // A copy of its file under another name is one that was made, too, and nobody has seen how fair it is.
    let copy = setup.home().join("copy.gguf");
    fs::copy(setup.models_dir().join(format!("{small}.gguf")), &copy).unwrap();
    let copy = copy.to_str().unwrap();
    hob(&setup, &["models", "import", copy, "--name", "copy"]);
    let list: Value = serde_json::from_str(&hob(&setup, &["models", "list", "--json"])).unwrap();
    let listed = list.as_array().unwrap();
    let listed = listed.iter().find(|model| model["name"] == "copy").unwrap();
    assert_eq!(listed["lineage"]["source"], TEST_MODEL, "{listed}");
    assert_eq!(listed["lineage"]["source_sha256"], lineage["source_sha256"]);
    let used = setup
        .command(&binary("hob"))
        .args(["models", "use", "copy"])
        .output()
        .unwrap();
    assert_eq!(used.status.code(), Some(8), "{used:?}");

    // The same tokens, and fewer that could have been others: none is less likely than before.
    let mut command = setup.command(&binary("hob"));
    command
        .args([
            "models",
            "evaluate",
            TEST_MODEL,
            &small,
            "--json",
            "--pieces",
            "1",
            "--windows",
            "0",
            "--quick",
            "--text",
        ])
        .arg(&corpus)
        .env("HOB_ENGINE_THREADS", "1");
    let measured: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let apart = &measured["models"][1]["difference"]["value"];
    assert!(apart.as_f64().unwrap() < 0.001, "{measured}");

    let daemon = setup.ready().await;
    let body = json!({
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 32,
    });
    let answer: ChatCompletion = daemon
        .client()
        .post("/v1/chat/completions", &body)
        .await
        .json();
    let text = answer.choices[0].message.content.as_deref().unwrap();
    assert!(text.contains("Paris"), "{text}");
    assert_eq!(answer.model, small);
}

#[test]
fn what_can_not_be_done_is_refused_and_changes_nothing() {
    let setup = Setup::own();
    let write = |name: &str, text: &[u8]| {
        let path = setup.home().join(name);
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let text = corpus().into_os_string().into_string().unwrap();
    let latin = write("latin1.txt", b"caf\xe9 au lait");
    let wide = write("utf16.txt", b"\xff\xfeh\0i\0");
    let blank = write("blank.txt", b" \n\n");
    let short = write("short.txt", b"Hi.");
    let cases: [(&[&str], &str); 10] = [
        (&["--corpus", &short], "3 bytes, too few"),
        (&["--corpus", &latin], "UTF-8"),
        (&["--corpus", &text, &wide], "UTF-8"),
        (&["--corpus", &blank], "no text"),
        (&["--corpus", "/"], "regular file"),
        (&["--corpus", "/nowhere.txt"], "cannot be read"),
        (&["--corpus", &text, "--vocab", "200"], "have to stay"),
        (&["--corpus", &text, "--vocab", "49152"], "all of them"),
        (&["--corpus", &text, "--vocab", "few"], "a number of tokens"),
        (
            &["--corpus", &text, "--out", TEST_MODEL],
            "installed already",
        ),
    ];
    for (arguments, reason) in cases {
        let said = refused(&run(&setup, arguments));
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert_eq!(files(&setup), untouched(), "{arguments:?}");
    }
    let no_engine = shrink(&setup, &["--corpus", &text])
        .env("HOB_ENGINE_PATH", "/nowhere/hob-engine")
        .output()
        .unwrap();
    assert!(refused(&no_engine).contains("HOB_ENGINE_PATH"));
    // An engine that ends at once.
    let no_engine = shrink(&setup, &["--corpus", &text])
        .env("HOB_ENGINE_PATH", "/bin/true")
        .output()
        .unwrap();
    assert!(refused(&no_engine).contains("the engine ended"));
    assert_eq!(files(&setup), untouched());
}

#[test]
fn an_engine_that_lies_is_found_out() {
    let setup = Setup::own();
    let lying = shrink(&setup, &["--corpus", corpus().to_str().unwrap()])
        .env("HOB_ENGINE_PATH", binary("fake-engine"))
        .output()
        .unwrap();
    let said = refused(&lying);
    assert!(said.contains("impossible answer"), "{said}");
    assert_eq!(lying.status.code(), Some(7));
    assert_eq!(files(&setup), untouched());
}

#[test]
fn other_architectures_are_refused_by_name() {
    let other = Gguf::tiny("other")
        .string("tokenizer.ggml.pre", "default")
        .bytes();
    let setup = Setup::empty().with_real_engine().install("other", &other);
    let mut command = setup.command(&binary("hob"));
    command
        .args(["models", "shrink", "other", "--corpus"])
        .arg(corpus());
    let said = refused(&command.output().unwrap());
    assert!(said.contains("token_type"), "{said}");
}

#[test]
fn a_full_disk_leaves_nothing() {
    let setup = Setup::own();
    // With the signal ignored, a write beyond the limit fails, as on a full disk.
    let mut shell = setup.command(Path::new("sh"));
    shell.args(["-c", "trap '' XFSZ; ulimit -f 65536; exec \"$@\"", "sh"]);
    shell
        .arg(binary("hob"))
        .args(["models", "shrink", TEST_MODEL]);
    shell.arg("--corpus").arg(corpus());
    let said = refused(&shell.output().unwrap());
    assert!(said.contains("the disk is full"), "{said}");
    assert_eq!(files(&setup), untouched());
}

#[test]
fn of_two_at_once_one_waits_for_nobody_and_leaves() {
    let setup = Setup::own();
    let text = corpus().into_os_string().into_string().unwrap();
    let arguments = ["--corpus", text.as_str()];
    let runs = [(), ()].map(|()| shrink(&setup, &arguments).spawn().unwrap());
    let outputs = runs.map(|run| run.wait_with_output().unwrap());
    let [good, bad] = if outputs[0].status.success() {
        [&outputs[0], &outputs[1]]
    } else {
        [&outputs[1], &outputs[0]]
    };
    assert!(good.status.success(), "{outputs:?}");
    let said = refused(bad);
    // Which of the two it says depends on how far the other one was.
    assert!(
        said.contains("another process") || said.contains("installed already"),
        "{said}"
    );
    hob(&setup, &["models", "verify"]);
}

/// Starts a run over a long corpus, and waits until it has begun to write its model's name.
fn begun(setup: &Setup) -> std::process::Child {
    let long = setup.home().join("long.txt");
    let text = fs::read_to_string(corpus()).unwrap();
    fs::write(&long, text.repeat(2000)).unwrap();
    let run = shrink(setup, &["--corpus", long.to_str().unwrap()])
        .spawn()
        .unwrap();
    // The lock, and the file itself.
    while files(setup).len() < 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    run
}

#[test]
fn ctrl_c_and_its_like_leave_nothing() {
    let setup = Setup::own();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let run = begun(&setup);
        kill_process(Pid::from_child(&run), signal).unwrap();
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert_eq!(files(&setup), untouched(), "{signal:?}");
    }
}

#[test]
fn a_killed_run_leaves_no_model_and_the_next_one_clears_up() {
    let setup = Setup::own();
    let mut run = begun(&setup);
    run.kill().unwrap();
    run.wait().unwrap();
    let list = hob(&setup, &["models", "list"]);
    assert!(!list.contains("-small"), "{list}");
    let text = corpus().into_os_string().into_string().unwrap();
    let next = self::run(&setup, &["--corpus", &text]);
    assert!(next.status.success(), "{next:?}");
    assert_eq!(files(&setup).len(), 4, "{:?}", files(&setup));
}

#[test]
fn a_source_that_is_removed_meanwhile_costs_nothing_else() {
    let setup = Setup::own();
    let text = corpus().into_os_string().into_string().unwrap();
    let name = format!("{TEST_MODEL}-small");
    let run = shrink(&setup, &["--corpus", &text]).spawn().unwrap();
    while files(&setup).len() < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // While it is being hashed this is found out; later it is of no matter, as its file is open.
    std::thread::sleep(Duration::from_millis(300));
    hob(&setup, &["models", "remove", TEST_MODEL, "--yes"]);
    let output = run.wait_with_output().unwrap();
    let left = files(&setup);
    if output.status.success() {
        assert_eq!(left, [format!("{name}.gguf"), format!("{name}.toml")]);
        hob(&setup, &["models", "verify", &name]);
    } else {
        let said = refused(&output);
        let reasons = ["not installed", "changed while", "cannot open"];
        assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
        assert_eq!(left, [""; 0]);
    }
}

/// Bits per byte of texts, each a piece of its own, with the half width of their interval.
fn bits(setup: &Setup, texts: &[String]) -> (f64, f64) {
    let files = texts.iter().zip(0..).map(|(text, number)| {
        let path = setup.home().join(format!("text-{number}.txt"));
        fs::write(&path, text).unwrap();
        path
    });
    let mut command = setup.command(&binary("hob"));
    command
        .args([
            "models", "evaluate", TEST_MODEL, "--json", "--quick", "--text",
        ])
        .args(files)
        .env("HOB_ENGINE_THREADS", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["pieces"], texts.len());
    let rate = &found["models"][0]["bits_per_byte"];
    (
        rate["value"].as_f64().unwrap(),
        rate["error_95"].as_f64().unwrap(),
    )
}

#[test]
fn a_model_is_more_surprised_by_noise_than_by_words() {
    let setup = Setup::real();
    // What is said over and over is foreseen.
    let again = [
        "The kitchen window is open. ",
        "It will rain tonight, I think. ",
    ];
    let again = bits(&setup, &again.map(|words| words.repeat(8)));
    let mut state = 1_u32;
    let mut noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + u8::try_from((state >> 24) % 26).unwrap())
    });
    let noise = [(); 2].map(|()| noise.by_ref().take(200).collect::<String>());
    let noise = bits(&setup, &noise);
    assert!((0.0..0.6).contains(&again.0), "{again:?}");
    // Of 26 letters that are all as likely, each is worth 4.7 bits; nothing can foresee them better.
    assert!(noise.0 + noise.1 > 26f64.log2(), "{noise:?}");
    assert!(noise.0 < 9.0, "{noise:?}");
}

#[test]
fn texts_that_say_nothing_are_refused() {
    let setup = Setup::real();
    let short = setup.home().join("short.txt");
    fs::write(&short, "A few words.").unwrap();
    for (name, text, reason) in [
        (TEST_MODEL, short.as_path(), "too short"),
        (TEST_MODEL, Path::new("/nowhere"), "cannot be read"),
        ("nobody", short.as_path(), "not installed"),
    ] {
        let mut command = setup.command(&binary("hob"));
        command
            .args(["models", "evaluate", name, "--text"])
            .arg(text);
        let said = refused(&command.output().unwrap());
        assert!(said.contains(reason), "{said}");
    }
}
