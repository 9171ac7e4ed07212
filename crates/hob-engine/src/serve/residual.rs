//! The residual stream at an answer's end: answered at once, as nobody else is at work where it is read.

use std::io;
use std::os::fd::OwnedFd;

use hob_ipc::EngineEvent;
use hob_ipc::message::{FailureCode, Prompt};
use hob_ipc::residual::{ReadResidual, ResidualRead};

use super::{Failure, Model, Server, cancelled};
use crate::inbox::Ends;
use crate::raw;
use crate::slots;

impl<M: Model> Server<'_, M> {
    pub(super) fn read_residual(
        &mut self,
        request: ReadResidual,
        memory: &OwnedFd,
    ) -> io::Result<()> {
        let id = request.id;
        self.pulse.set_working(true);
        self.pulse.advance();
        match self.residual(request, memory) {
            Ok(tokens) => {
                let tokens = slots::count(tokens);
                self.events
                    .send(EngineEvent::ResidualRead(ResidualRead { id, tokens }))
            }
            Err(failure) => self.report(id, failure),
        }
    }

    fn residual(&mut self, request: ReadResidual, memory: &OwnedFd) -> Result<usize, Failure> {
        let failure = |message: String| Failure::new(FailureCode::Text, message);
        let mut tokens = self.model.tokenize(&Prompt::Text(request.prompt))?;
        tokens.extend(self.model.continuation(&request.answer)?);
        let most = self.limits.n_ctx as usize;
        if !(1..=most).contains(&tokens.len()) {
            let message = format!("there are {} tokens, the context has {most}", tokens.len());
            return Err(failure(message));
        }
        self.inbox.interrupt().begin(Some(Ends {
            request: Some(request.id),
            arrival: None,
        }));
        let stream = self.model.residual(&tokens)?.ok_or_else(cancelled)?;
        self.pulse.advance();
        let bytes: Vec<u8> = stream
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        raw::fill(memory, &[&bytes])
            .map_err(|error| failure(format!("the stream can't be handed over: {error}")))?;
        Ok(tokens.len())
    }
}
