//! What the columns of a model's matrices matter: an engine that reads a text and tells what they were
//! multiplied with, instead of serving; and that knowledge, for one that stores weights anew.
//!
//! Of each matrix, and of each expert's of a mixture, the mean of the squares of what each column is
//! multiplied with: llama.cpp's "importance matrix". As numbers they are 32-bit floats, little-endian, those
//! of one matrix after those of another, an expert's after another's, in memory whose descriptor comes with
//! the command. Names, order and lengths are those of the command: no more is told than numbers.

use serde::{Deserialize, Serialize};

use crate::message::Load;

/// Most matrices: a model of 100 layers has some 700.
pub const MATRICES_MAX: usize = 8192;
/// Most numbers of all matrices. The engine that reads holds three times their bytes, and the one that stores
/// weights anew twice.
pub const NUMBERS_MAX: u64 = 16 << 20;
/// Least tokens of a window.
pub const WINDOW_TOKENS_MIN: u32 = 16;

/// A matrix of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Its name in the file, at most 63 bytes.
    pub name: String,
    /// Its columns: the length of what it is multiplied with.
    pub columns: u32,
    /// How many matrices of that width lie under this name, one for each expert; 1 where there are none.
    pub experts: u32,
}

impl Matrix {
    /// How many numbers are told of it.
    pub fn numbers(&self) -> u64 {
        u64::from(self.columns) * u64::from(self.experts)
    }
}

/// How many numbers are told of all these.
pub fn numbers(matrices: &[Matrix]) -> u64 {
    let each = matrices.iter().map(Matrix::numbers);
    each.fold(0, u64::saturating_add)
}

/// How an engine is to read a text for what matrices are multiplied with. Three descriptors come with it:
/// the model's file, the memory with the text, and memory for the numbers. The engine answers with one
/// [`EngineEvent::Observed`](crate::EngineEvent::Observed) for each window, the last when the numbers are
/// written, or [`EngineEvent::LoadFailed`](crate::EngineEvent::LoadFailed), and exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observe {
    /// How the model is loaded; the context is one window.
    pub load: Load,
    /// Bytes of the text, of UTF-8; 1 to [`TEXT_BYTES_MAX`](crate::passages::TEXT_BYTES_MAX).
    pub text_bytes: u64,
    /// Of the matrices whose numbers are told, 1 to [`MATRICES_MAX`], of [`NUMBERS_MAX`] numbers in all. One
    /// of which nothing was seen has zeros, and an expert that was never asked beside others that were, ones.
    pub matrices: Vec<Matrix>,
}

/// How far an engine is that reads a text so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Windows that were read, the first of them 1.
    pub windows: u32,
    /// Windows of the text: as many as are whole.
    pub of: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::frame::{COMMAND_BYTES_MAX, encode};
    use crate::memory::{KvType, Weights};
    use crate::message::{Drafts, SandboxPolicy};

    #[test]
    fn as_many_matrices_as_there_may_be_fit_a_frame() {
        let longest = Matrix {
            // Of what a name may hold, this takes most bytes in JSON.
            name: "\u{1}".repeat(63),
            columns: u32::MAX,
            experts: u32::MAX,
        };
        let load = Load {
            version: u32::MAX,
            sandbox: SandboxPolicy::Required,
            n_ctx: u32::MAX,
            parallel: u32::MAX,
            threads: Some(u32::MAX),
            memory_bytes_max: Some(u64::MAX),
            kv_type: KvType::F16,
            weights: Weights::Mapped,
            lock: false,
            chat_template: None,
            cache_bytes_max: u64::MAX,
            drafts: Drafts::Off,
            embeddings: false,
            gpu: None,
            control: None,
        };
        let matrices = vec![longest; MATRICES_MAX];
        assert!(numbers(&matrices) > NUMBERS_MAX);
        let command = Command::Observe(Box::new(Observe {
            load,
            text_bytes: u64::MAX,
            matrices,
        }));
        assert!(encode(&command, COMMAND_BYTES_MAX).is_ok());
        assert!(command.brings_descriptor());
    }
}
