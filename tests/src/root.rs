//! Tests that need root, to be several users.

use std::process::Command;

/// Runs the test `name` of this binary through sudo, unless this process is root already: false
/// then, and the test goes on. True if it ran, and passed.
///
/// # Panics
/// If it did not pass, or sudo can't make it root.
pub fn ran_as_root(name: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    let test = std::env::current_exe().expect("the test's own path");
    let output = Command::new("sudo")
        .arg("--")
        .arg(test)
        .args(["--exact", name, "--nocapture"])
        .output()
        .expect("sudo: run this test as root if there is none");
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "it failed as root");
    assert!(said.contains("1 passed"), "no test is named {name}");
    true
}
