//! The residual stream: what a model's layers hand on, read, and changed by a control vector.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use hob_ipc::residual::{self, ReadResidual, residual_bytes};
use hob_ipc::{Command, EngineEvent, shared};
use hob_models::Sha256;
use hob_models::store::control_digest;

use super::{Engine, EngineError, N_CTX};

/// What is added to the residual stream of a model behind one layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Control {
    /// Which layer, from 0.
    pub(crate) layer: u32,
    /// As many numbers as the stream is wide.
    pub(crate) vector: Vec<f32>,
}

impl Control {
    /// A digest of it, for what is measured with it.
    pub(crate) fn digest(&self) -> Sha256 {
        control_digest(self.layer, &self.vector)
    }

    /// What the engine is told of it, with the memory that it lies in, which nobody can change any more.
    pub(super) fn sealed(&self) -> io::Result<(residual::Control, File)> {
        residual::Control::sealed(self.layer, &self.vector)
    }
}

/// Most bytes of a residual stream: that of a model of 128 layers, 16,384 wide, has 8 MiB.
const STREAM_BYTES_MAX: u64 = 64 << 20;

impl Engine {
    /// The residual stream behind each layer of a model of so many layers and of that width, at the last token
    /// of an answer; one layer behind the other.
    ///
    /// # Errors
    /// [`EngineError`], also where prompt and answer have more tokens than the context.
    pub(crate) fn residual(
        &mut self,
        prompt: &str,
        answer: &str,
        (layers, width): (u32, u32),
    ) -> Result<Vec<f32>, EngineError> {
        let lost = |error: io::Error| EngineError::Lost(error.to_string());
        let asked = self.next_request();
        let bytes = residual_bytes(layers, width);
        if bytes > STREAM_BYTES_MAX {
            return Err(EngineError::Failed(format!(
                "the model's residual stream has {bytes} bytes, more than any that is known"
            )));
        }
        let memory = shared::fixed("hob-residual", bytes).map_err(lost)?;
        let command = Command::ReadResidual(Box::new(ReadResidual {
            id: asked,
            prompt: prompt.to_owned(),
            answer: answer.to_owned(),
        }));
        self.send_with(&command, &[memory.as_fd()])?;
        let read = self.answer(asked, |event| match event {
            EngineEvent::ResidualRead(read) if read.id == asked => Some(Ok(read)),
            _ => None,
        })?;
        let count = usize::try_from(bytes).unwrap_or(0) / size_of::<f32>();
        let stream = shared::floats(&memory, count, 0).map_err(lost)?;
        let sane = (1..=N_CTX).contains(&read.tokens) && stream.iter().all(|x| x.is_finite());
        if sane {
            Ok(stream)
        } else {
            Err(EngineError::Absurd)
        }
    }
}
