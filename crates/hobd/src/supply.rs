//! How much memory there is, and how hard it is to come by: `/proc` and control groups (v2), read
//! when asked and never by themselves.
//!
//! Formats: `proc_meminfo(5)`, and `Documentation/accounting/psi.rst` and
//! `Documentation/admin-guide/cgroup-v2.rst` of the kernel.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes; the longest of them, `memory.stat`, has some 2,000.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Most control groups above one another that are looked at.
const GROUPS_MAX: usize = 32;
/// The variable that names another root folder for [`Tree`], for tests.
pub const ROOT_VARIABLE: &str = "HOB_MEMORY_ROOT";

/// The machine's memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// All of it.
    pub total: u64,
    /// What can be had without swapping.
    pub available: u64,
}

/// What there is to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supply {
    /// `None` if `/proc/meminfo` can't be read.
    pub machine: Option<Machine>,
    /// What the tightest limit of hobd's control groups leaves, in bytes; `None` without a limit.
    pub cgroup_left: Option<u64>,
}

/// The share of the last ten seconds in which tasks waited for memory, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// At least one task waited.
    pub some: f32,
    /// All tasks that could have run waited.
    pub full: f32,
}

/// The file tree that tells.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The machine's own, or the one that [`ROOT_VARIABLE`] names.
    pub fn from_env() -> Self {
        let root = std::env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty());
        Self::at(root.unwrap_or_else(|| "/".into()))
    }

    /// The one below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What there is to take now.
    pub fn supply(&self) -> Supply {
        let meminfo = read(&self.root.join("proc/meminfo"));
        let kib = |name| field(&meminfo, name).map(|kib| kib.saturating_mul(1024));
        let machine = kib("MemTotal:").zip(kib("MemAvailable:"));
        Supply {
            machine: machine.map(|(total, available)| Machine { total, available }),
            cgroup_left: self.groups().iter().filter_map(|group| left(group)).min(),
        }
    }

    /// How hard memory is to come by, for the machine or for hobd's control group, whichever is
    /// worse; `None` where the kernel does not say, as those of Raspberry Pi OS by default.
    ///
    /// Tasks that copy large files wait for pages, too, with nearly all memory available: what the
    /// kernel says of the machine counts only while less than a quarter is.
    pub fn stall(&self) -> Option<Stall> {
        let plenty = |machine: &Machine| machine.available >= machine.total / 4;
        let plenty = self.supply().machine.as_ref().is_some_and(plenty);
        let machine = stall(&read(&self.root.join("proc/pressure/memory")));
        let machine = machine.map(|stall| if plenty { Stall::default() } else { stall });
        let groups = self.groups();
        let group = groups.first().map(|group| group.join("memory.pressure"));
        let group = group.and_then(|path| stall(&read(&path)));
        [machine, group].into_iter().flatten().reduce(|a, b| Stall {
            some: a.some.max(b.some),
            full: a.full.max(b.full),
        })
    }

    /// The folders of hobd's control group and of all above it.
    fn groups(&self) -> Vec<PathBuf> {
        let own = read(&self.root.join("proc/self/cgroup"));
        let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::/")) else {
            return Vec::new();
        };
        let mount = self.root.join("sys/fs/cgroup");
        let folders = Path::new(path).ancestors().take(GROUPS_MAX);
        folders.map(|folder| mount.join(folder)).collect()
    }
}

/// What a control group's limit leaves: none of the file pages in it count as used, because the
/// kernel drops them when somebody needs the memory.
fn left(group: &Path) -> Option<u64> {
    let limit = |name| -> Option<u64> { read(&group.join(name)).trim().parse().ok() };
    let limits = [limit("memory.max"), limit("memory.high")];
    let limit = limits.into_iter().flatten().min()?;
    let used: u64 = read(&group.join("memory.current")).trim().parse().ok()?;
    let stat = read(&group.join("memory.stat"));
    let pages = ["inactive_file", "active_file"].map(|name| field(&stat, name).unwrap_or(0));
    let dropped = pages[0].saturating_add(pages[1]);
    Some(limit.saturating_sub(used.saturating_sub(dropped)))
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut words = lines.find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    words.next()?.parse().ok()
}

fn stall(text: &str) -> Option<Stall> {
    let average = |kind: &str| -> Option<f32> {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let mut words = line.split_whitespace();
        let average = words.find_map(|word| word.strip_prefix("avg10="))?;
        average.parse().ok().filter(|share: &f32| share.is_finite())
    };
    let some = average("some ")?;
    // Kernels before 5.13 have no `full` for the machine as a whole.
    let full = average("full ").unwrap_or(0.0);
    Some(Stall { some, full })
}

/// The text of a file; empty if there is none to be had, so that its fields are unknown.
fn read(path: &Path) -> String {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_or_else(|_| String::new(), |_| text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let tree = Tree::at(root.path());
        (root, tree)
    }

    #[test]
    fn the_tightest_group_counts_and_file_pages_do_not() {
        let (_root, tree) = tree(&[
            ("proc/meminfo", "MemTotal: 2000 kB\nMemAvailable: 500 kB\n"),
            (
                "proc/self/cgroup",
                "1:name=x:/y\n0::/system.slice/hobd.service\n",
            ),
            (
                "sys/fs/cgroup/system.slice/hobd.service/memory.max",
                "max\n",
            ),
            (
                "sys/fs/cgroup/system.slice/hobd.service/memory.high",
                "9000\n",
            ),
            (
                "sys/fs/cgroup/system.slice/hobd.service/memory.current",
                "100\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "1000\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "900\n"),
            (
                "sys/fs/cgroup/system.slice/memory.stat",
                "anon 300\nactive_file 200\ninactive_file 400\n",
            ),
        ]);
        let supply = tree.supply();
        let machine = Machine {
            total: 2_048_000,
            available: 512_000,
        };
        assert_eq!(supply.machine, Some(machine));
        assert_eq!(supply.cgroup_left, Some(700));
    }

    #[test]
    fn the_worse_of_machine_and_group_counts() {
        let line = |some, full| {
            format!(
                "some avg10={some} avg60=0 avg300=0 total=1\nfull avg10={full} avg60=0 total=1\n"
            )
        };
        let (root, tree) = tree(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/pressure/memory", &line("1.50", "0.25")),
            ("sys/fs/cgroup/a/memory.pressure", &line("0.00", "12.00")),
        ]);
        let worse = Stall {
            some: 1.5,
            full: 12.0,
        };
        assert_eq!(tree.stall(), Some(worse));
        std::fs::remove_dir_all(root.path()).unwrap();
        assert_eq!(tree.stall(), None);
        assert_eq!(tree.supply(), Supply::default());
    }

    #[test]
    fn a_machine_with_plenty_that_waits_for_files_is_not_short_of_memory() {
        let waits = "some avg10=60.00 avg60=0 total=1\nfull avg10=30.00 avg60=0 total=1\n";
        let stalled = Stall {
            some: 60.0,
            full: 30.0,
        };
        for (left, stall) in [("250", Stall::default()), ("249", stalled)] {
            let meminfo = format!("MemTotal: 1000 kB\nMemAvailable: {left} kB\n");
            let (_root, tree) = tree(&[
                ("proc/meminfo", meminfo.as_str()),
                ("proc/pressure/memory", waits),
            ]);
            assert_eq!(tree.stall(), Some(stall), "{left}");
        }
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in ["", "some", "some avg10=", "some avg10=nan", "full avg10=3"] {
            assert_eq!(stall(text), None, "{text}");
        }
        assert_eq!(field("MemTotal:\nMemFree: x kB", "MemFree:"), None);
    }
}
