//! Checks of the board itself; they need no daemon.

use std::fs;

use hob_api::status::Status;

use super::Check;
use crate::render::bytes;
use crate::status::scarcity;

/// CPU features without which a model runs at a fraction of its speed.
#[cfg(target_arch = "x86_64")]
const CPU_FEATURES: &[&str] = &["avx2", "fma", "f16c", "bmi2"];
/// CPU features without which a model runs at a fraction of its speed.
#[cfg(target_arch = "aarch64")]
const CPU_FEATURES: &[&str] = &["asimddp"];
/// CPU features without which a model runs at a fraction of its speed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const CPU_FEATURES: &[&str] = &[];

/// Kernel, CPU and memory.
pub(super) fn checks(status: Option<&Status>) -> Vec<Check> {
    // A file that can't be read gives the check nothing to go by, and it says so.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    let mut checks = vec![
        cpu(&read("/proc/cpuinfo")),
        memory(&read("/proc/meminfo"), status),
    ];
    // Where an engine runs, the layers that it has in force say more than what could be.
    if status.is_none_or(|status| status.engine.is_none()) {
        checks.push(seccomp(&actions));
        checks.push(landlock(&read("/sys/kernel/security/lsm")));
    }
    checks
}

fn seccomp(actions: &str) -> Check {
    if actions
        .split_whitespace()
        .any(|action| action == "kill_process")
    {
        Check::ok("seccomp", "supported by the kernel")
    } else {
        Check::problem("seccomp", "the kernel has no seccomp filters")
            .hint("the engine does not start without its sandbox unless hobd's settings allow it")
    }
}

fn landlock(lsm: &str) -> Check {
    if lsm.trim().is_empty() {
        return Check::warning("landlock", "not known: /sys/kernel/security can't be read")
            .hint("`hob status` shows the layers in force once a model is loaded");
    }
    if lsm.trim().split(',').any(|name| name == "landlock") {
        Check::ok("landlock", "supported by the kernel")
    } else {
        Check::problem("landlock", "not enabled in the kernel").hint(
            "add `landlock` to the kernel's `lsm=` boot parameter, or set sandbox = \"degraded\"",
        )
    }
}

fn cpu(cpuinfo: &str) -> Check {
    let flags = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| matches!(name.trim(), "flags" | "Features"))
        .map(|(_, flags)| flags.split_whitespace().collect::<Vec<_>>());
    let Some(flags) = flags else {
        return Check::warning("cpu", "not known: /proc/cpuinfo lists no features");
    };
    let (has, lacks): (Vec<_>, Vec<_>) = CPU_FEATURES.iter().partition(|f| flags.contains(f));
    if lacks.is_empty() {
        Check::ok("cpu", format!("has {}", join(&has)))
    } else {
        Check::warning("cpu", format!("lacks {}", join(&lacks)))
            .hint("models run, at a fraction of the speed of newer CPUs; choose a small one")
    }
}

fn join(features: &[&&str]) -> String {
    features.iter().map(|f| **f).collect::<Vec<_>>().join(", ")
}

fn memory(meminfo: &str, status: Option<&Status>) -> Check {
    let Some(available) = meminfo_bytes(meminfo, "MemAvailable") else {
        return Check::warning("memory", "not known: /proc/meminfo can't be read");
    };
    let free = format!("{} available", bytes(available));
    let scarce = status.and_then(|status| scarcity(&status.memory));
    if let Some(scarce) = scarce {
        return Check::warning("memory", format!("{free}; {scarce}"))
            .hint("end other programs, or choose a smaller model (`hob models list`)");
    }
    if status
        .and_then(|status| status.engine.as_ref())
        .is_some_and(|e| e.load_ms > 0)
    {
        return Check::ok("memory", format!("{free}, and the model is loaded"));
    }
    // hobd's own figure, from the last load.
    let needed = status.map_or(0, |status| {
        let memory = &status.memory;
        let parts = [memory.weights_bytes, memory.kv_bytes, memory.compute_bytes];
        parts.into_iter().fold(0, u64::saturating_add)
    });
    if needed == 0 {
        return Check::ok("memory", free);
    }
    let finding = format!("{free}, the model needs about {}", bytes(needed));
    if available >= needed {
        Check::ok("memory", finding)
    } else {
        Check::problem("memory", finding)
            .hint("choose a smaller model (`hob models list`), or a smaller n_ctx")
    }
}

/// A figure of `/proc/meminfo`, which counts in KiB.
pub(crate) fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use hob_api::status::MemoryStatus;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn landlock_is_found_among_others() {
        assert_eq!(landlock("capability,landlock,bpf\n").verdict, Verdict::Ok);
        assert_eq!(landlock("capability,bpf").verdict, Verdict::Problem);
        assert_eq!(landlock("").verdict, Verdict::Warning);
    }

    #[test]
    fn seccomp_needs_kill_process() {
        assert_eq!(
            seccomp("kill_process kill_thread trap errno").verdict,
            Verdict::Ok
        );
        assert_eq!(seccomp("").verdict, Verdict::Problem);
    }

    #[test]
    fn cpu_features_are_named() {
        let all = CPU_FEATURES.join(" ");
        assert_eq!(cpu(&format!("flags\t\t: fpu {all}\n")).verdict, Verdict::Ok);
        assert_eq!(cpu("").verdict, Verdict::Warning);
        let bare = cpu("Features : fp\n");
        assert_eq!(
            bare.verdict == Verdict::Ok,
            CPU_FEATURES.is_empty(),
            "{bare:?}"
        );
    }

    #[test]
    fn memory_is_compared_with_the_model() {
        let meminfo = "MemTotal:  2000000 kB\nMemAvailable:    200000 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "MemAvailable"), Some(204_800_000));
        let with = |weights_bytes, given_up: &str| {
            let given_up = given_up.to_owned();
            let needed = MemoryStatus {
                weights_bytes,
                kv_bytes: 4_800_000,
                given_up,
                ..Default::default()
            };
            let status = Status {
                memory: needed,
                ..Default::default()
            };
            memory(meminfo, Some(&status)).verdict
        };
        assert_eq!(with(200_000_000, "none"), Verdict::Ok);
        assert_eq!(with(200_000_001, "none"), Verdict::Problem);
        assert_eq!(with(1, "cache"), Verdict::Warning);
    }
}
