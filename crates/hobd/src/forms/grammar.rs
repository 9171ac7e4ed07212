//! The grammar of answers that may call tools: calls of these, and words if the model may also talk.

use std::fmt::Write as _;

use hob_ipc::constraint::CallRules;
use serde_json::Value;

use super::notation::{Argument, Arguments, Shape, assign, separator};
use super::{CALLS_MAX, Form, Notation, Piece};
use crate::request::Tools;

/// Rules in the making.
struct Rules {
    text: String,
    marks: Vec<&'static str>,
    notation: Notation,
    /// How many rules have a number for a name.
    numbered: usize,
}

/// The rules of answers in `form`; `arguments` are those of the callable tools, in their order.
pub(super) fn rules(
    form: &Form,
    tools: &Tools,
    arguments: Vec<Arguments>,
    thinking: Option<bool>,
) -> CallRules {
    let mut rules = Rules {
        text: String::new(),
        marks: Vec::new(),
        notation: form.notation,
        numbered: 0,
    };
    rules.answers(form, tools.may_talk, thinking != Some(false));
    rules.calls(form, tools.may_talk, tools.parallel);
    let calls = tools
        .callable
        .iter()
        .zip(arguments)
        .map(|(tool, arguments)| {
            let arguments = rules.arguments(arguments);
            let begins = quoted(&format!("{}{}", tool.name, form.before_arguments));
            rules.rule(&format!("{begins} {arguments}"))
        });
    let calls: Vec<_> = calls.collect();
    let before = rules.pieces(form.before_name);
    let after = rules.pieces(form.after_arguments);
    rules.named("call", &format!("{before} ({}) {after}", calls.join(" | ")));
    CallRules {
        rules: rules.text,
        marks: rules.marks.into_iter().map(str::to_owned).collect(),
    }
}

impl Rules {
    /// What an answer may be. Nothing is told from its beginning but a call by its tag, and reasoning
    /// by its own. The tag that ends reasoning ends it for good, and what is said behind it begins with
    /// no white space, so that no piece could be two things.
    fn answers(&mut self, form: &Form, may_talk: bool, may_think: bool) {
        let tag = form.tag();
        let tags = [Some(tag.as_str()), form.prelude, Some("<think>")];
        let mut no_tag = String::new();
        for tag in tags.into_iter().flatten() {
            // Writing to a string does not fail.
            let _ = write!(no_tag, " & ~/{}(.|\\n)*/", escaped(tag));
        }
        self.named("SPACE", r"/[ \t\r\n]+/");
        self.named(
            "THOUGHT",
            r"/(.|\n)*<\/think>/ & ~/(.|\n)*<\/think>(.|\n)+/",
        );
        if !may_talk {
            self.named("answer", "calls");
            self.named("reasoned", "THOUGHT SPACE? calls");
            return;
        }
        self.named("TEXT", &format!(r"/(.|\n)+/{no_tag}"));
        self.named("SAID", &format!(r"/[^ \t\r\n](.|\n)*/{no_tag}"));
        self.named("reasoned", "THOUGHT SPACE? (calls | SAID)");
        if may_think {
            self.named("answer", "calls | TEXT | REASONING SPACE? (calls | SAID)");
            self.named(
                "REASONING",
                r"/<think>(.|\n)*<\/think>/ & ~/(.|\n)*<\/think>(.|\n)+/",
            );
        } else {
            self.named("answer", "calls | TEXT");
        }
    }

    fn calls(&mut self, form: &Form, may_talk: bool, parallel: bool) {
        // Who must call has no use for it, and what has to come is not chosen.
        let prelude = form.prelude.filter(|_| may_talk);
        let prelude = prelude.map_or(String::new(), |mark| format!("{}? ", self.mark(mark)));
        let more = match (parallel, form.between) {
            (false, _) => String::new(),
            (true, "") => format!(" call{{0,{}}}", CALLS_MAX - 1),
            (true, between) => format!(" ({} call){{0,{}}}", quoted(between), CALLS_MAX - 1),
        };
        let opening = self.pieces(form.opening);
        let closing = self.pieces(form.closing);
        self.named("calls", &format!("{prelude}{opening} call{more} {closing}"));
    }

