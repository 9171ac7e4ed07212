//! Opening the database so that a damaged, foreign or unwritable one keeps nobody from an answer.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use super::schema;
use super::store::now;

/// The database's name in its folder.
const FILE: &str = "conversations.db";
/// What SQLite keeps beside it.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];
/// How long another process may hold the database before it counts as its own.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// An open database.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// The file that a damaged database was set aside as.
    pub(super) set_aside: Option<PathBuf>,
}

/// Opens the database in `folder`, making both if they are not there. A damaged one is set aside
/// and a new one begun.
///
/// # Errors
/// If there is none that can be read: another process has it, it is of a later version, or the
/// folder can't be used.
pub(super) fn open(folder: &Path) -> Result<Opened, StoreError> {
    let file = folder.join(FILE);
    let (damaged, error) = match try_open(folder, &file) {
        Ok(connection) => {
            return Ok(Opened {
                connection,
                set_aside: None,
            });
        }
        Err(error) => (error.is_damage(), error),
    };
    if damaged {
        let set_aside = set_aside(&file)?;
        return Ok(Opened {
            connection: try_open(folder, &file)?,
            set_aside: Some(set_aside),
        });
    }
    // What can't be written may still be read, and answers go on from it.
    read_only(&file).map_err(|_| error)
}

fn try_open(folder: &Path, file: &Path) -> Result<Connection, StoreError> {
    make_private(folder, file)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    // Exclusive: hobd is the one reader and writer, and two of them on one folder would each
    // think so. FULL: a turn that was acknowledged survives a power cut. MEMORY: no text comes into
    // files elsewhere.
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA secure_delete = ON;
         PRAGMA foreign_keys = ON;
         PRAGMA cell_size_check = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;",
    )?;
    schema::migrate(&mut connection)?;
    if !schema::is_whole(&connection)? {
        return Err(StoreError::Damaged);
    }
    Ok(connection)
}

/// The folder and the file exist, and are their owner's alone. SQLite gives its other files the
/// same mode.
fn make_private(folder: &Path, file: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A file restored from a backup may have come with another mode. Where that can't be
            // changed the folder can't be written either, and the caller finds out.
            let _ = fs::set_permissions(file, Permissions::from_mode(0o600));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Opens what can't be written. SQLite would have to write beside the file in order to share it,
/// so it is told that nobody changes it; that holds only if no write is left to be taken over.
pub(super) fn read_only(file: &Path) -> Result<Opened, StoreError> {
    let pending = fs::metadata(beside(file, "-wal")).is_ok_and(|wal| wal.len() > 0);
    let path = file.to_str().filter(|path| !path.contains(['?', '#', '%']));
    let (Some(path), false) = (path, pending) else {
        return Err(StoreError::Damaged);
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?;
    let current = schema::version(&connection)? == schema::MIGRATIONS.len();
    if current && schema::is_whole(&connection)? {
        return Ok(Opened {
            connection,
            set_aside: None,
        });
    }
    Err(StoreError::Damaged)
}

/// Renames the database and what belongs to it, so that a person can look at it later.
fn set_aside(file: &Path) -> io::Result<PathBuf> {
    let suffix = format!(".damaged-{}", now());
    let aside = beside(file, &suffix);
    fs::rename(file, &aside)?;
    for companion in COMPANIONS {
        match fs::rename(beside(file, companion), beside(&aside, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}
