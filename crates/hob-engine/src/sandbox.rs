//! The sandbox: what the engine gives up before it parses a model.
//!
//! A model is untrusted input to a large parser in C++, and so is every prompt. The layers
//! overlap on purpose: what one kernel lacks, another layer still denies. Afterwards the process
//! can read and map the model that it holds open, talk on the socket that it holds open, compute,
//! and end. It can open no file, make no socket, start no program, and signal nobody. Where it stores a
//! model's weights anew, llama.cpp opens files by itself: then it can open these two, through their
//! descriptors' names in `/proc/self/fd`, one to read and one to write, and no other.
//!
//! The process must have one thread when it enters: Landlock binds the calling thread and those
//! it starts later.

pub mod gpu;
pub mod landlock;
pub mod limits;
pub mod seccomp;

use std::os::fd::BorrowedFd;

use hob_ipc::message::SandboxPolicy;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::set_no_new_privs;

use seccomp::Purpose;

/// A layer that can't be put in force.
#[derive(Debug, thiserror::Error)]
#[error("sandbox layer {layer} can't be put in force: {cause}")]
pub struct LayerError {
    /// The layer's name.
    pub layer: &'static str,
    /// Why.
    pub cause: String,
}

impl LayerError {
    fn new(layer: &'static str, cause: impl std::fmt::Display) -> Self {
        Self {
            layer,
            cause: cause.to_string(),
        }
    }
}

/// Files that can be opened in the sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Openable<'f> {
    /// To be read.
    pub read: BorrowedFd<'f>,
    /// To be written from its beginning.
    pub write: BorrowedFd<'f>,
}

/// Variables that make ggml load code from files or start a debugger; the first must be set.
const NO_BACKTRACE: &str = "GGML_NO_BACKTRACE";
const CODE_PREFIXES: [&str; 2] = ["GGML_", "LD_"];

/// What must hold before any code of llama.cpp runs.
///
/// # Errors
/// [`LayerError`] if hobd started the engine with an environment that it did not clear.
pub fn check_environment() -> Result<(), LayerError> {
    let error = |cause: String| LayerError::new("environment", cause);
    if std::env::var_os(NO_BACKTRACE).is_none() {
        return Err(error(format!("{NO_BACKTRACE} is not set")));
    }
    let foreign = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .find(|name| name != NO_BACKTRACE && CODE_PREFIXES.iter().any(|p| name.starts_with(p)));
    match foreign {
        Some(name) => Err(error(format!("{name} is set"))),
        None => Ok(()),
    }
}

/// Layers that make the process smaller. They come before the backend starts, which still needs
/// to read `/sys`. `closed` tells whether inherited descriptors were closed.
///
/// # Errors
/// The first [`LayerError`], if `policy` is `Required`.
pub fn confine(
    policy: SandboxPolicy,
    bounds: limits::Bounds,
    closed: std::io::Result<()>,
) -> Result<Vec<String>, LayerError> {
    let mut layers = Layers::new(policy);
    layers.add("descriptors", || {
        closed
            .map(|()| None)
            .map_err(|error| LayerError::new("descriptors", error))
    })?;
    layers.add("environment", || check_environment().map(|()| None))?;
    layers.add("rlimits", || limits::lower(bounds).map(|()| None))?;
    // Before the process is no longer dumpable: its files in /proc then belong to root, and an
    // ordinary user's engine could not say that it should be the first to go.
    layers.add("oom-first", || limits::die_first().map(|()| None))?;
    layers.add("no-dumpable", || {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map(|()| None)
            .map_err(|error| LayerError::new("no-dumpable", error))
    })?;
    Ok(layers.in_force)
}

/// Layers that close the process. Nothing but what is `openable` can be opened afterwards.
///
/// # Errors
/// The first [`LayerError`], if `policy` is `Required`; that of Landlock also if it is `Degraded` and
/// something is `openable`, as nothing else would keep the process to that.
pub fn close(
    policy: SandboxPolicy,
    openable: Option<Openable<'_>>,
) -> Result<Vec<String>, LayerError> {
    let mut layers = Layers::new(policy);
    layers.give_up_privileges()?;
    layers.landlock(openable.is_some(), || landlock::deny(openable))?;
    layers.add("seccomp", || {
        let purpose = match openable {
            None => Purpose::Serve,
            Some(_) => Purpose::Store,
        };
        seccomp::install(purpose).map(|()| None)
    })?;
    Ok(layers.in_force)
}

struct Layers {
    policy: SandboxPolicy,
    in_force: Vec<String>,
}

impl Layers {
    fn new(policy: SandboxPolicy) -> Self {
        Self {
            policy,
            in_force: Vec::new(),
        }
    }

    /// What comes before whatever else closes the process, while it has one thread.
    fn give_up_privileges(&mut self) -> Result<(), LayerError> {
        self.add("one-thread", || limits::one_thread().map(|()| None))?;
        self.add("no-new-privs", || {
            set_no_new_privs(true)
                .map(|()| None)
                .map_err(|error| LayerError::new("no-new-privs", error))
        })
    }

    /// Landlock, by which name `put` gives it; `always` if it must be in force under `Degraded`, too.
    fn landlock(
        &mut self,
        always: bool,
        put: impl FnOnce() -> Result<String, LayerError>,
    ) -> Result<(), LayerError> {
        if always && self.policy == SandboxPolicy::Degraded {
            self.in_force.push(put()?);
            return Ok(());
        }
        self.add("landlock", || put().map(Some))
    }

    /// Puts a layer in force and notes it, under its own name or the one that `put` gives it.
    fn add(
        &mut self,
        name: &str,
        put: impl FnOnce() -> Result<Option<String>, LayerError>,
    ) -> Result<(), LayerError> {
        if self.policy == SandboxPolicy::Off {
            return Ok(());
        }
        match put() {
            Ok(special) => {
                self.in_force
                    .push(special.unwrap_or_else(|| name.to_owned()));
                Ok(())
            }
            Err(error) if self.policy == SandboxPolicy::Degraded => {
                tell(&error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn tell(error: &LayerError) {
    use std::io::Write;
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "hob-engine: going on without: {error}");
}
