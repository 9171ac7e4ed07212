#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::*;
use crate::cli::ColorChoice;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: ModelsCommand,
    #[command(flatten)]
    options: ModelsOptions,
}

/// A folder with model files, a catalog of them, and a store.
struct Desk {
    folder: tempfile::TempDir,
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// The smallest model that passes, with a name that would act on a terminal: 64 layers, 64 wide.
pub(crate) fn gguf() -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(6_u64.to_le_bytes());
    for (key, value) in [
        ("general.architecture", "llama"),
        ("general.name", "a\x1b[2Jb"),
    ] {
        bytes.extend([text(key), 8_u32.to_le_bytes().to_vec(), text(value)].concat());
    }
    for key in ["block_count", "embedding_length", "context_length"] {
        bytes.extend(text(&format!("llama.{key}")));
        bytes.extend([4_u32.to_le_bytes(), 64_u32.to_le_bytes()].concat());
    }
    bytes.extend(text("tokenizer.ggml.tokens"));
    bytes.extend([9_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat());
    bytes.extend([1_u64.to_le_bytes().to_vec(), text("x")].concat());
    bytes.extend(text("w"));
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(8_u64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 32, 0);
    bytes
}

impl Desk {
    /// A catalog of `free` and `bound`, whose licence must be accepted; both are one file.
    fn new() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(desk.file(), gguf()).unwrap();
        let probe = desk.run(&["import", desk.file().to_str().unwrap(), "--name", "probe"]);
        assert_eq!(probe.unwrap().default_changed, ModelName::new("probe").ok());
        let digest = Store::open(desk.store());
        let digest = digest.get(&ModelName::new("probe").unwrap()).unwrap();
        let digest = digest.manifest.sha256.to_string();
        desk.run(&["remove", "probe", "--yes"]).unwrap();
        let model = |name: &str, licence: &str| {
            format!(
                "[[model]]\nname = {name:?}\nfile = \"{name}.gguf\"\nsha256 = {digest:?}\n\
                 parameters = \"1M\"\nquantization = \"F32\"\nlicence = {licence:?}\n\
                 description = \"\"\nsources = [{{ path = {:?} }}]\n",
                desk.file()
            )
        };
        let catalog = format!(
            "default = \"free\"\n[[licence]]\nid = \"MIT\"\nterms = \"https://example.org/mit\"\n\
             [[licence]]\nid = \"Own\"\nterms = \"https://example.org/own\"\nmust_accept = true\n\
             {}{}",
            model("free", "MIT"),
            model("bound", "Own")
        );
        fs::write(desk.catalog(), catalog).unwrap();
        desk
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("Some Model.gguf")
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn catalog(&self) -> PathBuf {
        self.folder.path().join("models.toml")
    }

    fn run(&self, arguments: &[&str]) -> Result<Outcome, Failure> {
        let mut line = Line::try_parse_from(std::iter::once(&"models").chain(arguments)).unwrap();
        line.options.models_dir = Some(self.store());
        line.options.catalog = self.catalog().exists().then(|| self.catalog());
        let mut output = Output::new(ColorChoice::Never);
        run_for(line.command, &line.options, false, &mut output)
    }

