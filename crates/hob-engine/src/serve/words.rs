//! Tokens of a text, for those who make a model with another vocabulary.

use std::io;

use hob_ipc::EngineEvent;
use hob_ipc::tokens::{Tokenize, Tokenized};

use super::{Model, Server};

impl<M: Model> Server<'_, M> {
    /// Answers at once: the text is short.
    pub(super) fn tell_tokens(&mut self, request: &Tokenize) -> io::Result<()> {
        let Tokenize { id, text } = request;
        self.pulse.advance();
        let tokens = match self.model.continuation(text) {
            Ok(tokens) => tokens,
            Err(failure) => return self.report(*id, failure),
        };
        self.bytes.clear();
        for token in &tokens {
            self.model.piece(*token, &mut self.bytes);
        }
        let exact = is_again(&self.bytes, text.as_bytes());
        self.events.send(EngineEvent::Tokenized(Tokenized {
            id: *id,
            tokens,
            exact,
        }))
    }
}

/// Whether pieces put together are the text, but for a space that the tokenizer put before it.
fn is_again(pieces: &[u8], text: &[u8]) -> bool {
    pieces == text || pieces.strip_prefix(b" ") == Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_space_before_the_text_is_the_tokenizers() {
        assert!(is_again(b"a b", b"a b"));
        assert!(is_again(b" a b", b"a b"));
        assert!(is_again(b" a", b" a"));
        assert!(!is_again(b"  a", b"a"));
        assert!(!is_again(b"a ", b"a"));
        assert!(!is_again(b"", b"a"));
    }
}
