//! All `unsafe` of this crate: what neither rustix nor llama-cpp-2 offers safely.

#![allow(
    unsafe_code,
    reason = "the calls below have no safe wrapper; each block says why it is sound"
)]

pub mod residual;

use std::ffi::{CStr, CString, c_char, c_void};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::context::session::LlamaStateSeqFlags;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::gpu::Computing;
use crate::importance::Inputs;
use crate::inbox::Interrupt;
use crate::pulse::Pulse;
use hob_ipc::kernels::{Feature, Features};
use hob_ipc::memory::Weights;
use hob_ipc::quantize::Scheme;

pub mod gpu;
mod observe;

/// The version of llama.cpp's binding: the format of a saved state may change with it. A test
/// compares it with the one that is built.
pub const BINDING_VERSION: &str = "0.1.161";

/// Closes every descriptor above standard error, so that nothing that hobd's own parent left
/// open is at hand in the sandbox.
///
/// # Errors
/// As of `close_range(2)`: Linux before 5.9 lacks it.
pub fn close_inherited() -> io::Result<()> {
    const FIRST_TO_CLOSE: libc::c_uint = 3;
    // SAFETY: called first thing in `main`, when no Rust value owns a descriptor above 2.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST_TO_CLOSE, libc::c_uint::MAX, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What ggml's kernels were compiled for: they use it without asking.
pub fn kernel_features() -> Features {
    let all = Feature::ALL.into_iter();
    all.filter(|feature| uses(*feature)).collect()
}

fn uses(feature: Feature) -> bool {
    // SAFETY: each takes nothing and returns a constant of its compilation.
    let used = unsafe {
        match feature {
            // ggml tells of no more than SSSE3, and only the switch for SSE 4.2 gives it that.
            Feature::Sse42 => sys::ggml_cpu_has_ssse3(),
            Feature::Avx => sys::ggml_cpu_has_avx(),
            Feature::Avx2 => sys::ggml_cpu_has_avx2(),
            Feature::Fma => sys::ggml_cpu_has_fma(),
            Feature::F16c => sys::ggml_cpu_has_f16c(),
            Feature::Bmi2 => sys::ggml_cpu_has_bmi2(),
            Feature::AvxVnni => sys::ggml_cpu_has_avx_vnni(),
            Feature::Avx512 => sys::ggml_cpu_has_avx512(),
            Feature::Avx512Vbmi => sys::ggml_cpu_has_avx512_vbmi(),
            Feature::Avx512Vnni => sys::ggml_cpu_has_avx512_vnni(),
            Feature::Avx512Bf16 => sys::ggml_cpu_has_avx512_bf16(),
            Feature::Dotprod => sys::ggml_cpu_has_dotprod(),
            Feature::Fp16 => sys::ggml_cpu_has_fp16_va(),
            Feature::I8mm => sys::ggml_cpu_has_matmul_int8(),
            Feature::Sve => sys::ggml_cpu_has_sve(),
        }
    };
    used != 0
}

/// Keeps all memory in RAM, that of today and of later, from the moment that it is used.
///
/// # Errors
/// As of `mlockall(2)`: without privilege, `RLIMIT_MEMLOCK` bounds what may be locked.
pub fn lock_memory() -> io::Result<()> {
    // MCL_ONFAULT leaves out what is reserved and never touched, such as most of each stack.
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: always sound: it changes when pages are in RAM, not what they hold.
    if unsafe { libc::mlockall(flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends the process at once, running no destructors: those of the C++ side would race with the
/// decode thread, and there is nothing to save.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; nothing of this process is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Why [`load_model`] gave no model.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The descriptor can't be read as a file.
    #[error("the model's descriptor is not a readable file: {0}")]
    Descriptor(io::Error),
    /// llama.cpp refuses the file.
    #[error("llama.cpp refuses the model: {}", last_error())]
    Refused,
    /// A model that only encodes, or that has no tokenizer.
    #[error("the model can't generate text: it has no {0}")]
    NotGenerative(&'static str),
}

// llama-cpp-2 does not wrap loading from an open file, and gives no way to make its model type
// from a pointer. `LlamaModel` is `repr(transparent)` over a `repr(transparent)` `NonNull`; both
// crates are pinned to exact versions, and this fails to compile if the layout changes in size.
const _: () = assert!(
    size_of::<LlamaModel>() == size_of::<*mut sys::llama_model>()
        && align_of::<LlamaModel>() == align_of::<*mut sys::llama_model>()
        && size_of::<Option<LlamaModel>>() == size_of::<*mut sys::llama_model>()
);

/// Loads the GGUF at the start of `file`. `progress` is told values from 0 to 1 and stops the
/// load by returning false. `computing` says which layers a device computes, if any.
///
/// Mapped weights are used as they lie in the file: pages are shared with the page cache, and
/// the kernel drops them first when memory is short. Were ggml let to put them into another order
/// as well, they would be held twice; it may only where they are read into memory of our own.
///
/// # Errors
/// [`LoadError`].
pub fn load_model(
    file: OwnedFd,
    weights: Weights,
    computing: Computing,
    progress: &mut dyn FnMut(f32) -> bool,
) -> Result<LlamaModel, LoadError> {
    unsafe extern "C" fn on_progress(progress: f32, user_data: *mut c_void) -> bool {
        // SAFETY: `user_data` is the `&mut &mut dyn FnMut` below, alive and used by nobody else
        // until llama_model_load_from_file_ptr returns; llama.cpp calls this on that thread.
        let callback = unsafe { &mut *user_data.cast::<&mut dyn FnMut(f32) -> bool>() };
        callback(progress)
    }

    let mut progress = progress;
    let fd = file.into_raw_fd();
    // SAFETY: `fd` is open and owned here; on success the stream owns it.
    let stream = unsafe { libc::fdopen(fd, c"rb".as_ptr()) };
    if stream.is_null() {
        // The descriptor is left open: the process is about to end.
        return Err(LoadError::Descriptor(io::Error::last_os_error()));
    }
    // SAFETY: a plain function without preconditions.
    let mut params = unsafe { sys::llama_model_default_params() };
    // The devices are named, so that llama.cpp chooses none. What comes behind the layers counts as one.
    params.devices = gpu::list(computing.device);
    params.n_gpu_layers = match computing.layers {
        0 => 0,
        layers => i32::try_from(layers).unwrap_or(i32::MAX - 1) + 1,
    };
    (params.load_mode, params.use_extra_bufts) = match weights {
        Weights::Mapped => (sys::LLAMA_LOAD_MODE_MMAP, false),
        Weights::Copied => (sys::LLAMA_LOAD_MODE_NONE, true),
    };
    // Lazy tensors would be read from the stream after it is closed.
    params.lazy_mode = sys::LLAMA_LAZY_MODE_OFF;
    params.progress_callback = Some(on_progress);
    params.progress_callback_user_data = (&raw mut progress).cast();
    // SAFETY: `stream` is an open stream, and `params` holds no dangling pointers: its defaults
    // are null, and `progress` outlives the call.
    let model = unsafe { sys::llama_model_load_from_file_ptr(stream.cast(), params) };
    // SAFETY: `stream` came from fdopen and is closed once; mappings do not need it.
    unsafe { libc::fclose(stream) };
    if model.is_null() {
        return Err(LoadError::Refused);
    }
    // SAFETY: `model` is not null, was just loaded, and has no other owner. The layout is
    // asserted above.
    let owned = unsafe { std::mem::transmute::<*mut sys::llama_model, LlamaModel>(model) };
    // SAFETY: `model` is alive: `owned` keeps it.
    let (has_decoder, has_encoder, vocab_type) = unsafe {
        (
            sys::llama_model_has_decoder(model),
            sys::llama_model_has_encoder(model),
            sys::llama_vocab_type(sys::llama_model_get_vocab(model)),
        )
    };
    if !has_decoder || has_encoder {
        return Err(LoadError::NotGenerative("plain decoder"));
    }
    if vocab_type == sys::LLAMA_VOCAB_TYPE_NONE {
        return Err(LoadError::NotGenerative("tokenizer"));
    }
    Ok(owned)
}

/// Most bytes of a matrix that are held at once while it is stored anew.
pub const QUANTIZE_BYTES: usize = 64 << 20;

/// llama.cpp can't store a model's weights anew.
#[derive(Debug, thiserror::Error)]
#[error("llama.cpp can't store the weights so: {}", last_error())]
pub struct QuantizeError;

/// How weights are stored anew.
#[derive(Clone, Copy, Debug)]
pub struct Quantization<'i> {
    /// The scheme.
    pub scheme: Scheme,
    /// Whether all matrices get the scheme's main type.
    pub uniform: bool,
    /// What each column matters, of matrices by their names; finite numbers.
    pub importance: &'i [(String, Vec<f32>)],
    /// Threads.
    pub threads: u32,
}

/// Stores the weights of the model `source` anew in the empty file `target`. llama.cpp opens both by names,
/// and gets those that the descriptors have in `/proc`. Whether weights that are coarse already should be
/// stored anew is for who asks to know.
///
/// # Errors
/// [`QuantizeError`], with the last error that llama.cpp logged.
pub fn quantize(
    source: &OwnedFd,
    target: &OwnedFd,
    how: Quantization<'_>,
) -> Result<(), QuantizeError> {
    let name = |file: &OwnedFd| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        CString::new(path).map_err(|_| QuantizeError)
    };
    let (from, to) = (name(source)?, name(target)?);
    let names = how
        .importance
        .iter()
        .map(|(name, _)| CString::new(name.as_str()));
    let names: Vec<CString> = names.collect::<Result<_, _>>().map_err(|_| QuantizeError)?;
    let numbers = names.iter().zip(how.importance);
    let mut importance: Vec<sys::llama_model_imatrix_data> = numbers
        .map(|(name, (_, means))| sys::llama_model_imatrix_data {
            name: name.as_ptr(),
            data: means.as_ptr(),
            size: means.len(),
        })
        .collect();
    // The list ends with an entry that has no name.
    importance.push(sys::llama_model_imatrix_data {
        name: std::ptr::null(),
        data: std::ptr::null(),
        size: 0,
    });
    // SAFETY: a plain function without preconditions.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.nthread = i32::try_from(how.threads).unwrap_or(1);
    params.ftype = how.scheme.file_type();
    params.allow_requantize = true;
    params.pure_ = how.uniform;
    if !how.importance.is_empty() {
        params.imatrix = importance.as_ptr();
    }
    params.max_buf_size = QUANTIZE_BYTES;
    // SAFETY: all strings, the list and the numbers that it names outlive the call, and the other pointers
    // of `params` are null.
    let refused =
        unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) };
    if refused == 0 {
        Ok(())
    } else {
        Err(QuantizeError)
    }
}

