//! Definitions of pins on the disk: one small JSON file each, either whole or not there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hob_api::pin::PIN_TEXT_BYTES_MAX;
use hob_ipc::message::PINS_MAX;

use super::{Definition, Owner, PinName};

/// What a file that is not whole yet ends with.
pub(super) const UNFINISHED: &str = ".tmp";
/// What a definition's file ends with.
const EXTENSION: &str = ".json";
/// Longest file: the text, whatever has to be escaped in it, names, and what is around each of a
/// thousand messages, some 35 bytes.
const FILE_BYTES_MAX: u64 = 6 * PIN_TEXT_BYTES_MAX as u64 + (64 << 10);

/// All definitions in `folder`. A file that can't be read stays where it is, with a line in the log.
pub(super) fn read_all(folder: &Path) -> Vec<Definition> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "pins can't be read");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path
            .as_os_str()
            .as_encoded_bytes()
            .ends_with(format!("{EXTENSION}{UNFINISHED}").as_bytes())
        {
            // Of a write that a power cut ended.
            let _ = fs::remove_file(&path);
            continue;
        }
        match read(&path) {
            Ok(definition) if found.len() < PINS_MAX => found.push(definition),
            Ok(_) => tracing::warn!(file = %path.display(), "one pin too many is left out"),
            Err(error) => tracing::warn!(file = %path.display(), %error, "a pin can't be read"),
        }
    }
    found.sort_by(|a, b| (a.owner, &a.name).cmp(&(b.owner, &b.name)));
    found
}

fn read(path: &Path) -> io::Result<Definition> {
    let mut text = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut text)?;
    // What the parser says may quote the text, which does not belong in the log.
    let definition: Definition = serde_json::from_slice(&text)
        .map_err(|_| io::Error::other("it is not the definition of a pin"))?;
    if path.file_name() == Some(file_name(definition.owner, &definition.name).as_ref()) {
        Ok(definition)
    } else {
        Err(io::Error::other("the file has another pin's name"))
    }
}

/// Stores one, in place of one of the same owner and name.
///
/// # Errors
/// As the system says; the one before is then still there.
pub(super) fn store(folder: &Path, definition: &Definition) -> io::Result<()> {
    make_private(folder)?;
    let path = folder.join(file_name(definition.owner, &definition.name));
    let text = serde_json::to_vec(definition)?;
    replace(&path, |file| file.write_all(&text))
}

/// Deletes one.
///
/// # Errors
/// As the system says.
pub(super) fn delete(folder: &Path, owner: Owner, name: &PinName) -> io::Result<()> {
    match fs::remove_file(folder.join(file_name(owner, name))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync(folder)
}

/// Makes a folder that is its owner's alone.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file so that `path` has either what it had or all of the new one, whenever the power
/// goes.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&unfinished)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    if let Err(error) = written {
        // The write's failure matters, not that of clearing up after it.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    path.parent().map_or(Ok(()), sync)
}

/// Makes renames and removals in a folder survive a power cut.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn file_name(owner: Owner, name: &PinName) -> String {
    let owner = owner.map_or_else(|| "shared".to_owned(), |uid| uid.to_string());
    format!("{owner}.{}{EXTENSION}", name.as_str())
}
