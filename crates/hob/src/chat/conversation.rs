//! A conversation, as the client keeps it: what the daemon has not stored of it is sent with every
//! question, and nothing is dropped silently.

use std::fmt::Write as _;

use hob_api::chat::{Message, Role};
use hob_api::conversation::Transcript;

use crate::answer::message;
use crate::clean::{clean, clean_line};

/// Instructions, and questions with their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversation {
    /// The daemon's id of it, if the daemon stores it.
    pub(super) id: Option<String>,
    /// Instructions to the model.
    pub(super) system: Option<String>,
    /// Whether the daemon has these instructions.
    system_stored: bool,
    turns: Vec<Turn>,
}

/// A question and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Turn {
    question: String,
    answer: String,
    /// Whether Ctrl-C ended the answer.
    stopped: bool,
    /// Whether the daemon has it.
    stored: bool,
}

impl Conversation {
    /// A conversation with nothing said.
    pub(super) fn new(system: Option<String>) -> Self {
        Self {
            system,
            ..Self::default()
        }
    }

    /// The one that the daemon has stored.
    pub(super) fn stored(transcript: Transcript) -> Self {
        let mut conversation = Self::new(transcript.conversation.system);
        conversation.opened(transcript.conversation.id);
        let mut question = String::new();
        let messages = transcript.history.into_iter().flat_map(|t| t.messages);
        for message in messages {
            if message.role == Role::Assistant {
                let question = std::mem::take(&mut question);
                conversation.push(question, message.content, false);
            } else {
                if !question.is_empty() {
                    question.push_str("\n\n");
                }
                question.push_str(&message.content);
            }
        }
        conversation.all_stored();
        conversation
    }

    /// The daemon stores it from now on, under this id, and has its instructions.
    pub(super) fn opened(&mut self, id: String) {
        self.id = Some(id);
        self.system_stored = true;
    }

    /// The daemon has stored everything so far.
    pub(super) fn all_stored(&mut self) {
        self.system_stored = true;
        for turn in &mut self.turns {
            turn.stored = true;
        }
    }

    /// The daemon has lost it: all of it is sent again with the next question.
    pub(super) fn detach(&mut self) {
        self.id = None;
        self.system_stored = false;
        for turn in &mut self.turns {
            turn.stored = false;
        }
    }

    /// Sets the instructions, or removes them.
    pub(super) fn instruct(&mut self, system: Option<String>) {
        self.system = system;
        self.system_stored = false;
    }

    /// The last question and its answer.
    pub(super) fn last(&self) -> Option<(&str, &str)> {
        let turn = self.turns.last()?;
        Some((&turn.question, &turn.answer))
    }

    /// Turns so far.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// The messages that ask `question` after all that was said, without those that the daemon
    /// has.
    pub(super) fn messages(&self, question: &str) -> Vec<Message> {
        let mut messages = Vec::with_capacity(2 * self.turns.len() + 2);
        let system = match (&self.id, &self.system) {
            (None, system) => system.as_deref(),
            (Some(_), _) if self.system_stored => None,
            // Empty instructions take the place of those that the daemon has.
            (Some(_), system) => Some(system.as_deref().unwrap_or_default()),
        };
        messages.extend(system.map(|text| message(Role::System, text)));
        for turn in self.turns.iter().filter(|turn| !turn.stored) {
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
            stored: false,
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
    use hob_api::conversation::TurnMessage;

    use super::*;

    fn conversation() -> Conversation {
        let mut conversation = Conversation::new(Some("Be brief.".to_owned()));
        conversation.push("One?".to_owned(), "1\x1b[2J".to_owned(), false);
        conversation.push("Two?".to_owned(), "2 and".to_owned(), true);
        conversation
    }

    fn sent(conversation: &Conversation) -> Vec<String> {
        let messages = conversation.messages("Three?");
        messages
            .into_iter()
            .map(|m| {
                (
                    m.role.as_str(),
                    m.content.map(hob_api::chat::Content::into_text),
                )
            })
            .map(|(role, text)| format!("{role}: {}", text.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn what_the_daemon_has_is_not_sent_again() {
        let mut conversation = conversation();
        conversation.opened("id".to_owned());
        conversation.all_stored();
        assert_eq!(sent(&conversation), ["user: Three?"]);
        conversation.push("Four?".to_owned(), "4".to_owned(), true);
        conversation.instruct(None);
        assert_eq!(
            sent(&conversation),
            ["system: ", "user: Four?", "assistant: 4", "user: Three?"]
        );
        conversation.detach();
        assert_eq!(sent(&conversation).len(), 7);
    }

    #[test]
    fn a_stored_conversation_goes_on() {
        let message = |role, content: &str| TurnMessage {
            role,
            content: content.to_owned(),
        };
        let transcript = Transcript {
            conversation: hob_api::conversation::Conversation {
                id: "id".to_owned(),
                system: Some("Be brief.".to_owned()),
                ..Default::default()
            },
            history: vec![hob_api::conversation::Turn {
                number: 1,
                time: 0,
                model: "fake".to_owned(),
                messages: vec![
                    message(Role::User, "One?"),
                    message(Role::Assistant, "1"),
                    message(Role::User, "Two,"),
                    message(Role::User, "please?"),
                    message(Role::Assistant, "2"),
                ],
            }],
        };
        let conversation = Conversation::stored(transcript);
        assert_eq!(conversation.len(), 2);
        assert_eq!(conversation.last(), Some(("Two,\n\nplease?", "2")));
        assert_eq!(sent(&conversation), ["user: Three?"]);
    }

    #[test]
    fn all_of_it_is_sent() {
        assert_eq!(
            sent(&conversation()),
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
