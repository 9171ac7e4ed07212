//! The pins with a disk of their own and an engine that the test plays.

use hob_api::ErrorCode;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::*;

pub(super) fn settings(folder: &Path) -> Settings {
    let places = Places {
        socket: folder.join("hob.sock"),
        models_dir: folder.join("models"),
        conversations_dir: folder.join("conversations"),
        pins_dir: folder.join("pins"),
        snapshots_dir: folder.join("snapshots"),
        tuning_dir: folder.join("tuning"),
        engine: folder.join("hob-engine"),
    };
    Settings::defaults(Scope::User, places)
}

/// Lets the disk work until there is an answer.
async fn answered<T>(pins: &mut Pins, mut answer: oneshot::Receiver<T>) -> (T, Vec<Outgoing>) {
    let mut outgoing = Vec::new();
    loop {
        if let Ok(answer) = answer.try_recv() {
            return (answer, outgoing);
        }
        let done = pins.done().await;
        outgoing.extend(pins.take_in(done));
    }
}

pub(super) async fn put(
    pins: &mut Pins,
    owner: Owner,
    name: &str,
    text: &str,
) -> Result<Pin, ApiError> {
    let definition = definition(owner, name, text);
    let (reply, answer) = oneshot::channel();
    pins.call(Call::Put {
        owner,
        name: definition.name,
        messages: definition.messages,
        reply,
    });
    answered(pins, answer).await.0
}

async fn get(pins: &mut Pins, owner: Owner, name: &str) -> Result<Pin, ApiError> {
    let (reply, answer) = oneshot::channel();
    let name = PinName::parse(name).unwrap();
    pins.call(Call::Get { owner, name, reply });
    answered(pins, answer).await.0
}

#[tokio::test]
async fn all_users_together_have_a_bound_and_none_sees_anothers() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let mut pins = Pins::open(&settings);
    for uid in 1000..1005 {
        for name in 0..PINS_PER_OWNER_MAX {
            let name = format!("p{name}");
            put(&mut pins, Some(uid), &name, &format!("text of {uid}"))
                .await
                .unwrap();
        }
    }
    let full = put(&mut pins, Some(2000), "x", "text").await.unwrap_err();
    assert_eq!(full.code, ErrorCode::QuotaExceeded);
    for owner in [Some(2000), None] {
        let foreign = get(&mut pins, owner, "p0").await.unwrap_err();
        assert_eq!(foreign.code, ErrorCode::NotFound);
        let (reply, answer) = oneshot::channel();
        let name = PinName::parse("p0").unwrap();
        pins.call(Call::Remove { owner, name, reply });
        let foreign = answered(&mut pins, answer).await.0.unwrap_err();
        assert_eq!(foreign.code, ErrorCode::NotFound);
    }
    put(&mut pins, Some(1000), "p0", "other text")
        .await
        .unwrap();
    // The last places are everybody's.
    for name in 0..PINS_PER_OWNER_MAX {
        put(&mut pins, None, &format!("e{name}"), "text")
            .await
            .unwrap();
    }
    let full = put(&mut pins, None, "x", "text").await.unwrap_err();
    assert_eq!(full.code, ErrorCode::QuotaExceeded);
    // Another life finds them.
    let mut pins = Pins::open(&settings);
    let found = get(&mut pins, Some(1000), "p0").await.unwrap();
    assert_eq!(found.messages.unwrap()[0].content, "other text");
    assert_eq!(pins.figures().pins, 48);
}

pub(super) fn engine(format: &str) -> Ready {
    Ready {
        state_format: format.to_owned(),
        ..Ready::default()
    }
}

/// Opens the model and plays an engine that gets ready: the one pin that it is told of.
async fn told(pins: &mut Pins, model: &str, format: &str) -> (PinId, Option<Vec<u8>>) {
    pins.model_opened(model);
    let mut outgoing = pins.engine_ready(Instant::now(), engine(format));
    while outgoing.is_none() {
        let done = pins.done().await;
        assert!(
            pins.take_in(done).is_empty(),
            "not before the engine is released"
        );
        outgoing = pins.released(Instant::now()).map(|(_, outgoing)| outgoing);
    }
    let (command, memory) = outgoing.unwrap().pop().unwrap();
    let Command::Pin(pin) = command else {
        panic!("{command:?}");
    };
    let state = memory.map(|memory| {
        let mut state = Vec::new();
        File::from(memory).read_to_end(&mut state).unwrap();
        state
    });
    assert_eq!(
        pin.state_bytes,
        state.as_ref().map(|state| state.len() as u64)
    );
    (pin.id, state)
}

