//! What an answer's text means: reasoning first, then words or calls. Pure.

use hob_api::Event;

use crate::forms::{self, Form};
use crate::reasoning;

/// Reads the answer to one chat request.
#[derive(Debug)]
pub(crate) struct Reader {
    reasoning: reasoning::Reader,
    /// If it may call anything.
    calls: Option<forms::Reader>,
}

impl Reader {
    /// A reader of the answer to a request with this number, which may have calls in a form.
    pub(crate) fn new(request: u64, form: Option<&'static Form>) -> Self {
        Self {
            reasoning: reasoning::Reader::default(),
            calls: form.map(|form| forms::Reader::new(request, form)),
        }
    }

    /// Whether the answer calls anything.
    pub(crate) fn has_called(&self) -> bool {
        self.calls.as_ref().is_some_and(forms::Reader::has_called)
    }

    /// What the next piece of text means.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Event> {
        let piece = self.reasoning.push(text);
        self.events(piece)
    }

    /// What is left when the answer ends, and whether the limit cut it.
    pub(crate) fn finish(&mut self, cut: bool) -> Vec<Event> {
        let piece = self.reasoning.finish();
        let mut events = self.events(piece);
        if let Some(calls) = &mut self.calls {
            events.extend(calls.finish(cut));
        }
        events
    }

    fn events(&mut self, piece: reasoning::Piece) -> Vec<Event> {
        let mut events = Vec::new();
        if !piece.reasoning.is_empty() {
            events.push(Event::Reasoning {
                text: piece.reasoning,
            });
        }
        if !piece.rest.is_empty() {
            match &mut self.calls {
                Some(calls) => events.extend(calls.push(&piece.rest)),
                None => events.push(Event::Delta { text: piece.rest }),
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        Reader::new(1, Some(Form::of(hob_models::ToolFormat::Hermes)))
    }

    #[test]
    fn calls_come_behind_reasoning() {
        let call = "<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n</tool_call>";
        let text = format!("<think>\nIt asks for a.\n</think>\n\n{call}");
        let mut reader = reader();
        let mut events = reader.push(&text);
        events.extend(reader.finish(false));
        assert!(reader.has_called());
        assert_eq!(
            events,
            [
                Event::Reasoning {
                    text: "It asks for a.".to_owned()
                },
                Event::ToolCall {
                    index: 0,
                    id: "call_1_0".to_owned(),
                    name: "a".to_owned()
                },
                Event::ToolArguments {
                    index: 0,
                    text: "{}".to_owned()
                },
            ]
        );
    }

    #[test]
    fn a_call_in_the_thoughts_is_none() {
        let text = "<think>\n<tool_call>\n{\"name\": \"a\"</think>No.";
        let mut reader = reader();
        let events = reader.push(text);
        assert!(!reader.has_called());
        assert_eq!(
            events.last(),
            Some(&Event::Delta {
                text: "No.".to_owned()
            })
        );
    }
}
