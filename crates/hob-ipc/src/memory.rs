//! How the engine holds what takes most of its memory: the model's weights and the KV cache.

use serde::{Deserialize, Serialize};

/// How keys and values are kept in the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvType {
    /// 16 bits an element: what the model was made with.
    #[default]
    F16,
    /// 8.5 bits an element, in blocks of 32.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 4.5 bits an element, in blocks of 32.
    #[serde(rename = "q4_0")]
    Q4_0,
}

impl KvType {
    /// Every type, the most exact first.
    pub const ALL: [Self; 3] = [Self::F16, Self::Q8_0, Self::Q4_0];

    /// ggml's name, used in settings and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Elements of a block, of which a head must have whole ones, and bytes of a block
    /// (`ggml-common.h`).
    pub fn block(self) -> (u32, u32) {
        match self {
            Self::F16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
        }
    }
}

/// Where the weights lie. In no case twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// In the file's pages, which the kernel may drop and read again. They stay in the file's
    /// order, so that processors with kernels for another order don't use those.
    #[default]
    Mapped,
    /// In memory of the engine's own, in the order that this processor's kernels like best.
    Copied,
}

impl Weights {
    /// Its name in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Copied => "copied",
        }
    }
}