#[tokio::test]
async fn a_state_goes_to_the_disk_once_and_comes_back_for_the_same_engine_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let mut pins = Pins::open(&settings);
    put(&mut pins, None, "a", "text").await.unwrap();
    let (id, state) = told(&mut pins, "model-1", "format 1").await;
    assert_eq!(state, None);
    let ready = |restored| EngineState::Ready {
        tokens: 32,
        bytes: 5,
        restored,
    };
    let (command, memory) = pins.progress(id, ready(false)).pop().unwrap();
    assert_eq!(command, Command::SavePin { id });
    File::from(memory.unwrap()).write_all(b"state").unwrap();
    pins.saved(id, true);
    let done = pins.done().await;
    pins.take_in(done);
    let shown = get(&mut pins, None, "a").await.unwrap();
    assert!(
        shown.saved && shown.source == Some(PinSource::Computed),
        "{shown:?}"
    );

    // The engine is gone, and so is what it held; the state comes back for the next.
    pins.engine_gone();
    assert_eq!(
        get(&mut pins, None, "a").await.unwrap().state,
        PinState::Waiting
    );
    let (id, state) = told(&mut pins, "model-1", "format 1").await;
    assert_eq!(state.unwrap(), b"state");
    assert!(
        pins.progress(id, ready(true)).is_empty(),
        "it is not written again"
    );
    // Not for another build, nor another model, nor when its user has another text.
    assert_eq!(told(&mut pins, "model-1", "format 2").await.1, None);
    assert_eq!(told(&mut pins, "model-2", "format 1").await.1, None);
    assert!(told(&mut pins, "model-1", "format 1").await.1.is_some());
    put(&mut pins, None, "a", "other text").await.unwrap();
    assert_eq!(told(&mut pins, "model-1", "format 1").await.1, None);
}

/// Hands in a change without waiting for the disk.
fn hand_in(pins: &mut Pins, text: &str) -> oneshot::Receiver<Result<Pin, ApiError>> {
    let definition = definition(None, "a", text);
    let (reply, answer) = oneshot::channel();
    pins.call(Call::Put {
        owner: None,
        name: definition.name,
        messages: definition.messages,
        reply,
    });
    answer
}

#[tokio::test]
async fn the_last_of_two_changes_under_way_wins() {
    let folder = tempfile::tempdir().unwrap();
    let mut pins = Pins::open(&settings(folder.path()));
    put(&mut pins, None, "a", "one").await.unwrap();
    let other = hand_in(&mut pins, "two");
    let again = hand_in(&mut pins, "one");
    answered(&mut pins, other).await.0.unwrap();
    answered(&mut pins, again).await.0.unwrap();
    let found = get(&mut pins, None, "a").await.unwrap();
    assert_eq!(found.messages.unwrap()[0].content, "one");

    let (reply, removed) = oneshot::channel();
    let name = PinName::parse("a").unwrap();
    let owner = None;
    pins.call(Call::Remove { owner, name, reply });
    let again = hand_in(&mut pins, "one");
    answered(&mut pins, removed).await.0.unwrap();
    answered(&mut pins, again).await.0.unwrap();
    assert!(get(&mut pins, None, "a").await.is_ok());
}

const READY: EngineState = EngineState::Ready {
    tokens: 32,
    bytes: 5,
    restored: false,
};

/// Plays the engine that has read a pin and writes its state.
pub(super) async fn save(pins: &mut Pins, id: PinId) {
    let (_, memory) = pins.progress(id, READY).pop().unwrap();
    File::from(memory.unwrap()).write_all(b"state").unwrap();
    pins.saved(id, true);
    let done = pins.done().await;
    pins.take_in(done);
}

#[tokio::test]
async fn room_is_made_among_other_models_alone_and_a_state_is_asked_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    // Enough for one, with the margin for its header.
    settings.snapshots.bytes = 4_200;
    let snapshots = &settings.snapshots.dir;
    fs::create_dir(snapshots).unwrap();
    let foreign = snapshots.join("holiday.jpg");
    fs::write(&foreign, "of somebody else").unwrap();
    let mut pins = Pins::open(&settings);
    put(&mut pins, None, "a", "text").await.unwrap();
    let (first, _) = told(&mut pins, "model-1", "format 1").await;
    save(&mut pins, first).await;
    put(&mut pins, None, "b", "other text").await.unwrap();
    let second = PinId(first.0 + 1);
    save(&mut pins, second).await;
    let saved = async |pins: &mut Pins, name| get(pins, None, name).await.unwrap().saved;
    // The first is still pinned, and keeps its snapshot.
    assert!(saved(&mut pins, "a").await && !saved(&mut pins, "b").await);
    assert_eq!(pins.figures().unsaved, 1);
    // One of another model gives way.
    let (second, _) = told(&mut pins, "model-2", "format 1").await;
    save(&mut pins, second).await;
    assert!(saved(&mut pins, "b").await);
    assert!(foreign.exists());
    let files = fs::read_dir(snapshots).unwrap().count();
    assert_eq!(files, 2, "the foreign one and the latest snapshot");

    // The engine says that it is of no use, and has it anew: it is not handed memory again.
    assert!(pins.progress(second, EngineState::Refused).is_empty());
    assert!(pins.progress(second, READY).is_empty());
}

