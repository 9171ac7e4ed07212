//! Landlock: nothing of the file system, the network or other processes, without exception.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetStatus, Scope,
};

use super::LayerError;

/// The newest interface that the landlock crate knows how to ask for.
const NEWEST: ABI = ABI::V10;

/// Denies everything that the running kernel's Landlock can deny, and returns the layer's name
/// with the interface's version.
///
/// What this kernel does not know yet is left out, because older kernels are supported; that
/// Landlock is there at all is required.
///
/// # Errors
/// [`LayerError`] if the kernel has no Landlock or does not enforce it.
pub fn deny_everything() -> Result<String, LayerError> {
    let error = |cause: String| LayerError::new("landlock", cause);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
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
