//! One model of the catalog.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Dimensions;
use crate::{ModelName, Sha256, ToolFormat};

/// One model of the catalog.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it is called here.
    pub name: ModelName,
    /// The file's name where it is published.
    pub file: String,
    /// The file's digest.
    pub sha256: Sha256,
    /// The file's size in bytes, where known.
    pub size: Option<u64>,
    /// Parameters, rounded as the publisher does.
    pub parameters: Parameters,
    /// How the weights are stored, such as `Q4_K_M`.
    pub quantization: String,
    /// What one may do with it.
    pub licence: Licence,
    /// Tokens of context it was trained for, where known.
    pub context: Option<u32>,
    /// Its dimensions, where known; the file's own count once it is here.
    pub dimensions: Option<Dimensions>,
    /// How it writes tool calls, where known.
    pub tool_format: Option<ToolFormat>,
    /// One sentence for people.
    pub description: String,
    /// Where to get it, best first; never empty.
    pub sources: Vec<Source>,
}

/// A licence, and whether a person must agree to it before the model is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// The SPDX identifier, or a short name where there is none.
    pub id: String,
    /// The address of its text.
    pub terms: HttpsUrl,
    /// Whether a person must agree first.
    #[serde(default)]
    pub must_accept: bool,
}

/// A place to get a model from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Members of Python packages, put together in this order.
    Pip(Vec<PipMember>),
    /// A web address.
    Https(HttpsUrl),
    /// A file on this machine.
    Path(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pip(members) => {
                formatter.write_str("pip:")?;
                for (index, member) in members.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(formatter, "{comma}{}", member.package)?;
                }
                Ok(())
            }
            Self::Https(url) => url.fmt(formatter),
            Self::Path(path) => path.display().fmt(formatter),
        }
    }
}

/// One file inside a Python package.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipMember {
    /// The package at a version.
    pub package: Package,
    /// The file's path inside the package.
    pub member: String,
}

/// A Python package at an exact version, as `NAME==VERSION`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Package(String);

impl Package {
    /// `NAME==VERSION`, safe as a command-line argument.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Package {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for Package {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
        };
        match text.split_once("==") {
            Some((name, version)) if plain(name) && plain(version) => Ok(Self(text)),
            _ => Err(format!(
                "`{}` is not a package at a version, as in name==1.0",
                text.escape_debug()
            )),
        }
    }
}

/// An `https://` address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpsUrl(String);

impl HttpsUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for HttpsUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let host = text.strip_prefix("https://").unwrap_or_default();
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if printable && host.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            Ok(Self(text))
        } else {
            Err(format!(
                "`{}` is not an https:// address",
                text.escape_debug()
            ))
        }
    }
}

impl From<HttpsUrl> for String {
    fn from(url: HttpsUrl) -> Self {
        url.0
    }
}

/// A number of parameters, written as `135M` or `1.7B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Parameters(pub u64);

impl TryFrom<String> for Parameters {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let invalid = || format!("`{}` is not a size as 135M or 1.7B", text.escape_debug());
        let (digits, unit) = match text.as_bytes().last() {
            Some(b'M') => (text.trim_end_matches('M'), 1_000_000),
            Some(b'B') => (text.trim_end_matches('B'), 1_000_000_000),
            _ => return Err(invalid()),
        };
        let (whole, tenths) = digits.split_once('.').unwrap_or((digits, "0"));
        let number = |text: &str| {
            (text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<u64>().ok())
                .flatten()
                .ok_or_else(invalid)
        };
        if tenths.len() != 1 {
            return Err(invalid());
        }
        Ok(Self(number(whole)? * unit + number(tenths)? * (unit / 10)))
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, letter) = if self.0 >= 1_000_000_000 {
            (1_000_000_000, 'B')
        } else {
            (1_000_000, 'M')
        };
        // Rounded to one decimal, which is left out where a size is usually given without.
        let tenths = (self.0 + unit / 20) / (unit / 10);
        if letter == 'M' || tenths.is_multiple_of(10) {
            formatter.pad(&format!("{}{letter}", (self.0 + unit / 2) / unit))
        } else {
            formatter.pad(&format!("{}.{}{letter}", tenths / 10, tenths % 10))
        }
    }
}

/// As it is in the file, its licence only named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: ModelName,
    file: String,
    sha256: Sha256,
    size: Option<u64>,
    parameters: Parameters,
    quantization: String,
    licence: String,
    context: Option<u32>,
    dimensions: Option<Dimensions>,
    tool_format: Option<ToolFormat>,
    description: String,
    sources: Vec<Source>,
}

impl Raw {
    pub(super) fn resolve(self, licences: &[Licence]) -> Result<Entry, String> {
        let licence = licences
            .iter()
            .find(|licence| licence.id == self.licence)
            .ok_or_else(|| format!("there is no licence `{}`", self.licence.escape_debug()))?;
        let empty = |source: &Source| matches!(source, Source::Pip(members) if members.is_empty());
        if self.sources.is_empty() || self.sources.iter().any(empty) {
            return Err(format!("model `{}` has an empty source", self.name));
        }
        Ok(Entry {
            name: self.name,
            file: self.file,
            sha256: self.sha256,
            size: self.size,
            parameters: self.parameters,
            quantization: self.quantization,
            licence: licence.clone(),
            context: self.context,
            dimensions: self.dimensions,
            tool_format: self.tool_format,
            description: self.description,
            sources: self.sources,
        })
    }
}
