//! Resource limits, and dying first when memory runs out.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::LayerError;
use crate::raw;

/// Descriptors: the socket three times, standard output and error, the model, the file to write if there is
/// one, both once more as llama.cpp opens them itself, and some to spare
/// while the backend reads `/sys`, and later for memory that hobd shares to have pins written to.
const DESCRIPTORS_MAX: u64 = 16;
/// The same with a GPU: drivers hold nodes open many times over, one for each of their larger buffers.
const GPU_DESCRIPTORS_MAX: u64 = 1024;
/// The kernel's most willing victim: the engine can be started again, hobd holds state.
const OOM_SCORE_ADJ: &str = "1000";

/// What the process may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of private memory; `None` for no bound.
    pub memory: Option<u64>,
    /// Bytes of a file that it writes; 0 for one that writes to sockets and pipes only.
    pub file: u64,
    /// Whether it has a GPU's driver in it.
    pub gpu: bool,
}

/// Lowers the limits for good, soft and hard.
///
/// # Errors
/// [`LayerError`] with the limit that could not be set.
pub fn lower(bounds: Bounds) -> Result<(), LayerError> {
    let descriptors = if bounds.gpu {
        GPU_DESCRIPTORS_MAX
    } else {
        DESCRIPTORS_MAX
    };
    let limits = [
        // A core dump would write prompts to the disk.
        (Resource::Core, Some(0)),
        (Resource::Fsize, Some(bounds.file)),
        (Resource::Nofile, Some(descriptors)),
        // Private memory only: the model's mapping does not count. An allocation above it
        // fails, which ends the engine and nothing else.
        (Resource::Data, bounds.memory),
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

/// Why memory can't be kept in RAM.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The kernel refuses.
    #[error("memory can't be locked: {0}")]
    Refused(#[from] std::io::Error),
    /// Some may be locked, but not all that the engine may come to need.
    #[error("{limit} bytes of memory may be locked (RLIMIT_MEMLOCK), and {needed} may be needed")]
    Limit {
        /// What may be locked.
        limit: u64,
        /// What may be needed.
        needed: u64,
    },
}

/// Keeps all memory, up to `memory_bytes_max`, in RAM. It is asked for once, before the sandbox
/// closes, so that the sandbox needs to allow nothing for it.
///
/// # Errors
/// [`LockError`]. Under a limit that is too low, allocations would fail in the middle of answers.
pub fn lock_memory(memory_bytes_max: Option<u64>) -> Result<(), LockError> {
    if let Some(limit) = getrlimit(Resource::Memlock).current
        && !may_lock_anything()
    {
        let needed = memory_bytes_max.unwrap_or(u64::MAX);
        if limit < needed {
            return Err(LockError::Limit { limit, needed });
        }
    }
    Ok(raw::lock_memory()?)
}

/// Whether the process has `CAP_IPC_LOCK`, for which there is no limit.
fn may_lock_anything() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & (1 << CAP_IPC_LOCK) != 0)
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
