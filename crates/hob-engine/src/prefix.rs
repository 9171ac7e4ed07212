//! What all conversations that begin with the same messages have in common, in tokens.

use hob_api::chat::Role;
use hob_ipc::message::{ChatMessage, FailureCode, PinFailure, Prompt};

use crate::prompt::Token;
use crate::serve::Model;
use crate::slots::{GRID, PIECE_MIN};

/// Continuations as unlike one another as text can be: where their tokens part, any may. White space
/// is among them, as it may become one token with what stands before.
const CONTINUATIONS: [&str; 4] = ["Hello", "7 + 5", "\n\n- x", "…"];

/// The tokens with which every conversation begins that begins with `messages`, up to a multiple of
/// [`GRID`], and so few that [`PIECE_MIN`] follow in the shortest: a whole piece is left to read behind
/// it, and nothing has to be cut off, which a restored window could not do.
///
/// # Errors
/// [`PinFailure`].
pub fn common_tokens<M: Model>(
    model: &M,
    messages: &[ChatMessage],
) -> Result<Vec<Token>, PinFailure> {
    // Most templates want user and assistant to take turns, the user last.
    let answered = messages.last().is_some_and(|last| last.role == Role::User);
    let mut common: Option<Vec<Token>> = None;
    let mut shortest = usize::MAX;
    for text in CONTINUATIONS {
        let mut conversation = messages.to_vec();
        if answered {
            conversation.push(message(Role::Assistant, text));
            conversation.push(message(Role::User, "x"));
        } else {
            conversation.push(message(Role::User, text));
        }
        let tokens =
            model
                .tokenize(&Prompt::Chat(conversation))
                .map_err(|failure| match failure.code {
                    FailureCode::ContextOverflow => PinFailure::TooLong,
                    _ => PinFailure::Template,
                })?;
        shortest = shortest.min(tokens.len());
        common = Some(match common {
            None => tokens,
            Some(before) => shared(before, &tokens),
        });
    }
    let mut common = common.unwrap_or_default();
    // One whose texts are empty is shorter by a token for each.
    let texts = 1 + usize::from(answered);
    let end = shortest.saturating_sub(texts + PIECE_MIN);
    let end = end.min(common.len());
    common.truncate(end - end % GRID);
    let n_ctx = model.limits().n_ctx as usize;
    match common.len() {
        0 => Err(PinFailure::TooShort),
        tokens if tokens + GRID > n_ctx => Err(PinFailure::TooLong),
        _ => Ok(common),
    }
}

fn shared(mut tokens: Vec<Token>, others: &[Token]) -> Vec<Token> {
    let pairs = tokens.iter().zip(others);
    let common = pairs.take_while(|(one, other)| one == other).count();
    tokens.truncate(common);
    tokens
}

fn message(role: Role, content: &str) -> ChatMessage {
    ChatMessage {
        role,
        content: content.to_owned(),
    }
}
