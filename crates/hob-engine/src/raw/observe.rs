//! What matrices are multiplied with, seen while llama.cpp computes a step.

use std::ffi::{CStr, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use llama_cpp_sys_2 as sys;

use crate::importance::{Inputs, Rows};

/// Has `inputs` note what its matrices are multiplied with, in each step of the context that is made with
/// these parameters.
pub(super) fn observe(params: &mut sys::llama_context_params, inputs: Arc<Mutex<Inputs>>) {
    // Never freed, as nothing tells when a context is gone; there is one of these in a process at most.
    let inputs: *mut Arc<Mutex<Inputs>> = Box::leak(Box::new(inputs));
    params.cb_eval = Some(on_node);
    params.cb_eval_user_data = inputs.cast();
}

/// Asked beforehand whether it wants to see a node of the graph, and shown it when that is computed; false
/// would then end the step.
unsafe extern "C" fn on_node(node: *mut sys::ggml_tensor, ask: bool, inputs: *mut c_void) -> bool {
    // SAFETY: `inputs` is the box leaked above, which lives as long as the process.
    let inputs = unsafe { &*inputs.cast_const().cast::<Arc<Mutex<Inputs>>>() };
    let mut inputs = inputs.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the scheduler passes a node of its graph, which lives through the call and which nobody
    // changes meanwhile.
    let product = unsafe { node.as_ref().and_then(|node| Product::of(node)) };
    let place = product.as_ref().and_then(|product| product.place(&inputs));
    if let (false, Some(product), Some(place)) = (ask, &product, place) {
        product.note(place, &mut inputs);
    }
    !ask || place.is_some()
}

/// A product of a matrix.
struct Product<'g> {
    matrix: &'g sys::ggml_tensor,
    input: &'g sys::ggml_tensor,
    /// Which experts' matrices are meant, where a mixture has some.
    experts: Option<&'g sys::ggml_tensor>,
}

impl<'g> Product<'g> {
    /// A node as a product, if it is one with 32-bit floats whose rows have no gaps.
    ///
    /// # Safety
    /// The node's sources must live as long as it, or be null.
    unsafe fn of(node: &'g sys::ggml_tensor) -> Option<Self> {
        let mixture = match node.op {
            sys::GGML_OP_MUL_MAT => false,
            sys::GGML_OP_MUL_MAT_ID => true,
            _ => return None,
        };
        // SAFETY: as of the caller.
        let (matrix, input, experts) = unsafe {
            (
                node.src[0].as_ref()?,
                node.src[1].as_ref()?,
                node.src[2].as_ref(),
            )
        };
        let plain = input.type_ == sys::GGML_TYPE_F32 && input.nb[0] == size_of::<f32>();
        let experts = if mixture {
            let experts = experts?;
            let plain = experts.type_ == sys::GGML_TYPE_I32 && experts.nb[0] == size_of::<i32>();
            Some(Some(experts).filter(|_| plain)?)
        } else {
            None
        };
        plain.then_some(Self {
            matrix,
            input,
            experts,
        })
    }

    fn place(&self, inputs: &Inputs) -> Option<usize> {
        // SAFETY: ggml ends every name with a zero.
        let name = unsafe { CStr::from_ptr(self.matrix.name.as_ptr()) };
        let [columns, _, threes, fours] = lengths(self.matrix)?;
        inputs.find(name.to_str().ok()?, columns, threes * fours)
    }

    /// Copies what the matrix was multiplied with, from wherever it lies, and has it noted.
    fn note(&self, place: usize, inputs: &mut Inputs) {
        let Some([_, _, threes, _]) = lengths(self.matrix) else {
            return;
        };
        let Some(rows) = copy::<f32>(self.input) else {
            return;
        };
        match self.experts.map(copy::<i32>) {
            None => inputs.note(place, &rows, threes),
            Some(Some(asked)) => inputs.note_experts(place, &rows, &asked),
            Some(None) => {}
        }
    }
}

/// The lengths of a tensor; `None` if they can't be lengths.
fn lengths(tensor: &sys::ggml_tensor) -> Option<[usize; 4]> {
    let [one, two, three, four] = tensor.ne;
    let length = |length: i64| usize::try_from(length).ok();
    Some([length(one)?, length(two)?, length(three)?, length(four)?])
}

/// Numbers of a kind that ggml has.
trait Number: Copy + Default {}
impl Number for f32 {}
impl Number for i32 {}

/// A computed tensor's numbers, which must be of that kind.
fn copy<T: Number>(tensor: &sys::ggml_tensor) -> Option<Rows<T>> {
    let number = size_of::<T>();
    let lengths = lengths(tensor)?;
    // SAFETY: a plain function of a living tensor.
    let bytes = unsafe { sys::ggml_nbytes(tensor) };
    let mut data = vec![T::default(); bytes.div_ceil(number)];
    // SAFETY: the buffer has as many bytes as are copied, any of which make a number of these kinds; the
    // tensor was just computed, so that it has memory, of which these are the bytes.
    unsafe { sys::ggml_backend_tensor_get(tensor, data.as_mut_ptr().cast(), 0, bytes) };
    Some(Rows {
        data,
        lengths,
        strides: tensor.nb.map(|stride| stride / number),
    })
}
