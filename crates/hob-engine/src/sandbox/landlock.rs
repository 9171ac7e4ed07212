//! Landlock: nothing of the file system, the network or other processes, but for two files where weights
//! are stored anew, and but for what a GPU's driver needs where there is one.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{LayerError, Openable};

/// The newest interface that the landlock crate knows how to ask for.
const NEWEST: ABI = ABI::V10;

/// Denies everything that the running kernel's Landlock can deny, and returns the layer's name
/// with the interface's version. The files of `openable` can be opened still, each for its purpose alone:
/// the rules are for these files themselves, whatever their names and whether they have any.
///
/// What this kernel does not know yet is left out, because older kernels are supported; that
/// Landlock is there at all is required.
///
/// # Errors
/// [`LayerError`] if the kernel has no Landlock or does not enforce it.
pub fn deny(openable: Option<Openable<'_>>) -> Result<String, LayerError> {
    let mut ruleset = everything()?;
    if let Some(Openable { read, write }) = openable {
        let read = PathBeneath::new(read, AccessFs::ReadFile);
        let write = PathBeneath::new(write, AccessFs::WriteFile | AccessFs::Truncate);
        ruleset = ruleset
            .add_rule(read)
            .and_then(|ruleset| ruleset.add_rule(write))
            .map_err(refused)?;
    }
    enforce(ruleset)
}

/// As [`deny`], but for a GPU's `nodes`, which can be opened for everything, and for `read`, which can be
/// read. What of these is not there, or not for this user, is left out.
///
/// # Errors
/// As of [`deny`].
pub fn deny_but(nodes: &[PathBuf], read: &[&str]) -> Result<String, LayerError> {
    let mut ruleset = everything()?;
    for node in nodes.iter().flat_map(PathFd::new) {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        ruleset = ruleset
            .add_rule(PathBeneath::new(node, access))
            .map_err(refused)?;
    }
    for path in read {
        let Ok(file) = PathFd::new(path) else {
            continue;
        };
        let folder = std::path::Path::new(path).is_dir();
        let access = if folder {
            AccessFs::ReadFile | AccessFs::ReadDir
        } else {
            AccessFs::ReadFile.into()
        };
        ruleset = ruleset
            .add_rule(PathBeneath::new(file, access))
            .map_err(refused)?;
    }
    enforce(ruleset)
}

fn refused(cause: impl std::fmt::Display) -> LayerError {
    LayerError::new("landlock", cause)
}

/// A ruleset of all that the kernel's Landlock can deny.
fn everything() -> Result<RulesetCreated, LayerError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(refused)
}

/// Puts it in force, and returns the layer's name.
fn enforce(ruleset: RulesetCreated) -> Result<String, LayerError> {
    let status = ruleset.restrict_self().map_err(refused)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(refused("the kernel does not enforce it"));
    }
    match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => {
            let version = kernel_abi.unwrap_or(effective_abi as i32);
            Ok(format!("landlock-abi-{version}"))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => {
            Err(refused("the kernel has it not"))
        }
    }
}
