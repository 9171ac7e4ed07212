//! Calls in an answer's text: told from its words and read back, piece by piece.
//!
//! A grammar keeps the answer to its form, so reading is a matter of where things end.

use hob_api::Event;

use self::arguments::{Arguments, Took};
use super::{Form, spelled};

mod arguments;

/// Tells the calls in an answer from its text.
#[derive(Debug)]
pub(crate) struct Reader {
    form: &'static Form,
    /// The form's texts, as they are compared with.
    texts: Texts,
    /// What calls' ids begin with.
    prefix: String,
    /// Calls that have begun.
    calls: u32,
    place: Place,
    /// Text whose meaning is not certain yet: shorter than what it is compared with, or a name.
    held: String,
}

/// What stands where in a form's calls.
#[derive(Debug)]
struct Texts {
    tag: String,
    /// Before the first call's name.
    start: String,
    /// Behind a call's arguments.
    after: String,
    /// Behind that, before the next call's name.
    next: String,
}

/// Where in the answer the next character is.
#[derive(Debug)]
enum Place {
    /// At the beginning: text or a call.
    Beginning,
    /// In text, to the end.
    Text,
    /// In a call's name.
    Name,
    /// Between name and arguments.
    BeforeArguments,
    /// In the arguments.
    Arguments(Arguments),
    /// Behind the arguments.
    After,
    /// Behind a call: before the next one's name, or in what ends the answer.
    BeforeNext,
}

impl Reader {
    /// A reader of the answer to a request with this number.
    pub(crate) fn new(request: u64, form: &'static Form) -> Self {
        Self {
            form,
            texts: Texts {
                tag: form.tag(),
                start: spelled(&form.start()),
                after: spelled(form.after_arguments),
                next: form.between.to_owned() + &spelled(form.before_name),
            },
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
            self.step(c, &mut events);
        }
        // What is certain is not held back.
        self.say(&mut events);
        events
    }

    /// What is left when the answer ends, and whether the limit cut it.
    pub(crate) fn finish(&mut self, cut: bool) -> Vec<Event> {
        let mut events = Vec::new();
        // The beginning of a call that was cut off is no text of the answer's. Where the model ended
        // it, a call would be whole, but for one that a stop string cut behind its tag.
        let is_text = !cut && !self.held.starts_with(&self.texts.tag);
        if matches!(self.place, Place::Beginning) && is_text {
            self.place = Place::Text;
        }
        self.say(&mut events);
        events
    }

    fn step(&mut self, c: char, events: &mut Vec<Event>) {
        if let Place::Arguments(arguments) = &mut self.place {
            let took = arguments.push(c, &mut self.held);
            if took == Took::More {
                return;
            }
            self.say(events);
            self.place = Place::After;
            if took == Took::End {
                return;
            }
        }
        self.held.push(c);
        match self.place {
            Place::Beginning => self.begin(),
            Place::Text | Place::Arguments(_) => {}
            Place::Name => self.name(events),
            Place::BeforeArguments => {
                if self.held == self.form.before_arguments {
                    self.go_on(Place::Arguments(Arguments::new(self.form.notation)));
                }
            }
            Place::After => {
                if self.held == self.texts.after {
                    self.go_on(Place::BeforeNext);
                }
            }
            Place::BeforeNext => {
                if self.held == self.texts.next {
                    self.go_on(Place::Name);
                }
            }
        }
    }

    fn begin(&mut self) {
        let prelude = self.form.prelude.unwrap_or_default();
        if self.held == prelude {
            self.held.clear();
        } else if self.held == self.texts.start {
            self.go_on(Place::Name);
        } else if !self.texts.start.starts_with(&self.held) && !prelude.starts_with(&self.held) {
            self.place = Place::Text;
        }
    }

    fn name(&mut self, events: &mut Vec<Event>) {
        let Some(at) = self.form.before_arguments.chars().next() else {
            return;
        };
        if let Some(name) = self.held.strip_suffix(at) {
            events.push(Event::ToolCall {
                index: self.calls,
                id: format!("{}{}", self.prefix, self.calls),
                name: name.to_owned(),
            });
            self.calls += 1;
            self.held = at.to_string();
            self.place = Place::BeforeArguments;
            if self.held == self.form.before_arguments {
                self.go_on(Place::Arguments(Arguments::new(self.form.notation)));
            }
        }
    }

    fn go_on(&mut self, place: Place) {
        self.held.clear();
        self.place = place;
    }

    /// Says what is held if its meaning is certain: text, or a piece of arguments.
    fn say(&mut self, events: &mut Vec<Event>) {
        if self.held.is_empty() {
            return;
        }
        match self.place {
            Place::Arguments(_) => events.push(Event::ToolArguments {
                index: self.calls.saturating_sub(1),
                text: std::mem::take(&mut self.held),
            }),
            Place::Text => events.push(Event::Delta {
                text: std::mem::take(&mut self.held),
            }),
            _ => {}
        }
    }
}