/// How many tokens the model's layers with a sliding window look back on; 0 if it has none.
pub fn sliding_window(model: &LlamaModel) -> u32 {
    // SAFETY: `LlamaModel` is a pointer to a living model, as asserted above.
    let n_swa = unsafe {
        let pointer = std::ptr::from_ref(model).cast::<*const sys::llama_model>();
        sys::llama_model_n_swa(*pointer)
    };
    u32::try_from(n_swa).unwrap_or(0)
}

/// Whether the model has a recurrent state, in some layers at least: that can't go back.
pub fn is_recurrent(model: &LlamaModel) -> bool {
    // SAFETY: `LlamaModel` is a pointer to a living model, as asserted above.
    unsafe {
        let pointer = *std::ptr::from_ref(model).cast::<*const sys::llama_model>();
        sys::llama_model_is_recurrent(pointer) || sys::llama_model_is_hybrid(pointer)
    }
}

// The binding has no setter for the callback and keeps the C struct to itself. A struct as large
// as its only field has it at offset 0; the crate is pinned to an exact version.
const _: () = assert!(
    size_of::<LlamaContextParams>() == size_of::<sys::llama_context_params>()
        && align_of::<LlamaContextParams>() == align_of::<sys::llama_context_params>()
);

/// What watches a step while llama.cpp computes it.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Ends the step when it is raised.
    pub interrupt: Arc<Interrupt>,
    /// Advances with each operation: on a slow board a step takes longer than hobd would wait for
    /// a sign of life.
    pub pulse: Arc<Pulse>,
    /// Is shown what matrices are multiplied with, if somebody wants to know.
    pub inputs: Option<Arc<Mutex<Inputs>>>,
}

