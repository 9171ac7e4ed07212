//! Whether a call that was read is one in the home as it is now.

use std::collections::BTreeMap;
use std::sync::Arc;

use hob_api::home::Call;
use hob_api::provider::{Target, Tool as ToolFields};

use crate::hub::Hub;
use crate::providers::{Entry, ValidCall};

/// What may be done about a call now.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// It is valid; a person must confirm it on these terms, if any are given.
    Valid(Option<Terms>),
    /// The home has changed, and the call is none there; why, for people.
    Invalid(String),
    /// Its hub is gone, or another one is in its place.
    Gone,
}

/// What a person confirms, beside the call: what its tool does, and what its targets are. A call of
/// the same words may mean something else when either has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    tool: ToolFields,
    targets: Vec<Target>,
}

impl Terms {
    /// Those of a call. How the targets are at the moment is none of them, and neither is what
    /// people say when they want it.
    fn new(entry: &Entry, call: &ValidCall) -> Self {
        let (tools, targets) = (entry.provider.tools(), entry.provider.targets());
        let lasting = |place: &usize| Target {
            state: BTreeMap::new(),
            ..targets[*place].clone()
        };
        Self {
            tool: tools[call.tool()].terms(),
            targets: call.targets().iter().map(lasting).collect(),
        }
    }

    /// Terms of which one can tell versions apart.
    #[cfg(test)]
    pub(super) fn of_version(version: u8) -> Self {
        let tool = ToolFields {
            description: version.to_string(),
            ..ToolFields::default()
        };
        Self {
            tool,
            targets: Vec::new(),
        }
    }
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
            let careful = tool.needs_confirmation();
            Standing::Valid(careful.then(|| Terms::new(entry, &valid)))
        }
        Err(error) => Standing::Invalid(format!("the home has changed meanwhile: {error}")),
    }
}
