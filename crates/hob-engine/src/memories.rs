//! What the model still knows of requests that ended, and where a new one goes on from it. Pure.
//!
//! A sequence whose request ended keeps its computed tokens, and what it held before may lie on the
//! [`Shelf`]. A later request of the same user that begins with the same tokens need not compute
//! them again: the next turn of a chat, or another question behind the same long instructions.
//! Nothing is ever shared between users but what an administrator pinned, so that how quickly an
//! answer comes tells nobody what others asked.

use std::sync::Arc;

use crate::prompt::Token;
use crate::shelf::{Entry, Owner, Shelf, TOKENS_MIN};
use crate::slots::{GRID, PIECE_MIN};

/// As many tokens are copied to or from the shelf in the time in which one is computed. Of the
/// models that were measured, the one that computes quickest copies 200.
const COPIED_PER_COMPUTED: usize = 64;

/// What a sequence without a request holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Whose it is.
    pub owner: Owner,
    /// What the model has seen, at least one.
    pub tokens: Vec<Token>,
    /// How many of them are the prompt; the rest is the answer.
    pub prompt_len: usize,
    /// How many of the prompt's are remembered as they would be had it been read whole: none behind
    /// an earlier answer that was written.
    pub read_len: usize,
}

impl Memory {
    /// Whether its end was written, and not read.
    pub fn is_written(&self) -> bool {
        self.tokens.len() > self.prompt_len
    }

    fn held(&self) -> Held<'_> {
        Held {
            tokens: &self.tokens,
            read_len: self.read_len,
            written: self.is_written(),
        }
    }
}

/// Who wants to go on from something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Whose request it is.
    pub owner: Owner,
    /// Whether its numbers have to be those of a prompt that is read whole, to the last digit.
    pub exact: bool,
}

/// Tokens that something holds, as far as it matters for who goes on from them.
#[derive(Clone, Copy, Debug)]
struct Held<'a> {
    tokens: &'a [Token],
    /// As in [`Memory`].
    read_len: usize,
    /// Whether the last of them were written.
    written: bool,
}

impl<'a> From<&'a Entry> for Held<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            tokens: &entry.tokens,
            read_len: entry.read_len,
            written: entry.written,
        }
    }
}

/// A memory, and when it was last used.
#[derive(Debug)]
struct Kept {
    memory: Memory,
    used_at: u64,
}

/// Where the beginning of a prompt comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: all is computed.
    Nothing,
    /// The sequence holds it.
    Sequence,
    /// An entry of the shelf does.
    Shelf {
        /// Its number there.
        entry: u64,
        /// All its tokens, of which some may have to be cut off.
        tokens: usize,
        /// Its state.
        state: Arc<Vec<u8>>,
    },
}

/// The place for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// A free sequence.
    pub sequence: usize,
    /// How many tokens of the prompt come from `source`: less than the prompt has, as the last
    /// one's logits are needed.
    pub common: usize,
    /// How many of the prompt's tokens will be as in a prompt that is read whole, once all are read.
    pub read_len: usize,
    /// Where they come from.
    pub source: Source,
    /// What the sequence holds that should be put on the shelf before it is overwritten.
    pub displaced: Option<Memory>,
}

/// The memories of all sequences, and the shelf.
#[derive(Debug)]
pub struct Memories {
    of: Vec<Option<Kept>>,
    clock: u64,
    /// What sequences held before.
    pub shelf: Shelf,
}

/// What a sequence could begin a prompt with.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// What it holds.
    Own,
    /// `common` tokens of an entry of the shelf.
    Shelf { index: usize, common: usize },
    /// Nothing.
    Nothing,
}

/// How much of a prompt something holds.
#[derive(Clone, Copy, Debug, Default)]
struct Overlap {
    /// Tokens in common.
    raw: usize,
    /// Tokens that can be gone on from.
    usable: usize,
    /// Whether it is everybody's, and would be the reader's alone afterwards.
    passes_on: bool,
}

impl Memories {
    /// None yet, of so many sequences, with a shelf for so many bytes.
    pub fn new(sequences: usize, shelf_bytes_max: usize) -> Self {
        Self {
            of: (0..sequences).map(|_| None).collect(),
            clock: 0,
            shelf: Shelf::new(shelf_bytes_max),
        }
    }

