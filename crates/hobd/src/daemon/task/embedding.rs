//! Requests for embeddings: they wait in the same queue as all others.

use hob_api::{ApiError, Event};
use hob_ipc::Command;
use hob_ipc::embedding::{Embed, Embedding};

use super::{Daemon, Order, Terms};
use crate::answer::Answer;
use crate::request::ValidEmbedding;

impl Daemon {
    pub(super) fn submit_embedding(&mut self, request: ValidEmbedding) -> Result<Answer, ApiError> {
        let terms = Terms {
            uid: request.caller.uid,
            class: request.class,
            timeout: request.timeout,
            keep_alive: request.keep_alive,
            model: request.model,
        };
        self.admit(terms, |id| {
            Order::Whole(Command::Embed(Box::new(Embed {
                id,
                inputs: request.inputs,
                dimensions: request.dimensions,
                class: request.class,
            })))
        })
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
