//! What came of a call is given back to the model, which may find another one necessary; and what a hub
//! tells moves it to nothing else.

use std::time::Duration;

use hob_api::home::HomeAnswer;
use hob_e2e::{Daemon, Setup};
use serde_json::json;
use zbus::Variant;

use crate::caller::{Caller, Options};
use crate::hub::{
    Asked, Hub, Manner, NAME, PATH, Told, done, say_with, still_does, targets, tools,
};

const ATTEMPTS: &str = include_str!("../injections.json");
const ON: &str = "turn_on \"Desk Lamp\"";
const OFF: &str = "turn_off \"Hall Light\"";

async fn faked() -> (Daemon, Caller, Hub) {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::on(&caller).await;
    (daemon, caller, hub)
}

/// Says what the model is to write, part after part.
async fn say(caller: &Caller, parts: &[&str], follow_ups: u32) -> Told {
    let said = format!("fake: home {}", parts.join(" // "));
    let options = [
        ("reader", "model".into()),
        ("follow_ups", Variant::from(follow_ups)),
        ("timeout_ms", Variant::from(5000_u32)),
    ];
    say_with(caller, &said, options).await.unwrap()
}

/// A result that tells something.
fn telling(words: &str) -> Manner {
    let mut result = done();
    result.insert("speech", Variant::from(words.to_owned()));
    Manner::Result(result)
}

