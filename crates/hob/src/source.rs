//! What a command reads: a file, or stdin.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;

/// Whether stdin is meant.
pub(crate) fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// The file's name for people.
pub(crate) fn shown(file: &Path) -> String {
    if is_stdin(file) {
        "stdin".to_owned()
    } else {
        file.display().to_string()
    }
}

/// The bytes of a file, or of stdin for `-`: no more than one beyond `most`, by which the caller
/// knows that there are too many.
///
/// # Errors
/// If it can't be read.
pub(crate) fn read(file: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::io(&shown(file), &error);
    let source: Box<dyn Read> = if is_stdin(file) {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    let mut source = source.take(most as u64 + 1);
    source.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
