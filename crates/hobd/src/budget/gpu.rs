//! What of a model a GPU may get. The memory of the machine is counted as if it got nothing: on boards it is
//! the same memory, and elsewhere the processor can go on alone.

use hob_ipc::gpu::{Gpu, Offload};
use hob_models::gguf::Header;

use super::Plan;
use crate::settings::EngineSettings;

/// Address space for a GPU's driver beside that of the engine; most of it is never memory. Mesa's software
/// driver keeps to it; of NVIDIA's it is not known.
pub const DRIVER_BYTES: u64 = 2 << 30;

/// By how much a layer's weights may exceed the average: llama.cpp stores some layers with more bits.
const UNEVEN_PART: u64 = 8;

/// What is asked of an engine that can compute on a GPU; `None` if nothing is.
pub fn offload(header: &Header, plan: &Plan, settings: &EngineSettings) -> Option<Offload> {
    if settings.gpu == Gpu::Off {
        return None;
    }
    let layers = header.n_layer.max(1);
    let weights = header.layers_bytes.div_ceil(layers.into());
    let uneven = weights / UNEVEN_PART;
    let ends = header.weights_bytes.saturating_sub(header.layers_bytes);
    let results = plan
        .needed
        .compute_estimate
        .saturating_add(plan.needed.unused);
    Some(Offload {
        gpu: settings.gpu,
        memory_max: settings.gpu_memory,
        layers,
        layer_bytes: weights
            .saturating_add(uneven)
            // Which layers a device gets depends on how many, and those without a window have most.
            .saturating_add(plan.needed.kv_layer),
        base_bytes: ends.saturating_add(results).saturating_add(plan.embeddings),
    })
}