    fn arguments(&mut self, arguments: Arguments) -> String {
        match arguments {
            Arguments::Json(schema) => self.rule(&format!("%json {schema}")),
            Arguments::Keyed(arguments) => self.keyed(&arguments),
        }
    }

    /// Arguments or fields by their keys, of which some may be left out. From the last to the first:
    /// what may come behind another one, and what may come first.
    fn keyed(&mut self, arguments: &[Argument]) -> String {
        let assign = assign(self.notation);
        let separator = quoted(separator(self.notation));
        let (mut behind, mut first) = (quoted(""), quoted(""));
        for argument in arguments.iter().rev() {
            let value = self.value(&argument.shape);
            let key = quoted(&format!("{}{assign}", argument.key));
            let one = self.rule(&format!("{key} {value}"));
            let (without, or_first) = if argument.required {
                ("", String::new())
            } else {
                ("?", format!(" | {first}"))
            };
            first = self.rule(&format!("{one} {behind}{or_first}"));
            behind = self.rule(&format!("({separator} {one}){without} {behind}"));
        }
        first
    }

    fn value(&mut self, shape: &Shape) -> String {
        match shape {
            Shape::Json(schema) => self.rule(&format!("%json {schema}")),
            Shape::Words(words) => {
                let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
                self.rule(&words.join(" | "))
            }
            Shape::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
                self.between_quotes(&format!("({})", texts.join(" | ")))
            }
            Shape::Text { min, max } => self.text_of(*min, *max),
            Shape::List { item, min, max } => self.list(item, *min, *max),
            Shape::Object(fields) => {
                let fields = self.keyed(fields);
                self.rule(&format!("\"{{\" {fields} \"}}\""))
            }
        }
    }

    /// Text without `<`, which begins the mark that ends it.
    fn text_of(&mut self, min: u64, max: Option<u64>) -> String {
        let most = max.map(|max| max.to_string()).unwrap_or_default();
        let some = format!("/[^<]{{{},{most}}}/", min.max(1));
        match (min, max) {
            (_, Some(0)) => self.between_quotes(""),
            (0, _) => self.between_quotes(&format!("{some}?")),
            _ => self.between_quotes(&some),
        }
    }

    fn list(&mut self, item: &Shape, min: u64, max: Option<u64>) -> String {
        let item = self.value(item);
        let separator = quoted(separator(self.notation));
        let more_min = min.saturating_sub(1);
        let more_max = max.map(|max| max.saturating_sub(1).to_string());
        let more = more_max.unwrap_or_default();
        let some = format!("{item} ({separator} {item}){{{more_min},{more}}}");
        let items = match (min, max) {
            (_, Some(0)) => String::new(),
            (0, _) => format!("({some})?"),
            _ => some,
        };
        self.rule(&format!("\"[\" {items} \"]\""))
    }

    fn between_quotes(&mut self, inner: &str) -> String {
        let quote = match self.notation {
            Notation::Gemma { quote } => self.mark(quote),
            Notation::Json | Notation::Python => quoted("\""),
        };
        self.rule(&format!("{quote} {inner} {quote}"))
    }

    fn pieces(&mut self, pieces: &[Piece]) -> String {
        let pieces = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => quoted(text),
            Piece::Mark(mark) => self.mark(mark),
        });
        pieces.collect::<Vec<_>>().join(" ")
    }

    /// The engine's rule for a mark.
    fn mark(&mut self, mark: &'static str) -> String {
        let at = self.marks.iter().position(|known| *known == mark);
        let at = at.unwrap_or_else(|| {
            self.marks.push(mark);
            self.marks.len() - 1
        });
        format!("mark_{at}")
    }

    fn rule(&mut self, body: &str) -> String {
        let name = format!("r{}", self.numbered);
        self.numbered += 1;
        self.named(&name, body);
        name
    }

    fn named(&mut self, name: &str, body: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{name}: {body}");
    }
}

/// A string of Lark's, which are JSON's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A text as an expression between slashes.
fn escaped(text: &str) -> String {
    let mut expression = String::new();
    for c in text.chars() {
        match c {
            '\n' => expression.push_str("\\n"),
            c if c.is_ascii_punctuation() && !"<>\"_".contains(c) => expression.extend(['\\', c]),
            c => expression.push(c),
        }
    }
    expression
}
