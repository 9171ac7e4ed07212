//! Names of models.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A model's name: 1 to 64 of `a-z`, `0-9`, `.`, `-`, `_`, not starting with `.` or `-`.
///
/// Such a name is safe as part of a file name and as a command-line argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

/// Why a text is not a model's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a model name: use 1 to 64 of a-z, 0-9, '.', '-' and '_', starting with a letter or digit", .0.escape_debug())]
pub struct InvalidName(String);

impl ModelName {
    /// Longest name in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] for anything that is not a name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        let good_start = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if good_start && name.len() <= Self::MAX_BYTES && name.bytes().all(allowed) {
            Ok(Self(name))
        } else {
            // What is echoed back is bounded too.
            Err(InvalidName(name.chars().take(80).collect()))
        }
    }

    /// Makes a name of a file's: `Some Model.Q4.gguf` becomes `some-model.q4`.
    ///
    /// # Errors
    /// [`InvalidName`] when nothing usable is left.
    pub fn from_file_name(file_name: &str) -> Result<Self, InvalidName> {
        let lower = file_name.to_ascii_lowercase();
        let stem = lower.strip_suffix(".gguf").unwrap_or(&lower);
        let name: String = stem
            .chars()
            .map(|c| match c {
                'a'..='z' | '0'..='9' | '.' | '-' | '_' => c,
                _ => '-',
            })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(Self::MAX_BYTES)
            .collect();
        Self::new(name).map_err(|_| InvalidName(file_name.chars().take(80).collect()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl FromStr for ModelName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        Self::new(name)
    }
}

impl TryFrom<String> for ModelName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(name)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_names_are_names() {
        for good in ["a", "qwen3-0.6b", "x_1", "0", &"a".repeat(64)] {
            assert!(ModelName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-option",
            "../x",
            "a/b",
            "A",
            "a b",
            "é",
            "a\0",
            &"a".repeat(65),
        ] {
            assert!(ModelName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn file_names_become_names() {
        let name = |file| ModelName::from_file_name(file).map(String::from);
        assert_eq!(name("Some Model.Q4.gguf"), Ok("some-model.q4".to_owned()));
        assert_eq!(name("..ä~X.GGUF"), Ok("x".to_owned()));
        assert!(name("...gguf").is_err());
        assert!(name(&"x".repeat(300)).is_ok_and(|name| name.len() == 64));
    }
}
