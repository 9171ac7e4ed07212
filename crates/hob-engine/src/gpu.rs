//! Which device computes, and how many of the model's layers: decided before the model is parsed.

use hob_ipc::gpu::{Backend, Device, Found, Gpu, Offload};

use crate::raw::gpu::{self as raw, Handle};

/// What this engine was built with.
pub const BACKEND: Option<Backend> = if cfg!(feature = "cuda") {
    Some(Backend::Cuda)
} else if cfg!(feature = "vulkan") {
    Some(Backend::Vulkan)
} else {
    None
};

/// Drivers keep no file of what they compiled, which the sandbox would refuse, and Vulkan's loader takes no layers
/// along that other programs installed.
const QUIET: &[(&str, &str)] = &[
    ("CUDA_CACHE_DISABLE", "1"),
    ("MESA_SHADER_CACHE_DISABLE", "true"),
    ("__GL_SHADER_DISK_CACHE", "0"),
    ("VK_LOADER_LAYERS_DISABLE", "~implicit~"),
    ("NODEVICE_SELECT", "1"),
];
/// No driver is started where no GPU is asked for.
const NONE: &[(&str, &str)] = &[
    ("CUDA_VISIBLE_DEVICES", ""),
    ("VK_DRIVER_FILES", "/"),
    ("VK_ICD_FILENAMES", "/"),
];
/// ggml leaves out a device that is the processor, unless it is chosen by its number.
const EMULATED: &[(&str, &str)] = &[("GGML_VK_VISIBLE_DEVICES", "0")];

/// Tells drivers, before the backend starts, what is wanted of them.
pub fn prepare(gpu: Gpu) {
    if BACKEND.is_none() {
        return;
    }
    raw::set_environment(QUIET);
    match gpu {
        Gpu::Off => raw::set_environment(NONE),
        Gpu::Auto | Gpu::Required => {}
        Gpu::Emulated => raw::set_environment(EMULATED),
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Computing {
    /// A device; `None` for the processor alone.
    pub device: Option<Handle>,
    /// The layers that it computes, counted from the model's end.
    pub layers: u32,
}

/// Chooses a device for `offload` and starts its driver, behind the backend's start.
pub fn choose(offload: &Offload) -> (Computing, Found) {
    let Some(backend) = BACKEND else {
        return (Computing::default(), Found::NotBuilt);
    };
    let started = raw::first(backend).filter(|(handle, _)| raw::start(*handle));
    let Some((handle, device)) = started else {
        return (Computing::default(), Found::NoDevice { backend });
    };
    let layers = offload.layers_within(device.free_bytes);
    let computing = Computing {
        device: Some(handle).filter(|_| layers > 0),
        layers,
    };
    (computing, Found::Device(Device { layers, ..device }))
}
