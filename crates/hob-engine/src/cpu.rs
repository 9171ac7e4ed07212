//! The processor: whether it can run this build, and how many threads are worth their while.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hob_ipc::kernels::Features;

use crate::raw;

/// What the kernels use without asking and this processor lacks, in words; `None` if it has all.
pub fn missing_features() -> Option<String> {
    Features::here().lack(&raw::kernel_features())
}

/// Threads worth starting: the physical cores that this process may use, at least 1.
///
/// A second thread on a core shares its arithmetic units, so it costs time rather than saves
/// it. A control group's quota counts as whole cores, rounded down: a thread that is throttled
/// in the middle of a step holds up all the others.
pub fn default_threads() -> u32 {
    let allowed = rustix::thread::sched_getaffinity(None).map_or_else(
        |_| vec![0],
        |set| {
            (0..rustix::thread::CpuSet::MAX_CPU)
                .filter(|cpu| set.is_set(*cpu))
                .collect()
        },
    );
    threads(Path::new("/"), &allowed)
}

/// As [`default_threads`], with `root` in place of `/` and the processors that are allowed.
fn threads(root: &Path, allowed: &[usize]) -> u32 {
    let cores = physical_cores(root, allowed);
    let cores = quota_cores(root).map_or(cores, |quota| cores.min(quota));
    u32::try_from(cores.max(1)).unwrap_or(u32::MAX)
}

fn physical_cores(root: &Path, allowed: &[usize]) -> usize {
    let topology = |cpu: usize, file: &str| {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/{file}");
        read_number(&root.join(path))
    };
    let cores: Option<BTreeSet<_>> = allowed
        .iter()
        .map(|cpu| {
            Some((
                topology(*cpu, "physical_package_id")?,
                // Numbers of cores repeat in each cluster of some boards.
                topology(*cpu, "cluster_id").unwrap_or(-1),
                topology(*cpu, "core_id")?,
            ))
        })
        .collect();
    // Without a topology every processor counts as a core.
    cores.map_or(allowed.len(), |cores| cores.len())
}

fn read_number(path: &Path) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whole cores that the control groups above this process leave it; `None` for no limit.
fn quota_cores(root: &Path) -> Option<usize> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter_map(|(controllers, path)| {
            let hierarchy = if controllers.is_empty() {
                root.join("sys/fs/cgroup")
            } else if controllers.split(',').any(|name| name == "cpu") {
                root.join("sys/fs/cgroup").join(controllers)
            } else {
                return None;
            };
            smallest_quota(&hierarchy, path)
        })
        .min()
}

/// The smallest quota from `path` up to the hierarchy's root: each level limits those below.
fn smallest_quota(hierarchy: &Path, path: &str) -> Option<usize> {
    let mut group: PathBuf = hierarchy.join(path.trim_start_matches('/'));
    let mut smallest = None;
    loop {
        if let Some(quota) = quota_of(&group) {
            smallest = Some(smallest.map_or(quota, |least: usize| least.min(quota)));
        }
        if group == hierarchy || !group.pop() {
            return smallest;
        }
    }
}

fn quota_of(group: &Path) -> Option<usize> {
    let (quota, period) = if let Ok(line) = fs::read_to_string(group.join("cpu.max")) {
        let mut fields = line.split_whitespace().map(str::parse::<i64>);
        (fields.next()?.ok()?, fields.next()?.ok()?)
    } else {
        (
            read_number(&group.join("cpu.cfs_quota_us"))?,
            read_number(&group.join("cpu.cfs_period_us"))?,
        )
    };
    // -1 is version 1's word for no quota.
    if quota < 0 || period <= 0 {
        return None;
    }
    usize::try_from(quota / period).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(self, path: &str, text: &str) -> Self {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn cpu(self, cpu: usize, package: i32, core: i32) -> Self {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            self.file(
                &format!("{folder}/physical_package_id"),
                &format!("{package}\n"),
            )
            .file(&format!("{folder}/core_id"), &format!("{core}\n"))
        }

        fn threads(&self, allowed: &[usize]) -> u32 {
            threads(self.0.path(), allowed)
        }
    }

    /// Two packages of two cores with two threads each.
    fn large() -> Tree {
        (0..8).fold(Tree::new(), |tree, cpu| {
            let core = i32::try_from(cpu).unwrap() % 4;
            tree.cpu(cpu, core / 2, core % 2)
        })
    }

    #[test]
    fn sibling_threads_count_once() {
        assert_eq!(large().threads(&[0, 1, 2, 3, 4, 5, 6, 7]), 4);
        assert_eq!(large().threads(&[0, 4]), 1);
        assert_eq!(large().threads(&[0, 1]), 2);
    }

    #[test]
    fn clusters_with_the_same_core_numbers_are_told_apart() {
        let tree = Tree::new().cpu(0, 0, 0).cpu(1, 0, 0);
        assert_eq!(tree.threads(&[0, 1]), 1);
        let tree = tree
            .file("sys/devices/system/cpu/cpu0/topology/cluster_id", "0")
            .file("sys/devices/system/cpu/cpu1/topology/cluster_id", "1");
        assert_eq!(tree.threads(&[0, 1]), 2);
    }

    #[test]
    fn without_a_topology_every_processor_counts() {
        assert_eq!(Tree::new().threads(&[0, 1, 2]), 3);
        assert_eq!(Tree::new().threads(&[]), 1);
    }

    #[test]
    fn the_quota_of_any_group_above_counts() {
        let tree = large()
            .file("proc/self/cgroup", "0::/a/b\n")
            .file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
            .file("sys/fs/cgroup/a/cpu.max", "250000 100000\n");
        assert_eq!(tree.threads(&[0, 1, 2, 3]), 2);
    }

    #[test]
    fn less_than_a_core_is_one_thread() {
        let tree = large()
            .file("proc/self/cgroup", "0::/\n")
            .file("sys/fs/cgroup/cpu.max", "50000 100000\n");
        assert_eq!(tree.threads(&[0, 1, 2, 3]), 1);
    }

    #[test]
    fn version_1_of_control_groups_is_understood() {
        let tree = large()
            .file("proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/x\n")
            .file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "300000\n")
            .file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n")
            .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
            .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        assert_eq!(tree.threads(&[0, 1, 2, 3]), 3);
    }

    #[test]
    fn this_machine_gives_a_sane_number() {
        let threads = default_threads();
        let processors = std::thread::available_parallelism().unwrap().get();
        assert!((1..=u32::try_from(processors).unwrap()).contains(&threads));
    }
}