/// Lets `watch` look at steps of the context that is made with these parameters, after each
/// operation of a step. A step that it ends returns 2 from `llama_decode`.
pub fn watched(mut params: LlamaContextParams, watch: Watch) -> LlamaContextParams {
    unsafe extern "C" fn is_raised(watch: *mut c_void) -> bool {
        // SAFETY: `watch` is the box leaked below, which lives as long as the process.
        let watch = unsafe { &*watch.cast_const().cast::<Watch>() };
        watch.pulse.advance();
        let raised = watch.interrupt.is_raised();
        LOG_STOPPED.store(raised, Ordering::Relaxed);
        raised
    }

    let inputs = watch.inputs.clone();
    // Never freed, as nothing tells when a context is gone; there are two in a process at most.
    let watch: *mut Watch = Box::leak(Box::new(watch));
    // SAFETY: the struct begins with the C struct, as asserted above, and nobody else has it.
    let inner = unsafe { &mut *(&raw mut params).cast::<sys::llama_context_params>() };
    inner.abort_callback = Some(is_raised);
    inner.abort_callback_data = watch.cast();
    if let Some(inputs) = inputs {
        observe::observe(inner, inputs);
    }
    params
}

/// How many bytes [`save_sequence`] gives.
pub fn saved_bytes(context: &LlamaContext<'_>, sequence: i32) -> usize {
    context.state_seq_get_size_ext(sequence, LlamaStateSeqFlags::empty())
}

