#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hob_ipc::message::SandboxPolicy;
use proptest::prelude::*;

use super::key::{KEYS, TABLES};
use super::load::{Config, Flag};
use super::{Layers, Loaded, Places, Problems, Scope, Settings, Source, document, load};

fn places() -> Places {
    Places {
        socket: "/run/hob/hob.sock".into(),
        models_dir: "/var/lib/hob/models".into(),
        conversations_dir: "/var/lib/hob/conversations".into(),
        pins_dir: "/var/lib/hob/pins".into(),
        snapshots_dir: "/var/cache/hob/snapshots".into(),
        tuning_dir: "/var/cache/hob/tuning".into(),
        engine: super::ENGINES.into(),
    }
}

fn layers(folder: &Path) -> Layers {
    Layers {
        scope: Scope::System,
        places: places(),
        config: Config::Folder(folder.to_owned()),
        variables: BTreeMap::new(),
        flags: Vec::new(),
    }
}

/// The settings, whoever set them.
fn values(mut settings: Settings) -> Settings {
    settings.tuning.free = crate::tuning::Free::default();
    settings
}

fn flag(flag: &'static str, key: &str, value: &str) -> Flag {
    Flag {
        flag,
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn with_file(text: &str) -> (Result<Loaded, Problems>, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hobd.toml");
    fs::write(&file, text).unwrap();
    (load(layers(folder.path())), file)
}

/// The problems of a main file, without its path.
fn problems(text: &str) -> Vec<String> {
    let (loaded, file) = with_file(text);
    let prefix = format!("{}", file.display());
    let all = loaded.unwrap_err().to_string();
    all.lines()
        .map(|line| line.replace(&prefix, "hobd.toml"))
        .collect()
}

fn source_of<'a>(loaded: &'a Loaded, name: &str) -> &'a Source {
    let index = KEYS.iter().position(|key| key.name == name).unwrap();
    &loaded.sources[index]
}

#[test]
fn without_any_layer_the_defaults_hold() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(layers(folder.path())).unwrap();
    assert_eq!(loaded.settings, Settings::defaults(Scope::System, places()));
    assert!(loaded.sources.iter().all(|s| *s == Source::Default));
    assert!(loaded.files.is_empty());
}

#[test]
fn each_layer_wins_over_those_before() {
    let folder = tempfile::tempdir().unwrap();
    let drop_ins = folder.path().join("hobd.toml.d");
    fs::create_dir(&drop_ins).unwrap();
    let main =
        "[limits]\nqueue = 1\nper_uid = 1\nconnections = 1\nbody_bytes = 2000\nmax_tokens = 600\n";
    fs::write(folder.path().join("hobd.toml"), main).unwrap();
    let early = "limits.per_uid = 2\nlimits.connections = 2\nlimits.body_bytes = 3000\n";
    fs::write(drop_ins.join("10-early.toml"), early).unwrap();
    let late = "[limits]\nconnections = 3\nbody_bytes = 4000\nmax_tokens = 700\n";
    fs::write(drop_ins.join("20-late.toml"), late).unwrap();
    fs::write(drop_ins.join("30-backup.toml~"), "nonsense").unwrap();
    fs::write(drop_ins.join(".hidden.toml"), "nonsense").unwrap();
    let mut layers = layers(folder.path());
    layers.variables = BTreeMap::from([
        ("HOB_LIMITS_BODY_BYTES".to_owned(), OsString::from("5000")),
        ("HOB_LIMITS_MAX_TOKENS".to_owned(), OsString::from("800")),
        ("HOB_MODEL".to_owned(), OsString::new()),
    ]);
    layers.flags = vec![flag("--set", "limits.max_tokens", "900")];

    let loaded = load(layers).unwrap();
    let limits = &loaded.settings.limits;
    assert_eq!(limits.queue, 1);
    assert_eq!(limits.per_uid, 2);
    assert_eq!(limits.connections, 3);
    assert_eq!(limits.body_bytes, 5000);
    assert_eq!(limits.max_tokens, 900);
    assert_eq!(loaded.settings.model, None, "an empty variable is unset");

    let source = |name| source_of(&loaded, name).to_string();
    let shown = |file: &Path, place: &str| format!("{}:{place}", file.display());
    assert_eq!(
        source("limits.queue"),
        shown(&folder.path().join("hobd.toml"), "2:9")
    );
    assert_eq!(
        source("limits.per_uid"),
        shown(&drop_ins.join("10-early.toml"), "1:18")
    );
    assert_eq!(
        source("limits.connections"),
        shown(&drop_ins.join("20-late.toml"), "2:15")
    );
    assert_eq!(source("limits.body_bytes"), "$HOB_LIMITS_BODY_BYTES");
    assert_eq!(source("limits.max_tokens"), "--set");
    assert_eq!(source("limits.header_timeout"), "default");
    assert_eq!(loaded.files.len(), 3);
}

