//! A conversation, as the client keeps it: all of it is sent with every question, and nothing
//! is dropped silently.

use std::fmt::Write as _;

use hob_api::chat::{Message, Role};

use crate::answer::message;
use crate::clean::{clean, clean_line};

/// Instructions, and questions with their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversation {
    /// Instructions to the model.
    pub(super) system: Option<String>,
    turns: Vec<Turn>,
}

/// A question and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Turn {
    question: String,
    answer: String,
    /// Whether Ctrl-C ended the answer.
    stopped: bool,
}

impl Conversation {
    /// A conversation with nothing said.
    pub(super) fn new(system: Option<String>) -> Self {
        Self {
            system,
            turns: Vec::new(),
        }
    }

    /// Turns so far.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// The messages that ask `question` after all that was said.
    pub(super) fn messages(&self, question: &str) -> Vec<Message> {
        let mut messages = Vec::with_capacity(2 * self.turns.len() + 2);
        messages.extend(self.system.iter().map(|text| message(Role::System, text)));
        for turn in &self.turns {
            messages.push(message(Role::User, &turn.question));
            messages.push(message(Role::Assistant, &turn.answer));
        }
        messages.push(message(Role::User, question));
        messages
    }

    /// Adds an answered question; `stopped` if Ctrl-C ended the answer.
    pub(super) fn push(&mut self, question: String, answer: String, stopped: bool) {
        self.turns.push(Turn {
            question,
            answer,
            stopped,
        });
    }

    /// The conversation as Markdown, fit for a terminal too.
    pub(super) fn to_markdown(&self, model: &str, time: &str) -> String {
        let mut text = format!(
            "# Chat with {}\n\nSaved {time} by hob.\n",
            clean_line(model)
        );
        let mut section = |title: &str, body: &str| {
            // Writing to a string can't fail.
            let _ = write!(text, "\n## {title}\n\n{}\n", clean(body).trim());
        };
        if let Some(system) = &self.system {
            section("Instructions", system);
        }
        for turn in &self.turns {
            section("You", &turn.question);
            let title = if turn.stopped {
                "Model (stopped)"
            } else {
                "Model"
            };
            section(title, &turn.answer);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Conversation {
        let mut conversation = Conversation::new(Some("Be brief.".to_owned()));
        conversation.push("One?".to_owned(), "1\x1b[2J".to_owned(), false);
        conversation.push("Two?".to_owned(), "2 and".to_owned(), true);
        conversation
    }

    #[test]
    fn all_of_it_is_sent() {
        let messages = conversation().messages("Three?");
        let told: Vec<_> = messages
            .into_iter()
            .map(|m| format!("{}: {}", m.role.as_str(), m.content.into_text()))
            .collect();
        assert_eq!(
            told,
            [
                "system: Be brief.",
                "user: One?",
                "assistant: 1\x1b[2J",
                "user: Two?",
                "assistant: 2 and",
                "user: Three?",
            ]
        );
    }

    #[test]
    fn markdown_marks_what_was_stopped_and_holds_no_escapes() {
        insta::assert_snapshot!(conversation().to_markdown("tiny", "2026-01-02T03:04:05Z"));
    }
}
