//! seccomp: the system calls that computing on an open model needs, and no others.
//!
//! Anything not listed ends the process with SIGSYS. The list was recorded on x86-64 with glibc and
//! libgomp; each entry says why it is there. On aarch64 the same names stand for that processor's
//! numbers; `scripts/check-arm64` tries both what is allowed and what is denied on a kernel there.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::LayerError;

mod gpu;

/// What the process is for, beside computing on an open model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing.
    Serve,
    /// Storing weights anew: files can be opened, as far as other layers allow it.
    Store,
    /// Computing on a GPU, whose driver has started. Its nodes can be opened, as far as other layers allow
    /// it, and nothing can that is only read.
    Gpu {
        /// Whether the driver makes code as it goes.
        makes_code: bool,
    },
}

/// Condition on one argument.
type Condition = (u8, SeccompCmpArgLen, SeccompCmpOp, u64);
/// Any one of several sets of conditions; none at all allows every call.
type Rules = Vec<Vec<Condition>>;

const DWORD: SeccompCmpArgLen = SeccompCmpArgLen::Dword;
const QWORD: SeccompCmpArgLen = SeccompCmpArgLen::Qword;

/// Calls without conditions, each with its reason.
const ALWAYS: &[(i64, &str)] = &[
    // The socket to hobd and the log.
    (
        libc::SYS_read,
        "commands from the socket; model parts that are not mapped",
    ),
    (libc::SYS_write, "events to the socket; log lines"),
    (libc::SYS_writev, "log lines of C++ streams"),
    (
        libc::SYS_sendto,
        "events to the socket, when the standard library sends",
    ),
    (
        libc::SYS_recvfrom,
        "commands from the socket, when the standard library receives",
    ),
    (
        libc::SYS_recvmsg,
        "commands from the socket, with descriptors of memory that hobd shares",
    ),
    (libc::SYS_close, "the model's descriptor after loading"),
    // The model, through its open descriptor.
    (libc::SYS_lseek, "the model's size and parts"),
    (libc::SYS_pread64, "model parts that are not mapped"),
    (libc::SYS_fstat, "the model's size"),
    (
        libc::SYS_newfstatat,
        "fstat in newer glibc; Landlock or not, it reads no contents",
    ),
    (
        libc::SYS_fadvise64,
        "llama.cpp announces sequential reading of the model",
    ),
    // Memory. mmap and mprotect are conditional, below.
    (libc::SYS_munmap, "freeing memory"),
    (libc::SYS_mremap, "growing large allocations"),
    (libc::SYS_brk, "small allocations"),
    (
        libc::SYS_madvise,
        "freeing memory; llama.cpp announces use of the model's mapping",
    ),
    (libc::SYS_sysinfo, "the amount of memory"),
    // Threads: the reader, the heartbeat and OpenMP's. clone is conditional, below.
    (libc::SYS_futex, "locks and waiting"),
    (libc::SYS_set_robust_list, "start of a thread"),
    (libc::SYS_rseq, "start of a thread"),
    (
        libc::SYS_sigaltstack,
        "stack overflow handler of a Rust thread",
    ),
    (libc::SYS_sched_yield, "OpenMP's waiting"),
    (
        libc::SYS_sched_getaffinity,
        "number of processors, asked by glibc and OpenMP",
    ),
    (libc::SYS_gettid, "a thread's own number"),
    (libc::SYS_getpid, "the process's own number, to abort"),
    (libc::SYS_exit, "end of a thread"),
    (libc::SYS_exit_group, "end of the process"),
    (
        libc::SYS_restart_syscall,
        "the kernel resumes a sleep after a stop",
    ),
    // Signals: none are sent but to itself; tgkill is conditional, below.
    (
        libc::SYS_rt_sigaction,
        "abort() restores the default action",
    ),
    (libc::SYS_rt_sigprocmask, "abort() and starting threads"),
    (libc::SYS_rt_sigreturn, "return from a signal handler"),
    // Time and chance.
    (
        libc::SYS_clock_gettime,
        "time, where it is not in user space",
    ),
    (libc::SYS_clock_nanosleep, "the heartbeat's pause"),
    (libc::SYS_nanosleep, "the heartbeat's pause, in older glibc"),
    (libc::SYS_getrandom, "seeds"),
    // Answered with an error by `refuse`, so that callers take another way.
    (libc::SYS_clone3, "refused, see below"),
];

/// Calls that get an error instead of death.
const REFUSED: &[(libc::c_int, i64, &str)] = &[(
    libc::ENOSYS,
    libc::SYS_clone3,
    "its flags lie in memory, where a filter can't see them; glibc then calls clone",
)];
/// The same where nothing is to be opened.
const OPENING_REFUSED: (libc::c_int, i64, &str) = (
    libc::EACCES,
    libc::SYS_openat,
    "C libraries differ in the files they would like (locales, /sys); all cope without",
);

/// What `pthread_create` asks for; a clone with these shares everything and makes no process.
const THREAD_FLAGS: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD) as u64;
/// New namespaces, in which a thread would have capabilities.
const NAMESPACE_FLAGS: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// `prctl(PR_SET_VMA, …)`, by which glibc names its memory.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Memory that can be executed would let an attacker bring code along.
fn without_code() -> Rules {
    let no_exec = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    vec![vec![(2, DWORD, no_exec, 0)]]
}

