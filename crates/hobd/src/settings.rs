//! Settings: built-in defaults, then files, then the environment, then flags.
//!
//! [`load::load`] reads the layers, [`key::KEYS`] says what there is to set and within which
//! bounds, and the rest of hobd reads [`Settings`], in which every value is valid.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hob_api::tuning::Tuning;
use hob_ipc::gpu::Gpu;
use hob_ipc::kernels::{ENGINE, ENGINES, Level};
use hob_ipc::memory::KvType;
use hob_ipc::message::{Drafts, SandboxPolicy};
pub use hob_models::locations::Scope;

use crate::tuning::Free;

pub mod document;
pub mod key;
pub mod load;
mod problem;
#[cfg(test)]
mod tests;
mod value;

pub use load::{Layers, Loaded, load};
pub use problem::{Problem, Problems, Source};

/// Longest path of a Unix socket in bytes: the kernel's address holds 108, the last one a NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Every setting, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// System or user mode; from the command line alone.
    pub scope: Scope,
    /// The HTTP socket's path.
    pub socket: PathBuf,
    /// The folder of installed models.
    pub models_dir: PathBuf,
    /// The engine's binary, or a folder of engines; beside hobd's own unless set.
    pub engine_path: PathBuf,
    /// Whether to own the bus name.
    pub dbus: bool,
    /// The model to load; `None` for the store's default.
    pub model: Option<String>,
    /// The door for clients that can't use a Unix socket.
    pub http: HttpSettings,
    /// Settings of the engine.
    pub engine: EngineSettings,
    /// Conversations that hobd keeps.
    pub conversations: ConversationSettings,
    /// What is done at home.
    pub home: HomeSettings,
    /// Pinned prefixes.
    pub pins: PinSettings,
    /// Snapshots of pinned prefixes.
    pub snapshots: SnapshotSettings,
    /// Bounds on requests and clients.
    pub limits: Limits,
    /// What a request gets that does not say otherwise.
    pub sampling: SamplingDefaults,
    /// What was measured on this board.
    pub tuning: TuningSettings,
}

/// What was measured on this board, beneath what somebody set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TuningSettings {
    /// Its file.
    pub file: PathBuf,
    /// What was in it at the start.
    pub stored: Option<Tuning>,
    /// What nobody set.
    pub free: Free,
}

/// HTTP over TCP, on this machine alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// A loopback address with a port other than 0; `None` for no such door.
    pub listen: Option<SocketAddr>,
    /// The file that holds the token of its clients; there if `listen` is.
    pub token_file: Option<PathBuf>,
    /// The user as whose requests its clients' count, never root; `None` for hobd's own, which is
    /// for user scope alone.
    pub uid: Option<u32>,
}

/// Settings of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSettings {
    /// What the sandbox must achieve.
    pub sandbox: SandboxPolicy,
    /// The engine that is taken of those in a folder; `None` for the best that the processor runs.
    pub kernels: Option<Level>,
    /// Tokens of context for each request, 256 to 131072.
    pub n_ctx: u32,
    /// Requests worked on at once, 1 to 16; `None` for what processors and memory allow.
    pub parallel: Option<u32>,
    /// Most memory that the engine may take in bytes; `None` for what there is.
    pub memory: Option<u64>,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Where the weights lie.
    pub weights: WeightsSetting,
    /// Whether layers are computed on a GPU.
    pub gpu: Gpu,
    /// Most memory of the GPU that the engine may take in bytes; `None` for what is free.
    pub gpu_memory: Option<u64>,
    /// Decode threads; `None` for the physical cores that the process may use.
    pub threads: Option<u32>,
    /// When to write by drafts.
    pub drafts: Drafts,
    /// Whether a control vector is added.
    pub control_vector: ControlSetting,
    /// How long a model may take to load.
    pub load_timeout: Duration,
    /// How long the engine may work without progress before it is taken for hung.
    pub hang_timeout: Duration,
    /// How long the engine stays without work; zero for ever.
    pub keep_alive: Duration,
    /// Most bytes of what sequences held before that are kept beside them.
    pub cache_bytes: u64,
}

/// What is done at home: how long a hub may take for one call. A request's own deadline ends it
/// earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeSettings {
    /// Until it has done it.
    pub invoke_timeout: Duration,
    /// Until somebody has confirmed it.
    pub confirm_timeout: Duration,
}

/// Pinned prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinSettings {
    /// The folder of what users pinned.
    pub dir: PathBuf,
}

/// Snapshots of pinned prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Their folder.
    pub dir: PathBuf,
    /// Most bytes of all of them; 0 for none.
    pub bytes: u64,
}

/// Where the weights are to lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightsSetting {
    /// Copied if this processor's kernels like half of them or more in an order other than the
    /// file's, else mapped.
    #[default]
    Auto,
    /// In the file's pages.
    Mapped,
    /// In the engine's own memory.
    Copied,
    /// As with `Auto`, and never out of RAM.
    Locked,
}

impl WeightsSetting {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Mapped, Self::Copied, Self::Locked];

    /// Its name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mapped => "mapped",
            Self::Copied => "copied",
            Self::Locked => "locked",
        }
    }
}

/// Which control vectors are added to what a model's layers hand on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlSetting {
    /// The one that was verified and lies beside the model that is loaded.
    #[default]
    Verified,
    /// None.
    Off,
}

impl ControlSetting {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Verified, Self::Off];

    /// Its name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Off => "off",
        }
    }
}

