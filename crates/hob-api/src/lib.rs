//! Public wire types of hob: what clients send over HTTP and D-Bus, and what comes back.
//!
//! This crate holds data only. It knows no transport, does no validation beyond the
//! shape of the JSON, and depends on serde and `serde_json` alone; `hobd::request` turns these types into
//! validated ones, and nothing else does.
//!
//! Two encodings of an answer exist. [`chat`] and [`completion`] are `OpenAI`'s shapes, for
//! clients that already speak them. [`event::Event`] is hob's own record, one JSON object a
//! line, sent over the Unix socket when the client asks for `application/x-ndjson` and over
//! the file descriptor that the D-Bus method `Stream` returns.

pub mod chat;
pub mod completion;
pub mod conversation;
pub mod dbus;
pub mod decision;
pub mod embedding;
pub mod error;
pub mod event;
pub mod format;
pub mod home;
pub mod model;
pub mod pin;
pub mod provider;
pub mod score;
pub mod status;
pub mod tools;
pub mod tuning;

pub use error::{ApiError, ErrorCode};
pub use event::Event;
