//! Which engine computes on a GPU. Packages have none; who builds one puts it in a folder of its backend's
//! name, beside those of the levels. [`choose`] is pure.

use std::path::{Path, PathBuf};

use hob_ipc::gpu::{Backend, Gpu};
use hob_ipc::kernels::ENGINE;

use super::Choice;

/// What helps where a GPU is required and can't be had.
pub(crate) const HINT: &str =
    "engine.gpu = \"auto\" goes on with the processor alone; `hob doctor` tells of the GPU";

/// Why no engine computes on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGpu {
    /// None was built for one.
    #[error("no engine for one is installed")]
    NotInstalled,
    /// Those that are installed are for GPUs that this machine has not, or hides from hobd.
    #[error("hobd finds no device of one in /dev, for which its unit needs a drop-in")]
    NoDevice,
    /// One was tried.
    #[error("{0}")]
    GivenUp(String),
}

/// The engines of a package's folder that are for a GPU.
pub fn installed(folder: &Path) -> Vec<(Backend, PathBuf)> {
    let all = Backend::ALL.into_iter();
    let engines = all.map(|backend| (backend, folder.join(backend.as_str()).join(ENGINE)));
    engines.filter(|(_, engine)| engine.is_file()).collect()
}

/// The engine to start for a GPU that may have these nodes in `/dev`; `None` if no GPU is `wanted`.
///
/// # Errors
/// [`NoGpu`].
pub fn choose(
    installed: &[(Backend, PathBuf)],
    wanted: Gpu,
    nodes: &[PathBuf],
) -> Result<Option<Choice>, NoGpu> {
    // Vulkan's first device may be one without nodes, such as the processor.
    let suits = |backend: Backend| match wanted {
        Gpu::Off => false,
        Gpu::Auto | Gpu::Required => backend.finds(nodes),
        Gpu::Emulated => backend == Backend::Vulkan,
    };
    if wanted == Gpu::Off {
        return Ok(None);
    }
    let engine = installed.iter().find(|(backend, _)| suits(*backend));
    let (backend, binary) = match engine {
        Some(engine) => engine,
        None if installed.is_empty() || wanted == Gpu::Emulated => return Err(NoGpu::NotInstalled),
        None => return Err(NoGpu::NoDevice),
    };
    Ok(Some(Choice {
        binary: binary.clone(),
        level: None,
        reason: format!("beside the GPU, by {}", backend.as_str()),
        gpu: true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(backends: &[Backend]) -> Vec<(Backend, PathBuf)> {
        let engine = |backend: &Backend| (*backend, PathBuf::from(backend.as_str()));
        backends.iter().map(engine).collect()
    }

    fn chosen(backends: &[Backend], wanted: Gpu, nodes: &[&str]) -> Result<Option<PathBuf>, NoGpu> {
        let nodes: Vec<_> = nodes.iter().map(PathBuf::from).collect();
        let choice = choose(&engines(backends), wanted, &nodes)?;
        Ok(choice.map(|choice| choice.binary))
    }

    #[test]
    fn an_engine_is_taken_whose_devices_are_there() {
        use Backend::{Cuda, Vulkan};
        let (nvidia, intel) = ("/dev/nvidiactl", "/dev/dri/renderD128");
        for wanted in [Gpu::Auto, Gpu::Required] {
            let of = |backends: &[Backend], nodes: &[&str]| chosen(backends, wanted, nodes);
            assert_eq!(of(&[Cuda, Vulkan], &[nvidia]), Ok(Some("cuda".into())));
            assert_eq!(of(&[Cuda, Vulkan], &[intel]), Ok(Some("vulkan".into())));
            assert_eq!(of(&[Vulkan], &[nvidia]), Ok(Some("vulkan".into())));
            assert_eq!(of(&[Cuda], &[intel]), Err(NoGpu::NoDevice));
            assert_eq!(of(&[Cuda, Vulkan], &[]), Err(NoGpu::NoDevice));
            assert_eq!(of(&[], &[nvidia]), Err(NoGpu::NotInstalled));
        }
    }

    #[test]
    fn emulation_needs_no_device_and_nothing_is_started_unasked() {
        use Backend::{Cuda, Vulkan};
        let emulated = |backends: &[Backend]| chosen(backends, Gpu::Emulated, &[]);
        assert_eq!(emulated(&[Cuda, Vulkan]), Ok(Some("vulkan".into())));
        assert_eq!(emulated(&[Cuda]), Err(NoGpu::NotInstalled));
        assert_eq!(chosen(&[Cuda], Gpu::Off, &["/dev/nvidiactl"]), Ok(None));
    }
}
