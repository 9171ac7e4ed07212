//! Arguments as a model writes them, made JSON character by character.

use std::fmt::Write as _;

use super::super::Notation;

/// Arguments under way.
#[derive(Debug)]
pub(super) enum Arguments {
    Json(Json),
    Python(Python),
    Gemma(Gemma),
}

/// What became of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// It is of the arguments, which go on.
    More,
    /// It is the arguments' last.
    End,
    /// It is behind the arguments.
    Behind,
}

impl Arguments {
    pub(super) fn new(notation: Notation) -> Self {
        match notation {
            Notation::Json => Self::Json(Json::default()),
            Notation::Python => Self::Python(Python::default()),
            Notation::Gemma { quote } => Self::Gemma(Gemma::new(quote)),
        }
    }

    /// Takes the next character in; what is certain of the JSON goes to `out`.
    pub(super) fn push(&mut self, c: char, out: &mut String) -> Took {
        match self {
            Self::Json(json) => {
                out.push(c);
                if json.push(c) { Took::End } else { Took::More }
            }
            Self::Python(python) => python.push(c, out),
            Self::Gemma(gemma) => gemma.push(c, out),
        }
    }
}

/// How deep in a JSON value the next character is.
#[derive(Debug, Default)]
pub(super) struct Json {
    depth: u32,
    quoted: Quoted,
}

/// Where in or outside a JSON string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quoted {
    #[default]
    No,
    Yes,
    Escaped,
}

impl Json {
    /// Goes on behind a character. Whether the value, an object or a list, ends with it.
    fn push(&mut self, c: char) -> bool {
        match (self.quoted, c) {
            (Quoted::No, '{' | '[') => self.depth += 1,
            (Quoted::No, '}' | ']') => self.depth = self.depth.saturating_sub(1),
            (Quoted::No, '"') | (Quoted::Escaped, _) => self.quoted = Quoted::Yes,
            (Quoted::Yes, '"') => self.quoted = Quoted::No,
            (Quoted::Yes, '\\') => self.quoted = Quoted::Escaped,
            (Quoted::No | Quoted::Yes, _) => {}
        }
        self.is_outside()
    }

    /// Whether the next character is in no object, list or string.
    fn is_outside(&self) -> bool {
        self.depth == 0 && self.quoted == Quoted::No
    }
}

/// Arguments by their keywords: `a="x", b=True`, and then a bracket that is not theirs.
#[derive(Debug, Default)]
pub(super) struct Python {
    /// Whether anything was said: the object's brace.
    begun: bool,
    /// Where in a value; `None` in a key.
    value: Option<Json>,
    /// A key, or a word of letters within a value.
    word: String,
}

impl Python {
    fn push(&mut self, c: char, out: &mut String) -> Took {
        if !std::mem::replace(&mut self.begun, true) {
            out.push('{');
        }
        match &mut self.value {
            None => match c {
                ')' => {
                    out.push('}');
                    return Took::Behind;
                }
                '=' => {
                    // Identifiers need no escapes.
                    let _ = write!(out, "\"{}\": ", self.word);
                    self.word.clear();
                    self.value = Some(Json::default());
                }
                ' ' => {}
                c => self.word.push(c),
            },
            Some(json) => {
                let outside = json.is_outside();
                if json.quoted == Quoted::No && c.is_ascii_alphabetic() {
                    self.word.push(c);
                    return Took::More;
                }
                out.push_str(in_json(&self.word));
                self.word.clear();
                match c {
                    ',' if outside => {
                        out.push_str(", ");
                        self.value = None;
                    }
                    ')' if outside => {
                        out.push('}');
                        return Took::Behind;
                    }
                    c => {
                        out.push(c);
                        json.push(c);
                    }
                }
            }
        }
        Took::More
    }
}

/// What a word of Python's is in JSON.
fn in_json(word: &str) -> &str {
    match word {
        "True" => "true",
        "False" => "false",
        "None" => "null",
        other => other,
    }
}

/// Gemma's notation: bare keys, and marks around texts. Ends with a brace that is not the arguments'.
#[derive(Debug)]
pub(super) struct Gemma {
    quote: &'static str,
    begun: bool,
    /// The objects and lists that the next character is in, the innermost last; the arguments are the
    /// first.
    within: Vec<Within>,
    place: Place,
    /// A key, or what may be a mark.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Object,
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Key,
    /// At a value's beginning, in a value that is no text, or behind one.
    Value,
    Text,
}

impl Gemma {
    fn new(quote: &'static str) -> Self {
        Self {
            quote,
            begun: false,
            within: vec![Within::Object],
            place: Place::Key,
            held: String::new(),
        }
    }

    fn push(&mut self, c: char, out: &mut String) -> Took {
        if !std::mem::replace(&mut self.begun, true) {
            out.push('{');
        }
        match self.place {
            Place::Text => self.text(c, out),
            // Nothing else has what marks begin with.
            _ if !self.held.is_empty() && self.place == Place::Value || self.opens(c) => {
                self.held.push(c);
                if self.held == self.quote {
                    self.held.clear();
                    out.push('"');
                    self.place = Place::Text;
                }
            }
            _ => return self.outside(c, out),
        }
        Took::More
    }

    fn opens(&self, c: char) -> bool {
        self.place == Place::Value && self.quote.starts_with(c)
    }

    /// In a text: it goes on up to the mark.
    fn text(&mut self, c: char, out: &mut String) {
        self.held.push(c);
        if self.held == self.quote {
            self.held.clear();
            out.push('"');
            self.place = Place::Value;
            return;
        }
        while !self.quote.starts_with(&self.held) {
            let text = serde_json::Value::from(self.held.remove(0).to_string()).to_string();
            // Without its quotation marks, which are one byte each.
            out.push_str(&text[1..text.len() - 1]);
        }
    }

    /// Between texts: keys, brackets, numbers and words.
    fn outside(&mut self, c: char, out: &mut String) -> Took {
        match c {
            ':' if self.place == Place::Key => {
                // Keys are of letters that need no escapes.
                let _ = write!(out, "\"{}\": ", self.held);
                self.held.clear();
                self.place = Place::Value;
            }
            '{' | '[' => {
                out.push(c);
                let (within, place) = match c {
                    '{' => (Within::Object, Place::Key),
                    _ => (Within::List, Place::Value),
                };
                self.within.push(within);
                self.place = place;
            }
            '}' | ']' => {
                self.within.pop();
                out.push(c);
                self.place = Place::Value;
                if self.within.is_empty() {
                    return Took::Behind;
                }
            }
            ',' => {
                out.push_str(", ");
                self.place = match self.within.last() {
                    Some(Within::List) => Place::Value,
                    _ => Place::Key,
                };
            }
            c if self.place == Place::Key => self.held.push(c),
            c => out.push(c),
        }
        Took::More
    }
}