    fn default(&self) -> Option<String> {
        let default = Store::open(self.store()).default_model();
        default.ok().map(String::from)
    }
}

fn changed(outcome: Result<Outcome, Failure>) -> Option<String> {
    outcome.unwrap().default_changed.map(String::from)
}

#[test]
fn the_first_model_is_the_default_until_another_is_chosen() {
    let desk = Desk::new();
    assert_eq!(changed(desk.run(&["pull"])).as_deref(), Some("free"));
    assert_eq!(changed(desk.run(&["pull", "free"])), None);
    let bound = desk.run(&["pull", "bound", "--accept-licence"]);
    assert_eq!(changed(bound), None);
    // Two, and none chosen.
    assert_eq!(desk.default(), None);
    assert_eq!(
        changed(desk.run(&["use", "BOUND"])).as_deref(),
        Some("bound")
    );
    assert_eq!(desk.default().as_deref(), Some("bound"));
    for arguments in [
        &["list"][..],
        &["list", "--available"],
        &["verify"],
        &["show", "free"],
    ] {
        desk.run(arguments).unwrap();
        desk.run(&[arguments, &["--json"]].concat()).unwrap();
    }
    desk.run(&["remove", "bound", "--yes"]).unwrap();
    assert_eq!(desk.default().as_deref(), Some("free"));
}

#[test]
fn a_licence_must_be_accepted() {
    let desk = Desk::new();
    let failure = desk.run(&["pull", "bound"]).unwrap_err();
    assert_eq!(failure.status, ExitStatus::Usage);
    assert!(failure.message.contains("https://example.org/own"));
    assert!(failure.hint.unwrap().contains("--accept-licence"));
    assert_eq!(desk.default(), None);
}

#[test]
fn wrong_names_are_answered_with_near_ones() {
    let desk = Desk::new();
    let hint = |arguments: &[&str]| desk.run(arguments).unwrap_err().hint.unwrap();
    assert_eq!(hint(&["pull", "bond"]), "Did you mean `bound`?");
    assert!(hint(&["pull", "zzz"]).contains("--available"));
    for command in ["show", "use", "verify"] {
        let hint = hint(&[command, "free"]);
        let other = "Run `hob models pull free --models-dir /";
        assert!(hint.starts_with(other), "{hint}");
    }
    desk.run(&["pull"]).unwrap();
    assert_eq!(hint(&["show", "fre"]), "Did you mean `free`?");
    let failure = desk.run(&["use", "../x"]).unwrap_err();
    assert_eq!(failure.status, ExitStatus::Usage);
}

#[test]
fn nothing_is_removed_unasked() {
    let desk = Desk::new();
    desk.run(&["pull"]).unwrap();
    let failure = desk.run(&["remove", "free"]).unwrap_err();
    assert!(failure.hint.unwrap().contains("--yes"));
    assert_eq!(desk.default().as_deref(), Some("free"));
}

#[test]
fn a_file_gets_a_name_and_keeps_to_the_catalog() {
    let desk = Desk::new();
    let file = desk.file();
    let file = file.to_str().unwrap();
    let outcome = desk.run(&["import", file]);
    assert_eq!(changed(outcome).as_deref(), Some("some-model"));
    // What is called like a model of the catalog must be that model.
    let other = desk.folder.path().join("other.gguf");
    let mut bytes = gguf();
    *bytes.last_mut().unwrap() = 1;
    fs::write(&other, bytes).unwrap();
    let other = other.to_str().unwrap();
    let failure = desk.run(&["import", other, "--name", "free"]).unwrap_err();
    assert!(failure.message.contains("expected"), "{failure}");
    assert!(failure.hint.unwrap().contains("another --name"));
    let digest = "0".repeat(64);
    let failure = desk.run(&["import", other, "--sha256", &digest]);
    assert!(failure.unwrap_err().message.contains(&digest));
    let taken = desk.run(&["import", other, "--name", "some-model"]);
    assert!(taken.unwrap_err().message.contains("installed already"));
    desk.run(&["show", other]).unwrap();
    assert!(desk.run(&["show", other, "--template"]).is_err());
}

#[test]
fn a_damaged_model_is_found_out() {
    let desk = Desk::new();
    desk.run(&["pull"]).unwrap();
    let model = desk.store().join("free.gguf");
    let mut bytes = fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() = 1;
    fs::remove_file(&model).unwrap();
    fs::write(&model, bytes).unwrap();
    let failure = desk.run(&["verify"]).unwrap_err();
    assert!(failure.message.contains("sha256"), "{failure}");
    let again = desk.run(&["pull"]).unwrap_err();
    assert!(again.hint.unwrap().contains("hob models remove free"));
}

#[test]
fn the_options_of_questions_are_others() {
    use crate::cli::{Cli, Command};

    for line in ["models --system list --json", "models list --json --system"] {
        let cli = Cli::try_parse_from(std::iter::once("hob").chain(line.split(' '))).unwrap();
        cli.check().unwrap();
        let Some(Command::Models { options, .. }) = cli.command else {
            panic!("{line}");
        };
        assert!(options.system && options.json);
        assert_eq!(folder(&options).unwrap(), Path::new("/var/lib/hob/models"));
    }
}
