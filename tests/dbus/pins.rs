//! Pinned prefixes over the bus.

use hob_api::pin::PinList;
use hob_e2e::Setup;

use crate::caller::{Caller, Options, name_and_text};

#[tokio::test]
async fn a_hub_pins_replaces_and_unpins_a_prefix() {
    let daemon = Setup::fake().bus().ready().await;
    let caller = Caller::on(daemon.bus()).await;
    let assistant = caller.assistant().await;
    let system = |text: &'static str| [("system", Options::from([("content", text.into())]))];
    let pin = async |name: &str, text, options| {
        let pinned = assistant.pin_prefix(name, &system(text), options).await;
        pinned.map_err(|error| name_and_text(&error).0)
    };
    let none = Options::new;
    pin("hub", "You run a house.", none()).await.unwrap();
    pin("hub", "You run a large house.", none()).await.unwrap();
    let list: PinList = daemon.client().get("/hob/v1/pins").await.json();
    let shown: Vec<_> = list
        .data
        .iter()
        .map(|p| (p.name.as_str(), p.text_bytes))
        .collect();
    assert_eq!(shown, [("hub", 22)]);

    let invalid = Err("org.freedesktop.DBus.Error.InvalidArgs".to_owned());
    assert_eq!(pin("no/name", "x", none()).await, invalid);
    assert_eq!(
        pin("x", "x", Options::from([("ttl", 1_u32.into())])).await,
        invalid
    );
    for number in 0..7 {
        pin(&format!("p{number}"), "x", none()).await.unwrap();
    }
    let full = pin("one-more", "x", none()).await;
    assert_eq!(full, Err("org.hobd.Hob1.Error.QuotaExceeded".to_owned()));

    assistant.unpin_prefix("hub").await.unwrap();
    let again = assistant.unpin_prefix("hub").await.unwrap_err();
    let (name, _) = name_and_text(&again);
    assert_eq!(name, "org.freedesktop.DBus.Error.UnknownObject");
}
