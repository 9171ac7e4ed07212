//! Models with fewer layers.

use std::fs;
use std::process::Output;

use hob_e2e::{Setup, refused};
use serde_json::Value;

use super::{document, files, hob, run, shrink_of, untouched};

/// The texts that models are measured on, and the option before them.
fn texts() -> Vec<String> {
    let texts = ["README.md", "ARCHITECTURE.md", "docs/http.md"];
    let texts = texts.map(|name| document(name).into_os_string().into_string().unwrap());
    [vec!["--corpus".to_owned()], texts.to_vec()].concat()
}

/// A model with four layers, so that measuring each takes seconds; a poor one.
pub(super) fn shallow(setup: &Setup) {
    let out: Vec<String> = (1..27).map(|layer| format!("L{layer}")).collect();
    let output = run(
        setup,
        &[
            "--vocab",
            "keep",
            "--drop-layers",
            &out.join(","),
            "--out",
            "shallow",
        ],
    );
    assert!(output.status.success(), "{output:?}");
}

fn shrink(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = shrink_of(setup, "shallow", &["--vocab", "keep"]);
    command.args(arguments).args(texts()).output().unwrap()
}

fn made(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The numbers of layers in a list of the card's.
fn numbers(list: &Value) -> Vec<u64> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one["layer"].as_u64().unwrap()).collect()
}

#[test]
fn the_cheapest_layers_go_and_what_was_measured_is_kept() {
    let setup = Setup::own();
    shallow(&setup);
    let shown = hob(&setup, &["models", "show", "shallow"]);
    assert!(
        shown.contains("of 30 layers, counted from 0, left out: 1, 2, 3,"),
        "{shown}"
    );

    let first = shrink(&setup, &["--drop-layers", "2", "--out", "one", "--json"]);
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    let one = made(&first);
    assert!(said.contains("without each of its 4 layers"), "{said}");
    assert_eq!(
        (&one["layers_before"], &one["layers"]),
        (&4.into(), &2.into())
    );
    assert_eq!(numbers(&one["layers_alone"]), [0, 1, 2, 3]);
    let gone = &one["layers_one_after_another"];
    let out = numbers(gone);
    let losses = |list: &Value| -> Vec<f64> {
        let list = list.as_array().unwrap().iter();
        list.map(|one| one["loss"].as_f64().unwrap()).collect()
    };
    // The first to go is the one that costs least alone.
    let alone = losses(&one["layers_alone"]);
    let least = alone.iter().copied().min_by(f64::total_cmp).unwrap();
    assert!((losses(gone)[0] - least).abs() < 1e-12, "{one}");
    let left_out: Vec<u64> = serde_json::from_value(one["layers_left_out"].clone()).unwrap();
    assert_eq!(left_out, out);
    assert!(
        one["size_bytes"].as_u64() < one["size_bytes_before"].as_u64(),
        "{one}"
    );
    assert!(
        one["lineage"]["loss"]["bytes"].as_u64().unwrap() > 3000,
        "{one}"
    );
    let steps = one["lineage"]["steps"].as_array().unwrap();
    assert!(
        steps[1].as_str().unwrap().starts_with("of 4 layers"),
        "{one}"
    );
    hob(&setup, &["models", "verify", "one"]);

    // Nothing is measured twice, and the same is found.
    let again = shrink(&setup, &["--drop-layers", "2", "--out", "two", "--json"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("4 of them measured before"), "{said}");
    let two = made(&again);
    for same in ["sha256", "layers_left_out"] {
        assert_eq!(one[same], two[same], "{same}");
    }
    // But for a last digit, which reading a number from a file may cost.
    let again = losses(&two["layers_alone"]);
    let near = |(one, two): (&f64, &f64)| (one - two).abs() < 1e-9;
    assert!(alone.iter().zip(&again).all(near), "{alone:?} {again:?}");
    assert_eq!(one["lineage"]["loss"], two["lineage"]["loss"]);

    // Within a size that takes a layer, the search leaves out the first of these.
    let most = two["size_bytes_before"].as_u64().unwrap() - 1;
    let limit = most.to_string();
    let within = [
        "--quant",
        "keep",
        "--drop-layers",
        "auto",
        "--max-size",
        &limit,
    ];
    let three = made(&shrink(
        &setup,
        &[&within[..], &["--out", "three", "--json"]].concat(),
    ));
    assert!(three["size_bytes"].as_u64().unwrap() <= most, "{three}");
    // One at least, and more only where that loses less.
    assert!(three["layers"].as_u64().unwrap() < 4, "{three}");
    assert_eq!(three["layers_left_out"][0], gone[0]["layer"], "{three}");

    // For people, too.
    let told = shrink(&setup, &["--drop-layers", "1", "--out", "four"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("LOSS WITHOUT IT, %") && told.contains("left out:"),
        "{told}"
    );
}

#[test]
fn layers_that_can_not_go_are_refused_before_anything_is_read() {
    let setup = Setup::own();
    let texts = texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let cases: [(&[&str], &str); 8] = [
        (&["--drop-layers", "30"], "has 30 layers"),
        (&["--drop-layers", "L30"], "no layer 30"),
        (&["--drop-layers", "few"], "a number of layers"),
        (&["--drop-layers", "0"], "a number of layers"),
        (&["--drop-layers", "-1"], "a number of layers"),
        (&["--drop-layers", "auto"], "without a limit"),
        (&["--drop-layers", "auto", "--max-size", "1MB"], "at least"),
        (&["--max-loss", "-1"], "from 0% to 100%"),
    ];
    for (arguments, reason) in cases {
        let said = refused(&run(&setup, &[arguments, &texts].concat()));
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert!(!said.contains("KiB of"), "the corpus was read: {said}");
        assert_eq!(files(&setup), untouched(), "{arguments:?}");
    }
    let none = refused(&run(&setup, &["--vocab", "keep", "--drop-layers", "1"]));
    assert!(none.contains("--corpus"), "{none}");
    let short = setup.home().join("short.txt");
    fs::write(&short, "Some words. ".repeat(900)).unwrap();
    let short = ["--drop-layers", "1", "--corpus", short.to_str().unwrap()];
    let said = refused(&run(&setup, &short));
    assert!(said.contains("too short to measure"), "{said}");
}
