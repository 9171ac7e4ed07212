//! The private protocol between `hobd`, or `hob` where it makes models, and `hob-engine`.
//!
//! ```text
//! hobd                                             hob-engine
//!  │ Load {version, model, sandbox} + model's fd ──►│   first message, fd as SCM_RIGHTS
//!  │◄── Sandboxed {layers}                           │   before the model is parsed
//!  │◄── Gpu {…}, if one was asked for                │   as well
//!  │◄── Loading {percent}…                           │
//!  │◄── Ready {…}      or  LoadFailed {…} and exit   │
//!  │ Generate {id, …} ─────────────────────────────►│   any number under way at once
//!  │◄── Prefill {id, …}…  Delta {id, …}…             │
//!  │ Embed {id, …} ────────────────────────────────►│   the same for embeddings
//!  │◄── Embedding {id, …}…                           │
//!  │ Score {id, …} ────────────────────────────────►│   the same for likelihoods
//!  │◄── Scored {id, …}…                              │
//!  │ Tokenize {id, text} ──────────────────────────►│   not by hobd: by hob's workshop
//!  │◄── Tokenized {id, …}                            │   one each, in their order
//!  │ OpenText {id, bytes} + its fd, ReadText {id, …} ►│   the same, for how a text is foreseen
//!  │◄── TextOpened {id, …}, TextRead {id, …}         │   or Failed {id}
//!  │ OpenTokens {id, …} ───────────────────────────►│   the same, of tokens instead of a text
//!  │ ReadResidual {id, …} + memory for it ─────────►│   the same, for what layers hand on
//!  │◄── ResidualRead {id, …}                         │   or Failed {id}
//!  │◄── Finished {id}  or  Failed {id}               │   exactly one, also after Cancel
//!  │ Cancel {id} ──────────────────────────────────►│   for an unknown id: ignored
//!  │◄── Heartbeat {…}                                │   every second from the start on
//!  │ end of file ──────────────────────────────────►│   the engine exits 0
//! ```
//!
//! An engine that is to store weights more coarsely gets [`Quantize`](quantize::Quantize) instead of `Load`,
//! with the descriptors of the model and of the file to write, and ends with `Quantized` or `LoadFailed`. One
//! that is to tell which columns of its matrices matter gets [`Observe`](importance::Observe), with those of
//! the model, of a text and of memory for numbers, and ends with its last `Observed` or `LoadFailed`.
//!
//! Both sides come from one build: [`VERSION`] is checked on `Load`, and a mismatch is an error,
//! never a negotiation. Frames are encoded by [`frame`], a pure codec; each side does its own
//! I/O. hobd treats every event as hostile, since the engine parses untrusted models: it checks
//! ids, lengths and counts.

pub mod constraint;
pub mod embedding;
pub mod frame;
pub mod gpu;
pub mod importance;
pub mod kernels;
pub mod memory;
pub mod message;
pub mod passages;
pub mod quantize;
pub mod residual;
pub mod score;
pub mod shared;
pub mod start;
pub mod tokens;

pub use frame::{Decoder, FrameError, encode};
pub use message::{Command, EngineEvent, RequestId};

/// Changes with every change of the messages.
pub const VERSION: u32 = 10;
