use super::*;
use hob_ipc::message::PinId;
use proptest::prelude::*;

const OWNER: Owner = Owner::User(1000);
const OTHER: Owner = Owner::User(1001);

const READER: Option<Reader> = Some(Reader {
    owner: OWNER,
    exact: false,
});
const EXACT: Option<Reader> = Some(Reader {
    owner: OWNER,
    exact: true,
});

/// A memory whose answer has one token.
fn memory(owner: Owner, tokens: &[Token]) -> Memory {
    with_answer(owner, tokens, 1)
}

/// A memory whose answer has so many tokens, behind a prompt that was read whole.
fn with_answer(owner: Owner, tokens: &[Token], answer: usize) -> Memory {
    let prompt_len = tokens.len().saturating_sub(answer);
    Memory {
        owner,
        tokens: tokens.to_vec(),
        prompt_len,
        read_len: prompt_len,
    }
}

fn memories(shelf_bytes: usize, of: &[(Owner, &[Token])]) -> Memories {
    let mut memories = Memories::new(of.len(), shelf_bytes);
    for (sequence, (owner, tokens)) in of.iter().enumerate() {
        if !tokens.is_empty() {
            memories.keep(sequence, memory(*owner, tokens));
        }
    }
    memories
}

fn choice(memories: &mut Memories, prompt: &[Token]) -> Choice {
    let choice = memories.choose(READER, prompt, |_| true, |_, _| true);
    choice.unwrap_or_else(|| panic!("all sequences are free"))
}

fn choose(memories: &mut Memories, prompt: &[Token]) -> (usize, usize) {
    let choice = choice(memories, prompt);
    (choice.sequence, choice.common)
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
    let mut memories = memories(
        0,
        &[(OWNER, &tokens(40)), (OWNER, &tokens(70)), (OWNER, &[])],
    );
    assert_eq!(choose(&mut memories, &tokens(90)), (1, 70));
    // It is taken now; the next best comes next.
    assert_eq!(choose(&mut memories, &tokens(90)), (0, 40));
}

#[test]
fn what_is_cut_is_cut_on_the_grid_and_leaves_a_whole_piece() {
    let mut memories = memories(0, &[(OWNER, &tokens(200))]);
    assert_eq!(choose(&mut memories, &other(70, 180)), (0, 64));
    for (prompt, common) in [(64, 0), (100, 32), (164, 96), (200, 128), (201, 200)] {
        memories.keep(0, memory(OWNER, &tokens(200)));
        assert_eq!(choose(&mut memories, &tokens(prompt)), (0, common));
    }
}

#[test]
fn what_was_only_read_is_gone_on_from_with_a_whole_piece() {
    let mut memories = memories(1 << 20, &[(OWNER, &[])]);
    for (prompt, common) in [(210, 144), (300, 192)] {
        let held = with_answer(OWNER, &tokens(200), 0);
        memories.shelf.put(held.clone(), vec![0]);
        assert_eq!(choice(&mut memories, &tokens(prompt)).common, common);
        memories.keep(0, held);
        assert_eq!(choose(&mut memories, &tokens(prompt)), (0, common));
        // What can't be cut is better than nothing.
        let choice = memories.choose(READER, &tokens(prompt), |_| true, |_, _| false);
        assert_eq!(choice.map(|choice| choice.common), Some(200));
    }
}

#[test]
fn what_can_not_be_cut_is_used_whole_or_not_at_all() {
    let mut memories = memories(0, &[(OWNER, &tokens(100))]);
    let choice = memories.choose(READER, &other(70, 80), |_| true, |_, _| false);
    assert_eq!(choice.map(|choice| choice.common), Some(0));
    memories.keep(0, memory(OWNER, &tokens(100)));
    let choice = memories.choose(READER, &tokens(120), |_| true, |_, _| false);
    assert_eq!(choice.map(|choice| choice.common), Some(100));
}

