//! The door itself: name, policy, properties, introspection.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::StreamExt;
use hob_api::dbus::{ASSISTANT_INTERFACE, BUS_NAME, OBJECT_PATH};
use hob_api::status::State;
use hob_e2e::{Bus, Setup, eventually, patiently};
use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;

use crate::caller::{Caller, Details, Options, name_and_text, number, text};

const INTERFACE: InterfaceName<'static> =
    InterfaceName::from_static_str_unchecked(ASSISTANT_INTERFACE);

fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

async fn properties(caller: &Caller) -> PropertiesProxy<'static> {
    PropertiesProxy::new(&caller.connection, BUS_NAME, OBJECT_PATH)
        .await
        .unwrap()
}

async fn all(caller: &Caller) -> Details {
    properties(caller).await.get_all(INTERFACE).await.unwrap()
}

#[tokio::test]
async fn properties_tell_of_the_model_and_the_load() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let told = all(&caller).await;
    assert_eq!(text(&told, "Version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(number(&told, "InterfaceVersion"), 8);
    assert_eq!(number(&told, "State"), State::Ready.as_u32());
    let n_ctx = daemon.status().await.model.unwrap().n_ctx;
    assert_eq!(number(&told, "ContextSize"), n_ctx);
    let model = Details::try_from(told["Model"].try_clone().unwrap()).unwrap();
    assert_eq!(text(&model, "name"), "fake");
    assert_eq!(text(&model, "sha256").len(), 64);
    let sandbox = Vec::<String>::try_from(told["Sandbox"].try_clone().unwrap()).unwrap();
    assert_eq!(sandbox, ["fake"]);
    assert_eq!(number(&told, "Active"), 0);

    let mut streamed = caller.stream("fake: slow 20 4000", "t", "text").await;
    streamed.started().await;
    let told = all(&caller).await;
    assert_eq!((number(&told, "Active"), number(&told, "Queued")), (1, 0));
    streamed.request.cancel().await.unwrap();
    streamed.end().await;
}

#[tokio::test]
async fn changes_are_told_and_never_those_of_requests() {
    let daemon = Setup::fake()
        .fake_model("slow", "slow 2000")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let properties = properties(&caller).await;
    let mut changes = properties.receive_properties_changed().await.unwrap();
    // Requests change Active; if that were told, it would come before what loading tells.
    caller.ask("a secret", Options::new()).await.unwrap();
    let arguments = ("slow", Options::new());
    let load = caller.admin("LoadModel", &arguments);
    let watch = async {
        let mut told = Details::new();
        let mut percents = Vec::new();
        while told
            .get("State")
            .is_none_or(|_| number(&told, "State") != 3)
        {
            let change = patiently("a change", changes.next()).await.unwrap();
            let arguments = change.args().unwrap();
            assert_eq!(arguments.interface_name, ASSISTANT_INTERFACE);
            for (key, value) in &arguments.changed_properties {
                assert!(!matches!(*key, "Active" | "Queued"), "{key} was told");
                assert!(!format!("{value:?}").contains("secret"));
                told.insert((*key).to_owned(), value.try_to_owned().unwrap());
            }
            percents.extend(
                told.get("LoadPercent")
                    .map(|_| number(&told, "LoadPercent")),
            );
        }
        percents
    };
    let (loaded, percents) = tokio::join!(load, watch);
    loaded.unwrap();
    assert!(percents.iter().any(|percent| (1..100).contains(percent)));
    let model = properties.get(INTERFACE, "Model").await.unwrap();
    assert_eq!(text(&Details::try_from(model).unwrap(), "name"), "slow");
}

#[tokio::test]
async fn an_unloaded_model_comes_back_when_asked() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    caller.admin("UnloadModel", &()).await.unwrap();
    // The call returns when the end is certain; the process takes a moment longer.
    daemon
        .until_status("the engine is gone", |status| status.engine.is_none())
        .await;
    let told = all(&caller).await;
    assert_eq!(number(&told, "State"), State::Sleeping.as_u32());
    let sandbox = Vec::<String>::try_from(told["Sandbox"].try_clone().unwrap()).unwrap();
    assert!(sandbox.is_empty(), "no engine, no sandbox: {sandbox:?}");
    let again = caller.admin("UnloadModel", &()).await.unwrap_err();
    assert_eq!(name_and_text(&again).0, "org.hobd.Hob1.Error.NotReady");
    let (reply, _) = caller.ask("awake", Options::new()).await.unwrap();
    assert_eq!(reply, "awake");
}

