//! Which processors an engine's kernels are for.
//!
//! ggml's kernels are compiled for one set of instructions and use it without asking. A package
//! therefore has an engine for each [`Level`]; hobd starts the best that the processor has, and the
//! engine looks for itself before it computes anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// An extension of a processor's instructions that ggml has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// x86-64: SSE 4.2 and what comes before it.
    Sse42,
    /// x86-64.
    Avx,
    /// x86-64.
    Avx2,
    /// x86-64.
    Fma,
    /// x86-64.
    F16c,
    /// x86-64.
    Bmi2,
    /// x86-64: dot products of bytes in AVX's registers.
    AvxVnni,
    /// x86-64: AVX-512 F, CD, VL, DQ and BW, which ggml takes together.
    Avx512,
    /// x86-64.
    Avx512Vbmi,
    /// x86-64: dot products of bytes in AVX-512's registers.
    Avx512Vnni,
    /// x86-64.
    Avx512Bf16,
    /// ARM: dot products of bytes.
    Dotprod,
    /// ARM: arithmetic of 16-bit numbers.
    Fp16,
    /// ARM: products of small matrices of bytes.
    I8mm,
    /// ARM: scalable vectors.
    Sve,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 15] = [
        Self::Sse42,
        Self::Avx,
        Self::Avx2,
        Self::Fma,
        Self::F16c,
        Self::Bmi2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Avx512Vbmi,
        Self::Avx512Vnni,
        Self::Avx512Bf16,
        Self::Dotprod,
        Self::Fp16,
        Self::I8mm,
        Self::Sve,
    ];

    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sse42 => "SSE4.2",
            Self::Avx => "AVX",
            Self::Avx2 => "AVX2",
            Self::Fma => "FMA",
            Self::F16c => "F16C",
            Self::Bmi2 => "BMI2",
            Self::AvxVnni => "AVX-VNNI",
            Self::Avx512 => "AVX-512",
            Self::Avx512Vbmi => "AVX-512 VBMI",
            Self::Avx512Vnni => "AVX-512 VNNI",
            Self::Avx512Bf16 => "AVX-512 BF16",
            Self::Dotprod => "dot products",
            Self::Fp16 => "16-bit arithmetic",
            Self::I8mm => "matrix products",
            Self::Sve => "SVE",
        }
    }

    /// Whether this processor, and the kernel for all threads, has it.
    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Self::Sse42 => has!("ssse3") && has!("sse4.1") && has!("sse4.2") && has!("popcnt"),
            Self::Avx => has!("avx"),
            Self::Avx2 => has!("avx2"),
            Self::Fma => has!("fma"),
            Self::F16c => has!("f16c"),
            Self::Bmi2 => has!("bmi2"),
            Self::AvxVnni => has!("avxvnni"),
            Self::Avx512 => {
                has!("avx512f")
                    && has!("avx512cd")
                    && has!("avx512vl")
                    && has!("avx512dq")
                    && has!("avx512bw")
            }
            Self::Avx512Vbmi => has!("avx512vbmi"),
            Self::Avx512Vnni => has!("avx512vnni"),
            Self::Avx512Bf16 => has!("avx512bf16"),
            Self::Dotprod | Self::Fp16 | Self::I8mm | Self::Sve => false,
        }
    }

    /// Whether this processor has it.
    #[cfg(target_arch = "aarch64")]
    fn is_here(self) -> bool {
        use std::arch::is_aarch64_feature_detected as has;
        match self {
            Self::Dotprod => has!("dotprod"),
            Self::Fp16 => has!("fp16"),
            Self::I8mm => has!("i8mm"),
            Self::Sve => has!("sve"),
            _ => false,
        }
    }

    /// Whether this processor has it.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_here(self) -> bool {
        false
    }
}

/// What a processor has, or what kernels use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features(BTreeSet<Feature>);

impl Features {
    /// Those of this processor.
    pub fn here() -> Self {
        let all = Feature::ALL.into_iter();
        all.filter(|feature| feature.is_here()).collect()
    }

    /// Whether `feature` is among them.
    pub fn contains(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// Those of `needed` that are not among them, for people; `None` if none is missing.
    pub fn lack(&self, needed: &Self) -> Option<String> {
        let missing = needed.0.difference(&self.0).map(|feature| feature.as_str());
        let missing: Vec<_> = missing.collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().collect())
    }
}

/// The engine's name in its folder.
pub const ENGINE: &str = "hob-engine";
/// The folder of a package's engines, used if none lies beside the program that starts one.
pub const ENGINES: &str = "/usr/libexec/hob";

