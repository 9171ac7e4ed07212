//! The pins of homes, which follow the providers in force.

use std::time::{Duration, Instant, SystemTime};

use super::registry::{engine, save, settings};
use super::*;
use crate::providers::ProviderName;

const SECOND: Duration = Duration::from_secs(1);

fn home(uid: u32, name: &str, text: &str, wanted: bool) -> HomePrefix {
    HomePrefix {
        uid,
        name: ProviderName::parse(name).unwrap(),
        messages: definition(None, "a", text).messages.into(),
        wanted,
    }
}

/// An engine that is ready, and was told of nothing.
fn loaded(pins: &mut Pins, now: Instant) {
    pins.model_opened("model-1");
    let outgoing = pins.engine_ready(now, engine("format 1"));
    assert!(outgoing.unwrap().is_empty());
}

/// Lets the disk look for a snapshot.
async fn looked(pins: &mut Pins) -> Vec<Outgoing> {
    let done = pins.done().await;
    pins.take_in(done)
}

/// The one pin that the engine is told of, and whether with a snapshot.
fn pinned(outgoing: &[Outgoing]) -> (PinId, bool) {
    let [(Command::Pin(pin), memory)] = outgoing else {
        panic!("{outgoing:?}");
    };
    (pin.id, memory.is_some())
}

/// The snapshots that are there when the disk has done what it was told.
async fn files(pins: &mut Pins, folder: &Path, count: usize) -> Vec<std::path::PathBuf> {
    for _ in 0..500 {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        if found.len() == count {
            return found;
        }
        tokio::select! {
            done = pins.done() => drop(pins.take_in(done)),
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
    panic!("there are never {count} snapshots");
}

#[tokio::test]
async fn a_home_is_pinned_once_a_model_was_asked_and_its_snapshot_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let snapshots = &settings.snapshots.dir;
    let now = Instant::now();
    let mut pins = Pins::open(&settings);
    loaded(&mut pins, now);
    pins.homes_changed(now, vec![home(7, "house", "text", false)]);
    assert!(pins.settle_homes(now).is_empty());
    assert!(looked(&mut pins).await.is_empty(), "nobody asked");
    pins.homes_changed(now, vec![home(7, "house", "text", true)]);
    let (id, restored) = pinned(&pins.settle_homes(now));
    assert!(!restored);
    save(&mut pins, id).await;

    // A hub that is back within a second has lost nothing.
    pins.homes_changed(now, Vec::new());
    assert!(pins.settle_homes(now).is_empty());
    pins.homes_changed(now, vec![home(7, "house", "text", false)]);
    assert!(pins.wakeup().is_none());
    // One that stays away has, but for the file.
    pins.homes_changed(now, Vec::new());
    assert_eq!(pins.wakeup(), Some(now + SECOND));
    let outgoing = pins.settle_homes(now + SECOND);
    assert!(matches!(
        outgoing.as_slice(),
        [(Command::Unpin { .. }, None)]
    ));
    assert_eq!(pins.figures().pins, 0);

    // It is found again in another life, for the same owner and text, and nobody needs to ask.
    let mut pins = Pins::open(&settings);
    loaded(&mut pins, now);
    for other in [
        home(8, "house", "text", false),
        home(7, "house", "other", false),
    ] {
        pins.homes_changed(now, vec![other]);
        assert!(pins.settle_homes(now).is_empty());
        assert!(looked(&mut pins).await.is_empty());
        pins.homes_changed(now, Vec::new());
        pins.settle_homes(now + SECOND);
    }
    pins.homes_changed(now, vec![home(7, "house", "text", false)]);
    assert!(pins.settle_homes(now).is_empty());
    assert!(pinned(&looked(&mut pins).await).1);

    // After a week without use it is gone.
    let file = files(&mut pins, snapshots, 1).await.remove(0);
    let before = SystemTime::now() - 8 * 24 * 3600 * SECOND;
    File::open(&file).unwrap().set_modified(before).unwrap();
    let mut pins = Pins::open(&settings);
    files(&mut pins, snapshots, 0).await;
}

#[tokio::test]
async fn a_home_that_keeps_changing_is_left_alone_until_it_rests() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let mut now = Instant::now();
    let mut pins = Pins::open(&settings);
    loaded(&mut pins, now);
    pins.homes_changed(now, vec![home(7, "house", "text 0", true)]);
    assert!(pins.settle_homes(now).is_empty());
    let (first, _) = pinned(&looked(&mut pins).await);
    save(&mut pins, first).await;
    let old = files(&mut pins, &settings.snapshots.dir, 1).await;
    for number in 1..20 {
        now += SECOND / 2;
        let text = format!("text {number}");
        pins.homes_changed(now, vec![home(7, "house", &text, true)]);
        assert!(pins.settle_homes(now).is_empty());
    }
    // While the engine is behind, nothing is due either.
    pins.postpone_homes(now + SECOND);
    assert!(pins.settle_homes(now + SECOND).is_empty());
    let mut outgoing = pins.settle_homes(now + 2 * SECOND);
    assert!(matches!(outgoing.as_slice(), [(Command::Unpin { id }, None)] if *id == first));
    while !outgoing
        .iter()
        .any(|(command, _)| matches!(command, Command::Pin(_)))
    {
        outgoing = looked(&mut pins).await;
    }
    let (second, restored) = pinned(&outgoing);
    assert!(!restored);
    save(&mut pins, second).await;
    let new = files(&mut pins, &settings.snapshots.dir, 1).await;
    assert_ne!(old, new);
}

#[tokio::test]
async fn homes_have_places_of_their_own_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let now = Instant::now();
    let mut pins = Pins::open(&settings);
    let many = |uid: u32| (0..6).map(move |n| home(uid, &format!("h{n}"), "text", true));
    pins.homes_changed(now, (0..6).flat_map(many).collect());
    pins.settle_homes(now);
    assert_eq!(pins.figures().pins, 16);
    // They take none of what users pin.
    for n in 0..PINS_PER_OWNER_MAX {
        let name = format!("p{n}");
        super::registry::put(&mut pins, Some(1), &name, "text")
            .await
            .unwrap();
    }
}
