//! Smaller models within limits.

use std::collections::BTreeSet;
use std::process::Output;

use hob_e2e::{Setup, TEST_MODEL, refused};
use serde_json::Value;

use super::layers::shallow;
use super::{TO_FINE, corpus, document, files, hob, run, shrink_of, untouched};

/// What is tried differs by vocabularies alone, which is quick.
fn limited(setup: &Setup, limits: &[&str]) -> Output {
    let text = document("ARCHITECTURE.md");
    let always = ["--corpus", text.to_str().unwrap(), "--quant", "keep"];
    run(setup, &[&always[..], limits].concat())
}

/// All tokens of a model stay.
fn of_all_tokens(setup: &Setup, model: &str, arguments: &[&str]) -> Output {
    let text = document("ARCHITECTURE.md");
    let always = ["--vocab", "keep", "--corpus", text.to_str().unwrap()];
    let mut command = shrink_of(setup, model, &always);
    command.args(arguments).output().unwrap()
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
fn where_only_the_table_can_be_coarser_its_types_are_tried() {
    let setup = Setup::own();
    shallow(&setup);
    let output = of_all_tokens(&setup, "shallow", &["--json", "--max-loss", "50%"]);
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let tried = made["tried"].as_array().unwrap();
    let types: BTreeSet<&str> = tried
        .iter()
        .map(|one| one["embedding"].as_str().unwrap())
        .collect();
    assert!(types.len() > 1, "{made}");
    // What is coarse by now can't be made smaller, and that is known at once.
    let said = refused(&of_all_tokens(
        &setup,
        "shallow-small",
        &["--max-loss", "1%"],
    ));
    assert!(
        said.contains("fewer than 8 bits already") && !said.contains("KiB of"),
        "{said}"
    );
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

/// What a run on the model `fine` made.
fn of_fine(setup: &Setup, arguments: &[&str]) -> (Value, String) {
    let always = ["--json", "--importance", "none"];
    let output = of_all_tokens(setup, "fine", &[&always[..], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

#[test]
fn of_a_fine_model_each_kind_of_matrix_gets_a_type() {
    let setup = Setup::own();
    shallow(&setup);
    let fine = shrink_of(&setup, "shallow", &TO_FINE).output().unwrap();
    assert!(fine.status.success(), "{fine:?}");

    // Neither the table nor the layers can be made so small that the other could stay as it is.
    let within = ["--max-size", "56%", "--out"];
    let (made, _) = of_fine(&setup, &[&within[..], &["small"]].concat());
    let size = |key: &str| made[key].as_u64().unwrap();
    assert!(
        size("size_bytes") * 100 <= size("size_bytes_before") * 56,
        "{made}"
    );
    let tried = made["tried"].as_array().unwrap();
    assert!((1..=6).contains(&tried.len()), "{made}");
    for one in tried {
        assert!(!one["embedding"].is_null(), "{one}");
        assert!(!one["matrices"].as_object().unwrap().is_empty(), "{one}");
    }
    // The one that loses least of these, and it is as long as was said.
    let loss = |one: &&Value| one["loss"].as_f64().unwrap();
    let best = tried
        .iter()
        .min_by(|a, b| loss(a).total_cmp(&loss(b)))
        .unwrap();
    assert!(
        best["size_bytes"]
            .as_u64()
            .unwrap()
            .abs_diff(size("size_bytes"))
            <= 512,
        "{made}"
    );
    let steps = made["lineage"]["steps"].to_string();
    for (role, kind) in best["matrices"].as_object().unwrap() {
        let step = format!("{role} as {}", kind.as_str().unwrap());
        assert!(steps.contains(&step), "{step}: {steps}");
    }
    hob(&setup, &["models", "verify", "small"]);

    // What was measured is known, and the same is found.
    let (again, said) = of_fine(&setup, &[&within[..], &["again"]].concat());
    assert!(said.contains("measured before"), "{said}");
    assert_eq!(again["sha256"], made["sha256"]);
}
