//! For tests: the texts that a grammar allows, within the limits that the engine has.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use llguidance::Matcher;
use llguidance::ParserFactory;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::ApproximateTokEnv;

/// Follows grammars byte by byte, within the limits that the engine has.
fn factory() -> ParserFactory {
    let bytes = ApproximateTokEnv::single_byte_env();
    let mut factory = ParserFactory::new_simple(&bytes).unwrap();
    *factory.limits_mut() = ParserLimits {
        max_items_in_row: 600,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 150_000,
        step_max_items: 50_000,
        max_lexer_states: 20_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    };
    factory.quiet();
    factory
}

thread_local! {
    pub(crate) static FACTORY: ParserFactory = factory();
}

pub(crate) fn matcher(grammar: &str) -> Matcher {
    let grammar = TopLevelGrammar::from_lark(grammar.to_owned());
    Matcher::new(FACTORY.with(|factory| factory.create_parser(grammar)))
}

/// The texts that a grammar allows.
pub(crate) struct Allowed(Matcher);

impl Allowed {
    pub(crate) fn by(grammar: &str) -> Self {
        Self(matcher(grammar))
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        let mut matcher = self.0.deep_clone();
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        matcher.consume_tokens(&tokens).is_ok() && matcher.is_accepting().unwrap_or(false)
    }
}

/// An answer that the grammar allows: what comes next is what `choose` takes of all that may.
pub(crate) fn sample(allowed: &Allowed, mut choose: impl FnMut(usize) -> usize) -> String {
    let mut matcher = allowed.0.deep_clone();
    let mut answer = Vec::new();
    while !matcher.is_stopped() {
        let mask = matcher.compute_mask_or_eos().unwrap();
        let allowed: Vec<u32> = mask.iter().collect();
        let token = allowed[choose(allowed.len())];
        // The one token that is no byte ends the answer.
        let Ok(byte) = u8::try_from(token) else { break };
        answer.push(byte);
        matcher.consume_token(token).unwrap();
    }
    String::from_utf8(answer).unwrap()
}
