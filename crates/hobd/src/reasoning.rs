//! Reasoning in an answer's text: what a model thinks before it answers. Pure.
//!
//! Models that think were trained to write it first of all, between the tags `<think>` and `</think>`
//! (such as Qwen 3 and the distillates of R1). Anywhere else the tags are text like any
//! other.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";
/// White space that is waited through for a tag, in bytes.
const SPACE_BYTES_MAX: usize = 64;

/// Tells reasoning from the rest of an answer, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    place: Place,
    /// Text whose meaning is not certain yet: white space, or less than a tag.
    held: String,
}

/// Where in the answer the next character is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At the beginning: reasoning or the rest.
    #[default]
    Beginning,
    /// Behind the opening tag.
    Opened,
    /// In reasoning.
    Reasoning,
    /// Behind reasoning, in the white space before the rest.
    Closed,
    /// In the rest, to the end.
    Rest,
}

/// What a piece of text turned out to be: either may be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// More of the reasoning, without the white space at its ends.
    pub(crate) reasoning: String,
    /// More of the rest, which comes behind it.
    pub(crate) rest: String,
}

impl Reader {
    /// What the next piece of text is.
    pub(crate) fn push(&mut self, text: &str) -> Piece {
        self.held.push_str(text);
        let mut piece = Piece::default();
        while self.step(&mut piece) {}
        piece
    }

    /// What is left when the answer ends, whole or cut.
    pub(crate) fn finish(&mut self) -> Piece {
        let held = std::mem::take(&mut self.held);
        match self.place {
            Place::Beginning | Place::Rest => Piece {
                rest: held,
                ..Piece::default()
            },
            Place::Opened | Place::Reasoning => Piece {
                reasoning: held.trim_end().to_owned(),
                ..Piece::default()
            },
            Place::Closed => Piece::default(),
        }
    }

    /// Goes on to the next place; false if more text is needed, or there is no other place.
    fn step(&mut self, piece: &mut Piece) -> bool {
        match self.place {
            Place::Beginning => {
                let begun = self.held.trim_start();
                if let Some(inner) = begun.strip_prefix(OPEN) {
                    self.held = inner.to_owned();
                    self.place = Place::Opened;
                } else if OPEN.starts_with(begun) && self.held.len() <= SPACE_BYTES_MAX {
                    return false;
                } else {
                    self.place = Place::Rest;
                }
                true
            }
            Place::Opened | Place::Closed => {
                self.held = self.held.trim_start().to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.place = match self.place {
                    Place::Opened => Place::Reasoning,
                    _ => Place::Rest,
                };
                true
            }
            Place::Reasoning => {
                if let Some((inner, behind)) = self.held.split_once(CLOSE) {
                    piece.reasoning.push_str(inner.trim_end());
                    self.held = behind.to_owned();
                    self.place = Place::Closed;
                    return true;
                }
                // White space before the tag is not part of it.
                let certain = self.held.len() - begun_bytes(&self.held);
                let certain = self.held[..certain].trim_end().len();
                let open = self.held.split_off(certain);
                piece.reasoning.push_str(&self.held);
                self.held = open;
                false
            }
            Place::Rest => {
                piece.rest.push_str(&self.held);
                self.held.clear();
                false
            }
        }
    }
}

/// Bytes of the longest end of `text` that begins the closing tag.
fn begun_bytes(text: &str) -> usize {
    (1..CLOSE.len())
        .rev()
        .find(|bytes| text.ends_with(&CLOSE[..*bytes]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reasoning and the rest.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (String, String) {
        let mut reader = Reader::default();
        let mut whole = Piece::default();
        let mut add = |piece: Piece| {
            assert!(piece.reasoning.is_empty() || whole.rest.is_empty());
            whole.reasoning.push_str(&piece.reasoning);
            whole.rest.push_str(&piece.rest);
        };
        for piece in pieces {
            add(reader.push(piece));
        }
        add(reader.finish());
        (whole.reasoning, whole.rest)
    }

    #[test]
    fn reasoning_is_what_stands_between_the_tags_at_the_beginning() {
        for (text, reasoning, rest) in [
            ("<think>\nIt rains.\n</think>\n\nWet.", "It rains.", "Wet."),
            ("\n<think>a</think>b", "a", "b"),
            ("<think>\n\n</think>\n\nb", "", "b"),
            ("<think>a < b </thin </think> c", "a < b </thin", "c"),
            ("<think>a</think>b</think>", "a", "b</think>"),
            // Cut, or never closed.
            ("<think>\nIt rai", "It rai", ""),
            ("<think>a </thin", "a </thin", ""),
            ("<think>", "", ""),
            ("<think>a</think>\n", "a", ""),
        ] {
            assert_eq!(
                read([text]),
                (reasoning.to_owned(), rest.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn any_other_text_stays_as_it_is() {
        let space = " ".repeat(100);
        for text in [
            "",
            " ",
            "Hello",
            "<",
            "<thin",
            "<thing>",
            "a <think>b</think>",
            "</think>",
            &space,
        ] {
            assert_eq!(read([text]), (String::new(), text.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_certain_is_not_held_back() {
        let mut reader = Reader::default();
        assert_eq!(reader.push("<think>\nwell, ").reasoning, "well,");
        assert_eq!(reader.push("yes </").reasoning, " yes");
        assert_eq!(reader.push("think>\n").reasoning, "");
        assert_eq!(reader.push("Yes").rest, "Yes");
        assert_eq!(Reader::default().push("Y").rest, "Y");
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            text in "( ?<think>)?[ a-b\\n</thinké>]{0,30}(</think>)?[ a\\n]{0,9}",
            cuts in proptest::collection::vec(1_usize..5, 1..9),
        ) {
            let mut rest = text.as_str();
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let at = rest.char_indices().nth(*cut).map_or(rest.len(), |(at, _)| at);
                let (piece, more) = rest.split_at(at);
                pieces.push(piece);
                rest = more;
            }
            prop_assert_eq!(read(pieces), read([text.as_str()]));
        }
    }
}
