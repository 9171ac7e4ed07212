//! A conversation's id.

use std::fmt::Write as _;

/// 32 hexadecimal digits in lower case. It is no secret: who may use it is decided by the uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConversationId(String);

/// Bytes that an id is made of.
const BYTES: usize = 16;

impl ConversationId {
    /// An id that nobody has or can guess.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        let mut id = String::with_capacity(2 * BYTES);
        for byte in bytes {
            // Writing to a string can't fail.
            let _ = write!(id, "{byte:02x}");
        }
        Ok(Self(id))
    }

    /// `text`, if it can be an id at all.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 2 * BYTES && digits(text)).then(|| Self(text.to_owned()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_read_back() {
        let (one, two) = (
            ConversationId::random().unwrap(),
            ConversationId::random().unwrap(),
        );
        assert_ne!(one, two);
        assert_eq!(ConversationId::parse(one.as_str()), Some(one));
    }

    #[test]
    fn nothing_else_is_an_id() {
        let short = "0".repeat(31);
        let long = "0".repeat(33);
        let upper = "A".repeat(32);
        for text in [
            "",
            "x",
            &short,
            &long,
            &upper,
            "../../../../../../../../../etc/p",
        ] {
            assert_eq!(ConversationId::parse(text), None, "{text}");
        }
    }
}
