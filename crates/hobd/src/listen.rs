//! The HTTP sockets: systemd's, or a Unix socket of our own that no other hobd can have, and one on
//! loopback if the settings want it.

mod loopback;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};

use crate::settings::Scope;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process answers there.
    #[error("another hobd already has {}; stop it, or choose another path with --socket", .0.display())]
    AlreadyRunning(PathBuf),
    /// A file that is not ours to remove.
    #[error("{} is not a socket; move it away, or choose another path with --socket", .0.display())]
    NotASocket(PathBuf),
    /// systemd handed over something else than what there is to listen on.
    #[error(
        "socket activation failed: {0}; see the Listen lines of hobd.socket and hobd-loopback.socket"
    )]
    Activation(String),
    /// The socket on loopback can't be had.
    #[error("can't listen on {address} (http.listen): {source}{}", loopback::hint(.source))]
    Loopback {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The system refused.
    #[error("can't {what} {}: {source}{}", .path.display(), hint(.source))]
    System {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; without root, run hobd --user",
        _ => "",
    }
}

/// A socket of our own: while this lives, no other hobd can have its path. Dropping it removes the
/// socket, if the path still leads to ours.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Device and inode of our socket.
    identity: (u64, u64),
    /// Locked. The file stays: removing it would let two processes lock two files of one name.
    _lock: File,
}

/// Where clients of HTTP connect.
#[derive(Debug)]
pub struct Listeners {
    /// For who may use the Unix socket.
    pub unix: UnixListener,
    /// On loopback, if the settings want it.
    pub loopback: Option<TcpListener>,
    /// Of a Unix socket of our own.
    _claim: Option<Claim>,
}

/// The sockets to accept HTTP connections on: systemd's if it handed them over, else a new one at
/// `path`, and one at the address `loopback` if that is given.
///
/// Must be called within a Tokio runtime, before anything that reads the environment in another
/// thread: the variables of socket activation are removed.
///
/// # Errors
/// [`ListenError`].
pub fn listen(
    path: &Path,
    scope: Scope,
    loopback: Option<SocketAddr>,
) -> Result<Listeners, ListenError> {
    let activated = activated()?;
    let (unix, claim) = match activated.unix {
        Some(listener) => (listener, None),
        None => bind(path, scope).map(|(listener, claim)| (listener, Some(claim)))?,
    };
    let failed = system("listen on", path);
    unix.set_nonblocking(true).map_err(&failed)?;
    Ok(Listeners {
        unix: UnixListener::from_std(unix).map_err(&failed)?,
        loopback: loopback::open(activated.tcp, loopback)?,
        _claim: claim,
    })
}

/// systemd's sockets.
#[derive(Default)]
struct Activated {
    unix: Option<StdListener>,
    tcp: Option<StdTcpListener>,
}

fn activated() -> Result<Activated, ListenError> {
    let mut handed_over = ListenFd::from_env();
    let mut activated = Activated::default();
    for index in 0..handed_over.len() {
        // One of another kind stays for the next question.
        let twice = if let Ok(Some(listener)) = handed_over.take_unix_listener(index) {
            check_listens(&listener)?;
            activated.unix.replace(listener).is_some()
        } else if let Ok(Some(listener)) = handed_over.take_tcp_listener(index) {
            check_listens(&listener)?;
            activated.tcp.replace(listener).is_some()
        } else {
            let text = "what was handed over is neither a Unix stream socket nor a TCP socket";
            return Err(ListenError::Activation(text.to_owned()));
        };
        if twice {
            let text = "two sockets of one kind were handed over".to_owned();
            return Err(ListenError::Activation(text));
        }
    }
    Ok(activated)
}

fn check_listens(socket: &impl AsFd) -> Result<(), ListenError> {
    match rustix::net::sockopt::socket_acceptconn(socket) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ListenError::Activation(
            "the socket does not listen".to_owned(),
        )),
        Err(errno) => Err(ListenError::Activation(errno.to_string())),
    }
}

