//! Which tokens stay.

use std::collections::BTreeSet;

use super::derivation::Merging;
use super::vocabulary::Kind;
use super::{SurgeryError, Token, Vocabulary};

/// Vocabularies are made a multiple of this, as kernels take several rows at once.
const STEP: usize = 64;
/// Of a vocabulary whose size nobody named, at least one in so many stays, the commonest of the model's
/// own training first: a corpus never holds all that will be said.
const SHARE_KEPT: usize = 4;

/// How many tokens may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// All that the corpus needs, and a quarter of the vocabulary at least.
    Auto,
    /// At most so many.
    Tokens(usize),
}

/// How much each token is needed for some kind of text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// How often it came up.
    pub seen: Vec<u64>,
    /// What it counts beside others, also of what did not happen to come up; no number counts nothing.
    pub weights: Vec<f64>,
}

impl Demand {
    fn seen(&self, token: Token) -> bool {
        self.seen.get(token as usize).is_some_and(|seen| *seen > 0)
    }

    fn weight(&self, token: Token) -> f64 {
        let weight = self.weights.get(token as usize).copied();
        weight.filter(|weight| !weight.is_nan()).unwrap_or(0.0)
    }
}

/// The tokens that stay so far, within a budget.
struct Kept<'v, 'd> {
    vocabulary: &'v Vocabulary<'d>,
    tokens: BTreeSet<Token>,
    most: usize,
}

impl Kept<'_, '_> {
    /// Keeps a token with all that it is joined of, if there is room.
    fn keep(&mut self, token: Token) {
        if self.tokens.contains(&token) {
            return;
        }
        let mut wanted = self.vocabulary.derivation(token);
        wanted.retain(|token| !self.tokens.contains(token));
        wanted.sort_unstable();
        wanted.dedup();
        if self.tokens.len() + wanted.len() <= self.most {
            self.tokens.extend(wanted);
        }
    }
}

impl Vocabulary<'_> {
    /// The least number of tokens that can stay.
    pub fn least(&self) -> usize {
        self.fixed.len()
    }

    /// Whether so many tokens may stay.
    ///
    /// # Errors
    /// [`SurgeryError::TooFew`], or [`SurgeryError::Nothing`] if that is all of them.
    pub fn may_keep(&self, budget: Budget) -> Result<(), SurgeryError> {
        match budget {
            Budget::Tokens(wanted) if wanted < self.fixed.len() => Err(SurgeryError::TooFew {
                wanted,
                least: self.fixed.len(),
            }),
            Budget::Tokens(wanted) if wanted >= self.len() => {
                Err(SurgeryError::Nothing { all: self.len() })
            }
            Budget::Tokens(_) | Budget::Auto => Ok(()),
        }
    }

    /// The tokens that stay, rising, of which some text needs each as much as `demand` says: those that
    /// always stay, then the most needed, then others in the order in which the model's tokenizer learned
    /// them. If nobody named a number, all that came up stay before any that did not.
    ///
    /// # Errors
    /// [`SurgeryError::TooFew`], or [`SurgeryError::Nothing`] if that is all of them.
    pub fn choose(&self, demand: &Demand, budget: Budget) -> Result<Vec<Token>, SurgeryError> {
        self.may_keep(budget)?;
        let all = self.len();
        let most = match budget {
            Budget::Auto => all,
            Budget::Tokens(most) => most,
        };
        let mut kept = Kept {
            vocabulary: self,
            tokens: self.fixed.clone(),
            most,
        };
        let mut order = self.learned();
        // Sorting keeps the order among those of the same weight.
        order.sort_by(|a, b| demand.weight(*b).total_cmp(&demand.weight(*a)));
        if budget == Budget::Auto {
            let seen = order.iter().filter(|token| demand.seen(**token));
            seen.for_each(|token| kept.keep(*token));
            let enough = kept.tokens.len().max(all / SHARE_KEPT);
            kept.most = enough.next_multiple_of(STEP);
        }
        for token in order {
            if kept.tokens.len() == kept.most {
                break;
            }
            kept.keep(token);
        }
        if kept.tokens.len() >= all {
            return Err(SurgeryError::Nothing { all });
        }
        Ok(kept.tokens.into_iter().collect())
    }

    /// Ordinary tokens in the order in which the tokenizer learned them, which is roughly that of how
    /// common they were.
    pub fn learned(&self) -> Vec<Token> {
        let normal = (0..)
            .zip(&self.kinds)
            .filter(|(_, kind)| **kind == Kind::Normal);
        let mut tokens: Vec<Token> = normal.map(|(token, _)| token).collect();
        if let Merging::Scores(scores) = &self.merging {
            let score = |token: &Token| scores.get(*token as usize).copied().unwrap_or(f32::MIN);
            tokens.sort_by(|a, b| score(b).total_cmp(&score(a)));
        }
        tokens
    }
}
