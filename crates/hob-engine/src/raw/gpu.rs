//! ggml's devices, and variables of the environment that their drivers look at.

use std::ffi::CStr;

use hob_ipc::gpu::{Backend, Device};
use hob_ipc::message::NAME_BYTES_MAX;
use llama_cpp_sys_2 as sys;

use crate::sandbox::limits;

/// Sets variables of this process; none, if it has more threads than this one.
pub fn set_environment(variables: &[(&str, &str)]) {
    if limits::one_thread().is_err() {
        return;
    }
    for (name, value) in variables {
        // SAFETY: this is the only thread, as was just seen, so that nobody reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}

/// A device that ggml's backend found; the pointer lives as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct Handle(sys::ggml_backend_dev_t);

/// The first GPU that ggml found, one with memory of its own before one without.
pub fn first(backend: Backend) -> Option<(Handle, Device)> {
    let wanted = [
        sys::GGML_BACKEND_DEVICE_TYPE_GPU,
        sys::GGML_BACKEND_DEVICE_TYPE_IGPU,
    ];
    let found = wanted.into_iter().find_map(|kind| {
        // SAFETY: a plain function; backends were registered when llama.cpp started.
        let device = unsafe { sys::ggml_backend_dev_by_type(kind) };
        (!device.is_null()).then_some((device, kind))
    });
    let (device, kind) = found?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: `device` is one of ggml's own, which are never freed; the numbers outlive the call, and the
    // description is a string of the device's own.
    let name = unsafe {
        sys::ggml_backend_dev_memory(device, &raw mut free, &raw mut total);
        let description = sys::ggml_backend_dev_description(device);
        if description.is_null() {
            String::new()
        } else {
            CStr::from_ptr(description).to_string_lossy().into_owned()
        }
    };
    let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    let device_found = Device {
        backend,
        name: name.chars().filter(plain).take(NAME_BYTES_MAX).collect(),
        memory_bytes: total as u64,
        free_bytes: free as u64,
        shared: kind == sys::GGML_BACKEND_DEVICE_TYPE_IGPU,
        layers: 0,
    };
    Some((Handle(device), device_found))
}

/// Starts the device's driver as far as it starts by and by: its threads are there afterwards, and its
/// libraries are loaded. False if it can't.
pub fn start(device: Handle) -> bool {
    // SAFETY: the device is one of ggml's own, and takes no parameters; what it gives is freed once. Of the
    // device itself, all stays that is common to whoever computes on it.
    unsafe {
        let backend = sys::ggml_backend_dev_init(device.0, std::ptr::null());
        if backend.is_null() {
            return false;
        }
        sys::ggml_backend_free(backend);
    }
    true
}

/// The devices that a model is loaded for, as llama.cpp wants them: these, and a null behind them. Never
/// freed: llama.cpp keeps the pointer with the model.
pub(super) fn list(device: Option<Handle>) -> *mut sys::ggml_backend_dev_t {
    let devices: Vec<_> = device
        .into_iter()
        .map(|device| device.0)
        .chain([std::ptr::null_mut()])
        .collect();
    devices.leak().as_mut_ptr()
}
