//! Calls in an answer's text: the form in which the model writes them, and how they are read back.
//! Pure.
//!
//! The form is that of Hermes and Qwen, which many small models know: a JSON object between two tags.
//! A grammar keeps the answer to it, so reading is a matter of where things end.

use hob_api::Event;

/// What no text of an answer that may call begins with.
const TAG: &str = "<tool_call>";
/// What is before a call's name.
pub(crate) const BEFORE_NAME: &str = "<tool_call>\n{\"name\": \"";
/// What is between a call's name and its arguments.
pub(crate) const BEFORE_ARGUMENTS: &str = "\", \"arguments\": ";
/// What is behind a call's arguments.
pub(crate) const AFTER_ARGUMENTS: &str = "}\n</tool_call>";
/// What is between two calls.
pub(crate) const BETWEEN: &str = "\n";

/// Tells the calls in an answer from its text, piece by piece.
#[derive(Debug)]
pub(crate) struct Reader {
    /// What calls' ids begin with.
    prefix: String,
    /// Calls that have begun.
    calls: u32,
    place: Place,
    /// Text whose meaning is not certain yet: shorter than what it is compared with, or a name.
    held: String,
}

/// Where in the answer the next character is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the beginning: text or a call.
    Beginning,
    /// In text, to the end.
    Text,
    /// Before a call's name.
    BeforeName,
    /// In a call's name.
    Name,
    /// Between name and arguments.
    BeforeArguments,
    /// In the arguments, within so many objects and lists.
    Arguments { depth: u32, quoted: Quoted },
    /// Behind the arguments.
    After,
}

/// Where in or outside a JSON string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoted {
    No,
    Yes,
    Escaped,
}

impl Quoted {
    /// Behind a quotation mark.
    fn turned(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Yes | Self::Escaped => Self::No,
        }
    }
}

impl Reader {
    /// A reader of the answer to a request with this number.
    pub(crate) fn new(request: u64) -> Self {
        Self {
            prefix: format!("call_{request}_"),
            calls: 0,
            place: Place::Beginning,
            held: String::new(),
        }
    }

    /// Whether the answer calls anything.
    pub(crate) fn has_called(&self) -> bool {
        self.calls > 0
    }

