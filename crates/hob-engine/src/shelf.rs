//! What sequences held before they were needed for something else, as bytes in memory. Pure.
//!
//! A sequence that goes to another conversation is put on the shelf, and taken back from it when
//! its own goes on. Pinned prefixes lie here for good. The bytes on the shelf are bounded; what was
//! used the longest ago goes first, and pinned prefixes go last.

use std::sync::Arc;

use hob_ipc::message::PinId;

use crate::memories::Memory;
use crate::prompt::Token;

/// Shorter beginnings are computed again before they are found.
pub const TOKENS_MIN: usize = 32;

/// Whose requests may go on from something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// One user's.
    User(u32),
    /// Everybody's: only what an administrator pinned.
    Everyone,
}

impl Owner {
    /// The owner that a message names.
    pub fn new(uid: Option<u32>) -> Self {
        uid.map_or(Self::Everyone, Self::User)
    }

    /// Whether what this owner has may be used for `other`.
    pub fn serves(self, other: Self) -> bool {
        self == Self::Everyone || self == other
    }
}

/// Something on the shelf.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose it is.
    pub owner: Owner,
    /// What the model had seen.
    pub tokens: Vec<Token>,
    /// How many of them are as in a prompt that is read whole.
    pub read_len: usize,
    /// Whether the last of them were written, and not read.
    pub written: bool,
    /// What it remembered of them, in llama.cpp's own format.
    pub state: Arc<Vec<u8>>,
    /// The pinned prefix that this is, if it is one.
    pub pin: Option<PinId>,
    /// Its number, never used again.
    pub number: u64,
    used_at: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.state.len() + size_of_val(self.tokens.as_slice())
    }
}

/// A pinned prefix does not fit beside those that are pinned already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The shelf.
#[derive(Debug)]
pub struct Shelf {
    entries: Vec<Entry>,
    bytes_max: usize,
    clock: u64,
}

