//! Pinned prefixes: what users want ready, kept across the engine's life and hobd's own.
//!
//! ```text
//! doors ──► Pins (in the daemon's task) ──► the engine: Pin, SavePin, Unpin
//!             │ ▲
//!             ▼ │ jobs, one after another
//!            disk: definitions in the state folder, snapshots in the cache folder
//! ```
//!
//! [`Pins`] is the state; it does no I/O. `disk` is the one thread that touches the two folders.
//! A snapshot reaches an engine only as sealed memory that was checked against its checksum, so that
//! what was checked is what is used; anything that does not fit is deleted and computed again.

use hob_api::ApiError;
use hob_api::pin::{PIN_NAME_BYTES_MAX, PIN_OF_PROVIDER};
use hob_ipc::message::ChatMessage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::name;
use crate::providers::ProviderName;

mod definitions;
mod disk;
mod entry;
mod registry;
mod snapshot;
#[cfg(test)]
mod tests;
mod wear;

pub(crate) use disk::Done;
pub use registry::{Call, HomePrefix, Outgoing, Pins};

/// Most pins of one owner.
pub const PINS_PER_OWNER_MAX: usize = 8;

/// What the memory in which they go to the engine and back is called.
const MEMORY: &str = "hob-pin";

/// What the ids of their texts begin with: their snapshots outlive them for a while.
const HOME_TEXT: &str = "home.";

/// Whose a pin is: a user's, or everybody's (`None`), which an administrator pinned.
pub type Owner = Option<u32>;

/// Whose the pins of the user `uid` are: those of root and of hobd's own user serve everybody.
pub fn owner_of(uid: u32) -> Owner {
    let own = rustix::process::geteuid().as_raw();
    (uid != 0 && uid != own).then_some(uid)
}

/// A pin's name: 1 to 64 of `a-z A-Z 0-9 . _ -`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PinName(String);

impl PinName {
    /// Reads a name.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn parse(name: &str) -> Result<Self, ApiError> {
        name::parse("pin", name, PIN_NAME_BYTES_MAX).map(Self)
    }

    /// The name of what a provider has pinned: no user can pin or unpin one with a colon.
    pub(crate) fn of_provider(name: &ProviderName) -> Self {
        Self(format!("{PIN_OF_PROVIDER}{}", name.as_str()))
    }

    /// Whether it is such a name.
    fn is_of_provider(&self) -> bool {
        self.0.starts_with(PIN_OF_PROVIDER)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PinName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name).map_err(|error| error.message)
    }
}

impl From<PinName> for String {
    fn from(name: PinName) -> Self {
        name.0
    }
}

/// What was pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    owner: Owner,
    name: PinName,
    messages: Vec<ChatMessage>,
}

impl Definition {
    /// Stands for owner and text: no owner can tell from a snapshot what another pinned.
    fn text_id(&self) -> TextId {
        let mut hash = Sha256::new();
        // Serializing plain data into memory does not fail.
        let text = serde_json::to_vec(&(self.owner, &self.messages)).unwrap_or_default();
        hash.update(text);
        let kind = if self.name.is_of_provider() {
            HOME_TEXT
        } else {
            ""
        };
        TextId(format!("{kind}{}", hex(&hash.finalize())))
    }

    fn text_bytes(&self) -> usize {
        self.messages.iter().map(|m| m.content.len()).sum()
    }
}

/// The sha256 of a pin's owner and text, in hexadecimal; for a home's, `home.` and that.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct TextId(String);

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