#[test]
fn who_is_exact_goes_on_from_what_was_read_alone() {
    for on_shelf in [false, true] {
        let mut memories = memories(1 << 20, &[(OWNER, &[])]);
        let remember = |memories: &mut Memories, held: Memory| {
            if on_shelf {
                memories.shelf.put(held, vec![0]);
            } else {
                memories.keep(0, held);
            }
        };
        // A turn of 100 tokens and an answer of 60, then the next.
        remember(&mut memories, with_answer(OWNER, &tokens(160), 60));
        let exact = memories.choose(EXACT, &tokens(300), |_| true, |_, _| true);
        let exact = exact.unwrap_or_else(|| panic!("all are free"));
        assert_eq!((exact.common, exact.read_len), (96, 300));
        remember(&mut memories, with_answer(OWNER, &tokens(160), 60));
        let usual = choice(&mut memories, &tokens(300));
        assert_eq!((usual.common, usual.read_len), (160, 100));
        // What is behind a written answer was not read as a whole prompt is.
        let held = Memory {
            prompt_len: 300,
            read_len: usual.read_len,
            ..memory(OWNER, &tokens(340))
        };
        remember(&mut memories, held);
        let exact = memories.choose(EXACT, &tokens(500), |_| true, |_, _| true);
        assert_eq!(exact.map(|choice| choice.common), Some(96));
        // What can't be cut is of no use to who is exact.
        remember(&mut memories, with_answer(OWNER, &tokens(160), 60));
        let whole = memories.choose(EXACT, &tokens(300), |_| true, |_, _| false);
        assert_eq!(whole.map(|choice| choice.common), Some(0));
    }
}

#[test]
fn another_conversation_is_left_alone_while_there_is_room() {
    let mut memories = memories(0, &[(OWNER, &tokens(200)), (OWNER, &[])]);
    assert_eq!(choose(&mut memories, &other(64, 150)), (1, 0));
    // Without room, the common part at least is used.
    memories.keep(1, memory(OWNER, &other(0, 9)));
    assert_eq!(choose(&mut memories, &other(64, 150)), (0, 64));
}

#[test]
fn an_answer_that_reads_back_in_other_tokens_is_superseded() {
    // A prompt of 64 tokens and a long answer, of which the next turn's text has 6 in common.
    let mut memories = memories(0, &[(OWNER, &[]), (OWNER, &[])]);
    memories.keep(0, with_answer(OWNER, &tokens(300), 236));
    let choice = choice(&mut memories, &other(70, 330));
    assert_eq!((choice.sequence, choice.common), (0, 64));
    assert_eq!(choice.displaced, None);
}

#[test]
fn nothing_is_shared_between_users() {
    let mut memories = memories(1 << 20, &[(OTHER, &tokens(40))]);
    memories.shelf.put(memory(OTHER, &tokens(45)), vec![0; 9]);
    assert_eq!(choose(&mut memories, &tokens(50)), (0, 0));
    memories.keep(0, memory(OWNER, &tokens(40)));
    let choice = memories.choose(None, &tokens(50), |_| true, |_, _| true);
    assert_eq!(choice.map(|choice| choice.common), Some(0));
}

#[test]
fn what_everybody_has_serves_everybody_who_remembers_at_all() {
    let mut memories = memories(1 << 20, &[(OWNER, &[])]);
    let pinned = memories
        .shelf
        .pin(PinId(1), Owner::Everyone, tokens(64), vec![0; 9]);
    assert_eq!(pinned, Ok(vec![]));
    assert_eq!(choose(&mut memories, &tokens(150)), (0, 64));
    let choice = memories.choose(None, &tokens(150), |_| true, |_, _| true);
    assert_eq!(choice.map(|choice| choice.common), Some(0));
}

#[test]
fn what_everybody_has_stays_theirs_when_somebody_goes_on_from_it() {
    let mut memories = memories(1 << 20, &[(Owner::Everyone, &tokens(64))]);
    let choice = choice(&mut memories, &tokens(80));
    assert_eq!((choice.common, choice.source), (64, Source::Sequence));
    let displaced = memory(Owner::Everyone, &tokens(64));
    assert_eq!(choice.displaced, Some(displaced));
}

#[test]
fn only_free_sequences_are_chosen() {
    let mut memories = memories(0, &[(OWNER, &tokens(70)), (OWNER, &tokens(32))]);
    let free = |sequence| sequence == 1;
    let choice = memories.choose(READER, &tokens(70), free, |_, _| true);
    assert_eq!(choice.map(|c| (c.sequence, c.common)), Some((1, 32)));
    let none = memories.choose(READER, &tokens(70), |_| false, |_, _| true);
    assert_eq!(none, None);
}

#[test]
fn what_is_overwritten_goes_to_the_shelf_and_comes_back() {
    let mut memories = memories(1 << 20, &[(OWNER, &tokens(100))]);
    let first = choice(&mut memories, &other(0, 50));
    assert_eq!((first.common, first.source), (0, Source::Nothing));
    let displaced = first
        .displaced
        .unwrap_or_else(|| panic!("nothing displaced"));
    assert_eq!(displaced, memory(OWNER, &tokens(100)));
    memories.shelf.put(displaced, vec![1, 2, 3]);
    memories.keep(0, memory(OWNER, &other(0, 50)));
    let back = choice(&mut memories, &tokens(120));
    assert_eq!(back.common, 100);
    let state = Arc::new(vec![1, 2, 3]);
    let entry = memories.shelf.entries()[0].number;
    let tokens = 100;
    assert_eq!(
        back.source,
        Source::Shelf {
            entry,
            tokens,
            state
        }
    );
    assert_eq!(back.displaced, Some(memory(OWNER, &other(0, 50))));
}

