#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod opening;

use std::fs;
use std::path::Path;
use std::time::Duration;

use hob_api::chat::Role;
use hob_ipc::message::ChatMessage;
use tempfile::TempDir;

use super::open::open;
use super::store::{NewTurn, Quota, Store};
use super::*;
use crate::request::{MESSAGES_MAX, TEXT_BYTES_MAX};

const MINE: u32 = 1000;
const THEIRS: u32 = 1001;
const QUOTA: Quota = Quota {
    conversations: 3,
    bytes: 4 << 20,
};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn store(folder: &Path) -> Store {
    Store::new(open(folder).unwrap().connection, QUOTA)
}

fn fields(name: Option<&str>, system: Option<&str>) -> Fields {
    Fields {
        name: name.map(str::to_owned),
        system: system.map(str::to_owned),
    }
}

fn create(store: &mut Store, uid: u32) -> ConversationId {
    let created = store.create(uid, Fields::default()).unwrap();
    ConversationId::parse(&created.id).unwrap()
}

fn turn(question: &str, answer: &str) -> NewTurn {
    let message = |role, content: &str| ChatMessage {
        role,
        content: content.to_owned(),
    };
    NewTurn {
        messages: vec![
            message(Role::User, question),
            message(Role::Assistant, answer),
        ],
        model: "fake".to_owned(),
        ..NewTurn::default()
    }
}

fn names(store: &Store, uid: u32) -> Vec<String> {
    let list = store.list(uid).unwrap();
    list.into_iter().filter_map(|c| c.name).collect()
}

