//! Names that users give to what hobd keeps for them.

use hob_api::{ApiError, ErrorCode};

/// Whether `name` is 1 to `most` of letters, digits, dot, `_` and `-`, all of ASCII.
pub(crate) fn is_plain(name: &str, most: usize) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=most).contains(&name.len()) && name.bytes().all(plain)
}

/// A plain name of at most `most` bytes that does not begin with a dot, of a `what`.
///
/// # Errors
/// `invalid_request`.
pub(crate) fn parse(what: &str, name: &str, most: usize) -> Result<String, ApiError> {
    if is_plain(name, most) && !name.starts_with('.') {
        return Ok(name.to_owned());
    }
    let message = format!("the {what}'s name is not valid");
    Err(ApiError::new(ErrorCode::InvalidRequest, message)
        .param("name")
        .hint(format!(
            "give 1 to {most} of the characters A-Z, a-z, 0-9, dot, _ and -, not a dot first"
        )))
}
