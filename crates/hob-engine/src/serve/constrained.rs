//! Requests whose answers must be something: they wait beside the others while that is compiled.

use std::io;
use std::time::Instant;

use hob_ipc::RequestId;
use hob_ipc::constraint::Constraint;

use super::{Asked, Failure, Model, Server};
use crate::grammar::compiler::Compiling;
use crate::grammar::{Grammar, GrammarError, Wanted};

/// A request whose grammar is being compiled.
#[derive(Debug)]
pub(super) struct Parked {
    asked: Asked,
    received: Instant,
    _compiling: Compiling,
}

impl<M: Model> Server<'_, M> {
    /// Begins to compile what the answer must be, and keeps a place for the request.
    pub(super) fn park(&mut self, mut asked: Asked, received: Instant) -> Result<(), Failure> {
        if let Some(constraint) = asked.request.constraint.take() {
            let reasoning = !asked.lead.is_empty();
            // A form of the caller's own is the whole answer's; calls have rules for reasoning, too.
            if !matches!(constraint, Constraint::Calls(_)) {
                asked.lead = "";
            }
            let wanted = Wanted {
                constraint,
                reasoning,
            };
            let compiling = self.model.compile(asked.request.id, wanted)?;
            self.parked.push(Parked {
                asked,
                received,
                _compiling: compiling,
            });
        }
        Ok(())
    }

    /// Takes a request that waits for its grammar out of those that do.
    pub(super) fn unpark(&mut self, id: RequestId) -> Option<Parked> {
        let mut parked = self.parked.iter();
        let at = parked.position(|parked| parked.asked.request.id == id)?;
        Some(self.parked.remove(at))
    }

    /// Begins with a request whose grammar is there, unless it has ended meanwhile.
    pub(super) fn compiled(
        &mut self,
        id: RequestId,
        grammar: Result<Grammar, GrammarError>,
    ) -> io::Result<()> {
        self.pulse.advance();
        let Some(parked) = self.unpark(id) else {
            return Ok(());
        };
        let admitted = grammar
            .map_err(Failure::from)
            .and_then(|grammar| self.admit(parked.asked, parked.received, Some(grammar)));
        self.admitted(id, admitted)
    }
}
