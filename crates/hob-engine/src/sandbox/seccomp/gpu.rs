//! What computing on a GPU needs beside: system calls of drivers that have started.
//!
//! Mesa's software driver for Vulkan (22.3, on x86-64) was recorded: it calls nothing that another engine does
//! not, but makes code. What drivers of devices need is as others report it, and was not tried.

use seccompiler::SeccompCmpOp;

use super::{Condition, DWORD, Rules, without_code};

/// Calls without conditions, each with its reason.
const ALWAYS: &[(i64, &str)] = &[
    (libc::SYS_ppoll, "waiting for the device"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "waiting for the device"),
    (libc::SYS_eventfd2, "being told by the device"),
    (
        libc::SYS_memfd_create,
        "memory that device and process share",
    ),
    (libc::SYS_ftruncate, "its size"),
    (libc::SYS_dup, "one more hold on a device's buffer"),
    (libc::SYS_sched_setaffinity, "where a driver's threads run"),
    (libc::SYS_get_mempolicy, "on which memory a buffer lies"),
    (libc::SYS_mbind, "where it is to lie"),
    (libc::SYS_getuid, "drivers ask whose process it is"),
    (libc::SYS_geteuid, "the same"),
    (libc::SYS_getgid, "the same"),
    (libc::SYS_getegid, "the same"),
    (libc::SYS_uname, "which kernel it is"),
];

/// Calls that look at files: drivers cope with a refusal, as where a file is not there.
const LOOKING: &[i64] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    libc::SYS_mkdirat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
];

/// What devices are asked for: a mask of the request's number, and what must be left of it. Those of a driver
/// have its letter in their second byte, and a direction and a size in the two above. A terminal's have the
/// letter T, and most of them neither: an engine for Jetson's nvgpu, whose have that letter, too, could ask a
/// terminal for the few others, had it one.
const REQUESTS: &[(u64, u64, &str)] = &[
    (
        0xff00,
        letter(b'd'),
        "DRM: every GPU whose driver is in the kernel",
    ),
    (0xff00, letter(b'b'), "DMA buffers: what devices share"),
    (0xff00, letter(b'>'), "fences: when a device is done"),
    (0xff00, letter(b'F'), "NVIDIA: nvidiactl and nvidia0"),
    (0xffff_ff00, 0, "NVIDIA: nvidia-uvm, by numbers alone"),
    (
        0xffff_fffc,
        0x3000_0000,
        "NVIDIA: nvidia-uvm, its start and end",
    ),
    (0xff00, letter(b'N'), "Jetson: nvmap"),
    (0xff00, letter(b'H'), "Jetson: nvhost"),
    (0xff00, letter(b'G'), "Jetson: nvgpu"),
    (0xff00, letter(b'A'), "Jetson: nvgpu's address spaces"),
    #[cfg(feature = "cuda")]
    (
        0x4000_ff00,
        0x4000_0000 | letter(b'T'),
        "Jetson: nvgpu's groups of channels, written",
    ),
    #[cfg(feature = "cuda")]
    (0x8000_ff00, 0x8000_0000 | letter(b'T'), "the same, read"),
];

const fn letter(letter: u8) -> u64 {
    (letter as u64) << 8
}

/// What is opened for reading and writing is a device's node, as Landlock lets nothing else be opened so.
/// Libraries and settings were read when the driver started.
pub(super) fn refused() -> Vec<(libc::c_int, i64, Rules)> {
    let flags = |mask: libc::c_int, value: libc::c_int| {
        let bits = |flags: libc::c_int| u64::from(flags.cast_unsigned());
        vec![(2, DWORD, SeccompCmpOp::MaskedEq(bits(mask)), bits(value))]
    };
    let not_a_node = vec![
        flags(libc::O_ACCMODE, libc::O_RDONLY),
        flags(libc::O_ACCMODE, libc::O_WRONLY),
        flags(libc::O_ACCMODE, libc::O_ACCMODE),
        flags(libc::O_CREAT, libc::O_CREAT),
        flags(libc::O_TRUNC, libc::O_TRUNC),
        flags(libc::O_PATH, libc::O_PATH),
    ];
    let looking = LOOKING.iter().map(|call| (libc::EACCES, *call, Vec::new()));
    // A thread may say where it runs itself, and not where other processes of this user do.
    let others = vec![vec![(0, DWORD, SeccompCmpOp::Ne, 0)]];
    [
        (libc::EACCES, libc::SYS_openat, not_a_node),
        (libc::EPERM, libc::SYS_sched_setaffinity, others),
    ]
    .into_iter()
    .chain(looking)
    .collect()
}

/// What is no death beside what every engine may do.
pub(super) fn allowed(makes_code: bool) -> Vec<(i64, Rules)> {
    let always = ALWAYS.iter().map(|(call, _reason)| *call);
    let anything = always.chain(LOOKING.iter().copied());
    let mut allowed: Vec<_> = anything.map(|call| (call, Vec::new())).collect();
    allowed.push((libc::SYS_openat, Vec::new()));
    let requests = REQUESTS.iter().map(|(mask, value, _reason)| {
        let condition: Condition = (1, DWORD, SeccompCmpOp::MaskedEq(*mask), *value);
        vec![condition]
    });
    allowed.push((libc::SYS_ioctl, requests.collect()));
    let on_descriptors = [
        libc::F_GETFL,
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
    ];
    let on_descriptors = on_descriptors.map(|command| {
        let command = u64::from(command.cast_unsigned());
        vec![(1, DWORD, SeccompCmpOp::Eq, command)]
    });
    allowed.push((libc::SYS_fcntl, on_descriptors.to_vec()));
    let code = if makes_code {
        Vec::new()
    } else {
        without_code()
    };
    allowed.push((libc::SYS_mmap, code.clone()));
    allowed.push((libc::SYS_mprotect, code));
    allowed
}
