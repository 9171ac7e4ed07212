//! Whether a client is gone, told apart from one that only has nothing more to say.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

/// A watch on one client's socket, which reads nothing from it.
///
/// A client that shuts down its write side, as `nc` does at the end of its input, still waits for
/// its answer; one that closed its socket does not. To who reads, both are the end of the file, and
/// who does not read, as bytes of a next request wait, sees neither. The kernel tells of the second
/// by `EPOLLHUP`.
pub(super) struct HangUp(AsyncFd<OwnedFd>);

impl HangUp {
    /// # Errors
    /// If no descriptor is free.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let descriptor = stream.as_fd().try_clone_to_owned()?;
        // epoll tells of hang-ups whatever else it is asked for, and a Unix socket never has the
        // urgent data that it is asked for here: nothing but a hang-up wakes this.
        #[allow(
            deprecated,
            reason = "unsound for types that close their descriptor while it is registered; \
                      OwnedFd keeps its own, and the successor is an unsafe function"
        )]
        AsyncFd::with_interest(descriptor, Interest::PRIORITY).map(Self)
    }

    /// Returns when the client has closed its socket.
    pub(super) async fn wait(&self) {
        // An error would mean that the runtime is shutting down, and the connection with it.
        let _ = self.0.ready(Interest::PRIORITY).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_closed_socket_is_a_hang_up_and_a_closed_write_side_is_none() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let hang_up = HangUp::of(&near).unwrap();
        far.write_all(b"unread").await.unwrap();
        far.shutdown().await.unwrap();
        let brief = Duration::from_millis(50);
        assert!(timeout(brief, hang_up.wait()).await.is_err());
        drop(far);
        timeout(Duration::from_secs(60), hang_up.wait())
            .await
            .unwrap();
    }
}
