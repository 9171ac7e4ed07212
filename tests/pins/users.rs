//! Pins of several users: nobody sees, uses or removes another's.

use super::*;

const OTHER: u32 = 54_321;
const THIRD: u32 = 54_322;

/// What `hob` says when another user runs it.
fn hob(daemon: &Daemon, uid: u32, arguments: &[&str]) -> (bool, String) {
    let mut command = daemon.hob();
    command.args(arguments);
    let output = as_other_user(&command, uid).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[tokio::test]
async fn a_pin_is_its_owners_alone_and_an_administrators_serves_all() {
    if ran_as_root("users::a_pin_is_its_owners_alone_and_an_administrators_serves_all") {
        return;
    }
    let daemon = Setup::real().ready().await;
    daemon.open_to_everybody();
    let file = daemon.home().join("persona.txt");
    fs::write(&file, persona()).unwrap();
    let file = file.to_str().unwrap();
    let added = hob(&daemon, OTHER, &["pins", "add", "mine", file]);
    assert!(added.0, "{}", added.1);
    eventually("the pin is ready", async || {
        hob(&daemon, OTHER, &["pins", "list"])
            .1
            .contains("saved")
            .then_some(())
    })
    .await;
    // Neither another user nor root is shown it, can remove it, or gains from it.
    assert_eq!(
        hob(&daemon, THIRD, &["pins", "list"]),
        (true, String::new())
    );
    assert!(!hob(&daemon, THIRD, &["pins", "remove", "mine"]).0);
    let reply = daemon.client().get("/hob/v1/pins/mine").await;
    reply.error(404, ErrorCode::NotFound);
    let question = [
        "ask",
        "--json",
        "--system",
        &persona(),
        "--max-tokens",
        "4",
        QUESTION,
    ];
    let cached_for = |uid| {
        let (answered, text) = hob(&daemon, uid, &question);
        assert!(answered, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached_for(THIRD), 0);
    assert!(cached_for(OTHER) > 200);
    // What root pins serves a user who never asked before.
    put(&daemon, "house", &persona()).await;
    ready(&daemon, "house", true).await;
    assert!(cached_for(OTHER + 7) > 200);
    assert_eq!(
        hob(&daemon, THIRD, &["pins", "list"]),
        (true, String::new())
    );
}
