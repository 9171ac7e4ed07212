//! What an engine may say of likelihoods: those of each part, in order, one for each continuation,
//! each a number that the logarithm of a probability can be.

use hob_ipc::message::{FailureCode, Finished};
use hob_ipc::score::{LOG_PROBABILITY_MIN, SINGLE_TOKENS_MAX, Score, ScoreFailure, Scored};

use hob_api::score::Likelihood;

/// One request for likelihoods.
#[derive(Debug)]
pub(super) struct Account {
    /// Continuations of each part.
    continuations: Vec<usize>,
    /// Parts that came.
    told: usize,
    ends: bool,
    single_tokens: bool,
    /// Tokens of all continuations that came.
    tokens: u64,
}

impl Account {
    pub(super) fn new(request: &Score) -> Self {
        let parts = request.parts.iter();
        Self {
            continuations: parts.map(|part| part.continuations.len()).collect(),
            told: 0,
            ends: request.ends,
            single_tokens: request.single_tokens,
            tokens: 0,
        }
    }

    /// Whether this can be the next part's.
    pub(super) fn takes(&mut self, scored: &Scored, n_ctx: u32) -> bool {
        let likelihoods = &scored.likelihoods;
        let single: usize = likelihoods
            .iter()
            .filter_map(|likelihood| likelihood.token_log_probabilities.as_ref())
            .map(Vec::len)
            .sum();
        let sane = usize::try_from(scored.part) == Ok(self.told)
            && self.continuations.get(self.told) == Some(&likelihoods.len())
            && single <= SINGLE_TOKENS_MAX
            && likelihoods.iter().all(|one| self.is_sane(one, n_ctx));
        self.told += 1;
        let tokens = likelihoods.iter().map(|one| u64::from(one.tokens));
        self.tokens = tokens.fold(self.tokens, u64::saturating_add);
        sane
    }

    fn is_sane(&self, one: &Likelihood, n_ctx: u32) -> bool {
        let least = f64::from(one.tokens) * LOG_PROBABILITY_MIN;
        let end = LOG_PROBABILITY_MIN..=0.0;
        let single = one.token_log_probabilities.as_deref();
        // None of these ranges holds what is no number.
        (1..=n_ctx).contains(&one.tokens)
            && (least..=0.0).contains(&one.log_probability)
            && one.end.is_some() == self.ends
            && one.end.is_none_or(|found| end.contains(&found))
            && single.is_some() == self.single_tokens
            && single.is_none_or(|single| {
                single.len() == one.tokens as usize
                    && single.iter().all(|found| end.contains(&f64::from(*found)))
            })
    }

    /// Whether the request can end so.
    pub(super) fn ends(&self, finished: &Finished, n_ctx: u32) -> bool {
        let parts = self.continuations.len() as u64;
        let most = parts * u64::from(n_ctx) + self.tokens;
        let read = u64::from(finished.prompt_tokens);
        self.told == self.continuations.len()
            && (self.tokens..=most).contains(&read)
            && finished.cached_tokens <= finished.prompt_tokens
            && finished.has_no_answer()
    }

    /// Whether the request can fail so.
    pub(super) fn fails(&self, code: FailureCode) -> bool {
        match code {
            FailureCode::Score(
                ScoreFailure::TooLong { part }
                | ScoreFailure::Empty { part }
                | ScoreFailure::TooManyTokens { part },
            ) => usize::try_from(part).is_ok_and(|part| part < self.continuations.len()),
            FailureCode::Embed(_) | FailureCode::Text => false,
            _ => true,
        }
    }
}
