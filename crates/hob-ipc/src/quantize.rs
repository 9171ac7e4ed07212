//! Storing a model's weights more coarsely: what an engine does instead of loading a model.

use serde::{Deserialize, Serialize};

use crate::importance::Matrix;
use crate::message::SandboxPolicy;

/// How an engine is to store a model's weights anew. Two descriptors come with it: the model's file, open
/// for reading, and an empty one to write the new file into; and a third where it is told what matters: the
/// memory with the numbers. The engine answers with
/// [`EngineEvent::Quantized`](crate::EngineEvent::Quantized), or
/// [`EngineEvent::LoadFailed`](crate::EngineEvent::LoadFailed) and exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantize {
    /// [`crate::VERSION`] of the sender.
    pub version: u32,
    /// What the sandbox must achieve.
    pub sandbox: SandboxPolicy,
    /// Threads; `None` for the physical cores that the process may use.
    pub threads: Option<u32>,
    /// Most bytes of the new file: whoever took over the engine could write no more (`RLIMIT_FSIZE`).
    pub bytes_max: u64,
    /// How weights are stored.
    pub scheme: Scheme,
    /// Whether all matrices are stored as [`Scheme::block`] says, and not as llama.cpp mixes them.
    pub uniform: bool,
    /// Of which matrices the numbers tell what each column matters; empty where no such memory comes along.
    pub importance: Vec<Matrix>,
}

/// How weights are stored, by llama.cpp's names. Those that need an importance matrix are left out, as
/// are those with fewer than 3 bits, which small models do not survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(
    non_camel_case_types,
    missing_docs,
    reason = "the names are llama.cpp's, and each is described by its name and `block`"
)]
pub enum Scheme {
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_K_S,
    Q4_1,
    Q4_0,
    IQ4_NL,
    IQ4_XS,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
}

/// The type of most of a scheme's matrices: weights are stored in blocks, which a row holds whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// `ggml_type`'s name, as GGUF's documentation has it.
    pub name: &'static str,
    /// Weights in a block.
    pub weights: u64,
    /// Bytes of a block (`ggml-common.h`).
    pub bytes: u64,
}

impl Block {
    const fn new(name: &'static str, weights: u64, bytes: u64) -> Self {
        Self {
            name,
            weights,
            bytes,
        }
    }
}

impl Scheme {
    /// Every scheme, the finest first.
    pub const ALL: [Self; 15] = [
        Self::Q8_0,
        Self::Q6_K,
        Self::Q5_K_M,
        Self::Q5_K_S,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4_K_M,
        Self::Q4_K_S,
        Self::Q4_1,
        Self::Q4_0,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::Q3_K_L,
        Self::Q3_K_M,
        Self::Q3_K_S,
    ];

    /// Its name in llama.cpp.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q6_K => "Q6_K",
            Self::Q5_K_M => "Q5_K_M",
            Self::Q5_K_S => "Q5_K_S",
            Self::Q5_1 => "Q5_1",
            Self::Q5_0 => "Q5_0",
            Self::Q4_K_M => "Q4_K_M",
            Self::Q4_K_S => "Q4_K_S",
            Self::Q4_1 => "Q4_1",
            Self::Q4_0 => "Q4_0",
            Self::IQ4_NL => "IQ4_NL",
            Self::IQ4_XS => "IQ4_XS",
            Self::Q3_K_L => "Q3_K_L",
            Self::Q3_K_M => "Q3_K_M",
            Self::Q3_K_S => "Q3_K_S",
        }
    }

    /// The scheme of a name, whatever its case.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|scheme| scheme.as_str().eq_ignore_ascii_case(name))
    }

    /// `llama_ftype` of llama.h, which a file's `general.file_type` tells.
    pub fn file_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::Q5_0 => 8,
            Self::Q5_1 => 9,
            Self::Q3_K_S => 11,
            Self::Q3_K_M => 12,
            Self::Q3_K_L => 13,
            Self::Q4_K_S => 14,
            Self::Q4_K_M => 15,
            Self::Q5_K_S => 16,
            Self::Q5_K_M => 17,
            Self::Q6_K => 18,
            Self::IQ4_NL => 25,
            Self::IQ4_XS => 30,
        }
    }

    /// How most of its matrices are stored.
    pub fn block(self) -> Block {
        match self {
            Self::Q8_0 => Block::new("Q8_0", 32, 34),
            Self::Q6_K => Block::new("Q6_K", 256, 210),
            Self::Q5_K_M | Self::Q5_K_S => Block::new("Q5_K", 256, 176),
            Self::Q5_1 => Block::new("Q5_1", 32, 24),
            Self::Q5_0 => Block::new("Q5_0", 32, 22),
            Self::Q4_K_M | Self::Q4_K_S => Block::new("Q4_K", 256, 144),
            Self::Q4_1 => Block::new("Q4_1", 32, 20),
            Self::Q4_0 => Block::new("Q4_0", 32, 18),
            Self::IQ4_NL => Block::new("IQ4_NL", 32, 18),
            Self::IQ4_XS => Block::new("IQ4_XS", 256, 136),
            Self::Q3_K_L | Self::Q3_K_M | Self::Q3_K_S => Block::new("Q3_K", 256, 110),
        }
    }

    /// What llama.cpp stores a matrix as whose rows are not whole blocks of 256 weights, but of 32
    /// (`tensor_type_fallback` in `llama-quant.cpp`); `None` where its own blocks are no larger.
    pub fn fallback(self) -> Option<Block> {
        match self {
            Self::Q6_K => Some(Self::Q8_0.block()),
            Self::Q5_K_M | Self::Q5_K_S => Some(Self::Q5_1.block()),
            Self::Q4_K_M | Self::Q4_K_S => Some(Self::Q5_0.block()),
            Self::IQ4_XS => Some(Self::IQ4_NL.block()),
            Self::Q3_K_L | Self::Q3_K_M | Self::Q3_K_S => Some(Self::Q4_0.block()),
            Self::Q8_0 | Self::Q5_1 | Self::Q5_0 | Self::Q4_1 | Self::Q4_0 | Self::IQ4_NL => None,
        }
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_and_no_two_schemes_are_one() {
        for scheme in Scheme::ALL {
            assert_eq!(Scheme::named(scheme.as_str()), Some(scheme));
            assert_eq!(
                Scheme::named(&scheme.to_string().to_lowercase()),
                Some(scheme)
            );
            let alike = Scheme::ALL
                .iter()
                .filter(|o| o.file_type() == scheme.file_type());
            assert_eq!(alike.count(), 1);
        }
        assert_eq!(Scheme::named("Q9"), None);
    }

    #[test]
    fn what_has_blocks_of_256_falls_back_to_blocks_of_32_that_are_no_coarser() {
        for scheme in Scheme::ALL {
            let block = scheme.block();
            assert_eq!(
                scheme.fallback().is_some(),
                block.weights == 256,
                "{scheme}"
            );
            if let Some(other) = scheme.fallback() {
                assert_eq!(other.weights, 32);
                assert!(other.bytes * block.weights >= block.bytes * other.weights);
            }
        }
    }
}
