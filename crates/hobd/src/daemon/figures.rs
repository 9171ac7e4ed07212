//! Figures from `/proc`.

/// Resident memory of the process named `pid` (or `self`), in bytes; 0 if it can't be told.
pub(super) fn rss_bytes(pid: &str) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    // The second field of proc_pid_statm(5).
    let pages: u64 = statm
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}
