//! The hub of the examples, as it stands there: it registers, is told what to do, does it, and says no
//! where it must.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hob_api::provider::{Provider, ProviderList, Scalar, Target};
use hob_e2e::{Daemon, Setup, eventually, patiently, python};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use zbus::Variant;

const HUB_PATH: &str = "/org/example/Hub";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hub")
}

/// `python` within the example's folder, writing nothing there.
fn in_folder(mut command: Command) -> tokio::process::Command {
    command.arg("-B").current_dir(folder());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    command
}

/// The hub with a plain log, and what it wrote so far.
struct Hub {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    log: Vec<String>,
}

impl Hub {
    async fn start(daemon: &Daemon) -> Self {
        let mut process = in_folder(daemon.command(&python()))
            .args(["hub.py", "--plain"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut hub = Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()).lines(),
            process,
            log: Vec::new(),
        };
        hub.until("registered as home").await;
        hub
    }

    /// Types a line.
    async fn line(&mut self, text: &str) {
        self.input
            .write_all(format!("{text}\n").as_bytes())
            .await
            .unwrap();
    }

    /// Waits for a line with `words` in it, and returns what was written until then.
    async fn until(&mut self, words: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let what = format!("{words:?} in {:?}", self.log);
            let line = patiently(&what, self.output.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("no {words:?} in {:?}", self.log));
            self.log.push(line.clone());
            seen.push(line);
            if seen.last().unwrap().contains(words) {
                return seen;
            }
        }
    }

    /// Says something, and returns the reply, which is the line behind the one with `words`.
    async fn say(&mut self, text: &str, words: &str) -> String {
        self.line(text).await;
        self.until(words).await;
        self.until("").await.remove(0)
    }
}

/// The home as hobd knows it.
async fn target(daemon: &Daemon, id: &str) -> Target {
    let home: Provider = daemon.client().get("/hob/v1/providers/home").await.json();
    let targets = home.fields.unwrap().targets;
    targets.into_iter().find(|target| target.id == id).unwrap()
}

async fn until_state(daemon: &Daemon, id: &str, key: &str, value: Scalar) {
    eventually(&format!("{id} has {key} {value:?}"), async || {
        let target = target(daemon, id).await;
        (target.state.get(key) == Some(&value)).then_some(())
    })
    .await;
}

fn word(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

async fn say_once(daemon: &Daemon, text: &str) -> Output {
    let mut command = in_folder(daemon.command(&python()));
    command.args(["hub.py", "--say", text, "--name", "once"]);
    command.stdin(Stdio::null());
    patiently("one sentence", command.output()).await.unwrap()
}

#[tokio::test]
async fn what_needs_no_bus_passes_its_own_tests() {
    let daemon = Setup::empty().start().await;
    let mut command = in_folder(daemon.command(&python()));
    command.args(["-m", "unittest"]);
    let output = patiently("unittest", command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("\nOK") && !said.contains("Ran 0"), "{said}");
    // The versions that are tested are those that the example asks for.
    let requirements = |file: PathBuf| std::fs::read_to_string(file).unwrap();
    let ours = requirements(Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements.txt"));
    let theirs = requirements(folder().join("requirements.txt"));
    let pins: Vec<_> = theirs.lines().filter(|line| line.contains("==")).collect();
    assert!(!pins.is_empty());
    assert!(pins.iter().all(|pin| ours.lines().any(|line| line == *pin)));
}

#[tokio::test]
async fn what_is_said_in_two_languages_is_done_and_told() {
    let daemon = Setup::empty().bus().start().await;
    let mut hub = Hub::start(&daemon).await;
    let brighter = "make the desk lamp a bit brighter";
    let reply = hub
        .say(brighter, "set_brightness light.desk brightness=70")
        .await;
    assert!(reply.contains("Desk Lamp"), "{reply}");
    // The second time counts from what the hub told after the first.
    hub.say(brighter, "brightness=80").await;
    until_state(&daemon, "light.desk", "brightness", Scalar::Integer(80)).await;
    until_state(&daemon, "light.desk", "state", word("on")).await;

    let reply = hub
        .say("Mach das Radio an", "turn_on media_player.radio")
        .await;
    assert_eq!(reply, "Erledigt: Küchenradio.");
    until_state(&daemon, "media_player.radio", "state", word("playing")).await;
    hub.line("turn off everything downstairs").await;
    hub.until("* Kitchen Radio: off").await;
    until_state(&daemon, "media_player.radio", "state", word("off")).await;
    until_state(&daemon, "light.desk", "state", word("on")).await;

    let reply = hub
        .say(
            "Stell einen Timer auf zehn Minuten",
            "start_timer seconds=600",
        )
        .await;
    assert_eq!(
        reply, "Ein Timer über 10 Minuten läuft.",
        "the hub's own words"
    );
    let reply = hub
        .say("close the study blinds", "close_cover cover.study")
        .await;
    assert!(reply.contains("the motor is jammed"), "{reply}");
    until_state(&daemon, "cover.study", "state", word("open")).await;
}

#[tokio::test]
async fn a_door_opens_to_a_person_who_says_yes_and_to_nobody_else() {
    let daemon = Setup::empty().bus().start().await;
    let mut hub = Hub::start(&daemon).await;
    let locked = word("locked");
    hub.line("unlock the front door").await;
    hub.until("Please confirm: unlock Front Door").await;
    let reply = hub.say("no", "unlock lock.front").await;
    assert!(
        hub.log.iter().any(|line| line.ends_with(" refused")),
        "{:?}",
        hub.log
    );
    assert!(!reply.is_empty());
    assert_eq!(target(&daemon, "lock.front").await.state["state"], locked);

    // A program of the same user goes past hobd.
    let stranger = daemon.bus().connect().await;
    let name = name_of_hub(&stranger).await;
    let no_values = HashMap::<&str, Variant<'_>>::new();
    let context = HashMap::from([("targets", Variant::from(vec!["lock.front"]))]);
    let arguments = ("1", "unlock", &no_values, &context);
    let called = stranger.call_method(
        Some(name.as_str()),
        HUB_PATH,
        Some("org.hobd.Hob1.ToolProvider"),
        "Invoke",
        &arguments,
    );
    let refused = called.await.unwrap_err().to_string();
    assert!(refused.contains("only hobd may call this hub"), "{refused}");
    assert_eq!(target(&daemon, "lock.front").await.state["state"], locked);

    hub.line("Sperr bitte die Haustür auf").await;
    hub.until("Bestätigen: unlock Haustür").await;
    let reply = hub.say("ja", "unlock lock.front").await;
    assert_eq!(reply, "Erledigt: Haustür.");
    until_state(&daemon, "lock.front", "state", word("unlocked")).await;
    hub.line("is the front door locked?").await;
    hub.until("Front Door: no.").await;

    // Locked again, nobody is there to say yes.
    hub.line("lock the front door").await;
    until_state(&daemon, "lock.front", "state", locked.clone()).await;
    drop(hub);
    let output = say_once(&daemon, "unlock the front door").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" refused\n"), "{said}");
}

