//! Likelihoods of texts behind prompts.

use hob_api::chat::Class;
use hob_api::score::Likelihood;
use hob_ipc::score::{LOG_PROBABILITY_MIN, Score, ScorePart};
use hob_ipc::{Command, EngineEvent};

use super::{Engine, EngineError, N_CTX};

impl Engine {
    /// How likely the model finds each continuation of each part, in their order, and with `ends`, that an
    /// answer ends behind it. What parts have in common at their beginning is computed once, so that
    /// few requests of many parts are quicker than many of few. The bounds on a request are those of
    /// [`Score`], and the caller's to keep.
    ///
    /// # Errors
    /// [`EngineError`], also where one of them has more tokens than the context, or none.
    pub(crate) fn likelihoods(
        &mut self,
        parts: Vec<ScorePart>,
        ends: bool,
    ) -> Result<Vec<Vec<Likelihood>>, EngineError> {
        let asked = self.next_request();
        let wanted: Vec<usize> = parts.iter().map(|part| part.continuations.len()).collect();
        self.send(&Command::Score(Box::new(Score {
            id: asked,
            parts,
            ends,
            single_tokens: false,
            cache_owner: None,
            class: Class::Batch,
        })))?;
        let mut told: Vec<Vec<Likelihood>> = Vec::new();
        self.answer(asked, |event| match event {
            EngineEvent::Scored(scored) if scored.id == asked => {
                let next = usize::try_from(scored.part) == Ok(told.len());
                let count = wanted.get(told.len()) == Some(&scored.likelihoods.len());
                let mut each = scored.likelihoods.iter();
                if !next || !count || !each.all(|found| is_sane(found, ends)) {
                    return Some(Err(EngineError::Absurd));
                }
                told.push(scored.likelihoods);
                None
            }
            EngineEvent::Finished(finished) if finished.id == asked => Some(Ok(())),
            _ => None,
        })?;
        if told.len() == wanted.len() {
            Ok(told)
        } else {
            Err(EngineError::Absurd)
        }
    }
}

/// Whether a likelihood can be one.
fn is_sane(found: &Likelihood, ends: bool) -> bool {
    let least = f64::from(found.tokens) * LOG_PROBABILITY_MIN;
    // None of these ranges holds what is no number.
    (1..=N_CTX).contains(&found.tokens)
        && (least..=0.0).contains(&found.log_probability)
        && found.end.is_some() == ends
        && found
            .end
            .is_none_or(|end| (LOG_PROBABILITY_MIN..=0.0).contains(&end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_probability_is_the_logarithm_of_is_not_believed() {
        let sane = Likelihood {
            log_probability: -3.0,
            tokens: 2,
            greedy: false,
            end: Some(-1.0),
            token_log_probabilities: None,
        };
        assert!(is_sane(&sane, true));
        assert!(!is_sane(&sane, false));
        for log_probability in [f64::NAN, 0.1, -2001.0, f64::NEG_INFINITY] {
            let other = Likelihood {
                log_probability,
                ..sane.clone()
            };
            assert!(!is_sane(&other, true), "{log_probability}");
        }
        for tokens in [0, N_CTX + 1] {
            let other = Likelihood {
                tokens,
                ..sane.clone()
            };
            assert!(!is_sane(&other, true), "{tokens}");
        }
        for end in [f64::NAN, 0.1, -1001.0] {
            let other = Likelihood {
                end: Some(end),
                ..sane.clone()
            };
            assert!(!is_sane(&other, true), "{end}");
        }
    }
}
