//! Tools in each family's own form: what a model is told of them, the grammar of its calls, and how
//! these are read back. Pure.
//!
//! A request is parsed without a form ([`Calling`]), and given one when the model is known that
//! answers it. A form is a table ([`Form`]): marks of the family's own, and the notation of arguments.
//! Marks are texts that may be control tokens; the engine writes and reads them as such where the
//! vocabulary has them. Nothing of a caller's becomes one.

use hob_api::chat::Role;
use hob_ipc::FrameError;
use hob_ipc::constraint::{CONSTRAINT_BYTES_MAX, CallRules};
use hob_ipc::frame::{self, COMMAND_BYTES_MAX};
use hob_ipc::message::{Dialogue, Part, Prompt, Turn};
use hob_models::ToolFormat;

mod families;
mod grammar;
mod notation;
mod reader;
mod telling;
#[cfg(test)]
mod tests;

use self::notation::Arguments;
pub(crate) use self::reader::Reader;
use crate::request::{Calling, TEXT_BYTES_MAX, Tools};

/// Room in a message to an engine for what it is told besides, in bytes: stop strings above all.
const FRAME_BYTES_ELSE: usize = 16 << 10;

/// Most calls of one answer.
const CALLS_MAX: usize = 8;

/// A text of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// Words like any other.
    Text(&'static str),
    /// A control token where the vocabulary has it.
    Mark(&'static str),
}

/// How a family of models is told of tools, writes calls and is told of results.
#[derive(Debug)]
pub(crate) struct Form {
    /// What may stand before the first call.
    prelude: Option<&'static str>,
    /// What stands before all calls.
    opening: &'static [Piece],
    /// What stands before a call's name.
    before_name: &'static [Piece],
    /// What stands between a call's name and its arguments; begins with what is in no name.
    before_arguments: &'static str,
    /// How arguments are written.
    notation: Notation,
    /// What stands behind a call's arguments.
    after_arguments: &'static [Piece],
    /// What stands between two calls.
    between: &'static str,
    /// What stands behind all calls.
    closing: &'static [Piece],
    /// How the model is told of tools.
    listing: Listing,
    /// How it is told of results.
    results: Results,
}

/// How arguments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// A JSON object.
    Json,
    /// Arguments by their keywords in Python.
    Python,
    /// Gemma's objects: keys bare, and this mark around texts, which nothing is escaped in.
    Gemma { quote: &'static str },
}

/// How a model is told of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// One a line between tags, and how a call looks.
    Tags,
    /// One a line, and how a call looks.
    Lines,
    /// A list in JSON, between two marks or none.
    List {
        open: &'static [Piece],
        close: &'static [Piece],
    },
    /// Declarations in Gemma's notation, each between two marks.
    Declarations {
        open: &'static str,
        close: &'static str,
    },
}

/// How a model is told of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Results {
    /// In one message of the user's for all that come together, each between two texts, behind its
    /// tool's name or not.
    FromUser {
        open: &'static [Piece],
        named: bool,
        close: &'static [Piece],
    },
    /// Each as a message of the role `tool`, between two texts.
    FromTool {
        open: &'static [Piece],
        close: &'static [Piece],
    },
    /// In Gemma's notation between two marks, in the message that has the calls.
    WithCalls {
        open: &'static str,
        close: &'static str,
    },
}

/// What the engine and the reader of an answer get of a request with calls.
#[derive(Debug)]
pub(crate) struct Given {
    /// The conversation.
    pub(crate) turns: Vec<Turn>,
    /// What the answer must be, and the form to read it in; if it may call.
    pub(crate) answer: Option<(CallRules, &'static Form)>,
}

impl Form {
    /// The form of models that were trained with `format`.
    pub(crate) fn of(format: ToolFormat) -> &'static Self {
        match format {
            ToolFormat::Hermes => &families::HERMES,
            ToolFormat::Llama3 => &families::LLAMA3,
            ToolFormat::Lfm2 => &families::LFM2,
            ToolFormat::Lfm25 => &families::LFM25,
            ToolFormat::FunctionGemma => &families::FUNCTION_GEMMA,
            ToolFormat::Gemma4 => &families::GEMMA4,
            ToolFormat::Json => &families::JSON,
        }
    }

    /// What no text of an answer that may call begins with.
    fn tag(&self) -> String {
        match self.start().first() {
            Some(Piece::Mark(mark)) => (*mark).to_owned(),
            _ => spelled(&self.start()),
        }
    }

