//! A hub of a test's own, on the bus: it does as it is told, and remembers what it was asked.

#![allow(
    clippy::used_underscore_binding,
    reason = "zbus uses every argument of a method"
)]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use hob_e2e::{Daemon, Setup, eventually};
use tokio::sync::Notify;
use zbus::{ObjectPath, OwnedVariant, Variant, fdo, interface};

use crate::caller::{AssistantProxy, Caller, Details, Options, text};

pub(crate) static PATH: LazyLock<ObjectPath<'static>> =
    LazyLock::new(|| ObjectPath::try_from("/org/example/Hub").unwrap());
/// The name of what it registers.
pub(crate) const NAME: &str = "org.example.Hub";

/// What the hub was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    Invoked(String),
    Confirmed(String),
    Cancelled(String),
    Released,
}

/// What it does when it is asked for something.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Says so.
    Result(HashMap<&'static str, Variant<'static>>),
    /// Fails.
    Error(&'static str),
    /// Answers when [`Hub::go_on`] lets it.
    Waits,
    /// Answers with so many bytes.
    Bytes(usize),
}

#[derive(Debug)]
struct State {
    asked: Mutex<Vec<Asked>>,
    contexts: Mutex<Vec<(String, Details, Details)>>,
    manner: Mutex<Manner>,
    confirms: Mutex<Option<bool>>,
    go_on: Notify,
    under_way: Mutex<(usize, usize)>,
}

/// The hub's own hands on itself.
#[derive(Clone, Debug)]
pub(crate) struct Hub(Arc<State>);

/// Its object.
struct Object(Hub);

#[interface(name = "org.hobd.Hob1.ToolProvider")]
impl Object {
    async fn invoke(
        &self,
        call_id: String,
        tool: String,
        args: HashMap<String, OwnedVariant>,
        context: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<HashMap<&'static str, Variant<'static>>> {
        let state = &self.0.0;
        {
            let mut under_way = state.under_way.lock().unwrap();
            under_way.0 += 1;
            under_way.1 = under_way.1.max(under_way.0);
        }
        state.asked.lock().unwrap().push(Asked::Invoked(call_id));
        state.contexts.lock().unwrap().push((tool, args, context));
        let manner = state.manner.lock().unwrap().clone();
        let answer = match manner {
            Manner::Result(result) => Ok(result),
            Manner::Error(why) => Err(fdo::Error::Failed(why.to_owned())),
            Manner::Waits => {
                state.go_on.notified().await;
                Ok(done())
            }
            Manner::Bytes(count) => {
                let mut result = done();
                result.insert("speech", Variant::from("x".repeat(count)));
                Ok(result)
            }
        };
        state.under_way.lock().unwrap().0 -= 1;
        answer
    }

    async fn confirm(
        &self,
        call_id: String,
        _tool: String,
        _args: HashMap<String, OwnedVariant>,
        _context: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<bool> {
        let state = &self.0.0;
        state.asked.lock().unwrap().push(Asked::Confirmed(call_id));
        let confirms = *state.confirms.lock().unwrap();
        if let Some(confirmed) = confirms {
            return Ok(confirmed);
        }
        state.go_on.notified().await;
        Ok(true)
    }

    fn cancel(&self, call_id: String) {
        self.0
            .0
            .asked
            .lock()
            .unwrap()
            .push(Asked::Cancelled(call_id));
    }

    fn release(&self) {
        self.0.0.asked.lock().unwrap().push(Asked::Released);
    }
}

/// A hobd on the bus: none of this needs a model.
pub(crate) async fn without_model() -> Daemon {
    started(Setup::empty().bus()).await
}

/// Such a hobd, somebody on its bus, and the hub that they registered.
pub(crate) async fn at_home() -> (Daemon, Caller, Hub) {
    let daemon = without_model().await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::on(&caller).await;
    (daemon, caller, hub)
}

/// A hobd without anybody, made as `setup` says.
pub(crate) async fn started(setup: Setup) -> Daemon {
    let daemon = setup.start().await;
    daemon.until(hob_api::status::State::NoModel).await;
    daemon
}

/// A result that says no more than that it is done.
pub(crate) fn done() -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([("success", true.into())])
}

impl Hub {
    /// A hub on `caller`'s connection, registered with [`tools`] and [`targets`].
    pub(crate) async fn on(caller: &Caller) -> Self {
        let hub = Self::unregistered(caller).await;
        hub.register(&caller.assistant().await, Options::new())
            .await;
        hub
    }

    pub(crate) async fn unregistered(caller: &Caller) -> Self {
        let hub = Self(Arc::new(State {
            asked: Mutex::default(),
            contexts: Mutex::default(),
            manner: Mutex::new(Manner::Result(done())),
            confirms: Mutex::new(Some(true)),
            go_on: Notify::new(),
            under_way: Mutex::default(),
        }));
        let server = caller.connection.object_server();
        server.at(&*PATH, Object(hub.clone())).await.unwrap();
        hub
    }