#[test]
fn a_file_of_ones_own_replaces_main_file_and_drop_ins() {
    let folder = tempfile::tempdir().unwrap();
    let drop_ins = folder.path().join("hobd.toml.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(folder.path().join("hobd.toml"), "nonsense").unwrap();
    fs::write(drop_ins.join("10.toml"), "nonsense").unwrap();
    let own = folder.path().join("own.toml");
    fs::write(&own, "[engine]\nsandbox = \"degraded\"\nthreads = 3\n").unwrap();
    let mut layers = layers(folder.path());
    layers.config = Config::Only(own.clone());

    let loaded = load(layers.clone()).unwrap();
    assert_eq!(loaded.settings.engine.sandbox, SandboxPolicy::Degraded);
    assert_eq!(loaded.settings.engine.threads, Some(3));
    assert_eq!(loaded.files, std::slice::from_ref(&own));

    fs::remove_file(&own).unwrap();
    let error = load(layers).unwrap_err().to_string();
    let expected = format!(
        "{}: can't be read: No such file or directory (os error 2)",
        own.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn every_kind_of_value_is_read() {
    let (loaded, _) = with_file(
        "socket = \"/tmp/h.sock\"\nmodel = \"tiny\"\ndbus = false\n\
         [engine]\nload_timeout = \"2m\"\nhang_timeout = \"1m 30s\"\nthreads = 0\nn_ctx = 0x1000\n\
         [limits]\nheader_timeout = \"500ms\"\nbody_bytes = 1_000_000\n\
         [sampling]\ntemperature = 1\ntop_p = 0.5\n",
    );
    let settings = loaded.unwrap().settings;
    assert_eq!(settings.socket, Path::new("/tmp/h.sock"));
    assert_eq!(settings.model.as_deref(), Some("tiny"));
    assert!(!settings.dbus);
    assert_eq!(settings.engine.load_timeout, Duration::from_secs(120));
    assert_eq!(settings.engine.hang_timeout, Duration::from_secs(90));
    assert_eq!(settings.engine.threads, None);
    assert_eq!(settings.engine.n_ctx, 4096);
    assert_eq!(settings.limits.header_timeout, Duration::from_millis(500));
    assert_eq!(settings.limits.body_bytes, 1_000_000);
    assert!((settings.sampling.temperature - 1.0).abs() < f32::EPSILON);
    assert!((settings.sampling.top_p - 0.5).abs() < f32::EPSILON);
}

#[test]
fn problems_name_place_bounds_and_value_all_at_once() {
    let text = "dbus = 1\n\
                socket = \"hob.sock\"\n\
                [engine]\n  n_ctx = 100\nsandbox = \"on\"\nload_timeout = 30\n\
                [limits]\nqueue = \"many\"\nconnections = [1]\n\
                [sampling]\ntemperature = 2.5\ntop_k = -1\ntop_p = nan\n";
    assert_eq!(
        problems(text),
        [
            "hobd.toml:1:8: dbus must be true or false, not 1",
            "hobd.toml:2:10: socket must be an absolute path of at most 107 bytes, not \"hob.sock\"",
            "hobd.toml:4:11: engine.n_ctx must be a whole number from 256 to 131072, not 100",
            "hobd.toml:5:11: engine.sandbox must be \"required\", \"degraded\" or \"off\", not \"on\"",
            "hobd.toml:6:16: engine.load_timeout must be a duration from 100ms to 1h, such as \"30s\", \"2m\" or \"500ms\", not 30; add a unit",
            "hobd.toml:8:9: limits.queue must be a whole number from 1 to 1024, not \"many\"",
            "hobd.toml:9:15: limits.connections must be a whole number from 1 to 4096, not a list",
            "hobd.toml:11:15: sampling.temperature must be a number from 0 to 2, not 2.5",
            "hobd.toml:12:9: sampling.top_k must be a whole number from 0 to 1000, not -1",
            "hobd.toml:13:9: sampling.top_p must be a number from 0.001 to 1, not NaN",
        ]
    );
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    let text = "modle = \"tiny\"\nn_ctx = 512\nlimits = 3\nfrobnicate = true\n\
                [engine]\nsandbx = \"off\"\n[samplng]\ntop_k = 1\n";
    assert_eq!(
        problems(text),
        [
            "hobd.toml:1:1: there is no setting modle; did you mean model?",
            "hobd.toml:2:1: there is no setting n_ctx; did you mean engine.n_ctx?",
            "hobd.toml:3:1: limits is a table; write [limits] on a line of its own",
            "hobd.toml:4:1: there is no setting frobnicate; `hobd --check-config` lists all",
            "hobd.toml:6:1: there is no setting engine.sandbx; did you mean engine.sandbox?",
            "hobd.toml:7:2: there is no setting samplng; did you mean sampling?",
        ]
    );
}

#[test]
fn broken_toml_is_placed() {
    for (text, place) in [
        ("[limits]\nqueue = \n", "hobd.toml:2:"),
        ("[limits]\nqueue = 1\nqueue = 2\n", "hobd.toml:3:1: "),
        ("model = \"ä\" x\n", "hobd.toml:1:13: "),
        ("[limits\n", "hobd.toml:1:"),
    ] {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(place), "{problems:?}");
    }
}

#[test]
fn oversized_and_binary_files_are_refused() {
    let (loaded, file) = with_file(&"#".repeat(300_000));
    let expected = format!(
        "{}: can't be read: longer than 262144 bytes",
        file.display()
    );
    assert_eq!(loaded.unwrap_err().to_string(), expected);

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hobd.toml"), b"\xff\xfe").unwrap();
    let error = load(layers(folder.path())).unwrap_err().to_string();
    assert!(error.contains("hobd.toml: can't be read: "), "{error}");
}

#[test]
fn variables_and_flags_are_checked_like_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut layers = layers(folder.path());
    layers.variables = BTreeMap::from([
        ("HOB_DBUS".to_owned(), OsString::from("yes")),
        ("HOB_ENGINE_N_CTX".to_owned(), OsString::from("4k")),
        ("HOB_MODEL".to_owned(), OsString::from_vec(vec![0xff])),
    ]);
    layers.flags = vec![
        flag("--model", "model", "../secret"),
        flag("--set", "limits.stall_timeout", "10"),
        flag("--set", "limit.queue", "10"),
    ];
    let error = load(layers).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines,
        [
            "$HOB_MODEL: is not UTF-8",
            "$HOB_DBUS: dbus must be true or false, not \"yes\"",
            "$HOB_ENGINE_N_CTX: engine.n_ctx must be a whole number from 256 to 131072, not \"4k\"",
            "--model: model must be a model's name, or \"default\", not \"../secret\"",
            "--set: limits.stall_timeout must be a duration from 100ms to 1h, such as \"30s\", \"2m\" or \"500ms\", not \"10\"",
            "--set: there is no setting limit.queue; did you mean limits.queue?",
        ]
    );
}

