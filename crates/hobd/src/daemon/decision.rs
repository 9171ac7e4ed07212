//! Decisions: one request for likelihoods each.

use hob_api::ApiError;
use hob_api::decision::{DecisionUsage, Decisions};

use super::DaemonHandle;
use crate::decision::Plan;
use crate::request::{ValidDecision, ValidScore};

impl DaemonHandle {
    /// Answers typed questions. Dropping the future cancels the request.
    ///
    /// # Errors
    /// As of [`DaemonHandle::scores`]; `invalid_request` if the state, read once for each order of
    /// each question's options, is too much text.
    pub async fn decide(&self, request: ValidDecision) -> Result<Decisions, ApiError> {
        // A model that is not loaded yet is taken for one that chats, as nearly all are.
        let model = self.status.borrow().model.clone();
        let chats = model.is_none_or(|model| model.chat || model.n_ctx == 0);
        Plan::check(&request)?;
        let (plan, parts) = Plan::new(&request, chats);
        let scores = self.scores(ValidScore::deciding(request, parts)?).await?;
        Ok(Decisions {
            model: scores.model,
            answers: plan.answers(scores.parts),
            usage: DecisionUsage {
                input_tokens: scores.usage.prompt_tokens,
                output_tokens: scores.usage.completion_tokens,
                cached_tokens: scores.usage.prompt_tokens_details.cached_tokens,
                forward_passes: scores.usage.completion_tokens_details.forward_passes,
            },
            timings: scores.timings,
        })
    }
}
