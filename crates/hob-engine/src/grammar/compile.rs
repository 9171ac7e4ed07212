//! From a constraint to a grammar, within bounds.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use hob_ipc::constraint::{CallRules, Constraint};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, SimpleVob};
use llguidance::{JsonCompileOptions, ParserFactory, TokenParser};

use super::alphabet::{Alphabet, Controls};
use super::contain::contained;
use super::{Grammar, GrammarError, Wanted};
use crate::prompt::Token;

/// What one grammar may take. llguidance gives the speeds of a desktop processor: fuel for building a
/// lexer 50,000 a millisecond, for a step 14,000, items 20,000; and 1 to 2 KiB a state. So compiling
/// is bounded to some tens of milliseconds there and each token to some ten, a few times that on a
/// board, and memory to some tens of MiB; the most that was seen are 12. What a step takes grows with
/// the square of the items in a row: with 2,000, one took 0.5 s.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 600,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 150_000,
    step_max_items: 50_000,
    max_lexer_states: 20_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: false,
    verbose_errors: false,
};

/// What most text within JSON is made of. Whether a step allows all such tokens is asked first, which
/// spares looking at each. More such kinds would make steps in strings of limited length quicker, and
/// each takes memory: all that llguidance proposes, for 262,144 tokens, 99 MiB instead of 43.
const PLAIN: &str = r#"[^"\\\x00-\x1F\x7F]+"#;

/// Compiled grammars that are kept for requests that ask for the same again.
const RECENT_MAX: usize = 4;

/// Makes grammars for one vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    barred: Arc<SimpleVob>,
    controls: Controls,
    /// The latest last; parsers that took nothing yet.
    recent: VecDeque<(Wanted, TokenParser)>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars")
            .field("recent", &self.recent.len())
            .finish_non_exhaustive()
    }
}

impl Grammars {
    /// Those of a vocabulary. Takes time and memory with its size; ARCHITECTURE.md has figures.
    ///
    /// # Errors
    /// [`GrammarError::Unsupported`] if nothing can end an answer.
    pub fn new(alphabet: Alphabet) -> Result<Self, GrammarError> {
        let unsupported = |_| GrammarError::Unsupported;
        let made = contained(|| {
            let Some((tree, barred, controls)) = alphabet.into_tree() else {
                anyhow::bail!("no token ends an answer");
            };
            let capabilities = InferenceCapabilities {
                ff_tokens: true,
                ..InferenceCapabilities::default()
            };
            let mut factory = ParserFactory::new(&tree, capabilities, &[PLAIN.to_owned()])?;
            *factory.limits_mut() = LIMITS;
            factory.quiet();
            Ok((factory, barred, controls))
        });
        let (factory, barred, controls) = made.map_err(unsupported)?;
        Ok(Self {
            factory,
            barred,
            controls,
            recent: VecDeque::new(),
        })
    }

    /// The grammar of answers that are what is wanted.
    ///
    /// # Errors
    /// [`GrammarError`].
    pub fn compile(&mut self, wanted: &Wanted) -> Result<Grammar, GrammarError> {
        let known = self.recent.iter().position(|(of, _)| of == wanted);
        let (of, parser) = match known.and_then(|at| self.recent.remove(at)) {
            Some(known) => known,
            None => (wanted.clone(), self.parser(wanted)?),
        };
        // The states that one answer adds are its own, and go with it. A parser that panics is not kept.
        let own = contained(|| Ok(parser.deep_clone())).map_err(|_| uncompiled())?;
        let (barred, marks) = self.allowing_marks(&wanted.constraint);
        let grammar = Grammar::new(own, barred, marks);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((of, parser));
        grammar
    }

    /// What is barred from an answer, and the control tokens that are not as they are marks of its form.
    fn allowing_marks(&self, constraint: &Constraint) -> (Arc<SimpleVob>, Vec<(Token, String)>) {
        let Constraint::Calls(calls) = constraint else {
            return (Arc::clone(&self.barred), Vec::new());
        };
        let texts = calls.marks.iter();
        let marks: Vec<_> = texts
            .filter_map(|text| Some((*self.controls.get(text)?, text.clone())))
            .collect();
        let mut barred = SimpleVob::clone(&self.barred);
        for token in marks
            .iter()
            .filter_map(|(token, _)| u32::try_from(*token).ok())
        {
            barred.disallow_token(token);
        }
        (Arc::new(barred), marks)
    }

    fn parser(&self, wanted: &Wanted) -> Result<TokenParser, GrammarError> {
        let grammar = read(wanted, &self.controls)?;
        let parser = contained(|| {
            let mut parser = self.factory.create_parser(grammar)?;
            parser.start_without_prompt();
            Ok(parser)
        });
        parser.map_err(|error| {
            let reason = format!("{error:#}");
            if reason.starts_with("panic") {
                return uncompiled();
            }
            GrammarError::refused(&reason)
        })
    }
}

/// What llguidance panics at.
fn uncompiled() -> GrammarError {
    GrammarError::refused("it can't be compiled")
}

fn read(wanted: &Wanted, controls: &Controls) -> Result<TopLevelGrammar, GrammarError> {
    Ok(match &wanted.constraint {
        Constraint::JsonSchema(text) => {
            let schema = serde_json::from_str(text)
                .map_err(|error| GrammarError::refused(&format!("it is not JSON: {error}")))?;
            json(schema)
        }
        Constraint::JsonObject => json(serde_json::json!({ "type": "object" })),
        Constraint::Regex(text) => TopLevelGrammar::from_regex(text),
        Constraint::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
        Constraint::Calls(calls) => {
            TopLevelGrammar::from_lark(lark(calls, wanted.reasoning, controls))
        }
    })
}

/// The rules with what is for this model and this prompt to say.
fn lark(calls: &CallRules, reasoning: bool, controls: &Controls) -> String {
    let start = if reasoning { "reasoned" } else { "answer" };
    let mut text = format!("start: {start}\n{}\n", calls.rules);
    for (at, mark) in calls.marks.iter().enumerate() {
        let token = controls.get(mark).map(|token| format!("<[{token}]>"));
        // JSON's strings are Lark's.
        let spelled = || serde_json::Value::from(mark.as_str()).to_string();
        // Writing to a string does not fail.
        let _ = writeln!(text, "mark_{at}: {}", token.unwrap_or_else(spelled));
    }
    text
}

/// JSON as most of it is written, with one space after a comma and a colon: where a grammar lets a
/// small model choose white space, it may choose nothing else any more.
fn json(mut schema: serde_json::Value) -> TopLevelGrammar {
    let options = JsonCompileOptions {
        item_separator: ", ".to_owned(),
        key_separator: ": ".to_owned(),
        whitespace_flexible: false,
        ..JsonCompileOptions::default()
    };
    if schema == serde_json::Value::Bool(true) {
        schema = serde_json::json!({});
    }
    if schema.is_object() {
        options.apply_to(&mut schema);
    }
    TopLevelGrammar::from_json_schema(schema)
}
