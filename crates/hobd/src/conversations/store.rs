//! What is asked of the database. Every query names the uid whose rows it may touch, and every
//! value is a bound parameter.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hob_api::chat::Role;
use hob_api::conversation::{Conversation, Transcript, Turn, TurnMessage};
use hob_ipc::message::ChatMessage;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::error::StoreError;
use super::id::ConversationId;
use super::name::{self, Fields};
use super::retention;
use crate::request::{MESSAGES_MAX, TEXT_BYTES_MAX};

/// Most text of one conversation in bytes: beyond any context, and little enough for one reply.
pub(super) const CONVERSATION_BYTES_MAX: u64 = 2 << 20;

const COLUMNS: &str = "id, name, system, created, updated, turns, bytes";
/// Bytes that a message counts for besides its text, so that empty ones are not free.
const MESSAGE_BYTES: usize = 64;
/// Without the instructions, each of which may be long.
const COLUMNS_OF_LISTS: &str = "id, name, NULL, created, updated, turns, bytes";

/// The bounds of one uid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    pub(super) conversations: u32,
    pub(super) bytes: u64,
}

/// What a request needs to know of its conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Context {
    pub(super) system: Option<String>,
    /// The oldest turns, not read: with them a prompt would exceed what any request may have.
    pub(super) unread: u32,
    /// The others, the oldest first.
    pub(super) turns: Vec<Vec<ChatMessage>>,
    /// Turns that were left out of the last prompt, and for how large a context.
    pub(super) left_out: u32,
    pub(super) left_out_for: u32,
}

/// An answered request, to be stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NewTurn {
    /// Instructions that take the place of the conversation's.
    pub(super) system: Option<String>,
    /// What was asked, then the answer.
    pub(super) messages: Vec<ChatMessage>,
    pub(super) model: String,
    pub(super) left_out: u32,
    pub(super) left_out_for: u32,
}

/// The open database.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    quota: Quota,
}

