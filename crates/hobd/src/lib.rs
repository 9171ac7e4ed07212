//! The hob daemon: front doors, scheduler, engine supervisor.
//!
//! Commands go down (`frontend` → [`daemon`] → [`engine`]), events come up, and nobody calls up.
//! [`request`] is the only way from wire types to valid ones; [`scheduler`] decides and does
//! nothing else; [`daemon`] is the one task that owns it. `ARCHITECTURE.md` traces one request
//! through these files.

pub mod answer;
pub mod daemon;
pub mod request;
pub mod settings;