    /// What stands before the first call's name.
    fn start(&self) -> Vec<Piece> {
        [self.opening, self.before_name].concat()
    }

    /// A request in this form; `None` if it can't express it.
    fn given(&'static self, calling: &Calling, thinking: Option<bool>) -> Option<Given> {
        if !notation::tells(self.notation, calling) {
            return None;
        }
        let answer = match &calling.tools {
            None => None,
            Some(tools) => {
                let schemas = tools.callable.iter().map(|tool| &tool.schema);
                let arguments = schemas.map(|schema| Arguments::of(self.notation, schema));
                Some((tools, arguments.collect::<Option<Vec<_>>>()?))
            }
        };
        Some(self.with(calling, answer, thinking))
    }

    fn with(
        &'static self,
        calling: &Calling,
        answer: Option<(&Tools, Vec<Arguments>)>,
        thinking: Option<bool>,
    ) -> Given {
        let rules = |(tools, arguments)| grammar::rules(self, tools, arguments, thinking);
        Given {
            turns: telling::turns(self, calling),
            answer: answer.map(|answer| (rules(answer), self)),
        }
    }
}

/// A request with calls in the form of the model that answers it; in JSON, which all requests fit, if
/// it has schemas or earlier calls that the model's own form can't express, or would be too long in it.
pub(crate) fn give(calling: &Calling, format: ToolFormat, thinking: Option<bool>) -> Given {
    let own = Form::of(format).given(calling, thinking);
    own.filter(Given::fits)
        .unwrap_or_else(|| in_json(calling, thinking))
}

/// A request with calls in the form that all requests fit: what every model can be given.
pub(crate) fn in_json(calling: &Calling, thinking: Option<bool>) -> Given {
    let answer = calling.tools.as_ref().map(|tools| {
        let schemas = tools.callable.iter();
        let arguments = schemas.map(|tool| Arguments::Json(tool.schema.clone()));
        (tools, arguments.collect())
    });
    families::JSON.with(calling, answer, thinking)
}

/// What every model is given alike, with a word about thinking.
pub(crate) fn plain(prompt: Prompt, thinking: Option<bool>) -> Prompt {
    match prompt {
        Prompt::Chat(messages) if thinking.is_some() => Prompt::Dialogue(Dialogue {
            turns: messages.into_iter().map(Turn::from).collect(),
            thinking,
        }),
        prompt => prompt,
    }
}

impl Given {
    /// Bytes of text that the model reads.
    pub(crate) fn text_bytes(&self) -> usize {
        let parts = self.turns.iter().flat_map(|turn| &turn.parts);
        parts.map(|part| part.text().len()).sum()
    }

    /// Bytes of the grammar of its answer.
    pub(crate) fn rules_bytes(&self) -> usize {
        let answer = self.answer.as_ref();
        answer.map_or(0, |(rules, _)| rules.rules.len())
    }

    fn fits(&self) -> bool {
        self.text_bytes() <= TEXT_BYTES_MAX
            && self.rules_bytes() <= CONSTRAINT_BYTES_MAX
            && self.check_frame().is_ok()
    }

    /// Whether one message tells an engine of it.
    ///
    /// # Errors
    /// If it is longer than that.
    pub(crate) fn check_frame(&self) -> Result<(), FrameError> {
        let rules = self.answer.as_ref().map(|(rules, _)| rules);
        frame::check(&(&self.turns, rules), COMMAND_BYTES_MAX - FRAME_BYTES_ELSE)
    }
}

/// The pieces as a reader of text sees them.
fn spelled(pieces: &[Piece]) -> String {
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Text(text) | Piece::Mark(text) => *text,
    });
    texts.collect()
}

/// Parts of a message in the making, of which neighbouring texts are one.
#[derive(Debug, Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn text(&mut self, text: &str) {
        // No prompt may have one, and JSON hides it until it is read.
        let text = text.replace('\0', "\u{fffd}");
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(&text),
            _ => self.0.push(Part::Text(text)),
        }
    }

    fn mark(&mut self, mark: &'static str) {
        self.0.push(Part::Mark(mark.to_owned()));
    }

    fn pieces(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.text(text),
                Piece::Mark(mark) => self.mark(mark),
            }
        }
    }

    fn append(&mut self, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Text(text) => self.text(&text),
                mark @ Part::Mark(_) => self.0.push(mark),
            }
        }
    }

    fn into_turn(self, role: Role) -> Turn {
        Turn {
            role,
            parts: self.0,
        }
    }
}
