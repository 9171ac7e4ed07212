//! Several commands in one utterance: "turn on the lamp and close the blinds".

use std::ops::Range;

use super::Options;
use super::heard::{Heard, HeardWord};
use super::index::Index;
use super::numbers;
use super::words::Word;

/// Most commands of one utterance; what follows belongs to the last.
pub(super) const CLAUSES_MAX: usize = 8;

/// The commands of `text`. What one of them leaves out, as in "turn on the lamp and the fan", it
/// takes from its neighbour.
pub(super) fn split(text: &str, index: &Index, options: &Options) -> Vec<String> {
    let heard = Heard::new(text, index, options);
    let pieces = pieces(text, &heard, index);
    let pieces: Vec<Piece> = pieces
        .into_iter()
        .map(|words| Piece::new(words, &heard, index, options))
        .collect();
    let pieces = merged(pieces);
    if pieces.len() < 2 {
        return vec![text.to_owned()];
    }
    let clause = |place: usize| {
        let piece = &pieces[place];
        let own = span_text(text, &heard, &piece.words);
        if piece.acts {
            return own.to_owned();
        }
        let before = pieces[..place].iter().rev().find(|other| other.acts);
        let lender = before.or_else(|| pieces[place..].iter().find(|other| other.acts));
        match lender {
            None => own.to_owned(),
            Some(lender) => lend(text, &heard, lender, own),
        }
    };
    (0..pieces.len()).map(clause).collect()
}

/// Some of an utterance's words, between two conjunctions or commas.
#[derive(Clone, Debug)]
struct Piece {
    words: Range<usize>,
    /// It says what is to be done.
    acts: bool,
    /// It says to what.
    names: bool,
}

impl Piece {
    fn new(words: Range<usize>, heard: &Heard, index: &Index, options: &Options) -> Self {
        let said = &heard.words[words.clone()];
        Self {
            words,
            acts: said.iter().any(|word| acts(word, index, options)),
            names: said.iter().any(names),
        }
    }
}

fn acts(word: &HeardWord, index: &Index, options: &Options) -> bool {
    !word.filler
        && (!word.meanings.is_empty()
            || (word.matches.is_empty()
                && word.families == 0
                && index.profile.knows_any(&word.word.stem, options)))
}

fn names(word: &HeardWord) -> bool {
    !word.filler && (word.families != 0 || !word.matches.is_empty())
}

/// The utterance's words, parted where a conjunction or a comma stands.
fn pieces(text: &str, heard: &Heard, index: &Index) -> Vec<Range<usize>> {
    let words: Vec<Word> = heard.words.iter().map(|word| word.word.clone()).collect();
    let quantities = numbers::quantities(&words);
    let within_number = |place: usize| {
        quantities
            .iter()
            .any(|quantity| quantity.words.start < place && place < quantity.words.end)
    };
    let mut pieces = Vec::new();
    let mut start = 0;
    for place in 1..words.len() {
        if pieces.len() + 1 >= CLAUSES_MAX {
            break;
        }
        let between = &text[words[place - 1].span.end..words[place].span.start];
        let joins = is_conjunction(&words[place].folded)
            && !within_number(place)
            && !within_name(&words, place, index);
        let goes_on = matches!(words[place].folded.as_str(), "dass" | "that");
        if joins || (between.contains([',', ';', '.', '!', '?']) && !goes_on) {
            pieces.push(start..place);
            start = if joins { place + 1 } else { place };
        }
    }
    pieces.push(start.min(words.len())..words.len());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn is_conjunction(folded: &str) -> bool {
    matches!(
        folded,
        "and" | "then" | "und" | "dann" | "sowie" | "also" | "plus" | "ausserdem"
    )
}

/// Whether a name has the conjunction between the same words.
fn within_name(words: &[Word], place: usize, index: &Index) -> bool {
    let Some(next) = words.get(place + 1) else {
        return false;
    };
    let said = [&words[place - 1].folded, &words[place].folded, &next.folded];
    let names = index.targets.iter().flat_map(|target| &target.names);
    names
        .into_iter()
        .any(|name| said.iter().all(|word| name.forms.contains(*word)))
}

/// Pieces that are commands: what neither acts nor names belongs to the piece before it, and a
/// piece that only acts, to the one that says to what.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut merged: Vec<Piece> = Vec::new();
    for piece in pieces {
        match merged.last_mut() {
            Some(last) if !piece.acts && !piece.names => last.words.end = piece.words.end,
            Some(last) if !last.acts && !last.names => {
                last.words.end = piece.words.end;
                (last.acts, last.names) = (piece.acts, piece.names);
            }
            _ => merged.push(piece),
        }
    }
    merged
}

fn span_text<'a>(text: &'a str, heard: &Heard, words: &Range<usize>) -> &'a str {
    let first = &heard.words[words.start].word.span;
    let last = &heard.words[words.end - 1].word.span;
    &text[first.start..last.end]
}

/// `own` with what `lender` says is to be done: around it, as the lender has it.
fn lend(text: &str, heard: &Heard, lender: &Piece, own: &str) -> String {
    let mut before = String::new();
    let mut after = String::new();
    let last = lender.words.end - 1;
    for place in lender.words.clone() {
        let word = &heard.words[place];
        let action = !word.filler && (!word.meanings.is_empty() || !names(word));
        if action {
            let side = if place == last {
                &mut after
            } else {
                &mut before
            };
            side.push(' ');
            side.push_str(&text[word.word.span.clone()]);
        }
    }
    format!("{} {own}{after}", before.trim_start())
}
