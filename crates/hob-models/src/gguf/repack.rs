//! Whether a processor's kernels like weights in an order other than the file's.

use super::Header;

/// What decides which weights ggml puts into another order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernels {
    /// x86-64 with AVX2.
    pub avx2: bool,
    /// x86-64 with AVX-512.
    pub avx512: bool,
    /// ARM with dot product instructions.
    pub dotprod: bool,
}

impl Kernels {
    /// Those of this processor.
    pub fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        return Self {
            avx2: std::arch::is_x86_feature_detected!("avx2"),
            avx512: std::arch::is_x86_feature_detected!("avx512f"),
            dotprod: false,
        };
        #[cfg(target_arch = "aarch64")]
        return Self {
            dotprod: std::arch::is_aarch64_feature_detected!("dotprod"),
            ..Self::default()
        };
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Self::default()
    }

    /// The tensor types in `ggml_repack_get_optimal_repack_type` (ggml-cpu's `repack.cpp`).
    fn reorder(self, tensor_type: &str) -> bool {
        match tensor_type {
            "Q4_0" | "Q4_K" | "IQ4_NL" | "MXFP4" => self.avx2 || self.dotprod,
            "Q2_K" => self.avx512,
            "Q5_K" | "Q6_K" | "Q8_0" => self.dotprod,
            _ => false,
        }
    }
}

impl Header {
    /// Bytes of weights that have a faster order on a processor with `kernels`. An upper bound:
    /// tensors whose rows don't fit the kernels, and tables that are only looked up, stay as they
    /// are.
    pub fn reordered_bytes(&self, kernels: Kernels) -> u64 {
        let types = self.bytes_by_type.iter();
        let reordered = types.filter(|(name, _)| kernels.reorder(name));
        reordered.map(|(_, bytes)| *bytes).sum()
    }
}
