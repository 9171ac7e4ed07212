//! `/hob/v1/providers`: what a home can do, and what is in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest name of a provider in bytes.
pub const PROVIDER_NAME_BYTES_MAX: usize = 64;

/// The body of `PUT /hob/v1/providers/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderFields {
    /// What can be done: 1 to 64, each with a name of its own.
    pub tools: Vec<Tool>,
    /// What it can be done to: at most 1,000, each with an id of its own.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// The body of `PATCH /hob/v1/providers/NAME/targets`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetsPatch {
    /// Targets that are new, or take the place of those with their id.
    #[serde(default)]
    pub changed: Vec<Target>,
    /// Ids of targets that are gone. One that was not there is an error.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// Something that can be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name: 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub name: String,
    /// What it does, for people and for the reading of what they say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// Which targets it acts on; absent if it acts on none, like a tool that makes coffee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acts_on: Option<ActsOn>,
    /// Whether a mistake could do harm: locks, alarms, doors.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dangerous: bool,
    /// Whether the hub must ask back before it does this.
    #[serde(default, skip_serializing_if = "is_false")]
    pub needs_confirmation: bool,
    /// What people say when they want it, in any language.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
}

/// Which targets a tool acts on: those of one of the kinds, if any are given, that have all of the
/// capabilities. Empty for every target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActsOn {
    /// Kinds of target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// What a target must be able to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// What somebody says: `{target}` stands for any target, `{name}` for the argument of that name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Example {
    /// The words alone.
    Text(String),
    /// The words, and which target they mean.
    Labelled(LabelledExample),
}

/// An [`Example`] that names its target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledExample {
    /// What is said.
    pub text: String,
    /// The id of the target that is meant. It may not be registered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The arguments of a tool: the part of JSON Schema in which arguments are named, flat values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Always `object`.
    #[serde(rename = "type")]
    pub kind: ObjectType,
    /// The arguments by name, at most 16.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
    /// Those that a call must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// Only `false` is true of hob's calls, so that alone may be said.
    #[serde(
        default,
        rename = "additionalProperties",
        skip_serializing_if = "Option::is_none"
    )]
    pub additional_properties: Option<bool>,
}

/// The one type that parameters have as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectType {
    /// An object.
    #[default]
    Object,
}

/// One argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Property {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: PropertyType,
    /// What it means, units included.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The values that it may have, of its type; for text and numbers.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Scalar>>,
    /// Its least value; for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// Its greatest value; for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
}

/// The type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PropertyType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
}

/// A value: of an argument, or of a target's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any number; never NaN or infinite.
    Number(f64),
    /// Text.
    Text(String),
}

/// A thing that tools act on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The hub's own name for it: 1 to 128 bytes without spaces.
    pub id: String,
    /// What people call it: 1 to 100 characters of any script.
    pub name: String,
    /// What else they call it; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What it is, such as `light`.
    pub kind: String,
    /// The room that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<String>,
    /// The floor that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<String>,
    /// What it can do, such as `dim`; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// How it is now, as far as the hub tells; at most 16 values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, Scalar>,
}

/// A provider, as the user who registered it sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provider {
    /// Always `provider`.
    pub object: String,
    /// Its name, the user's own.
    pub name: String,
    /// The change that made it what it is: hobd counts changes to providers from 1 when it starts.
    pub generation: u64,
    /// How many tools it has.
    pub tools: usize,
    /// How many targets it has.
    pub targets: usize,
    /// All of it; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<ProviderFields>,
}

/// The caller's providers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProviderList {
    /// Always `list`.
    pub object: String,
    /// By name.
    pub data: Vec<Provider>,
}

/// The answer to `DELETE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderDeleted {
    /// The name it had.
    pub name: String,
    /// Always `provider.deleted`.
    pub object: String,
    /// Always true.
    pub deleted: bool,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
