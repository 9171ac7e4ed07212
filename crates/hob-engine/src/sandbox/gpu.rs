//! The sandbox where a GPU computes: weaker than the other, and for an engine alone that was built for one
//! and is started for one.
//!
//! A GPU's driver is a large library of the device's maker that runs in the process: it loads more
//! libraries, starts threads, opens the device's nodes again and again, and talks to the kernel by
//! requests that no filter understands. The sandbox therefore closes in two steps, and the model is parsed
//! behind both:
//! 1. [`enter`], while the process has one thread: Landlock, by which the driver can read libraries and
//!    what the kernel tells of devices, and open the nodes of GPUs that are there. Landlock binds threads that start later, so that
//!    the driver's have it, too.
//! 2. [`close`], when the driver has started: seccomp, for all threads. Nothing can be opened any more but
//!    for reading and writing at once, which Landlock allows for nodes alone. No code can be made or
//!    loaded, unless the driver makes some as it goes.
//!
//! What is weaker: a model that takes over the engine reaches the kernel's driver of the GPU, and what others
//! left in the device's memory if that driver does not clear it.

use std::path::PathBuf;

use hob_ipc::message::SandboxPolicy;

use super::seccomp::{self, Purpose};
use super::{LayerError, Layers, landlock};

/// What drivers read when they start, as far as it is there: libraries, who has which device, what kind the
/// machine is.
const READ: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/vulkan",
    "/etc/glvnd",
    "/etc/nvidia",
    "/etc/nv_tegra_release",
    "/sys",
    "/proc/self",
    "/proc/driver",
    "/proc/devices",
    "/proc/modules",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/sys/vm",
    "/proc/device-tree",
];

/// The first step: `nodes` can be opened, some files read, and nothing else.
///
/// # Errors
/// The first [`LayerError`], if `policy` is `Required`; that of Landlock also if it is `Degraded`, as nothing
/// else tells a node from a file that this user may write.
pub fn enter(policy: SandboxPolicy, nodes: &[PathBuf]) -> Result<Vec<String>, LayerError> {
    let mut layers = Layers::new(policy);
    layers.give_up_privileges()?;
    layers.landlock(true, || {
        landlock::deny_but(nodes, READ).map(|layer| format!("{layer}-gpu"))
    })?;
    Ok(layers.in_force)
}

/// The second step, when the driver has started; `makes_code` if it goes on to make code.
///
/// # Errors
/// The first [`LayerError`], if `policy` is `Required`.
pub fn close(policy: SandboxPolicy, makes_code: bool) -> Result<Vec<String>, LayerError> {
    let mut layers = Layers::new(policy);
    let name = if makes_code {
        "seccomp-gpu-code"
    } else {
        "seccomp-gpu"
    };
    layers.add("seccomp", || {
        seccomp::install(Purpose::Gpu { makes_code }).map(|()| Some(name.to_owned()))
    })?;
    Ok(layers.in_force)
}
