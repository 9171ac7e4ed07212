//! A conversation as Markdown.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use hob_api::chat::Role;
use hob_api::conversation::Transcript;

/// The conversation as Markdown, its text as it was said: whoever shows it in a terminal takes out
/// what that would obey.
pub fn markdown(transcript: &Transcript) -> String {
    let about = &transcript.conversation;
    let name = about.name.as_deref().unwrap_or("Conversation");
    let mut text = format!("# {name}\n\nOpened {}", time(about.created));
    let mut model = "";
    // Writing to a string can't fail.
    let _ = writeln!(text, ", last added to {}.", time(about.updated));
    if let Some(system) = &about.system {
        section(&mut text, "Instructions", system);
    }
    for turn in &transcript.history {
        for message in &turn.messages {
            match message.role {
                Role::Assistant if turn.model != model => {
                    model = &turn.model;
                    section(&mut text, &format!("Model ({model})"), &message.content);
                }
                Role::Assistant => section(&mut text, "Model", &message.content),
                Role::User | Role::System | Role::Tool => {
                    section(&mut text, "You", &message.content);
                }
            }
        }
    }
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    let _ = write!(text, "\n## {title}\n\n{}\n", body.trim());
}

fn time(seconds: u64) -> String {
    // A time beyond what the format can tell would be a damaged row.
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use hob_api::conversation::{Conversation, Turn, TurnMessage};

    use super::*;

    #[test]
    fn all_of_it_is_there_in_order() {
        let message = |role, content: &str| TurnMessage {
            role,
            content: content.to_owned(),
        };
        let turn = |number, question: &str, answer: &str| Turn {
            number,
            time: 0,
            model: "smol".to_owned(),
            messages: vec![
                message(Role::User, question),
                message(Role::Assistant, answer),
            ],
        };
        let transcript = Transcript {
            conversation: Conversation {
                name: Some("Water".to_owned()),
                system: Some("Be brief.".to_owned()),
                created: 0,
                updated: 86_400,
                ..Conversation::default()
            },
            history: vec![turn(1, "Wet?", "Yes.\n"), turn(2, "Why?", "It is.")],
        };
        let expected = "# Water\n\nOpened 1970-01-01T00:00:00Z, last added to \
             1970-01-02T00:00:00Z.\n\n## Instructions\n\nBe brief.\n\n## You\n\nWet?\n\n\
             ## Model (smol)\n\nYes.\n\n## You\n\nWhy?\n\n## Model\n\nIt is.\n";
        assert_eq!(markdown(&transcript), expected);
    }
}
