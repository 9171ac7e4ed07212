//! A running hobd.

use std::fs::{File, Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use hob_api::status::{State, Status};
use rustix::process::{Pid, Signal, kill_process};

use crate::binary::binary;
use crate::bus::Bus;
use crate::client::Client;
use crate::setup::Setup;
use crate::wait::eventually;

/// Lines of the daemon's log that a failed test prints.
const LOG_LINES_SHOWN: usize = 200;

/// A running hobd, ended on drop. It must run until then, unless the test stops it: whatever
/// happens to the engine or a client, hobd's process stays the same.
#[derive(Debug)]
pub struct Daemon {
    setup: Setup,
    process: Child,
    log: PathBuf,
    stopped: bool,
}

impl Daemon {
    pub(crate) fn spawn(setup: Setup) -> Self {
        let log = setup.log();
        let process = Self::run(&setup, &log);
        Self {
            setup,
            process,
            log,
            stopped: false,
        }
    }

    fn run(setup: &Setup, log: &Path) -> Child {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        setup
            .hobd()
            .stdout(Stdio::from(file.try_clone().expect("a second handle")))
            .stderr(Stdio::from(file))
            .spawn()
            .expect("running hobd")
    }

    /// Asserts that it still answers; the fake engine says what it is asked.
    pub async fn assert_serves(&self) {
        let answer = self.client().ask("one two three").await.answer().await;
        assert_eq!(answer.text, "one two three");
        answer.done();
    }

    /// hobd's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A way to it.
    pub fn client(&self) -> Client {
        Client::new(&self.setup.socket())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.setup.socket()
    }

    /// Lets every user of this machine connect, as hobd's own modes let its group on the system.
    ///
    /// # Panics
    /// If the modes can't be changed.
    pub fn open_to_everybody(&self) {
        let socket = self.socket();
        let folders = socket.ancestors().skip(1);
        let own = folders.take_while(|folder| folder.starts_with(self.home()));
        for folder in own {
            set_permissions(folder, Permissions::from_mode(0o755)).expect("changing a mode");
        }
        set_permissions(&socket, Permissions::from_mode(0o666)).expect("changing a mode");
    }

    /// How many files hobd has open.
    ///
    /// # Panics
    /// If it has ended.
    pub fn files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        files.expect("a running hobd").count()
    }

    /// The folder that stands for the user's home.
    pub fn home(&self) -> &Path {
        self.setup.home()
    }

    /// The folder of installed models.
    pub fn models_dir(&self) -> &Path {
        self.setup.models_dir()
    }

    /// The private bus.
    ///
    /// # Panics
    /// If the setup had none.
    pub fn bus(&self) -> &Bus {
        self.setup.private_bus().expect("a setup with a bus")
    }

    /// `hob`, which finds this daemon and nothing of the tester's own.
    pub fn hob(&self) -> Command {
        self.setup.command(&binary("hob"))
    }

    /// Any other program in the same environment.
    pub fn command(&self, program: &Path) -> Command {
        self.setup.command(program)
    }

    /// What it wrote so far, standard output and error together.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its status.
    pub async fn status(&self) -> Status {
        self.client().status().await
    }

    /// Waits until `state` is reached, and returns the status then.
    pub async fn until(&self, state: State) -> Status {
        self.until_status(&format!("state {state:?}"), |status| status.state == state)
            .await
    }

    /// Waits until the status is as wanted, and returns it.
    pub async fn until_status(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        eventually(what, async || {
            let status = self.status().await;
            wanted(&status).then_some(status)
        })
        .await
    }

    /// Waits until a model is ready.
    ///
    /// # Panics
    /// If it can't be loaded.
    pub async fn until_ready(&self) -> Status {
        let status = self
            .until_status("a model is ready", |status| {
                matches!(status.state, State::Ready | State::Failed | State::NoModel)
            })
            .await;
        assert_eq!(status.state, State::Ready, "{status:?}");
        status
    }

    /// The engine's process id.
    ///
    /// # Panics
    /// If there is no engine.
    pub async fn engine_pid(&self) -> u32 {
        self.status().await.engine.expect("an engine").pid
    }

    /// Sends the engine a signal.
    ///
    /// # Panics
    /// If there is no engine.
    pub async fn signal_engine(&self, signal: Signal) {
        send(self.engine_pid().await, signal);
    }

    /// Sends hobd a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Sends SIGTERM, waits for the end, and returns how it ended.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Mounts folders of its home read-only where it sees them, from its next start on. Needs root.
    pub fn mount_read_only<'a>(&mut self, folders: impl IntoIterator<Item = &'a str>) {
        let home = self.setup.home().to_owned();
        let folders = folders.into_iter().map(|folder| home.join(folder));
        self.setup.mount_read_only(folders);
    }

    /// Starts it anew with the same settings and folders, after it ended, and waits until its
    /// socket answers.
    ///
    /// # Panics
    /// If it was not stopped.
    pub async fn restart(&mut self) {
        assert!(self.stopped, "hobd was not stopped");
        self.process = Self::run(&self.setup, &self.log);
        self.stopped = false;
        let client = self.client();
        eventually("hobd answers on its socket again", async || {
            self.assert_running();
            client.connect().await.ok()
        })
        .await;
    }

    /// Waits until hobd ends, as the test made it do.
    pub async fn ended(&mut self) -> ExitStatus {
        self.stopped = true;
        eventually("hobd ends", async || {
            self.process.try_wait().expect("waiting for hobd")
        })
        .await
    }

    /// # Panics
    /// If hobd has ended.
    pub(crate) fn assert_running(&mut self) {
        let ended = self.process.try_wait().expect("waiting for hobd");
        assert!(ended.is_none(), "hobd ended: {ended:?}");
    }
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("sending a signal");
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let ended = self.process.try_wait().ok().flatten();
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let lost = ended.filter(|_| !self.stopped);
        if std::thread::panicking() || lost.is_some() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- hobd's log ---\n{}\n--- end ---", shown.join("\n"));
        }
        if let Some(status) = lost
            && !std::thread::panicking()
        {
            panic!("hobd ended during the test: {status}");
        }
    }
}