#[tokio::test]
async fn a_disk_that_hangs_holds_an_engine_for_so_long_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let mut pins = Pins::open(&settings(folder.path()));
    put(&mut pins, None, "a", "text").await.unwrap();
    let (id, _) = told(&mut pins, "model-1", "format 1").await;
    save(&mut pins, id).await;
    pins.engine_gone();

    // What the disk has done is not taken in, as if it did nothing.
    let now = Instant::now();
    pins.model_opened("model-1");
    assert!(pins.engine_ready(now, engine("format 1")).is_none());
    let until = pins.wakeup().unwrap();
    assert!(until > now && until <= now + Duration::from_secs(10));
    assert!(pins.released(now + Duration::from_secs(9)).is_none());
    let (_, outgoing) = pins.released(until).unwrap();
    assert!(
        matches!(&outgoing[..], [(Command::Pin(pin), None)] if pin.state_bytes.is_none()),
        "{outgoing:?}"
    );
    assert_eq!(pins.wakeup(), None);
    // What comes late is dropped.
    let done = pins.done().await;
    assert!(pins.take_in(done).is_empty());
    assert!(pins.released(until).is_none());
}

#[tokio::test]
async fn who_pins_without_end_wears_out_neither_the_disk_nor_the_share_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    // A day may write 160,000 bytes, one user 90,000 of them, and each some 4,100.
    settings.snapshots.bytes = 40_000;
    let mut pins = Pins::open(&settings);
    put(&mut pins, None, "a", "text").await.unwrap();
    let (mut id, _) = told(&mut pins, "model-1", "format 1").await;
    for n in 0..24 {
        save(&mut pins, id).await;
        let shown = get(&mut pins, None, "a").await.unwrap();
        assert_eq!((shown.state, shown.saved), (PinState::Ready, n < 21), "{n}");
        put(&mut pins, None, "a", &format!("text {n}"))
            .await
            .unwrap();
        id = PinId(id.0 + 1);
    }
    assert_eq!(pins.figures().unsaved, 3);
    put(&mut pins, Some(7), "b", "text").await.unwrap();
    save(&mut pins, PinId(id.0 + 1)).await;
    assert!(get(&mut pins, Some(7), "b").await.unwrap().saved);
}

/// Pins and saves a text, and opens its model again while the engine may keep nothing.
async fn loaded_without_room(settings: &Settings) -> (Pins, PinId) {
    let mut pins = Pins::open(settings);
    put(&mut pins, None, "a", "text").await.unwrap();
    let (id, _) = told(&mut pins, "model-1", "format 1").await;
    save(&mut pins, id).await;
    pins.engine_gone();
    pins.limit_cache(0);
    assert_eq!(told(&mut pins, "model-1", "format 1").await.1, None);
    let reason = PinFailure::NoRoom;
    pins.progress(id, EngineState::Failed { reason });
    (pins, id)
}

#[tokio::test]
async fn a_snapshot_that_there_was_no_room_for_is_restored_when_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let (mut pins, id) = loaded_without_room(&settings(folder.path())).await;
    for _ in 0..2 {
        pins.limit_cache(1 << 20);
        let done = pins.done().await;
        let outgoing = pins.take_in(done);
        assert!(
            matches!(&outgoing[..], [(Command::Pin(pin), Some(_))] if pin.id == id),
            "{outgoing:?}"
        );
        let restored = EngineState::Ready {
            tokens: 32,
            bytes: 5,
            restored: true,
        };
        assert!(pins.progress(id, restored).is_empty());
        assert!(get(&mut pins, None, "a").await.unwrap().saved);
        // It is given up while the engine is there, and restored as well.
        pins.limit_cache(0);
        let reason = PinFailure::NoRoom;
        pins.progress(id, EngineState::Failed { reason });
    }
}

#[tokio::test]
async fn a_snapshot_that_lies_there_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut pins, id) = loaded_without_room(&settings(folder.path())).await;
    let written = pins.figures().written_bytes;
    assert!(written > 0);
    // The engine is quicker than the disk.
    pins.limit_cache(1 << 20);
    let (_, memory) = pins.progress(id, READY).pop().unwrap();
    let done = pins.done().await;
    assert!(pins.take_in(done).is_empty(), "it has the pin already");
    File::from(memory.unwrap()).write_all(b"state").unwrap();
    pins.saved(id, true);
    let done = pins.done().await;
    pins.take_in(done);
    assert!(get(&mut pins, None, "a").await.unwrap().saved);
    assert_eq!(pins.figures().written_bytes, written);
}

#[tokio::test]
async fn what_a_slow_disk_has_yet_to_write_is_no_more_than_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let mut pins = Pins::open(&settings(folder.path()));
    for name in ["a", "b"] {
        put(&mut pins, None, name, name).await.unwrap();
    }
    let (second, _) = told(&mut pins, "model-1", "format 1").await;
    // Room for one state of five bytes.
    pins.limit_cache(9);
    for id in [PinId(second.0 - 1), second] {
        let (_, memory) = pins.progress(id, READY).pop().unwrap();
        File::from(memory.unwrap()).write_all(b"state").unwrap();
        pins.saved(id, true);
    }
    assert_eq!(pins.figures().unsaved, 1);
    let done = pins.done().await;
    pins.take_in(done);
    assert!(get(&mut pins, None, "a").await.unwrap().saved);
    assert!(!get(&mut pins, None, "b").await.unwrap().saved);
}
