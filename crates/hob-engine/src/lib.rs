//! The sandboxed child of hobd that runs one model through llama.cpp.
//!
//! The order of its life is the order of its safety:
//! 1. [`wire::receive_first`]: the first message, with the model's open descriptor.
//! 2. [`sandbox::confine`], the backend (which reads `/sys`), the number of threads.
//! 3. [`sandbox::close`]: nothing can be opened from here on. With a GPU, [`sandbox::gpu`] in its place,
//!    half of it before the backend.
//! 4. Threads for the heartbeat and for commands; they are born in the sandbox.
//! 5. [`llama::load`]: only now is a byte of the model parsed.
//! 6. [`serve::serve`], until hobd closes the socket.
//!
//! Chat template, tokenization and text all happen in here, because the model is untrusted. The
//! socket is descriptor 0; standard output is not used, standard error is the log.

pub mod cpu;
pub mod digest;
pub mod drafts;
pub mod embed;
pub mod gpu;
pub mod grammar;
pub mod importance;
pub mod inbox;
pub mod llama;
pub mod memories;
pub mod observe;
pub mod outgoing;
pub mod passages;
pub mod pins;
pub mod prefix;
pub mod prompt;
pub mod pulse;
pub mod raw;
pub mod recall;
pub mod run;
pub mod sampler;
pub mod sandbox;
pub mod saved;
pub mod score;
pub mod serve;
pub mod shelf;
pub mod slots;
pub mod template;
pub mod text;
pub mod wire;
