//! How far a model is from one that has all its tokens and more, such as the one that it was made of.
//!
//! Both read pieces of the text as the model with fewer tokens cuts them, so that each token has the same
//! before it. Compared is what they expect of the tokens that both have, as if there were no others; beside it
//! stands how probable the reference finds the others. Of a model that lost tokens alone the divergence is
//! nothing, and the others are all that it lost.

use std::cmp::Ordering;

use hob_ipc::passages::{TOKEN_PASSAGES_MAX, TOKENS_MAX, TokenPassage};
use hob_models::ModelName;
use hob_models::gguf::{Texts, Value};

use super::super::estimate::{PIECE_BYTES, Piece};
use super::measure::{Apart, per_token};
use super::text::Texts as Pieces;
use crate::engine::Engine;
use crate::failure::Failure;

/// Of the tokens of a piece, a fourth goes before what is scored.
const BEFORE: usize = 4;
/// Pieces that engines are told the tokens of at once. A token is a byte at least, but for a space that a
/// tokenizer may add.
const AT_ONCE: usize = 64;
const _: () = assert!(AT_ONCE <= TOKEN_PASSAGES_MAX && AT_ONCE * (PIECE_BYTES + 1) <= TOKENS_MAX);

/// What the vocabulary of a model is to that of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vocabularies {
    /// They are the same.
    Same,
    /// The model has some of its tokens, in the same order, and no others: their numbers there.
    Kept(Vec<u32>),
    /// Another one, or one of which that can't be told: some text stands in both where it is not clear which
    /// token is which, or there are more than [`TOKENS_MAX`].
    Other,
}

impl Vocabularies {
    /// Of these two, as the models' files have them.
    pub(super) fn of(reference: &Value, own: &Value) -> Self {
        let (Value::Texts(reference), Value::Texts(own)) = (reference, own) else {
            return Self::Other;
        };
        match own.len().cmp(&reference.len()) {
            Ordering::Equal if own == reference => Self::Same,
            Ordering::Less => numbers(reference, own).map_or(Self::Other, Self::Kept),
            _ => Self::Other,
        }
    }
}

/// Models that have fewer tokens than the reference, and the numbers that their tokens have there.
pub(super) type Fewer = Vec<(ModelName, Vec<u32>)>;

/// The place of each text of `own` in `reference`, rising; `None` if one has none, or there is another way
/// to place them.
fn numbers(reference: &Texts, own: &Texts) -> Option<Vec<u32>> {
    let all = 0..reference.len();
    let first = places(reference, all.clone(), own.iter())?;
    let from_behind = (0..own.len()).rev().filter_map(|place| own.get(place));
    let last = places(reference, all.rev(), from_behind)?;
    let only = first.iter().eq(last.iter().rev()) && first.len() <= TOKENS_MAX;
    only.then_some(first)
}

/// Looks for each of the texts at the next of these places where it stands.
fn places<'t>(
    reference: &Texts,
    mut places: impl Iterator<Item = usize>,
    texts: impl Iterator<Item = &'t [u8]>,
) -> Option<Vec<u32>> {
    let mut next = |text: &[u8]| places.find(|place| reference.get(*place) == Some(text));
    texts.map(|text| u32::try_from(next(text)?).ok()).collect()
}

/// What was found, of each piece for each token of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// How far the model is from the reference, of the tokens that both have.
    pub(super) apart: Apart,
    /// How probable the reference found tokens that the model lacks.
    pub(super) others: Vec<Piece>,
}

/// The tokens that the model cuts each piece into. Pieces that its tokens do not spell, and those of a single
/// token, are left out.
fn cut(texts: &Pieces, engine: &mut Engine) -> Result<Vec<Vec<u32>>, Failure> {
    let mut all = Vec::new();
    for text in texts.each() {
        let told = engine.tokenize(text)?;
        if told.exact && told.tokens.len() > 1 {
            all.push(told.tokens);
        }
    }
    Ok(all)
}