    /// What the next piece of text means.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Event> {
        let mut events = Vec::new();
        for c in text.chars() {
            self.held.push(c);
            self.step(c, &mut events);
        }
        // What is certain is not held back.
        if matches!(self.place, Place::Text | Place::Arguments { .. }) {
            self.say(&mut events);
        }
        events
    }

    /// What is left when the answer ends, and whether the limit cut it.
    pub(crate) fn finish(&mut self, cut: bool) -> Vec<Event> {
        let mut events = Vec::new();
        // The beginning of a call that was cut off is no text of the answer's. Where the model ended
        // it, a call would be whole, but for one that a stop string cut behind its tag.
        let is_text = !cut && !self.held.starts_with(TAG);
        if matches!(self.place, Place::Text | Place::Arguments { .. })
            || (self.place == Place::Beginning && is_text)
        {
            self.say(&mut events);
        }
        events
    }

    fn step(&mut self, c: char, events: &mut Vec<Event>) {
        match self.place {
            Place::Text => {}
            Place::Beginning => {
                if self.held == BEFORE_NAME {
                    self.go_on(Place::Name);
                } else if !BEFORE_NAME.starts_with(&self.held) {
                    self.place = Place::Text;
                }
            }
            Place::BeforeName => {
                if self.held.len() == BETWEEN.len() + BEFORE_NAME.len() {
                    self.go_on(Place::Name);
                }
            }
            Place::Name => {
                if c == '"' {
                    self.held.pop();
                    let name = std::mem::take(&mut self.held);
                    events.push(Event::ToolCall {
                        index: self.calls,
                        id: format!("{}{}", self.prefix, self.calls),
                        name,
                    });
                    self.calls += 1;
                    self.held.push('"');
                    self.place = Place::BeforeArguments;
                }
            }
            Place::BeforeArguments => {
                if self.held == BEFORE_ARGUMENTS {
                    self.go_on(Place::Arguments {
                        depth: 0,
                        quoted: Quoted::No,
                    });
                }
            }
            Place::Arguments { depth, quoted } => self.argument(c, depth, quoted, events),
            Place::After => {
                if self.held == AFTER_ARGUMENTS {
                    self.go_on(Place::BeforeName);
                }
            }
        }
    }

    fn argument(&mut self, c: char, depth: u32, quoted: Quoted, events: &mut Vec<Event>) {
        let depth = match (quoted, c) {
            (Quoted::No, '{' | '[') => depth + 1,
            (Quoted::No, '}' | ']') => depth.saturating_sub(1),
            _ => depth,
        };
        let quoted = match quoted {
            Quoted::Escaped => Quoted::Yes,
            Quoted::Yes if c == '\\' => Quoted::Escaped,
            Quoted::Yes | Quoted::No if c == '"' => quoted.turned(),
            Quoted::Yes | Quoted::No => quoted,
        };
        self.place = Place::Arguments { depth, quoted };
        // Arguments are an object: they end with it.
        if depth == 0 && quoted == Quoted::No {
            self.say(events);
            self.go_on(Place::After);
        }
    }

    fn go_on(&mut self, place: Place) {
        self.held.clear();
        self.place = place;
    }

    /// Says what is held: text, or a piece of arguments.
    fn say(&mut self, events: &mut Vec<Event>) {
        let text = std::mem::take(&mut self.held);
        if text.is_empty() {
            return;
        }
        events.push(match self.place {
            Place::Arguments { .. } => Event::ToolArguments {
                index: self.calls.saturating_sub(1),
                text,
            },
            _ => Event::Delta { text },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text, and calls with their names and arguments.
    fn read(pieces: &[&str], cut: bool) -> (String, Vec<(String, String)>) {
        let mut reader = Reader::new(7);
        let (mut said, mut calls) = (String::new(), Vec::new());
        let mut events: Vec<_> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
        events.extend(reader.finish(cut));
        for event in events {
            match event {
                Event::Delta { text } => said.push_str(&text),
                Event::ToolCall { index, id, name } => {
                    assert_eq!(index as usize, calls.len());
                    assert_eq!(id, format!("call_7_{index}"));
                    calls.push((name, String::new()));
                }
                Event::ToolArguments { index, text } => {
                    assert!(!text.is_empty());
                    if let Some((_, arguments)) = calls.get_mut(index as usize) {
                        arguments.push_str(&text);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(reader.has_called(), !calls.is_empty());
        (said, calls)
    }

    fn call(name: &str, arguments: &str) -> String {
        format!("{BEFORE_NAME}{name}{BEFORE_ARGUMENTS}{arguments}{AFTER_ARGUMENTS}")
    }

    #[test]
    fn text_stays_text_whatever_is_in_it() {
        for text in [
            "",
            "Hello",
            "<tool>",
            "a <tool_call>\n{\"name\": \"x",
            "<",
            "\n",
        ] {
            for cut in [false, true] {
                let (said, calls) = read(&[text], cut);
                assert!(calls.is_empty());
                // What may still be the beginning of a call when the answer is cut is not shown.
                assert_eq!(said, if text == "<" && cut { "" } else { text });
            }
        }
    }

    #[test]
    fn a_call_that_is_cut_gives_what_there_is() {
        let whole = call("get_state", "{\"id\": \"a\"}");
        let cut = &whole[..whole.len() - AFTER_ARGUMENTS.len() - 3];
        assert_eq!(
            read(&[cut], true).1,
            [("get_state".to_owned(), "{\"id\": \"".to_owned())]
        );
        for cut in [false, true] {
            let begun = read(&["<tool_call>\n{\"na"], cut);
            assert_eq!(begun, (String::new(), Vec::new()));
        }
    }

    proptest! {
        #[test]
        fn calls_are_read_back_however_they_are_cut(
            calls in proptest::collection::vec(
                ("[a-z_]{1,9}", "[ a-z{}\\[\\]\"\\\\é]{0,12}"), 1..4),
            cuts in proptest::collection::vec(1_usize..7, 1..40),
        ) {
            let expected: Vec<_> = calls
                .into_iter()
                .map(|(name, value)| {
                    let arguments = serde_json::json!({"v": value, "w": [{}, value]});
                    (name, arguments.to_string())
                })
                .collect();
            let texts: Vec<_> = expected.iter().map(|(n, a)| call(n, a)).collect();
            let whole = texts.join(BETWEEN);
            let mut rest = whole.as_str();
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let at = rest.char_indices().nth(*cut).map_or(rest.len(), |(at, _)| at);
                let (piece, more) = rest.split_at(at);
                pieces.push(piece);
                rest = more;
            }
            let (said, read) = read(&pieces, false);
            prop_assert_eq!(said, "");
            prop_assert_eq!(read, expected);
        }
    }
}
