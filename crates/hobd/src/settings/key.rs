//! What there is to set: one row for each setting, the source of the parser, of the environment
//! variables, and of the documentation.

use std::time::Duration;

use hob_ipc::message::PARALLEL_MAX;

use super::Settings;
pub use super::value::Slot;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name in a settings file, with the table's name in front.
    pub name: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// What it does, in whole sentences.
    pub about: &'static str,
    /// Its place in [`Settings`], and the bounds of its value.
    pub slot: fn(&mut Settings) -> Slot<'_>,
}

impl Key {
    /// The row of the setting `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The table that the setting stands in, empty for the top level, and its name there.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }
}

/// The tables of a settings file, in the order of [`KEYS`].
pub const TABLES: [(&str, &str); 9] = [
    ("", "Where things lie, and which doors are open."),
    (
        "http",
        "HTTP over TCP, on this machine alone, for clients that can't use a Unix socket.",
    ),
    ("engine", "The sandboxed process that runs the model."),
    (
        "limits",
        "Bounds on requests and clients. What exceeds one gets an error at once that names it.",
    ),
    (
        "sampling",
        "What a request gets that does not say otherwise.",
    ),
    (
        "conversations",
        "Conversations that hobd keeps for its users, each of whom sees their own alone.",
    ),
    (
        "home",
        "What is said at home and done by a hub. It does one thing at once, and others wait meanwhile.",
    ),
    (
        "pins",
        "Beginnings of conversations that are kept ready, as `hob pins` makes them.",
    ),
    (
        "snapshots",
        "What the model made of pinned beginnings, on the disk: restored when the model is loaded again.",
    ),
];

