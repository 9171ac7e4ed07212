//! A call that exists: there is no other way to make one than to have it checked.

use std::collections::{BTreeMap, HashSet};

use hob_api::home::Call;
use hob_api::provider::Scalar;

use super::{Parameter, Provider, Tool, Values};

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
    /// A figure is out of an argument's bounds, of which at least one is given.
    #[error("the argument {argument} has to be {}", bounds(least.as_deref(), most.as_deref()))]
    Range {
        /// The argument.
        argument: String,
        /// The least that it may be.
        least: Option<String>,
        /// The most that it may be.
        most: Option<String>,
    },
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
                    return Err(CallError::of(parameter, value));
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

impl CallError {
    /// Why `value` does not fit `parameter`.
    fn of(parameter: &Parameter, value: &Scalar) -> Self {
        let figure = matches!(value, Scalar::Integer(_) | Scalar::Number(_));
        if figure && let Some(range) = Self::out_of(parameter) {
            return range;
        }
        Self::Argument(parameter.name.clone())
    }

    /// A figure is out of the bounds of `parameter`; nothing if it has none.
    pub(crate) fn out_of(parameter: &Parameter) -> Option<Self> {
        let (least, most) = match &parameter.values {
            Values::Integer(range) => (
                (*range.start() > i64::MIN).then(|| range.start().to_string()),
                (*range.end() < i64::MAX).then(|| range.end().to_string()),
            ),
            Values::Number(range) => (
                (*range.start() > f64::MIN).then(|| range.start().to_string()),
                (*range.end() < f64::MAX).then(|| range.end().to_string()),
            ),
            Values::Text | Values::Choice(_) | Values::Boolean => (None, None),
        };
        (least.is_some() || most.is_some()).then(|| Self::Range {
            argument: parameter.name.clone(),
            least,
            most,
        })
    }
}

fn bounds(least: Option<&str>, most: Option<&str>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "another".to_owned(),
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
