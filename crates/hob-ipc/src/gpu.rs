//! A GPU beside the processor: who computes which of a model's layers, and where its devices lie.
//!
//! hobd asks, knowing the model's sizes; the engine decides, before it parses the model, by what the
//! device has free. An engine computes on a GPU only if it was built with one of [`Backend`].

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Whether a model's layers are computed on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpu {
    /// On the processor, always.
    #[default]
    Off,
    /// On a GPU as far as there is one with room, else on the processor.
    Auto,
    /// Some on a GPU; the model is not loaded otherwise.
    Required,
    /// As `Required`, on the first of Vulkan's devices, also if that is the processor itself. Its driver
    /// makes code as it goes, which the sandbox then has to allow. For tests without a GPU.
    Emulated,
}

impl Gpu {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Off, Self::Auto, Self::Required, Self::Emulated];

    /// Its name in settings and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Emulated => "emulated",
        }
    }
}

/// What an engine reaches a GPU with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// NVIDIA's, on Jetson too.
    Cuda,
    /// Any GPU with a driver for it.
    Vulkan,
}

impl Backend {
    /// Every backend, the one that is to be taken first.
    pub const ALL: [Self; 2] = [Self::Cuda, Self::Vulkan];

    /// Its name in status, and of the folder of its engine beside those of the levels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
        }
    }

    /// Whether one of these nodes is of a GPU that it may reach.
    pub fn finds(self, nodes: &[PathBuf]) -> bool {
        nodes.iter().any(|node| match self {
            // Jetson's GPU has its node below nvhost or nvgpu.
            Self::Cuda => is_below(node, &["nvidiactl", "nvhost-gpu", "nvgpu"]),
            Self::Vulkan => is_below(node, &["dri", "nvidiactl", "nvhost-gpu", "nvgpu"]),
        })
    }
}

/// What is asked of an engine, and the sizes that it decides by; all in bytes and never too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// Never [`Gpu::Off`].
    pub gpu: Gpu,
    /// Most memory of the device; `None` for what is free.
    pub memory_max: Option<u64>,
    /// The model's layers.
    pub layers: u32,
    /// A layer's weights and its part of the contexts.
    pub layer_bytes: u64,
    /// What comes with the first layer: the weights that are in none, and intermediate results.
    pub base_bytes: u64,
}

/// The part of a device's free memory that is left: drivers round each buffer up, and keep some of it for
/// themselves.
const SPARE_PART: u64 = 16;

impl Offload {
    /// Least memory with which a layer is computed there.
    pub fn least(&self) -> u64 {
        self.bytes(1)
    }

    /// What so many layers take of the device.
    pub fn bytes(&self, layers: u32) -> u64 {
        match layers {
            0 => 0,
            layers => self
                .base_bytes
                .saturating_add(self.layer_bytes.saturating_mul(layers.into())),
        }
    }

    /// How many layers a device gets that has so much memory free. llama.cpp ends the process when a device's
    /// memory runs out in the middle of a step, so that it must not.
    pub fn layers_within(&self, free: u64) -> u32 {
        let room = free - free / SPARE_PART;
        let room = self.memory_max.map_or(room, |most| most.min(room));
        let Some(left) = room.checked_sub(self.base_bytes) else {
            return 0;
        };
        let layers = left / self.layer_bytes.max(1);
        u32::try_from(layers).unwrap_or(u32::MAX).min(self.layers)
    }
}

/// What an engine that was asked to compute on a GPU found; said before it parses the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// It was built without any [`Backend`].
    NotBuilt,
    /// Drivers offer no device.
    NoDevice {
        /// Whose.
        backend: Backend,
    },
    /// A device.
    Device(Device),
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// What reaches it.
    pub backend: Backend,
    /// Its name, as the driver has it: printable ASCII, at most `NAME_BYTES_MAX` of `message`.
    pub name: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// What of it was free.
    pub free_bytes: u64,
    /// Whether its memory is the machine's, as on Jetson.
    pub shared: bool,
    /// The layers that it gets; 0 if it has too little memory for one.
    pub layers: u32,
}

/// The nodes of GPUs and of what is computed with them, as they lie in `dev`. None that only shows pictures.
pub fn nodes(dev: &Path) -> Vec<PathBuf> {
    let mut nodes: Vec<_> = ["", "dri", "nvgpu", "nvgpu/igpu0"]
        .into_iter()
        .flat_map(|folder| fs::read_dir(dev.join(folder)))
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.strip_prefix(dev).is_ok_and(computes) && !path.is_dir())
        .collect();
    nodes.sort();
    nodes
}

/// Whether a node, by its path below `/dev`, is for computing. NVIDIA's are named in its driver's manual and,
/// for Jetson, in its container runtime's lists.
fn computes(node: &Path) -> bool {
    let Some(name) = node.to_str() else {
        return false;
    };
    let numbered = |prefix: &str| {
        let number = name.strip_prefix(prefix);
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let named = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvmap"].contains(&name);
    let tegra = name.starts_with("nvhost-") || name.starts_with("nvgpu/");
    named || tegra || numbered("nvidia") || numbered("dri/renderD")
}

/// Whether a part of a node's path is one of these.
fn is_below(node: &Path, parts: &[&str]) -> bool {
    let mut components = node.components();
    components.any(|component| parts.iter().any(|part| component.as_os_str() == *part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offload() -> Offload {
        Offload {
            gpu: Gpu::Auto,
            memory_max: None,
            layers: 30,
            layer_bytes: 10,
            base_bytes: 100,
        }
    }

    #[test]
    fn a_device_gets_as_many_layers_as_fit_beside_what_is_spare() {
        let offload = offload();
        assert_eq!(offload.least(), 110);
        assert_eq!(offload.layers_within(0), 0);
        assert_eq!(offload.layers_within(offload.least()), 0);
        assert_eq!(offload.layers_within(118), 1);
        assert_eq!(offload.layers_within(160), 5);
        assert_eq!(offload.layers_within(u64::MAX), 30);
        for free in 0..1000 {
            let layers = offload.layers_within(free);
            assert!(offload.bytes(layers) <= free - free / SPARE_PART);
        }
    }

    #[test]
    fn more_than_is_allowed_is_never_taken() {
        let offload = Offload {
            memory_max: Some(125),
            ..offload()
        };
        assert_eq!(offload.layers_within(u64::MAX), 2);
        let nothing = Offload {
            memory_max: Some(1),
            ..offload
        };
        assert_eq!(nothing.layers_within(u64::MAX), 0);
    }

    #[test]
    fn nodes_are_those_that_compute() {
        let compute = [
            "dri/renderD128",
            "nvgpu/igpu0/as",
            "nvhost-gpu",
            "nvidia-uvm",
            "nvidia0",
            "nvidiactl",
            "nvmap",
        ];
        let others = [
            "dri/card0",
            "mem",
            "nvidia-modeset",
            "nvidiax",
            "nvme0",
            "tty",
        ];
        assert!(compute.iter().all(|node| computes(Path::new(node))));
        assert!(!others.iter().any(|node| computes(Path::new(node))));
        let found = compute.map(|node| Path::new("/dev").join(node));
        assert!(Backend::Cuda.finds(&found) && Backend::Vulkan.finds(&found));
        assert!(!Backend::Cuda.finds(&found[..1]) && Backend::Vulkan.finds(&found[..1]));
        assert!(nodes(Path::new("/none")).is_empty());
    }
}