/// The name on the bus of whoever has the example's object.
async fn name_of_hub(connection: &zbus::Connection) -> String {
    let bus = zbus::fdo::DBusProxy::new(connection).await.unwrap();
    for name in bus.list_names().await.unwrap() {
        let name = name.to_string();
        if name == connection.unique_name().unwrap().as_str() {
            continue;
        }
        let told = connection.call_method(
            Some(name.as_str()),
            HUB_PATH,
            Some("org.freedesktop.DBus.Introspectable"),
            "Introspect",
            &(),
        );
        let shown = told.await.map(|told| told.body().deserialize::<String>());
        if shown.is_ok_and(|xml| xml.unwrap().contains("org.hobd.Hob1.ToolProvider")) {
            return name;
        }
    }
    panic!("nobody on the bus has the example's object");
}

#[tokio::test]
async fn it_asks_back_answers_and_talks() {
    let daemon = Setup::real()
        .toml("[sampling]\nmax_tokens = 12")
        .bus()
        .ready()
        .await;
    let mut hub = Hub::start(&daemon).await;
    let reply = hub.say("turn on the lamp", "> turn on the lamp").await;
    assert!(
        reply.contains("Desk Lamp") || reply.contains("Reading Lamp"),
        "{reply}"
    );
    let reply = hub
        .say("Wie warm ist es im Schlafzimmer?", "> Wie warm")
        .await;
    assert!(reply.contains("17.5") || reply.contains("17,5"), "{reply}");
    let reply = hub.say("tell me a joke", "> tell me").await;
    assert!(reply.chars().any(char::is_alphabetic), "{reply}");
    assert!(
        !hub.log.iter().any(|line| line.starts_with("* ")),
        "{:?}",
        hub.log
    );
}

#[tokio::test]
async fn it_registers_again_and_ends_cleanly() {
    let mut daemon = Setup::empty().bus().start().await;
    let mut hub = Hub::start(&daemon).await;
    assert!(daemon.stop().await.success());
    hub.until("hobd has left").await;
    let output = say_once(&daemon, "turn on the desk lamp").await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    daemon.restart().await;
    hub.until("registered as home").await;
    hub.say("turn on the desk lamp", "turn_on light.desk").await;

    let output = say_once(&daemon, "turn on the desk lamp").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pid = i32::try_from(hub.process.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let ended = patiently("the hub ends", hub.process.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(130));
    eventually("its home is forgotten", async || {
        let list: ProviderList = daemon.client().get("/hob/v1/providers").await.json();
        list.data.is_empty().then_some(())
    })
    .await;
}
