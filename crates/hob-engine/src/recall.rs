//! Giving a prompt a sequence and what is known of it already, and remembering what a sequence held
//! when its request ends.

use hob_ipc::message::PinId;

use crate::memories::{Choice, Memories, Memory, Reader, Source};
use crate::prompt::Token;
use crate::serve::Model;

/// A sequence for a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sequence.
    pub sequence: usize,
    /// How many tokens of the prompt it holds.
    pub cached: usize,
    /// How many of the prompt's tokens will be as in a prompt that is read whole, once all are read.
    pub read_len: usize,
    /// A pinned prefix that turned out to be of no use and is gone.
    pub lost: Option<PinId>,
}

/// The number of the sequence at `place`.
pub fn sequence_id(place: usize) -> u32 {
    // Places are counted from a number that came as u32.
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Makes a free sequence hold as much of `prompt` as is remembered for `reader`. What it held before
/// goes to the shelf. `None` if no sequence is free.
pub fn place<M: Model>(
    model: &mut M,
    memories: &mut Memories,
    reader: Option<Reader>,
    prompt: &[Token],
    is_free: impl Fn(usize) -> bool,
) -> Option<Place> {
    let cuts = |held, to| model.cuts(held, to);
    let choice = memories.choose(reader, prompt, is_free, cuts)?;
    let Choice {
        sequence,
        common,
        mut read_len,
        source,
        displaced,
    } = choice;
    let id = sequence_id(sequence);
    if let Some(memory) = displaced
        && memories
            .shelf
            .prepare(memory.owner, &memory.tokens, model.saved_bytes(id))
        && let Some(state) = model.save(id)
    {
        memories.shelf.put(memory, state);
    }
    let (mut cached, mut lost) = fill(model, memories, id, common, source);
    if cached == 0 && common > 0 {
        // It could not be cut after all: something whole may still be of use.
        let same = |free| free == sequence;
        if let Some(whole) = memories.choose(reader, prompt, same, |_, _| false) {
            read_len = whole.read_len;
            let (again, spoilt) = fill(model, memories, id, whole.common, whole.source);
            cached = again;
            lost = lost.or(spoilt);
        }
    }
    Some(Place {
        sequence,
        cached,
        read_len: if cached == 0 { prompt.len() } else { read_len },
        lost,
    })
}

/// Makes a sequence hold the first `common` tokens of a prompt: how many it holds then, all or
/// none, and a pinned prefix that turned out to be of no use and is gone.
fn fill<M: Model>(
    model: &mut M,
    memories: &mut Memories,
    sequence: u32,
    common: usize,
    source: Source,
) -> (usize, Option<PinId>) {
    let mut lost = None;
    let held = match source {
        Source::Nothing => false,
        Source::Sequence => model.keep(sequence, common),
        Source::Shelf {
            tokens,
            state,
            entry,
        } => {
            let restored = model.restore(sequence, tokens, &state);
            if !restored {
                lost = memories.shelf.remove(entry);
            }
            restored && model.keep(sequence, common)
        }
    };
    if !held {
        model.forget(sequence);
    }
    (if held { common } else { 0 }, lost)
}

/// Remembers the first `seen` tokens of a sequence that is free now, if the model still does.
pub fn remember<M: Model>(
    model: &mut M,
    memories: &mut Memories,
    sequence: usize,
    seen: usize,
    memory: Option<Memory>,
) {
    match memory {
        Some(memory) if seen > 0 && model.keep(sequence_id(sequence), seen) => {
            memories.keep(sequence, memory);
        }
        _ => model.forget(sequence_id(sequence)),
    }
}