fn conditional() -> Vec<(i64, Rules)> {
    let own_process = u64::from(std::process::id());
    vec![
        (libc::SYS_mmap, without_code()),
        (libc::SYS_mprotect, without_code()),
        // Threads, never processes.
        (
            libc::SYS_clone,
            vec![vec![
                (0, QWORD, SeccompCmpOp::MaskedEq(THREAD_FLAGS), THREAD_FLAGS),
                (0, QWORD, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0),
            ]],
        ),
        // abort() signals its own process, and death by SIGABRT tells hobd what happened.
        (
            libc::SYS_tgkill,
            vec![vec![(0, DWORD, SeccompCmpOp::Eq, own_process)]],
        ),
        // fdopen() asks how the model was opened.
        (
            libc::SYS_fcntl,
            vec![vec![(1, DWORD, SeccompCmpOp::Eq, libc::F_GETFL as u64)]],
        ),
        // Names of threads and of memory, for people who debug.
        (
            libc::SYS_prctl,
            vec![
                vec![(0, DWORD, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)],
                vec![(0, DWORD, SeccompCmpOp::Eq, PR_SET_VMA)],
            ],
        ),
    ]
}

/// Opening where files are to be opened, which Landlock chooses: to read, or to write anew from the
/// beginning. Older Landlocks do not know of truncating, so that what is opened to be read must not be
/// truncated by the way.
fn opening() -> Rules {
    let looked_at = libc::O_ACCMODE | libc::O_TRUNC | libc::O_CREAT | libc::O_PATH;
    let flags = |of: libc::c_int| {
        let operator = SeccompCmpOp::MaskedEq(u64::from(looked_at.cast_unsigned()));
        vec![(2, DWORD, operator, u64::from(of.cast_unsigned()))]
    };
    vec![
        flags(libc::O_RDONLY),
        flags(libc::O_WRONLY | libc::O_TRUNC | libc::O_CREAT),
    ]
}

/// Puts the filters in force for every thread, present and future.
///
/// # Errors
/// [`LayerError`] on a kernel without seccomp, or a processor that has no list here.
pub fn install(purpose: Purpose) -> Result<(), LayerError> {
    let error = |cause: String| LayerError::new("seccomp", cause);
    let target =
        TargetArch::try_from(std::env::consts::ARCH).map_err(|cause| error(cause.to_string()))?;
    let mut programs = Vec::new();
    // Of several filters the strictest answer counts: an error beats permission. They come
    // first, because the last one forbids further filters.
    for (errno, call, rules) in refused(purpose) {
        let answer = SeccompAction::Errno(u32::try_from(errno).unwrap_or(1));
        let rules = compiled([(call, rules)]);
        programs.push(rules.and_then(|rules| compile(rules, SeccompAction::Allow, answer, target)));
    }
    programs.push(compiled(allowed(purpose)).and_then(|rules| {
        compile(
            rules,
            SeccompAction::KillProcess,
            SeccompAction::Allow,
            target,
        )
    }));
    for program in programs {
        let program = program.map_err(|cause| error(cause.to_string()))?;
        seccompiler::apply_filter_all_threads(&program)
            .map_err(|cause| error(cause.to_string()))?;
    }
    Ok(())
}

/// Calls that get an error instead of death, and when.
fn refused(purpose: Purpose) -> Vec<(libc::c_int, i64, Rules)> {
    let opening = (purpose == Purpose::Serve).then_some(&OPENING_REFUSED);
    let always = REFUSED.iter().chain(opening);
    let mut refused: Vec<_> = always
        .map(|(errno, call, _reason)| (*errno, *call, Vec::new()))
        .collect();
    if let Purpose::Gpu { .. } = purpose {
        refused.extend(gpu::refused());
    }
    refused
}

/// All calls that are not death. What is refused is among them, as that is the stricter answer.
fn allowed(purpose: Purpose) -> Vec<(i64, Rules)> {
    let always = ALWAYS.iter().map(|(call, _reason)| (*call, Vec::new()));
    let mut allowed: Vec<_> = always.chain(conditional()).collect();
    match purpose {
        Purpose::Serve => allowed.push((libc::SYS_openat, Vec::new())),
        Purpose::Store => allowed.push((libc::SYS_openat, opening())),
        Purpose::Gpu { makes_code } => allowed.extend(gpu::allowed(makes_code)),
    }
    allowed
}

/// Of several entries of one call, the last counts.
fn compiled(
    calls: impl IntoIterator<Item = (i64, Rules)>,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules = BTreeMap::new();
    for (call, alternatives) in calls {
        let alternatives = alternatives
            .into_iter()
            .map(|conditions| {
                conditions
                    .into_iter()
                    .map(|(argument, length, operator, value)| {
                        SeccompCondition::new(argument, length, operator, value)
                    })
                    .collect::<Result<_, _>>()
                    .and_then(SeccompRule::new)
            })
            .collect::<Result<_, _>>()?;
        rules.insert(call, alternatives);
    }
    Ok(rules)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
    target: TargetArch,
) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(rules, otherwise, matched, target)?.try_into()
}
