//! The file in which a measurement outlives hobd, as settings read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hob_api::tuning::Tuning;

/// Longest such file in bytes; seven trials have some two thousand.
const BYTES_MAX: u64 = 64 << 10;
/// Most threads that a setting may have.
const THREADS_MAX: u32 = 256;

/// Reads it; `None` if there is none.
///
/// # Errors
/// When it can't be read, or nothing of hobd's own is in it.
pub fn read(path: &Path) -> io::Result<Option<Tuning>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    let tuning: Tuning = serde_json::from_str(&text)?;
    let threads = tuning
        .threads
        .is_none_or(|threads| (1..=THREADS_MAX).contains(&threads));
    let weights = tuning.weights.as_deref();
    if !threads || !weights.is_none_or(|weights| ["mapped", "copied"].contains(&weights)) {
        return Err(io::Error::other("it has values that no setting may have"));
    }
    Ok(Some(tuning))
}

/// Writes it, so that a power cut leaves the old or the new one.
///
/// # Errors
/// When the disk fails.
pub fn write(path: &Path, tuning: &Tuning) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    let mut text = serde_json::to_vec_pretty(tuning)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// Removes it, if there is one.
///
/// # Errors
/// When the disk fails.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
