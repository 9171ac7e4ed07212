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
    /// Which engine is started, of those that are installed.
    #[serde(default)]
    pub kernels: KernelsStatus,
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
    /// What memory is used for, and how scarce it is.
    #[serde(default)]
    pub memory: MemoryStatus,
    /// The GPU, and what it computes.
    #[serde(default)]
    pub gpu: GpuStatus,
    /// The control vector that is added to what the model's layers hand on.
    #[serde(default)]
    pub control_vector: ControlStatus,
    /// How much was answered, and how fast.
    #[serde(default)]
    pub work: WorkStatus,
    /// Whether conversations are kept.
    #[serde(default)]
    pub conversations: crate::conversation::ConversationsStatus,
    /// What is kept beside the running requests so that later ones need not be read again.
    #[serde(default)]
    pub cache: CacheStatus,
    /// What was measured on this board, and what models are loaded with since; absent if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<crate::tuning::Tuning>,
    /// What the sandbox setting asks for: `required`, `degraded` or `off`.
    pub sandbox_setting: String,
    /// The address on loopback where clients with a token are served; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loopback: Option<String>,
}

/// Kernels are what computes, compiled for the instructions of some processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelsStatus {
    /// The instructions that they use, such as `x86-64-v3`; empty before an engine tells, or if they
    /// are of none of the kinds that packages have.
    pub level: String,
    /// Why these, in words for people; empty if there is no engine to start.
    pub reason: String,
}

/// What memory is used for, in bytes. What the engine needs is computed from the model's header
/// before it is loaded, and stays known when it is unloaded; `EngineStatus::rss_bytes` is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// What the engine may take; absent before the first load, or if this machine does not tell.
    pub budget_bytes: Option<u64>,
    /// Who set that: `setting`, `cgroup`, `machine` or `unknown`.
    pub budget_source: String,
    /// The model's weights.
    pub weights_bytes: u64,
    /// The contexts of all requests.
    pub kv_bytes: u64,
    /// Intermediate results and the process itself.
    pub compute_bytes: u64,
    /// What the prefix cache may take beside the contexts.
    pub cache_bytes: u64,
    /// How contexts are kept: `f16`, `q8_0` or `q4_0`.
    pub kv_type: String,
    /// Where the weights lie: `mapped` or `copied`, and whether `, locked`.
    pub weights: String,
    /// What is given up for want of memory: `none`; the prefix `cache`; also `admission` of new
    /// requests; also the idle `model`.
    pub given_up: String,
    /// What the machine has available.
    pub available_bytes: u64,
}

/// A GPU beside the processor, and what of the model it computes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuStatus {
    /// What the setting asks for: `off`, `auto`, `required` or `emulated`.
    pub setting: String,
    /// What reaches it, `cuda` or `vulkan`; empty before an engine tells, or if none looks for a GPU.
    pub backend: String,
    /// Its name; empty if there is none.
    pub device: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// What of that was free before the model was loaded.
    pub free_bytes: u64,
    /// Whether its memory is the machine's own.
    pub shared: bool,
    /// Layers of the model that it computes.
    pub layers: u32,
    /// Layers of the model.
    pub layers_all: u32,
    /// What these layers take of its memory, in bytes, as computed beforehand.
    pub model_bytes: u64,
    /// Why it computes nothing although the setting asks for it; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A control vector: numbers that are added to what one of the model's layers hands on, so that it says more often
/// that it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStatus {
    /// What the setting asks for: `verified` or `off`.
    pub setting: String,
    /// The layer behind which one is added, from 0; absent if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// The sha256 of layer and numbers, in hexadecimal; empty if none is added.
    #[serde(default)]
    pub sha256: String,
    /// Why the one that lies beside the model is not added; absent if it is, or if none lies there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How much was answered since hobd started, and how fast lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkStatus {
    /// Requests answered.
    pub answered: u64,
    /// Requests refused or failed.
    pub failed: u64,
    /// Tokens of prompts that were computed.
    pub read_tokens: u64,
    /// Tokens of prompts that were remembered instead.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub written_tokens: u64,
    /// Tokens read in a second, over the last answers that read any, at most 8; 0 before the first.
    pub read_per_second: f64,
    /// Tokens written in a second, over the same answers; each request's own speed.
    pub written_per_second: f64,
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
    /// Snapshots that were not written since hobd started: the disk fails or has no room, or bore
    /// enough that day. Their pins are computed again after an unload.
    #[serde(default)]
    pub unsaved: u64,
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
