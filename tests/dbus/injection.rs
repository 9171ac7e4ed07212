//! What hubs call things and tell of them is data, on every way out of hobd.

use std::collections::HashMap;

use hob_e2e::Setup;
use zbus::Variant;

use crate::caller::{Caller, Options, number, text};
use crate::hub::{Hub, Manner, NAME, PATH, at_home, say, still_does, target, tools};

const ATTEMPTS: &str = include_str!("../injections.json");

fn attempts() -> Vec<String> {
    serde_json::from_str(ATTEMPTS).unwrap()
}

/// What a terminal obeys, or shows elsewhere than it stands.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[tokio::test]
async fn results_change_no_other_call_and_reach_no_terminal_raw() {
    let (daemon, caller, hub) = at_home().await;
    let both = "turn on the desk lamp and turn off the hall light";
    for (round, attempt) in attempts().into_iter().enumerate() {
        // A D-Bus string can't have a NUL.
        let words = attempt.replace('\0', "");
        let success = round % 2 == 0;
        let mut result = HashMap::from([
            ("success", Variant::from(success)),
            ("speech", words.clone().into()),
        ]);
        if !success {
            result.insert("error", words.clone().into());
        }
        hub.does(Manner::Result(result));
        let before = hub.invoked().len();
        let told = say(&caller, both).await;
        let invoked = hub.invoked()[before..].to_vec();
        assert_eq!(invoked.len(), 2, "{words:?}: {invoked:?}");
        assert!(
            invoked[0].starts_with("turn_on") && invoked[0].contains("l.desk"),
            "{invoked:?}"
        );
        assert!(
            invoked[1].starts_with("turn_off") && invoked[1].contains("l.hall"),
            "{invoked:?}"
        );
        let status = if success { "done" } else { "failed" };
        assert_eq!(told.statuses(), [status; 2]);
        assert!(
            success || told.reply.starts_with("That did not work: Desk Lamp"),
            "{told:?}"
        );
        let shown = [told.reply.as_str(), told.ends[0].1.as_str()].concat();
        assert!(!shown.chars().any(is_obeyed), "{shown:?}");
        if round % 8 == 0 {
            let mut command = daemon.hob();
            command.args(["home", "turn on the desk lamp"]);
            let output = tokio::process::Command::from(command)
                .output()
                .await
                .unwrap();
            let shown = String::from_utf8(output.stdout).unwrap();
            assert!(
                shown.starts_with("reply ") && !shown.chars().any(is_obeyed),
                "{shown:?}"
            );
        }
    }
    still_does(&daemon, &caller, &hub).await;
}

#[tokio::test]
async fn what_is_talked_about_reaches_the_model_as_what_was_said_alone() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let hub = Hub::on(&caller).await;
    let assistant = caller.assistant().await;
    let talk = async |said: String| {
        let options = Options::from([("provider", Variant::from(NAME))]);
        let (reply, details) = caller.ask(&said, options).await.unwrap();
        let talked = text(&details, "outcome") == "talk";
        if talked {
            // The fake engine says the last message again, and counts the words of all.
            assert_eq!(reply, said);
            let words = u32::try_from(said.split_whitespace().count()).unwrap();
            assert_eq!(number(&details, "prompt_tokens"), words, "{said:?}");
        }
        usize::from(talked)
    };
    let (mut beside, mut about) = (0, 0);
    for attempt in attempts() {
        // A D-Bus string can't have a NUL.
        let attempt = attempt.replace('\0', "");
        let named = vec![target("x", &attempt, "light")];
        let registered = assistant.register_provider(&PATH, tools(), named, Options::new());
        // What has unseen characters is refused; the rest is in force.
        let registered = registered.await.is_ok();
        assert!(
            !registered || !attempt.chars().any(is_obeyed),
            "{attempt:?}"
        );
        beside += talk("write a poem for me".to_owned()).await;
        hub.register(&assistant, Options::new()).await;
        about += talk(format!("write a poem about {attempt}")).await;
        // None of it was an order.
        assert_eq!(hub.asked(), [], "{attempt:?}");
    }
    assert!(beside >= 60 && about >= 40, "{beside} {about}");
    still_does(&daemon, &caller, &hub).await;
}
