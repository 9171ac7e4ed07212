//! Requests for embeddings: they wait in the same queue as all others.

use std::time::Instant;

use hob_api::{ApiError, Event};
use hob_ipc::embedding::{Embed, Embedding};
use hob_ipc::{Command, RequestId};

use super::Daemon;
use crate::answer::{self, Answer};
use crate::request::ValidEmbedding;
use crate::scheduler::Input;

impl Daemon {
    pub(super) fn submit_embedding(&mut self, request: ValidEmbedding) -> Result<Answer, ApiError> {
        self.check_model(request.model.as_deref())?;
        if self.engine.is_none() {
            self.look_at_memory();
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let now = Instant::now();
        let (sender, answer) = answer::channel(id, self.cancelled.clone());
        let (uid, class) = (request.caller.uid, request.class);
        let command = Command::Embed(Box::new(Embed {
            id,
            inputs: request.inputs,
            dimensions: request.dimensions,
            class,
        }));
        self.live
            .admit(now, (id, command), (uid, class), request.model, sender);
        let input = Input::Submit {
            id,
            uid,
            class,
            deadline: now + request.timeout,
            keep_alive: request.keep_alive,
        };
        self.step_refusable(input).map(|()| answer)
    }

    pub(super) fn embedded(&mut self, embedding: Embedding) {
        let Embedding {
            id,
            index,
            tokens,
            vector,
        } = embedding;
        let embedding = vector.0;
        self.progress(
            id,
            Event::Embedding {
                index,
                embedding,
                tokens,
            },
        );
    }
}
