//! Settings, resolved: what the rest of hobd reads. (Loading them is in the submodules.)

use std::path::PathBuf;
use std::time::Duration;

use hob_ipc::message::SandboxPolicy;

/// Which bus, which socket and whose models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole board: system bus, `/run/hob/hob.sock`, `/var/lib/hob`.
    System,
    /// One user, without root: session bus, the user's own folders.
    User,
}

/// Every setting, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// System or user mode; from the command line alone.
    pub scope: Scope,
    /// The HTTP socket's path.
    pub socket: PathBuf,
    /// The folder of installed models.
    pub models_dir: PathBuf,
    /// The engine's binary; beside hobd's own unless set.
    pub engine_path: PathBuf,
    /// Whether to own the bus name.
    pub dbus: bool,
    /// The model to load; `None` for the store's default.
    pub model: Option<String>,
    /// Settings of the engine.
    pub engine: EngineSettings,
    /// Bounds on requests and clients.
    pub limits: Limits,
    /// What a request gets that does not say otherwise.
    pub sampling: SamplingDefaults,
}

/// Settings of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSettings {
    /// What the sandbox must achieve.
    pub sandbox: SandboxPolicy,
    /// Tokens of context for each request, 256 to 131072.
    pub n_ctx: u32,
    /// Requests worked on at once, 1 to 16.
    pub parallel: u32,
    /// Decode threads; `None` for the physical cores that the process may use.
    pub threads: Option<u32>,
    /// How long a model may take to load.
    pub load_timeout: Duration,
    /// How long the engine may work without progress before it is taken for hung.
    pub hang_timeout: Duration,
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
