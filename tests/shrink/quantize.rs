//! Weights stored more coarsely.

use std::fs;

use hob_e2e::{Setup, TEST_MODEL, binary, refused};
use serde_json::Value;

use super::{TO_FINE, corpus, files, hob, run, untouched};

fn made(setup: &Setup, arguments: &[&str]) -> Value {
    let output = run(setup, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn bytes_of(made: &Value, kind: &str, key: &str) -> Option<u64> {
    made[key][kind].as_u64()
}

#[test]
fn the_table_of_tokens_alone_can_be_stored_more_coarsely() {
    let setup = Setup::own();
    let made = made(&setup, &["--vocab", "keep", "--quant", "embedding=Q5_1"]);
    let (before, after) = ("types_bytes_before", "types_bytes");
    // The layers are as they were.
    assert_eq!(
        bytes_of(&made, "Q4_1", before),
        bytes_of(&made, "Q4_1", after)
    );
    assert_eq!(
        bytes_of(&made, "F32", before),
        bytes_of(&made, "F32", after)
    );
    assert_eq!(bytes_of(&made, "Q8_0", after), None);
    // 49,152 rows of 576 weights, of which 32 are a block of 24 bytes.
    assert_eq!(bytes_of(&made, "Q5_1", after), Some(49_152 * 576 / 32 * 24));
    assert_eq!(made["vocabulary"], made["vocabulary_before"]);
    let lineage = &made["lineage"];
    assert_eq!(lineage["steps"][0], "table of tokens stored as Q5_1");
    assert!(lineage["corpus_sha256"].is_null(), "{lineage}");
    let small = format!("{TEST_MODEL}-small");
    let shown = hob(&setup, &["models", "show", &small]);
    assert!(shown.contains("stored as Q5_1"), "{shown}");
    hob(&setup, &["models", "verify", &small]);
}

/// Rows are stored by themselves: it makes no difference whether they go before or after.
#[test]
fn a_small_vocabulary_is_stored_as_the_whole_one_would_be() {
    let setup = Setup::own();
    let corpus = corpus().into_os_string().into_string().unwrap();
    let vocab = ["--corpus", &corpus, "--vocab", "8000"];
    let quant = ["--quant", "embedding=Q4_0", "--importance", "none"];
    let both = made(&setup, &[&vocab[..], &quant, &["--out", "both"]].concat());
    assert_eq!(
        bytes_of(&both, "Q4_0", "types_bytes"),
        Some(8000 * 576 / 32 * 18)
    );
    assert_eq!(both["lineage"]["steps"].as_array().unwrap().len(), 2);
    made(&setup, &[&vocab[..], &["--out", "first"]].concat());
    let mut second = setup.command(&binary("hob"));
    second.args([
        "models", "shrink", "first", "--vocab", "keep", "--out", "second",
    ]);
    let second = second.args(quant).output().unwrap();
    assert!(second.status.success(), "{second:?}");
    // What it descends from is not forgotten on the way.
    let list = hob(&setup, &["models", "list", "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let listed = |name: &str| {
        let mut all = list.as_array().unwrap().iter();
        all.find(|model| model["name"] == name).unwrap().clone()
    };
    let lineage = &listed("second")["lineage"];
    assert_eq!(lineage["source_sha256"], listed("first")["sha256"]);
    assert_eq!(lineage["further_sha256"][0], listed(TEST_MODEL)["sha256"]);
    // The files differ in what they say of that, which comes last of the metadata.
    let types = both["types_bytes"].as_object().unwrap().values();
    let weights = types.map(|bytes| bytes.as_u64().unwrap()).sum::<u64>();
    let read = |name: &str| {
        let file = fs::read(setup.models_dir().join(format!("{name}.gguf"))).unwrap();
        let key = b"hob.source.name";
        let key = file.windows(key.len()).position(|bytes| bytes == key);
        let weights = file.len() - usize::try_from(weights).unwrap();
        (file[..key.unwrap()].to_vec(), file[weights..].to_vec())
    };
    assert!(read("both") == read("second"), "the files differ");
}

#[test]
fn what_is_coarse_already_is_not_stored_anew_unasked() {
    let setup = Setup::own();
    let cases: [(&[&str], [&str; 2]); 6] = [
        (&["--quant", "Q5_0"], ["Q4_1", "--requantize"]),
        (&["--quant", "embedding=Q6_K"], ["blocks of 256", "Q5_1"]),
        (
            &["--quant", "embedding=Q8_0"],
            ["nothing would be smaller", "coarser"],
        ),
        (&["--quant", "Q9"], ["no type Q9", "--help"]),
        (&["--quant", "embedding=Q4_K_M"], ["mixes types", "Q5_1"]),
        (
            &["--quant", "keep"],
            ["nothing is to become smaller", "--vocab"],
        ),
    ];
    for (arguments, reasons) in cases {
        let said = refused(&run(&setup, &[&["--vocab", "keep"], arguments].concat()));
        for reason in reasons {
            assert!(said.contains(reason), "{arguments:?}: {said}");
        }
        assert_eq!(files(&setup), untouched(), "{arguments:?}");
    }
    let none = refused(&run(
        &setup,
        &["--vocab", "auto", "--quant", "embedding=Q5_1"],
    ));
    assert!(none.contains("--corpus"), "{none}");
}

#[test]
fn all_weights_can_be_stored_anew_and_what_becomes_of_odd_rows_is_told() {
    let setup = Setup::own();
    made(&setup, &TO_FINE);
    // From 8 bits nobody needs to insist.
    let mut command = setup.command(&binary("hob"));
    command.args([
        "models", "shrink", "fine", "--vocab", "keep", "--out", "coarse", "--json",
    ]);
    let output = command
        .args(["--quant", "Q4_K_M,embedding=Q5_1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("rows that are not whole blocks of 256"),
        "{said}"
    );
    assert!(said.contains("as Q5_0"), "{said}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(bytes_of(&made, "Q5_0", "types_bytes").is_some(), "{made}");
    let shown = hob(&setup, &["models", "show", "coarse"]);
    assert!(shown.contains("Q4_K_M"), "{shown}");
}

#[test]
fn a_full_disk_leaves_nothing() {
    let setup = Setup::own();
    let hob = binary("hob");
    // In blocks of 512 bytes. With 32 MiB, an engine that may have to write more does not begin. With 64 it
    // writes its file, and the model's is cut: with the signal ignored, that fails as on a full disk.
    let limits = [
        (65_536, "Q8_0", "Fsize"),
        (131_072, "embedding=Q5_1", "the disk is full"),
    ];
    for (limit, quant, reason) in limits {
        let mut shell = setup.command(std::path::Path::new("sh"));
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
        shell.args(["-c", &script, "sh"]).arg(&hob);
        shell.args(["models", "shrink", TEST_MODEL, "--vocab", "keep"]);
        let said = refused(
            &shell
                .args(["--requantize", "--quant", quant])
                .output()
                .unwrap(),
        );
        assert!(said.contains(reason), "{said}");
        assert_eq!(files(&setup), untouched(), "{said}");
    }
}

#[test]
fn an_engine_that_can_not_is_told_of() {
    let setup = Setup::own();
    let arguments = ["--vocab", "keep", "--quant", "embedding=Q5_1"];
    for engine in ["fake-engine", "hob"] {
        let output = super::shrink(&setup, &arguments)
            .env("HOB_ENGINE_PATH", binary(engine))
            .output()
            .unwrap();
        let said = refused(&output);
        assert!(said.contains("the engine"), "{said}");
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(files(&setup), untouched());
    }
}

#[test]
fn matrices_of_one_kind_or_of_some_layers_are_stored_in_a_type_of_their_own() {
    let setup = Setup::own();
    let keep = ["--vocab", "keep", "--quant"];
    for (quant, reason) in [
        ("attn_q=Q4_0", "5 bits a weight already"),
        ("attn_qkv=Q4_0", "no layer of the model has `attn_qkv`"),
        (
            "ffn_down:30-40=Q4_0",
            "Its 30 layers, counted from 0, have attn_q",
        ),
        (
            "ffn_down:0-400=Q4_0",
            "has not all layers of `ffn_down:0-400`",
        ),
        ("ffn_down:9-4=Q4_0", "ffn_down:0-9"),
        ("ffn_down=Q4_0,ffn_down:3=Q5_0", "one too many"),
        ("attn_q=Q4_K_M", "mixes types"),
        ("blk.0.attn_q=Q4_0", "attn_q=TYPE"),
    ] {
        let said = refused(&run(&setup, &[&keep[..], &[quant]].concat()));
        assert!(said.contains(reason), "{quant}: {said}");
    }
    let twice = ["ffn_down:5=Q4_0", "--requantize", "--drop-layers", "L5"];
    let said = refused(&run(&setup, &[&keep[..], &twice].concat()));
    assert!(
        said.contains("`ffn_down:5` is to be stored anew, and"),
        "{said}"
    );
    // Finer than they are is not smaller, whoever insists.
    let said = refused(&run(
        &setup,
        &[&keep[..], &["attn_q=Q8_0", "--requantize"]].concat(),
    ));
    assert!(said.contains("nothing would be smaller"), "{said}");

    let made = made(
        &setup,
        &[
            &keep[..],
            &["attn_q=Q4_0,ffn_down:4-9=IQ4_NL", "--requantize"],
        ]
        .concat(),
    );
    let blocks = |weights: u64| weights / 32 * 18;
    assert_eq!(
        bytes_of(&made, "Q4_0", "types_bytes"),
        Some(blocks(30 * 576 * 576))
    );
    assert_eq!(
        bytes_of(&made, "IQ4_NL", "types_bytes"),
        Some(blocks(6 * 576 * 1536))
    );
    let before = bytes_of(&made, "Q4_1", "types_bytes_before").unwrap();
    let gone = (30 * 576 * 576 + 6 * 576 * 1536) / 32 * 20;
    assert_eq!(bytes_of(&made, "Q4_1", "types_bytes"), Some(before - gone));
    let step = "matrices of the layers stored anew: attn_q as Q4_0, ffn_down:4-9 as IQ4_NL";
    assert_eq!(made["lineage"]["steps"][0], step);
}
