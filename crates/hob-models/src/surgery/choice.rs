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

    /// The tokens that stay, rising, when a corpus had each token as often as `counts` says: those that
    /// always stay, then the corpus's, the commonest first, then the model's own, in the order in which
    /// its tokenizer learned them.
    ///
    /// # Errors
    /// [`SurgeryError::TooFew`], or [`SurgeryError::Nothing`] if that is all of them.
    pub fn choose(&self, counts: &[u64], budget: Budget) -> Result<Vec<Token>, SurgeryError> {
        let all = self.len();
        let most = match budget {
            Budget::Auto => all,
            Budget::Tokens(most) => most,
        };
        if most < self.fixed.len() {
            return Err(SurgeryError::TooFew {
                wanted: most,
                least: self.fixed.len(),
            });
        }
        let mut kept = Kept {
            vocabulary: self,
            tokens: self.fixed.clone(),
            most,
        };
        let mut seen: Vec<(u64, Token)> = counts.iter().copied().zip(0..).collect();
        seen.retain(|(count, token)| *count > 0 && (*token as usize) < all);
        seen.sort_unstable_by_key(|(count, token)| (std::cmp::Reverse(*count), *token));
        for (_, token) in seen {
            kept.keep(token);
        }
        if budget == Budget::Auto {
            let enough = kept.tokens.len().max(all / SHARE_KEPT);
            kept.most = enough.next_multiple_of(STEP);
        }
        for token in self.learned() {
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
    fn learned(&self) -> Vec<Token> {
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