/// Whether any file in `folder` holds `text`.
fn on_disk(folder: &Path, text: &str) -> bool {
    let files: Vec<_> = fs::read_dir(folder).unwrap().collect();
    assert!(!files.is_empty());
    files.into_iter().any(|file| {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[test]
fn what_is_stored_is_read_back_after_a_restart() {
    let folder = folder();
    let mut first = store(folder.path());
    let created = first
        .create(MINE, fields(Some("Garden"), Some("Be brief.")))
        .unwrap();
    let id = ConversationId::parse(&created.id).unwrap();
    first.commit(MINE, &id, &turn("one?", "1")).unwrap();
    let new_system = NewTurn {
        system: Some("Be long.".to_owned()),
        ..turn("two?", "2\0")
    };
    first.commit(MINE, &id, &new_system).unwrap();
    drop(first);

    let again = store(folder.path());
    let transcript = again.transcript(MINE, &id).unwrap();
    assert_eq!(transcript.conversation.name.as_deref(), Some("Garden"));
    assert_eq!(transcript.conversation.system.as_deref(), Some("Be long."));
    assert_eq!(transcript.conversation.turns, 2);
    assert_eq!(transcript.conversation.bytes, 8 + 5 + 6 + 4 * 64);
    let said: Vec<_> = transcript
        .history
        .iter()
        .flat_map(|turn| &turn.messages)
        .map(|message| (message.role, message.content.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (Role::User, "one?"),
            (Role::Assistant, "1"),
            (Role::User, "two?"),
            (Role::Assistant, "2\0"),
        ]
    );
    assert_eq!(transcript.history[1].number, 2);
    let listed = Conversation {
        system: None,
        ..transcript.conversation
    };
    assert_eq!(again.list(MINE).unwrap(), [listed]);
}

#[test]
fn a_foreign_conversation_is_none() {
    let folder = folder();
    let mut store = store(folder.path());
    let id = create(&mut store, MINE);
    store.commit(MINE, &id, &turn("secret?", "yes")).unwrap();
    for uid in [THEIRS, 0] {
        assert!(store.list(uid).unwrap().is_empty());
        let refusals = [
            store.transcript(uid, &id).map(drop),
            store.context(uid, &id).map(drop),
            store.change(uid, &id, &fields(Some("x"), None)).map(drop),
            store.delete(uid, &id),
            store.commit(uid, &id, &turn("a", "b")),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Err(StoreError::NotFound)), "{refusal:?}");
        }
    }
    assert_eq!(store.transcript(MINE, &id).unwrap().history.len(), 1);
}

#[test]
fn names_are_each_users_own_and_the_first_question_gives_one() {
    let folder = folder();
    let mut store = store(folder.path());
    let mine = create(&mut store, MINE);
    store.commit(MINE, &mine, &turn("Why?", "1")).unwrap();
    let second = create(&mut store, MINE);
    store.commit(MINE, &second, &turn("Why?", "2")).unwrap();
    let theirs = create(&mut store, THEIRS);
    store.commit(THEIRS, &theirs, &turn("Why?", "3")).unwrap();
    assert_eq!(names(&store, MINE), ["Why? (2)", "Why?"]);
    assert_eq!(names(&store, THEIRS), ["Why?"]);

    let taken = store.change(MINE, &mine, &fields(Some("Why? (2)"), None));
    assert!(matches!(taken, Err(StoreError::NameTaken)), "{taken:?}");
    let taken = store.create(MINE, fields(Some("Why?"), None));
    assert!(matches!(taken, Err(StoreError::NameTaken)), "{taken:?}");
    let renamed = store.change(MINE, &mine, &fields(Some("Reasons"), None));
    assert_eq!(renamed.unwrap().name.as_deref(), Some("Reasons"));
    // A later question does not name it again.
    store.commit(MINE, &mine, &turn("What?", "4")).unwrap();
    assert_eq!(names(&store, MINE), ["Reasons", "Why? (2)"]);
}

#[test]
fn what_is_deleted_is_on_the_disk_no_more() {
    let folder = folder();
    let mut store = store(folder.path());
    let id = create(&mut store, MINE);
    let other = create(&mut store, MINE);
    let long = "the answer to keep quiet about ".repeat(1000);
    store.commit(MINE, &id, &turn("plover", &long)).unwrap();
    store.commit(MINE, &other, &turn("heron", "grey")).unwrap();
    let secret = "keep quiet about";
    assert!(on_disk(folder.path(), secret) && on_disk(folder.path(), "plover"));

    store.delete(MINE, &id).unwrap();
    assert!(!on_disk(folder.path(), secret));
    assert!(!on_disk(folder.path(), "plover"));
    assert!(on_disk(folder.path(), "heron"));
    assert!(matches!(store.delete(MINE, &id), Err(StoreError::NotFound)));
}

#[test]
fn instructions_that_were_replaced_are_on_the_disk_no_more() {
    let folder = folder();
    let mut store = store(folder.path());
    let created = store.create(MINE, fields(None, Some("whisper plover")));
    let id = ConversationId::parse(&created.unwrap().id).unwrap();
    assert!(on_disk(folder.path(), "plover"));
    let changed = store.change(MINE, &id, &fields(None, Some(""))).unwrap();
    assert_eq!((changed.system, changed.bytes), (None, 0));
    assert!(!on_disk(folder.path(), "plover"));
}

#[test]
fn retention_deletes_what_is_old_and_nothing_else() {
    let folder = folder();
    let mut store = store(folder.path());
    let old = create(&mut store, MINE);
    store.commit(MINE, &old, &turn("plover", "x")).unwrap();
    let new = create(&mut store, MINE);
    let ago = store::now() - 8 * 24 * 3600;
    store
        .connection()
        .execute(
            "UPDATE conversation SET updated = ?1 WHERE id = ?2",
            rusqlite::params![ago, old.as_str()],
        )
        .unwrap();
    let now = store::now();
    assert_eq!(store.purge(9, now, None).unwrap(), 0);
    assert_eq!(store.purge(7, now, None).unwrap(), 1);
    let left = store.list(MINE).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, new.as_str());
    assert!(!on_disk(folder.path(), "plover"));
}

