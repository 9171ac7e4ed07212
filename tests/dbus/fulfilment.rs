//! What is said to a hub is done, confirmed where it must be, and told in words.

#![allow(
    clippy::unused_self,
    clippy::used_underscore_binding,
    reason = "zbus takes methods, and uses every argument"
)]

use std::collections::HashMap;

use hob_api::home::{CallStatus, HomeAnswer, Outcome};
use hob_api::{ErrorCode, Event};
use hob_e2e::Setup;
use serde_json::json;
use zbus::Variant;

use crate::caller::{self, Caller, Options, number, text};
use crate::hub::{
    Asked, Hub, Manner, NAME, Told, at_home, done, say, say_with, still_does, without_model,
};

#[tokio::test]
async fn what_is_said_is_done_and_told() {
    let (_daemon, caller, hub) = at_home().await;

    let options = [
        ("area", "Study".into()),
        ("device", "puck".into()),
        ("timeout_ms", Variant::from(60_000_u32)),
    ];
    let told = say_with(&caller, "dim the desk lamp to 30 percent", options).await;
    let told = told.unwrap();
    assert_eq!(told.reply, "Done: Desk Lamp.");
    assert_eq!(
        (told.outcome.as_str(), told.statuses()),
        ("call", vec!["done"])
    );
    let invoked = hub.invoked();
    assert_eq!(invoked.len(), 1);
    for part in ["dim ", "level=", "30", "l.desk"] {
        assert!(invoked[0].contains(part), "{invoked:?} lacks {part}");
    }
    let context = hub.context();
    assert_eq!(text(&context, "provider"), NAME);
    assert_eq!(text(&context, "text"), "dim the desk lamp to 30 percent");
    assert_eq!(text(&context, "area"), "Study");
    assert_eq!(text(&context, "device"), "puck");
    assert_eq!(text(&context, "language"), "en");
    assert!((1..=60_000).contains(&number(&context, "deadline_ms")));
    assert!(!bool::try_from(&context["confirmed"]).unwrap());
    assert_eq!(u64::try_from(&context["generation"]).unwrap(), 1);

    // The hub's own words, and German for what is said in it.
    let speech = HashMap::from([("success", true.into()), ("speech", "Es ist hell".into())]);
    hub.does(Manner::Result(speech));
    let told = say(&caller, "turn on the desk lamp and turn off the hall light").await;
    assert_eq!(told.reply, "Es ist hell. Es ist hell.");
    hub.does(Manner::Result(done()));
    let told = say(&caller, "schalte bitte die Desk Lamp aus").await;
    assert_eq!(told.reply, "Erledigt: Desk Lamp.");
    assert_eq!(text(&hub.context(), "language"), "de");
    let told = say_with(
        &caller,
        "turn off the hall light",
        [("language", "de".into())],
    )
    .await;
    assert_eq!(told.unwrap().reply, "Erledigt: Hall Light.");
    // Calls have names of their own.
    let ids: std::collections::BTreeSet<_> = hub.asked().iter().map(|a| format!("{a:?}")).collect();
    assert_eq!(ids.len(), hub.asked().len());
}

#[tokio::test]
async fn what_can_not_be_done_is_answered_without_the_hub() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::on(&caller).await;

    let told = say(&caller, "is the desk lamp on?").await;
    assert_eq!(
        (told.outcome.as_str(), told.reply.as_str()),
        ("question", "Desk Lamp: yes.")
    );
    let told = say(&caller, "is the front door locked?").await;
    assert_eq!(told.reply, "I don't know that about Front Door.");
    let more = ["Bath Light", "Attic Light", "Cellar Light"];
    let more = more.map(|name| crate::hub::target(&name[..4], name, "light"));
    let assistant = caller.assistant().await;
    let updated = assistant.update_targets(&crate::hub::PATH, more.to_vec(), &[]);
    updated.await.unwrap();
    let told = say(&caller, "turn on the light").await;
    assert_eq!(told.outcome, "unsure", "{told:?}");
    assert!(
        told.reply.starts_with("Do you mean ") && told.reply.ends_with('?'),
        "{told:?}"
    );
    let told = say(&caller, "open the bedroom window").await;
    assert!(
        matches!(told.outcome.as_str(), "cannot" | "talk"),
        "{told:?}"
    );
    // It is no matter of the home: the model answers, and is told nothing but what was said.
    let options = Options::from([("provider", NAME.into())]);
    let (reply, details) = caller.ask("fake: show", options).await.unwrap();
    assert_eq!(text(&details, "outcome"), "talk");
    assert_eq!(text(&details, "model"), "fake");
    let seen: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert!(!seen.to_string().contains("Lamp"), "{seen}");
    assert_eq!(hub.asked(), []);
}