impl Shelf {
    /// An empty shelf for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            bytes_max,
            clock: 0,
        }
    }

    /// Most bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(Entry::bytes).sum()
    }

    /// What lies there, in no order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The pinned prefix `id`.
    pub fn pinned(&self, id: PinId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.pin == Some(id))
    }

    /// Whether `owner` finds at least these tokens here.
    pub fn covers(
        &self,
        owner: Owner,
        tokens: &[Token],
        cuts: impl Fn(usize, usize) -> bool,
    ) -> bool {
        self.entries.iter().any(|entry| {
            let whole = entry.tokens.len() == tokens.len();
            entry.owner.serves(owner)
                && entry.tokens.starts_with(tokens)
                && (whole || cuts(entry.tokens.len(), tokens.len()))
        })
    }

    /// Notes that entry `index` was of use.
    pub fn touch(&mut self, index: usize) {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(index) {
            entry.used_at = self.clock;
        }
    }

    /// Makes room for what [`Shelf::put`] would put there, with so many bytes of state: before these
    /// take memory themselves. False if they do not fit beside the pinned prefixes.
    pub fn prepare(&mut self, owner: Owner, tokens: &[Token], state_bytes: usize) -> bool {
        let bytes = state_bytes + size_of_val(tokens);
        let pinned = |entry: &&Entry| entry.pin.is_some();
        let kept: usize = self.entries.iter().filter(pinned).map(Entry::bytes).sum();
        if kept + bytes > self.bytes_max {
            return false;
        }
        // What the new one goes on from would only be found after it.
        self.entries.retain(|old| {
            old.pin.is_some() || old.owner != owner || !tokens.starts_with(&old.tokens)
        });
        self.make_room(bytes, |entry| entry.pin.is_none());
        true
    }

    /// Puts what a sequence held there, in place of what has been there the longest unused. What does not
    /// fit beside the pinned prefixes is left out. False if so.
    pub fn put(&mut self, memory: Memory, state: Vec<u8>) -> bool {
        let written = memory.is_written();
        let Memory {
            owner,
            tokens,
            read_len,
            ..
        } = memory;
        if !self.prepare(owner, &tokens, state.len()) {
            return false;
        }
        let entry = self.entry(owner, tokens, state, None);
        self.entries.push(Entry {
            read_len,
            written,
            ..entry
        });
        true
    }

    /// Puts a pinned prefix there, in place of whatever is not pinned; one of everybody's also in
    /// place of users' own, whose numbers are returned.
    ///
    /// # Errors
    /// [`NoRoom`]; then nothing has changed.
    pub fn pin(
        &mut self,
        id: PinId,
        owner: Owner,
        tokens: Vec<Token>,
        state: Vec<u8>,
    ) -> Result<Vec<PinId>, NoRoom> {
        let entry = self.entry(owner, tokens, state, Some(id));
        let yields = |old: &Entry| {
            let gives_way = owner == Owner::Everyone && old.owner != Owner::Everyone;
            old.pin.is_none() || old.pin == Some(id) || gives_way
        };
        let stays = |old: &&Entry| !yields(old);
        let kept: usize = self.entries.iter().filter(stays).map(Entry::bytes).sum();
        if kept + entry.bytes() > self.bytes_max {
            return Err(NoRoom);
        }
        self.entries.retain(|old| old.pin != Some(id));
        let lost = self.make_room(entry.bytes(), yields);
        self.entries.push(entry);
        Ok(lost)
    }

    /// Takes a pinned prefix away.
    pub fn unpin(&mut self, id: PinId) {
        self.entries.retain(|entry| entry.pin != Some(id));
    }

    /// Takes away what is not pinned and is of this kind.
    pub fn forget(&mut self, kind: impl Fn(Owner, &[Token]) -> bool) {
        self.entries
            .retain(|entry| entry.pin.is_some() || !kind(entry.owner, &entry.tokens));
    }

    /// Takes an entry away that turned out to be of no use, and says which pinned prefix it was.
    pub fn remove(&mut self, number: u64) -> Option<PinId> {
        let index = self.entries.iter().position(|e| e.number == number)?;
        self.entries.swap_remove(index).pin
    }

    /// Keeps at most so many bytes from now on, and returns the pinned prefixes that this costs.
    pub fn limit(&mut self, bytes_max: usize) -> Vec<PinId> {
        self.bytes_max = bytes_max;
        self.make_room(0, |_| true)
    }

    /// Drops entries that `may_go` until `bytes` more fit: the longest unused first, pinned ones
    /// last.
    fn make_room(&mut self, bytes: usize, may_go: impl Fn(&Entry) -> bool) -> Vec<PinId> {
        let mut lost = Vec::new();
        while self.bytes() + bytes > self.bytes_max {
            let candidates = self.entries.iter().enumerate().filter(|(_, e)| may_go(e));
            let oldest = candidates.min_by_key(|(_, e)| (e.pin.is_some(), e.used_at));
            let Some((index, _)) = oldest else { break };
            lost.extend(self.entries.swap_remove(index).pin);
        }
        lost
    }

    fn entry(
        &mut self,
        owner: Owner,
        tokens: Vec<Token>,
        state: Vec<u8>,
        pin: Option<PinId>,
    ) -> Entry {
        self.clock += 1;
        Entry {
            owner,
            read_len: tokens.len(),
            tokens,
            written: false,
            state: Arc::new(state),
            pin,
            number: self.clock,
            used_at: self.clock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALMA: Owner = Owner::User(1);
    const BRUNO: Owner = Owner::User(2);

    fn tokens(from: Token, length: usize) -> Vec<Token> {
        (from..).take(length).collect()
    }

    fn read(owner: Owner, tokens: Vec<Token>) -> Memory {
        let prompt_len = tokens.len();
        Memory {
            owner,
            tokens,
            prompt_len,
            read_len: prompt_len,
        }
    }

    /// A state such that the entry has `bytes` bytes with its one token.
    fn state(bytes: usize) -> Vec<u8> {
        vec![0; bytes - size_of::<Token>()]
    }

    fn put(shelf: &mut Shelf, token: Token, bytes: usize) -> bool {
        shelf.put(read(ALMA, vec![token]), state(bytes))
    }

    fn pin(shelf: &mut Shelf, id: u64, owner: Owner, bytes: usize) -> Result<Vec<PinId>, NoRoom> {
        let token = Token::try_from(id).unwrap_or_default();
        shelf.pin(PinId(id), owner, vec![token], state(bytes))
    }

    fn first_tokens(shelf: &Shelf) -> Vec<Token> {
        let mut first: Vec<_> = shelf.entries().iter().map(|e| e.tokens[0]).collect();
        first.sort_unstable();
        first
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let mut shelf = Shelf::new(100);
        for token in 1..=4 {
            assert!(put(&mut shelf, token, 25));
        }
        let first = shelf.entries().iter().position(|e| e.tokens == [1]);
        shelf.touch(first.unwrap_or(usize::MAX));
        assert!(put(&mut shelf, 5, 30));
        assert_eq!(first_tokens(&shelf), [1, 4, 5]);
        assert!(!put(&mut shelf, 6, 101), "larger than the shelf");
        assert_eq!(first_tokens(&shelf), [1, 4, 5]);
    }

    #[test]
    fn room_is_made_before_it_is_taken() {
        let mut shelf = Shelf::new(100);
        assert!(put(&mut shelf, 1, 60));
        assert!(!shelf.prepare(ALMA, &[2], 100), "larger than the shelf");
        assert_eq!(first_tokens(&shelf), [1]);
        assert!(shelf.prepare(ALMA, &[2], 50));
        assert_eq!(shelf.bytes(), 0);
    }

    #[test]
    fn a_conversation_lies_there_once() {
        let mut shelf = Shelf::new(10_000);
        assert!(shelf.put(read(ALMA, tokens(0, 40)), vec![0; 100]));
        assert!(shelf.put(read(BRUNO, tokens(0, 40)), vec![0; 100]));
        assert!(shelf.put(read(ALMA, tokens(0, 60)), vec![0; 100]));
        let lengths: Vec<_> = shelf.entries().iter().map(|e| e.tokens.len()).collect();
        assert_eq!(lengths, [40, 60], "Bruno's and the longer one of Alma's");
        assert!(shelf.covers(ALMA, &tokens(0, 48), |_, _| true));
        assert!(!shelf.covers(ALMA, &tokens(0, 48), |_, _| false));
        assert!(!shelf.covers(BRUNO, &tokens(0, 48), |_, _| true));
    }

    #[test]
    fn pinned_prefixes_go_last() {
        let mut shelf = Shelf::new(100);
        assert_eq!(pin(&mut shelf, 1, ALMA, 40), Ok(vec![]));
        assert!(put(&mut shelf, 7, 50));
        assert!(!put(&mut shelf, 8, 70), "only what is left beside the pin");
        assert_eq!(pin(&mut shelf, 2, BRUNO, 60), Ok(vec![]));
        assert_eq!(first_tokens(&shelf), [1, 2]);
        assert_eq!(pin(&mut shelf, 3, BRUNO, 30), Err(NoRoom));
        // An administrator's comes before users' own, the longest unused first.
        assert_eq!(pin(&mut shelf, 4, Owner::Everyone, 30), Ok(vec![PinId(1)]));
        assert_eq!(pin(&mut shelf, 5, Owner::Everyone, 80), Err(NoRoom));
        assert_eq!(shelf.limit(30), [PinId(2)]);
        assert_eq!(shelf.limit(0), [PinId(4)]);
        assert_eq!(shelf.bytes(), 0);
    }

    #[test]
    fn a_prefix_that_is_pinned_again_replaces_itself() {
        let mut shelf = Shelf::new(100);
        assert_eq!(pin(&mut shelf, 1, ALMA, 80), Ok(vec![]));
        assert_eq!(pin(&mut shelf, 1, ALMA, 90), Ok(vec![]));
        assert_eq!(shelf.bytes(), 90);
        shelf.unpin(PinId(1));
        assert!(shelf.pinned(PinId(1)).is_none());
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_no_pin_is_lost_unsaid(
            steps in proptest::collection::vec((0_u8..4, 1_u64..6, 4_usize..60), 0..60),
        ) {
            let mut shelf = Shelf::new(100);
            let mut pins = std::collections::BTreeSet::new();
            for (what, id, bytes) in steps {
                match what {
                    0 => {
                        put(&mut shelf, 100 + Token::try_from(id).unwrap_or_default(), bytes);
                    }
                    1 | 2 => {
                        let owner = if what == 1 { ALMA } else { Owner::Everyone };
                        if let Ok(lost) = pin(&mut shelf, id, owner, bytes) {
                            pins.insert(PinId(id));
                            pins.retain(|pin| !lost.contains(pin));
                        }
                    }
                    _ => {
                        let lost = shelf.limit(bytes * 2);
                        pins.retain(|pin| !lost.contains(pin));
                    }
                }
                prop_assert!(shelf.bytes() <= shelf.bytes_max());
                let there: std::collections::BTreeSet<_> =
                    shelf.entries().iter().filter_map(|e| e.pin).collect();
                prop_assert_eq!(&there, &pins);
            }
        }
    }
}
