//! Landlock: nothing of the file system, the network or other processes, but for two files where weights
//! are stored anew.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
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
    let error = |cause: String| LayerError::new("landlock", cause);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(|cause| error(cause.to_string()))?;
    if let Some(Openable { read, write }) = openable {
        let read = PathBeneath::new(read, AccessFs::ReadFile);
        let write = PathBeneath::new(write, AccessFs::WriteFile | AccessFs::Truncate);
        ruleset = ruleset
            .add_rule(read)
            .and_then(|ruleset| ruleset.add_rule(write))
            .map_err(|cause| error(cause.to_string()))?;
    }
    let status = ruleset
        .restrict_self()
        .map_err(|cause| error(cause.to_string()))?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(error("the kernel does not enforce it".to_owned()));
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
            Err(error("the kernel has it not".to_owned()))
        }
    }
}
