//! Resource limits, and dying first when memory runs out.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::LayerError;

/// Descriptors: the socket twice, standard output and error, the model, and some to spare while
/// the backend reads `/sys`.
const DESCRIPTORS_MAX: u64 = 16;
/// The kernel's most willing victim: the engine can be started again, hobd holds state.
const OOM_SCORE_ADJ: &str = "1000";

/// Lowers the limits for good, soft and hard.
///
/// # Errors
/// [`LayerError`] with the limit that could not be set.
pub fn lower(memory_bytes_max: Option<u64>) -> Result<(), LayerError> {
    let limits = [
        // A core dump would write prompts to the disk.
        (Resource::Core, Some(0)),
        // The engine writes to sockets and pipes only.
        (Resource::Fsize, Some(0)),
        (Resource::Nofile, Some(DESCRIPTORS_MAX)),
        // Private memory only: the model's mapping does not count. An allocation above it
        // fails, which ends the engine and nothing else.
        (Resource::Data, memory_bytes_max),
    ];
    for (resource, value) in limits {
        let Some(value) = value else { continue };
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        setrlimit(resource, limit)
            .map_err(|error| LayerError::new("rlimits", format!("{resource:?}: {error}")))?;
    }
    Ok(())
}

/// Volunteers to be killed before anybody else when memory runs out.
///
/// # Errors
/// [`LayerError`].
pub fn die_first() -> Result<(), LayerError> {
    // RLIMIT_FSIZE does not bind files of the proc file system.
    fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ)
        .map_err(|error| LayerError::new("oom-first", error))
}

/// Checks that no thread would stay outside the sandbox.
///
/// # Errors
/// [`LayerError`] if there is a second thread.
pub fn one_thread() -> Result<(), LayerError> {
    let error = |cause: String| LayerError::new("one-thread", cause);
    let threads = fs::read_dir("/proc/self/task")
        .map_err(|cause| error(cause.to_string()))?
        .count();
    if threads == 1 {
        Ok(())
    } else {
        Err(error(format!("there are {threads} threads")))
    }
}