    /// Chooses a free sequence for a prompt of `reader`'s, and takes what it remembers; without a
    /// reader the prompt uses nothing. `cuts` tells whether so many tokens can be cut back to so many fewer.
    ///
    /// Chosen is what costs the least: tokens to compute now, and tokens that may have to be
    /// computed again later as they are overwritten, which counts the less the longer they were not
    /// used. What an answer's own tokens were is not lost when the prompt goes on behind the prompt
    /// before: they are superseded.
    pub fn choose(
        &mut self,
        reader: Option<Reader>,
        prompt: &[Token],
        is_free: impl Fn(usize) -> bool,
        cuts: impl Fn(usize, usize) -> bool,
    ) -> Option<Choice> {
        let shelved = self.best_of_shelf(reader, prompt, &cuts);
        let free = (0..self.of.len()).filter(|sequence| is_free(*sequence));
        let options = free.flat_map(|sequence| {
            let own = self.overlap(sequence, reader, prompt, &cuts);
            let own = (own.usable > 0).then_some(Start::Own);
            let starts = own.into_iter().chain(shelved).chain([Start::Nothing]);
            starts.map(move |start| (sequence, start))
        });
        let best = options.min_by_key(|&(sequence, start)| {
            let used_at = self.of[sequence].as_ref().map_or(0, |kept| kept.used_at);
            let own = self.overlap(sequence, reader, prompt, &cuts);
            (self.cost(sequence, start, own, prompt, &cuts), used_at)
        });
        let (sequence, start) = best?;
        let own = self.overlap(sequence, reader, prompt, &cuts);
        Some(self.take(sequence, prompt.len(), start, own, &cuts))
    }

    /// Remembers what a sequence without a request holds.
    pub fn keep(&mut self, sequence: usize, memory: Memory) {
        self.clock += 1;
        self.of[sequence] = Some(Kept {
            memory,
            used_at: self.clock,
        });
    }

    /// Forgets what everybody could have used of a prefix, and returns the sequences that hold it.
    pub fn forget_everyones(&mut self, prefix: &[Token]) -> Vec<usize> {
        let of_prefix = |owner: Owner, tokens: &[Token]| {
            owner == Owner::Everyone && (tokens.starts_with(prefix) || prefix.starts_with(tokens))
        };
        self.shelf.forget(of_prefix);
        let mut held = Vec::new();
        for (sequence, kept) in self.of.iter_mut().enumerate() {
            let taken = kept.take_if(|kept| of_prefix(kept.memory.owner, &kept.memory.tokens));
            held.extend(taken.map(|_| sequence));
        }
        held
    }

    fn take(
        &mut self,
        sequence: usize,
        prompt_len: usize,
        start: Start,
        own: Overlap,
        cuts: &impl Fn(usize, usize) -> bool,
    ) -> Choice {
        let lost = self.lost(sequence, start, own);
        let memory = self.of[sequence].take().map(|kept| kept.memory);
        let own_read_len = memory.as_ref().map_or(0, |memory| memory.read_len);
        let displaced = memory.filter(|memory| {
            lost > 0
                && memory.tokens.len() >= TOKENS_MIN
                && self.shelf.bytes_max() > 0
                && !self.shelf.covers(memory.owner, &memory.tokens, cuts)
        });
        let (common, source_read_len, source) = match start {
            Start::Own => (own.usable, own_read_len, Source::Sequence),
            Start::Nothing => (0, 0, Source::Nothing),
            Start::Shelf { index, common } => {
                self.shelf.touch(index);
                let entry = &self.shelf.entries()[index];
                let source = Source::Shelf {
                    entry: entry.number,
                    tokens: entry.tokens.len(),
                    state: Arc::clone(&entry.state),
                };
                (common, entry.read_len, source)
            }
        };
        let whole = common <= source_read_len && is_cut(common, prompt_len);
        Choice {
            sequence,
            common,
            read_len: if whole {
                prompt_len
            } else {
                source_read_len.min(common)
            },
            source,
            displaced,
        }
    }

