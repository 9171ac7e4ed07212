//! The text that models are measured by, as pieces and whole, and whether two models cut it alike.

use std::path::PathBuf;

use hob_ipc::passages::{PIECES_MAX, Piece};
use hob_models::ModelName;
use hob_models::gguf::{Document, Value};
use hob_models::store::StoreError;

use super::super::Place;
use super::super::corpus::Corpus;
use super::super::estimate::{BEFORE_BYTES, PIECE_BYTES};
use super::super::show;
use crate::failure::Failure;

/// Shorter pieces are left out: little would be known of what goes before.
const SHORTEST: usize = 128;
/// Of longer texts, windows are of the beginning: the engine makes tokens of all that it is given.
const WINDOWS_BYTES_MAX: usize = 4 << 20;

/// What is read.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The pieces, one behind the other.
    pub(super) text: String,
    /// Where they are cut.
    pub(super) pieces: Vec<Piece>,
    /// What windows are of.
    pub(super) whole: String,
    /// How many of them are read at most.
    pub(super) windows: usize,
}

impl Texts {
    /// Pieces of these files, spread over all of them, and their beginning whole; of none, none.
    pub(super) fn read(
        files: &[PathBuf],
        (pieces, windows): (usize, usize),
    ) -> Result<Self, Failure> {
        if files.is_empty() {
            return Ok(Self::default());
        }
        let corpus = Corpus::open(files)?;
        let (mut there, mut whole) = (0, String::new());
        corpus.read(PIECE_BYTES, |_, text| {
            there += usize::from(text.len() >= SHORTEST);
            if whole.len() + text.len() <= WINDOWS_BYTES_MAX {
                whole.push_str(text);
            }
            Ok(())
        })?;
        let most = pieces.min(PIECES_MAX);
        let mut all = Self {
            whole,
            windows,
            ..Self::default()
        };
        let mut at = 0;
        corpus.read(PIECE_BYTES, |_, text| {
            if text.len() >= SHORTEST {
                // Of each run of pieces as long as makes `most` runs, the first.
                let begins = at == 0 || at * most / there != (at - 1) * most / there;
                if (begins || most >= there) && all.pieces.len() < most {
                    all.push(text);
                }
                at += 1;
            }
            Ok(())
        })?;
        if all.pieces.is_empty() {
            return Err(Failure::new("the text is too short to tell anything from")
                .hint("Give some kilobytes, and none that the models were made for."));
        }
        Ok(all)
    }

    /// Each piece, with what goes before.
    pub(super) fn each(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.text.as_str();
        self.pieces.iter().map_while(move |piece| {
            let (now, later) = rest.split_at_checked((piece.before + piece.scored) as usize)?;
            rest = later;
            Some(now)
        })
    }

    fn push(&mut self, text: &str) {
        let (before, scored) = part(text);
        // Both are parts of a piece, and so short.
        let count = |part: &str| u32::try_from(part.len()).unwrap_or(u32::MAX);
        self.pieces.push(Piece {
            before: count(before),
            scored: count(scored),
        });
        self.text.push_str(text);
    }

    /// Bytes that are scored in all pieces.
    pub(super) fn scored_bytes(&self) -> u64 {
        self.pieces
            .iter()
            .map(|piece| u64::from(piece.scored))
            .sum()
    }
}

/// What goes before, and what is to be foreseen: words stay whole where there are any.
fn part(text: &str) -> (&str, &str) {
    let most = (text.len() / 4).clamp(1, BEFORE_BYTES);
    let within = text.char_indices().take_while(|(at, _)| *at <= most);
    let word = within.filter(|(at, letter)| *at > 0 && letter.is_whitespace());
    let letter = || text.char_indices().find(|(at, _)| *at >= most);
    let at = word.last().or_else(letter);
    text.split_at(at.map_or(text.len(), |(at, _)| at))
}

/// All tokens of an installed model, in their order, as its file has them.
pub(super) fn vocabulary(name: &ModelName, place: &Place<'_>) -> Result<Value, Failure> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    // It is verified when it is measured.
    let (file, size) = show::open(&place.store.model_path(name))?;
    let document = Document::read(&file, size).map_err(|error| StoreError::Gguf {
        name: name.clone(),
        source: error,
    })?;
    let tokens = document.pairs().find(|(key, _)| *key == TOKENS);
    tokens
        .map(|(_, value)| value.clone())
        .ok_or_else(|| Failure::new(format!("{name} has no vocabulary")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use proptest::prelude::*;

    use super::*;

    fn texts(content: &str, pieces: usize) -> Result<Texts, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, content).unwrap();
        Texts::read(&[path], (pieces, 8))
    }

    #[test]
    fn parts_end_with_words() {
        let text = "The window of the kitchen is open, and it will rain tonight.";
        assert_eq!(part(text).0, "The window of");
        assert_eq!(part("äöüä").0.len() % 2, 0);
    }

    #[test]
    fn pieces_are_spread_over_the_text() {
        let lines: Vec<String> = (0..400)
            .map(|n| format!("{n} {}\n", "word ".repeat(60)))
            .collect();
        let content = lines.concat();
        let found = texts(&content, 10).unwrap();
        assert_eq!(found.pieces.len(), 10);
        assert_eq!(found.whole, content);
        assert!(found.text.starts_with("0 ") && found.text.contains("\n360 "));
        assert_eq!(found.each().count(), 10);
        assert_eq!(found.each().collect::<String>(), found.text);
        let bytes = found.pieces.iter().map(|p| (p.before + p.scored) as usize);
        assert_eq!(bytes.sum::<usize>(), found.text.len());
    }

    #[test]
    fn what_is_too_short_is_refused() {
        for text in ["abc", "a short line\n"] {
            let refused = texts(text, 10).unwrap_err();
            assert!(refused.to_string().contains("too short"), "{refused}");
        }
        assert!(Texts::read(&[], (1, 1)).unwrap().pieces.is_empty());
    }

    proptest! {
        #[test]
        fn parts_are_the_text_and_neither_is_empty(text in "\\PC{2,600}") {
            let (before, rest) = part(&text);
            prop_assert_eq!(before.to_owned() + rest, text.as_str());
            prop_assert!(!before.is_empty());
            prop_assert!(!rest.is_empty());
            prop_assert!(before.len() <= BEFORE_BYTES + 4);
        }
    }
}
