//! `GET /hob/v1/status`: what the daemon is doing, for people and monitors. No prompt or
//! answer text ever appears in it.

use serde::{Deserialize, Serialize};

/// Whether questions can be answered. The discriminant is the D-Bus property `State`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum State {
    /// Not known yet.
    #[default]
    Unknown = 0,
    /// No model is installed or chosen.
    NoModel = 1,
    /// A model is being loaded.
    Loading = 2,
    /// A model is loaded.
    Ready = 3,
    /// The model was unloaded; the next request loads it again.
    Sleeping = 4,
    /// The model can't be loaded, or crashed too often.
    Failed = 5,
}

impl State {
    /// The number on D-Bus.
    pub fn as_u32(self) -> u32 {
        self as u32
    }
}

/// What the daemon is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// hob's version.
    pub version: String,
    /// Whether questions can be answered.
    pub state: State,
    /// While loading: how much is done, 0 to 100.
    pub load_percent: u32,
    /// The model that is loaded, loading or failed.
    pub model: Option<ModelStatus>,
    /// The engine process, while there is one.
    pub engine: Option<EngineStatus>,
    /// Engine processes that ended without being asked to, since hobd started.
    pub engine_losses: u64,
    /// Why the state is `no_model` or `failed`.
    pub problem: Option<crate::ApiError>,
    /// Requests that the engine works on.
    pub active: u32,
    /// Requests that wait.
    pub queued: u32,
    /// Requests that may wait at once.
    pub queue_max: u32,
    /// Seconds since hobd started.
    pub uptime_s: u64,
    /// hobd's own resident memory in bytes.
    pub hobd_rss_bytes: u64,
    /// Whether conversations are kept.
    #[serde(default)]
    pub conversations: crate::conversation::ConversationsStatus,
    /// What is kept beside the running requests so that later ones need not be read again.
    #[serde(default)]
    pub cache: CacheStatus,
    /// What the sandbox setting asks for: `required`, `degraded` or `off`.
    pub sandbox_setting: String,
}

/// The prefix cache in memory, pinned prefixes and their snapshots. Of everybody together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// Prefixes kept beside the sequences, pinned ones included.
    pub entries: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Most bytes.
    pub bytes_max: u64,
    /// Pinned prefixes.
    pub pins: u32,
    /// Those of them that are ready.
    pub pins_ready: u32,
    /// Pinned prefixes that the model read, since hobd started.
    pub computed: u64,
    /// Pinned prefixes restored from snapshots, since hobd started.
    pub restored: u64,
    /// Snapshots that were damaged or did not fit, since hobd started.
    pub damaged: u64,
    /// Bytes of snapshots written to the disk since hobd started.
    pub written_bytes: u64,
}

/// A model as the engine reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Its name in the store.
    pub name: String,
    /// The file's sha256, in hexadecimal.
    pub sha256: String,
    /// The file's size in bytes.
    pub size_bytes: u64,
    /// The architecture's name in GGUF; empty until loaded.
    pub architecture: String,
    /// Parameters; 0 until loaded.
    pub parameters: u64,
    /// Tokens that the context holds, per request; 0 until loaded.
    pub n_ctx: u32,
    /// Tokens that the model was trained for; 0 until loaded.
    pub n_ctx_train: u32,
    /// Whether it has a chat template: without one, chat requests are refused.
    pub chat: bool,
}

/// The engine process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Its process id.
    pub pid: u32,
    /// Its resident memory in bytes.
    pub rss_bytes: u64,
    /// Its decode threads.
    pub threads: u32,
    /// Requests that it works on at once.
    pub parallel: u32,
    /// From the start of the process to ready, in milliseconds; 0 until ready.
    pub load_ms: u64,
    /// The sandbox layers in force, such as `seccomp` and `landlock-abi-4`.
    pub sandbox: Vec<String>,
}
