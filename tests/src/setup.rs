//! What a daemon is started with.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::binary::{binary, test_store};
use crate::bus::Bus;
use crate::daemon::Daemon;
use crate::gguf::Gguf;
use crate::wait::eventually;

/// The real test model's name in the catalog.
pub const TEST_MODEL: &str = "smollm2-135m-instruct";

/// A folder of installed models.
#[derive(Debug)]
pub enum Store {
    /// The one that holds the real test model; read only.
    Shared(PathBuf),
    /// The test's own.
    Own(TempDir),
}

/// Everything that hobd is started with: a folder that stands for the user's home, models, an
/// engine, settings, perhaps a bus.
#[derive(Debug)]
pub struct Setup {
    home: TempDir,
    socket: PathBuf,
    store: Store,
    engine: PathBuf,
    toml: String,
    bus: Option<Bus>,
    /// Longest file that hobd may write, in KiB.
    file_limit: Option<u32>,
    /// Whether modes of files bind hobd even if it is root.
    bound_by_modes: bool,
    /// Folders that are on a file system mounted read-only, for hobd.
    read_only: Vec<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// The real engine and the real test model.
    ///
    /// # Panics
    /// If one of them is missing.
    pub fn real() -> Self {
        Self::new(Store::Shared(test_store()), "hob-engine")
            .toml(&format!("model = \"{TEST_MODEL}\""))
            // Tests run side by side: engines with all cores each would wait for one another.
            .env("HOB_ENGINE_THREADS", "1")
    }

    /// The fake engine, and a model named `fake` that loads at once.
    pub fn fake() -> Self {
        Self::fake_load("")
    }

    /// The fake engine, and a model named `fake` that loads as the words say; see the fake
    /// engine's `load.rs`.
    pub fn fake_load(words: &str) -> Self {
        Self::empty()
            .install("fake", &fake_model(words))
            .toml("model = \"fake\"")
    }

    /// The fake engine, and no model.
    pub fn empty() -> Self {
        Self::new(Store::Own(folder("hob-store-")), "fake-engine")
    }

    /// The real engine, and a store of one's own with the real test model in it.
    ///
    /// # Panics
    /// If one of them is missing.
    pub fn own() -> Self {
        let setup = Self::empty().with_real_engine();
        let shared = test_store();
        for kind in ["gguf", "toml"] {
            let name = format!("{TEST_MODEL}.{kind}");
            let copied = std::fs::copy(shared.join(&name), setup.models_dir().join(&name));
            copied.expect("copying the test model");
        }
        setup
    }