/// The `interface` element in `xml`, without indentation.
fn interface(xml: &str, name: &str) -> Vec<String> {
    let start = format!("<interface name=\"{name}\">");
    let from = xml.find(&start).unwrap_or_else(|| panic!("no {name}"));
    let rest = &xml[from..];
    let to = rest.find("</interface>").unwrap();
    rest[..to]
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

async fn introspect(caller: &Caller, path: &str) -> String {
    let proxy = zbus::Proxy::new(&caller.connection, BUS_NAME, path, ASSISTANT_INTERFACE);
    proxy.await.unwrap().introspect().await.unwrap()
}

#[tokio::test]
async fn the_interfaces_in_the_tree_are_those_served() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let mut streamed = caller.stream("fake: slow 20 4000", "t", "text").await;
    let request = streamed.request.inner().path().to_string();
    let conversation = crate::conversations::open(&caller, Options::new()).await;
    let conversation = conversation.unwrap().inner().path().to_string();
    for (name, path) in [
        ("Assistant", OBJECT_PATH),
        ("Admin", OBJECT_PATH),
        ("Request", &request),
        ("Conversation", &conversation),
    ] {
        let name = format!("org.hobd.Hob1.{name}");
        let file = tree(&format!("crates/hobd/dbus/{name}.xml"));
        let written = interface(&std::fs::read_to_string(&file).unwrap(), &name);
        let served = interface(&introspect(&caller, path).await, &name);
        for (written, served) in written.iter().zip(&served) {
            assert_eq!(written, served, "in {}", file.display());
        }
        assert_eq!(written.len(), served.len(), "in {}", file.display());
        let undocumented: Vec<_> = served
            .windows(2)
            .filter(|pair| {
                let member = ["<method", "<signal", "<property"];
                member.iter().any(|start| pair[1].starts_with(start)) && pair[0] != "-->"
            })
            .collect();
        assert!(undocumented.is_empty(), "{undocumented:?}");
    }
    streamed.request.cancel().await.unwrap();
    streamed.end().await;
}

#[tokio::test]
async fn a_second_hobd_on_the_bus_is_refused() {
    let daemon = Setup::fake().bus().ready().await;
    let second = Setup::fake()
        .env("HOB_DBUS", "true")
        .env("DBUS_SESSION_BUS_ADDRESS", daemon.bus().address());
    let output = second.refused().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("org.hobd.Hob1 is taken"), "{said}");
    let caller = Caller::on(daemon.bus()).await;
    let (reply, _) = caller.ask("unharmed", Options::new()).await.unwrap();
    assert_eq!(reply, "unharmed");
}

#[tokio::test]
async fn a_user_without_a_session_bus_can_chat_all_the_same() {
    let daemon = Setup::fake()
        .env("HOB_DBUS", "true")
        .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .ready()
        .await;
    let reply = daemon.client().ask_whole("hello").await;
    assert_eq!(reply.status, 200);
    assert!(daemon.log().contains("no session bus"), "{}", daemon.log());
}

/// A bus like the system's, with hob's real policy. Of that, the names of user and group are
/// replaced: the machine may lack them, and this test can't become them.
fn policy_bus(folder: &Path, owner: &str, callers: &str) -> Bus {
    let policy = std::fs::read_to_string(tree("systemd/org.hobd.Hob1.conf")).unwrap();
    let replaced = policy
        .replace("user=\"root\"", "user=\"bin\"")
        .replace("user=\"hob\"", &format!("user=\"{owner}\""))
        .replace("group=\"hob\"", &format!("group=\"{callers}\""));
    for (kind, name) in [("user", owner), ("group", callers)] {
        let policy = format!("<policy {kind}=\"{name}\">");
        assert_eq!(replaced.matches(&policy).count(), 1, "{policy}");
    }
    std::fs::write(folder.join("org.hobd.Hob1.conf"), replaced).unwrap();
    let config = folder.join("bus.conf");
    std::fs::write(
        &config,
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <include>org.hobd.Hob1.conf</include>
</busconfig>
"#,
    )
    .unwrap();
    Bus::with_config(&config)
}

