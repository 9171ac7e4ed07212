//! Whether a client is gone, told apart from one that only has nothing more to say.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A watch on one client's socket, which reads nothing from it.
///
/// A client of a Unix socket that shuts down its write side, as `nc` does at the end of its input,
/// still waits for its answer; one that closed its socket does not. To who reads, both are the end of
/// the file, and who does not read, as bytes of a next request wait, sees neither. The kernel tells
/// of the second by `EPOLLHUP`. Over TCP it can't know which of the two it is before something is
/// written, so there both are a hang-up.
pub(super) struct HangUp {
    socket: AsyncFd<OwnedFd>,
    /// Whether the end of what the client sends is one.
    at_end_of_input: bool,
}

impl HangUp {
    /// A watch on the socket of a client that may shut down its write side.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub(super) fn of(socket: &impl AsFd) -> io::Result<Self> {
        // epoll tells of hang-ups whatever else it is asked for, and a Unix socket never has the
        // urgent data that it is asked for here: nothing but a hang-up wakes this.
        Self::watching(socket, Interest::PRIORITY, false)
    }

    /// A watch on the socket of a client that is gone when it has nothing more to say.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub(super) fn at_end_of_input(socket: &impl AsFd) -> io::Result<Self> {
        Self::watching(socket, Interest::READABLE, true)
    }

    fn watching(socket: &impl AsFd, interest: Interest, at_end_of_input: bool) -> io::Result<Self> {
        let descriptor = socket.as_fd().try_clone_to_owned()?;
        #[allow(
            deprecated,
            reason = "unsound for types that close their descriptor while it is registered; \
                      OwnedFd keeps its own, and the successor is an unsafe function"
        )]
        let socket = AsyncFd::with_interest(descriptor, interest)?;
        Ok(Self {
            socket,
            at_end_of_input,
        })
    }

    /// Returns when the client is gone.
    pub(super) async fn wait(&self) {
        if !self.at_end_of_input {
            // An error would mean that the runtime is shutting down, and the connection with it.
            let _ = self.socket.ready(Interest::PRIORITY).await;
            return;
        }
        while let Ok(mut guard) = self.socket.ready(Interest::READABLE).await {
            if guard.ready().is_read_closed() {
                return;
            }
            // Bytes that came are for who reads them; the kernel tells of the next ones anew.
            guard.clear_ready();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream, UnixStream};
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

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (near, _) = listener.accept().await.unwrap();
        (near, far.unwrap())
    }

    #[tokio::test]
    async fn over_tcp_the_end_of_what_a_client_sends_is_a_hang_up_behind_bytes_too() {
        let brief = Duration::from_millis(50);
        let (near, mut far) = tcp_pair().await;
        let hang_up = HangUp::at_end_of_input(&near).unwrap();
        far.write_all(b"unread").await.unwrap();
        assert!(timeout(brief, hang_up.wait()).await.is_err());
        far.write_all(b"and more").await.unwrap();
        assert!(timeout(brief, hang_up.wait()).await.is_err());
        far.shutdown().await.unwrap();
        timeout(Duration::from_secs(60), hang_up.wait())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_reset_is_a_hang_up() {
        let (near, mut far) = tcp_pair().await;
        let hang_up = HangUp::at_end_of_input(&near).unwrap();
        far.write_all(b"unread").await.unwrap();
        far.set_zero_linger().unwrap();
        drop(far);
        timeout(Duration::from_secs(60), hang_up.wait())
            .await
            .unwrap();
    }
}
