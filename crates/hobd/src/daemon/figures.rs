//! Figures from `/proc`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

/// More than the line of `/proc/PID/statm`: seven numbers.
const STATM_BYTES: usize = 160;

/// hobd's own resident memory in bytes; 0 if it can't be told.
pub(super) fn rss_bytes() -> u64 {
    File::open("/proc/self/statm").map_or(0, |statm| resident(&statm))
}

/// The engine's `/proc/PID/statm`. Where units hide processes of others from hobd, the engine is hidden
/// too once it has closed its sandbox: a file that was opened before goes on telling.
#[derive(Clone, Debug, Default)]
pub(super) struct EngineMemory(Arc<Mutex<Option<File>>>);

impl EngineMemory {
    /// Another engine, or none.
    pub(super) fn replace(&self, statm: Option<File>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = statm;
    }

    /// Resident memory in bytes; 0 without an engine.
    pub(super) fn rss_bytes(&self) -> u64 {
        let statm = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        statm.as_ref().map_or(0, resident)
    }
}

/// The second field of `proc_pid_statm(5)`, which counts in pages; 0 once the process is gone.
fn resident(statm: &File) -> u64 {
    let mut line = [0; STATM_BYTES];
    let read = statm.read_at(&mut line, 0).unwrap_or(0);
    let line = String::from_utf8_lossy(&line[..read]);
    let pages = line.split_ascii_whitespace().nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_opened_tells_anew_each_time_until_the_process_is_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let memory = EngineMemory::default();
        assert_eq!(memory.rss_bytes(), 0);
        memory.replace(File::open(format!("/proc/{}/statm", child.id())).ok());
        assert!(memory.rss_bytes() > 0);
        assert!(memory.rss_bytes() > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(memory.rss_bytes(), 0);
    }

    #[test]
    fn hobd_knows_its_own() {
        let before = rss_bytes();
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(rss_bytes() >= before + (48 << 20), "{}", held.len());
    }
}
