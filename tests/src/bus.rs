//! A message bus of a test's own.

use std::fs::{File, Permissions, set_permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::client::connect_as;

/// A private `dbus-daemon`, ended on drop.
#[derive(Debug)]
pub struct Bus {
    process: Child,
    address: String,
    /// Holds the bus's socket.
    _folder: TempDir,
}

impl Bus {
    /// A session bus.
    ///
    /// # Panics
    /// If `dbus-daemon` can't be run.
    pub fn session() -> Self {
        Self::start(&["--session"])
    }

    /// A bus with the given configuration file, such as one that includes hob's real policy.
    ///
    /// # Panics
    /// If `dbus-daemon` can't be run, or refuses the configuration.
    pub fn with_config(config: &Path) -> Self {
        Self::start(&[&format!("--config-file={}", config.display())])
    }

    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hob-bus-")
            .tempdir()
            .unwrap();
        // It warns of an fd limit that it can't raise, which is noise unless it fails.
        let log = folder.path().join("log");
        let mut process = Command::new("dbus-daemon")
            .args(arguments)
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .arg(format!(
                "--address=unix:path={}",
                folder.path().join("bus").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .expect("running dbus-daemon, which scripts/check installs");
        let mut address = String::new();
        BufReader::new(process.stdout.take().expect("a pipe"))
            .read_line(&mut address)
            .expect("reading the bus's address");
        let address = address.trim().to_owned();
        assert!(
            !address.is_empty(),
            "dbus-daemon did not start: {}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    /// The value for `DBUS_SESSION_BUS_ADDRESS`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection of the user `uid`, which the bus's configuration must let in. Only root can make
    /// one.
    ///
    /// # Panics
    /// If the bus refuses it.
    pub async fn connect_as(&self, uid: u32) -> zbus::Connection {
        let path = self
            .address
            .split([':', ','])
            .find_map(|part| part.strip_prefix("path="));
        let socket = Path::new(path.expect("a socket's path"));
        let folder = socket.parent().expect("the socket's folder");
        set_permissions(folder, Permissions::from_mode(0o755)).expect("changing a mode");
        set_permissions(socket, Permissions::from_mode(0o666)).expect("changing a mode");
        let stream = connect_as(socket, uid).expect("connecting to the bus");
        zbus::connection::Builder::unix_stream(stream.into_std().expect("a socket"))
            .user_id(uid)
            .build()
            .await
            .expect("the bus lets another user in")
    }

    /// A new connection to this bus.
    ///
    /// # Panics
    /// If the bus refuses it.
    pub async fn connect(&self) -> zbus::Connection {
        zbus::connection::Builder::address(self.address.as_str())
            .build()
            .await
            .expect("connecting to the private bus")
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
