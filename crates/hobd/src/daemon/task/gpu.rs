//! The GPU as the daemon's task sees it: whether an engine for one is started, what that found, and going
//! on with the processor alone.

use std::path::Path;

use hob_api::status::GpuStatus;
use hob_api::{ApiError, ErrorCode};
use hob_ipc::gpu::{self, Found, Gpu, Offload};
use hob_ipc::message::LoadFailure;

use super::Daemon;
use crate::kernels::gpu::{self as engines, HINT, NoGpu};
use crate::kernels::{self, Choice, Engines, NoEngine};

impl Daemon {
    /// The engine for a GPU, if one is wanted and there is one for it.
    pub(super) fn choose_gpu(&mut self, installed: &Engines) -> Result<Option<Choice>, NoEngine> {
        let wanted = self.settings.engine.gpu;
        let chosen = match (&self.gpu_given_up, installed) {
            (_, _) if wanted == Gpu::Off => Ok(None),
            (Some(why), _) => Err(NoGpu::GivenUp(why.clone())),
            // What a single engine was built for, it tells itself.
            (None, Engines::One(_)) => {
                let choice = kernels::choose(installed, None, &hob_ipc::kernels::Features::here());
                choice
                    .map(|choice| {
                        Some(Choice {
                            gpu: true,
                            ..choice
                        })
                    })
                    .map_err(|_| NoGpu::NotInstalled)
            }
            (None, Engines::Levels(_)) => {
                let installed = engines::installed(&self.settings.engine_path);
                engines::choose(&installed, wanted, &gpu::nodes(Path::new("/dev")))
            }
        };
        self.shown.modify(|status| {
            status.gpu = GpuStatus {
                setting: wanted.as_str().to_owned(),
                problem: chosen.as_ref().err().map(ToString::to_string),
                ..GpuStatus::default()
            };
        });
        match chosen {
            Err(_) if wanted == Gpu::Auto => Ok(None),
            chosen => chosen.map_err(NoEngine::Gpu),
        }
    }

    /// Shows what the engine found.
    pub(super) fn gpu_found(&mut self, found: Found) {
        let Some(offload) = &self.offload else {
            return;
        };
        tracing::info!(?found, "looked for a GPU");
        let found = shown(found, offload);
        self.shown.modify(|status| status.gpu = found);
    }

    /// Whether the next engine is one without a GPU, as this one failed with one. `code` says why it loads
    /// nothing; `None` if it is lost.
    pub(super) fn goes_on_without_gpu(&mut self, code: Option<LoadFailure>) -> bool {
        let why = match code {
            None => "the engine was lost with it; its last words are in the log",
            Some(LoadFailure::Memory) => "there was too little memory with it",
            Some(LoadFailure::Sandbox) => "the engine's sandbox can't be put in force with it",
            Some(LoadFailure::Cpu) => "its engine is for another processor",
            // The model's own faults are the same without it.
            Some(_) => return false,
        };
        let auto = self.settings.engine.gpu == Gpu::Auto;
        let goes_on = auto && self.offload.is_some() && self.gpu_given_up.is_none();
        if goes_on {
            tracing::warn!(why, "going on without the GPU");
            self.gpu_given_up = Some(why.to_owned());
        }
        goes_on
    }

    /// The error where a GPU is required, and the engine has none.
    pub(super) fn no_gpu(&self) -> ApiError {
        let problem = self.shown.gpu_problem();
        let why = problem.unwrap_or_else(|| "the engine found none".to_owned());
        let message = format!("no GPU can compute the model: {why}");
        ApiError::new(ErrorCode::ModelFailed, message).hint(HINT)
    }
}

/// What was found, for those who read the status.
fn shown(found: Found, offload: &Offload) -> GpuStatus {
    let status = GpuStatus {
        setting: offload.gpu.as_str().to_owned(),
        layers_all: offload.layers,
        ..GpuStatus::default()
    };
    match found {
        Found::NotBuilt => GpuStatus {
            problem: Some("the engine was built without one".to_owned()),
            ..status
        },
        Found::NoDevice { backend } => GpuStatus {
            backend: backend.as_str().to_owned(),
            problem: Some("no driver offers a device".to_owned()),
            ..status
        },
        Found::Device(device) => {
            let too_little = || {
                let (least, free) = (mib(offload.least()), mib(device.free_bytes));
                let allowed = match offload.memory_max {
                    Some(most) if most < device.free_bytes => {
                        format!("engine.gpu_memory allows {}", mib(most))
                    }
                    _ => format!("{} has {free} free", device.name),
                };
                format!("one layer and what comes with it take {least}, and {allowed}")
            };
            GpuStatus {
                backend: device.backend.as_str().to_owned(),
                memory_bytes: device.memory_bytes,
                free_bytes: device.free_bytes,
                shared: device.shared,
                layers: device.layers,
                model_bytes: offload.bytes(device.layers),
                problem: (device.layers == 0).then(too_little),
                device: device.name,
                ..status
            }
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use hob_ipc::gpu::{Backend, Device};

    use super::*;

    #[test]
    fn too_little_memory_is_told_in_numbers() {
        let offload = Offload {
            gpu: Gpu::Auto,
            memory_max: None,
            layers: 30,
            layer_bytes: 10 << 20,
            base_bytes: 90 << 20,
        };
        let device = Device {
            backend: Backend::Cuda,
            name: "Orin".to_owned(),
            memory_bytes: 8 << 30,
            free_bytes: 50 << 20,
            shared: true,
            layers: 0,
        };
        let problem = |offload| shown(Found::Device(device.clone()), offload).problem;
        let words = problem(&offload);
        let expected = "one layer and what comes with it take 100 MiB, and Orin has 50 MiB free";
        assert_eq!(words.as_deref(), Some(expected));
        let allowed = Offload {
            memory_max: Some(1 << 20),
            ..offload
        };
        let words = problem(&allowed);
        assert!(words.is_some_and(|words| words.ends_with("engine.gpu_memory allows 1 MiB")));
    }
}