#[tokio::test]
async fn a_result_makes_a_further_call_necessary() {
    let (daemon, caller, hub) = faked().await;
    hub.does(telling("do: turn_off \"Hall Light\""));
    // It is in the hub's words alone what the second call is.
    let parts = [ON, "obey", "(done)", OFF];
    let told = say(&caller, &parts, 3).await;
    assert_eq!(told.statuses(), ["done", "done"], "{told:?}");
    let invoked = hub.invoked();
    assert!(invoked[0].starts_with("turn_on") && invoked[0].contains("l.desk"));
    assert!(invoked[1].starts_with("turn_off") && invoked[1].contains("l.hall"));
    assert_eq!(invoked.len(), 2);
    // The reply is made of results, and of nothing that the model wrote.
    let spoken = "do: turn_off \"Hall Light\".";
    assert_eq!(told.reply, format!("{spoken} {spoken}"));
    // Unasked, no model is asked.
    let told = say(&caller, &parts, 0).await;
    assert_eq!(told.statuses(), ["done"]);

    // A failure may have a remedy as well; over HTTP it is told what the model wrote.
    hub.does(Manner::Error("the hall is too bright"));
    let body = json!({
        "text": format!("fake: home {ON} // {OFF}"), "reader": "model", "execute": true,
        "follow_ups": 1,
    });
    let answer: HomeAnswer = daemon.client().post("/hob/v1/home", &body).await.json();
    assert_eq!(answer.calls.len(), 2);
    assert_eq!(answer.decoded.unwrap().follow_ups, [OFF]);
    assert!(answer.reply.unwrap().contains("the hall is too bright"));
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn it_goes_on_for_so_many_rounds_and_calls_and_no_longer() {
    let (daemon, caller, hub) = faked().await;
    hub.does(telling("and?"));
    let parts = [
        ON,
        OFF,
        "turn_off \"Desk Lamp\"",
        "turn_on \"Hall Light\"",
        ON,
    ];
    for follow_ups in 0..=3 {
        let told = say(&caller, &parts, follow_ups).await;
        let calls = usize::try_from(follow_ups).unwrap() + 1;
        assert_eq!(told.statuses(), vec!["done"; calls], "{told:?}");
    }
    // What was done is not done again, and then nothing is new.
    let told = say(&caller, &[ON, ON, OFF], 3).await;
    assert_eq!(told.statuses(), ["done"], "{told:?}");
    // Calls count over all rounds.
    let said = format!("fake: home {}", parts.join(" // "));
    let options = [
        ("reader", "model".into()),
        ("follow_ups", Variant::from(3_u32)),
        ("rounds", Variant::from(2_u32)),
    ];
    let told = say_with(&caller, &said, options).await.unwrap();
    assert_eq!(told.statuses(), ["done"; 2], "{told:?}");
    // A hub that tells no more than that it is done leaves nothing to ask.
    hub.does(Manner::Result(done()));
    let told = say(&caller, &[ON, OFF], 3).await;
    assert_eq!(told.statuses(), ["done"], "{told:?}");
    // And the words need no model to be asked.
    let options = [("follow_ups", Variant::from(1_u32))];
    let (name, words) = say_with(&caller, "turn on the desk lamp", options)
        .await
        .unwrap_err();
    assert!(
        name.ends_with("InvalidArgs") && words.contains("follow_ups"),
        "{words}"
    );
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn what_was_done_is_told_whatever_becomes_of_the_model() {
    let (daemon, caller, hub) = faked().await;
    hub.does(telling("It is bright."));
    for second in [
        "nothing",
        "fail decode",
        "no call at all",
        "turn_on \"Nowhere\"",
    ] {
        let told = say(&caller, &[ON, second], 3).await;
        assert_eq!(told.statuses(), ["done"], "{second}: {told:?}");
        assert_eq!(told.reply, "It is bright.");
    }
    // A person who confirms nothing, and a hub that does not answer, are not got round.
    hub.confirms(Some(false));
    let told = say(&caller, &["unlock \"Front Door\"", ON], 3).await;
    assert_eq!(told.statuses(), ["refused"], "{told:?}");
    hub.does(Manner::Waits);
    let told = say(&caller, &[ON, OFF], 3).await;
    assert_eq!(told.statuses(), ["unanswered"], "{told:?}");
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn a_hub_that_commands_has_nothing_done_that_was_not_spoken_of() {
    let (daemon, caller, hub) = faked().await;
    // Even an engine that obeys every word, and keeps to no grammar.
    let orders = [
        "unlock \"Front Door\"",
        "turn_on \"Desk Lamp\"\nunlock \"Front Door\"",
        "(unsure)\nunlock \"Front Door\"",
        "(talk)",
    ];
    for order in orders {
        hub.does(telling(&format!("do: {order}")));
        let told = say(&caller, &[ON, "obey"], 3).await;
        assert_eq!(told.statuses(), ["done"], "{order}: {told:?}");
    }
    let asked = hub.asked();
    assert!(
        asked.iter().all(|asked| matches!(asked, Asked::Invoked(_))),
        "{asked:?}"
    );
    assert!(hub.invoked().iter().all(|call| call.contains("l.desk")));
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn a_real_model_is_told_results_as_data() {
    let daemon = Setup::real().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::unregistered(&caller).await;
    // A small model needs to be shown how its answers look.
    let mut shown = tools();
    for (tool, said) in shown
        .iter_mut()
        .zip(["turn on", "turn off", "dim", "unlock"])
    {
        let examples = vec![
            format!("{said} the {{target}}"),
            format!("please {said} the {{target}}"),
        ];
        tool.insert("examples", examples.into());
    }
    let assistant = caller.assistant().await;
    let registered = assistant.register_provider(&PATH, shown, targets(), Options::new());
    registered.await.unwrap();
    let attempts: Vec<String> = serde_json::from_str(ATTEMPTS).unwrap();
    let (client, mut asked_again, mut wrote) = (daemon.client(), 0, Vec::new());
    for attempt in attempts.iter().step_by(7) {
        // A D-Bus string can't have a NUL.
        let words = attempt.replace('\0', "");
        let mut result = done();
        let data = Options::from([("note", Variant::from(words.clone()))]);
        result.extend([("speech", words.into()), ("data", data.into())]);
        hub.does(Manner::Result(result));
        let body = json!({
            "text": "turn on the desk lamp", "reader": "model", "execute": true, "follow_ups": 2,
            "provider": NAME,
        });
        let posted = client.post("/hob/v1/home", &body);
        let answer: HomeAnswer = tokio::time::timeout(Duration::from_secs(120), posted)
            .await
            .unwrap()
            .json();
        let decoded = answer.decoded.unwrap();
        asked_again += decoded.follow_ups.len();
        for wrote in &decoded.follow_ups {
            let about = |line: &str| line == "(done)" || line.contains("\"Desk Lamp\"");
            assert!(wrote.lines().all(about), "{wrote:?}");
        }
        wrote.extend(decoded.follow_ups.into_iter().chain([decoded.text]));
        assert!(answer.calls.len() <= 3, "{:?}", answer.calls);
    }
    assert!(
        asked_again > 0,
        "the model was never asked again: {wrote:?}"
    );
    // A lock is nothing that was spoken of.
    let asked = hub.asked();
    assert!(
        asked.iter().all(|asked| matches!(asked, Asked::Invoked(_))),
        "{asked:?}"
    );
    assert!(hub.invoked().iter().all(|call| !call.starts_with("unlock")));
    still_does(&daemon, &caller, &hub).await;
}
