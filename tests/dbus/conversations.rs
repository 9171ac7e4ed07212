//! Conversations over the bus.

use futures_util::StreamExt;
use hob_api::Event;
use hob_api::conversation::{ConversationList, Transcript};
use hob_api::dbus::OBJECT_PATH;
use hob_e2e::{Setup, eventually, patiently};
use serde_json::json;
use zbus::{OwnedObjectPath, Variant, proxy};

use crate::caller::{Caller, Details, Options, name_and_text, number, read_events, text};

#[proxy(
    interface = "org.hobd.Hob1.Conversation",
    default_service = "org.hobd.Hob1"
)]
pub(crate) trait Conversation {
    fn ask(&self, text: &str, options: Options<'_>) -> zbus::Result<(String, Details)>;
    fn stream(
        &self,
        text: &str,
        options: Options<'_>,
    ) -> zbus::Result<(OwnedObjectPath, zbus::OwnedFd)>;
    fn close(&self) -> zbus::Result<()>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> zbus::Result<String>;
    #[zbus(signal)]
    fn closed(&self, details: Details) -> zbus::Result<()>;
}

/// Opens a conversation; its failure is the error's name and text.
pub(crate) async fn open(
    caller: &Caller,
    options: Options<'_>,
) -> Result<ConversationProxy<'static>, (String, String)> {
    let path = caller.assistant().await.open_conversation(options).await;
    let path = path.map_err(|error| name_and_text(&error))?;
    Ok(ConversationProxy::new(&caller.connection, path)
        .await
        .unwrap())
}

fn stored(details: &Details) -> bool {
    bool::try_from(&details["stored"]).unwrap()
}

#[tokio::test]
async fn a_conversation_goes_on_in_another_connection_of_the_same_user() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let options = Options::from([
        ("name", "Hub".into()),
        ("system", "Be brief.".into()),
        ("handle_token", "mine".into()),
    ]);
    let conversation = open(&caller, options).await.unwrap();
    let unique = caller.connection.unique_name().unwrap().as_str();
    let sender = unique.replace(':', "").replace('.', "_");
    assert_eq!(
        conversation.inner().path().as_str(),
        format!("{OBJECT_PATH}/conversation/{sender}/mine")
    );
    let id = conversation.id().await.unwrap();
    let (reply, details) = conversation.ask("one two", Options::new()).await.unwrap();
    assert_eq!(reply, "one two");
    assert_eq!(text(&details, "conversation"), id);
    assert!(stored(&details));
    assert_eq!(number(&details, "dropped_turns"), 0);

    let options = Options::from([("format", "events".into())]);
    let (_, fd) = conversation.stream("three", options).await.unwrap();
    let events = read_events(fd).await;
    assert!(matches!(
        events.last(),
        Some(Event::Done(done)) if done.kept.as_ref().is_some_and(|kept| kept.stored)
    ));

    let other = Caller::on(daemon.bus()).await;
    let options = Options::from([("id", Variant::from(id.as_str()))]);
    let again = open(&other, options).await.unwrap();
    let (shown, _) = again.ask("fake: show", Options::new()).await.unwrap();
    for part in ["Be brief.", "one two", "three"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // The option of the main object does the same, and so does HTTP.
    let options = Options::from([("conversation", Variant::from(id.as_str()))]);
    let (shown, _) = other.ask("fake: show", options).await.unwrap();
    assert!(shown.contains("three"), "{shown}");
    let path = format!("/hob/v1/conversations/{id}");
    let transcript: Transcript = daemon.client().get(&path).await.json();
    assert_eq!(transcript.conversation.name.as_deref(), Some("Hub"));
    assert_eq!(transcript.history.len(), 4);
}

