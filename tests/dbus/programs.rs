//! Clients that are not zbus: busctl, gdbus, and Python's dbus-fast.

use std::path::Path;
use std::process::{Command, Output};

use hob_e2e::{Daemon, Setup, patiently, python};
use serde_json::Value;

async fn run(mut command: Command) -> Output {
    command.env_remove("DBUS_SYSTEM_BUS_ADDRESS");
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    patiently("a client program", command.output())
        .await
        .expect("running a client that scripts/check installs")
}

async fn busctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = daemon.command(Path::new("busctl"));
    command
        .arg(format!("--address={}", daemon.bus().address()))
        .args(["--json=short", "--timeout=60"])
        .args(arguments);
    run(command).await
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn busctl_asks_and_reads_properties() {
    let daemon = Setup::fake().bus().ready().await;
    let target = ["org.hobd.Hob1", "/org/hobd/Hob1", "org.hobd.Hob1.Assistant"];
    let call = |method, rest: &[&'static str]| [&["call"], &target[..], &[method], rest].concat();

    let ask = call("Ask", &["sa{sv}", "one two", "1", "max_tokens", "u", "9"]);
    let reply: Value = serde_json::from_str(&said(&busctl(&daemon, &ask).await)).unwrap();
    assert_eq!(reply["type"], "sa{sv}");
    assert_eq!(reply["data"][0], "one two");
    assert_eq!(reply["data"][1]["finish_reason"]["data"], "stop");

    let question = [
        "q",
        "a{sv}",
        "2",
        "type",
        "s",
        "noul",
        "instructions",
        "s",
        "Wet?",
    ];
    let decide = call(
        "Decide",
        &[&["sa{sv}a{sv}", "It rains.", "1"][..], &question, &["0"]].concat(),
    );
    let reply: Value = serde_json::from_str(&said(&busctl(&daemon, &decide).await)).unwrap();
    assert_eq!(reply["type"], "a{sv}");
    let answer = &reply["data"][0]["q"]["data"];
    assert_eq!(answer["type"]["data"], "noul");
    assert!(answer["noul"]["data"].is_number(), "{reply}");

    let state = [&["get-property"], &target[..], &["State"]].concat();
    let state: Value = serde_json::from_str(&said(&busctl(&daemon, &state).await)).unwrap();
    assert_eq!((&state["type"], &state["data"]), (&"u".into(), &3.into()));

    let wrong = call("Ask", &["sa{sv}", "hi", "1", "colour", "s", "red"]);
    let refused = busctl(&daemon, &wrong).await;
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("`colour`"), "{words}");
}

#[tokio::test]
async fn gdbus_asks_and_introspects() {
    let daemon = Setup::fake().bus().ready().await;
    let gdbus = |arguments: &[&str]| {
        let mut command = daemon.command(Path::new("gdbus"));
        command
            .args(&arguments[..1])
            .args(["--address", daemon.bus().address()])
            .args(["--dest", "org.hobd.Hob1", "--object-path", "/org/hobd/Hob1"])
            .args(&arguments[1..]);
        run(command)
    };
    let method = "org.hobd.Hob1.Assistant.Ask";
    let asked = gdbus(&["call", "--method", method, "one two", "{}"]).await;
    assert!(said(&asked).starts_with("('one two', {"), "{asked:?}");
    let refused = gdbus(&["call", "--method", method, "hi", "{'seed': <'x'>}"]).await;
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        words.contains("org.freedesktop.DBus.Error.InvalidArgs") && words.contains("`seed`"),
        "{words}"
    );
    assert!(said(&gdbus(&["introspect"]).await).contains("org.hobd.Hob1.Admin"));
}

#[tokio::test]
async fn python_asks_and_reads_both_kinds_of_stream() {
    let daemon = Setup::fake().bus().ready().await;
    let mut command = daemon.command(&python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus/client.py"));
    let got: Value = serde_json::from_str(&said(&run(command).await)).unwrap();
    assert_eq!(got["reply"], "one two three");
    assert_eq!(got["finish_reason"], "stop");
    assert_eq!(got["streamed"], "four five");
    let path = got["path"].as_str().unwrap();
    assert!(path.starts_with("/org/hobd/Hob1/request/1_"), "{path}");
    let events = got["events"].as_array().unwrap();
    let text: String = events
        .iter()
        .filter_map(|event| event["text"].as_str())
        .collect();
    assert_eq!(text, "six seven");
    assert_eq!(events.last().unwrap()["type"], "done");
    assert_eq!(got["error"][0], "org.freedesktop.DBus.Error.InvalidArgs");
    assert_eq!(got["state"], 3);
}
