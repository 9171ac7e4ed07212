#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hob_api::chat::Role;
use hob_api::pin::{Pin, PinSource, PinState};
use hob_ipc::Command;
use hob_ipc::message::{PinFailure, PinId, PinState as EngineState, Ready};
use hob_ipc::shared;
use proptest::prelude::*;

use super::snapshot::{Header, ReadError};
use super::*;
use crate::settings::{Places, Scope, Settings};

mod homes;
mod registry;

fn definition(owner: Owner, name: &str, text: &str) -> Definition {
    Definition {
        owner,
        name: PinName::parse(name).unwrap(),
        messages: vec![ChatMessage {
            role: Role::System,
            content: text.to_owned(),
        }],
    }
}

fn header(bytes: u64) -> Header {
    Header {
        model: "m".repeat(64),
        text: definition(None, "a", "text").text_id(),
        format: "binding 1, k f16".to_owned(),
        bytes,
    }
}

fn memory_of(payload: &[u8]) -> File {
    let mut memory = shared::fixed("test", payload.len() as u64).unwrap();
    memory.write_all(payload).unwrap();
    memory
}

/// A snapshot of `payload` as the bytes of its file.
fn snapshot_of(payload: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    let memory = memory_of(payload);
    snapshot::write(&mut file, &header(payload.len() as u64), &memory).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8], most: u64) -> Result<(Header, Vec<u8>), ReadError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let mut snapshot = snapshot::read(file, most)?;
    let mut payload = Vec::new();
    snapshot.memory.read_to_end(&mut payload).unwrap();
    Ok((snapshot.header, payload))
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(bytes).collect()
}

#[test]
fn a_snapshot_is_read_as_it_was_written_and_can_not_be_changed() {
    let payload = payload(600_000);
    let bytes = snapshot_of(&payload);
    let (found, read_back) = read(&bytes, u64::MAX).unwrap();
    assert_eq!(found, header(600_000));
    assert!(read_back == payload);
    assert!(matches!(read(&bytes, 599_999), Err(ReadError::TooLarge)));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.rewind().unwrap();
    let mut snapshot = snapshot::read(file, u64::MAX).unwrap();
    assert!(snapshot.memory.write_all(b"x").is_err());
    assert!(snapshot.memory.set_len(1).is_err());
}

#[test]
fn a_snapshot_cut_anywhere_is_damaged() {
    let bytes = snapshot_of(&payload(50_000));
    for length in (0..bytes.len())
        .step_by(512)
        .chain(bytes.len() - 40..bytes.len())
    {
        let cut = read(&bytes[..length], u64::MAX);
        assert!(matches!(cut, Err(ReadError::Damaged)), "{length}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(read(&longer, u64::MAX), Err(ReadError::Damaged)));
}

proptest! {
    #[test]
    fn a_snapshot_with_any_bit_flipped_is_damaged(at in 0_usize..3_000, bit in 0_u8..8) {
        let mut bytes = snapshot_of(&payload(2_500));
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(matches!(read(&bytes, u64::MAX), Err(ReadError::Damaged)));
    }

    #[test]
    fn no_bytes_are_taken_for_a_snapshot(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes, u64::MAX).is_err());
        let bytes = [&b"hobsnap\x01"[..], &bytes].concat();
        prop_assert!(read(&bytes, u64::MAX).is_err());
    }

    #[test]
    fn a_name_is_a_plain_file_name(name in ".{0,70}") {
        if let Ok(name) = PinName::parse(&name) {
            let path = Path::new(name.as_str());
            prop_assert_eq!(path.file_name(), Some(path.as_os_str()));
        }
    }
}

#[test]
fn memory_that_the_engine_may_still_write_to_is_not_taken() {
    let memory = memory_of(b"state");
    shared::seal(&memory).unwrap();
    assert!((&memory).write_all(b"other").is_err());
}

#[test]
fn definitions_survive_and_are_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("pins");
    assert!(definitions::read_all(&folder).is_empty());
    let alma = definition(Some(1000), "persona", "You are \"Alma\".\n\u{1}");
    let shared = definition(None, "persona", "You are the house.");
    for definition in [&alma, &shared] {
        definitions::store(&folder, definition).unwrap();
    }
    assert_eq!(
        definitions::read_all(&folder),
        [shared.clone(), alma.clone()]
    );
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    definitions::delete(&folder, None, &shared.name).unwrap();
    definitions::delete(&folder, None, &shared.name).unwrap();
    assert_eq!(definitions::read_all(&folder), [alma]);
}

#[test]
fn what_is_not_a_whole_definition_is_left_out_and_leftovers_go() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let alma = definition(Some(1000), "persona", "text");
    definitions::store(folder, &alma).unwrap();
    let file = folder.join("1000.persona.json");
    fs::copy(&file, folder.join("0.persona.json")).unwrap();
    fs::write(folder.join("1000.bad.json"), "{\"owner\": 1000").unwrap();
    fs::write(folder.join("1000.new.json.tmp"), "half").unwrap();
    // Another owner's name does not make a pin that owner's.
    assert_eq!(definitions::read_all(folder), [alma]);
    assert!(!folder.join("1000.new.json.tmp").exists());
    assert!(
        folder.join("1000.bad.json").exists(),
        "kept for a person to look at"
    );
}

#[test]
fn a_longest_text_full_of_escapes_can_be_stored() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{1}".repeat(hob_api::pin::PIN_TEXT_BYTES_MAX);
    let long = definition(None, "long", &text);
    definitions::store(folder.path(), &long).unwrap();
    assert_eq!(definitions::read_all(folder.path()), [long]);
}

#[test]
fn a_snapshot_belongs_to_owner_and_text() {
    let id = |owner, text: &str| definition(owner, "a", text).text_id();
    assert_eq!(id(Some(1), "x"), definition(Some(1), "b", "x").text_id());
    assert_ne!(id(Some(1), "x"), id(Some(2), "x"));
    assert_ne!(id(Some(1), "x"), id(None, "x"));
    assert_ne!(id(Some(1), "x"), id(Some(1), "y"));
}