fn bind(path: &Path, scope: Scope) -> Result<(StdListener, Claim), ListenError> {
    let (folder_mode, socket_mode) = match scope {
        Scope::System => (0o750, Mode::from_raw_mode(0o660)),
        Scope::User => (0o700, Mode::from_raw_mode(0o600)),
    };
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(folder_mode)
            .create(folder)
            .map_err(system("make the folder", folder))?;
    }
    // With the lock, nobody else is between looking and binding.
    let lock = lock(path)?;
    remove_stale(path)?;

    let failed = system("listen on", path);
    let failed = |errno: Errno| failed(errno.into());
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let socket = new_socket().map_err(failed)?;
    rustix::net::bind(&socket, &address).map_err(failed)?;
    let identity = identity(path).map_err(system("look at", path))?;
    let claim = Claim {
        path: path.to_owned(),
        identity,
        _lock: lock,
    };
    // Before listening: nobody can connect under the wrong mode.
    rustix::fs::chmod(path, socket_mode).map_err(failed)?;
    rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
    Ok((StdListener::from(socket), claim))
}

fn new_socket() -> rustix::io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Locks the file beside the socket.
fn lock(path: &Path) -> Result<File, ListenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(system("open", &lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ListenError::AlreadyRunning(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(system("lock", &lock_path)(error)),
    }
}

/// Removes what a hobd left that did not end well, and nothing else.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("look at", path)(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match answers(path) {
        Ok(true) => Err(ListenError::AlreadyRunning(path.to_owned())),
        Ok(false) => std::fs::remove_file(path).map_err(system("remove", path)),
        Err(errno) => Err(system("connect to", path)(errno.into())),
    }
}

/// Whether a process listens on the socket at `path`.
fn answers(path: &Path) -> rustix::io::Result<bool> {
    let socket = new_socket()?;
    match rustix::net::connect(socket.as_fd(), &SocketAddrUnix::new(path)?) {
        // EAGAIN: as many wait already as may. EPROTOTYPE: a living socket of another type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = path.symlink_metadata()?;
    Ok((found.dev(), found.ino()))
}

fn system(what: &'static str, path: &Path) -> impl Fn(io::Error) -> ListenError {
    move |source| ListenError::System {
        what,
        path: path.to_owned(),
        source,
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // If it can't be removed, the next hobd finds it stale.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_socket_has_its_scopes_modes_and_goes_with_its_claim() {
        for (scope, folder_mode, socket_mode) in
            [(Scope::User, 0o700, 0o600), (Scope::System, 0o750, 0o660)]
        {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("hob/hob.sock");
            let (listener, claim) = bind(&path, scope).unwrap();
            assert_eq!(mode(path.parent().unwrap()), folder_mode);
            assert_eq!(mode(&path), socket_mode);
            UnixStream::connect(&path).unwrap();
            drop(listener);
            drop(claim);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_second_hobd_is_refused_and_harms_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hob.sock");
        let (_listener, _claim) = bind(&path, Scope::User).unwrap();
        let error = bind(&path, Scope::User).unwrap_err();
        assert!(matches!(&error, ListenError::AlreadyRunning(at) if *at == path));
        let expected = format!(
            "another hobd already has {}; stop it, or choose another path with --socket",
            path.display()
        );
        assert_eq!(error.to_string(), expected);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn the_lock_alone_keeps_a_second_hobd_away() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hob.sock");
        let (_listener, _claim) = bind(&path, Scope::User).unwrap();
        std::fs::remove_file(&path).unwrap();
        let error = bind(&path, Scope::User).unwrap_err();
        assert!(matches!(error, ListenError::AlreadyRunning(_)));
    }

    #[test]
    fn a_live_socket_without_a_lock_is_left_alone_even_when_it_is_busy() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hob.sock");
        let socket = new_socket().unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        for _ in 0..3 {
            let error = bind(&path, Scope::User).unwrap_err();
            assert!(matches!(error, ListenError::AlreadyRunning(_)));
        }
        assert!(path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hob.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_listener, _claim) = bind(&path, Scope::User).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hob.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = bind(&path, Scope::User).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket(_)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn another_ones_socket_at_our_path_outlives_the_claim() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hob.sock");
        let (_listener, claim) = bind(&path, Scope::User).unwrap();
        // The old one stays in existence, so that its inode number is not used again.
        std::fs::rename(&path, root.path().join("old.sock")).unwrap();
        let _other = StdListener::bind(&path).unwrap();
        drop(claim);
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_a_cause() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = bind(&file.join("hob.sock"), Scope::User).unwrap_err();
        let expected = format!("can't make the folder {}: ", file.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