#[test]
fn a_misspelt_variable_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let mut layers = layers(folder.path());
    for name in ["HOB_LIMITS_QEUE", "HOB_LOG", "HOB_SOMETHING_ELSE", "HOBBY"] {
        layers
            .variables
            .insert(name.to_owned(), OsString::from("7"));
    }
    let warnings = load(layers).unwrap().warnings;
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["$HOB_LIMITS_QEUE: is not read; did you mean $HOB_LIMITS_QUEUE?"]
    );
}

#[test]
fn a_default_gives_way_to_a_bound_but_a_choice_does_not() {
    let (loaded, _) = with_file("[limits]\nmax_tokens = 100\ntimeout_max = \"1m\"\n");
    let settings = loaded.unwrap().settings;
    assert_eq!(settings.sampling.max_tokens, 100);
    assert_eq!(settings.limits.timeout_default, Duration::from_secs(60));

    assert_eq!(
        problems(
            "[sampling]\nmax_tokens = 8000\n[limits]\ntimeout_default = \"2h\"\ntimeout_max = \"1h\"\n"
        ),
        [
            "hobd.toml:2:14: sampling.max_tokens must be at most limits.max_tokens, which is 4096 (default)",
            "hobd.toml:4:19: limits.timeout_default must be at most limits.timeout_max, which is \"1h\" (hobd.toml:5:15)",
        ]
    );
}