#[test]
fn a_clock_that_jumps_deletes_nothing_at_once() {
    const YEAR: u64 = 365 * 24 * 3600;
    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
    let folder = folder();
    let mut store = store(folder.path());
    let kept = create(&mut store, MINE);
    store.commit(MINE, &kept, &turn("plover", "x")).unwrap();
    let now = store::now();
    assert_eq!(store.purge(30, now, None).unwrap(), 0);
    // Years ahead for some hours, a restart included, and then right again.
    for ran in [HOUR, HOUR, None, HOUR] {
        assert_eq!(store.purge(30, now + 10 * YEAR, ran).unwrap(), 0);
    }
    for _ in 0..48 {
        assert_eq!(store.purge(30, now, HOUR).unwrap(), 0);
    }
    // While the system's clock is behind, what is added counts as added by this one's time.
    let ahead = now + 24 * 3600;
    let set = "UPDATE clock SET time = ?1";
    store.connection().execute(set, [ahead]).unwrap();
    let added = create(&mut store, MINE);
    assert_eq!(store.get(MINE, &added).unwrap().updated, ahead);
    store.commit(MINE, &kept, &turn("more", "y")).unwrap();
    assert_eq!(store.get(MINE, &kept).unwrap().updated, ahead);
    // What is old by the clock goes when that has been followed all the way.
    let later = now + YEAR;
    let deleted: usize = (0..60 * 24)
        .map(|_| store.purge(30, later, HOUR).unwrap())
        .sum();
    assert_eq!(deleted, 2);
    assert!(!on_disk(folder.path(), "plover"));
}

#[test]
fn one_user_is_bounded_and_another_is_not_touched_by_that() {
    let folder = folder();
    let mut store = store(folder.path());
    let ids: Vec<_> = (0..3).map(|_| create(&mut store, MINE)).collect();
    let refused = store.create(MINE, Fields::default());
    assert!(matches!(refused, Err(StoreError::Quota(_))), "{refused:?}");
    let theirs = create(&mut store, THEIRS);

    let big = "x".repeat(3 << 19);
    store.commit(MINE, &ids[0], &turn("a", &big)).unwrap();
    let refused = store.commit(MINE, &ids[0], &turn("a", &big));
    assert!(matches!(refused, Err(StoreError::Quota(_))), "one too long");
    store.commit(MINE, &ids[1], &turn("a", &big)).unwrap();
    let refused = store.commit(MINE, &ids[2], &turn("a", &big));
    assert!(matches!(refused, Err(StoreError::Quota(_))), "too much");
    store.commit(THEIRS, &theirs, &turn("a", &big)).unwrap();
    // Deleting makes room.
    store.delete(MINE, &ids[0]).unwrap();
    store.commit(MINE, &ids[2], &turn("a", &big)).unwrap();
}

#[test]
fn empty_messages_are_not_free() {
    let folder = folder();
    let mut store = store(folder.path());
    let id = create(&mut store, MINE);
    let mut many = turn("a", "");
    many.messages.resize(MESSAGES_MAX, many.messages[1].clone());
    let most = (2 << 20) / (64 * MESSAGES_MAX);
    for _ in 0..most {
        store.commit(MINE, &id, &many).unwrap();
    }
    let refused = store.commit(MINE, &id, &many);
    assert!(matches!(refused, Err(StoreError::Quota(_))), "{refused:?}");
}

#[test]
fn a_context_has_the_newest_turns_whole() {
    let folder = folder();
    let mut store = store(folder.path());
    let id = create(&mut store, MINE);
    let half = "x".repeat(TEXT_BYTES_MAX / 2 - 100);
    for question in ["one", "two", "three"] {
        store.commit(MINE, &id, &turn(question, &half)).unwrap();
    }
    let context = store.context(MINE, &id).unwrap();
    assert_eq!(context.unread, 1);
    let questions: Vec<_> = context.turns.iter().map(|turn| &turn[0].content).collect();
    assert_eq!(questions, ["two", "three"]);
    assert!(context.turns.iter().all(|turn| turn.len() == 2));

    let other = create(&mut store, MINE);
    for number in 0..=MESSAGES_MAX / 2 {
        let question = number.to_string();
        store.commit(MINE, &other, &turn(&question, "")).unwrap();
    }
    let context = store.context(MINE, &other).unwrap();
    assert_eq!(context.unread, 1);
    assert_eq!(context.turns.len(), MESSAGES_MAX / 2);
    assert_eq!(context.turns[0][0].content, "1");
}

