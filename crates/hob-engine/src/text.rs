//! From token pieces to text: whole characters, and stop strings that never show in part. Pure.

/// The longest beginning of `text` that has at most `bytes` bytes and whole characters.
pub fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// What opens a model's reasoning.
const REASONING_TAG: &str = "<think>\n";
/// Tokens at a prompt's end that [`lead`] needs: one for each byte of the tag, and white space.
pub const LEAD_TOKENS_MAX: usize = 10;

/// What a template that has its model think has said of the answer already, at the end of its prompt:
/// the tag that opens the reasoning, without which nobody could tell that from the answer. Empty for
/// any other.
pub fn lead(prompt_end: &[u8]) -> &'static str {
    let tag = REASONING_TAG.trim_ascii_end().as_bytes();
    if prompt_end.trim_ascii_end().ends_with(tag) {
        REASONING_TAG
    } else {
        ""
    }
}

/// What a piece added to the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Text that can be shown now; may be empty.
    pub text: String,
    /// Whether a stop string ended the answer.
    pub stopped: bool,
}

/// An answer under way.
#[derive(Debug, Default)]
pub struct Answer {
    stops: Vec<String>,
    /// What the prompt said of the answer already; goes before its first text.
    lead: &'static str,
    /// Bytes of a character that is not complete yet: at most three.
    bytes: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

impl Answer {
    /// An answer that any of `stops` ends. Empty stop strings are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(),
            ..Self::default()
        }
    }

    /// The same answer, of which the prompt said `lead` already. No stop string is looked for there.
    #[must_use]
    pub fn led_by(mut self, lead: &'static str) -> Self {
        self.lead = lead;
        self
    }

    /// Takes in the bytes of one token. Invalid UTF-8 becomes U+FFFD.
    pub fn push(&mut self, piece: &[u8]) -> Step {
        self.bytes.extend_from_slice(piece);
        self.take_whole_characters();
        if let Some(at) = self.first_stop() {
            self.held.truncate(at);
            let text = std::mem::take(&mut self.held);
            return Step {
                text: self.with_lead(text),
                stopped: true,
            };
        }
        let safe = self.held.len() - self.possible_stop_bytes();
        let rest = self.held.split_off(safe);
        let text = std::mem::replace(&mut self.held, rest);
        Step {
            text: self.with_lead(text),
            stopped: false,
        }
    }

    fn with_lead(&mut self, mut text: String) -> String {
        if !text.is_empty() {
            text.insert_str(0, std::mem::take(&mut self.lead));
        }
        text
    }

    /// What is left when the answer ends otherwise than by a stop string. A character that the
    /// length limit cut in two is dropped.
    pub fn finish(mut self) -> String {
        let held = std::mem::take(&mut self.held);
        self.with_lead(held)
    }

    fn take_whole_characters(&mut self) {
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.bytes.clear();
                    return;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    // Lossy conversion of a part that is known to be valid copies it.
                    self.held
                        .push_str(&String::from_utf8_lossy(&self.bytes[..valid]));
                    let Some(invalid) = error.error_len() else {
                        self.bytes.drain(..valid);
                        return;
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    self.bytes.drain(..valid + invalid);
                }
            }
        }
    }

    fn first_stop(&self) -> Option<usize> {
        self.stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min()
    }

    /// Length of the longest end of `held` that begins a stop string.
    fn possible_stop_bytes(&self) -> usize {
        self.stops
            .iter()
            .flat_map(|stop| stop.char_indices().map(|(at, _)| &stop[..at]))
            .filter(|start| self.held.ends_with(start))
            .map(str::len)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The whole text and whether a stop string ended it.
    fn run<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a [u8]>) -> (String, bool) {
        let mut answer = Answer::new(stops.iter().map(ToString::to_string).collect());
        let mut text = String::new();
        for piece in pieces {
            let step = answer.push(piece);
            text.push_str(&step.text);
            if step.stopped {
                return (text, true);
            }
        }
        text.push_str(&answer.finish());
        (text, false)
    }

    #[test]
    fn a_prompt_that_opens_reasoning_leads_the_answer() {
        for open in ["assistant\n<think>\n", "<think>", "<think>\n\n"] {
            assert_eq!(lead(open.as_bytes()), REASONING_TAG, "{open}");
        }
        for other in [
            "",
            "assistant\n",
            "<think>\n\n</think>\n\n",
            "<think>x",
            "think>",
        ] {
            assert_eq!(lead(other.as_bytes()), "", "{other}");
        }
    }

    #[test]
    fn a_lead_goes_before_the_first_text_once() {
        let mut answer = Answer::new(vec!["\n".to_owned()]).led_by("<think>\n");
        assert_eq!(answer.push(b"\xc3").text, "");
        assert_eq!(answer.push(b"\xa9a").text, "<think>\néa");
        assert_eq!(answer.push(b"b").text, "b");
        assert_eq!(answer.finish(), "");
        let mut answer = Answer::new(vec!["END".to_owned()]).led_by("<think>\n");
        assert_eq!(answer.push(b"E").text, "");
        assert_eq!(answer.finish(), "<think>\nE");
        assert_eq!(Answer::default().led_by("<think>\n").finish(), "");
    }

    #[test]
    fn beginnings_have_whole_characters() {
        assert_eq!(beginning("a🙂b", 4), "a");
        assert_eq!(beginning("a🙂b", 5), "a🙂");
        assert_eq!(beginning("ab", 9), "ab");
        assert_eq!(beginning("", 0), "");
    }

    #[test]
    fn a_character_split_over_tokens_comes_whole() {
        let mut answer = Answer::new(Vec::new());
        let smile = "🙂".as_bytes();
        assert_eq!(answer.push(&smile[..1]).text, "");
        assert_eq!(answer.push(&smile[1..3]).text, "");
        assert_eq!(answer.push(&smile[3..]).text, "🙂");
    }

    #[test]
    fn invalid_bytes_become_replacement_characters() {
        assert_eq!(
            run(&[], [&b"a\xff"[..], b"b\xe2\x82", b"c"]),
            ("a\u{fffd}b\u{fffd}c".to_owned(), false)
        );
    }

    #[test]
    fn a_character_cut_by_the_end_is_dropped() {
        assert_eq!(run(&[], [&b"a\xe2\x82"[..]]), ("a".to_owned(), false));
    }

    #[test]
    fn a_stop_string_over_two_tokens_never_shows() {
        let mut answer = Answer::new(vec!["END".to_owned()]);
        assert_eq!(answer.push(b"one E").text, "one ");
        assert_eq!(
            answer.push(b"ND two"),
            Step {
                text: String::new(),
                stopped: true
            }
        );
    }

    #[test]
    fn what_only_looked_like_a_stop_string_is_shown() {
        assert_eq!(
            run(&["END"], [&b"E"[..], b"N", b"E", b"nd"]),
            ("ENEnd".to_owned(), false)
        );
    }

    #[test]
    fn the_earliest_of_several_stop_strings_counts() {
        assert_eq!(
            run(&["late", "soon"], [&b"a soon b late"[..]]),
            ("a ".to_owned(), true)
        );
    }

    proptest! {
        #[test]
        fn any_cut_of_any_text_gives_the_same_answer(
            text in "[abAB é🙂]{0,40}",
            stops in proptest::collection::vec("[abAB é🙂]{1,3}", 0..4),
            cut in 1_usize..7,
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let expected = stops.iter().filter_map(|s| text.find(s)).min();
            let (got, stopped) = run(&stops, text.as_bytes().chunks(cut));
            // Cut finely, a stop string is found when its last byte arrives, so one that ends
            // first wins over one that starts first; the shown text never holds any of them.
            prop_assert_eq!(stopped, expected.is_some());
            prop_assert!(text.starts_with(&got));
            prop_assert!(stops.iter().all(|s| !got.contains(s)));
            if expected.is_none() {
                prop_assert_eq!(got, text);
            }
        }

        #[test]
        fn no_bytes_panic(pieces in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..6), 0..20,
        )) {
            run(&["\u{fffd}a", "b"], pieces.iter().map(Vec::as_slice));
        }
    }
}
