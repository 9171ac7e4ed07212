//! Weights stored anew, by an engine of its own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Instant;

use hob_ipc::message::LoadFailure;
use hob_ipc::quantize::{Quantize, Scheme};
use hob_ipc::{Command, EngineEvent};

use super::{Engine, EngineError, Importance, PATIENCE, policy, threads};
use crate::interrupt::Interrupt;

/// How weights are stored anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'i> {
    /// The scheme.
    pub(crate) scheme: Scheme,
    /// Whether all matrices get the scheme's main type.
    pub(crate) uniform: bool,
    /// Most bytes that may be written.
    pub(crate) bytes_max: u64,
    /// What columns matter, if that is known.
    pub(crate) importance: Option<&'i Importance>,
}

impl Engine {
    /// Has an engine store the weights of the model `source` anew in the empty file `target`; `watch` is
    /// told every second how long that is by now. What is in it is not to be believed.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn quantize(
        source: &File,
        target: &File,
        order: Order<'_>,
        interrupt: &Interrupt,
        mut watch: impl FnMut(u64),
    ) -> Result<(), EngineError> {
        let lost = |error: io::Error| EngineError::Lost(error.to_string());
        let mut engine = Self::start(0, interrupt)?;
        let command = Command::Quantize(Quantize {
            version: hob_ipc::VERSION,
            sandbox: policy(),
            threads: threads(),
            bytes_max: order.bytes_max,
            scheme: order.scheme,
            uniform: order.uniform,
            importance: order
                .importance
                .map_or_else(Vec::new, |known| known.matrices().to_vec()),
        });
        let memory = order.importance.map(Importance::memory);
        let memory = memory.transpose().map_err(lost)?;
        let mut descriptors = vec![source.as_fd(), target.as_fd()];
        descriptors.extend(memory.as_ref().map(File::as_fd));
        engine.send_with(&command, &descriptors)?;
        let mut grown = (0, Instant::now());
        loop {
            let done = engine.wait(|event| match event {
                EngineEvent::Quantized => Some(Ok(true)),
                EngineEvent::Heartbeat { .. } => Some(Ok(false)),
                EngineEvent::LoadFailed { code, message } => Some(Err(match code {
                    LoadFailure::Quantize => EngineError::Failed(message),
                    _ => EngineError::Refused { code, message },
                })),
                _ => None,
            })?;
            let bytes = target.metadata().map_err(lost)?.len();
            watch(bytes);
            if done {
                return Ok(());
            }
            if bytes != grown.0 {
                grown = (bytes, Instant::now());
            } else if grown.1.elapsed() > PATIENCE {
                let error = format!("it wrote nothing for {} s", PATIENCE.as_secs());
                return Err(EngineError::Lost(error));
            }
        }
    }
}
