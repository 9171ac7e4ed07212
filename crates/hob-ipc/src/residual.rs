//! The residual stream: what each layer of a model hands on to the next, a vector for each token. It can be
//! read, and a vector can be added to it behind a layer (a control vector), which changes what the model is
//! inclined to say.

use std::fs::File;
use std::io::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::{RequestId, shared};

/// A control vector; its numbers come in memory of their own, as 32-bit floats in little endian, as many
/// as the residual stream is wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The layer behind which it is added, from 0.
    pub layer: u32,
}

impl Control {
    /// What an engine is told of these numbers, with memory that holds them and that nobody can change any more.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub fn sealed(layer: u32, numbers: &[f32]) -> io::Result<(Self, File)> {
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        let bytes: Vec<u8> = numbers.collect();
        let mut memory = shared::fixed("hob-control", bytes.len() as u64)?;
        memory.write_all(&bytes)?;
        shared::seal(&memory)?;
        Ok((Self { layer }, memory))
    }
}

/// Read the residual stream at the last token of an answer. Answered at once, by
/// [`crate::EngineEvent::ResidualRead`]; the memory that comes with this then holds the stream behind each layer,
/// as 32-bit floats in little endian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadResidual {
    /// Its number.
    pub id: RequestId,
    /// What stands before the answer; plain text.
    pub prompt: String,
    /// The answer.
    pub answer: String,
}

/// The residual stream was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidualRead {
    /// Which request.
    pub id: RequestId,
    /// Tokens of prompt and answer, at least 1.
    pub tokens: u32,
}

/// Bytes of the residual stream at one token, behind so many layers.
pub fn residual_bytes(layers: u32, width: u32) -> u64 {
    u64::from(layers) * u64::from(width) * size_of::<f32>() as u64
}
