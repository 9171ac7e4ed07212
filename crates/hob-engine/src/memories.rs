//! What the model still knows of requests that ended, and where a new one goes on from it. Pure.
//!
//! A sequence whose request ended keeps its computed tokens. A later request of the same user that
//! begins with the same tokens need not compute them again: the next turn of a chat, or another
//! question behind the same long instructions. Nothing is ever shared between users, so that how
//! quickly an answer comes tells nobody what others asked.

use crate::prompt::Token;
use crate::slots::GRID;

/// What a sequence without a request holds.
#[derive(Debug)]
struct Memory {
    owner: u32,
    /// What the model has seen, at least one.
    tokens: Vec<Token>,
    used_at: u64,
}

/// The place for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// A free sequence.
    pub sequence: usize,
    /// How many tokens of the prompt it holds already: less than the prompt has, as the last
    /// one's logits are needed.
    pub common: usize,
}

/// The memories of all sequences.
#[derive(Debug)]
pub struct Memories {
    of: Vec<Option<Memory>>,
    clock: u64,
}

impl Memories {
    /// None yet, of so many sequences.
    pub fn new(sequences: usize) -> Self {
        Self {
            of: (0..sequences).map(|_| None).collect(),
            clock: 0,
        }
    }

    /// Chooses a free sequence for a prompt, and takes what it remembers.
    ///
    /// A sequence that shares at least half of what it holds goes on. Otherwise it may belong to
    /// another conversation, and the least is lost with an empty sequence, or else with the one
    /// that was used the longest ago.
    pub fn choose(
        &mut self,
        owner: Option<u32>,
        prompt: &[Token],
        is_free: impl Fn(usize) -> bool,
    ) -> Option<Choice> {
        let free = (0..self.of.len()).filter(|sequence| is_free(*sequence));
        let choices = free.map(|sequence| Choice {
            sequence,
            common: self.common(sequence, owner, prompt),
        });
        let choice = choices.min_by_key(|choice| {
            let (length, used_at) = self.of[choice.sequence]
                .as_ref()
                .map_or((0, 0), |memory| (memory.tokens.len(), memory.used_at));
            let goes_on = choice.common > 0 && choice.common * 2 >= length;
            let gained = if goes_on { choice.common } else { 0 };
            (!goes_on, std::cmp::Reverse(gained), length > 0, used_at)
        })?;
        self.of[choice.sequence] = None;
        Some(choice)
    }

    /// Remembers what a sequence without a request holds.
    pub fn keep(&mut self, sequence: usize, owner: u32, tokens: Vec<Token>) {
        self.clock += 1;
        self.of[sequence] = Some(Memory {
            owner,
            tokens,
            used_at: self.clock,
        });
    }

    fn common(&self, sequence: usize, owner: Option<u32>, prompt: &[Token]) -> usize {
        let memory = self.of[sequence].as_ref();
        let Some(memory) = memory.filter(|memory| Some(memory.owner) == owner) else {
            return 0;
        };
        let pairs = memory.tokens.iter().zip(prompt);
        let common = pairs.take_while(|(known, wanted)| known == wanted).count();
        let common = common.min(prompt.len().saturating_sub(1));
        if common == memory.tokens.len() {
            common
        } else {
            // What is cut goes on from where a prompt that is read whole would have been cut.
            common - common % GRID
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: u32 = 1000;

    fn memories(of: &[(u32, &[Token])]) -> Memories {
        let mut memories = Memories::new(of.len());
        for (sequence, (owner, tokens)) in of.iter().enumerate() {
            if !tokens.is_empty() {
                memories.keep(sequence, *owner, tokens.to_vec());
            }
        }
        memories
    }

    fn choose(memories: &mut Memories, prompt: &[Token]) -> (usize, usize) {
        let choice = memories.choose(Some(OWNER), prompt, |_| true);
        choice.map_or((99, 0), |choice| (choice.sequence, choice.common))
    }

    /// `length` tokens that begin as all others do.
    fn tokens(length: usize) -> Vec<Token> {
        (0..).take(length).collect()
    }

    /// `common` of those, then others.
    fn other(common: usize, length: usize) -> Vec<Token> {
        (0..)
            .take(common)
            .chain((-999..).take(length - common))
            .collect()
    }

    #[test]
    fn the_longest_prefix_is_gone_on_from() {
        let mut memories = memories(&[(OWNER, &tokens(40)), (OWNER, &tokens(70)), (OWNER, &[])]);
        assert_eq!(choose(&mut memories, &tokens(90)), (1, 70));
        // It is taken now; the next best comes next.
        assert_eq!(choose(&mut memories, &tokens(90)), (0, 40));
    }

    #[test]
    fn what_is_cut_is_cut_on_the_grid_and_before_the_last_token() {
        let mut memories = memories(&[(OWNER, &tokens(100))]);
        assert_eq!(choose(&mut memories, &other(70, 80)), (0, 64));
        memories.keep(0, OWNER, tokens(100));
        assert_eq!(choose(&mut memories, &tokens(65)), (0, 64));
        memories.keep(0, OWNER, tokens(100));
        assert_eq!(choose(&mut memories, &tokens(64)), (0, 48));
        memories.keep(0, OWNER, tokens(100));
        assert_eq!(choose(&mut memories, &tokens(100)), (0, 96));
    }

    #[test]
    fn another_conversation_is_left_alone_while_there_is_room() {
        let mut memories = memories(&[(OWNER, &tokens(100)), (OWNER, &[])]);
        assert_eq!(choose(&mut memories, &other(32, 50)), (1, 0));
        // Without room, the common part at least is used.
        memories.keep(1, OWNER, other(0, 9));
        assert_eq!(choose(&mut memories, &other(32, 50)), (0, 32));
    }

    #[test]
    fn nothing_is_shared_between_users() {
        let mut memories = memories(&[(OWNER + 1, &tokens(40))]);
        assert_eq!(choose(&mut memories, &tokens(50)), (0, 0));
        memories.keep(0, OWNER, tokens(40));
        let choice = memories.choose(None, &tokens(50), |_| true);
        assert_eq!(choice.map(|choice| choice.common), Some(0));
    }

    #[test]
    fn only_free_sequences_are_chosen() {
        let mut memories = memories(&[(OWNER, &tokens(70)), (OWNER, &tokens(32))]);
        let choice = memories.choose(Some(OWNER), &tokens(70), |sequence| sequence == 1);
        let expected = Choice {
            sequence: 1,
            common: 32,
        };
        assert_eq!(choice, Some(expected));
        assert_eq!(memories.choose(Some(OWNER), &tokens(70), |_| false), None);
    }
}