/// How many of so many tokens go before what is scored.
fn before(tokens: usize) -> usize {
    (tokens / BEFORE).max(1)
}

/// Passages of these tokens, each number changed.
fn passages(pieces: &[Vec<u32>], number: impl Fn(u32) -> u32) -> Vec<TokenPassage> {
    let passage = |tokens: &Vec<u32>| TokenPassage {
        // A piece has a few hundred.
        before: u32::try_from(before(tokens.len())).unwrap_or(u32::MAX),
        tokens: tokens
            .iter()
            .map(|token| number(*token).cast_signed())
            .collect(),
    };
    pieces.iter().map(passage).collect()
}

/// Compares the model with the reference, in which its tokens have these numbers.
pub(super) fn compare(
    texts: &Pieces,
    numbers: &[u32],
    engine: &mut Engine,
    reference: &mut Engine,
    mut advance: impl FnMut() -> Result<(), Failure>,
) -> Result<Kept, Failure> {
    // What the engine tells are numbers of its vocabulary, of which there are as many here.
    let there = |token: u32| numbers.get(token as usize).copied().unwrap_or(token);
    let bytes = texts.text.len() as u64;
    let mut kept = Kept::default();
    for pieces in cut(texts, engine)?.chunks(AT_ONCE) {
        engine.open_tokens(passages(pieces, |token| token), &[], bytes)?;
        reference.open_tokens(passages(pieces, there), numbers, bytes)?;
        for (number, piece) in (0..).zip(pieces) {
            let scored = u32::try_from(piece.len() - before(piece.len())).unwrap_or(u32::MAX);
            let (theirs, own) = engine.read_passage_beside(reference, number, scored)?;
            kept.apart.take(&theirs, &own);
            kept.others.push(per_token(own.tokens, theirs.others));
            advance()?;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[&str]) -> Value {
        Value::Texts(tokens.iter().map(|token| token.as_bytes()).collect())
    }

    #[test]
    fn tokens_are_known_by_their_texts() {
        let all = vocabulary(&["<s>", "a", "b", "ab", "c"]);
        let of = |tokens: &[&str]| Vocabularies::of(&all, &vocabulary(tokens));
        assert_eq!(of(&["<s>", "b", "c"]), Vocabularies::Kept(vec![0, 2, 4]));
        assert_eq!(of(&["<s>", "a", "b", "ab", "c"]), Vocabularies::Same);
        // One that is not there, another order, another text of as many, and more.
        for other in [
            &["<s>", "d"][..],
            &["c", "a"],
            &["<s>", "a", "b", "ab", "d"],
            &["<s>", "a", "b", "ab", "c", "d"],
        ] {
            assert_eq!(of(other), Vocabularies::Other, "{other:?}");
        }
        assert_eq!(
            Vocabularies::of(&all, &Value::Text("a".to_owned())),
            Vocabularies::Other
        );
    }

    #[test]
    fn a_text_that_stands_twice_is_one_token_or_none() {
        let all = vocabulary(&["a", "b", "a", "c"]);
        let of = |tokens: &[&str]| Vocabularies::of(&all, &vocabulary(tokens));
        assert_eq!(of(&["a", "b", "a"]), Vocabularies::Kept(vec![0, 1, 2]));
        assert_eq!(of(&["b", "a", "c"]), Vocabularies::Kept(vec![1, 2, 3]));
        // Which of the two?
        assert_eq!(of(&["a", "c"]), Vocabularies::Other);
    }

    #[test]
    fn a_fourth_goes_before() {
        let found = passages(&[vec![1, 2, 3, 4, 5, 6, 7, 8], vec![1, 0]], |token| {
            token + 10
        });
        assert_eq!((found[0].before, found[1].before), (2, 1));
        assert_eq!(found[1].tokens, [11, 10]);
    }
}
