//! Conversations that hobd keeps for its users, in one SQLite database.
//!
//! One thread, `writer`, owns the database. [`Conversations`] is the way to it from the async
//! side: every call is a message to that thread and a wait for its reply, so nothing else waits
//! for the disk. `exchange` is a request within a conversation: the stored turns go before the
//! new messages, and the turn is on the disk before the client hears that the answer is complete.
//!
//! A database that can't be opened keeps nobody from an answer: conversations are then refused
//! with a reason, and the status tells it.

mod error;
mod exchange;
mod export;
mod id;
mod name;
mod open;
mod retention;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hob_api::conversation::{
    Conversation, ConversationFields, ConversationsStatus, Transcript, Truncate,
};
use hob_api::{ApiError, ErrorCode};

use self::error::StoreError;
pub use self::export::markdown;
pub use self::id::ConversationId;
use self::name::Fields;
use self::writer::Writer;
use crate::answer::Answer;
use crate::daemon::DaemonHandle;
use crate::request::ValidRequest;
use crate::settings::ConversationSettings;

/// How often conversations are looked for that are older than the retention.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// The conversation that a request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belonging {
    /// Which one, of the caller's.
    pub id: ConversationId,
    /// What to do when it has outgrown the context.
    pub truncate: Truncate,
}

/// The way to the conversations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Conversations {
    /// `None` if the settings have them off.
    writer: Option<Writer>,
    answering: Arc<Mutex<HashSet<(u32, ConversationId)>>>,
}

/// A conversation that a request has to itself until this is dropped.
#[derive(Debug)]
struct Occupied {
    answering: Arc<Mutex<HashSet<(u32, ConversationId)>>>,
    key: (u32, ConversationId),
}

impl Conversations {
    /// Starts the thread that opens the database. Call it within a runtime.
    pub fn start(settings: &ConversationSettings) -> Self {
        let writer = settings.enabled.then(|| Writer::start(settings.clone()));
        if let Some(writer) = &writer {
            tokio::spawn(writer.clone().purge_every(PURGE_INTERVAL));
        }
        Self {
            writer,
            answering: Arc::default(),
        }
    }

    /// Whether they are kept, and what is wrong with the database.
    pub fn status(&self) -> ConversationsStatus {
        self.writer
            .as_ref()
            .map_or_else(ConversationsStatus::default, Writer::status)
    }

    /// Opens a conversation for `uid`.
    ///
    /// # Errors
    /// `invalid_request` for a bad name, or one that another of the uid's has; `quota_exceeded`;
    /// `unsupported` if conversations are off, `not_ready` if the database can't be used. The
    /// last two go for all calls.
    pub async fn create(
        &self,
        uid: u32,
        fields: ConversationFields,
    ) -> Result<Conversation, ApiError> {
        let fields = Fields::check(fields)?;
        self.writer()?
            .write(move |store| store.create(uid, fields))
            .await
            .map_err(refused)
    }

    /// The uid's conversations, the one last added to first.
    ///
    /// # Errors
    /// As [`Conversations::create`]'s last two.
    pub async fn list(&self, uid: u32) -> Result<Vec<Conversation>, ApiError> {
        let list = self.writer()?.read(move |store| store.list(uid)).await;
        list.map_err(refused)
    }

    /// A conversation without what was said in it.
    ///
    /// # Errors
    /// `conversation_not_found`, also for one of another uid; and as [`Conversations::create`].
    pub async fn get(&self, uid: u32, id: ConversationId) -> Result<Conversation, ApiError> {
        let read = move |store: &mut store::Store| store.get(uid, &id);
        self.writer()?.read(read).await.map_err(refused)
    }

    /// All that was said in a conversation.
    ///
    /// # Errors
    /// `conversation_not_found`, also for one of another uid; and as [`Conversations::create`].
    pub async fn transcript(&self, uid: u32, id: ConversationId) -> Result<Transcript, ApiError> {
        let read = move |store: &mut store::Store| store.transcript(uid, &id);
        self.writer()?.read(read).await.map_err(refused)
    }

    /// Changes a conversation's name or instructions.
    ///
    /// # Errors
    /// `conversation_not_found`, also for one of another uid; and as [`Conversations::create`].
    pub async fn change(
        &self,
        uid: u32,
        id: ConversationId,
        fields: ConversationFields,
    ) -> Result<Conversation, ApiError> {
        let fields = Fields::check(fields)?;
        let change = move |store: &mut store::Store| store.change(uid, &id, &fields);
        self.writer()?.write(change).await.map_err(refused)
    }

    /// Deletes a conversation: its text is overwritten in the database when this returns.
    ///
    /// # Errors
    /// `conversation_not_found`, also for one of another uid; and as [`Conversations::create`].
    pub async fn delete(&self, uid: u32, id: ConversationId) -> Result<(), ApiError> {
        let delete = move |store: &mut store::Store| store.delete(uid, &id);
        self.writer()?.write(delete).await.map_err(refused)
    }

    /// Hands in a request within a conversation.
    ///
    /// # Errors
    /// `conversation_not_found`, also for one of another uid; `busy` while another request of the
    /// conversation is under way; and those of [`DaemonHandle::submit`].
    pub(crate) async fn submit(
        &self,
        daemon: DaemonHandle,
        request: ValidRequest,
        belonging: Belonging,
    ) -> Result<Answer, ApiError> {
        exchange::begin(self.clone(), daemon, request, belonging).await
    }

    /// Closes the database, its log taken over: the last thing that hobd does.
    pub async fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }

    fn writer(&self) -> Result<&Writer, ApiError> {
        self.writer.as_ref().ok_or_else(|| {
            ApiError::new(
                ErrorCode::Unsupported,
                "this hobd is set to keep no conversations",
            )
            .hint("send the whole conversation with each request, or see conversations.enabled")
        })
    }

    /// Takes the conversation for one request.
    ///
    /// # Errors
    /// `busy` if another one has it.
    fn occupy(&self, uid: u32, id: &ConversationId) -> Result<Occupied, ApiError> {
        let key = (uid, id.clone());
        // Nothing panics with the lock held.
        if lock(&self.answering).insert(key.clone()) {
            return Ok(Occupied {
                answering: Arc::clone(&self.answering),
                key,
            });
        }
        Err(ApiError::new(
            ErrorCode::Busy,
            "another request of this conversation is under way",
        )
        .hint("wait for its answer, or open another conversation")
        .retry_after_ms(1000))
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        lock(&self.answering).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of an id that the caller has no conversation for.
pub fn not_found() -> ApiError {
    ApiError::new(
        ErrorCode::ConversationNotFound,
        "you have no conversation with this id",
    )
    .param("conversation")
    .hint("`hob conversations list` or GET /hob/v1/conversations lists yours; POST there opens one")
}

/// What the database's refusal means to clients.
fn refused(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => not_found(),
        StoreError::NameTaken => ApiError::new(ErrorCode::InvalidRequest, error.to_string())
            .param("name")
            .hint("choose another name, or rename the other conversation first"),
        StoreError::Quota(message) => ApiError::new(ErrorCode::QuotaExceeded, message)
            .hint("delete conversations that you need no more"),
        fault => ApiError::new(
            ErrorCode::NotReady,
            format!("conversations can't be kept now: {fault}"),
        )
        .hint("questions outside of conversations work; `hob status` and hobd's log tell more"),
    }
}
