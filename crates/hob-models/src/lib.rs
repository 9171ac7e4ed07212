//! Which models there are, where they lie, and whether they can be trusted.
//!
//! The [`catalog`] names models with their digests; [`source`] fetches them; the
//! [`store`] keeps what is whole and verified; [`gguf`] reads a model file's header
//! without trusting it, and writes others; [`mod@fit`] says how a model fits into memory; [`surgery`] makes
//! smaller models of models. Everything blocks, and nothing here runs a model.

pub mod catalog;
pub mod digest;
pub mod fit;
pub mod gguf;
pub mod locations;
pub mod name;
pub mod source;
pub mod store;
pub mod surgery;
pub mod tool_format;

pub use digest::Sha256;
pub use name::ModelName;
pub use tool_format::ToolFormat;