#[test]
fn a_full_or_unwritable_database_refuses_and_is_as_before() {
    let folder = folder();
    let mut store = store(folder.path());
    let id = create(&mut store, MINE);
    store.commit(MINE, &id, &turn("one", "1")).unwrap();
    let refused = |store: &mut Store, word: &str| {
        let error = store
            .commit(MINE, &id, &turn("two", &"x".repeat(1 << 20)))
            .unwrap_err();
        assert!(error.is_fault() && !error.is_damage(), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(store.transcript(MINE, &id).unwrap().history.len(), 1);
    };
    let pages: i64 = store
        .connection()
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    let set = |store: &Store, pragma: &str, value: i64| {
        let set = store
            .connection()
            .execute_batch(&format!("PRAGMA {pragma} = {value}"));
        set.unwrap();
    };
    set(&store, "max_page_count", pages);
    refused(&mut store, "the disk is full");
    set(&store, "max_page_count", 1 << 20);
    set(&store, "query_only", 1);
    refused(&mut store, "can't be written");
    set(&store, "query_only", 0);
    store.commit(MINE, &id, &turn("two", "2")).unwrap();
    assert_eq!(store.transcript(MINE, &id).unwrap().history.len(), 2);
}

fn settings(folder: &Path) -> ConversationSettings {
    ConversationSettings::in_folder(folder.to_owned())
}

#[tokio::test]
async fn conversations_that_are_off_say_so_and_write_nothing() {
    let folder = folder();
    let conversations = Conversations::start(&ConversationSettings {
        enabled: false,
        ..settings(&folder.path().join("none"))
    });
    let error = conversations.list(MINE).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert!(error.hint.is_some());
    assert!(!conversations.status().enabled);
    assert!(!folder.path().join("none").exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_of() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let conversations = Conversations::start(&settings(&file.join("below")));
    let error = conversations.list(MINE).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotReady);
    let status = conversations.status();
    assert!(status.enabled && status.problem.is_some(), "{status:?}");
}

#[tokio::test]
async fn damage_that_is_found_while_hobd_runs_is_set_aside_too() {
    let folder = folder();
    let conversations = Conversations::start(&settings(folder.path()));
    let created = conversations
        .create(MINE, ConversationFields::default())
        .await
        .unwrap();
    let writer = conversations.writer().unwrap();
    let broken = writer
        .read(|store| {
            // As if the file had been damaged under it.
            let sql = "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema; \
                       PRAGMA user_version = 1;";
            store.connection().execute_batch(sql)?;
            Err::<(), _>(StoreError::Damaged)
        })
        .await;
    broken.unwrap_err();
    let status = conversations.status();
    assert!(status.set_aside.is_some(), "{status:?}");
    assert_eq!(status.problem, None);
    assert_eq!(conversations.list(MINE).await.unwrap(), []);
    let id = ConversationId::parse(&created.id).unwrap();
    let gone = conversations.transcript(MINE, id).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::ConversationNotFound);
}

#[tokio::test]
async fn a_conversation_has_one_request_at_a_time() {
    let folder = folder();
    let conversations = Conversations::start(&settings(folder.path()));
    let id = ConversationId::random().unwrap();
    let first = conversations.occupy(MINE, &id).unwrap();
    let error = conversations.occupy(MINE, &id).unwrap_err();
    assert_eq!(error.code, ErrorCode::Busy);
    // Another user learns nothing of it.
    conversations.occupy(THEIRS, &id).unwrap();
    drop(first);
    conversations.occupy(MINE, &id).unwrap();
}
