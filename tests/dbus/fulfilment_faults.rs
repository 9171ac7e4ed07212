//! Hubs that never answer, answer too late or too much, leave in the middle or come again; and askers
//! that do.

use std::collections::HashMap;
use std::time::Duration;

use hob_api::ErrorCode;
use hob_api::provider::ProviderList;
use hob_e2e::{Bus, Setup, eventually, ran_as_root};
use serde_json::json;
use zbus::Variant;

use crate::caller::{Caller, Options, name_and_text, number};
use crate::hub::{
    Asked, Hub, Manner, NAME, PATH, Told, at_home, done, say, say_with, started, still_does,
    target, targets, tools, without_model,
};

const LAMP: &str = "turn on the desk lamp";
const BOTH: &str = "turn on the desk lamp and turn off the hall light";

/// A user whom every machine knows: a bus turns away those that its machine does not.
const NOBODY: u32 = 65_534;

/// Says it in a task of its own, so that something can happen meanwhile.
fn saying(caller: &Caller, said: &'static str) -> tokio::task::JoinHandle<Told> {
    let caller = Caller {
        connection: caller.connection.clone(),
    };
    tokio::spawn(async move { say(&caller, said).await })
}

#[tokio::test]
async fn a_hub_that_never_answers_is_told_when_nobody_waits_any_more() {
    let (daemon, caller, hub) = at_home().await;
    hub.does(Manner::Waits);
    let told = say_with(&caller, BOTH, [("timeout_ms", Variant::from(2000_u32))]).await;
    let told = told.unwrap();
    assert_eq!(told.statuses(), ["unanswered", "skipped"], "{told:?}");
    assert!(
        told.reply.contains("I don't know whether that worked"),
        "{told:?}"
    );
    let asked = hub.until_asked(2).await;
    let [Asked::Invoked(call), Asked::Cancelled(cancelled)] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert_eq!(call, cancelled);
    // It answers after all: that is nobody's answer any more.
    hub.does(Manner::Error("no power"));
    hub.go_on();
    assert_eq!(say(&caller, LAMP).await.statuses(), ["failed"]);
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn a_hub_has_its_own_time_and_its_place_is_free_afterwards() {
    let home = "[home]\ninvoke_timeout = \"1s\"\nconfirm_timeout = \"1500ms\"";
    let daemon = started(Setup::empty().toml(home).bus()).await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::on(&caller).await;
    hub.does(Manner::Waits);
    // The request itself has five minutes.
    let told = say(&caller, BOTH).await;
    assert_eq!(told.statuses(), ["unanswered", "skipped"], "{told:?}");
    assert_eq!(
        told.reply,
        "I got no answer in time, so I don't know whether that worked: Desk Lamp. \
         I did not do that: Hall Light."
    );
    assert!((1..=1000).contains(&number(&hub.context(), "deadline_ms")));
    hub.until_asked(2).await;
    hub.does(Manner::Result(done()));
    assert_eq!(say(&caller, LAMP).await.statuses(), ["done"]);
    // The first one answers now, which is no answer to anything else.
    hub.does(Manner::Error("no power"));
    hub.go_on();
    assert_eq!(say(&caller, LAMP).await.statuses(), ["failed"]);

    // A person who thinks for too long confirms nothing, and keeps nothing else from being done.
    hub.does(Manner::Result(done()));
    hub.confirms(None);
    let told = say(&caller, "unlock the front door and turn on the desk lamp").await;
    assert_eq!(told.statuses(), ["refused", "done"], "{told:?}");
    assert_eq!(told.ends[0].1, "nobody confirmed it in time");
    // The request's own time ends it earlier.
    hub.does(Manner::Waits);
    let hurried = [
        ("language", "de".into()),
        ("timeout_ms", Variant::from(300_u32)),
    ];
    let told = say_with(&caller, LAMP, hurried).await.unwrap();
    assert_eq!(told.statuses(), ["unanswered"], "{told:?}");
    assert_eq!(
        told.reply,
        "Ich bekam rechtzeitig keine Antwort und weiß nicht, ob das geklappt hat: Desk Lamp."
    );
    assert!((1..=300).contains(&number(&hub.context(), "deadline_ms")));
    let mut command = daemon.hob();
    command.args(["home", "--timeout", "300ms", LAMP]);
    let output = tokio::process::Command::from(command).output().await;
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("unanswered"), "{said}");
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn who_goes_away_cancels_what_it_asked_for() {
    let (daemon, caller, hub) = at_home().await;
    hub.does(Manner::Waits);
    let visitor = Caller::on(daemon.bus()).await;
    let asked = saying(&visitor, LAMP);
    hub.until_asked(1).await;
    visitor.connection.close().await.unwrap();
    let heard = hub.until_asked(2).await;
    assert!(matches!(heard[1], Asked::Cancelled(_)), "{heard:?}");
    asked.abort();

    // The same by the request's own object, and by a connection over HTTP that is closed.
    let request = caller.request("mine").await;
    let options = Options::from([("provider", NAME.into()), ("handle_token", "mine".into())]);
    let cancel = async {
        hub.until_asked(3).await;
        request.cancel().await.unwrap();
    };
    let (ended, ()) = tokio::join!(caller.ask(LAMP, options), cancel);
    assert_eq!(ended.unwrap_err().0, "org.hobd.Hob1.Error.Cancelled");
    hub.until_asked(4).await;
    let client = daemon.client();
    let body = json!({"text": LAMP, "execute": true});
    let posted = tokio::spawn(async move { client.post("/hob/v1/home", &body).await });
    hub.until_asked(5).await;
    posted.abort();
    let heard = hub.until_asked(6).await;
    assert!(matches!(heard[5], Asked::Cancelled(_)), "{heard:?}");
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn a_hub_does_one_call_at_once_and_who_waits_too_long_has_none_begun() {
    let (_daemon, caller, hub) = at_home().await;
    hub.does(Manner::Waits);
    let first = saying(&caller, LAMP);
    hub.until_asked(1).await;
    let late = say_with(&caller, LAMP, [("timeout_ms", Variant::from(2000_u32))]).await;
    assert_eq!(late.unwrap().statuses(), ["skipped"], "it was never begun");
    hub.does(Manner::Result(done()));
    let others: Vec<_> = (0..3).map(|_| saying(&caller, LAMP)).collect();
    hub.go_on();
    assert_eq!(first.await.unwrap().statuses(), ["done"]);
    for other in others {
        assert_eq!(other.await.unwrap().statuses(), ["done"]);
    }
    assert_eq!((hub.most_at_once(), hub.invoked().len()), (1, 4));
    // Who is to confirm something keeps nobody else waiting.
    hub.confirms(None);
    let unlocking = saying(&caller, "unlock the front door");
    hub.until_asked(5).await;
    assert_eq!(say(&caller, LAMP).await.statuses(), ["done"]);
    hub.go_on();
    assert_eq!(unlocking.await.unwrap().statuses(), ["done"]);
}

#[tokio::test]
async fn who_waited_for_a_hub_is_held_to_the_home_as_it_is_then() {
    let (_daemon, caller, hub) = at_home().await;
    hub.does(Manner::Waits);
    let first = saying(&caller, LAMP);
    hub.until_asked(1).await;
    let waiting = saying(&caller, "turn on the hall light");
    // Until it is read, and waits.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let assistant = caller.assistant().await;
    let removed = assistant.update_targets(&PATH, vec![], &["l.hall"]);
    removed.await.unwrap();
    hub.does(Manner::Result(done()));
    hub.go_on();
    assert_eq!(first.await.unwrap().statuses(), ["done"]);
    let told = waiting.await.unwrap();
    assert_eq!(told.statuses(), ["skipped"], "{told:?}");
    assert_eq!(hub.invoked().len(), 1);
}

#[tokio::test]
async fn what_a_user_has_done_at_once_is_bounded() {
    let daemon = started(Setup::empty().toml("[limits]\nper_uid = 2").bus()).await;
    let caller = Caller::on(daemon.bus()).await;
    let others = [
        Caller::on(daemon.bus()).await,
        Caller::on(daemon.bus()).await,
    ];
    let hub = Hub::on(&caller).await;
    hub.does(Manner::Waits);
    let waiting = [saying(&others[0], LAMP), saying(&others[1], LAMP)];
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (name, words) = say_with(&caller, LAMP, []).await.unwrap_err();
    assert!(name.ends_with("Busy"), "{name}: {words}");
    hub.does(Manner::Result(done()));
    hub.go_on();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().statuses(), ["done"]);
    }
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn what_a_hub_answers_is_bounded_and_must_make_sense() {
    let (daemon, caller, hub) = at_home().await;
    hub.does(Manner::Bytes(10 << 20));
    let told = say(&caller, LAMP).await;
    assert_eq!(told.statuses(), ["failed"]);
    assert!(told.ends[0].1.contains("65536 fit"), "{told:?}");
    // Within the bound, what is said is cut.
    hub.does(Manner::Bytes(60_000));
    let told = say(&caller, LAMP).await;
    assert_eq!(told.statuses(), ["done"]);
    assert!(told.reply.len() < 600, "{}", told.reply.len());
    let deep = |levels: usize| {
        let mut value = Variant::from(1_u32);
        for _ in 0..levels {
            value = Variant::from(vec![Variant::new(value)]);
        }
        value
    };
    for senseless in [
        HashMap::new(),
        HashMap::from([("success", Variant::from("yes"))]),
        HashMap::from([("success", Variant::from(1_u32))]),
        HashMap::from([("speech", Variant::from("Done."))]),
    ] {
        hub.does(Manner::Result(senseless));
        let told = say(&caller, LAMP).await;
        assert_eq!(told.statuses(), ["failed"], "{told:?}");
        assert!(
            told.reply.starts_with("That did not work: Desk Lamp"),
            "{told:?}"
        );
    }
    let mut odd = done();
    odd.extend([
        ("data", deep(12)),
        ("extra", deep(12)),
        ("speech", 7_u32.into()),
    ]);
    hub.does(Manner::Result(odd));
    assert_eq!(say(&caller, LAMP).await.reply, "Done: Desk Lamp.");
    // That it failed is said, whatever it wants said.
    let lie = HashMap::from([("success", false.into()), ("speech", "All done!".into())]);
    hub.does(Manner::Result(lie));
    let told = say(&caller, LAMP).await;
    assert_eq!(told.reply, "That did not work: Desk Lamp (All done!).");
    // That it both worked and did not is no success.
    let mut both = done();
    both.extend([("speech", "All done!".into()), ("error", "no power".into())]);
    hub.does(Manner::Result(both));
    let told = say(&caller, LAMP).await;
    assert_eq!(told.statuses(), ["failed"]);
    assert_eq!(told.reply, "That did not work: Desk Lamp (no power).");
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn a_hub_that_dies_in_the_middle_is_lost_and_may_come_back() {
    let daemon = without_model().await;
    let owner = Caller::on(daemon.bus()).await;
    let hub = Hub::on(&owner).await;
    hub.does(Manner::Waits);
    let caller = Caller::on(daemon.bus()).await;
    let asked = saying(&caller, BOTH);
    hub.until_asked(1).await;
    owner.connection.close().await.unwrap();
    let told = asked.await.unwrap();
    assert_eq!(told.statuses(), ["lost", "skipped"], "{told:?}");
    let words = "I can't tell whether that worked: Desk Lamp";
    assert!(told.reply.contains(words), "{told:?}");
    // Nothing is left of it, and its successor has its name at once.
    let owner = Caller::on(daemon.bus()).await;
    let hub = Hub::on(&owner).await;
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn what_changes_meanwhile_is_looked_at_again() {
    let (_daemon, caller, hub) = at_home().await;
    let assistant = caller.assistant().await;
    // A target goes while another one's call is made.
    hub.does(Manner::Waits);
    let asked = saying(&caller, BOTH);
    hub.until_asked(1).await;
    assistant
        .update_targets(&PATH, vec![], &["l.hall"])
        .await
        .unwrap();
    hub.go_on();
    let told = asked.await.unwrap();
    assert_eq!(told.statuses(), ["done", "skipped"], "{told:?}");
    assert!(told.ends[1].1.contains("changed meanwhile"), "{told:?}");

    // The hub registers again while a person thinks: without the door, nothing is unlocked.
    hub.confirms(None);
    let asked = saying(&caller, "unlock the front door");
    hub.until_asked(2).await;
    let lamp = vec![target("l.desk", "Desk Lamp", "light")];
    let again = assistant.register_provider(&PATH, tools(), lamp, Options::new());
    again.await.unwrap();
    hub.go_on();
    assert_eq!(asked.await.unwrap().statuses(), ["skipped"]);

    // And with it, under another generation, it is.
    hub.register(&assistant, Options::new()).await;
    hub.does(Manner::Result(done()));
    let asked = saying(&caller, "unlock the front door");
    hub.until_asked(3).await;
    hub.register(&assistant, Options::new()).await;
    hub.go_on();
    assert_eq!(asked.await.unwrap().statuses(), ["done"]);
    assert_eq!(u64::try_from(&hub.context()["generation"]).unwrap(), 5);
}

#[tokio::test]
async fn what_is_confirmed_is_what_is_done() {
    let (_daemon, caller, hub) = at_home().await;
    let assistant = caller.assistant().await;
    let said = "unlock the front door";
    let confirmations = |hub: &Hub| {
        let asked = hub.asked();
        let confirmed = asked.iter().filter(|a| matches!(a, Asked::Confirmed(_)));
        confirmed.count()
    };
    let described = |words: &'static str| {
        let mut changed = tools();
        changed[3].insert("description", words.into());
        changed
    };
    let changes = async |words| {
        let again = assistant.register_provider(&PATH, described(words), targets(), Options::new());
        again.await.unwrap();
    };
    // The tool becomes another one while a person thinks: that person is asked again.
    hub.confirms(None);
    let asked = saying(&caller, said);
    hub.until_asked(1).await;
    changes("opens every door of the house").await;
    hub.go_on();
    hub.until_asked(2).await;
    assert_eq!((confirmations(&hub), hub.invoked().len()), (2, 0));
    hub.go_on();
    assert_eq!(asked.await.unwrap().statuses(), ["done"]);
    assert_eq!(hub.invoked().len(), 1);

    // So it is when what has the target's id is something else.
    let asked = saying(&caller, said);
    hub.until_asked(4).await;
    let door = vec![target("k.front", "Vault", "lock")];
    assistant.update_targets(&PATH, door, &[]).await.unwrap();
    hub.go_on();
    hub.until_asked(5).await;
    // And when that changes as well, nothing is done.
    changes("opens the vault").await;
    hub.go_on();
    let told = asked.await.unwrap();
    assert_eq!(told.statuses(), ["refused"], "{told:?}");
    assert!(told.ends[0].1.contains("changed"), "{told:?}");
    assert_eq!((confirmations(&hub), hub.invoked().len()), (4, 1));

    // How the target is at the moment is no other target.
    let asked = saying(&caller, said);
    hub.until_asked(6).await;
    let mut door = target("k.front", "Front Door", "lock");
    let state = Options::from([("state", "locked".into())]);
    door.insert("state", state.into());
    assistant
        .update_targets(&PATH, vec![door], &[])
        .await
        .unwrap();
    hub.go_on();
    assert_eq!(asked.await.unwrap().statuses(), ["done"]);
    assert_eq!((confirmations(&hub), hub.invoked().len()), (5, 2));
}

#[tokio::test]
async fn a_hub_whose_place_is_taken_is_released() {
    let mut daemon = without_model().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    let hub = Hub::on(&caller).await;
    hub.does(Manner::Waits);
    let asked = saying(&caller, LAMP);
    hub.until_asked(1).await;
    let body = json!({"tools": [{"name": "make_coffee"}]});
    let path = format!("/hob/v1/providers/{NAME}");
    daemon
        .client()
        .put(&path, &body)
        .await
        .json::<serde_json::Value>();
    assert_eq!(asked.await.unwrap().statuses(), ["lost"]);
    eventually("it is released", async || {
        hub.asked().contains(&Asked::Released).then_some(())
    })
    .await;
    // It has no say over what took its place.
    let refused = assistant
        .update_targets(&PATH, vec![], &["l.hall"])
        .await
        .unwrap_err();
    assert!(name_and_text(&refused).0.ends_with("UnknownObject"));
    // It may take it back, loses it to a DELETE, and is told when hobd ends.
    let released = |hub: &Hub| {
        hub.asked()
            .iter()
            .filter(|a| **a == Asked::Released)
            .count()
    };
    hub.register(&assistant, Options::new()).await;
    still_does(&daemon, &caller, &hub).await;
    daemon
        .client()
        .delete(&path)
        .await
        .json::<serde_json::Value>();
    eventually("it is released again", async || {
        (released(&hub) == 2).then_some(())
    })
    .await;
    hub.register(&assistant, Options::new()).await;
    daemon.stop().await;
    eventually("it is released at the end", async || {
        (released(&hub) == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_unregisters_is_asked_for_nothing_and_told_nothing() {
    let (_daemon, caller, hub) = at_home().await;
    let assistant = caller.assistant().await;
    hub.does(Manner::Waits);
    let asked = saying(&caller, LAMP);
    hub.until_asked(1).await;
    assistant.unregister_provider(&PATH).await.unwrap();
    assert_eq!(asked.await.unwrap().statuses(), ["lost"]);
    let heard = hub.until_asked(2).await;
    assert!(matches!(heard[1], Asked::Cancelled(_)), "{heard:?}");
    let none = say_with(&caller, LAMP, []).await.unwrap_err();
    assert!(none.0.ends_with("UnknownObject"), "{none:?}");
    assert!(!hub.asked().contains(&Asked::Released));
}

#[tokio::test]
async fn two_hubs_with_the_same_tool_are_told_apart() {
    let daemon = without_model().await;
    let first = Caller::on(daemon.bus()).await;
    let second = Caller::on(daemon.bus()).await;
    let mine = Hub::on(&first).await;
    let other = Hub::unregistered(&second).await;
    let named = Options::from([("name", "shed".into())]);
    other.register(&second.assistant().await, named).await;
    let told = say(&first, LAMP).await;
    assert_eq!(told.outcome, "unsure");
    assert!(
        told.reply.contains("(shed)") && told.reply.contains(NAME),
        "{told:?}"
    );
    assert_eq!((mine.asked(), other.asked()), (vec![], vec![]));
    let told = say_with(&first, LAMP, [("provider", "shed".into())]).await;
    assert_eq!(told.unwrap().statuses(), ["done"]);
    assert_eq!((mine.asked().len(), other.asked().len()), (0, 1));
}

#[tokio::test]
async fn what_can_not_be_registered_is_refused_and_nothing_changes() {
    let (daemon, caller, hub) = at_home().await;
    let assistant = caller.assistant().await;
    let ids: Vec<String> = (0..5000).map(|n| format!("l.{n}")).collect();
    let many = ids.iter().map(|id| target(id, "Lamp", "light")).collect();
    let schema = |property: &str| {
        let schema = format!(r#"{{"type": "object", "properties": {{"x": {property}}}}}"#);
        vec![Options::from([
            ("name", "x".into()),
            ("parameters", schema.into()),
        ])]
    };
    let twice = [targets(), targets()].concat();
    for (tools, targets, place) in [
        (tools(), many, "targets"),
        (tools(), twice, "targets[3].id"),
        (tools(), vec![target("a", " ", "light")], "targets[0].name"),
        (tools(), vec![target("", "Lamp", "light")], "targets[0].id"),
        (
            schema(r#"{"type": "integer", "minimum": 2, "maximum": 1}"#),
            vec![],
            "tools[0].parameters",
        ),
        (
            schema(r#"{"type": "string", "enum": []}"#),
            vec![],
            "tools[0].parameters",
        ),
    ] {
        let refused = assistant.register_provider(&PATH, tools, targets, Options::new());
        let (name, said) = name_and_text(&refused.await.unwrap_err());
        assert!(
            name.ends_with("InvalidArgs") && said.contains(place),
            "{name}: {said}"
        );
    }
    still_does(&daemon, &caller, &hub).await;
}

/// A bus that lets every user in.
fn bus_for_everybody(folder: &std::path::Path) -> Bus {
    let config = folder.join("bus.conf");
    let text = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#;
    std::fs::write(&config, text).unwrap();
    Bus::with_config(&config)
}

#[tokio::test]
async fn another_user_neither_uses_nor_removes_a_hub() {
    let name = "fulfilment_faults::another_user_neither_uses_nor_removes_a_hub";
    if ran_as_root(name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let daemon = started(Setup::empty().on_bus(bus_for_everybody(folder.path()))).await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::on(&caller).await;
    let other = Caller {
        connection: daemon.bus().connect_as(NOBODY).await,
    };
    for provider in ["*", NAME] {
        let used = say_with(&other, LAMP, [("provider", provider.into())]).await;
        assert!(used.unwrap_err().0.ends_with("UnknownObject"));
    }
    let theirs = other.assistant().await;
    for removed in [
        theirs.unregister_provider(&PATH).await.map(drop),
        theirs
            .update_targets(&PATH, vec![], &["l.desk"])
            .await
            .map(drop),
    ] {
        assert!(
            name_and_text(&removed.unwrap_err())
                .0
                .ends_with("UnknownObject")
        );
    }
    // Its own of the same name is another one, and its calls go to it. How often others have changed
    // theirs can't be told from it.
    hub.register(&caller.assistant().await, Options::new())
        .await;
    let second = Hub::on(&other).await;
    let list = other.assistant().await;
    assert_eq!(list.update_targets(&PATH, vec![], &[]).await.unwrap(), 2);
    assert_eq!(say(&other, LAMP).await.statuses(), ["done"]);
    assert_eq!((hub.asked().len(), second.asked().len()), (0, 1));
    daemon.open_to_everybody();
    let client = daemon.client().of_uid(NOBODY - 1);
    let body = json!({"text": LAMP, "execute": true, "provider": NAME});
    client
        .post("/hob/v1/home", &body)
        .await
        .error(404, ErrorCode::NotFound);
    let list: ProviderList = client.get("/hob/v1/providers").await.json();
    assert!(list.data.is_empty());
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn a_flood_of_hurried_askers_leaves_nothing_behind() {
    let (daemon, caller, hub) = at_home().await;
    let before = daemon.files();
    hub.does(Manner::Waits);
    for round in 0..30_u32 {
        let timeout = Variant::from(1 + round * 7 % 40);
        let told = say_with(&caller, LAMP, [("timeout_ms", timeout)]).await;
        if let Ok(told) = told {
            assert!(
                matches!(told.statuses()[0], "unanswered" | "skipped"),
                "{told:?}"
            );
        }
    }
    let count = |of: fn(&Asked) -> bool| hub.asked().iter().filter(|asked| of(asked)).count();
    eventually("each that was begun is cancelled", async || {
        let begun = count(|asked| matches!(asked, Asked::Invoked(_)));
        (begun == count(|asked| matches!(asked, Asked::Cancelled(_)))).then_some(())
    })
    .await;
    tokio::time::timeout(Duration::from_secs(120), still_does(&daemon, &caller, &hub))
        .await
        .unwrap();
    eventually("descriptors are closed", async || {
        (daemon.files() <= before).then_some(())
    })
    .await;
}
