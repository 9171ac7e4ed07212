//! From a call that is meant to one that is done, and to words about it.
//!
//! ```text
//! HomeAnswer ─► plan ─► confirm? ─► invoke ─► … ─► HomeAnswer with results ─► reply
//! ```
//!
//! `plan` is what comes next, as a pure state machine; `standing` asks whether a call is still one in
//! the home as it is by then; `reply` and `told` make the words, of what hubs told and never by a model: a small
//! one may well claim what did not happen. `daemon/fulfilment.rs` does what the plan says.

mod courtesy;
mod follow;
mod plan;
mod reply;
mod standing;
mod told;

pub use self::courtesy::courtesy;
pub use self::follow::{is_news, new_calls};
pub use self::plan::{Next, Plan};
pub use self::reply::reply;
pub use self::standing::{Standing, Terms, standing};
