//! Values of the bus as the JSON of the other door.

use serde_json::{Number, Value};
use zbus::Variant;

/// `value` as JSON, with at most `levels` of nesting, itself one of them; an object's path is text
/// if `paths` says so. `None` for what is deeper, and for what JSON has no word for.
pub(super) fn json(value: &Variant<'_>, levels: usize, paths: bool) -> Option<Value> {
    let within = levels.checked_sub(1)?;
    let inner = |value: &Variant<'_>| json(value, within, paths);
    Some(match value {
        Variant::Str(text) => Value::String(text.to_string()),
        Variant::ObjectPath(path) if paths => Value::String(path.to_string()),
        Variant::Bool(value) => Value::Bool(*value),
        Variant::U8(number) => Value::from(*number),
        Variant::I16(number) => Value::from(*number),
        Variant::U16(number) => Value::from(*number),
        Variant::I32(number) => Value::from(*number),
        Variant::U32(number) => Value::from(*number),
        Variant::I64(number) => Value::from(*number),
        Variant::U64(number) => Value::from(*number),
        Variant::F64(number) => Value::Number(Number::from_f64(*number)?),
        Variant::Variant(value) => inner(value)?,
        Variant::Array(items) => Value::Array(items.iter().map(inner).collect::<Option<_>>()?),
        Variant::Dict(fields) => {
            let fields = fields.iter().map(|(key, value)| match key {
                Variant::Str(key) => Some((key.to_string(), inner(value)?)),
                _ => None,
            });
            Value::Object(fields.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
