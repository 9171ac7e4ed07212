//! Settings for people: the commented default file, and what is in force.

use std::path::Path;

use super::key::{KEYS, TABLES};
use super::{Loaded, Places, Scope, Settings};

/// Width of a comment's line in the default file, in characters.
const WIDTH: usize = 96;

const HEAD: &str = "Settings of hobd, the hob daemon. Every line below shows a default: remove the # to change \
it. Settings in hobd.toml.d/*.toml beside this file win over it, in the order of the files' names; \
environment variables (HOB_LIMITS_QUEUE for queue in [limits]) win over both, and flags over all. \
Values are checked before anything starts: `hobd --check-config` says what is in force and why. \
Restart hobd after a change.";

const REFERENCE_HEAD: &str = "# Settings

Every setting of hobd, made by `scripts/docs` from the table that hobd itself reads settings by. Defaults
are those of the system's hobd; with `--user`, folders and the socket are the user's own.

Settings come from, each winning over the ones before: the defaults; `/etc/hob/hobd.toml`, or
`~/.config/hob/hobd.toml` with `--user`; `hobd.toml.d/*.toml` beside it; the environment; flags
(`--set TABLE.NAME=VALUE`). `hobd --check-config` shows what is in force and where it comes from. A value that
does not fit, or a name that there is not, is an error with file and line before anything starts.
";

/// The defaults of system scope.
fn system_defaults() -> Settings {
    let places = Places {
        socket: "/run/hob/hob.sock".into(),
        models_dir: "/var/lib/hob/models".into(),
        conversations_dir: "/var/lib/hob/conversations".into(),
        pins_dir: "/var/lib/hob/pins".into(),
        snapshots_dir: "/var/cache/hob/snapshots".into(),
        tuning_dir: "/var/lib/hob/tuning".into(),
        engine: super::ENGINES.into(),
    };
    Settings::defaults(Scope::System, places)
}

/// The commented default file of system scope.
pub fn default_file() -> String {
    let mut settings = system_defaults();
    let mut file = String::new();
    comment(&mut file, HEAD);
    for (table, about) in TABLES {
        file.push('\n');
        comment(&mut file, about);
        if !table.is_empty() {
            file.extend(["[", table, "]\n"]);
        }
        for key in KEYS {
            let (its_table, name) = key.split();
            if its_table != table {
                continue;
            }
            let slot = (key.slot)(&mut settings);
            file.push('\n');
            comment(&mut file, key.about);
            comment(&mut file, &format!("It must be {}.", slot.expected()));
            file.extend(["#", name, " = ", &slot.show(), "\n"]);
        }
    }
    file
}

/// Every setting as a page of Markdown: its name, variable, bounds, default and meaning.
pub fn reference() -> String {
    let mut settings = system_defaults();
    let mut page = String::from(REFERENCE_HEAD);
    for (table, about) in TABLES {
        let title = match table {
            "" => "At the top".to_owned(),
            table => format!("`[{table}]`"),
        };
        page.extend(["\n## ", &title, "\n\n", about, "\n"]);
        for key in KEYS {
            let (its_table, name) = key.split();
            if its_table != table {
                continue;
            }
            let slot = (key.slot)(&mut settings);
            page.extend([
                format!("\n### `{name}`\n\n{}\n\n", key.about),
                format!("- It must be {}.\n", slot.expected()),
                format!("- Default: `{}`\n", slot.show()),
                format!("- Environment: `{}`\n", key.variable),
            ]);
        }
    }
    page
}

/// What is in force and where each setting came from, as a settings file.
pub fn effective(loaded: &Loaded) -> String {
    let mut settings = loaded.settings.clone();
    let mut text = String::new();
    let read = |path: &Path| format!("# read {}\n", path.display());
    text.extend(loaded.files.iter().map(|path| read(path)));
    for (table, _) in TABLES {
        if !table.is_empty() {
            text.extend(["\n[", table, "]\n"]);
        }
        for (key, source) in KEYS.iter().zip(&loaded.sources) {
            let (its_table, name) = key.split();
            if its_table == table {
                let line = format!("{name} = {}", (key.slot)(&mut settings).show());
                text.extend([format!("{line:<48} # {source}\n")]);
            }
        }
    }
    text
}

/// Adds `text` as comment lines of at most [`WIDTH`] characters.
fn comment(file: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            file.push_str(&line);
            file.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    file.push_str(&line);
    file.push('\n');
}
