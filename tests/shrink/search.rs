//! Smaller models within limits.

use std::process::Output;

use hob_e2e::{Setup, TEST_MODEL, refused};
use serde_json::Value;

use super::{corpus, files, hob, run, untouched};

/// What is tried differs by vocabularies alone, which is quick.
fn limited(setup: &Setup, limits: &[&str]) -> Output {
    let readme = corpus();
    let more = ["ARCHITECTURE.md", "docs/http.md"].map(|name| readme.with_file_name(name));
    let texts = [&readme, &more[0], &more[1]].map(|path| path.to_str().unwrap());
    let corpus = [&["--corpus"][..], &texts].concat();
    run(setup, &[&corpus[..], &["--quant", "keep"], limits].concat())
}

#[test]
fn the_largest_vocabulary_within_a_size_is_made_and_measured() {
    let setup = Setup::own();
    let output = limited(&setup, &["--json", "--max-size", "80%"]);
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let size = |key: &str| made[key].as_u64().unwrap();
    let most = size("size_bytes_before") * 8 / 10;
    assert!(size("size_bytes") <= most, "{made}");
    // The next larger one that is looked at has 1/64 of the tokens more: 768 rows, and their texts.
    assert!(size("size_bytes") + 768 * 800 > most, "{made}");
    let tried = made["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 1, "{made}");
    assert_eq!(tried[0]["tokens"], made["vocabulary"]);
    assert_eq!(tried[0]["size_bytes"], made["size_bytes"]);
    // What is told is not of the text that it was chosen by: half of a tenth of each file, and of the
    // words that these begin in.
    let noted = &made["lineage"]["loss"];
    let bytes = noted["bytes"].as_u64().unwrap();
    let all = made["lineage"]["corpus_bytes"].as_u64().unwrap();
    assert!(bytes > 0 && bytes <= all / 20 + 3 * 64, "{made}");
    let shown = hob(&setup, &["models", "show", &format!("{TEST_MODEL}-small")]);
    assert!(shown.contains("held out"), "{shown}");
}

#[test]
fn what_keeps_to_no_limit_is_not_made() {
    let setup = Setup::own();
    let cases: [(&[&str], [&str; 2]); 5] = [
        (
            &["--max-size", "1MB"],
            ["the smallest that can be made has", "--max-size"],
        ),
        (
            &["--vocab", "6000", "--max-loss", "0%"],
            [
                "no smaller model keeps to --max-loss",
                "with 6000 tokens, loses",
            ],
        ),
        (&["--max-size", "apples"], ["80MB", "--help"]),
        (&["--max-loss", "200%"], ["from 0% to 100%", "--help"]),
        (
            &["--max-size", "80%", "--vocab", "100"],
            ["have to stay", "--vocab"],
        ),
    ];
    for (limits, reasons) in cases {
        let said = refused(&limited(&setup, limits));
        for reason in reasons {
            assert!(said.contains(reason), "{limits:?}: {said}");
        }
        assert_eq!(files(&setup), untouched(), "{limits:?}");
    }
    let short = corpus().into_os_string().into_string().unwrap();
    let one = ["--corpus", &short, "--max-size", "80%"];
    let typed = [&one[..], &["--quant", "Q8_0"]].concat();
    assert!(refused(&run(&setup, &typed)).contains("not named"));
    let nothing = [
        "--corpus",
        &short,
        "--vocab",
        "keep",
        "--quant",
        "keep",
        "--max-size",
        "80%",
    ];
    assert!(refused(&run(&setup, &nothing)).contains("nothing is to become smaller"));
    let none = refused(&run(&setup, &["--vocab", "keep", "--max-size", "80%"]));
    assert!(none.contains("--corpus"), "{none}");
}
