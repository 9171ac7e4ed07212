//! A call that exists: there is no other way to make one than to have it checked.

use std::collections::{BTreeMap, HashSet};

use hob_api::home::Call;
use hob_api::provider::Scalar;

use super::{Provider, Tool};

/// What to do, to what, and how, of one provider: registered, and valid against its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidCall {
    tool: usize,
    targets: Vec<usize>,
    arguments: BTreeMap<String, Scalar>,
}

/// Why there is no such call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No tool has this place.
    #[error("there is no such tool")]
    NoTool,
    /// No target has this place, one is named twice, or the tool does not act on it; or the tool
    /// acts on targets and none is given.
    #[error("the tool does not act on these targets")]
    Targets,
    /// An argument that the tool must have is missing.
    #[error("the argument {0} is missing")]
    Missing(String),
    /// The tool has no argument of this name, or its value does not fit.
    #[error("the argument {0} does not fit")]
    Argument(String),
}

impl ValidCall {
    /// Checks a call, its tool and targets given by their places in `provider`.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn new(
        provider: &Provider,
        tool: usize,
        targets: Vec<usize>,
        arguments: BTreeMap<String, Scalar>,
    ) -> Result<Self, CallError> {
        let definition = provider.tools().get(tool).ok_or(CallError::NoTool)?;
        check_targets(provider, definition, &targets)?;
        for parameter in definition.parameters() {
            match arguments.get(&parameter.name) {
                None if parameter.required => {
                    return Err(CallError::Missing(parameter.name.clone()));
                }
                Some(value) if !parameter.fits(value) => {
                    return Err(CallError::Argument(parameter.name.clone()));
                }
                None | Some(_) => {}
            }
        }
        let known = |name: &String| definition.parameters().iter().any(|p| p.name == *name);
        if let Some(unknown) = arguments.keys().find(|name| !known(name)) {
            return Err(CallError::Argument(unknown.clone()));
        }
        Ok(Self {
            tool,
            targets,
            arguments,
        })
    }

    /// Checks a call by the names and ids of its wire form.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn of_wire(provider: &Provider, call: &Call) -> Result<Self, CallError> {
        let tools = provider.tools().iter();
        let tool = tools.map(Tool::name).position(|name| name == call.tool);
        let place = |id: &String| provider.targets().iter().position(|known| known.id == *id);
        let targets: Option<Vec<usize>> = call.targets.iter().map(place).collect();
        Self::new(
            provider,
            tool.ok_or(CallError::NoTool)?,
            targets.ok_or(CallError::Targets)?,
            call.arguments.clone(),
        )
    }

    /// The tool's place.
    pub fn tool(&self) -> usize {
        self.tool
    }

    /// The targets' places.
    pub fn targets(&self) -> &[usize] {
        &self.targets
    }

    /// The arguments.
    pub fn arguments(&self) -> &BTreeMap<String, Scalar> {
        &self.arguments
    }
}

fn check_targets(provider: &Provider, tool: &Tool, targets: &[usize]) -> Result<(), CallError> {
    let mut seen = HashSet::new();
    let acted_on = |place: &usize| {
        let target = provider.targets().get(*place);
        seen.insert(*place) && target.is_some_and(|target| tool.accepts(target))
    };
    let fits = match tool.acts_on() {
        None => targets.is_empty(),
        Some(_) => !targets.is_empty() && targets.iter().all(acted_on),
    };
    if fits {
        Ok(())
    } else {
        Err(CallError::Targets)
    }
}
