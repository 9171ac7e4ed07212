//! Hubs on the bus: what they register, what is read of what people say, and what is left of it when
//! they leave.

use std::sync::LazyLock;

use hob_api::provider::ProviderList;
use hob_e2e::{Daemon, eventually};
use zbus::{ObjectPath, Variant};

use crate::caller::{AssistantProxy, Caller, Details, Options, name_and_text, text};
use crate::hub::without_model;

static HUB: LazyLock<ObjectPath<'static>> =
    LazyLock::new(|| ObjectPath::try_from("/org/example/Hub").unwrap());

fn tools<'a>() -> Vec<Options<'a>> {
    let schema = r#"{"type": "object", "required": ["level"], "properties":
        {"level": {"type": "integer", "minimum": 0, "maximum": 100, "description": "percent"}}}"#;
    vec![
        Options::from([
            ("name", "turn_off".into()),
            ("kinds", vec!["light"].into()),
            ("examples", vec!["switch {target} off"].into()),
        ]),
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

fn target<'a>(id: &'a str, name: &'a str, kind: &'a str) -> Options<'a> {
    let state = Options::from([("level", Variant::from(40_u32))]);
    Options::from([
        ("id", id.into()),
        ("name", name.into()),
        ("kind", kind.into()),
        ("state", state.into()),
    ])
}

fn targets<'a>() -> Vec<Options<'a>> {
    vec![
        target("l.desk", "Desk Lamp", "light"),
        target("k.front", "Front Door", "lock"),
    ]
}

async fn register(assistant: &AssistantProxy<'_>) -> u64 {
    let registered = assistant.register_provider(&HUB, tools(), targets(), Options::new());
    registered.await.unwrap()
}

async fn names(daemon: &Daemon) -> Vec<String> {
    let list: ProviderList = daemon.client().get("/hob/v1/providers").await.json();
    list.data
        .into_iter()
        .map(|provider| provider.name)
        .collect()
}

async fn read(assistant: &AssistantProxy<'_>, text: &str) -> (String, Vec<Details>, Details) {
    assistant.interpret(text, Options::new()).await.unwrap()
}

#[tokio::test]
async fn a_hub_registers_is_understood_and_leaves_nothing_behind() {
    let daemon = without_model().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    assert_eq!(register(&assistant).await, 1);
    assert_eq!(names(&daemon).await, ["org.example.Hub"]);

    let (outcome, calls, details) = read(&assistant, "dim the desk lamp to 30 percent").await;
    assert_eq!((outcome.as_str(), calls.len()), ("call", 1), "{details:?}");
    assert_eq!(text(&calls[0], "tool"), "dim");
    assert_eq!(text(&calls[0], "provider"), "org.example.Hub");
    let shown = format!("{:?}", calls[0]);
    assert!(
        shown.contains("l.desk") && shown.contains("I64(30)"),
        "{shown}"
    );
    let (outcome, calls, _) = read(&assistant, "unlock the front door").await;
    assert_eq!(outcome, "call");
    assert!(format!("{:?}", calls[0]["needs_confirmation"]).contains("true"));
    let (outcome, calls, details) = read(&assistant, "what is a dew point?").await;
    assert_eq!((outcome.as_str(), calls.len()), ("talk", 0));
    assert!(!text(&details, "reason").is_empty());

    let changed = vec![target("l.attic", "Attic Light", "light")];
    let updated = assistant.update_targets(&HUB, changed, &["l.desk"]);
    assert_eq!(updated.await.unwrap(), 2);
    let (outcome, _, _) = read(&assistant, "switch the attic light off").await;
    assert_eq!(outcome, "call");

    // A second registration of the same object takes the first one's place.
    assert_eq!(register(&assistant).await, 3);
    drop((assistant, caller));
    eventually("the provider went with its hub", async || {
        names(&daemon).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hub_has_its_own_objects_alone_and_is_told_what_is_wrong() {
    let daemon = without_model().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    register(&assistant).await;
    let other = Caller::on(daemon.bus()).await;
    let others = other.assistant().await;
    let unknown = "org.freedesktop.DBus.Error.UnknownObject";
    let failed = |error: zbus::Error| name_and_text(&error);
    let error = others.unregister_provider(&HUB).await.map_err(failed);
    assert_eq!(error.unwrap_err().0, unknown);
    let error = others
        .update_targets(&HUB, vec![], &[])
        .await
        .map_err(failed);
    assert_eq!(error.unwrap_err().0, unknown);
    let twice = others.register_provider(&HUB, tools(), targets(), Options::new());
    let (name, said) = twice.await.map_err(failed).unwrap_err();
    assert!(
        name.ends_with("InvalidArgs") && said.contains("name"),
        "{said}"
    );
    // Under another name it may.
    let named = Options::from([("name", "second".into())]);
    let second = others
        .register_provider(&HUB, tools(), targets(), named)
        .await;
    second.unwrap();
    assert_eq!(names(&daemon).await, ["org.example.Hub", "second"]);

    let refused = async |tools, targets, options, place: &str| {
        let refused = assistant.register_provider(&HUB, tools, targets, options);
        let (name, said) = refused.await.map_err(failed).unwrap_err();
        assert!(name.ends_with("InvalidArgs"), "{name}: {said}");
        assert!(said.contains(place), "{said}");
    };
    let none = Options::new;
    refused(vec![], targets(), none(), "tools").await;
    let bad = Options::from([("name", "x".into()), ("parameters", "{".into())]);
    refused(vec![bad], vec![], none(), "tools[0].parameters").await;
    let odd = Options::from([("name", "x".into()), ("colour", "red".into())]);
    refused(vec![odd], vec![], none(), "tools[0].colour").await;
    let mut twins = targets();
    twins.extend(targets());
    refused(tools(), twins, none(), "targets[2].id").await;
    let path = Options::from([("path", "x".into())]);
    refused(tools(), targets(), path, "path").await;
    // What was refused changed nothing.
    let (outcome, _, _) = read(&others, "unlock the front door").await;
    assert_eq!(outcome, "unsure", "both homes have such a door");
    others.unregister_provider(&HUB).await.unwrap();
    assert_eq!(names(&daemon).await, ["org.example.Hub"]);
    let (outcome, _, _) = read(&others, "unlock the front door").await;
    assert_eq!(outcome, "call");
}
