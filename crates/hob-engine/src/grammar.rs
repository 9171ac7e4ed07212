//! What an answer must be, token by token: which tokens may come next, and which must.
//!
//! The work is llguidance's: it follows a grammar byte by byte and knows which tokens of the
//! vocabulary keep to it. Here it is bounded, its panics stop at this door, and no control token
//! comes out but one that ends the answer.

use std::sync::Arc;

use hob_ipc::constraint::{Constraint, ConstraintFailure, REASON_BYTES_MAX};
use hob_ipc::message::FailureCode;
use llguidance::TokenParser;
use llguidance::api::StopReason;
use llguidance::toktrie::SimpleVob;

use crate::prompt::Token;
use crate::serve::Failure;
use crate::text;

pub mod alphabet;
pub mod compile;
pub mod compiler;
mod contain;

#[cfg(test)]
mod tests;

/// What is to be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the answer must be.
    pub constraint: Constraint,
    /// Whether its prompt has opened the model's reasoning already.
    pub reasoning: bool,
}

/// Why an answer can't be what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// It can't be read or satisfied; the reason is for whoever wrote it.
    #[error("{0}")]
    Refused(String),
    /// It takes more work than a step may.
    #[error("what the answer must be takes too much work")]
    TooComplex,
    /// Nothing can follow what was said.
    #[error("nothing may follow what was said")]
    DeadEnd,
    /// There is no way to constrain this model's answers.
    #[error("the answers of this model can't be constrained")]
    Unsupported,
}

impl GrammarError {
    /// A refusal with a reason that fits a message: its first line, which llguidance follows up with
    /// the grammar's, without control characters.
    fn refused(reason: &str) -> Self {
        let line: String = reason
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Self::Refused(text::beginning(&line, REASON_BYTES_MAX).to_owned())
    }
}

impl From<GrammarError> for Failure {
    fn from(error: GrammarError) -> Self {
        let code = match error {
            GrammarError::Refused(_) => ConstraintFailure::Refused,
            GrammarError::TooComplex => ConstraintFailure::TooComplex,
            GrammarError::DeadEnd => ConstraintFailure::DeadEnd,
            GrammarError::Unsupported => ConstraintFailure::Unsupported,
        };
        Self::new(FailureCode::Constraint(code), error)
    }
}

/// Some tokens of the vocabulary.
#[derive(Clone, Debug)]
pub struct TokenSet(SimpleVob);

impl TokenSet {
    /// Whether the token is one of them.
    pub fn contains(&self, token: Token) -> bool {
        u32::try_from(token).is_ok_and(|token| self.0.is_allowed(token))
    }

    /// Makes `kept` of `scores`, with those of all other tokens as low as can be.
    pub fn keep(&self, scores: &[f32], kept: &mut Vec<f32>) {
        kept.clear();
        kept.resize(scores.len(), f32::NEG_INFINITY);
        self.0.iter_set_entries(|at| {
            if let (Some(kept), Some(score)) = (kept.get_mut(at), scores.get(at)) {
                *kept = *score;
            }
        });
    }
}

/// What one answer must be, as far as it got.
pub struct Grammar {
    /// `None` after a panic within it: its state means nothing then.
    parser: Option<TokenParser>,
    /// Tokens that no answer has, whatever the grammar says of them.
    barred: Arc<SimpleVob>,
    /// Control tokens that this answer may have, with their texts.
    marks: Vec<(Token, String)>,
    opening: Vec<Token>,
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar")
            .field("opening", &self.opening.len())
            .finish_non_exhaustive()
    }
}

impl Grammar {
    /// An answer that begins. What it must begin with is taken already.
    fn new(
        parser: TokenParser,
        barred: Arc<SimpleVob>,
        marks: Vec<(Token, String)>,
    ) -> Result<Self, GrammarError> {
        let mut grammar = Self {
            parser: Some(parser),
            barred,
            marks,
            opening: Vec::new(),
        };
        grammar.opening = grammar.forced()?;
        if !grammar.is_complete() {
            let nothing = |error| match error {
                GrammarError::DeadEnd => GrammarError::refused("nothing can satisfy it"),
                error => error,
            };
            grammar.allowed().map_err(nothing)?;
        }
        Ok(grammar)
    }

    /// The tokens that every such answer begins with.
    pub fn opening(&self) -> &[Token] {
        &self.opening
    }

    /// What an answer says by a control token that it may have: nothing else has a text for it.
    pub fn mark(&self, token: Token) -> Option<&str> {
        let mut marks = self.marks.iter();
        let found = marks.find(|(mark, _)| *mark == token)?;
        Some(&found.1)
    }

    /// Tokens that may come next; never none.
    ///
    /// # Errors
    /// [`GrammarError::TooComplex`] or [`GrammarError::DeadEnd`].
    pub fn allowed(&mut self) -> Result<TokenSet, GrammarError> {
        let mut set = self.with(TokenParser::compute_mask)?;
        set.sub(&self.barred);
        if set.is_zero() {
            return Err(GrammarError::DeadEnd);
        }
        Ok(TokenSet(set))
    }

    /// Goes on behind a token that was allowed.
    ///
    /// # Errors
    /// As of [`Grammar::allowed`].
    pub fn take(&mut self, token: Token) -> Result<(), GrammarError> {
        let token = u32::try_from(token).map_err(|_| GrammarError::DeadEnd)?;
        self.with(|parser| {
            parser.consume_token(token)?;
            parser.check_stop().map(drop)
        })
    }

    /// Goes on behind all tokens that must come next, and gives them. There may be none even where
    /// the next characters are certain: how they are cut into tokens may depend on what follows.
    ///
    /// # Errors
    /// As of [`Grammar::allowed`].
    pub fn forced(&mut self) -> Result<Vec<Token>, GrammarError> {
        if self.is_complete() {
            return Ok(Vec::new());
        }
        let tokens = self.with(|parser| {
            let tokens = parser.consume_ff_tokens()?;
            parser.check_stop()?;
            Ok(tokens)
        })?;
        if tokens.iter().any(|token| self.barred.is_allowed(*token)) {
            return Err(GrammarError::DeadEnd);
        }
        // llguidance counts the tokens of the same vocabulary.
        let tokens = tokens.into_iter().map(Token::try_from);
        tokens
            .collect::<Result<_, _>>()
            .map_err(|_| GrammarError::DeadEnd)
    }

    /// Whether the answer is whole, and nothing may follow.
    pub fn is_complete(&self) -> bool {
        let reason = self.parser.as_ref().map(TokenParser::stop_reason);
        matches!(
            reason,
            Some(StopReason::NoExtension | StopReason::EndOfSentence)
        )
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut TokenParser) -> anyhow::Result<T>,
    ) -> Result<T, GrammarError> {
        let Some(mut parser) = self.parser.take() else {
            return Err(GrammarError::TooComplex);
        };
        let mut panicked = true;
        let done = contain::contained(|| {
            let done = work(&mut parser);
            panicked = false;
            done
        });
        let reason = parser.stop_reason();
        if !panicked {
            self.parser = Some(parser);
        }
        done.map_err(|_| match reason {
            StopReason::NoExtensionBias => GrammarError::DeadEnd,
            _ => GrammarError::TooComplex,
        })
    }
}