#[tokio::test]
async fn a_dangerous_call_is_made_when_a_person_confirms_it() {
    let (_daemon, caller, hub) = at_home().await;
    let said = "unlock the front door";

    let told = say(&caller, said).await;
    assert_eq!(told.reply, "Done: Front Door.");
    let asked = hub.asked();
    let [Asked::Confirmed(first), Asked::Invoked(second)] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert_eq!(first, second, "it is the same call");
    assert!(bool::try_from(&hub.context()["confirmed"]).unwrap());

    hub.confirms(Some(false));
    let told = say(&caller, said).await;
    assert_eq!(told.statuses(), ["refused"]);
    assert_eq!(
        told.reply,
        "I did not do that, as nobody confirmed it: Front Door."
    );
    // What a person refuses keeps nothing else from being done.
    let told = say(&caller, "unlock the front door and turn on the desk lamp").await;
    assert_eq!(told.statuses(), ["refused", "done"], "{told:?}");

    // Nobody answers: the hub is told, and it was not done.
    hub.confirms(None);
    let told = say_with(&caller, said, [("timeout_ms", Variant::from(2000_u32))]).await;
    let told = told.unwrap();
    assert_eq!(told.statuses(), ["refused"], "{told:?}");
    hub.until_asked(7).await;
    assert!(
        matches!(hub.asked()[6], Asked::Cancelled(_)),
        "{:?}",
        hub.asked()
    );
    let invoked = hub
        .invoked()
        .into_iter()
        .filter(|call| call.starts_with("unlock"));
    assert_eq!(invoked.count(), 1);
}

/// A hub that has no way to ask anybody.
struct Plain;

#[zbus::interface(name = "org.hobd.Hob1.ToolProvider")]
impl Plain {
    fn invoke(
        &self,
        _call_id: String,
        _tool: String,
        _args: HashMap<String, zbus::OwnedVariant>,
        _context: HashMap<String, zbus::OwnedVariant>,
    ) -> HashMap<&'static str, Variant<'static>> {
        done()
    }
}

#[tokio::test]
async fn a_hub_that_can_ask_nobody_confirms_nothing() {
    let daemon = without_model().await;
    let caller = Caller::on(daemon.bus()).await;
    let server = caller.connection.object_server();
    server.at(&*crate::hub::PATH, Plain).await.unwrap();
    let assistant = caller.assistant().await;
    let registered = assistant.register_provider(
        &crate::hub::PATH,
        crate::hub::tools(),
        crate::hub::targets(),
        Options::new(),
    );
    registered.await.unwrap();
    let told = say(&caller, "unlock the front door").await;
    assert_eq!(told.statuses(), ["refused"], "{told:?}");
    assert_eq!(
        say(&caller, "turn on the desk lamp").await.statuses(),
        ["done"]
    );
}

#[tokio::test]
async fn a_stream_tells_the_same() {
    let (_daemon, caller, hub) = at_home().await;
    let assistant = caller.assistant().await;
    let options = |format: &'static str| {
        Options::from([("provider", NAME.into()), ("format", format.into())])
    };
    let said = "turn on the desk lamp";
    let (_, fd) = assistant.stream(said, options("text")).await.unwrap();
    assert_eq!(caller::read_text(fd).await, "Done: Desk Lamp.");
    let (_, fd) = assistant.stream(said, options("events")).await.unwrap();
    let events = caller::read_events(fd).await;
    let Some(Event::Done(end)) = events.last() else {
        panic!("{events:?}");
    };
    let home = end.home.as_ref().unwrap();
    assert_eq!(home.outcome, Outcome::Call);
    assert_eq!(
        home.calls[0].result.as_ref().unwrap().status,
        CallStatus::Done
    );
    assert_eq!(home.reply.as_deref(), Some("Done: Desk Lamp."));
    assert_eq!(hub.invoked().len(), 2);
}

