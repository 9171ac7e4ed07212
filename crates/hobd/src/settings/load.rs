//! From the layers to [`Settings`]. Each later layer wins: built-in defaults, the main file, its
//! drop-ins in the order of their names, the environment, flags.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hob_models::locations::{self, NoHome};
use toml::de::{DeTable, DeValue};

use super::key::{KEYS, Key, TABLES};
use super::problem::{Problem, Problems, Source};
use super::value::Given;
use super::{Places, Scope, Settings, engine_beside};
use crate::tuning::{self, Free};

/// Longest settings file in bytes; ours with all comments has less than a tenth.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Most drop-ins.
const DROP_INS_MAX: usize = 256;

/// Variables that begin with `HOB_` and are read elsewhere: the log filter in `main`.
const OTHER_VARIABLES: [&str; 1] = ["HOB_LOG"];

/// All that settings are made of.
#[derive(Clone, Debug)]
pub struct Layers {
    /// System or user mode.
    pub scope: Scope,
    /// The default places.
    pub places: Places,
    /// The main file.
    pub config: Config,
    /// The environment; names that are not UTF-8 are left out.
    pub variables: BTreeMap<String, OsString>,
    /// What the command line says, in its order.
    pub flags: Vec<Flag>,
}

/// Which files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// `hobd.toml` in this folder and `hobd.toml.d/*.toml` beside it, as far as they exist.
    Folder(PathBuf),
    /// This file, which must exist, and no drop-ins.
    Only(PathBuf),
}

/// A setting on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The flag, such as `--socket`.
    pub flag: &'static str,
    /// The setting's name.
    pub key: String,
    /// Its value, as text.
    pub value: String,
}

/// Valid settings, and how they came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where each came from, in the order of [`KEYS`].
    pub sources: Vec<Source>,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    /// What is probably not meant, but not wrong.
    pub warnings: Vec<Problem>,
}

impl Places {
    /// The default places, and the folder of the settings files. In system scope the folders that
    /// systemd made for the unit come first.
    ///
    /// # Errors
    /// In user scope, when no home folder is known.
    pub fn of(
        scope: Scope,
        variables: &BTreeMap<String, OsString>,
        hobd: &Path,
    ) -> Result<(Self, PathBuf), NoHome> {
        let given = |variable: &str| {
            let folders = variables.get(variable).filter(|_| scope == Scope::System)?;
            // A unit with several folders lists them with colons; ours comes first.
            let first = folders.to_str()?.split(':').next()?;
            Path::new(first).is_absolute().then(|| PathBuf::from(first))
        };
        let places = Self {
            socket: match given("RUNTIME_DIRECTORY") {
                Some(folder) => folder.join("hob.sock"),
                None => locations::socket_path(scope)?,
            },
            models_dir: match given("STATE_DIRECTORY") {
                Some(folder) => folder.join("models"),
                None => locations::models_dir(scope)?,
            },
            conversations_dir: match given("STATE_DIRECTORY") {
                Some(folder) => folder.join("conversations"),
                None => locations::conversations_dir(scope)?,
            },
            pins_dir: match given("STATE_DIRECTORY") {
                Some(folder) => folder.join("pins"),
                None => locations::pins_dir(scope)?,
            },
            tuning_dir: match given("STATE_DIRECTORY") {
                Some(folder) => folder.join("tuning"),
                None => locations::tuning_dir(scope)?,
            },
            snapshots_dir: match given("CACHE_DIRECTORY") {
                Some(folder) => folder.join("snapshots"),
                None => locations::snapshots_dir(scope)?,
            },
            engine: engine_beside(hobd),
        };
        let config = match given("CONFIGURATION_DIRECTORY") {
            Some(folder) => folder,
            None => locations::config_dir(scope)?,
        };
        Ok((places, config))
    }
}

/// Reads and merges the layers.
///
/// # Errors
/// Every unreadable file, unknown name and value out of bounds, in any layer.
pub fn load(layers: Layers) -> Result<Loaded, Problems> {
    let mut merge = Merge {
        settings: Settings::defaults(layers.scope, layers.places),
        sources: vec![Source::Default; KEYS.len()],
        problems: Vec::new(),
    };
    let measured = merge.tuned();
    let files = merge.files(&layers.config);
    merge.variables(&layers.variables);
    for flag in layers.flags {
        merge.set(
            &flag.key,
            &Given::Bare(flag.value),
            Source::Flag(flag.flag),
            flag.flag,
        );
    }
    merge.agree();
    merge.settings.tuning.free = Free {
        threads: !merge.is_set("engine.threads"),
        weights: !merge.is_set("engine.weights"),
    };
    if !merge.problems.is_empty() {
        return Err(Problems(merge.problems));
    }
    Ok(Loaded {
        settings: merge.settings,
        sources: merge.sources,
        files,
        warnings: {
            let stray = stray_variables(&layers.variables).into_iter();
            stray.chain(measured.err()).collect()
        },
    })
}