/// Every setting, grouped by table.
pub const KEYS: &[Key] = &[
    Key {
        name: "socket",
        variable: "HOB_SOCKET",
        about: "The Unix socket that speaks HTTP. With socket activation systemd's socket is used instead.",
        slot: |s| Slot::SocketPath(&mut s.socket),
    },
    Key {
        name: "models_dir",
        variable: "HOB_MODELS_DIR",
        about: "The folder of installed models.",
        slot: |s| Slot::Path(&mut s.models_dir),
    },
    Key {
        name: "model",
        variable: "HOB_MODEL",
        about: "The model to load; \"default\" is the one chosen with `hob models use`.",
        slot: |s| Slot::Model(&mut s.model),
    },
    Key {
        name: "dbus",
        variable: "HOB_DBUS",
        about: "Whether to own org.hobd.Hob1 on the bus.",
        slot: |s| Slot::Switch(&mut s.dbus),
    },
    Key {
        name: "http.listen",
        variable: "HOB_HTTP_LISTEN",
        about: "Where it listens. Every request needs the token, and a Host that names this machine and port; requests of web pages are refused. As a system service hobd has no network and can't bind: hobd-loopback.socket, with the same address, hands it the socket.",
        slot: |s| Slot::Loopback(&mut s.http.listen),
    },
    Key {
        name: "http.token_file",
        variable: "HOB_HTTP_TOKEN_FILE",
        about: "The file that holds the token, one line of 32 to 512 visible ASCII characters; `head -c 32 /dev/urandom | base64` makes one. It must be hobd's or root's, with mode 0600 or less, or a credential that systemd hands over.",
        slot: |s| Slot::MaybePath(&mut s.http.token_file),
    },
    Key {
        name: "http.uid",
        variable: "HOB_HTTP_UID",
        about: "The user as whose requests all that come with the token count: limits, conversations and pins are that user's. As a system service hobd must be given one, as its own user may do more than a token should.",
        slot: |s| Slot::Uid(&mut s.http.uid),
    },
    Key {
        name: "engine.path",
        variable: "HOB_ENGINE_PATH",
        about: "The engine's binary, or a folder that holds one for each kind of processor, as packages have. A hob-engine beside hobd's own binary is preferred to this default.",
        slot: |s| Slot::Path(&mut s.engine_path),
    },
    Key {
        name: "engine.kernels",
        variable: "HOB_ENGINE_KERNELS",
        about: "Which engine of that folder is started. \"auto\" takes the one with the fastest kernels that this processor can run; `hob status` shows which that is. Another name takes that one, and no model is loaded if the processor lacks what it uses.",
        slot: |s| Slot::Kernels(&mut s.engine.kernels),
    },
    Key {
        name: "engine.sandbox",
        variable: "HOB_ENGINE_SANDBOX",
        about: "\"required\" refuses to load a model unless the whole sandbox is in force. \"degraded\" goes on with the layers that this kernel has; `hob status` lists them. \"off\" is for debuggers only.",
        slot: |s| Slot::Sandbox(&mut s.engine.sandbox),
    },
    Key {
        name: "engine.n_ctx",
        variable: "HOB_ENGINE_N_CTX",
        about: "Tokens of context for each request, prompt and answer together. Memory grows with it; a model that was trained for less gets less.",
        slot: |s| Slot::Count(&mut s.engine.n_ctx, 256..=131_072),
    },
    Key {
        name: "engine.parallel",
        variable: "HOB_ENGINE_PARALLEL",
        about: "Requests worked on at once. Each takes a context of n_ctx tokens. 0 takes one for each processor, at most 4, as far as their contexts fit half of engine.memory.",
        slot: |s| Slot::Auto(&mut s.engine.parallel, PARALLEL_MAX),
    },
    Key {
        name: "engine.memory",
        variable: "HOB_ENGINE_MEMORY",
        about: "Most memory that the engine may take, in bytes: weights, contexts, intermediate results and cache together. \"auto\" takes what hobd's control group leaves, and what the machine has available less a sixteenth of its memory (at least 64 MiB, at most 512). A model that does not fit is refused, with a proposal.",
        slot: |s| Slot::AutoBytes(&mut s.engine.memory, 16 << 20),
    },
    Key {
        name: "engine.kv_type",
        variable: "HOB_ENGINE_KV_TYPE",
        about: "How contexts are kept. \"f16\" is exact. \"q8_0\" takes about half the memory and \"q4_0\" about a quarter, both less exactly, and slower on most processors.",
        slot: |s| Slot::KvType(&mut s.engine.kv_type),
    },
    Key {
        name: "engine.weights",
        variable: "HOB_ENGINE_WEIGHTS",
        about: "Where the model's weights lie. \"mapped\" uses the file's pages, which the kernel may drop and read again. \"copied\" reads them into memory in the order that is fastest on this processor. \"auto\" copies where that order is another for half of the weights or more. \"locked\" does as \"auto\" and keeps all of the engine's memory in RAM; without privileges hobd needs LimitMEMLOCK for it.",
        slot: |s| Slot::Weights(&mut s.engine.weights),
    },
    Key {
        name: "engine.gpu",
        variable: "HOB_ENGINE_GPU",
        about: "Whether layers of the model are computed on a GPU, for which an engine must be there that was built for it; packages have none. \"auto\" does so as far as a GPU has room, and goes on with the processor alone otherwise. \"required\" refuses a model of which no layer fits. The engine's sandbox then lets the GPU's driver through, and hobd's unit needs its drop-in. \"emulated\" is for tests of that: Vulkan's first device, also if it is the processor.",
        slot: |s| Slot::Gpu(&mut s.engine.gpu),
    },
    Key {
        name: "engine.gpu_memory",
        variable: "HOB_ENGINE_GPU_MEMORY",
        about: "Most memory of the GPU that the engine may take, in bytes. \"auto\" takes what is free there, but for a sixteenth. engine.memory stays the bound of all of the model, wherever its layers lie.",
        slot: |s| Slot::AutoBytes(&mut s.engine.gpu_memory, 1),
    },
    Key {
        name: "engine.threads",
        variable: "HOB_ENGINE_THREADS",
        about: "Threads for computing. 0 takes as many as there are physical cores that hobd may use.",
        slot: |s| Slot::Auto(&mut s.engine.threads, 256),
    },
    Key {
        name: "engine.drafts",
        variable: "HOB_ENGINE_DRAFTS",
        about: "Writing several tokens at once where the text repeats what came before; what is written stays the same. \"auto\" does so where it measures faster. \"always\" is for measurements.",
        slot: |s| Slot::Drafts(&mut s.engine.drafts),
    },
    Key {
        name: "engine.control_vector",
        variable: "HOB_ENGINE_CONTROL_VECTOR",
        about: "Numbers that are added to what one of the model's layers hands on, so that it says more often that it does not know. \"verified\" adds those that `hob fairness mitigate --apply` has verified and put beside the very model that is loaded; there are none otherwise. \"off\" adds none.",
        slot: |s| Slot::ControlVector(&mut s.engine.control_vector),
    },
    Key {
        name: "engine.load_timeout",
        variable: "HOB_ENGINE_LOAD_TIMEOUT",
        about: "How long a model may take to load.",
        slot: |s| Slot::Time(&mut s.engine.load_timeout, 100 * MILLISECOND..=HOUR),
    },
    Key {
        name: "engine.hang_timeout",
        variable: "HOB_ENGINE_HANG_TIMEOUT",
        about: "How long the engine may work without progress before it is taken for hung and started anew.",
        slot: |s| Slot::Time(&mut s.engine.hang_timeout, 100 * MILLISECOND..=HOUR),
    },
    Key {
        name: "engine.keep_alive",
        variable: "HOB_ENGINE_KEEP_ALIVE",
        about: "How long the model stays in memory when nobody asks; the next request loads it again. 0s keeps it for ever. A request may say otherwise with keep_alive_ms.",
        slot: |s| Slot::Time(&mut s.engine.keep_alive, Duration::ZERO..=DAY),
    },
    Key {
        name: "engine.cache",
        variable: "HOB_ENGINE_CACHE",
        about: "Most bytes in which the engine keeps what it has read, beside what it works on: the beginnings of other conversations, and pinned ones. 0 keeps nothing.",
        slot: |s| Slot::Bytes(&mut s.engine.cache_bytes, 0..=64 << 30),
    },
    Key {
        name: "limits.queue",
        variable: "HOB_LIMITS_QUEUE",
        about: "Requests that may wait, of all callers together.",
        slot: |s| Slot::Size(&mut s.limits.queue, 1..=1024),
    },
    Key {
        name: "limits.per_uid",
        variable: "HOB_LIMITS_PER_UID",
        about: "Requests, waiting or running, of one user. Connections do not multiply it.",
        slot: |s| Slot::Size(&mut s.limits.per_uid, 1..=1024),
    },
    Key {
        name: "limits.connections",
        variable: "HOB_LIMITS_CONNECTIONS",
        about: "HTTP connections at once.",
        slot: |s| Slot::Size(&mut s.limits.connections, 1..=4096),
    },
    Key {
        name: "limits.body_bytes",
        variable: "HOB_LIMITS_BODY_BYTES",
        about: "Longest HTTP body in bytes.",
        slot: |s| Slot::Size(&mut s.limits.body_bytes, 1024..=2 << 20),
    },
    Key {
        name: "limits.header_timeout",
        variable: "HOB_LIMITS_HEADER_TIMEOUT",
        about: "How long a client may take to send a request's head.",
        slot: |s| Slot::Time(&mut s.limits.header_timeout, 100 * MILLISECOND..=HOUR),
    },
    Key {
        name: "limits.stall_timeout",
        variable: "HOB_LIMITS_STALL_TIMEOUT",
        about: "How long a client may take to send a request's body, and may stop reading an answer before it is cancelled.",
        slot: |s| Slot::Time(&mut s.limits.stall_timeout, 100 * MILLISECOND..=HOUR),
    },
    Key {
        name: "limits.max_tokens",
        variable: "HOB_LIMITS_MAX_TOKENS",
        about: "Most tokens of answer that a request may ask for.",
        slot: |s| Slot::Count(&mut s.limits.max_tokens, 1..=131_072),
    },
    Key {
        name: "limits.timeout_default",
        variable: "HOB_LIMITS_TIMEOUT_DEFAULT",
        about: "A request's deadline if it sets none, waiting included.",
        slot: |s| Slot::Time(&mut s.limits.timeout_default, 100 * MILLISECOND..=DAY),
    },
    Key {
        name: "limits.timeout_max",
        variable: "HOB_LIMITS_TIMEOUT_MAX",
        about: "The longest deadline that a request may set.",
        slot: |s| Slot::Time(&mut s.limits.timeout_max, SECOND..=DAY),
    },
    Key {
        name: "limits.shutdown_grace",
        variable: "HOB_LIMITS_SHUTDOWN_GRACE",
        about: "How long running answers may go on after SIGTERM. systemd ends hobd after TimeoutStopSec of its unit, 15s.",
        slot: |s| Slot::Time(&mut s.limits.shutdown_grace, Duration::ZERO..=HOUR),
    },
    Key {
        name: "sampling.max_tokens",
        variable: "HOB_SAMPLING_MAX_TOKENS",
        about: "Tokens of answer.",
        slot: |s| Slot::Count(&mut s.sampling.max_tokens, 1..=131_072),
    },
    Key {
        name: "sampling.temperature",
        variable: "HOB_SAMPLING_TEMPERATURE",
        about: "Randomness; 0 always takes the likeliest token.",
        slot: |s| Slot::Number(&mut s.sampling.temperature, 0.0..=2.0),
    },
    Key {
        name: "sampling.top_k",
        variable: "HOB_SAMPLING_TOP_K",
        about: "Only the k likeliest tokens; 0 for all.",
        slot: |s| Slot::Count(&mut s.sampling.top_k, 0..=1000),
    },
    Key {
        name: "sampling.top_p",
        variable: "HOB_SAMPLING_TOP_P",
        about: "Only the smallest set of tokens whose probabilities reach this; 1 for all.",
        slot: |s| Slot::Number(&mut s.sampling.top_p, 0.001..=1.0),
    },
    Key {
        name: "sampling.min_p",
        variable: "HOB_SAMPLING_MIN_P",
        about: "Only tokens with at least this share of the likeliest one's probability; 0 for all.",
        slot: |s| Slot::Number(&mut s.sampling.min_p, 0.0..=1.0),
    },
    Key {
        name: "sampling.repeat_penalty",
        variable: "HOB_SAMPLING_REPEAT_PENALTY",
        about: "Divides the score of tokens that occurred already; 1 for none.",
        slot: |s| Slot::Number(&mut s.sampling.repeat_penalty, 0.5..=2.0),
    },
    Key {
        name: "conversations.enabled",
        variable: "HOB_CONVERSATIONS_ENABLED",
        about: "Whether any are kept. What was stored before stays where it is, unread.",
        slot: |s| Slot::Switch(&mut s.conversations.enabled),
    },
    Key {
        name: "conversations.dir",
        variable: "HOB_CONVERSATIONS_DIR",
        about: "The folder of their database, which hobd alone can read.",
        slot: |s| Slot::Path(&mut s.conversations.dir),
    },
    Key {
        name: "conversations.retention_days",
        variable: "HOB_CONVERSATIONS_RETENTION_DAYS",
        about: "Days after which a conversation that nobody added to is deleted; 0 keeps all.",
        slot: |s| Slot::Count(&mut s.conversations.retention_days, 0..=36_500),
    },
    Key {
        name: "conversations.per_uid",
        variable: "HOB_CONVERSATIONS_PER_UID",
        about: "Most conversations of one user.",
        slot: |s| Slot::Count(&mut s.conversations.per_uid, 1..=10_000),
    },
    Key {
        name: "conversations.bytes_per_uid",
        variable: "HOB_CONVERSATIONS_BYTES_PER_UID",
        about: "Most bytes of text in all conversations of one user. An answer beyond it still comes, and is not stored.",
        slot: |s| Slot::Bytes(&mut s.conversations.bytes_per_uid, 64 << 10..=1 << 30),
    },
    Key {
        name: "home.invoke_timeout",
        variable: "HOB_HOME_INVOKE_TIMEOUT",
        about: "How long a hub may take to do one thing, if its request has that long. Then it is told that nobody waits any more, and it is not known whether it was done.",
        slot: |s| Slot::Time(&mut s.home.invoke_timeout, 100 * MILLISECOND..=HOUR),
    },
    Key {
        name: "home.confirm_timeout",
        variable: "HOB_HOME_CONFIRM_TIMEOUT",
        about: "How long a person may take to confirm something dangerous, if its request has that long. Then it is not done.",
        slot: |s| Slot::Time(&mut s.home.confirm_timeout, 100 * MILLISECOND..=HOUR),
    },
    Key {
        name: "pins.dir",
        variable: "HOB_PINS_DIR",
        about: "The folder of what users pinned, which hobd alone can read.",
        slot: |s| Slot::Path(&mut s.pins.dir),
    },
    Key {
        name: "snapshots.dir",
        variable: "HOB_SNAPSHOTS_DIR",
        about: "The folder of snapshots, which hobd alone can read. What is lost in it is computed again.",
        slot: |s| Slot::Path(&mut s.snapshots.dir),
    },
    Key {
        name: "snapshots.bytes",
        variable: "HOB_SNAPSHOTS_BYTES",
        about: "Most bytes of all snapshots; the oldest of other models go first, and at most four times as much is written in a day, of which half is kept for the shares of eight users. 0 writes none, and deletes what there is at the next start.",
        slot: |s| Slot::Bytes(&mut s.snapshots.bytes, 0..=1 << 40),
    },
];
