//! How an engine is started: with nothing but a socket, whoever starts it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The engine `binary` with an empty environment and its end of a socket pair as standard input. It
/// says nothing; who wants its last words takes its standard error.
pub fn command(binary: &Path, socket: UnixStream) -> Command {
    let mut command = Command::new(binary);
    command
        .env_clear()
        // ggml would otherwise fork a debugger when it aborts.
        .env("GGML_NO_BACKTRACE", "1")
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Most descriptors that come with one message.
pub const DESCRIPTORS_MAX: usize = 3;

/// Sends as much of `frame` as the socket takes, with descriptors attached to its first byte, at most
/// [`DESCRIPTORS_MAX`]: how many bytes went.
///
/// # Errors
/// As of `sendmsg(2)`.
pub fn send_with(
    socket: impl AsFd,
    frame: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for so many descriptors"));
    }
    let parts = [IoSlice::new(frame)];
    Ok(sendmsg(
        socket,
        &parts,
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}
