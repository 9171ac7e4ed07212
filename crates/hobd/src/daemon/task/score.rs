//! Requests for likelihoods: they wait in the same queue as all others.

use hob_api::{ApiError, Event};
use hob_ipc::Command;
use hob_ipc::score::{Score, Scored};

use super::{Daemon, Order, Terms};
use crate::answer::Answer;
use crate::request::ValidScore;

impl Daemon {
    pub(super) fn submit_score(&mut self, request: ValidScore) -> Result<Answer, ApiError> {
        let terms = Terms {
            uid: request.caller.uid,
            class: request.class,
            timeout: request.timeout,
            keep_alive: request.keep_alive,
            model: request.model,
        };
        self.admit(terms, |id| {
            Order::Whole(Command::Score(Box::new(Score {
                id,
                parts: request.parts,
                ends: request.ends,
                single_tokens: request.single_tokens,
                cache_owner: request.cache.then_some(request.caller.uid),
                class: request.class,
            })))
        })
    }

    pub(super) fn scored(&mut self, scored: Scored) {
        let Scored {
            id,
            part,
            likelihoods,
        } = scored;
        self.progress(id, Event::Scored { part, likelihoods });
    }
}