#[tokio::test]
async fn its_object_is_its_callers_alone_and_goes_with_it() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let stranger = Caller::on(daemon.bus()).await;
    let mine = open(&caller, Options::new()).await.unwrap();
    let id = mine.id().await.unwrap();
    let path = mine.inner().path().to_owned();
    let theirs = ConversationProxy::new(&stranger.connection, path.clone())
        .await
        .unwrap();
    let unknown = "org.freedesktop.DBus.Error.UnknownObject";
    let refused = theirs.ask("one", Options::new()).await.unwrap_err();
    assert_eq!(name_and_text(&refused).0, unknown);
    let refused = theirs.stream("one", Options::new()).await.unwrap_err();
    assert_eq!(name_and_text(&refused).0, unknown);
    let refused = theirs.close().await.unwrap_err();
    assert_eq!(name_and_text(&refused).0, unknown);
    theirs.id().await.unwrap_err();

    let mut told = theirs.receive_closed().await.unwrap();
    let mut closed = mine.receive_closed().await.unwrap();
    mine.close().await.unwrap();
    let signal = patiently("Closed", closed.next()).await.unwrap();
    assert_eq!(text(&signal.args().unwrap().details, "id"), id);
    let refused = mine.ask("one", Options::new()).await.unwrap_err();
    assert_eq!(name_and_text(&refused).0, unknown);

    // A caller that leaves the bus leaves no object behind; the conversation stays.
    let leaver = Caller::on(daemon.bus()).await;
    let options = || {
        Options::from([
            ("id", Variant::from(id.as_str())),
            ("handle_token", Variant::from("t")),
        ])
    };
    open(&leaver, options()).await.unwrap();
    let node = "/org/hobd/Hob1/conversation";
    let has_object = async || {
        let proxy = zbus::Proxy::new(
            &stranger.connection,
            "org.hobd.Hob1",
            node,
            "org.hobd.Hob1.Conversation",
        );
        let xml = proxy.await.unwrap().introspect().await.unwrap_or_default();
        xml.contains("<node name=\"t\"")
    };
    assert!(has_object().await);
    leaver.connection.close().await.unwrap();
    eventually("its object is gone", async || {
        (!has_object().await).then_some(())
    })
    .await;
    let list: ConversationList = daemon.client().get("/hob/v1/conversations").await.json();
    assert_eq!(list.data.len(), 1);
    // Nobody else was told of anything: the next signal that the stranger gets is its own.
    let own = open(&stranger, options()).await.unwrap();
    let mut end = own.receive_closed().await.unwrap();
    own.close().await.unwrap();
    patiently("Closed", end.next()).await.unwrap();
    let early = futures_util::FutureExt::now_or_never(told.next());
    assert!(early.is_none(), "a stranger was told of the end");
}

#[tokio::test]
async fn what_is_wrong_with_opening_one_is_told() {
    let daemon = Setup::fake()
        .toml("[conversations]\nper_uid = 1")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let invalid = "org.freedesktop.DBus.Error.InvalidArgs";
    let not_found = "org.hobd.Hob1.Error.ConversationNotFound";
    let zeros = "0".repeat(32);
    let cases: [(Options<'_>, &str, &str); 6] = [
        (Options::from([("id", "x".into())]), not_found, "id"),
        (
            Options::from([("id", zeros.as_str().into())]),
            not_found,
            "id",
        ),
        (
            Options::from([("id", "x".into()), ("name", "y".into())]),
            invalid,
            "`name`",
        ),
        (Options::from([("name", "a\nb".into())]), invalid, "`name`"),
        (Options::from([("title", "a".into())]), invalid, "`title`"),
        (Options::from([("name", 1_u32.into())]), invalid, "`s`"),
    ];
    for (options, expected, part) in cases {
        let (name, text) = open(&caller, options).await.unwrap_err();
        assert_eq!(name, expected, "{text}");
        assert!(text.contains(part), "{part}: {text}");
    }
    let conversation = open(&caller, Options::new()).await.unwrap();
    let (name, _) = open(&caller, Options::new()).await.unwrap_err();
    assert_eq!(name, "org.hobd.Hob1.Error.QuotaExceeded");

    let options = Options::from([("conversation", zeros.as_str().into())]);
    let refused = conversation.ask("one", options).await.unwrap_err();
    assert_eq!(name_and_text(&refused).0, invalid);
    let slow = conversation.stream("fake: slow 20 40", Options::new());
    let (_, fd) = slow.await.unwrap();
    let refused = conversation.ask("two", Options::new()).await.unwrap_err();
    assert_eq!(name_and_text(&refused).0, "org.hobd.Hob1.Error.Busy");
    assert!(crate::caller::read_text(fd).await.starts_with("word"));
}

#[tokio::test]
async fn a_hobd_that_keeps_none_has_no_such_capability() {
    let daemon = Setup::fake()
        .toml("[conversations]\nenabled = false")
        .bus()
        .ready()
        .await;
    let caller = Caller::on(daemon.bus()).await;
    let (name, _) = open(&caller, Options::new()).await.unwrap_err();
    assert_eq!(name, "org.freedesktop.DBus.Error.NotSupported");
    let capabilities = caller.assistant().await.capabilities().await.unwrap();
    let always = [
        "ask",
        "stream",
        "complete",
        "pins",
        "providers",
        "fulfilment",
        "response_schema",
        "decide",
        "tools",
    ];
    assert_eq!(capabilities, always);
    let path = "/hob/v1/conversations";
    let reply = daemon.client().post(path, &json!({})).await;
    assert_eq!(reply.status, 400);
}
