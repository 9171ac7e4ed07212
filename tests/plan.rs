//! `hob doctor --plan` against what a model really takes: the real hobd and engine, loaded with the
//! settings that the plan says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use std::process::Output;

use hob_e2e::{Setup, TEST_MODEL, binary};
use serde_json::{Value, json};

/// A model of another kind, with a sliding window.
const SLIDING_MODEL: &str = "gemma-3-270m";

fn plan(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = setup.command(&binary("hob"));
    command.args(["doctor", "--plan"]).args(arguments);
    command.output().expect("running hob")
}

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The settings that a plan proposes, as it shows them.
fn pasted(plan: &str) -> &str {
    let (_, settings) = plan.split_once("\n[engine]\n").expect(plan);
    settings.split("\n\n").next().expect(plan)
}

/// A plan errs upwards, as parts of it are estimates for which llama.cpp reuses memory: up to half
/// as much again, as for hobd's own figures.
#[tokio::test]
async fn what_is_planned_is_close_above_what_is_taken() {
    for model in [TEST_MODEL, SLIDING_MODEL] {
        let setup = Setup::real().env("HOB_MODEL", model);
        let whole: Value =
            serde_json::from_str(&text(&plan(&setup, &["--json", "--memory", "1G", model])))
                .expect("JSON");
        let planned = &whole[0]["models"][0];
        assert_eq!(planned["known"], "file", "{planned}");
        let proposal = &planned["proposal"];
        let engine = proposal["engine_bytes"].as_u64().unwrap();

        let shown = text(&plan(&setup, &["--memory", "1G", model]));
        let settings = format!("[engine]\n{}", pasted(&shown));
        let daemon = setup.toml(&settings).ready().await;
        let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(60);
        let body = json!({"prompt": prompt, "max_tokens": 4});
        let reply: Value = daemon.client().post("/v1/completions", &body).await.json();
        assert_eq!(reply["usage"]["completion_tokens"], 4, "{reply}");

        let status = daemon.status().await;
        let loaded = status.engine.expect("an engine");
        assert_eq!(json!(loaded.parallel), proposal["parallel"], "{shown}");
        assert_eq!(
            json!(status.model.expect("a model").n_ctx),
            proposal["n_ctx"],
            "{shown}"
        );
        let memory = status.memory;
        let parts = memory.weights_bytes + memory.kv_bytes + memory.compute_bytes;
        assert_eq!(parts, engine, "hobd plans the same: {shown}");
        let taken = loaded.rss_bytes;
        let what = format!("{model}: {taken} taken, {engine} planned");
        assert!(taken <= engine && engine <= taken + taken / 2, "{what}");
    }
}

#[tokio::test]
async fn this_board_is_planned_as_its_hobd_sees_it() {
    let setup = Setup::real().toml("[engine]\nmemory = 300000000\nparallel = 1");
    let daemon = setup.ready().await;
    let output = daemon
        .hob()
        .args(["doctor", "--plan", "--json"])
        .output()
        .unwrap();
    let plans: Value = serde_json::from_str(&text(&output)).expect("JSON");
    assert_eq!(plans[0]["engine_bytes"], 300_000_000);
    let models = plans[0]["models"].as_array().unwrap();
    let of = |name| models.iter().find(|model| model["name"] == name).unwrap();
    assert_eq!(of(TEST_MODEL)["installed"], true);
    assert_eq!(of(TEST_MODEL)["proposal"]["n_ctx"], 4096);
    assert_eq!(of("qwen3-4b")["proposal"], Value::Null);
    assert_eq!(of("lfm2.5-230m")["known"], Value::Null);
}

#[test]
fn what_can_not_be_planned_is_said() {
    let setup = Setup::empty();
    let nothing = plan(&setup, &["qwen3-4"]);
    assert_eq!(nothing.status.code(), Some(7), "{nothing:?}");
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(said.contains("did you mean qwen3-4b?"), "{said}");
    let broken = setup.home().join("broken.gguf");
    std::fs::write(&broken, "GGUF\x03\0\0\0 and no more").unwrap();
    let refused = plan(&setup, &[broken.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    // It is known, and fits no such board.
    let small = plan(&setup, &["--memory", "64M,128M", "qwen3-4b"]);
    assert_eq!(small.status.code(), Some(7), "{small:?}");
    let folder = plan(&setup, &[setup.home().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&folder.stderr);
    assert!(said.contains("is not a regular file"), "{said}");
    for usage in [&["--memory", "12"][..], &["--memory", "1K"]] {
        assert_eq!(plan(&setup, usage).status.code(), Some(2));
    }
    // Without --plan there is nothing to plan for.
    let alone = setup
        .command(&binary("hob"))
        .args(["doctor", "--memory", "1G"])
        .output()
        .unwrap();
    assert_eq!(alone.status.code(), Some(2));
}
