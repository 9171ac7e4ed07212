//! Weights rounded by what matters for the corpus.

use std::fs;
use std::path::Path;

use hob_e2e::{Setup, binary, refused};
use serde_json::Value;

use super::{document, files, run, shrink, untouched};

/// A text of so many bytes, in the test's own folder.
fn text(setup: &Setup, name: &str, begins: &str, bytes: usize) -> String {
    let readme = fs::read_to_string(document("README.md")).unwrap();
    let mut text = format!("{begins}{readme}");
    let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap());
    let path = setup.home().join(name);
    fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}

#[test]
fn a_coarse_table_is_rounded_by_what_the_corpus_needs() {
    let setup = Setup::own();
    let long = text(&setup, "long.txt", "", 9000);
    let short = text(&setup, "short.txt", "", 2000);
    let table = ["--vocab", "keep", "--quant", "embedding=Q4_0", "--json"];
    let made = |name: &str, more: &[&str]| {
        let output = run(&setup, &[&table[..], &["--out", name], more].concat());
        assert!(output.status.success(), "{output:?}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let path = made["path"].as_str().unwrap();
        (fs::read(Path::new(path)).unwrap(), made, said)
    };
    let (weighed, told, _) = made("weighed", &["--corpus", &long]);
    let steps = told["lineage"]["steps"].to_string();
    assert!(steps.contains("by what matters for 2048 tokens"), "{steps}");
    let (alike, told, _) = made("alike", &["--corpus", &long, "--importance", "none"]);
    let steps = told["lineage"]["steps"].to_string();
    assert!(!steps.contains("what matters"), "{steps}");
    assert_eq!(weighed.len(), alike.len());
    assert!(weighed != alike, "it makes no difference");
    let (_, told, said) = made("short", &["--corpus", &short]);
    assert!(said.contains("all are rounded alike"), "{said}");
    let steps = told["lineage"]["steps"].to_string();
    assert!(!steps.contains("what matters"), "{steps}");
}

#[test]
fn an_engine_that_lies_of_what_matters_is_found_out() {
    let setup = Setup::own();
    for (word, reason) in [
        ("nan", "impossible answer"),
        ("negative", "impossible answer"),
        ("nothing", "impossible answer"),
        ("backwards", "impossible answer"),
        ("fail", "told to fail"),
        ("exit", "the engine ended"),
    ] {
        let text = text(&setup, "text.txt", &format!("fake-observe: {word}\n"), 9000);
        let table = ["--vocab", "keep", "--quant", "embedding=Q4_0"];
        let output = shrink(&setup, &[&table[..], &["--corpus", &text]].concat())
            .env("HOB_ENGINE_PATH", binary("fake-engine"))
            .output()
            .unwrap();
        let said = refused(&output);
        assert!(said.contains(reason), "{word}: {said}");
        assert!(said.contains("--importance none"), "{word}: {said}");
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(files(&setup), untouched(), "{word}");
    }
}
