//! One value on its way into [`Settings`](super::Settings): as given, and the place that it
//! must fit.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hob_api::model::DEFAULT_MODEL;
use hob_ipc::gpu::Gpu;
use hob_ipc::kernels::Level;
use hob_ipc::memory::KvType;
use hob_ipc::message::{Drafts, SandboxPolicy};

use super::{ControlSetting, SOCKET_PATH_BYTES_MAX, WeightsSetting};
use crate::request::MODEL_BYTES_MAX;

/// What stands for a value that hobd finds out.
const AUTO: &str = "auto";

/// What stands for a door that is shut, or a file that there is not.
const OFF: &str = "off";

/// What stands for hobd's own user.
const OWN: &str = "own";

/// Every user but root, and but the number that the kernel takes for none.
const UIDS: RangeInclusive<u32> = 1..=u32::MAX - 1;

/// A value as a layer gave it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML float.
    Float(f64),
    /// A TOML boolean.
    Switch(bool),
    /// From the environment or a flag, where everything is text.
    Bare(String),
    /// A TOML value of a kind that no setting has, in words.
    Other(&'static str),
}

/// The place of one setting, with its bounds.
#[derive(Debug)]
pub enum Slot<'a> {
    /// An absolute path.
    Path(&'a mut PathBuf),
    /// An absolute path that fits into a socket's address.
    SocketPath(&'a mut PathBuf),
    /// An absolute path, or "off" for `None`.
    MaybePath(&'a mut Option<PathBuf>),
    /// A loopback address and a port other than 0, or "off" for `None`.
    Loopback(&'a mut Option<SocketAddr>),
    /// A user other than root, or "own" for `None`: hobd's.
    Uid(&'a mut Option<u32>),
    /// True or false.
    Switch(&'a mut bool),
    /// A model's name, `default` for `None`.
    Model(&'a mut Option<String>),
    /// What the sandbox must achieve.
    Sandbox(&'a mut SandboxPolicy),
    /// A level of kernels, or "auto" for `None`: the best.
    Kernels(&'a mut Option<Level>),
    /// When to write by drafts.
    Drafts(&'a mut Drafts),
    /// How keys and values are kept.
    KvType(&'a mut KvType),
    /// Whether layers are computed on a GPU.
    Gpu(&'a mut Gpu),
    /// Which control vectors are added.
    ControlVector(&'a mut ControlSetting),
    /// Where the weights lie.
    Weights(&'a mut WeightsSetting),
    /// An amount of bytes of at least this, or "auto" for `None`: hobd finds out.
    AutoBytes(&'a mut Option<u64>, u64),
    /// A count that crosses a wire.
    Count(&'a mut u32, RangeInclusive<u32>),
    /// An amount of bytes.
    Bytes(&'a mut u64, RangeInclusive<u64>),
    /// A count of things in hobd's own memory.
    Size(&'a mut usize, RangeInclusive<usize>),
    /// A count up to this, 0 for `None`: hobd finds out.
    Auto(&'a mut Option<u32>, u32),
    /// A number.
    Number(&'a mut f32, RangeInclusive<f32>),
    /// A length of time.
    Time(&'a mut Duration, RangeInclusive<Duration>),
}

impl Slot<'_> {
    /// Which values fit, in words that complete "must be".
    pub fn expected(&self) -> String {
        match self {
            Self::Path(_) => "an absolute path".to_owned(),
            Self::SocketPath(_) => {
                format!("an absolute path of at most {SOCKET_PATH_BYTES_MAX} bytes")
            }
            Self::MaybePath(_) => format!("an absolute path, or \"{OFF}\""),
            Self::Loopback(_) => format!(
                "\"{OFF}\", or an address of this machine alone with a port: \"127.0.0.1:PORT\" or \
                 \"[::1]:PORT\""
            ),
            Self::Uid(_) => format!("{}, or \"{OWN}\"", whole(&UIDS)),
            Self::Switch(_) => "true or false".to_owned(),
            Self::Model(_) => format!("a model's name, or \"{DEFAULT_MODEL}\""),
            Self::Sandbox(_) => "\"required\", \"degraded\" or \"off\"".to_owned(),
            Self::Kernels(_) => format!("\"{AUTO}\", {}", one_of(Level::ALL, Level::as_str)),
            Self::Drafts(_) => "\"auto\", \"off\" or \"always\"".to_owned(),
            Self::KvType(_) => one_of(KvType::ALL, KvType::as_str),
            Self::Gpu(_) => one_of(Gpu::ALL, Gpu::as_str),
            Self::ControlVector(_) => one_of(ControlSetting::ALL, ControlSetting::as_str),
            Self::Weights(_) => one_of(WeightsSetting::ALL, WeightsSetting::as_str),
            Self::AutoBytes(_, least) => {
                format!("a whole number of bytes, at least {least}, or \"{AUTO}\"")
            }
            Self::Count(_, range) => whole(range),
            Self::Size(_, range) => whole(range),
            Self::Bytes(_, range) => whole(range),
            Self::Auto(_, most) => format!("{}, or 0 for automatic", whole(&(1..=*most))),
            Self::Number(_, range) => format!("a number from {} to {}", range.start(), range.end()),
            Self::Time(_, range) => format!(
                "a duration from {} to {}, such as \"30s\", \"2m\" or \"500ms\"",
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end())
            ),
        }
    }

    /// The value as TOML.
    pub fn show(&self) -> String {
        match self {
            Self::Path(path) | Self::SocketPath(path) => quoted(&path.to_string_lossy()),
            Self::MaybePath(path) => {
                quoted(&path.as_deref().map_or(OFF.into(), Path::to_string_lossy))
            }
            Self::Loopback(address) => {
                quoted(&address.map_or_else(|| OFF.to_owned(), |address| address.to_string()))
            }
            Self::Uid(uid) => uid.map_or_else(|| quoted(OWN), |uid| uid.to_string()),
            Self::Switch(on) => on.to_string(),
            Self::Model(model) => quoted(model.as_deref().unwrap_or(DEFAULT_MODEL)),
            Self::Sandbox(policy) => quoted(policy.as_str()),
            Self::Kernels(level) => quoted(level.map_or(AUTO, Level::as_str)),
            Self::Drafts(mode) => quoted(mode.as_str()),
            Self::KvType(kind) => quoted(kind.as_str()),
            Self::Gpu(gpu) => quoted(gpu.as_str()),
            Self::ControlVector(wanted) => quoted(wanted.as_str()),
            Self::Weights(weights) => quoted(weights.as_str()),
            Self::AutoBytes(bytes, _) => {
                bytes.map_or_else(|| quoted(AUTO), |bytes| bytes.to_string())
            }
            Self::Count(count, _) => count.to_string(),
            Self::Size(size, _) => size.to_string(),
            Self::Bytes(bytes, _) => bytes.to_string(),
            Self::Auto(count, _) => count.unwrap_or(0).to_string(),
            // Debug keeps the ".0" that makes it a TOML float.
            Self::Number(number, _) => format!("{number:?}"),
            Self::Time(time, _) => quoted(
                &humantime::format_duration(**time)
                    .to_string()
                    .replace(' ', ""),
            ),
        }
    }

    /// Fills the place.
    ///
    /// # Errors
    /// What is wrong with `given`, in words that follow the setting's name; the place is then
    /// untouched.
    pub(super) fn set(&mut self, given: &Given) -> Result<(), String> {
        self.try_set(given).ok_or_else(|| {
            let unit = match (&self, given) {
                (Self::Time(..), Given::Integer(_) | Given::Float(_)) => "; add a unit",
                _ => "",
            };
            format!("must be {}, not {given}{unit}", self.expected())
        })
    }

    fn try_set(&mut self, given: &Given) -> Option<()> {
        match self {
            Self::Path(path) => **path = absolute(given)?,
            Self::SocketPath(path) => {
                let given = absolute(given)?;
                if given.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
                    return None;
                }
                **path = given;
            }
            Self::MaybePath(path) => {
                **path = if given.text() == Some(OFF) {
                    None
                } else {
                    Some(absolute(given)?)
                };
            }
            Self::Loopback(address) => **address = loopback(given)?,
            Self::Uid(uid) => {
                **uid = if given.text() == Some(OWN) {
                    None
                } else {
                    Some(within(u32::try_from(given.integer()?).ok()?, &UIDS)?)
                };
            }
            Self::Switch(on) => **on = switch(given)?,
            Self::Model(model) => **model = model_name(given)?,
            Self::Sandbox(policy) => {
                let text = given.text()?;
                let named = |policy: &SandboxPolicy| policy.as_str() == text;
                **policy = SandboxPolicy::ALL.into_iter().find(named)?;
            }
            Self::Kernels(level) => {
                **level = if given.text() == Some(AUTO) {
                    None
                } else {
                    Some(named(Level::ALL, Level::as_str, given)?)
                };
            }
            Self::Drafts(mode) => {
                let text = given.text()?;
                let named = |mode: &Drafts| mode.as_str() == text;
                **mode = Drafts::ALL.into_iter().find(named)?;
            }
            Self::KvType(kind) => **kind = named(KvType::ALL, KvType::as_str, given)?,
            Self::Gpu(gpu) => **gpu = named(Gpu::ALL, Gpu::as_str, given)?,
            Self::ControlVector(wanted) => {
                **wanted = named(ControlSetting::ALL, ControlSetting::as_str, given)?;
            }
            Self::Weights(weights) => {
                **weights = named(WeightsSetting::ALL, WeightsSetting::as_str, given)?;
            }
            Self::AutoBytes(bytes, least) => **bytes = bytes_or_auto(given, *least)?,
            Self::Count(count, range) => {
                **count = within(u32::try_from(given.integer()?).ok()?, range)?;
            }
            Self::Size(size, range) => {
                **size = within(usize::try_from(given.integer()?).ok()?, range)?;
            }
            Self::Bytes(bytes, range) => {
                **bytes = within(u64::try_from(given.integer()?).ok()?, range)?;
            }
            Self::Auto(count, most) => {
                let given = within(u32::try_from(given.integer()?).ok()?, &(0..=*most))?;
                **count = (given > 0).then_some(given);
            }
            Self::Number(number, range) => **number = within(given.number()?, range)?,
            Self::Time(time, range) => {
                **time = within(humantime::parse_duration(given.text()?).ok()?, range)?;
            }
        }
        Some(())
    }
}

impl Given {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Bare(text) => Some(text),
            _ => None,
        }
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            Self::Bare(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// TOML writers drop the ".0" of a whole number: an integer is fine too.
    fn number(&self) -> Option<f32> {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "sampling is done in f32, and its ranges are small"
        )]
        match self {
            Self::Float(number) => Some(*number as f32),
            Self::Integer(integer) => Some(*integer as f32),
            Self::Bare(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Bare(text) => f.write_str(&quoted(text)),
            Self::Integer(integer) => integer.fmt(f),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Switch(on) => on.fmt(f),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

fn one_of<T, const N: usize>(of: [T; N], as_str: fn(T) -> &'static str) -> String {
    let names = of.map(|value| quoted(as_str(value)));
    let [first @ .., last] = names.as_slice() else {
        return String::new();
    };
    format!("{} or {last}", first.join(", "))
}

fn named<T: Copy, const N: usize>(
    of: [T; N],
    as_str: fn(T) -> &'static str,
    given: &Given,
) -> Option<T> {
    let text = given.text()?;
    of.into_iter().find(|value| as_str(*value) == text)
}

/// The inner `None` is hobd's own choice.
#[allow(clippy::option_option, reason = "a refusal is not hobd's own choice")]
fn bytes_or_auto(given: &Given, least: u64) -> Option<Option<u64>> {
    if given.text() == Some(AUTO) {
        return Some(None);
    }
    let bytes = u64::try_from(given.integer()?).ok()?;
    (bytes >= least).then_some(Some(bytes))
}

fn whole<N: fmt::Display>(range: &RangeInclusive<N>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

fn within<N: PartialOrd>(value: N, range: &RangeInclusive<N>) -> Option<N> {
    range.contains(&value).then_some(value)
}

fn absolute(given: &Given) -> Option<PathBuf> {
    let text = given.text()?;
    let fits = Path::new(text).is_absolute() && !text.contains('\0');
    fits.then(|| PathBuf::from(text))
}

/// The inner `None` is a door that is shut.
#[allow(clippy::option_option, reason = "a refusal is not a shut door")]
fn loopback(given: &Given) -> Option<Option<SocketAddr>> {
    let text = given.text()?;
    if text == OFF {
        return Some(None);
    }
    let address: SocketAddr = text.parse().ok()?;
    (address.ip().is_loopback() && address.port() != 0).then_some(Some(address))
}

fn switch(given: &Given) -> Option<bool> {
    match given {
        Given::Switch(on) => Some(*on),
        Given::Bare(text) => text.parse().ok(),
        _ => None,
    }
}

/// The inner `None` is the store's default.
#[allow(clippy::option_option, reason = "a refusal is not the default model")]
fn model_name(given: &Given) -> Option<Option<String>> {
    let name = given.text()?;
    let fits = (1..=MODEL_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/');
    fits.then(|| (name != DEFAULT_MODEL).then(|| name.to_owned()))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