    /// The entry that holds most of the prompt, and how much.
    fn best_of_shelf(
        &self,
        reader: Option<Reader>,
        prompt: &[Token],
        cuts: &impl Fn(usize, usize) -> bool,
    ) -> Option<Start> {
        let reader = reader?;
        let entries = self.shelf.entries().iter().enumerate();
        let usable = entries
            .filter(|(_, entry)| entry.owner.serves(reader.owner))
            .map(|(index, entry)| {
                let overlap = overlap(entry.into(), reader.exact, prompt, cuts);
                (index, overlap.usable)
            })
            .filter(|(_, usable)| *usable > 0);
        let (index, common) = usable.max_by_key(|(_, usable)| *usable)?;
        Some(Start::Shelf { index, common })
    }

    fn overlap(
        &self,
        sequence: usize,
        reader: Option<Reader>,
        prompt: &[Token],
        cuts: &impl Fn(usize, usize) -> bool,
    ) -> Overlap {
        let kept = self.of[sequence].as_ref().zip(reader);
        let usable = kept.filter(|(kept, reader)| kept.memory.owner.serves(reader.owner));
        usable.map_or_else(Overlap::default, |(kept, reader)| Overlap {
            passes_on: reader.owner != kept.memory.owner,
            ..overlap(kept.memory.held(), reader.exact, prompt, cuts)
        })
    }

    /// How many tokens of a sequence are overwritten that may be asked for again.
    fn lost(&self, sequence: usize, start: Start, own: Overlap) -> usize {
        self.of[sequence].as_ref().map_or(0, |kept| match start {
            Start::Own if own.passes_on => kept.memory.tokens.len(),
            Start::Own if own.raw >= kept.memory.prompt_len => 0,
            Start::Own => kept.memory.tokens.len() - own.usable,
            Start::Shelf { .. } | Start::Nothing => kept.memory.tokens.len(),
        })
    }

    /// What a prompt costs in a sequence: the unit is one token copied.
    fn cost(
        &self,
        sequence: usize,
        start: Start,
        own: Overlap,
        prompt: &[Token],
        cuts: &impl Fn(usize, usize) -> bool,
    ) -> usize {
        let (common, copied) = match start {
            Start::Own => (own.usable, 0),
            Start::Shelf { index, common } => (common, self.shelf.entries()[index].tokens.len()),
            Start::Nothing => (0, 0),
        };
        let computed = (prompt.len() - common) * COPIED_PER_COMPUTED;
        let lost = self.lost(sequence, start, own);
        computed + copied + self.cost_of_loss(sequence, lost, cuts)
    }

    /// What it costs that `lost` tokens of a sequence are overwritten.
    fn cost_of_loss(
        &self,
        sequence: usize,
        lost: usize,
        cuts: &impl Fn(usize, usize) -> bool,
    ) -> usize {
        let Some(kept) = self.of[sequence].as_ref().filter(|_| lost > 0) else {
            return 0;
        };
        let memory = &kept.memory;
        if self.shelf.covers(memory.owner, &memory.tokens, cuts) {
            return 0;
        }
        let age = usize::try_from(self.clock - kept.used_at).unwrap_or(usize::MAX - 1);
        let each = if self.shelf.bytes_max() > 0 {
            1
        } else {
            COPIED_PER_COMPUTED
        };
        lost * each / (1 + age)
    }
}

/// Whether a prompt that is read whole may be cut into pieces there.
fn is_cut(at: usize, prompt_len: usize) -> bool {
    at == 0 || at.is_multiple_of(GRID) && at + PIECE_MIN <= prompt_len
}

/// How much of `prompt` something holds.
///
/// What was only read is gone on from where a prompt that is read whole could have been cut, so that
/// its numbers are the same. What was written has others anyway, and is gone on from its end, but by
/// who is `exact`.
fn overlap(
    held: Held<'_>,
    exact: bool,
    prompt: &[Token],
    cuts: &impl Fn(usize, usize) -> bool,
) -> Overlap {
    let len = held.tokens.len();
    let pairs = held.tokens.iter().zip(prompt);
    let raw = pairs.take_while(|(known, wanted)| known == wanted).count();
    let known = if exact { raw.min(held.read_len) } else { raw };
    let common = known.min(prompt.len().saturating_sub(1));
    let cut = common.min(prompt.len().saturating_sub(PIECE_MIN));
    let cut = cut - cut % GRID;
    let can_cut = cut == len || cuts(len, cut);
    let usable = if common == len && !exact && (held.written || !can_cut) {
        common
    } else if can_cut {
        cut
    } else {
        0
    };
    Overlap {
        raw,
        usable,
        passes_on: false,
    }
}

#[cfg(test)]
mod tests;