#[test]
fn the_door_over_tcp_is_shut_unless_it_is_safe_to_open() {
    let whole = "[http]\nlisten = \"127.0.0.1:8181\"\ntoken_file = \"/etc/hob/token\"\nuid = 990\n";
    let http = with_file(whole).0.unwrap().settings.http;
    assert_eq!(http.listen, Some("127.0.0.1:8181".parse().unwrap()));
    assert_eq!(
        http.token_file.as_deref(),
        Some(Path::new("/etc/hob/token"))
    );
    assert_eq!(http.uid, Some(990));
    for address in ["127.255.0.3:1", "[::1]:65535"] {
        let text = whole.replace("127.0.0.1:8181", address);
        let listen = with_file(&text).0.unwrap().settings.http.listen;
        assert_eq!(listen, Some(address.parse().unwrap()));
    }
    for address in [
        "0.0.0.0:8181",
        "[::]:8181",
        "192.168.0.2:8181",
        "[::ffff:127.0.0.1]:8181",
        "localhost:8181",
        "127.0.0.1",
        "127.0.0.1:0",
        "8181",
        "",
    ] {
        let text = whole.replace("127.0.0.1:8181", address);
        let expected = format!(
            "hobd.toml:2:10: http.listen must be \"off\", or an address of this machine alone with \
             a port: \"127.0.0.1:PORT\" or \"[::1]:PORT\", not \"{address}\""
        );
        assert_eq!(problems(&text), [expected]);
    }
    assert_eq!(
        problems("[http]\nlisten = \"127.0.0.1:8181\"\n"),
        [
            "hobd.toml:2:10: http.listen needs http.token_file: without a token every program and user of this machine could ask",
            "hobd.toml:2:10: http.listen needs http.uid: whom the token makes its bearer; hobd's own user may do more than a token should",
        ]
    );
    let root = problems(&whole.replace("990", "0"));
    assert_eq!(
        root[0],
        "hobd.toml:4:7: http.uid must be a whole number from 1 to 4294967294, or \"own\", not 0"
    );
    // A user's own hobd has nobody else to be.
    let mut layers = layers(Path::new("/nowhere"));
    layers.scope = Scope::User;
    layers.flags = vec![
        flag("--set", "http.listen", "[::1]:8181"),
        flag("--set", "http.token_file", "/token"),
    ];
    assert_eq!(load(layers).unwrap().settings.http.uid, None);
}

#[test]
fn the_default_file_is_the_one_that_is_generated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd/hobd.toml");
    let installed = fs::read_to_string(path).unwrap();
    assert_eq!(
        installed,
        document::default_file(),
        "run `hobd generate config > systemd/hobd.toml`"
    );
}

