//! Whether a call that was read is one in the home as it is now.

use std::sync::Arc;

use hob_api::home::Call;

use crate::hub::Hub;
use crate::providers::{Entry, ValidCall};

/// What may be done about a call now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is valid.
    Valid {
        /// Whether a person must confirm it.
        needs_confirmation: bool,
    },
    /// The home has changed, and the call is none there; why, for people.
    Invalid(String),
    /// Its hub is gone, or another one is in its place.
    Gone,
}

/// What may be done about `call`, which was to be made by `hub`, now that `entry` is in force.
pub fn standing(call: &Call, hub: &Arc<Hub>, entry: Option<&Entry>) -> Standing {
    let same = |entry: &&Entry| {
        let theirs = entry.hub.as_ref();
        theirs.is_some_and(|theirs| Arc::ptr_eq(theirs, hub)) && !hub.is_gone()
    };
    let Some(entry) = entry.filter(same) else {
        return Standing::Gone;
    };
    match ValidCall::of_wire(&entry.provider, call) {
        Ok(valid) => {
            let tool = &entry.provider.tools()[valid.tool()];
            Standing::Valid {
                needs_confirmation: tool.needs_confirmation(),
            }
        }
        Err(error) => Standing::Invalid(format!("the home has changed meanwhile: {error}")),
    }
}
