//! Providers: what homes can do and what is in them, as users register it.
//!
//! [`Provider`] is a definition that was checked, and never changes; [`Providers`] keeps the one
//! that is in force under each user's names. Who reads an utterance takes it as it is then, so that
//! a change meanwhile disturbs nobody. Nothing is kept on the disk: a hub registers again when hobd
//! starts again, and what it says is then true.

mod call;
mod parse;
mod registry;
mod schema;
#[cfg(test)]
mod tests;

use hob_api::ApiError;
use hob_api::provider::{
    ActsOn, LabelledExample, PROVIDER_NAME_BYTES_MAX, ProviderFields, Target, Tool as ToolFields,
};

use crate::name;

pub use self::call::{CallError, ValidCall};
pub(crate) use self::parse::is_unseen;
pub use self::registry::{Entry, PROVIDERS_MAX, PROVIDERS_PER_UID_MAX, Providers};
pub use self::schema::{ARGUMENT_BYTES_MAX, Parameter, Values};

/// Most tools of a provider.
pub const TOOLS_MAX: usize = 64;
/// Longest definition of all tools of a provider, in bytes of JSON.
pub const TOOLS_BYTES_MAX: usize = 2 << 20;
/// Most targets of a provider.
pub const TARGETS_MAX: usize = 1000;
/// Most examples of one tool.
pub const EXAMPLES_MAX: usize = 512;
/// Most examples of all tools of a provider.
pub const ALL_EXAMPLES_MAX: usize = 2048;

/// Longest text of all names, aliases, areas and floors of a provider together, in bytes: an
/// utterance's words are compared with each of their words.
pub const NAMES_BYTES_MAX: usize = 256 << 10;

/// A provider's name: 1 to 64 of `a-z A-Z 0-9 . _ -`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderName(String);

impl ProviderName {
    /// Reads a name.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn parse(name: &str) -> Result<Self, ApiError> {
        name::parse("provider", name, PROVIDER_NAME_BYTES_MAX).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A checked tool.
#[derive(Clone, Debug)]
pub struct Tool {
    fields: ToolFields,
    parameters: Vec<Parameter>,
    examples: Vec<LabelledExample>,
}

impl Tool {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.fields.name
    }

    /// What it does.
    pub fn description(&self) -> &str {
        &self.fields.description
    }

    /// Its arguments, by name.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// What people say when they want it.
    pub fn examples(&self) -> &[LabelledExample] {
        &self.examples
    }

    /// Which targets it acts on; `None` if on none.
    pub fn acts_on(&self) -> Option<&ActsOn> {
        self.fields.acts_on.as_ref()
    }

    /// Whether the hub must ask back before it does this.
    pub fn needs_confirmation(&self) -> bool {
        self.fields.dangerous || self.fields.needs_confirmation
    }

    /// Its definition, but for what people say when they want it.
    pub fn terms(&self) -> ToolFields {
        let ToolFields {
            name,
            description,
            parameters,
            acts_on,
            dangerous,
            needs_confirmation,
            examples: _,
        } = &self.fields;
        ToolFields {
            name: name.clone(),
            description: description.clone(),
            parameters: parameters.clone(),
            acts_on: acts_on.clone(),
            dangerous: *dangerous,
            needs_confirmation: *needs_confirmation,
            examples: Vec::new(),
        }
    }

    /// Whether it acts on `target`.
    pub fn accepts(&self, target: &Target) -> bool {
        let Some(acts_on) = &self.fields.acts_on else {
            return false;
        };
        let kind = acts_on.kinds.is_empty() || acts_on.kinds.contains(&target.kind);
        let able = |capability| target.capabilities.contains(capability);
        kind && acts_on.capabilities.iter().all(able)
    }
}

/// A checked definition: names are unique, every schema can be satisfied, everything is bounded.
#[derive(Clone, Debug)]
pub struct Provider {
    name: ProviderName,
    tools: Vec<Tool>,
    targets: Vec<Target>,
}

impl Provider {
    /// Its name.
    pub fn name(&self) -> &ProviderName {
        &self.name
    }

    /// What it can do.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// What is there.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The definition, as it was given.
    pub fn fields(&self) -> ProviderFields {
        ProviderFields {
            tools: self.tools.iter().map(|tool| tool.fields.clone()).collect(),
            targets: self.targets.clone(),
        }
    }
}
