//! A tool's arguments: which there are, and which values fit.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use hob_api::provider::{Parameters, Property, PropertyType, Scalar};
use hob_api::{ApiError, ErrorCode};

use super::parse::{check_text, invalid};
use crate::name::is_plain;

/// Longest text of an argument in bytes.
pub const ARGUMENT_BYTES_MAX: usize = 500;
const PARAMETERS_MAX: usize = 16;
const CHOICES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 64;
const DESCRIPTION_BYTES_MAX: usize = 500;

/// The values that an argument may have; there is at least one.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Any text on one line, at most [`ARGUMENT_BYTES_MAX`] bytes.
    Text,
    /// One of these.
    Choice(Vec<Scalar>),
    /// A whole number within bounds.
    Integer(RangeInclusive<i64>),
    /// A finite number within bounds.
    Number(RangeInclusive<f64>),
    /// True or false.
    Boolean,
}

/// One argument of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Whether a call must have it.
    pub required: bool,
    /// What it may be.
    pub values: Values,
}

impl Parameter {
    /// Whether `value` fits.
    pub fn fits(&self, value: &Scalar) -> bool {
        match (&self.values, value) {
            (Values::Boolean, Scalar::Boolean(_)) => true,
            (Values::Text, Scalar::Text(text)) => {
                check_text(text, "", 0..=ARGUMENT_BYTES_MAX).is_ok()
            }
            (Values::Choice(choices), value) => choices.contains(value),
            (Values::Integer(range), Scalar::Integer(number)) => range.contains(number),
            (Values::Number(range), Scalar::Number(number)) => range.contains(number),
            #[allow(clippy::cast_precision_loss, reason = "a bound is no exact figure")]
            (Values::Number(range), Scalar::Integer(number)) => range.contains(&(*number as f64)),
            _ => false,
        }
    }
}

/// The arguments of a schema, in the order of their names.
pub(super) fn parameters(
    schema: Option<&Parameters>,
    path: &str,
) -> Result<Vec<Parameter>, ApiError> {
    let Some(schema) = schema else {
        return Ok(Vec::new());
    };
    let count = schema.properties.len();
    if count > PARAMETERS_MAX {
        let field = format!("{path}.properties");
        let message = format!("`{field}` has {count} entries, and {PARAMETERS_MAX} fit");
        return Err(invalid(message, field).hint("make several tools of it"));
    }
    if schema.additional_properties == Some(true) {
        let field = format!("{path}.additionalProperties");
        let message = format!("`{field}` can't be true: hob gives the arguments that it knows");
        return Err(ApiError::new(ErrorCode::Unsupported, message)
            .hint("leave it out")
            .param(field));
    }
    if let Some(index) = schema
        .required
        .iter()
        .position(|name| !schema.properties.contains_key(name))
    {
        let field = format!("{path}.required[{index}]");
        let message = format!("`{field}` is none of the properties: no call could be valid");
        return Err(invalid(message, field).hint("add the property"));
    }
    read_all(&schema.properties, &schema.required, path)
}

fn read_all(
    properties: &BTreeMap<String, Property>,
    required: &[String],
    path: &str,
) -> Result<Vec<Parameter>, ApiError> {
    let read = |(name, property): (&String, &Property)| {
        if !is_plain(name, NAME_BYTES_MAX) {
            let field = format!("{path}.properties");
            let message = format!("`{field}` has a name that is not valid");
            return Err(invalid(message, field)
                .hint("give 1 to 64 of the characters A-Z, a-z, 0-9, dot, _ and -"));
        }
        let path = format!("{path}.properties.{name}");
        check_text(
            &property.description,
            &format!("{path}.description"),
            0..=DESCRIPTION_BYTES_MAX,
        )?;
        Ok(Parameter {
            name: name.clone(),
            description: property.description.clone(),
            required: required.contains(name),
            values: values(property, &path)?,
        })
    };
    properties.iter().map(read).collect()
}

fn values(property: &Property, path: &str) -> Result<Values, ApiError> {
    let numeric = matches!(property.kind, PropertyType::Integer | PropertyType::Number);
    let bounds = property.minimum.is_some() || property.maximum.is_some();
    if bounds && (!numeric || property.choices.is_some()) {
        let message = format!("`{path}` has bounds, which only numbers without `enum` have");
        return Err(invalid(message, path).hint("leave `minimum` and `maximum` out"));
    }
    if let Some(choices) = &property.choices {
        return choice(choices, property.kind, path);
    }
    let least = property.minimum.unwrap_or(f64::MIN);
    let most = property.maximum.unwrap_or(f64::MAX);
    if least > most {
        let message = format!("`{path}` has a minimum above its maximum: no value would fit");
        return Err(invalid(message, path).hint("exchange them"));
    }
    match property.kind {
        PropertyType::String => Ok(Values::Text),
        PropertyType::Boolean => Ok(Values::Boolean),
        PropertyType::Number => Ok(Values::Number(least..=most)),
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a cast of a float stops at the ends of i64, which is what is meant"
        )]
        PropertyType::Integer => {
            let range = least.ceil() as i64..=most.floor() as i64;
            if range.is_empty() {
                let message = format!("`{path}` has no whole number within its bounds");
                return Err(invalid(message, path).hint("widen them"));
            }
            Ok(Values::Integer(range))
        }
    }
}

fn choice(choices: &[Scalar], kind: PropertyType, path: &str) -> Result<Values, ApiError> {
    let field = format!("{path}.enum");
    if !(1..=CHOICES_MAX).contains(&choices.len()) {
        let count = choices.len();
        let message = format!("`{field}` must have 1 to {CHOICES_MAX} values, not {count}");
        return Err(invalid(message, field).hint("list the values that a call may have"));
    }
    for (index, value) in choices.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let typed = match (kind, value) {
            (PropertyType::String, Scalar::Text(text)) => {
                check_text(text, &field, 1..=ARGUMENT_BYTES_MAX)?;
                true
            }
            (PropertyType::Integer | PropertyType::Number, Scalar::Integer(_))
            | (PropertyType::Number, Scalar::Number(_)) => true,
            _ => false,
        };
        if !typed || choices[..index].contains(value) {
            let message = format!("`{field}` is not of the property's type, or there twice");
            return Err(invalid(message, field).hint("list texts or numbers, each once"));
        }
    }
    Ok(Values::Choice(choices.to_vec()))
}
