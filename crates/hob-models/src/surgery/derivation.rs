//! How a token comes about: which pieces its letters are put together of, and in which order.
//!
//! Both tokenizers start from single characters and join, again and again, the two neighbours whose
//! joining comes first: by the rank of the pair (byte-pair encoding), or by the score of what it makes
//! (`SentencePiece`); of equals, the leftmost. Nothing that is joined is ever parted. So, within a text, the
//! pieces that become one token are joined in the order in which that token's text alone would be, and a
//! vocabulary that keeps, with a token, all that its text is joined of, makes the same tokens of every
//! text all of whose tokens it has: what it lacks were joinings that did not happen.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

use super::Token;
use crate::gguf::Texts;

/// Longest text in bytes of a token that is derived; those of real vocabularies stay under 200. What is
/// longer stays only if it has to.
pub(super) const MAX_TEXT_BYTES: usize = 512;

/// Which joinings there are, and which comes first.
#[derive(Debug)]
pub(super) enum Merging<'d> {
    /// The rank of each pair, written as in the file: the two with a space between.
    Ranks(HashMap<&'d [u8], u32>),
    /// The score of each token.
    Scores(Vec<f32>),
}

impl<'d> Merging<'d> {
    pub(super) fn ranks(merges: &'d Texts) -> Self {
        let mut ranks = HashMap::with_capacity(merges.len());
        for (pair, rank) in merges.iter().zip(0..) {
            // Where a pair is there twice, llama.cpp takes the first.
            ranks.entry(pair).or_insert(rank);
        }
        Self::Ranks(ranks)
    }

    pub(super) fn scores(scores: Vec<f32>) -> Self {
        Self::Scores(scores)
    }

    /// What comes first is least; `None` if the two can't be joined.
    fn order(&self, left: &[u8], right: &[u8], ids: &HashMap<&[u8], Token>) -> Option<Order> {
        match self {
            Self::Ranks(ranks) => {
                let pair = [left, b" ", right].concat();
                ranks.get(pair.as_slice()).map(|rank| Order::Rank(*rank))
            }
            Self::Scores(scores) => {
                let whole = [left, right].concat();
                let token = *ids.get(whole.as_slice())?;
                let score = scores.get(token as usize)?;
                Some(Order::Score(Reverse(sortable(*score))))
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Rank(u32),
    Score(Reverse<i32>),
}

/// A number for each fraction in the same order, as `f32::total_cmp` has it.
fn sortable(score: f32) -> i32 {
    let bits = score.to_bits().cast_signed();
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// The tokens that `text` is joined of on the way, its own last if it is reached.
pub(super) fn derive(
    text: &[u8],
    merging: &Merging<'_>,
    ids: &HashMap<&[u8], Token>,
) -> Vec<Token> {
    let mut pieces = letters(text);
    // Single letters may be tokens; in SentencePiece's files they need not be.
    let single = pieces
        .iter()
        .filter_map(|piece| ids.get(&text[piece.clone()]));
    let mut made: Vec<Token> = single.copied().collect();
    loop {
        let pairs = pieces.windows(2).enumerate();
        let joinings = pairs.filter_map(|(at, pair)| {
            let (left, right) = (&text[pair[0].clone()], &text[pair[1].clone()]);
            merging.order(left, right, ids).map(|order| (order, at))
        });
        let Some((_, at)) = joinings.min() else {
            return made;
        };
        pieces[at].end = pieces[at + 1].end;
        pieces.remove(at + 1);
        made.extend(ids.get(&text[pieces[at].clone()]));
    }
}

/// The characters of a text by their first bytes, as llama.cpp tells them; the text need not be UTF-8.
fn letters(text: &[u8]) -> Vec<Range<usize>> {
    let mut letters = Vec::new();
    let mut start = 0;
    while let Some(first) = text.get(start) {
        let length = match first >> 4 {
            0xc | 0xd => 2,
            0xe => 3,
            0xf => 4,
            _ => 1,
        };
        let end = text.len().min(start + length);
        letters.push(start..end);
        start = end;
    }
    letters
}
