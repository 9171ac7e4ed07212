//! Chats that hobd stores, and `hob conversations`.

use hob_api::conversation::{Conversation, ConversationList, Transcript};
use serde_json::json;

use super::terminal::{CTRL_C, CTRL_D, Terminal};
use super::*;

async fn list(daemon: &Daemon) -> Vec<Conversation> {
    let list: ConversationList = daemon.client().get("/hob/v1/conversations").await.json();
    list.data
}

async fn leave(mut chat: Terminal) {
    chat.shows("> ").await;
    chat.press(CTRL_D);
    assert_eq!(chat.ends().await.0, Some(0));
}

#[tokio::test]
async fn a_chat_is_stored_and_goes_on_later() {
    let daemon = Setup::fake().ready().await;
    let mut chat = Terminal::start(&daemon, "chat --system 'Be brief.'");
    chat.types("first thing").await;
    chat.shows("first thing\r\n").await;
    // What Ctrl-C ended is sent with the next question, and stored with it.
    chat.types("fake: slow 50 1000000").await;
    chat.shows("word").await;
    chat.press(CTRL_C);
    chat.shows("(stopped)").await;
    chat.types("second thing").await;
    chat.shows("second thing\r\n").await;
    chat.types("/rename My garden").await;
    chat.shows("(renamed to My garden)").await;
    chat.types("/new").await;
    chat.types("elsewhere").await;
    chat.shows("elsewhere\r\n").await;
    chat.types("/resume").await;
    chat.shows("My garden").await;
    chat.shows("> ").await;
    chat.press("/res\tMy\t\r");
    chat.shows("(going on with My garden: 3 turns)").await;
    chat.shows("second thing").await;
    chat.types("fake: show").await;
    for part in ["Be brief.", "first thing", "slow 50", "second thing"] {
        chat.shows(part).await;
    }
    leave(chat).await;

    let names: Vec<_> = list(&daemon).await.into_iter().map(|c| c.name).collect();
    assert_eq!(
        names,
        [Some("My garden".to_owned()), Some("elsewhere".to_owned())]
    );
    let mut chat = Terminal::start(&daemon, "chat --continue elsewhere");
    chat.shows("(going on with elsewhere: 1 turn)").await;
    leave(chat).await;
    let mut chat = Terminal::start(&daemon, "chat --continue");
    chat.shows("(going on with My garden: 4 turns)").await;
    leave(chat).await;
    let mut chat = Terminal::start(&daemon, "chat --continue nonesuch");
    chat.shows("you have no conversation nonesuch").await;
    assert_eq!(chat.ends().await.0, Some(1));
}

#[tokio::test]
async fn a_private_chat_and_one_that_hobd_keeps_none_of_are_not_stored() {
    let daemon = Setup::fake().ready().await;
    let mut chat = Terminal::start(&daemon, "chat --private");
    chat.types("one").await;
    chat.types("fake: show").await;
    chat.shows("\"content\":\"one\"").await;
    leave(chat).await;
    assert_eq!(list(&daemon).await, []);

    let off = Setup::fake()
        .toml("[conversations]\nenabled = false")
        .ready()
        .await;
    let mut chat = Terminal::start(&off, "");
    chat.types("one").await;
    chat.types("fake: show").await;
    chat.shows("\"content\":\"one\"").await;
    leave(chat).await;
    let listed = run(&off, &["conversations", "list"]);
    assert_failed(&listed, 2, "keep no conversations", "conversations.enabled");
}

#[tokio::test]
async fn a_chat_whose_conversation_is_lost_goes_on() {
    let daemon = Setup::fake().ready().await;
    let mut chat = Terminal::start(&daemon, "");
    chat.types("one").await;
    chat.shows("one\r\n").await;
    chat.shows("> ").await;
    let id = &list(&daemon).await[0].id;
    let path = format!("/hob/v1/conversations/{id}");
    assert_eq!(daemon.client().delete(&path).await.status, 200);
    chat.press("fake: show\r");
    chat.shows("does not store this chat any more").await;
    chat.shows("\"content\":\"one\"").await;
    leave(chat).await;
}

#[tokio::test]
async fn a_chat_may_leave_its_oldest_turns_out() {
    let daemon = Setup::fake_load("n_ctx 64").ready().await;
    let mut chat = Terminal::start(&daemon, "chat --drop-oldest --max-tokens 20");
    for _ in 0..3 {
        chat.types("a b c d e f g h i j k l m").await;
    }
    chat.shows("(left out, as the context is full: the oldest 1 turn)")
        .await;
    leave(chat).await;
    assert_eq!(list(&daemon).await[0].turns, 3);
}

/// A conversation with an escape sequence in its answer.
async fn stored(daemon: &Daemon, name: &str) -> Conversation {
    let client = daemon.client();
    let path = "/hob/v1/conversations";
    let opened: Conversation = client.post(path, &json!({ "name": name })).await.json();
    let fields = json!({"conversation": opened.id});
    let answer = client.ask_with("fake: escape", &fields).await;
    answer.answer().await.done();
    opened
}

#[tokio::test]
async fn conversations_are_managed_from_the_command_line() {
    let daemon = Setup::fake().ready().await;
    let id = stored(&daemon, "Colours").await.id;
    stored(&daemon, "Birds").await;
    let table = answer(&run(&daemon, &["conversations", "list"]));
    assert!(
        table.contains("Colours") && table.contains("1 turn"),
        "{table}"
    );
    let json = answer(&run(&daemon, &["conversations", "list", "--json"]));
    let listed: ConversationList = serde_json::from_str(&json).unwrap();
    assert_eq!(listed.data.len(), 2);

    // Text from the store drives no terminal.
    let shown = answer(&run(&daemon, &["conversations", "show", "Colours"]));
    assert!(
        shown.starts_with("# Colours\n") && shown.contains("␛[31mred"),
        "{shown}"
    );
    let json = answer(&run(&daemon, &["conversations", "show", &id, "--json"]));
    assert!(!json.contains('\u{1b}'));
    let transcript: Transcript = serde_json::from_str(&json).unwrap();
    assert!(transcript.history[0].messages[1].content.contains('\u{1b}'));

    let renamed = run(&daemon, &["conversations", "rename", &id[..6], "Tints"]);
    assert_eq!(stderr(&renamed), "(renamed to Tints)\n");
    let taken = run(&daemon, &["conversations", "rename", "Tints", "Birds"]);
    assert_failed(&taken, 2, "has this name", "another name");
    let markdown = answer(&run(&daemon, &["conversations", "export", "Tints"]));
    assert!(markdown.contains("␛[31mred"), "{markdown}");
    let file = daemon.home().join("tints.json");
    let path = file.to_str().unwrap();
    let export = [
        "conversations",
        "export",
        "Tints",
        "--format",
        "json",
        "--output",
        path,
    ];
    answer(&run(&daemon, &export));
    let written: Transcript = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(written.history, transcript.history);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_failed(&run(&daemon, &export), 1, "tints.json", "");

    let unknown = ["conversations", "delete", "Birds", "Tint"];
    let unknown = run(&daemon, &unknown);
    assert_failed(&unknown, 1, "no conversation Tint", "did you mean Tints?");
    assert_eq!(list(&daemon).await.len(), 2, "all are found, or none goes");
    let deleted = run(&daemon, &["conversations", "delete", "Birds", "Tints"]);
    assert_eq!(stderr(&deleted), "(deleted Birds)\n(deleted Tints)\n");
    assert_eq!(list(&daemon).await, []);
}
