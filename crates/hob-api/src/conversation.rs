//! Conversations that hobd keeps: `/hob/v1/conversations`, and what an answer tells about its own.

use serde::{Deserialize, Serialize};

use crate::chat::Role;

/// Longest name of a conversation in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// A conversation, without what was said in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// 32 hexadecimal digits, chosen at random.
    pub id: String,
    /// Always `conversation`.
    pub object: String,
    /// 1 to [`NAME_BYTES_MAX`] bytes, different from the names of its user's others. One that
    /// nobody named takes the beginning of its first question; until then it has none.
    pub name: Option<String>,
    /// Instructions to the model, before everything else; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// When it was opened, in seconds since the Unix epoch.
    pub created: u64,
    /// When it was last added to, in seconds since the Unix epoch.
    pub updated: u64,
    /// Turns in it.
    pub turns: u32,
    /// Bytes that it counts for: its text, instructions included, and 64 for each message.
    pub bytes: u64,
}

/// A conversation with all that was said in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// About it.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// All turns, the oldest first.
    pub history: Vec<Turn>,
}

/// What was asked at once, and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// 1 for the oldest.
    pub number: u32,
    /// When it was stored, in seconds since the Unix epoch.
    pub time: u64,
    /// The model that answered.
    pub model: String,
    /// The new messages of the request, then the answer.
    pub messages: Vec<TurnMessage>,
}

/// One message of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnMessage {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// The reply to `GET /hob/v1/conversations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationList {
    /// Always `list`.
    pub object: String,
    /// The caller's conversations, the one that was last added to first.
    pub data: Vec<Conversation>,
}

/// The body of `POST /hob/v1/conversations` and of `PATCH /hob/v1/conversations/ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationFields {
    /// The name to give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Instructions to the model; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// The reply to `DELETE /hob/v1/conversations/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationDeleted {
    /// Its id.
    pub id: String,
    /// Always `conversation.deleted`.
    pub object: String,
    /// Always true.
    pub deleted: bool,
}

/// What becomes of a conversation that has outgrown the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// The request fails with `context_overflow`.
    #[default]
    Never,
    /// Whole turns are left out of the prompt, the oldest first. They stay stored.
    Oldest,
}

/// What an answer within a conversation tells about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The conversation's id.
    pub conversation: String,
    /// Whether the turn is on the disk. If not, the conversation is as it was before.
    pub stored: bool,
    /// Why it is not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_problem: Option<String>,
    /// How many of the oldest turns were left out of the prompt, as `truncate` allowed.
    #[serde(default)]
    pub dropped_turns: u32,
}

/// Part of the daemon's status: whether conversations are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationsStatus {
    /// Whether hobd's settings have them on.
    pub enabled: bool,
    /// Why they can't be read, or can't be added to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The file that a damaged database was set aside as, since hobd started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
}