struct Merge {
    settings: Settings,
    sources: Vec<Source>,
    problems: Vec<Problem>,
}

impl Merge {
    fn set(&mut self, name: &str, given: &Given, source: Source, at: impl std::fmt::Display) {
        let Some(index) = KEYS.iter().position(|key| key.name == name) else {
            self.problems.push(Problem::new(at, unknown(name)));
            return;
        };
        match (KEYS[index].slot)(&mut self.settings).set(given) {
            Ok(()) => self.sources[index] = source,
            Err(wrong) => self
                .problems
                .push(Problem::new(at, format!("{name} {wrong}"))),
        }
    }

    /// What was measured on this board. A file that can't be read is as none: it can be made again.
    fn tuned(&mut self) -> Result<(), Problem> {
        let path = &self.settings.tuning.file;
        let stored = tuning::file::read(path).map_err(|error| {
            let text = format!("is not used: {error}; `hob tune` makes it anew");
            Problem::new(path.display(), text)
        })?;
        let Some(stored) = stored else {
            return Ok(());
        };
        if let Some(threads) = stored.threads {
            let given = Given::Integer(threads.into());
            self.set("engine.threads", &given, Source::Tuned, Source::Tuned);
        }
        if let Some(weights) = &stored.weights {
            let given = Given::Text(weights.clone());
            self.set("engine.weights", &given, Source::Tuned, Source::Tuned);
        }
        self.settings.tuning.stored = Some(stored);
        Ok(())
    }

    /// Whether somebody set it.
    fn is_set(&self, name: &str) -> bool {
        !matches!(self.source(name), Source::Default | Source::Tuned)
    }

    fn variables(&mut self, variables: &BTreeMap<String, OsString>) {
        for key in KEYS {
            // As everywhere, an empty variable is an unset one.
            let Some(value) = variables
                .get(key.variable)
                .filter(|value| !value.is_empty())
            else {
                continue;
            };
            let source = Source::Variable(key.variable.to_owned());
            let at = source.to_string();
            match value.to_str() {
                Some(text) => self.set(key.name, &Given::Bare(text.to_owned()), source, at),
                None => self.problems.push(Problem::new(at, "is not UTF-8")),
            }
        }
    }

    /// Reads the files there are and returns their paths.
    fn files(&mut self, config: &Config) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        match config {
            Config::Only(path) => paths.push(path.clone()),
            Config::Folder(folder) => {
                let main = folder.join("hobd.toml");
                paths.extend(main.exists().then_some(main));
                let drop_ins = folder.join("hobd.toml.d");
                match drop_ins_of(&drop_ins) {
                    Ok(found) => paths.extend(found),
                    Err(error) => self.problems.push(unreadable(&drop_ins, &error)),
                }
            }
        }
        for path in &paths {
            match text_of(path) {
                Ok(text) => self.file(path, &text),
                Err(error) => self.problems.push(unreadable(path, &error)),
            }
        }
        paths
    }

    fn file(&mut self, path: &Path, text: &str) {
        let source = |offset: usize| {
            let (line, column) = line_and_column(text, offset);
            Source::File {
                path: path.to_owned(),
                line,
                column,
            }
        };
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                let message = error.message().replace('\n', ", ");
                self.problems.push(Problem::new(source(offset), message));
                return;
            }
        };
        let mut entries = Vec::new();
        flatten("", table.get_ref(), &mut entries);
        // In the order of the file, so that problems are.
        entries.sort_by_key(|entry| entry.key_at);
        for entry in entries {
            let known = Key::find(&entry.name).is_some();
            let at = source(if known { entry.value_at } else { entry.key_at });
            self.set(&entry.name, &entry.given, at.clone(), at);
        }
    }

    /// Bounds between settings. One that nobody set gives way to one that somebody did.
    fn agree(&mut self) {
        if self.lower("sampling.max_tokens", "limits.max_tokens", |s| {
            s.sampling.max_tokens > s.limits.max_tokens
        }) {
            self.settings.sampling.max_tokens = self.settings.limits.max_tokens;
        }
        if self.lower("limits.timeout_default", "limits.timeout_max", |s| {
            s.limits.timeout_default > s.limits.timeout_max
        }) {
            self.settings.limits.timeout_default = self.settings.limits.timeout_max;
        }
        self.open_door();
    }

    /// A door over TCP needs a token, and somebody whose requests come through it.
    fn open_door(&mut self) {
        let http = &self.settings.http;
        if http.listen.is_none() {
            return;
        }
        let mut missing = Vec::new();
        if http.token_file.is_none() {
            missing.push(
                "http.listen needs http.token_file: without a token every program and user of \
                 this machine could ask",
            );
        }
        if http.uid.is_none() && self.settings.scope == Scope::System {
            missing.push(
                "http.listen needs http.uid: whom the token makes its bearer; hobd's own user may \
                 do more than a token should",
            );
        }
        let at = self.source("http.listen");
        let missing = missing.into_iter().map(|text| Problem::new(&at, text));
        self.problems.extend(missing);
    }

    /// Whether `small` exceeds `large` and may be lowered, as nobody set it; a problem if somebody
    /// did.
    fn lower(&mut self, small: &str, large: &str, exceeds: fn(&Settings) -> bool) -> bool {
        if !exceeds(&self.settings) {
            return false;
        }
        let source = self.source(small);
        if source == Source::Default {
            return true;
        }
        let text = format!(
            "{small} must be at most {large}, which is {} ({})",
            self.show(large),
            self.source(large)
        );
        self.problems.push(Problem::new(source, text));
        false
    }

    fn source(&self, name: &str) -> Source {
        let index = KEYS.iter().position(|key| key.name == name);
        index.map_or(Source::Default, |index| self.sources[index].clone())
    }

    fn show(&mut self, name: &str) -> String {
        Key::find(name).map_or_else(String::new, |key| (key.slot)(&mut self.settings).show())
    }
}

