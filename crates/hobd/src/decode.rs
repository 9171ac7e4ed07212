//! A call for a home as a model writes it: what the model is told, what it may answer, and the way
//! back. Pure.
//!
//! ```text
//! provider ─► World: spelling, prefix, grammar of everything       once, when it is registered
//! utterance ─► shortlist ─► Scope ─► tail and a narrower grammar   for each utterance
//! answer ─► Written ─► ValidCall
//! ```
//!
//! An answer is short, so that a small model can write it in a few steps:
//!
//! ```text
//! turn_on "Desk Lamp"                        a tool, what it acts on, and its arguments
//! set_brightness "Desk Lamp" brightness=40
//! turn_off [every light in "Kitchen"]        several targets at once
//! (question) "Desk Lamp"                     somebody asks how it is
//! (unsure)                                   with the calls that may be meant, a line each
//! (cannot)                                   the home can't do it
//! (talk)                                     it is not about the home
//! ```
//!
//! When calls were made and the hub told something of them, the model may be asked what else is needed.
//! It is then told that as data, and answers with calls of what the utterance was narrowed to, or:
//!
//! ```text
//! (done)
//! ```
//!
//! Tools have no brackets in their names, so none looks like an outcome. What stands in quotes is
//! JSON's, so that no name ends before its end, and none becomes anything but text: the engine
//! tokenizes content without control tokens.
//!
//! `spelling` is how a home's things are written, `numbers` which digits a range allows, `grammar`
//! the answers that exist, `prompt` and `examples` what the model reads before, `written` the way
//! back, `scope` what an utterance narrows all of that to.

mod examples;
mod grammar;
mod numbers;
mod prompt;
mod scope;
mod spelling;
#[cfg(test)]
mod tests;
mod written;

use std::sync::Arc;

use hob_api::home::Call;
use hob_ipc::constraint::Constraint;
use hob_ipc::message::ChatMessage;

use self::grammar::To;
pub use self::prompt::plain;
pub use self::scope::{Likely, SHORTLIST_MAX, Scope};
use self::spelling::Spelling;
pub use self::written::{Unreadable, Written};
use crate::providers::{Provider, ValidCall};

/// Longest answer in tokens. The longest that a grammar allows has more, and is then cut: no home is
/// told eight things by a name of a hundred characters each.
pub const ANSWER_TOKENS_MAX: u32 = 256;

/// What of a provider's home a model is told, and how it may answer.
#[derive(Debug)]
pub struct World {
    spelling: Spelling,
    prefix: Arc<[ChatMessage]>,
    /// Of everything; `None` if that is too long.
    grammar: Option<String>,
}

/// Calls that a model wrote, and what came of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// As it wrote them.
    pub written: String,
    /// Each with its result.
    pub calls: Vec<Call>,
}

/// What is said, and where.
#[derive(Clone, Copy, Debug)]
pub struct Utterance<'a> {
    /// The words.
    pub text: &'a str,
    /// The room in which they were said.
    pub area: Option<&'a str>,
}

impl World {
    /// That of a provider.
    pub fn new(provider: &Provider) -> Self {
        let spelling = Spelling::new(provider);
        Self {
            prefix: prompt::prefix(provider, &spelling).into(),
            grammar: grammar::of(provider, &spelling, &Scope::whole(provider), To::Utterance),
            spelling,
        }
    }

    /// What every conversation about this home begins with. It depends on the definition alone, but
    /// for the targets' states, which it leaves out.
    pub fn prefix(&self) -> Arc<[ChatMessage]> {
        Arc::clone(&self.prefix)
    }

    /// Whether the model may choose among all that there is: the grammar of that is not too long.
    pub fn is_whole(&self) -> bool {
        self.grammar.is_some()
    }

    /// What the model is asked: the prefix, and what was said. What it may answer is `scope`, or
    /// everything.
    ///
    /// `None` if even the scope has too long a grammar, which takes more than a hundred names.
    pub fn question(
        &self,
        provider: &Provider,
        said: Utterance<'_>,
        scope: Option<&Scope>,
    ) -> Option<(Vec<ChatMessage>, Constraint)> {
        let grammar = match scope {
            None => self.grammar.clone(),
            Some(scope) => grammar::of(provider, &self.spelling, scope, To::Utterance),
        }?;
        let mut messages = self.prefix.to_vec();
        messages.push(prompt::tail(provider, &self.spelling, said, scope));
        Some((messages, Constraint::Lark(grammar)))
    }

    /// What an answer means.
    ///
    /// # Errors
    /// [`Unreadable`] for an answer that the grammar does not allow, such as one that was cut.
    pub fn read(&self, provider: &Provider, answer: &str) -> Result<Written, Unreadable> {
        written::read(provider, &self.spelling, answer)
    }

    /// What the model is asked when something came of its calls: the question before, what it wrote,
    /// and what came of it, round after round. It may answer with nothing beyond `scope`, as of
    /// [`Scope::further`]: what a hub tells widens it by nothing.
    ///
    /// `None` as of [`World::question`].
    pub fn further(
        &self,
        provider: &Provider,
        said: Utterance<'_>,
        scope: &Scope,
        rounds: &[Round],
    ) -> Option<(Vec<ChatMessage>, Constraint)> {
        let grammar = grammar::of(provider, &self.spelling, scope, To::Results)?;
        let mut messages = self.prefix.to_vec();
        messages.push(prompt::tail(provider, &self.spelling, said, Some(scope)));
        for round in rounds {
            messages.push(prompt::answered(&round.written));
            messages.push(prompt::results(provider, &self.spelling, &round.calls));
        }
        Some((messages, Constraint::Lark(grammar)))
    }

    /// The calls that an answer to [`World::further`] means; none if it is done.
    ///
    /// # Errors
    /// As of [`World::read`].
    pub fn read_further(
        &self,
        provider: &Provider,
        scope: &Scope,
        answer: &str,
    ) -> Result<Vec<ValidCall>, Unreadable> {
        written::read_further(provider, &self.spelling, scope, answer)
    }
}