/// What `context` remembers of a sequence, in llama.cpp's own format; `None` if there is no memory
/// for it, or nothing to save.
pub fn save_sequence(context: &LlamaContext<'_>, sequence: i32) -> Option<Vec<u8>> {
    let whole = LlamaStateSeqFlags::empty();
    let bytes = saved_bytes(context, sequence);
    let mut state = Vec::new();
    state.try_reserve_exact(bytes).ok()?;
    state.resize(bytes, 0);
    // SAFETY: the buffer has as many bytes as the same sequence, unchanged since, needs.
    let written = unsafe { context.state_seq_get_data_ext(state.as_mut_ptr(), sequence, whole) };
    (bytes > 0 && written == bytes).then_some(state)
}

/// Puts into a sequence what [`save_sequence`] gave. False if llama.cpp refuses it.
pub fn restore_sequence(context: &mut LlamaContext<'_>, sequence: i32, state: &[u8]) -> bool {
    // SAFETY: the slice is alive, and llama.cpp reads no further than its length.
    unsafe { context.state_seq_set_data_ext(state, sequence, LlamaStateSeqFlags::empty()) }
}

/// Writes `parts`, one after another, into the memory behind `memory`, which must be as large as
/// they are. It is mapped, as this process may write to no file, of whatever kind.
///
/// # Errors
/// If the sizes differ, or the memory can't be mapped.
pub fn fill(memory: impl AsFd, parts: &[&[u8]]) -> io::Result<()> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let size = rustix::fs::fstat(&memory)?.st_size;
    if bytes == 0 || u64::try_from(size) != Ok(bytes as u64) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice overlaps no other. hobd sealed
    // the memory against shrinking before it handed it over, so that no page of it goes away.
    let start = unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, &memory, 0)? };
    let mut at = 0;
    for part in parts {
        // SAFETY: all parts together fit the mapping, and nobody else in this process has it.
        unsafe {
            let to = start.cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len());
        }
        at += part.len();
    }
    // SAFETY: the mapping above, which nothing refers to any more.
    unsafe { munmap(start, bytes)? };
    Ok(())
}

/// Longest log line that is passed on, in bytes. Lines may quote strings of the model.
const LOG_LINE_BYTES_MAX: usize = 512;

static LOG_LEVEL_MIN: AtomicU32 = AtomicU32::new(sys::GGML_LOG_LEVEL_WARN);
static LOG_LEVEL_LAST: AtomicU32 = AtomicU32::new(sys::GGML_LOG_LEVEL_NONE);
/// Set after a step was stopped and until the next one: llama.cpp warns about what was asked
/// of it.
static LOG_STOPPED: AtomicBool = AtomicBool::new(false);
static LAST_ERROR: Mutex<String> = Mutex::new(String::new());

/// Sends llama.cpp's log to standard error: warnings and errors, or everything if `verbose`.
pub fn set_log(verbose: bool) {
    if verbose {
        LOG_LEVEL_MIN.store(sys::GGML_LOG_LEVEL_NONE, Ordering::Relaxed);
    }
    // SAFETY: the callback is a plain function that may be called from any thread.
    unsafe { sys::llama_log_set(Some(on_log), std::ptr::null_mut()) };
}

/// The last error that llama.cpp logged, without control characters.
fn last_error() -> String {
    let error = LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner);
    if error.is_empty() {
        "no reason given".to_owned()
    } else {
        error.clone()
    }
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    let level = if level == sys::GGML_LOG_LEVEL_CONT {
        LOG_LEVEL_LAST.load(Ordering::Relaxed)
    } else {
        LOG_LEVEL_LAST.store(level, Ordering::Relaxed);
        level
    };
    if text.is_null()
        || level < LOG_LEVEL_MIN.load(Ordering::Relaxed)
        || LOG_STOPPED.load(Ordering::Relaxed)
    {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that lives through the call.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    let text = String::from_utf8_lossy(&text[..text.len().min(LOG_LINE_BYTES_MAX)]);
    let text: String = text
        .trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    if text.is_empty() {
        return;
    }
    if level == sys::GGML_LOG_LEVEL_ERROR {
        LAST_ERROR
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&text);
    }
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "llama.cpp: {text}");
}
