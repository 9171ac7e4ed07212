//! Memory that the engine and who started it hand each other, as a descriptor.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// New memory of `bytes` zero bytes that can be written, and can neither grow nor shrink. `name` is shown
/// where the kernel tells what memory is for.
///
/// # Errors
/// As of `memfd_create(2)`.
pub fn fixed(name: &str, bytes: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    let file = match memfd_create(name, flags) {
        // Linux before 6.3 does not know the flag.
        Err(rustix::io::Errno::INVAL) => {
            memfd_create(name, flags.difference(MemfdFlags::NOEXEC_SEAL))?
        }
        file => file?,
    };
    ftruncate(&file, bytes)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(File::from(file))
}

/// So many 32-bit floats, little-endian, that begin behind the first `at` bytes. Read and not mapped: nobody can
/// change a copy while it is looked at. Whether they are numbers is the caller's to see.
///
/// # Errors
/// If the memory has fewer.
pub fn floats(memory: &File, count: usize, at: u64) -> io::Result<Vec<f32>> {
    let mut bytes = vec![0; count * size_of::<f32>()];
    memory.read_exact_at(&mut bytes, at)?;
    let (words, _) = bytes.as_chunks();
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

/// Forbids every further change, by anybody.
///
/// # Errors
/// If somebody has it mapped for writing still.
pub fn seal(memory: impl AsFd) -> io::Result<()> {
    fcntl_add_seals(memory, SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(())
}