#[tokio::test]
async fn http_and_the_command_line_do_the_same() {
    let (daemon, _caller, hub) = at_home().await;
    let client = daemon.client();
    let body = json!({"text": "dim the desk lamp to 20 percent", "execute": true});
    let answer: HomeAnswer = client.post("/hob/v1/home", &body).await.json();
    assert_eq!(answer.reply.as_deref(), Some("Done: Desk Lamp."));
    assert_eq!(
        answer.calls[0].result.as_ref().unwrap().status,
        CallStatus::Done
    );
    // Only read, it is only read.
    let body = json!({"text": "turn on the desk lamp"});
    let answer: HomeAnswer = client.post("/hob/v1/home", &body).await.json();
    assert_eq!(
        (answer.calls[0].result.as_ref(), answer.reply),
        (None, None)
    );
    let body = json!({"text": "turn on the desk lamp", "rounds": 1});
    let refused = client.post("/hob/v1/home", &body).await;
    refused.error(400, ErrorCode::InvalidRequest);
    assert_eq!(hub.invoked().len(), 1);

    let hob = async |arguments: &[&str]| {
        let mut command = daemon.hob();
        command.args(["home"]).args(arguments);
        let output = tokio::process::Command::from(command)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = hob(&["turn on the hall light"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("reply     Done: Hall Light.\ncall      turn_on l.hall"),
        "{said}"
    );
    let (code, said) = hob(&["--dry-run", "turn on the hall light"]).await;
    assert!(code == Some(0) && said.starts_with("call "), "{said}");
    assert_eq!(hub.invoked().len(), 2);
    hub.does(Manner::Error("the bulb is broken"));
    let (code, said) = hob(&["turn on the hall light"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("That did not work: Hall Light (the bulb is broken)."),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_registered_over_http_has_nobody_to_do_it() {
    let daemon = without_model().await;
    let caller = Caller::on(daemon.bus()).await;
    let client = daemon.client();
    let body = json!({
        "tools": [{"name": "turn_on", "acts_on": {}}],
        "targets": [{"id": "l", "name": "Desk Lamp", "kind": "light", "state": {"level": 3}}],
    });
    client
        .put("/hob/v1/providers/house", &body)
        .await
        .json::<serde_json::Value>();
    let said = "turn on the desk lamp";
    let (name, words) = say_with(&caller, said, []).await.unwrap_err();
    assert_eq!(name, "org.hobd.Hob1.Error.NoHub");
    assert!(
        words.contains("house") && words.contains("(hint: "),
        "{words}"
    );
    let body = json!({"text": said, "execute": true});
    let refused = client.post("/hob/v1/home", &body).await;
    refused.error(409, ErrorCode::NoHub);
    // What needs no hub needs none.
    let told = say(&caller, "how is the desk lamp?").await;
    assert_eq!(told.reply, "Desk Lamp: level 3.");
    // The command line shows what it would do.
    let mut command = daemon.hob();
    command.args(["home", said]);
    let output = tokio::process::Command::from(command)
        .output()
        .await
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("done      nothing"), "{shown}");
}

#[tokio::test]
async fn only_so_much_is_done_and_bad_options_are_refused() {
    let (daemon, caller, hub) = at_home().await;
    let both = "turn on the desk lamp and turn off the hall light";
    let told = say_with(&caller, both, [("rounds", Variant::from(1_u32))])
        .await
        .unwrap();
    assert_eq!(told.statuses(), ["done", "skipped"]);
    assert_eq!(
        told.reply,
        "Done: Desk Lamp. I did not do that: Hall Light."
    );
    let invalid = "org.freedesktop.DBus.Error.InvalidArgs";
    for (key, value) in [
        ("rounds", Variant::from(0_u32)),
        ("rounds", Variant::from(17_u32)),
        ("language", "fr".into()),
        ("provider", "".into()),
        ("area", 1_u32.into()),
        ("response_schema", "{}".into()),
    ] {
        let (name, words) = say_with(&caller, both, [(key, value)]).await.unwrap_err();
        assert_eq!(name, invalid, "{key}: {words}");
        assert!(words.contains(key), "{key}: {words}");
    }
    let none = say_with(&caller, both, [("provider", "another".into())]).await;
    assert!(none.unwrap_err().0.ends_with("UnknownObject"));
    let kept = say_with(&caller, both, [("conversation", "0".repeat(32).into())]).await;
    let (name, words) = kept.unwrap_err();
    assert!(name.ends_with("NotSupported"), "{name}: {words}");
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn names_of_any_script_are_understood_and_said() {
    let daemon = without_model().await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::unregistered(&caller).await;
    let assistant = caller.assistant().await;
    let targets = vec![
        crate::hub::target("l.1", "厨房灯", "light"),
        crate::hub::target("l.2", "свет на кухне", "light"),
        crate::hub::target("l.3", "نور", "light"),
    ];
    let registered = assistant.register_provider(
        &crate::hub::PATH,
        crate::hub::tools(),
        targets,
        Options::new(),
    );
    registered.await.unwrap();
    for (id, name) in [("l.1", "厨房灯"), ("l.2", "свет на кухне"), ("l.3", "نور")]
    {
        let told: Told = say(&caller, &format!("turn on {name}")).await;
        assert_eq!(told.reply, format!("Done: {name}."), "{told:?}");
        assert!(hub.invoked().last().unwrap().contains(id));
    }
}

#[tokio::test]
async fn two_things_of_one_name_are_asked_about() {
    let daemon = without_model().await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::unregistered(&caller).await;
    let assistant = caller.assistant().await;
    let lamp = |id, area: &'static str| {
        let mut lamp = crate::hub::target(id, "Ceiling Lamp", "light");
        lamp.insert("area", area.into());
        lamp
    };
    let targets = vec![lamp("l.1", "Kitchen"), lamp("l.2", "Study")];
    let registered = assistant.register_provider(
        &crate::hub::PATH,
        crate::hub::tools(),
        targets,
        Options::new(),
    );
    registered.await.unwrap();
    let told = say(&caller, "turn on the ceiling lamp").await;
    assert_eq!(told.outcome, "unsure", "{told:?}");
    assert!(
        told.reply.contains("Kitchen") && told.reply.contains("Study"),
        "{told:?}"
    );
    let told = say(&caller, "turn on the ceiling lamp in the study").await;
    assert_eq!(told.statuses(), ["done"]);
    assert!(hub.invoked()[0].contains("l.2"), "{:?}", hub.invoked());
    let told = say_with(
        &caller,
        "turn on the ceiling lamp",
        [("area", "Kitchen".into())],
    );
    assert_eq!(told.await.unwrap().statuses(), ["done"]);
    assert!(hub.invoked()[1].contains("l.1"), "{:?}", hub.invoked());
}