impl Store {
    pub(super) fn new(connection: Connection, quota: Quota) -> Self {
        Self { connection, quota }
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Opens a conversation.
    pub(super) fn create(&mut self, uid: u32, fields: Fields) -> Result<Conversation, StoreError> {
        let id = ConversationId::random().map_err(|_| StoreError::Random)?;
        let system = fields.system.filter(|text| !text.is_empty());
        let bytes = system.as_ref().map_or(0, String::len) as u64;
        let quota = self.quota;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (count, stored): (u32, u64) = transaction.query_row(
            "SELECT count(*), ifnull(sum(bytes), 0) FROM conversation WHERE uid = ?1",
            [uid],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if count >= quota.conversations {
            let message = format!("you have {count} conversations, the most allowed");
            return Err(StoreError::Quota(message));
        }
        check_bytes(bytes, stored, bytes, quota)?;
        let updated = updated(&transaction)?;
        transaction
            .execute(
                "INSERT INTO conversation (id, uid, name, system, created, updated, bytes) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id.as_str(), uid, fields.name, system, now(), updated, bytes],
            )
            .map_err(name_taken)?;
        transaction.commit()?;
        self.get(uid, &id)
    }

    /// All conversations of `uid`, the one last added to first.
    pub(super) fn list(&self, uid: u32) -> Result<Vec<Conversation>, StoreError> {
        // Turns of one second are told apart by their rows.
        let query = format!(
            "SELECT {COLUMNS_OF_LISTS} FROM conversation WHERE uid = ?1 ORDER BY updated DESC, \
             (SELECT max(rowid) FROM turn WHERE turn.conversation = conversation.key) DESC, key DESC"
        );
        let mut statement = self.connection.prepare(&query)?;
        let rows = statement.query_map([uid], conversation)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The conversation without what was said in it.
    pub(super) fn get(&self, uid: u32, id: &ConversationId) -> Result<Conversation, StoreError> {
        about(&self.connection, key(&self.connection, uid, id)?)
    }

    /// The conversation with all that was said in it.
    pub(super) fn transcript(
        &self,
        uid: u32,
        id: &ConversationId,
    ) -> Result<Transcript, StoreError> {
        let key = key(&self.connection, uid, id)?;
        let mut turns = self.connection.prepare(
            "SELECT number, time, model FROM turn WHERE conversation = ?1 ORDER BY number",
        )?;
        let turns = turns.query_map([key], |row| {
            Ok(Turn {
                number: row.get(0)?,
                time: row.get(1)?,
                model: row.get(2)?,
                messages: Vec::new(),
            })
        })?;
        let mut history = turns.collect::<Result<Vec<_>, _>>()?;
        let mut messages = self.connection.prepare(
            "SELECT role, content FROM message WHERE conversation = ?1 AND turn = ?2 \
             ORDER BY position",
        )?;
        for turn in &mut history {
            let rows = messages.query_map(params![key, turn.number], |row| {
                Ok(TurnMessage {
                    role: role(row, 0)?,
                    content: row.get(1)?,
                })
            })?;
            turn.messages = rows.collect::<Result<_, _>>()?;
        }
        Ok(Transcript {
            conversation: self.get(uid, id)?,
            history,
        })
    }

    /// What a request's prompt is made of: instructions, and as many of the newest turns as any
    /// request may have.
    pub(super) fn context(&self, uid: u32, id: &ConversationId) -> Result<Context, StoreError> {
        let key = key(&self.connection, uid, id)?;
        let mut context = self.connection.query_row(
            "SELECT system, turns, left_out, left_out_for FROM conversation WHERE key = ?1",
            [key],
            |row| {
                Ok(Context {
                    system: row.get(0)?,
                    unread: row.get(1)?,
                    left_out: row.get(2)?,
                    left_out_for: row.get(3)?,
                    turns: Vec::new(),
                })
            },
        )?;
        let mut statement = self.connection.prepare(
            "SELECT turn, role, content FROM message WHERE conversation = ?1 \
             ORDER BY turn DESC, position DESC",
        )?;
        let mut rows = statement.query([key])?;
        let (mut bytes, mut messages) = (0, 0);
        let mut current = None;
        while let Some(row) = rows.next()? {
            let turn: u32 = row.get(0)?;
            let message = ChatMessage {
                role: role(row, 1)?,
                content: row.get(2)?,
            };
            bytes += message.content.len();
            messages += 1;
            if bytes > TEXT_BYTES_MAX || messages > MESSAGES_MAX {
                // The turn that this message belongs to is not whole.
                if current == Some(turn) {
                    context.turns.pop();
                }
                break;
            }
            if current != Some(turn) {
                current = Some(turn);
                context.turns.push(Vec::new());
            }
            if let Some(turn) = context.turns.last_mut() {
                turn.push(message);
            }
        }
        context.turns.reverse();
        for turn in &mut context.turns {
            turn.reverse();
        }
        let read = u32::try_from(context.turns.len()).unwrap_or(u32::MAX);
        context.unread = context.unread.saturating_sub(read);
        Ok(context)
    }

    /// Stores a turn, whole or not at all; on the disk when this returns.
    pub(super) fn commit(
        &mut self,
        uid: u32,
        id: &ConversationId,
        turn: &NewTurn,
    ) -> Result<(), StoreError> {
        let quota = self.quota;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let key = key(&transaction, uid, id)?;
        let before = about(&transaction, key)?;
        let number = before.turns + 1;
        let system = replaced(before.system.as_ref(), turn.system.as_ref());
        let said: usize = turn.messages.iter().map(counted).sum();
        let added = said as u64 + length(system.as_ref());
        let bytes = (before.bytes + added).saturating_sub(length(before.system.as_ref()));
        check_bytes(
            added,
            stored_elsewhere(&transaction, uid, key)?,
            bytes,
            quota,
        )?;
        let name = match before.name {
            Some(name) => name,
            None => free_name(&transaction, uid, &name::of_messages(&turn.messages))?,
        };
        insert(&transaction, key, number, turn)?;
        let updated = updated(&transaction)?;
        transaction.execute(
            "UPDATE conversation SET name = ?2, system = ?3, updated = ?4, turns = ?5, bytes = ?6, \
             left_out = ?7, left_out_for = ?8 WHERE key = ?1",
            params![
                key,
                name,
                system,
                updated,
                number,
                bytes,
                turn.left_out,
                turn.left_out_for
            ],
        )?;
        Ok(transaction.commit()?)
    }

    /// Changes the name or the instructions.
    pub(super) fn change(
        &mut self,
        uid: u32,
        id: &ConversationId,
        fields: &Fields,
    ) -> Result<Conversation, StoreError> {
        let key = key(&self.connection, uid, id)?;
        let before = about(&self.connection, key)?;
        let system = replaced(before.system.as_ref(), fields.system.as_ref());
        let added = length(system.as_ref());
        let bytes = (before.bytes + added).saturating_sub(length(before.system.as_ref()));
        let elsewhere = stored_elsewhere(&self.connection, uid, key)?;
        check_bytes(added, elsewhere, bytes, self.quota)?;
        self.connection
            .execute(
                "UPDATE conversation SET name = ?2, system = ?3, bytes = ?4 WHERE key = ?1",
                params![
                    key,
                    fields.name.as_ref().or(before.name.as_ref()),
                    system,
                    bytes
                ],
            )
            .map_err(name_taken)?;
        self.forget_log()?;
        self.get(uid, id)
    }

    /// Deletes a conversation, its text included.
    pub(super) fn delete(&mut self, uid: u32, id: &ConversationId) -> Result<(), StoreError> {
        let deleted = self.connection.execute(
            "DELETE FROM conversation WHERE id = ?1 AND uid = ?2",
            params![id.as_str(), uid],
        )?;
        if deleted == 0 {
            return Err(StoreError::NotFound);
        }
        self.forget_log()
    }

    /// Deletes the conversations that nobody added to for `days`; returns how many there were.
    /// `system` is the system's time, `ran` how long hobd ran since the last call, `None` at first.
    pub(super) fn purge(
        &mut self,
        days: u32,
        system: u64,
        ran: Option<Duration>,
    ) -> Result<usize, StoreError> {
        // A database from before this clock was kept has the time of its last turn.
        let known: Option<u64> = self.connection.query_row(
            "SELECT ifnull((SELECT time FROM clock), (SELECT max(updated) FROM conversation))",
            [],
            |row| row.get(0),
        )?;
        let time = known.map_or(system, |known| retention::follow(known, system, ran));
        self.connection.execute(
            "INSERT OR REPLACE INTO clock (only, time) VALUES (1, ?1)",
            [time],
        )?;
        let oldest = time.saturating_sub(u64::from(days) * 24 * 3600);
        let deleted = self
            .connection
            .execute("DELETE FROM conversation WHERE updated < ?1", [oldest])?;
        if deleted > 0 {
            self.forget_log()?;
        }
        Ok(deleted)
    }

    /// Takes the write-ahead log over and empties it: until then it holds what was deleted.
    /// `secure_delete` has overwritten it in the database itself.
    fn forget_log(&self) -> Result<(), StoreError> {
        let busy: i64 =
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 {
            Ok(())
        } else {
            Err(StoreError::Damaged)
        }
    }
}

fn key(connection: &Connection, uid: u32, id: &ConversationId) -> Result<i64, StoreError> {
    connection
        .query_row(
            "SELECT key FROM conversation WHERE id = ?1 AND uid = ?2",
            params![id.as_str(), uid],
            |row| row.get(0),
        )
        .optional()?
        .ok_or(StoreError::NotFound)
}

fn about(connection: &Connection, key: i64) -> Result<Conversation, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM conversation WHERE key = ?1");
    Ok(connection.query_row(&query, [key], conversation)?)
}

/// The time at which somebody adds to a conversation: what is added while the system's clock is far
/// behind must not be out of retention when that is set right.
fn updated(connection: &Connection) -> Result<u64, StoreError> {
    let query = "SELECT max(?1, ifnull((SELECT time FROM clock), 0))";
    Ok(connection.query_row(query, [now()], |row| row.get(0))?)
}

/// Bytes of text in the uid's other conversations.
fn stored_elsewhere(connection: &Connection, uid: u32, key: i64) -> Result<u64, StoreError> {
    Ok(connection.query_row(
        "SELECT ifnull(sum(bytes), 0) FROM conversation WHERE uid = ?1 AND key <> ?2",
        params![uid, key],
        |row| row.get(0),
    )?)
}

fn insert(
    connection: &Connection,
    key: i64,
    number: u32,
    turn: &NewTurn,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO turn (conversation, number, time, model) VALUES (?1, ?2, ?3, ?4)",
        params![key, number, now(), turn.model],
    )?;
    let mut statement = connection.prepare(
        "INSERT INTO message (conversation, turn, position, role, content) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, message) in turn.messages.iter().enumerate() {
        let role = message.role.as_str();
        statement.execute(params![key, number, position, role, message.content])?;
    }
    Ok(())
}

/// Bytes that a message counts for.
fn counted(message: &ChatMessage) -> usize {
    message.content.len() + MESSAGE_BYTES
}

/// The instructions after a change; empty ones are none.
fn replaced(before: Option<&String>, new: Option<&String>) -> Option<String> {
    new.or(before).filter(|text| !text.is_empty()).cloned()
}

fn length(text: Option<&String>) -> u64 {
    text.map_or(0, |text| text.len() as u64)
}

fn conversation(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        id: row.get(0)?,
        object: "conversation".to_owned(),
        name: row.get(1)?,
        system: row.get(2)?,
        created: row.get(3)?,
        updated: row.get(4)?,
        turns: row.get(5)?,
        bytes: row.get(6)?,
    })
}