    fn new(store: Store, engine: &str) -> Self {
        let home = folder("hob-");
        Self {
            socket: home.path().join("run/hob/hob.sock"),
            home,
            store,
            engine: binary(engine),
            toml: String::new(),
            bus: None,
            file_limit: None,
            bound_by_modes: false,
            read_only: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The real engine in place of the fake one.
    #[must_use]
    pub fn with_real_engine(mut self) -> Self {
        self.engine = binary("hob-engine");
        self
    }

    /// Installs a model that tells the fake engine how to load it.
    #[must_use]
    pub fn fake_model(self, name: &str, words: &str) -> Self {
        self.install(name, &fake_model(words))
    }

    /// Installs a file as a model, by `hob models import`.
    ///
    /// # Panics
    /// If hob refuses it, or the store is the shared one.
    #[must_use]
    pub fn install(self, name: &str, gguf: &[u8]) -> Self {
        let Store::Own(store) = &self.store else {
            panic!("the shared store is not to be changed");
        };
        let file = self.home.path().join(format!("{name}.gguf"));
        std::fs::write(&file, gguf).unwrap();
        let output = import(self.home.path(), store.path(), &file, name);
        assert!(
            output.status.success(),
            "hob models import: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self
    }

    /// Adds lines to the settings file. Keys outside tables come first.
    #[must_use]
    pub fn toml(mut self, lines: &str) -> Self {
        self.toml.push_str(lines);
        self.toml.push('\n');
        self
    }

    /// A private session bus; without one hobd is told to do without.
    #[must_use]
    pub fn bus(self) -> Self {
        self.on_bus(Bus::session())
    }

    /// The given bus.
    #[must_use]
    pub fn on_bus(mut self, bus: Bus) -> Self {
        self.bus = Some(bus);
        self
    }

    /// Another hobd's socket instead of one of its own.
    #[must_use]
    pub fn on_socket(mut self, socket: PathBuf) -> Self {
        self.socket = socket;
        self
    }

    /// Lets hobd write no file longer than this, as if the disk were full beyond it.
    #[must_use]
    pub fn file_limit(mut self, kib: u32) -> Self {
        self.file_limit = Some(kib);
        self
    }

    /// Takes from hobd, if the tester is root, the right to write what its mode says nobody may.
    #[must_use]
    pub fn bound_by_modes(mut self) -> Self {
        self.bound_by_modes = true;
        self
    }

    /// Mounts folders read-only where hobd sees them, from its next start on. Needs root.
    pub fn mount_read_only(&mut self, folders: impl IntoIterator<Item = PathBuf>) {
        self.read_only.extend(folders);
    }

    /// Lets hobd believe that systemd connected its standard error to the journal.
    ///
    /// # Panics
    /// If the log can't be made.
    #[must_use]
    pub fn journal(self) -> Self {
        let log = std::fs::File::create(self.log()).unwrap();
        let about = log.metadata().unwrap();
        let stream = format!("{}:{}", about.dev(), about.ino());
        self.env("JOURNAL_STREAM", &stream)
    }

    /// Adds a variable to hobd's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder that stands for the user's home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The file that hobd's output goes to.
    pub(crate) fn log(&self) -> PathBuf {
        self.home().join("hobd.log")
    }

    /// The folder of installed models.
    pub fn models_dir(&self) -> &Path {
        match &self.store {
            Store::Shared(path) => path,
            Store::Own(folder) => folder.path(),
        }
    }

    /// The socket that hobd will listen on.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// The private bus, if there is one.
    pub fn private_bus(&self) -> Option<&Bus> {
        self.bus.as_ref()
    }

    /// A program that sees this setup as its user's environment, and nothing else.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        environment(&mut command, self.home.path(), self.models_dir());
        command.env("HOB_SOCKET", self.socket());
        if let Some(bus) = &self.bus {
            command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
        }
        command
    }

    /// hobd with this setup, not started yet.
    ///
    /// # Panics
    /// If the settings can't be written.
    pub fn hobd(&self) -> Command {
        let config = self.home.path().join("hobd.toml");
        let dbus = self.bus.is_some();
        std::fs::write(&config, format!("dbus = {dbus}\n{}", self.toml)).unwrap();
        let mut command = self.hobd_within_limits();
        command
            .arg("--user")
            .arg("--config")
            .arg(config)
            .env("HOB_ENGINE_PATH", &self.engine)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// hobd without arguments, behind what takes from it what this setup does not grant.
    fn hobd_within_limits(&self) -> Command {
        if let Some(kib) = self.file_limit {
            // With the signal ignored, a write beyond the limit fails. `ulimit` counts in blocks of
            // 512 bytes.
            let script = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
            let mut shell = self.command(Path::new("sh"));
            shell.args(["-c", script]).arg((2 * kib).to_string());
            shell.arg(binary("hobd"));
            return shell;
        }
        if !self.read_only.is_empty() {
            let script = "for folder in \"$@\"; do
                    [ \"$folder\" = -- ] && break
                    mount --bind \"$folder\" \"$folder\" && mount -o remount,bind,ro \"$folder\" || exit
                    shift
                done
                shift; exec \"$@\"";
            let mut unshare = self.command(Path::new("unshare"));
            unshare.args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
            ]);
            unshare.args(&self.read_only).arg("--").arg(binary("hobd"));
            return unshare;
        }
        if self.bound_by_modes && rustix::process::geteuid().is_root() {
            let mut setpriv = self.command(Path::new("setpriv"));
            setpriv.arg("--bounding-set=-dac_override,-dac_read_search");
            setpriv.arg(binary("hobd"));
            return setpriv;
        }
        self.command(&binary("hobd"))
    }

    /// Starts hobd, and waits until its socket answers.
    ///
    /// # Panics
    /// If it ends instead.
    pub async fn start(self) -> Daemon {
        let mut daemon = Daemon::spawn(self);
        let client = daemon.client();
        eventually("hobd answers on its socket", async || {
            daemon.assert_running();
            client.connect().await.ok()
        })
        .await;
        daemon
    }

    /// Starts hobd, and waits until a model is ready.
    ///
    /// # Panics
    /// If it ends instead, or the model can't be loaded.
    pub async fn ready(self) -> Daemon {
        let daemon = self.start().await;
        daemon.until_ready().await;
        daemon
    }

    /// Runs hobd with settings that it must refuse, and returns what it said.
    ///
    /// # Panics
    /// If it goes on running.
    pub async fn refused(&self) -> Output {
        let mut command = tokio::process::Command::from(self.hobd());
        command.kill_on_drop(true);
        let output = crate::wait::patiently("hobd refuses to start", command.output())
            .await
            .expect("running hobd");
        assert!(!output.status.success(), "hobd exited 0: {output:?}");
        output
    }
}

fn folder(prefix: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .expect("a temporary folder")
}

fn fake_model(words: &str) -> Vec<u8> {
    if words.is_empty() {
        Gguf::tiny("fake").bytes()
    } else {
        Gguf::tiny(&format!("fake-load: {words}")).bytes()
    }
}

/// Runs `hob models import` as a user whose home is `home`.
fn import(home: &Path, store: &Path, file: &Path, name: &str) -> Output {
    let mut command = Command::new(binary("hob"));
    environment(&mut command, home, store);
    command
        .args(["models", "import"])
        .arg(file)
        .args(["--name", name])
        .output()
        .expect("running hob")
}

/// The environment of a user whose home is `home`, with nothing of the tester's own.
fn environment(command: &mut Command, home: &Path, store: &Path) {
    let run = home.join("run");
    std::fs::create_dir_all(&run).expect("a runtime folder");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", run)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_STATE_HOME", home.join("state"))
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("HOB_MODELS_DIR", store);
}