/// One line of a settings file.
struct Entry {
    name: String,
    given: Given,
    key_at: usize,
    value_at: usize,
}

fn flatten(prefix: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            _ => format!("{prefix}.{}", key.get_ref()),
        };
        let given = match value.get_ref() {
            DeValue::Table(inner) if TABLES.iter().any(|(table, _)| *table == name) => {
                flatten(&name, inner, entries);
                continue;
            }
            DeValue::String(text) => Given::Text(text.to_string()),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_or(Given::Other("such a large number"), Given::Integer),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or(Given::Other("such a number"), Given::Float),
            DeValue::Boolean(on) => Given::Switch(*on),
            DeValue::Datetime(_) => Given::Other("a date"),
            DeValue::Array(_) => Given::Other("a list"),
            DeValue::Table(_) => Given::Other("a table"),
        };
        entries.push(Entry {
            name,
            given,
            key_at: key.span().start,
            value_at: value.span().start,
        });
    }
}

/// The drop-ins in the order of their names; none if there is no such folder.
fn drop_ins_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let listing = match folder.read_dir() {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for item in listing {
        let path = item?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension() == Some(OsStr::new("toml")) && !hidden {
            paths.push(path);
        }
        if paths.len() > DROP_INS_MAX {
            return Err(io::Error::other(format!(
                "more than {DROP_INS_MAX} drop-ins"
            )));
        }
    }
    paths.sort();
    Ok(paths)
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(FILE_BYTES_MAX + 1);
    if file.read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "longer than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(path.display(), format!("can't be read: {error}"))
}

/// Line and column of the byte at `offset`, both counted from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// What to say about a name that is not in [`KEYS`].
fn unknown(name: &str) -> String {
    if TABLES.iter().any(|(table, _)| *table == name) {
        return format!("{name} is a table; write [{name}] on a line of its own");
    }
    match nearest_key(name) {
        Some(near) => format!("there is no setting {name}; did you mean {near}?"),
        None => format!("there is no setting {name}; `hobd --check-config` lists all"),
    }
}

/// A setting of the same name in another table, else the setting or table with the most similar
/// name.
fn nearest_key(name: &str) -> Option<&'static str> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let same = KEYS.iter().find(|key| key.split().1 == last);
    let tables = TABLES.iter().map(|(table, _)| *table);
    let all = KEYS.iter().map(|key| key.name).chain(tables);
    same.map(|key| key.name).or_else(|| nearest(name, all))
}

/// The most similar of `known`, unless more than a third of `name` would have to change.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    known
        .filter(|known| !known.is_empty())
        .min_by_key(distance)
        .filter(|near| distance(near) <= (name.chars().count() / 3).max(2))
}

/// Variables that look like a misspelt setting. Other programs may have `HOB_` variables of their
/// own, hence only a warning.
fn stray_variables(variables: &BTreeMap<String, OsString>) -> Vec<Problem> {
    let known = || {
        let settings = KEYS.iter().map(|key| key.variable);
        settings.chain(OTHER_VARIABLES)
    };
    variables
        .keys()
        .filter(|name| name.starts_with("HOB_") && known().all(|known| known != *name))
        .filter_map(|name| {
            let near = nearest(name, known())?;
            let text = format!("is not read; did you mean ${near}?");
            Some(Problem::new(Source::Variable(name.clone()), text))
        })
        .collect()
}