    pub(crate) async fn register(&self, assistant: &AssistantProxy<'_>, options: Options<'_>) {
        let registered = assistant.register_provider(&PATH, tools(), targets(), options);
        registered.await.unwrap();
    }

    pub(crate) fn does(&self, manner: Manner) {
        *self.0.manner.lock().unwrap() = manner;
    }

    /// What it says when a person is to confirm something; with `None` it waits for `go_on`.
    pub(crate) fn confirms(&self, confirms: Option<bool>) {
        *self.0.confirms.lock().unwrap() = confirms;
    }

    pub(crate) fn go_on(&self) {
        self.0.go_on.notify_one();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.0.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked for so many things.
    pub(crate) async fn until_asked(&self, count: usize) -> Vec<Asked> {
        eventually("the hub is asked", async || {
            let asked = self.asked();
            (asked.len() >= count).then_some(asked)
        })
        .await
    }

    /// Tool, arguments and context of each invocation.
    pub(crate) fn invoked(&self) -> Vec<String> {
        let contexts = self.0.contexts.lock().unwrap();
        contexts
            .iter()
            .map(|(tool, args, context)| {
                let mut args: Vec<_> = args
                    .iter()
                    .map(|(name, value)| format!("{name}={value:?}"))
                    .collect();
                args.sort();
                format!("{tool} {} {:?}", args.join(" "), context["targets"])
            })
            .collect()
    }

    /// The context of the last invocation.
    pub(crate) fn context(&self) -> Details {
        let contexts = self.0.contexts.lock().unwrap();
        let (_, _, context) = contexts.last().unwrap();
        let copies = context.iter();
        copies
            .map(|(key, value)| (key.clone(), value.try_clone().unwrap()))
            .collect()
    }

    /// How many calls it was given at once, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.0.under_way.lock().unwrap().1
    }
}

/// Lights that can be dimmed, and a lock that takes a confirmation.
pub(crate) fn tools<'a>() -> Vec<Options<'a>> {
    let schema = r#"{"type": "object", "required": ["level"], "properties":
        {"level": {"type": "integer", "minimum": 0, "maximum": 100, "description": "percent"}}}"#;
    vec![
        Options::from([("name", "turn_on".into()), ("kinds", vec!["light"].into())]),
        Options::from([("name", "turn_off".into()), ("kinds", vec!["light"].into())]),
        Options::from([
            ("name", "dim".into()),
            ("kinds", vec!["light"].into()),
            ("parameters", schema.into()),
        ]),
        Options::from([
            ("name", "unlock".into()),
            ("kinds", vec!["lock"].into()),
            ("dangerous", true.into()),
        ]),
    ]
}

pub(crate) fn target<'a>(id: &'a str, name: &'a str, kind: &'a str) -> Options<'a> {
    Options::from([
        ("id", id.into()),
        ("name", name.into()),
        ("kind", kind.into()),
    ])
}

pub(crate) fn targets<'a>() -> Vec<Options<'a>> {
    let mut desk = target("l.desk", "Desk Lamp", "light");
    let state = Options::from([("level", Variant::from(40_u32))]);
    desk.insert("state", state.into());
    vec![
        desk,
        target("l.hall", "Hall Light", "light"),
        target("k.front", "Front Door", "lock"),
    ]
}

/// Says something to the provider.
pub(crate) async fn say(caller: &Caller, said: &str) -> Told {
    say_with(caller, said, []).await.unwrap()
}

pub(crate) async fn say_with<'a, const N: usize>(
    caller: &Caller,
    said: &str,
    options: [(&'a str, Variant<'a>); N],
) -> Result<Told, (String, String)> {
    let mut all = Options::from([("provider", "*".into())]);
    all.extend(options);
    let (reply, details) = caller.ask(said, all).await?;
    Ok(Told::new(reply, &details))
}

/// What came of something that was said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) reply: String,
    pub(crate) outcome: String,
    /// Status and error of each call.
    pub(crate) ends: Vec<(String, String)>,
}

impl Told {
    pub(crate) fn new(reply: String, details: &Details) -> Self {
        let calls = details["calls"].try_clone().unwrap();
        let calls: Vec<Details> = calls.try_into().unwrap();
        let end = |call: &Details| (text(call, "status"), text(call, "error"));
        Self {
            reply,
            outcome: text(details, "outcome"),
            ends: calls.iter().map(end).collect(),
        }
    }

    pub(crate) fn statuses(&self) -> Vec<&str> {
        self.ends
            .iter()
            .map(|(status, _)| status.as_str())
            .collect()
    }
}

/// Whether hobd still has what it has to have.
pub(crate) async fn still_does(daemon: &Daemon, caller: &Caller, hub: &Hub) {
    hub.does(Manner::Result(done()));
    let told = say(caller, "turn on the desk lamp").await;
    assert_eq!(told.statuses(), ["done"], "{told:?}");
    assert_eq!(daemon.status().await.engine_losses, 0);
}