/// The engines in a package's folder that are of this architecture, from the least to the best.
pub fn installed(folder: &Path) -> Vec<(Level, PathBuf)> {
    let native = Level::ALL.into_iter().filter(|level| level.is_native());
    let engines = native.map(|level| (level, folder.join(level.as_str()).join(ENGINE)));
    engines.filter(|(_, engine)| engine.is_file()).collect()
}

/// A set of instructions that packages have an engine for. `scripts/packages.sh` compiles them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Intel since 2008, Atoms too.
    #[serde(rename = "x86-64-v2")]
    X86V2,
    /// Intel since 2013, AMD since 2015, most Atoms since 2021.
    #[serde(rename = "x86-64-v3")]
    X86V3,
    /// Processors with AVX-VNNI, such as an N100.
    #[serde(rename = "x86-64-v3-vnni")]
    X86V3Vnni,
    /// Processors with AVX-512 and its VNNI: Intel since 2019, AMD since 2022.
    #[serde(rename = "x86-64-v4-vnni")]
    X86V4Vnni,
    /// Every 64-bit ARM, such as a Raspberry Pi 4.
    #[serde(rename = "armv8.0")]
    Arm80,
    /// Dot products and 16-bit arithmetic, such as a Raspberry Pi 5 or a Jetson Orin.
    #[serde(rename = "armv8.2")]
    Arm82,
    /// These and matrix products, mandatory since ARMv8.6.
    #[serde(rename = "armv8.6")]
    Arm86,
}

impl Level {
    /// Every level, those of an architecture from the least to the best.
    pub const ALL: [Self; 7] = [
        Self::X86V2,
        Self::X86V3,
        Self::X86V3Vnni,
        Self::X86V4Vnni,
        Self::Arm80,
        Self::Arm82,
        Self::Arm86,
    ];

    /// Its name in settings, in status and of its folder.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86V2 => "x86-64-v2",
            Self::X86V3 => "x86-64-v3",
            Self::X86V3Vnni => "x86-64-v3-vnni",
            Self::X86V4Vnni => "x86-64-v4-vnni",
            Self::Arm80 => "armv8.0",
            Self::Arm82 => "armv8.2",
            Self::Arm86 => "armv8.6",
        }
    }

    /// Whether it is one of the architecture that this is built for. Only such a level says anything
    /// by what it needs: the least of ARM needs nothing.
    pub fn is_native(self) -> bool {
        match self {
            Self::X86V2 | Self::X86V3 | Self::X86V3Vnni | Self::X86V4Vnni => {
                cfg!(target_arch = "x86_64")
            }
            Self::Arm80 | Self::Arm82 | Self::Arm86 => cfg!(target_arch = "aarch64"),
        }
    }

    /// What its kernels use.
    pub fn needs(self) -> Features {
        use Feature::{
            Avx, Avx2, Avx512, Avx512Vbmi, Avx512Vnni, AvxVnni, Bmi2, Dotprod, F16c, Fma, Fp16,
            I8mm, Sse42,
        };
        let needed: &[Feature] = match self {
            Self::X86V2 => &[Sse42],
            Self::X86V3 => &[Sse42, Avx, Avx2, Fma, F16c, Bmi2],
            Self::X86V3Vnni => &[Sse42, Avx, Avx2, Fma, F16c, Bmi2, AvxVnni],
            Self::X86V4Vnni => &[
                Sse42, Avx, Avx2, Fma, F16c, Bmi2, Avx512, Avx512Vbmi, Avx512Vnni,
            ],
            Self::Arm80 => &[],
            Self::Arm82 => &[Dotprod, Fp16],
            Self::Arm86 => &[Dotprod, Fp16, I8mm],
        };
        needed.iter().copied().collect()
    }

    /// The level of kernels that use `features`: the best that needs no more; `None` if they use less
    /// than the least.
    pub fn of(features: &Features) -> Option<Self> {
        let mut native = Self::ALL.into_iter().filter(|level| level.is_native());
        native.rfind(|level| features.lack(&level.needs()).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_of_what_it_needs() {
        for level in Level::ALL.into_iter().filter(|level| level.is_native()) {
            assert_eq!(Level::of(&level.needs()), Some(level));
        }
    }

    #[test]
    fn names_are_those_of_the_wire() {
        for level in Level::ALL {
            let wire = serde_json::to_string(&level).unwrap_or_default();
            assert_eq!(wire, format!("\"{}\"", level.as_str()));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let has = Level::X86V2.needs();
        let missing = has.lack(&Level::X86V3.needs());
        assert_eq!(missing.as_deref(), Some("AVX, AVX2, FMA, F16C, BMI2"));
        assert_eq!(Level::X86V3.needs().lack(&has), None);
    }

    /// Tests run kernels, so this machine has some level.
    #[test]
    fn this_processor_has_a_level() {
        assert!(Level::of(&Features::here()).is_some());
    }
}