#[test]
fn what_lies_on_the_shelf_already_is_not_put_there_again() {
    let mut memories = memories(1 << 20, &[(OWNER, &tokens(64))]);
    memories.shelf.put(memory(OWNER, &tokens(70)), vec![0]);
    assert_eq!(choice(&mut memories, &other(0, 50)).displaced, None);
}

#[test]
fn what_everybody_had_is_forgotten_with_its_pin() {
    let everyone = Owner::Everyone;
    let held = [
        (everyone, &tokens(64)[..]),
        (OWNER, &tokens(64)),
        (everyone, &other(0, 64)),
    ];
    let mut memories = memories(1 << 20, &held);
    memories.shelf.put(memory(everyone, &tokens(48)), vec![0]);
    memories.shelf.put(memory(OWNER, &tokens(48)), vec![0]);
    assert_eq!(memories.forget_everyones(&tokens(64)), [0]);
    assert_eq!(memories.shelf.entries().len(), 1);
    assert_eq!(
        choose(&mut memories, &tokens(80)),
        (1, 64),
        "one's own stays"
    );
}

/// Tokens of which many begin alike.
fn some_tokens() -> impl Strategy<Value = Vec<Token>> {
    (0_usize..80, 0_usize..40).prop_map(|(common, more)| other(common, common + more))
}

fn some_owner() -> impl Strategy<Value = Owner> {
    prop_oneof![Just(OWNER), Just(OTHER), Just(Owner::Everyone)]
}

proptest! {
    #[test]
    fn what_is_used_is_a_prefix_of_the_prompt_and_the_readers_to_use(
        held in proptest::collection::vec((some_owner(), some_tokens()), 1..5),
        shelved in proptest::collection::vec((some_owner(), some_tokens()), 0..5),
        prompt in some_tokens(),
        shelf_bytes in prop_oneof![Just(0_usize), Just(100_000)],
        cuts in any::<bool>(),
        exact in any::<bool>(),
    ) {
        prop_assume!(!prompt.is_empty());
        let pairs: Vec<_> = held.iter().map(|(o, t)| (*o, t.as_slice())).collect();
        let mut memories = memories(shelf_bytes, &pairs);
        for (owner, tokens) in shelved {
            memories.shelf.put(memory(owner, &tokens), vec![0; 50]);
        }
        let entries = memories.shelf.entries().to_vec();
        let reader = if exact { EXACT } else { READER };
        let choice = memories.choose(reader, &prompt, |_| true, |_, _| cuts);
        let choice = choice.ok_or_else(|| TestCaseError::fail("all are free"))?;
        prop_assert!(choice.common < prompt.len());
        let (owner, tokens) = match &choice.source {
            Source::Nothing => {
                prop_assert_eq!(choice.common, 0);
                return Ok(());
            }
            Source::Sequence => held[choice.sequence].clone(),
            Source::Shelf { entry, tokens, .. } => {
                let entry = entries.iter().find(|e| e.number == *entry);
                let entry = entry.ok_or_else(|| TestCaseError::fail("no such entry"))?;
                prop_assert_eq!(*tokens, entry.tokens.len());
                (entry.owner, entry.tokens.clone())
            }
        };
        prop_assert!(owner.serves(OWNER));
        prop_assert_eq!(&tokens[..choice.common], &prompt[..choice.common]);
        let whole = choice.common == tokens.len();
        prop_assert!(whole || cuts && choice.common % GRID == 0);
        if exact {
            prop_assert!(choice.common < tokens.len() && is_cut(choice.common, prompt.len()));
            prop_assert_eq!(choice.read_len, prompt.len());
        }
        if let Some(displaced) = choice.displaced {
            prop_assert_eq!(&displaced.tokens, &held[choice.sequence].1);
        }
    }

    #[test]
    fn with_everything_empty_but_one_match_the_match_is_used(
        length in 1_usize..200, more in 1_usize..50, on_shelf in any::<bool>(),
    ) {
        let mut memories = memories(1 << 20, &[(OWNER, &[]), (OWNER, &[])]);
        if on_shelf {
            memories.shelf.put(memory(OWNER, &tokens(length)), vec![0; 10]);
        } else {
            memories.keep(1, memory(OWNER, &tokens(length)));
        }
        prop_assert_eq!(choose(&mut memories, &tokens(length + more)).1, length);
    }
}
