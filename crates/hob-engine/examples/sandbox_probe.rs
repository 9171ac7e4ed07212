//! Enters the engine's sandbox and tries one thing, named by the argument. `tests/sandbox.rs`
//! runs it for each and looks at how it ends: 0 if the thing succeeded, 10 if it was refused
//! with an error, or by a signal.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::exit,
    clippy::undocumented_unsafe_blocks,
    reason = "each block makes one system call with constant arguments"
)]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use hob_engine::sandbox::limits::Bounds;
use hob_engine::sandbox::{self, Openable};
use hob_ipc::message::SandboxPolicy;

const REFUSED: i32 = 10;

fn main() {
    let attempt = std::env::args().nth(1).unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let file = File::open("/proc/self/exe").unwrap();
    let policy = SandboxPolicy::Required;
    // For storing weights anew, there are two files.
    let (source, target) = (file_of(b"source"), file_of(b""));
    let (kind, attempt) = Kind::of(&attempt);
    let openable = (kind == Kind::Files).then(|| Openable {
        read: source.as_fd(),
        write: target.as_fd(),
    });
    let bounds = Bounds {
        memory: Some(256 << 20),
        file: if openable.is_some() { 4096 } else { 0 },
        gpu: kind.has_gpu(),
    };
    let mut layers = sandbox::confine(policy, bounds, Ok(())).unwrap();
    if attempt == "two-threads" {
        std::thread::spawn(std::thread::park);
    }
    let mut drivers_thread = None;
    let closed = if kind.has_gpu() {
        sandbox::gpu::enter(policy, &[NODE.into()]).and_then(|mut entered| {
            drivers_thread = (attempt == "thread").then(waiting_thread);
            if kind != Kind::Driver {
                entered.extend(sandbox::gpu::close(policy, kind == Kind::Code)?);
            }
            Ok(entered)
        })
    } else {
        sandbox::close(policy, openable)
    };
    match closed {
        Ok(closed) => layers.extend(closed),
        Err(error) => {
            eprint(&error.to_string());
            std::process::exit(REFUSED);
        }
    }
    let done = match attempt {
        "harmless" => harmless(&mut ours, &mut theirs, &file),
        "layers" => {
            eprint(&layers.join(" "));
            true
        }
        "thread" => drivers_thread.is_some_and(WaitingThread::opens),
        "node" => open(NODE, libc::O_RDWR | libc::O_CLOEXEC),
        "node-to-read" => open(NODE, libc::O_RDONLY),
        "other-node" => open("/dev/zero", libc::O_RDWR),
        "library" => File::open(LIBRARY).is_ok(),
        "library-to-write" => open(LIBRARY, libc::O_RDWR),
        "drm" => unsafe { libc::ioctl(0, 0xc010_6400, &raw mut layers) == 0 },
        "abort" => std::process::abort(),
        "panic" => panic!("as asked"),
        "allocate" => allocate(),
        "open" => File::open("/etc/passwd").is_ok(),
        "create" => File::create("/tmp/hob-sandbox-probe").is_ok(),
        "socket" => TcpListener::bind("127.0.0.1:0").is_ok(),
        "connect" => UnixStream::connect("/run/hob/hob.sock").is_ok(),
        "execute" => Command::new("/bin/true").status().is_ok(),
        "fork" => unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) >= 0 },
        "namespace" => unsafe { libc::unshare(libc::CLONE_NEWUSER) == 0 },
        "trace" => unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0 },
        "read-parent" => unsafe {
            libc::syscall(libc::SYS_process_vm_readv, libc::getppid(), 0, 0, 0, 0, 0) >= 0
        },
        "kill-parent" => unsafe { libc::kill(libc::getppid(), 0) == 0 },
        "tgkill-init" => unsafe { libc::syscall(libc::SYS_tgkill, 1, 1, 0) == 0 },
        "map-code" => map(&file, libc::PROT_READ | libc::PROT_EXEC),
        "map-data" => map(&file, libc::PROT_READ),
        "make-code" => make_code(),
        "memfd" => unsafe { libc::memfd_create(c"code".as_ptr(), 0) >= 0 },
        "io-uring" => unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, 0) >= 0 },
        "bpf" => unsafe { libc::syscall(libc::SYS_bpf, 0, 0, 0) >= 0 },
        "ioctl" => unsafe { libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr()) == 0 },
        "dup" => unsafe { libc::dup(0) >= 0 },
        "rename" => std::fs::rename("/tmp/a", "/tmp/b").is_ok(),
        "dumpable" => unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) == 0 },
        "read" => read(&source) == *b"source",
        "write" => write_anew(&target),
        "write-too-much" => std::fs::write(name(&target), [1; 8192]).is_ok(),
        "read-target" => File::open(name(&target)).is_ok(),
        "write-source" => File::create(name(&source)).is_ok(),
        "truncate-source" => open(&name(&source), libc::O_RDONLY | libc::O_TRUNC),
        "append" => open(&name(&target), libc::O_WRONLY | libc::O_APPEND),
        "both-ways" => open(&name(&target), libc::O_RDWR),
        "path" => open("/etc/passwd", libc::O_PATH),
        "folder" => std::fs::read_dir("/").is_ok(),
        "own-memory" => File::open("/proc/self/mem").is_ok(),
        "open-socket" => open(&name(&ours), libc::O_RDONLY),
        other => panic!("what is {other}?"),
    };
    std::process::exit(if done { 0 } else { REFUSED });
}