fn id(option: &str) -> String {
    let output = Command::new("id").arg(option).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_policy_lets_its_user_own_and_its_group_call() {
    let folder = tempfile::tempdir().unwrap();
    let bus = policy_bus(folder.path(), &id("-un"), &id("-gn"));
    let daemon = Setup::fake().on_bus(bus).ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let (reply, _) = caller.ask("let in", Options::new()).await.unwrap();
    assert_eq!(reply, "let in");
    // Every interface that a client needs, and the unicast signal.
    let mut streamed = caller.stream("fake: slow 20 4000", "t", "text").await;
    streamed.request.state().await.unwrap();
    streamed.request.cancel().await.unwrap();
    assert_eq!(streamed.end().await.outcome, 2);
    let conversation = crate::conversations::open(&caller, Options::new()).await;
    let conversation = conversation.unwrap();
    let mut closed = conversation.receive_closed().await.unwrap();
    let (reply, _) = conversation.ask("kept", Options::new()).await.unwrap();
    assert_eq!(reply, "kept");
    conversation.close().await.unwrap();
    patiently("Closed", closed.next()).await.unwrap();
    assert!(introspect(&caller, OBJECT_PATH).await.contains("Admin"));
    // And hobd may call a hub.
    let hub = crate::hub::Hub::on(&caller).await;
    crate::hub::still_does(&daemon, &caller, &hub).await;
    caller.admin("UnloadModel", &()).await.unwrap();
}

#[tokio::test]
async fn the_policy_keeps_everybody_else_out() {
    let folder = tempfile::tempdir().unwrap();
    // "nogroup" has no members, so this test's user may own the name and not call it.
    let bus = policy_bus(folder.path(), &id("-un"), "nogroup");
    let daemon = Setup::fake().on_bus(bus).ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let denied = "org.freedesktop.DBus.Error.AccessDenied";
    let (name, _) = caller.ask("hi", Options::new()).await.unwrap_err();
    assert_eq!(name, denied);
    let refused = caller.admin("UnloadModel", &()).await.unwrap_err();
    assert_eq!(name_and_text(&refused).0, denied);
    let refused = properties(&caller).await.get(INTERFACE, "State").await;
    assert!(format!("{:?}", refused.unwrap_err()).contains("AccessDenied"));
}

#[tokio::test]
async fn the_policy_lets_no_other_user_own_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let bus = policy_bus(folder.path(), "daemon", &id("-gn"));
    let output = Setup::fake().on_bus(bus).refused().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("does not let hobd own org.hobd.Hob1"),
        "{said}"
    );
    assert!(said.contains("(hint: "), "{said}");
}

/// A bus at a fixed address, to end and start again. Ended on drop.
struct Lasting(std::process::Child);

impl Lasting {
    fn at(address: &str) -> Self {
        let mut command = Command::new("dbus-daemon");
        command
            .args(["--session", "--nofork", "--nopidfile"])
            .arg(format!("--address={address}"))
            .stderr(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_bus_that_goes_away_takes_nothing_but_its_callers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bus");
    let address = format!("unix:path={}", socket.display());
    let bus = Lasting::at(&address);
    eventually("the bus", async || Caller::at(&address).await.ok()).await;
    let daemon = Setup::fake()
        .env("HOB_DBUS", "true")
        .env("DBUS_SESSION_BUS_ADDRESS", &address)
        .ready()
        .await;
    let caller = Caller::at(&address).await.unwrap();
    let streamed = caller.stream("fake: slow 20 4000", "t", "text").await;
    streamed.started().await;
    drop(bus);
    streamed.read().await;
    daemon
        .until_status("the caller's request ends", |status| status.active == 0)
        .await;
    assert_eq!(daemon.client().ask_whole("hello").await.status, 200);

    // A bus that is killed leaves its socket behind, and would not take its place.
    std::fs::remove_file(&socket).unwrap();
    let _bus = Lasting::at(&address);
    let asked = eventually("hobd is back on the bus", async || {
        let caller = Caller::at(&address).await.ok()?;
        let assistant = caller.assistant().await;
        assistant.ask("back", Options::new()).await.ok()
    });
    assert_eq!(asked.await.0, "back");
}
