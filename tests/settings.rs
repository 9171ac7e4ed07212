//! Settings: what hobd refuses to start with, and which layer wins.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::process::Output;

use hob_e2e::{Setup, patiently};

/// The exit code for wrong flags or settings.
const USAGE: i32 = 2;

/// What hobd says about settings that it must refuse. It has written nothing but that.
async fn complaint(setup: Setup) -> String {
    let output = setup.refused().await;
    assert_eq!(output.status.code(), Some(USAGE), "{output:?}");
    assert!(!setup.socket().exists(), "a socket was made");
    String::from_utf8(output.stderr).unwrap()
}

async fn check_config(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = setup.hobd();
    command.arg("--check-config").args(arguments);
    patiently(
        "hobd --check-config",
        tokio::process::Command::from(command).output(),
    )
    .await
    .unwrap()
}

fn in_force(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn malformed_toml_is_refused_with_file_and_line() {
    let stderr = complaint(Setup::empty().toml("[engine]\nn_ctx = = 3")).await;
    // The harness writes one line before.
    assert!(stderr.contains("hobd.toml:3:"), "{stderr}");
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_file_line_and_a_suggestion() {
    let stderr = complaint(Setup::empty().toml("[engine]\nn_ctxx = 512")).await;
    assert!(stderr.contains("hobd.toml:3:"), "{stderr}");
    assert!(stderr.contains("n_ctxx"), "{stderr}");
    assert!(stderr.contains("n_ctx"), "{stderr}");
}

#[tokio::test]
async fn an_unknown_table_is_refused() {
    let stderr = complaint(Setup::empty().toml("[engines]\nn_ctx = 512")).await;
    assert!(stderr.contains("hobd.toml:2:"), "{stderr}");
    assert!(stderr.contains("engines"), "{stderr}");
}

#[tokio::test]
async fn values_of_a_wrong_kind_or_size_are_refused_all_at_once() {
    let lines = "[engine]\nn_ctx = \"big\"\nparallel = 99\nhang_timeout = 5\n[limits]\nqueue = -1";
    let stderr = complaint(Setup::empty().toml(lines)).await;
    for (line, word) in [
        (3, "n_ctx"),
        (4, "parallel"),
        (5, "hang_timeout"),
        (7, "queue"),
    ] {
        let found = stderr
            .lines()
            .find(|text| text.contains(&format!("hobd.toml:{line}:")));
        assert!(found.is_some_and(|text| text.contains(word)), "{stderr}");
    }
    // The bound is told, not only that there is one.
    assert!(stderr.contains("16"), "{stderr}");
}

#[tokio::test]
async fn an_unknown_variable_is_told_of() {
    let setup = Setup::empty().env("HOB_ENGINE_N_CTXX", "512");
    let output = check_config(&setup, &[]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("HOB_ENGINE_N_CTXX"), "{stderr}");
}

#[tokio::test]
async fn a_wrong_variable_is_refused_by_its_name() {
    let stderr = complaint(Setup::empty().env("HOB_ENGINE_N_CTX", "many")).await;
    assert!(stderr.contains("HOB_ENGINE_N_CTX"), "{stderr}");
}

#[tokio::test]
async fn a_settings_file_that_is_not_there_is_refused() {
    let setup = Setup::empty();
    let output = check_config(&setup, &["--config", "/nonexistent/hobd.toml"]).await;
    assert!(!output.status.success());
    // Given twice the flag is refused as such; given once the file is.
    let mut command = setup.command(&hob_e2e::binary("hobd"));
    command.args(["--user", "--config", "/nonexistent/hobd.toml"]);
    let output = patiently("hobd", tokio::process::Command::from(command).output())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(USAGE));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("/nonexistent/hobd.toml"), "{stderr}");
}

#[tokio::test]
async fn flags_win_over_variables_and_variables_over_files() {
    let file = "[engine]\nn_ctx = 1000\nparallel = 3\nthreads = 5";
    let setup = Setup::empty()
        .toml(file)
        .env("HOB_ENGINE_N_CTX", "2000")
        .env("HOB_ENGINE_PARALLEL", "4");
    let text = in_force(&check_config(&setup, &["--set", "engine.n_ctx=3000"]).await);
    let line = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    };
    assert!(line("n_ctx").starts_with("n_ctx = 3000"), "{text}");
    assert!(line("n_ctx").contains("--set"), "{text}");
    assert!(line("parallel").starts_with("parallel = 4"), "{text}");
    assert!(line("parallel").contains("HOB_ENGINE_PARALLEL"), "{text}");
    assert!(line("threads").starts_with("threads = 5"), "{text}");
    assert!(line("threads").contains("hobd.toml:5"), "{text}");
    assert!(line("queue").contains("default"), "{text}");
}

#[tokio::test]
async fn the_settings_in_force_are_a_settings_file() {
    let setup = Setup::empty();
    let first = in_force(&check_config(&setup, &[]).await);
    let file = setup.home().join("again.toml");
    std::fs::write(&file, &first).unwrap();
    let mut command = setup.command(&hob_e2e::binary("hobd"));
    command
        .args(["--user", "--check-config", "--config"])
        .arg(&file);
    let output = patiently("hobd", tokio::process::Command::from(command).output())
        .await
        .unwrap();
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.split('#').next())
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect()
    };
    assert_eq!(values(&in_force(&output)), values(&first));
}
