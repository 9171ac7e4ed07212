//! `/hob/v1/pins`: beginnings of conversations that hobd keeps ready, so that a question behind them
//! is answered at once.

use serde::{Deserialize, Serialize};

use crate::chat::{Message, Role};

/// Longest name of a pin in bytes.
pub const PIN_NAME_BYTES_MAX: usize = 64;
/// What names begin with of which the pin is a provider's: what a model is told of a home. It is there
/// as long as the provider, and can't be removed by itself.
pub const PIN_OF_PROVIDER: &str = "provider:";
/// Longest text of a pin in bytes, all messages together.
pub const PIN_TEXT_BYTES_MAX: usize = 64 << 10;

/// The body of `PUT /hob/v1/pins/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinFields {
    /// What the conversations begin with: usually one system message.
    pub messages: Vec<Message>,
}

/// How far a pin is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinState {
    /// It will be restored or read when the model is loaded and nobody asks anything.
    #[default]
    Waiting,
    /// It is being read, or waits to be read on.
    Reading,
    /// Conversations that begin with it go on from it.
    Ready,
    /// It can't be kept; `problem` tells why.
    Failed,
}

impl PinState {
    /// The state's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Reading => "reading",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// Where a pin that is ready came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinSource {
    /// The model read it.
    Computed,
    /// It was restored from its snapshot.
    Restored,
}

impl PinSource {
    /// The source's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Restored => "restored",
        }
    }
}

/// A message of a pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinMessage {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// A pin, as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Always `pin`.
    pub object: String,
    /// Its name, the owner's own.
    pub name: String,
    /// Whether it serves every user: an administrator's does.
    pub shared: bool,
    /// How far it is.
    pub state: PinState,
    /// Why it can't be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Tokens read so far.
    pub processed: u32,
    /// Its tokens; 0 until known.
    pub tokens: u32,
    /// Bytes that it takes in memory; 0 until it is ready.
    pub bytes: u64,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PinSource>,
    /// Whether a snapshot of it lies on the disk for the model that is loaded.
    pub saved: bool,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// Its messages; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<PinMessage>>,
}

/// The caller's pins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinList {
    /// Always `list`.
    pub object: String,
    /// By name.
    pub data: Vec<Pin>,
}

/// The answer to `DELETE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinDeleted {
    /// The name it had.
    pub name: String,
    /// Always `pin.deleted`.
    pub object: String,
    /// Always true.
    pub deleted: bool,
}
