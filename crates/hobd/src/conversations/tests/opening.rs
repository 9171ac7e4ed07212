//! Files: modes, versions, damage.

use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::super::open::{Opened, read_only};
use super::super::schema::{self, MIGRATIONS};
use super::*;

fn opened(folder: &Path) -> Opened {
    open(folder).unwrap()
}

#[test]
fn files_are_their_owners_alone() {
    let base = folder();
    let folder = base.path().join("made/for/it");
    let mut store = store(&folder);
    create(&mut store, MINE);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut seen = 0;
    for file in fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
        seen += 1;
    }
    assert!(seen >= 2, "a database and its log");
    drop(store);
    let file = folder.join("conversations.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    drop(opened(&folder));
    assert_eq!(mode(&file), 0o600);
}

/// A database of `version`, as the hob of that time left it, with one turn in it.
fn of_version(folder: &Path, version: usize) {
    let connection = Connection::open(folder.join("conversations.db")).unwrap();
    for step in &MIGRATIONS[..version] {
        connection.execute_batch(step).unwrap();
    }
    connection
        .pragma_update(None, "user_version", i64::try_from(version).unwrap())
        .unwrap();
    if version == 0 {
        return;
    }
    // What version 1 could say; every later one reads it.
    connection
        .execute_batch(
            "INSERT INTO conversation (key, id, uid, name, created, updated, turns, bytes)
             VALUES (1, '0123456789abcdef0123456789abcdef', 1000, 'Old', 10, 20, 1, 5);
             INSERT INTO turn (conversation, number, time, model) VALUES (1, 1, 20, 'fake');
             INSERT INTO message (conversation, turn, position, role, content)
             VALUES (1, 1, 0, 'user', 'one'), (1, 1, 1, 'assistant', 'un');",
        )
        .unwrap();
}

#[test]
fn every_earlier_version_is_taken_over() {
    for version in 0..=MIGRATIONS.len() {
        let folder = folder();
        of_version(folder.path(), version);
        let opened = opened(folder.path());
        assert_eq!(opened.set_aside, None, "version {version}");
        assert_eq!(
            schema::version(&opened.connection).unwrap(),
            MIGRATIONS.len()
        );
        let mut store = Store::new(opened.connection, QUOTA);
        if version > 0 {
            let id = ConversationId::parse("0123456789abcdef0123456789abcdef").unwrap();
            store.commit(MINE, &id, &turn("two", "deux")).unwrap();
            let transcript = store.transcript(MINE, &id).unwrap();
            assert_eq!(transcript.conversation.name.as_deref(), Some("Old"));
            assert_eq!(transcript.history[0].messages[1].content, "un");
            assert_eq!(transcript.history[1].number, 2);
        }
        create(&mut store, MINE);
    }
}

#[test]
fn a_later_version_is_left_as_it_is() {
    let folder = folder();
    let file = folder.path().join("conversations.db");
    let connection = Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::TooNew), "{error:?}");
    let connection = Connection::open(&file).unwrap();
    assert_eq!(schema::version(&connection).unwrap(), 99);
}

/// What happened to a file, and how to do it.
type Damage = (&'static str, fn(&Path));

fn damages() -> Vec<Damage> {
    vec![
        ("no database", |file| {
            fs::write(file, "This is no database. ".repeat(500)).unwrap();
        }),
        ("zeros in the middle", |file| {
            let mut bytes = fs::read(file).unwrap();
            let length = bytes.len();
            bytes[4096..length].fill(0);
            fs::write(file, bytes).unwrap();
        }),
        ("cut off", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2 + 100]).unwrap();
        }),
        ("a table missing", |file| {
            let connection = Connection::open(file).unwrap();
            connection.execute_batch("DROP TABLE message").unwrap();
        }),
    ]
}

#[test]
fn a_damaged_database_is_set_aside() {
    for (what, damage) in damages() {
        let folder = folder();
        let mut first = store(folder.path());
        let id = create(&mut first, MINE);
        let long = "plover ".repeat(3000);
        first.commit(MINE, &id, &turn("one", &long)).unwrap();
        drop(first);
        damage(&folder.path().join("conversations.db"));

        let opened = opened(folder.path());
        let aside = opened.set_aside.unwrap_or_else(|| panic!("{what}"));
        assert!(aside.is_file(), "{what}");
        assert!(fs::metadata(&aside).unwrap().len() > 0, "{what}");
        let mut store = Store::new(opened.connection, QUOTA);
        assert!(store.list(MINE).unwrap().is_empty(), "{what}");
        create(&mut store, MINE);
    }
}

#[test]
fn a_database_that_cannot_be_opened_is_no_reason_to_destroy_it() {
    let folder = folder();
    let file = folder.path().join("conversations.db");
    fs::create_dir(&file).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(!error.is_damage(), "{error:?}");
    assert!(file.is_dir());
}

#[test]
fn what_cannot_be_written_is_still_read() {
    let folder = folder();
    let mut first = store(folder.path());
    let id = create(&mut first, MINE);
    first.commit(MINE, &id, &turn("one", "1")).unwrap();
    let file = folder.path().join("conversations.db");
    // While the log holds a turn, the file alone would be an older state.
    read_only(&file).unwrap_err();
    drop(first);
    let mut store = Store::new(read_only(&file).unwrap().connection, QUOTA);
    assert_eq!(store.transcript(MINE, &id).unwrap().history.len(), 1);
    let error = store.commit(MINE, &id, &turn("two", "2")).unwrap_err();
    assert!(error.to_string().contains("can't be written"), "{error}");
    read_only(&folder.path().join("none")).unwrap_err();
}

#[test]
fn two_on_one_folder_do_not_share_it() {
    let folder = folder();
    let mut first = store(folder.path());
    create(&mut first, MINE);
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    // The first goes on as before.
    create(&mut first, MINE);
}
