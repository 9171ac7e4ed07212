//! Requests for likelihoods, checked. hobd makes them itself, so that bounds are all there is to
//! check.

use std::time::Duration;

use hob_api::ApiError;
use hob_api::chat::Class;
use hob_ipc::score::{CONTINUATIONS_IN_ALL_MAX, CONTINUATIONS_MAX, PARTS_MAX, ScorePart};

use super::shape::invalid;
use super::{Caller, TEXT_BYTES_MAX, ValidDecision};

/// A request for likelihoods that is within all bounds that do not depend on the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidScore {
    /// Who asks.
    pub caller: Caller,
    /// The model asked for; `None` for whichever is loaded.
    pub model: Option<String>,
    /// 1 to [`PARTS_MAX`], with at most [`CONTINUATIONS_IN_ALL_MAX`] continuations in all.
    pub parts: Vec<ScorePart>,
    /// Whether the likelihood of an answer's end behind each continuation is wanted, too.
    pub ends: bool,
    /// Whether each token's log-probability is wanted, too.
    pub single_tokens: bool,
    /// Until when all must be known, from now.
    pub timeout: Duration,
    /// How urgent it is.
    pub class: Class,
    /// Whether the model may use what it remembers of the caller's requests, and remember this.
    pub cache: bool,
    /// How long the engine stays after it; `None` for the usual.
    pub keep_alive: Option<Duration>,
}

impl ValidScore {
    /// What a request for decisions asks of the engine.
    ///
    /// # Errors
    /// `invalid_request` if the state, read once for each part, is too much text, or if there are too
    /// few or too many parts or continuations, or one that is empty.
    pub fn deciding(request: ValidDecision, parts: Vec<ScorePart>) -> Result<Self, ApiError> {
        let bytes: usize = parts.iter().map(bytes).sum();
        if bytes > TEXT_BYTES_MAX {
            return Err(too_long(bytes));
        }
        check(&parts)?;
        Ok(Self {
            caller: request.caller,
            model: request.model,
            parts,
            ends: false,
            single_tokens: false,
            timeout: request.timeout,
            class: request.class,
            cache: request.cache,
            keep_alive: request.keep_alive,
        })
    }
}

/// The error for a state that comes to so many bytes with all that is asked about it.
pub(crate) fn too_long(bytes: usize) -> ApiError {
    invalid(format!(
        "`state` is too long for so many questions: they come to {bytes} bytes of text, and \
         {TEXT_BYTES_MAX} is the most"
    ))
    .hint("shorten `state`, or ask fewer questions at once")
    .param("state")
}

/// Bytes of a part's text as the engine is told it.
fn bytes(part: &ScorePart) -> usize {
    let continuations = part.continuations.iter().map(String::as_str);
    let texts = part.prompt.texts().into_iter().chain(continuations);
    texts.map(escaped).sum()
}

/// Bytes of a text in JSON: a short one of control characters must not grow beyond a frame.
fn escaped(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    bytes.sum()
}

fn check(parts: &[ScorePart]) -> Result<(), ApiError> {
    let refused = |what: String| {
        Err(invalid(format!("likelihoods are asked for {what}"))
            .hint("ask for fewer, or in several requests"))
    };
    if !(1..=PARTS_MAX).contains(&parts.len()) {
        let parts = parts.len();
        return refused(format!(
            "of {parts} prompts, and there must be 1 to {PARTS_MAX}"
        ));
    }
    let mut continuations = 0;
    for part in parts {
        let count = part.continuations.len();
        if !(1..=CONTINUATIONS_MAX).contains(&count) {
            return refused(format!(
                "of {count} texts behind a prompt, and there must be 1 to {CONTINUATIONS_MAX}"
            ));
        }
        if part.continuations.iter().any(String::is_empty) {
            return refused("of an empty text".to_owned());
        }
        continuations += count;
    }
    if continuations > CONTINUATIONS_IN_ALL_MAX {
        return refused(format!(
            "of {continuations} texts, more than the {CONTINUATIONS_IN_ALL_MAX} of one request"
        ));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use hob_api::ErrorCode;
    use hob_ipc::message::Prompt;
    use std::collections::BTreeMap;

    fn part(prompt: &str, continuations: Vec<String>) -> ScorePart {
        ScorePart {
            prompt: Prompt::Text(prompt.to_owned()),
            continuations,
        }
    }

    fn valid(parts: Vec<ScorePart>) -> Result<ValidScore, ApiError> {
        let request = ValidDecision {
            caller: Caller { uid: 7 },
            model: None,
            state: "It rains.".to_owned(),
            questions: BTreeMap::new(),
            timeout: Duration::from_secs(1),
            class: Class::default(),
            cache: true,
            keep_alive: None,
        };
        ValidScore::deciding(request, parts)
    }

    #[test]
    fn bounds_hold_and_say_what_is_beyond_them() {
        let one = || vec!["x".to_owned()];
        assert!(valid(vec![part("a", one())]).is_ok());
        let many = |count: usize| vec!["x".to_owned(); count];
        for (parts, word) in [
            (vec![], "0 prompts"),
            (vec![part("a", one()); PARTS_MAX + 1], "129 prompts"),
            (vec![part("a", vec![])], "0 texts"),
            (vec![part("a", many(CONTINUATIONS_MAX + 1))], "257 texts"),
            (vec![part("a", many(CONTINUATIONS_MAX)); 9], "2304 texts"),
            (vec![part("a", vec![String::new()])], "empty text"),
            (vec![part(&"a".repeat(TEXT_BYTES_MAX), one())], "bytes"),
        ] {
            let error = valid(parts).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert!(error.message.contains(word), "{error:?}");
            assert!(error.hint.is_some());
        }
    }
}