#[test]
fn the_default_file_uncommented_changes_nothing() {
    let uncommented: String = document::default_file()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let (loaded, _) = with_file(&uncommented);
    let loaded = loaded.unwrap();
    let defaults = Settings::defaults(Scope::System, places());
    // What a file says is set, though it is the default.
    assert_ne!(loaded.settings.tuning.free, defaults.tuning.free);
    assert_eq!(values(loaded.settings), values(defaults));
    for (key, source) in KEYS.iter().zip(&loaded.sources) {
        assert!(
            matches!(source, Source::File { .. }),
            "{} is missing",
            key.name
        );
    }
}

#[test]
fn what_is_in_force_can_be_read_back() {
    let (loaded, _) = with_file("[sampling]\ntemperature = 0.75\n[engine]\nthreads = 2\n");
    let loaded = loaded.unwrap();
    let text = document::effective(&loaded);
    let line = text
        .lines()
        .find(|line| line.starts_with("temperature"))
        .unwrap();
    assert!(line.starts_with("temperature = 0.75 "), "{line}");
    assert!(line.ends_with("hobd.toml:2:15"), "{line}");
    let (again, _) = with_file(&text);
    assert_eq!(values(again.unwrap().settings), values(loaded.settings));
}

#[test]
fn names_and_variables_are_unique_and_belong_together() {
    let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), KEYS.len());
    for key in KEYS {
        let expected = format!("HOB_{}", key.name.replace('.', "_").to_uppercase());
        assert_eq!(key.variable, expected);
        let (table, _) = key.split();
        assert!(TABLES.iter().any(|(known, _)| *known == table), "{table}");
        assert!(key.about.ends_with('.'), "{}", key.about);
    }
}

#[test]
fn systemds_folders_count_in_system_scope_only() {
    let variables = BTreeMap::from([
        (
            "RUNTIME_DIRECTORY".to_owned(),
            OsString::from("/run/a:/run/b"),
        ),
        ("STATE_DIRECTORY".to_owned(), OsString::from("/var/lib/a")),
        (
            "CONFIGURATION_DIRECTORY".to_owned(),
            OsString::from("/etc/a"),
        ),
    ]);
    let hobd = Path::new("/usr/bin/hobd");
    let (places, config) = Places::of(Scope::System, &variables, hobd).unwrap();
    assert_eq!(places.socket, Path::new("/run/a/hob.sock"));
    assert_eq!(places.models_dir, Path::new("/var/lib/a/models"));
    assert_eq!(config, Path::new("/etc/a"));
    let (places, config) = Places::of(Scope::User, &variables, hobd).unwrap();
    assert!(!places.socket.starts_with("/run/a"));
    assert!(!places.models_dir.starts_with("/var/lib/a"));
    assert_ne!(config, Path::new("/etc/a"));
}

#[test]
fn an_engine_beside_hobd_is_preferred() {
    let folder = tempfile::tempdir().unwrap();
    let hobd = folder.path().join("hobd");
    assert_eq!(super::engine_beside(&hobd), Path::new(super::ENGINES));
    fs::write(folder.path().join("hob-engine"), "").unwrap();
    assert_eq!(
        super::engine_beside(&hobd),
        folder.path().join("hob-engine")
    );
}

proptest! {
    /// Whatever a file says, loading ends with valid settings or with problems that name the file.
    #[test]
    fn any_text_is_loaded_or_refused(text in "[a-z_.=\\[\\]\" 0-9\n#'-]{0,80}") {
        if let Err(problems) = with_file(&text).0 {
            prop_assert!(problems.0.iter().all(|problem| problem.at.contains("hobd.toml")));
        }
    }

    #[test]
    fn a_value_within_bounds_is_taken_and_any_other_refused(value in any::<i64>(), small in 0_i64..300_000) {
        for value in [value, small] {
            let (loaded, _) = with_file(&format!("[engine]\nn_ctx = {value}\n"));
            let taken = loaded.ok().map(|loaded| i64::from(loaded.settings.engine.n_ctx));
            prop_assert_eq!(taken, (256..=131_072).contains(&value).then_some(value));
        }
    }
}
