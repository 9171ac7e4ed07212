//! The engine process, as seen from hobd: [`Engine`] talks to one, from its start to its end.
//!
//! hobd takes the engine for hostile once a model is parsed: [`Ledger`] refuses what breaks the
//! protocol, and the daemon then kills the process.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use hob_ipc::frame::{COMMAND_BYTES_MAX, EVENT_BYTES_MAX};
use hob_ipc::message::Load;
use hob_ipc::{Command, Decoder, EngineEvent, FrameError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

mod check;
mod process;
mod stderr;

pub use check::{Ledger, Violation};

use process::Process;

/// Events that may wait for the daemon; then the engine's own writes wait.
const EVENTS_MAX: usize = 256;
/// Commands that may wait for the engine to read. More means that it does not read at all.
const COMMANDS_MAX: usize = 256;
/// With so many waiting, the engine is at a long step while somebody pins without end.
const BEHIND: usize = COMMANDS_MAX / 8;
/// Bytes read from the engine at a time.
const READ_BYTES: usize = 16 << 10;
/// How long an engine that closed its socket may take to end before it is killed.
const EXIT_GRACE: Duration = Duration::from_millis(500);

/// What to start.
#[derive(Debug)]
pub struct Launch {
    /// The engine's binary.
    pub binary: PathBuf,
    /// The model, opened and verified; the engine gets this very descriptor.
    pub model: std::fs::File,
    /// How to load it.
    pub load: Load,
    /// The sealed memory of the control vector that [`Load::control`] tells of.
    pub control: Option<std::fs::File>,
}

/// What an engine says, or what became of it.
#[derive(Debug)]
pub enum Report {
    /// It runs.
    Started(Started),
    /// A message that is well formed; whether it is plausible is for [`Ledger`] to say.
    Event(EngineEvent),
    /// It sent something that is no message.
    Malformed(FrameError),
    /// It could not be started, or it ended. The last report.
    Gone(Exit),
}

/// A process that runs.
#[derive(Debug)]
pub struct Started {
    /// Its process id.
    pub pid: u32,
    /// Its `/proc/PID/statm`, for its memory; `None` without `/proc`.
    pub statm: Option<std::fs::File>,
}

/// How an engine ended.
#[derive(Debug)]
pub struct Exit {
    /// Its exit status or signal, or why it could not be started.
    pub status: String,
    /// The last lines that it wrote to its standard error.
    pub stderr_tail: String,
}

/// A command, and the descriptor that goes with it if it needs one.
type Outgoing = (Command, Option<OwnedFd>);

/// One engine process. Dropping this kills it.
#[derive(Debug)]
pub struct Engine {
    commands: mpsc::Sender<Outgoing>,
    reports: mpsc::Receiver<Report>,
    kill: CancellationToken,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

/// The engine does not take commands any more.
#[derive(Clone, Copy, Debug)]
pub struct NotReading;

impl Engine {
    /// Starts an engine. Whatever comes of it is told by [`Engine::report`].
    pub fn start(launch: Launch) -> Self {
        let (commands, commands_receiver) = mpsc::channel(COMMANDS_MAX);
        let (reports_sender, reports) = mpsc::channel(EVENTS_MAX);
        let kill = CancellationToken::new();
        tokio::spawn(run(launch, commands_receiver, reports_sender, kill.clone()));
        Self {
            commands,
            reports,
            kill,
        }
    }

    /// The next report; pending forever after [`Report::Gone`].
    pub async fn report(&mut self) -> Report {
        match self.reports.recv().await {
            Some(report) => report,
            None => std::future::pending().await,
        }
    }

    /// Sends a command, without waiting.
    ///
    /// # Errors
    /// [`NotReading`] if `COMMANDS_MAX` commands wait already, or the engine is gone.
    pub fn send(&self, command: Command) -> Result<(), NotReading> {
        self.send_with(command, None)
    }

    /// Sends a command with the descriptor that it needs, without waiting.
    ///
    /// # Errors
    /// As of [`Engine::send`].
    pub fn send_with(&self, command: Command, fd: Option<OwnedFd>) -> Result<(), NotReading> {
        self.commands
            .try_send((command, fd))
            .map_err(|_| NotReading)
    }

    /// Whether so many commands wait that those which can wait themselves should.
    pub fn is_behind(&self) -> bool {
        self.commands.max_capacity() - self.commands.capacity() >= BEHIND
    }

    /// Kills the process; [`Report::Gone`] follows.
    pub fn kill(&self) {
        self.kill.cancel();
    }
}

/// One engine's life.
async fn run(
    launch: Launch,
    commands: mpsc::Receiver<Outgoing>,
    reports: mpsc::Sender<Report>,
    kill: CancellationToken,
) {
    let exit = match Process::spawn(&launch.binary) {
        Ok(process) => serve(process, launch, commands, &reports, &kill).await,
        Err(error) => Exit {
            status: format!("{} can't be started: {error}", launch.binary.display()),
            stderr_tail: String::new(),
        },
    };
    // A daemon that dropped the engine is not interested.
    let _ = reports.send(Report::Gone(exit)).await;
}

async fn serve(
    process: Process,
    launch: Launch,
    commands: mpsc::Receiver<Outgoing>,
    reports: &mpsc::Sender<Report>,
    kill: &CancellationToken,
) -> Exit {
    let Process {
        mut child,
        socket,
        stderr,
        statm,
    } = process;
    let tail = tokio::spawn(stderr::tail(stderr));
    let _ = reports
        .send(Report::Started(Started {
            pid: child.id().unwrap_or_default(),
            statm,
        }))
        .await;
    let conversation = async {
        let frame = hob_ipc::encode(&Command::Load(launch.load), COMMAND_BYTES_MAX);
        let sent = match frame {
            Ok(frame) => {
                let control = launch.control.as_ref().map(AsFd::as_fd);
                let with: Vec<_> = [launch.model.as_fd()].into_iter().chain(control).collect();
                process::send_with(&socket, &frame, &with).await
            }
            Err(error) => Err(std::io::Error::other(error)),
        };
        drop((launch.model, launch.control));
        if let Err(error) = sent {
            tracing::warn!(%error, "the engine did not take its first message");
            return;
        }
        let (reader, writer) = socket.into_split();
        // Either way ends when the engine closes its end.
        tokio::select! {
            () = read(reader, reports) => {}
            () = write(writer, commands) => {}
        }
    };
    tokio::select! {
        () = conversation => {}
        () = kill.cancelled() => {}
    }
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = kill.cancelled() => None,
        () = tokio::time::sleep(EXIT_GRACE) => None,
    };
    let status = match ended {
        Some(status) => status,
        None => match child.start_kill() {
            Ok(()) => child.wait().await,
            Err(error) => Err(error),
        },
    };
    Exit {
        status: status.map_or_else(|error| error.to_string(), |status| status.to_string()),
        stderr_tail: tail.await.unwrap_or_default(),
    }
}

/// Hands on what the engine sends, until it closes its end or sends something malformed.
async fn read(mut reader: OwnedReadHalf, reports: &mpsc::Sender<Report>) {
    let mut decoder = Decoder::new(EVENT_BYTES_MAX);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        decoder.push(&buffer[..read]);
        loop {
            let report = match decoder.next() {
                Ok(Some(event)) => Report::Event(event),
                Ok(None) => break,
                Err(error) => Report::Malformed(error),
            };
            let malformed = matches!(report, Report::Malformed(_));
            if reports.send(report).await.is_err() || malformed {
                return;
            }
        }
    }
}

/// Writes commands until the engine does not take them, or hobd drops its end.
async fn write(mut writer: OwnedWriteHalf, mut commands: mpsc::Receiver<Outgoing>) {
    while let Some((command, fd)) = commands.recv().await {
        match hob_ipc::encode(&command, COMMAND_BYTES_MAX) {
            Ok(frame) => {
                let sent = match fd {
                    Some(fd) => process::send_with(writer.as_ref(), &frame, &[fd.as_fd()]).await,
                    None => writer.write_all(&frame).await,
                };
                if sent.is_err() {
                    return;
                }
            }
            // Requests that don't fit are refused before, and all else is short: a fault in hobd.
            Err(error) => tracing::error!(%error, "a command does not fit a frame"),
        }
    }
}
