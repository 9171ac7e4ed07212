//! Starting an engine process and handing it its model.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Stdio;

use hob_ipc::start;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};

/// Turns on an engine's own debug log; passed on to it when hobd has it.
const ENGINE_LOG: &str = "HOB_ENGINE_LOG";

/// An engine that was just started. It is killed when `child` is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) socket: UnixStream,
    pub(super) stderr: ChildStderr,
    /// What tells its memory, opened before it hides behind its sandbox; it closes that no earlier than
    /// it gets its model.
    pub(super) statm: Option<File>,
}

impl Process {
    /// Starts `binary` with an empty environment but for what is named here, its end of a
    /// socket pair as standard input, and its standard error read by hobd.
    pub(super) fn spawn(binary: &Path) -> std::io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::from(start::command(binary, theirs));
        command.stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(level) = std::env::var_os(ENGINE_LOG) {
            command.env(ENGINE_LOG, level);
        }
        let mut child = command.spawn()?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| std::io::Error::other("the child has no standard error"))?;
        let pid = child.id();
        let statm = pid.and_then(|pid| File::open(format!("/proc/{pid}/statm")).ok());
        Ok(Self {
            child,
            socket: UnixStream::from_std(ours)?,
            stderr,
            statm,
        })
    }
}

/// Writes `frame`, with descriptors attached to its first byte.
pub(super) async fn send_with(
    socket: &UnixStream,
    frame: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> std::io::Result<()> {
    let first = || start::send_with(socket, frame, descriptors);
    let mut sent = socket.async_io(Interest::WRITABLE, first).await?;
    while sent < frame.len() {
        let rest = || {
            Ok(rustix::net::send(
                socket,
                &frame[sent..],
                SendFlags::NOSIGNAL,
            )?)
        };
        sent += socket.async_io(Interest::WRITABLE, rest).await?;
    }
    Ok(())
}