/// The table's own check lets no other word in.
fn role(row: &Row<'_>, column: usize) -> rusqlite::Result<Role> {
    let word: String = row.get(column)?;
    Ok(if word == Role::Assistant.as_str() {
        Role::Assistant
    } else {
        Role::User
    })
}

fn check_bytes(added: u64, others: u64, bytes: u64, quota: Quota) -> Result<(), StoreError> {
    if added > 0 && bytes > CONVERSATION_BYTES_MAX {
        return Err(StoreError::Quota(format!(
            "the conversation would have more than {CONVERSATION_BYTES_MAX} bytes of text"
        )));
    }
    if added > 0 && others + bytes > quota.bytes {
        return Err(StoreError::Quota(format!(
            "your conversations would have more than {} bytes of text",
            quota.bytes
        )));
    }
    Ok(())
}

/// `name`, or if another conversation has it, `name (2)` or the next number that is free.
fn free_name(connection: &Connection, uid: u32, name: &str) -> Result<String, StoreError> {
    let mut statement =
        connection.prepare("SELECT 1 FROM conversation WHERE uid = ?1 AND name = ?2")?;
    let mut candidate = name.to_owned();
    let mut number = 1;
    while statement.exists(params![uid, candidate])? {
        number += 1;
        candidate = format!("{name} ({number})");
    }
    Ok(candidate)
}

fn name_taken(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::NameTaken,
        _ => error.into(),
    }
}

/// Seconds since the Unix epoch.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