/// For what purpose the sandbox is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Serving a model.
    Plain,
    /// Storing its weights anew.
    Files,
    /// Computing on a GPU.
    Gpu,
    /// The same with a driver that makes code.
    Code,
    /// The same while the driver starts.
    Driver,
}

impl Kind {
    /// As the beginning of an attempt's name says, and the rest of that.
    fn of(attempt: &str) -> (Self, &str) {
        let kinds = [
            ("files-", Self::Files),
            ("gpu-", Self::Gpu),
            ("code-", Self::Code),
            ("driver-", Self::Driver),
        ];
        let named = kinds.into_iter().find_map(|(prefix, kind)| {
            let rest = attempt.strip_prefix(prefix)?;
            Some((kind, rest))
        });
        named.unwrap_or((Self::Plain, attempt))
    }

    fn has_gpu(self) -> bool {
        matches!(self, Self::Gpu | Self::Code | Self::Driver)
    }
}

/// In a GPU's place: a node that everybody may open.
const NODE: &str = "/dev/null";
/// In a library's place.
const LIBRARY: &str = "/usr/bin/env";

/// A thread of a driver, which was there before the sandbox closed.
struct WaitingThread {
    go: Sender<()>,
    opened: JoinHandle<bool>,
}

fn waiting_thread() -> WaitingThread {
    let (go, gone) = mpsc::channel();
    let opened = std::thread::spawn(move || {
        gone.recv().unwrap();
        File::open("/etc/passwd").is_ok() || File::open(LIBRARY).is_ok()
    });
    WaitingThread { go, opened }
}

impl WaitingThread {
    /// Whether it can open what nobody may.
    fn opens(self) -> bool {
        self.go.send(()).unwrap();
        self.opened.join().unwrap()
    }
}

/// A file without a name, as hob makes them.
fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// By what name llama.cpp is told to open a file.
fn name(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn open(path: &str, flags: libc::c_int) -> bool {
    let path = std::ffi::CString::new(path).unwrap();
    unsafe { libc::open(path.as_ptr(), flags) >= 0 }
}

fn read(source: &File) -> [u8; 6] {
    let mut bytes = [0; 6];
    let mut file = File::open(name(source)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    bytes
}

/// What is written behind the name is in the file that was open before.
fn write_anew(mut target: &File) -> bool {
    let written = std::fs::write(name(target), b"more");
    written.is_ok() && target.seek(SeekFrom::End(0)).is_ok_and(|size| size == 4)
}

fn eprint(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What the engine does all day.
fn harmless(ours: &mut UnixStream, theirs: &mut UnixStream, mut file: &File) -> bool {
    let mut magic = [0; 4];
    file.read_exact(&mut magic).unwrap();
    let sum = std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(|| (0..1000_u64).sum::<u64>())
        .unwrap()
        .join()
        .unwrap();
    ours.write_all(&sum.to_le_bytes()).unwrap();
    let mut got = [0; 8];
    theirs.read_exact(&mut got).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1));
    let large = vec![1_u8; 32 << 20];
    magic == *b"\x7fELF" && u64::from_le_bytes(got) == 499_500 && large.iter().all(|b| *b == 1)
}

/// More than the limit that `main` sets.
fn allocate() -> bool {
    Vec::<u8>::new().try_reserve_exact(1 << 30).is_ok()
}

fn map(file: &File, protection: libc::c_int) -> bool {
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            protection,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    address != libc::MAP_FAILED
}

fn make_code() -> bool {
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) == 0
    }
}
