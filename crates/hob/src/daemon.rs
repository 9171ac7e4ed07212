//! A hobd of hob's own, for as long as something is measured with it: on a socket and a folder that nobody
//! else may use and that go with it, off the bus, without the user's settings, and keeping nothing.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hob_models::ModelName;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Client, ClientError};
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// How often Ctrl-C and the daemon's end are looked for while it is waited for.
const TICK: Duration = Duration::from_millis(100);
/// Longest wait for its socket. It answers before it has a model.
const START: Duration = Duration::from_secs(30);
/// Longest wait for its end: what hobd leaves its answers, and a little.
const END: Duration = Duration::from_secs(7);
/// Variables of this prefix are settings of the user's own daemon, but for those that say how engines run here.
const SETTINGS: &str = "HOB_";
const ENGINES: &str = "HOB_ENGINE_";
/// Folders of a user's, which hobd finds its own in.
const FOLDERS: [&str; 6] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
];

/// A running daemon; ended when dropped, and by the kernel if this program is gone.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    client: Client,
    interrupt: Interrupt,
}

impl Daemon {
    /// Starts one with a model of a store.
    ///
    /// # Errors
    /// When it is not installed, can't be started or ends at once, or on Ctrl-C.
    pub(crate) fn start(
        models: &Path,
        model: &ModelName,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("hob-evaluate-").tempdir();
        let folder =
            folder.map_err(|error| Failure::io("no private folder can be made", &error))?;
        let program = program();
        let failed = |error| {
            Failure::io(&format!("{} can't be started", program.display()), &error)
                .hint("It is installed with hob, in the same folder.")
        };
        let log = File::create(log(folder.path())).map_err(failed)?;
        let mut command = command(&program, folder.path(), models, model);
        let child = command.stderr(log).spawn().map_err(failed)?;
        Ok(Self {
            child,
            client: Client::on(socket(folder.path())),
            folder,
            interrupt: interrupt.clone(),
        })
    }

    /// Waits until its model is ready.
    ///
    /// # Errors
    /// When the daemon ends or the model can't be loaded, or on Ctrl-C.
    pub(crate) async fn ready(&mut self, model: &ModelName) -> Result<(), Failure> {
        let started = Instant::now();
        while let Err(error) = self
            .waited(|client| async move { client.status().await })
            .await?
        {
            if started.elapsed() >= START {
                return Err(error.into());
            }
            tokio::time::sleep(TICK).await;
        }
        self.ask(|client| async move { client.load(model.as_str()).await })
            .await
    }

    /// Asks it something.
    ///
    /// # Errors
    /// What it refuses, when it ends, or on Ctrl-C, which cancels the request.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, ClientError>>>(
        &mut self,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure> {
        Ok(self.waited(request).await??)
    }

    async fn waited<T, F: Future<Output = T>>(
        &mut self,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure> {
        let mut answer = std::pin::pin!(request(self.client.clone()));
        loop {
            self.interrupt.check()?;
            self.check()?;
            tokio::select! {
                answer = &mut answer => return Ok(answer),
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Goes on unless it has ended.
    fn check(&mut self) -> Result<(), Failure> {
        let ended = match self.child.try_wait() {
            Ok(None) => return Ok(()),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let log = std::fs::read_to_string(log(self.folder.path())).unwrap_or_default();
        let last = log.lines().next_back().unwrap_or("it said nothing");
        let problem = format!("the hobd that was started for this has ended ({ended}): {last}");
        Err(Failure::new(problem))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Of one that has ended the number may be another's by now.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Orderly, so that nothing of it is left; what can't be signalled is gone.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let asked = Instant::now();
        while asked.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(TICK / 5);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon that belongs to this program.
fn program() -> PathBuf {
    std::env::current_exe()
        .unwrap_or_default()
        .with_file_name("hobd")
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("hob.sock")
}

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn command(program: &Path, folder: &Path, models: &Path, model: &ModelName) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let is_setting = name
            .to_str()
            .is_some_and(|name| name.starts_with(SETTINGS) && !name.starts_with(ENGINES));
        if is_setting {
            command.env_remove(name);
        }
    }
    command
        // A service manager's socket is not for this one to tell.
        .env_remove("NOTIFY_SOCKET")
        .envs(FOLDERS.map(|variable| (variable, folder)))
        .args(["--user", "--no-dbus", "--log-level", "warn", "--socket"])
        .arg(socket(folder))
        .arg("--models-dir")
        .arg(models)
        .args(["--model", model.as_str()])
        .args(["--set", "conversations.enabled=false"])
        .args(["--set", "snapshots.bytes=0"])
        .arg("--ends-with")
        .arg(std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // The terminal's Ctrl-C is for hob to act on.
        .process_group(0);
    command
}