/// Conversations that hobd keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationSettings {
    /// Whether any are kept.
    pub enabled: bool,
    /// The folder of their database.
    pub dir: PathBuf,
    /// Days after which one that nobody added to is deleted; 0 keeps all.
    pub retention_days: u32,
    /// Most conversations of one uid.
    pub per_uid: u32,
    /// Most text in the conversations of one uid, in bytes.
    pub bytes_per_uid: u64,
}

/// Bounds on requests and clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Requests that may wait, of all callers together.
    pub queue: usize,
    /// Requests, waiting or running, of one uid.
    pub per_uid: usize,
    /// HTTP connections at once.
    pub connections: usize,
    /// Longest HTTP body in bytes.
    pub body_bytes: usize,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body, and may stall while reading an answer.
    pub stall_timeout: Duration,
    /// Most tokens that a request may ask for.
    pub max_tokens: u32,
    /// A request's deadline if it sets none.
    pub timeout_default: Duration,
    /// The longest deadline that a request may set.
    pub timeout_max: Duration,
    /// How long running answers may go on after SIGTERM.
    pub shutdown_grace: Duration,
}

/// What a request gets that does not say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingDefaults {
    /// Tokens of answer.
    pub max_tokens: u32,
    /// See `hob_api::chat::SamplingFields`.
    pub temperature: f32,
    /// See `hob_api::chat::SamplingFields`.
    pub top_k: u32,
    /// See `hob_api::chat::SamplingFields`.
    pub top_p: f32,
    /// See `hob_api::chat::SamplingFields`.
    pub min_p: f32,
    /// See `hob_api::chat::SamplingFields`.
    pub repeat_penalty: f32,
}

/// Where the things lie whose place depends on how hobd was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The HTTP socket's path.
    pub socket: PathBuf,
    /// The folder of installed models.
    pub models_dir: PathBuf,
    /// The folder of the database of conversations.
    pub conversations_dir: PathBuf,
    /// The folder of what users pinned.
    pub pins_dir: PathBuf,
    /// The folder of snapshots.
    pub snapshots_dir: PathBuf,
    /// The folder of what was measured on this board.
    pub tuning_dir: PathBuf,
    /// The engine's binary, or the folder of engines.
    pub engine: PathBuf,
}

impl Settings {
    /// The settings of a hobd that nobody configured.
    pub fn defaults(scope: Scope, places: Places) -> Self {
        Self {
            scope,
            socket: places.socket,
            models_dir: places.models_dir,
            engine_path: places.engine,
            dbus: true,
            model: None,
            http: HttpSettings::default(),
            engine: EngineSettings::default(),
            conversations: ConversationSettings::in_folder(places.conversations_dir),
            home: HomeSettings::default(),
            pins: PinSettings {
                dir: places.pins_dir,
            },
            snapshots: SnapshotSettings {
                dir: places.snapshots_dir,
                bytes: 512 << 20,
            },
            limits: Limits::default(),
            sampling: SamplingDefaults::default(),
            tuning: TuningSettings {
                file: places.tuning_dir.join("tuning.json"),
                stored: None,
                free: Free {
                    threads: true,
                    weights: true,
                },
            },
        }
    }
}

impl ConversationSettings {
    /// The defaults, with the database in `dir`. Nobody's memory is thrown away unasked, so all are
    /// kept; the bounds are far above what a person writes, and keep one user from filling a
    /// board's storage.
    pub fn in_folder(dir: PathBuf) -> Self {
        Self {
            enabled: true,
            dir,
            retention_days: 0,
            per_uid: 200,
            bytes_per_uid: 16 << 20,
        }
    }
}

impl Default for HomeSettings {
    /// Who spoke stands there and waits; a radio that tries a sleeping device again and again has
    /// given up by then. A person has to come to a screen and read.
    fn default() -> Self {
        Self {
            invoke_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for EngineSettings {
    /// Sized for a board with 2 GiB: a context that holds a long prompt.
    /// Slow storage reads a model of a few GiB in less than the load timeout; a slow core does one
    /// batch of prefill, the longest step without progress, well within the hang timeout.
    fn default() -> Self {
        Self {
            sandbox: SandboxPolicy::Required,
            kernels: None,
            n_ctx: 4096,
            parallel: None,
            memory: None,
            kv_type: KvType::F16,
            weights: WeightsSetting::Auto,
            gpu: Gpu::Off,
            gpu_memory: None,
            threads: None,
            drafts: Drafts::Auto,
            control_vector: ControlSetting::Verified,
            load_timeout: Duration::from_secs(120),
            hang_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(300),
            cache_bytes: 64 << 20,
        }
    }
}

impl Default for Limits {
    /// One user may hold half the queue, so that a runaway script can't lock the others out. The
    /// deadline lets a board that writes 5 tokens a second finish an answer of the default length
    /// after reading a full context.
    fn default() -> Self {
        Self {
            queue: 32,
            per_uid: 16,
            connections: 64,
            body_bytes: 1 << 20,
            header_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(10),
            max_tokens: 4096,
            timeout_default: Duration::from_secs(300),
            timeout_max: Duration::from_secs(3600),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

impl Default for SamplingDefaults {
    /// Small quantized models wander at the temperatures that large ones like, and repeat
    /// themselves at low ones: hence cool, with a light penalty against loops. The min-p floor
    /// drops the noise of a 4-bit tail.
    fn default() -> Self {
        Self {
            max_tokens: 512,
            temperature: 0.3,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            repeat_penalty: 1.1,
        }
    }
}

/// The engine that belongs to the hobd at `hobd`: the one beside it in a build folder, else the
/// packaged ones.
pub fn engine_beside(hobd: &Path) -> PathBuf {
    let beside = hobd.with_file_name(ENGINE);
    if beside.is_file() {
        beside
    } else {
        PathBuf::from(ENGINES)
    }
}
