//! The residual stream, read or changed while llama.cpp computes a step: it names what a layer hands on
//! `l_out-` with the layer's number.
//!
//! llama.cpp has control vectors of its own (`llama_set_adapter_cvec`), for a context's pointer, which the
//! binding keeps to itself. Adding a vector here gives the same sums.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_sys_2 as sys;

/// The last row behind each layer, in the order of layers.
pub type LastRows = Arc<Mutex<Vec<Vec<f32>>>>;

/// What is done in each step of a context.
#[derive(Debug)]
pub enum Hook {
    /// Notes the last row behind every layer; there must be room for as many layers as there are.
    Read(LastRows),
    /// Adds a vector to each row behind a layer.
    Add {
        /// Which, from 0.
        layer: usize,
        /// The vector.
        vector: Vec<f32>,
        /// Set when it was added to something.
        added: Arc<AtomicBool>,
    },
}

impl Hook {
    fn wants(&self, found: usize) -> bool {
        match self {
            Self::Read(_) => true,
            Self::Add { layer, .. } => *layer == found,
        }
    }
}

/// Has `hook` done in each step of the context that is made with these parameters.
pub fn hooked(mut params: LlamaContextParams, hook: Hook) -> LlamaContextParams {
    // Never freed, as nothing tells when a context is gone; there are two of these in a process at most.
    let hook: *mut Hook = Box::leak(Box::new(hook));
    // SAFETY: the struct begins with the C struct, as asserted in `raw`, and nobody else has it.
    let inner = unsafe { &mut *(&raw mut params).cast::<sys::llama_context_params>() };
    inner.cb_eval = Some(on_node);
    inner.cb_eval_user_data = hook.cast();
    params
}

/// Asked beforehand whether it wants to see a node of the graph, and shown it when that is computed; false
/// would then end the step.
unsafe extern "C" fn on_node(node: *mut sys::ggml_tensor, ask: bool, hook: *mut c_void) -> bool {
    // SAFETY: `hook` is the box leaked above, which lives as long as the process.
    let hook = unsafe { &*hook.cast_const().cast::<Hook>() };
    // SAFETY: the scheduler passes a node of its graph, which lives through the call and which nobody
    // changes meanwhile.
    let rows = unsafe { node.cast_const().as_ref() }.and_then(Rows::of);
    let wanted = rows.filter(|rows| hook.wants(rows.layer));
    if let (false, Some(rows)) = (ask, wanted) {
        rows.meet(node, hook);
    }
    !ask || wanted.is_some()
}

/// What a layer hands on: rows of 32-bit floats without gaps.
#[derive(Clone, Copy)]
struct Rows {
    layer: usize,
    width: usize,
    count: usize,
}

impl Rows {
    fn of(node: &sys::ggml_tensor) -> Option<Self> {
        // SAFETY: ggml ends every name with a zero.
        let name = unsafe { CStr::from_ptr(node.name.as_ptr()) };
        let layer = name.to_str().ok()?.strip_prefix("l_out-")?.parse().ok()?;
        let [width, count, 1, 1] = node.ne else {
            return None;
        };
        let (width, count) = (usize::try_from(width).ok()?, usize::try_from(count).ok()?);
        let number = size_of::<f32>();
        let plain = node.type_ == sys::GGML_TYPE_F32
            && node.nb[0] == number
            && node.nb[1] == width.checked_mul(number)?;
        (plain && width > 0).then_some(Self {
            layer,
            width,
            count,
        })
    }

    /// Does with the rows of a node what is to be done. A step of which no row is needed has none behind the
    /// last layer.
    fn meet(self, node: *mut sys::ggml_tensor, hook: &Hook) {
        if self.count == 0 {
            return;
        }
        match hook {
            Hook::Read(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(row) = last.get_mut(self.layer) {
                    *row = self.copy(node, self.count - 1, 1);
                }
            }
            Hook::Add { vector, added, .. } if vector.len() == self.width => {
                let mut rows = self.copy(node, 0, self.count);
                for row in rows.chunks_exact_mut(self.width) {
                    row.iter_mut()
                        .zip(vector)
                        .for_each(|(to, more)| *to += more);
                }
                let bytes = size_of_val(rows.as_slice());
                // SAFETY: the node was just computed, so that it has memory, and it has these bytes.
                unsafe { sys::ggml_backend_tensor_set(node, rows.as_ptr().cast(), 0, bytes) };
                added.store(true, Ordering::Relaxed);
            }
            Hook::Add { .. } => {}
        }
    }

    fn copy(self, node: *mut sys::ggml_tensor, from: usize, count: usize) -> Vec<f32> {
        let mut rows = vec![0.0f32; self.width * count];
        let offset = from * self.width * size_of::<f32>();
        let bytes = size_of_val(rows.as_slice());
        // SAFETY: the buffer has as many bytes as are copied, any of which make floats; the node was just
        // computed, so that it has memory, and `from + count` is within its rows.
        unsafe { sys::ggml_backend_tensor_get(node, rows.as_mut_ptr().cast(), offset, bytes) };
        rows
    }
}
