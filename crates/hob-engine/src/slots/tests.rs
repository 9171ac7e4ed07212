use super::*;
use proptest::prelude::*;

fn slot(arrival: u64, prompt: usize, seen: usize, last: Option<Token>) -> Slot<()> {
    let now = Instant::now();
    Slot {
        id: RequestId(arrival),
        owner: None,
        tokens: (0..).take(prompt).chain(last).collect(),
        prompt_len: prompt,
        read_len: prompt,
        cached: 0,
        seen,
        fresh: usize::from(last.is_some()),
        grammar: None,
        cut: false,
        forced: 0,
        passes: 0,
        class: Class::Chat,
        drafts: true,
        acceptance: Acceptance::default(),
        turn: 0,
        owed: Duration::ZERO,
        max_tokens: 1,
        answer: Answer::default(),
        sampler: (),
        received: now,
        prompt_done: None,
        reported: now,
        arrival,
    }
}

/// Whose prompt is read next.
fn next(slots: &[Option<Slot<()>>], now: Instant) -> Option<usize> {
    next_to_read(slots, now).map(|(_, place)| place)
}

#[test]
fn every_answer_is_written_and_one_prompt_read() {
    let slots = [
        slot(3, 50, 0, None),
        slot(1, 4, 4, Some(7)),
        slot(2, 5, 5, Some(8)),
    ]
    .map(Some);
    let plan = writing(&slots, 512, |place, _| vec![9; place - 1]);
    let shares = |plan: &Plan| -> Vec<_> {
        let shares = plan.shares.iter();
        shares.map(|s| (s.slot, s.rows, s.logits)).collect()
    };
    assert_eq!(shares(&plan), [(1, 1, Some(0)), (2, 2, Some(1))]);
    let row = |row: &Row| (row.token, row.position, row.sequence, row.logits);
    let rows: Vec<_> = plan.rows.iter().map(row).collect();
    assert_eq!(rows, [(7, 4, 1, true), (8, 5, 2, true), (9, 6, 2, true)]);
    assert_eq!(shares(&reading(&slots, 0, 16, 256)), [(0, 16, None)]);
    assert_eq!(shares(&reading(&slots, 0, 64, 256)), [(0, 50, Some(49))]);
}

#[test]
fn a_sequence_that_was_lost_is_read_again_with_its_answer() {
    let mut lost = slot(1, 4, 4, Some(7));
    lost.tokens.push(8);
    lost.seen = 0;
    assert_eq!(lost.to_read(), 6);
    let plan = reading(&[Some(lost)], 0, 64, 256);
    assert_eq!((plan.rows.len(), plan.shares[0].logits), (6, Some(5)));
}

#[test]
fn the_most_urgent_prompt_is_read_first_and_equals_take_turns() {
    fn set(slots: &mut [Option<Slot<()>>], at: usize, change: impl FnOnce(&mut Slot<()>)) {
        if let Some(slot) = &mut slots[at] {
            change(slot);
        }
    }
    let mut slots = [slot(1, 50, 0, None), slot(2, 50, 0, None)].map(Some);
    let now = Instant::now();
    let mut order = Vec::new();
    for turn in 1..=4 {
        let place = next(&slots, now).unwrap_or(9);
        order.push(place);
        set(&mut slots, place, |slot| slot.turn = turn);
    }
    assert_eq!(order, [0, 1, 0, 1]);
    set(&mut slots, 1, |slot| slot.class = Class::Voice);
    assert_eq!(next(&slots, now), Some(1));
    set(&mut slots, 1, |slot| slot.class = Class::Batch);
    assert_eq!(next(&slots, now), Some(0));
    // Waiting counts: one class after so long, two after twice as long.
    assert_eq!(next(&slots, now + AGEING * 2), Some(0), "in turns");
    set(&mut slots, 0, |slot| slot.turn = 9);
    assert_eq!(next(&slots, now + AGEING), Some(0));
    assert_eq!(next(&slots, now + AGEING * 2), Some(1));
}

#[test]
fn a_prompt_is_cut_on_the_grid_whatever_the_pace() {
    let shares = |seen: usize, room: usize| {
        let mut slot = slot(1, 200, seen, None);
        let mut shares = Vec::new();
        while slot.to_read() > 0 {
            let share = slot.share(room, 256);
            slot.seen += share;
            shares.push(share);
        }
        shares
    };
    assert_eq!(shares(0, 512), [200]);
    assert_eq!(shares(0, 192), [128, 72]);
    assert_eq!(shares(0, 150), [128, 72]);
    assert_eq!(shares(0, 64), [64, 64, 72]);
    assert_eq!(shares(80, 64), [120], "no piece is too short");
    assert_eq!(shares(70, 100), [66, 64]);
    assert_eq!(shares(195, 512), [5]);
    assert_eq!(shares(0, 16)[..11], [16; 11], "a slow board");
    assert_eq!(shares(130, 16), [16, 16, 16, 22], "a slow board");
}

#[test]
fn the_pace_settles_where_a_step_takes_its_target() {
    let mut pace = Pace::new(STEP_SHARED, CHUNK_MIN, 512);
    for _ in 0..20 {
        // A board with 100 tokens a second.
        pace.learn(
            pace.chunk(),
            Duration::from_millis(10) * u32::try_from(pace.chunk()).unwrap_or(0),
        );
    }
    assert_eq!(pace.chunk(), 16, "20, on the grid");
    pace.learn(1, Duration::from_secs(9));
    assert_eq!(pace.chunk(), 16, "a small step says little");
}

proptest! {
    #[test]
    fn no_plan_is_out_of_bounds(
        slots in proptest::collection::vec(
            (0_u64..9, 1_usize..40, 0_usize..50, any::<bool>(), any::<bool>()), 1..6),
        room in 1_usize..64,
        batch in 8_usize..64,
        draft in 0_usize..12,
    ) {
        let slots: Vec<_> = slots
            .into_iter()
            .map(|(arrival, prompt, seen, answering, there)| {
                let last = answering.then_some(1);
                let seen = if answering { prompt } else { seen.min(prompt - 1) };
                there.then(|| slot(arrival, prompt, seen, last))
            })
            .collect();
        let count = |reads: bool| {
            occupied(&slots).filter(|(_, slot)| (slot.to_read() > 0) == reads).count()
        };
        let plan = writing(&slots, batch, |_, max| vec![1; draft.min(max)]);
        prop_assert!(plan.rows.len() <= batch);
        prop_assert_eq!(plan.shares.len(), count(false));
        prop_assert!(plan.rows.iter().all(|row| row.logits));
        let own = plan.shares.iter().map(|share| share.rows);
        prop_assert_eq!(own.sum::<usize>(), plan.rows.len());
        let place = next(&slots, Instant::now());
        prop_assert_eq!(place.is_some(), count(true) > 0);
        if let Some(place) = place {
            let plan = reading(&slots, place, room.min(batch), batch);
            prop_assert!((1..=batch).contains(&plan.rows.len()));
            let chosen = plan.rows.iter().filter(|row| row.logits).count();
            prop_assert_eq!(chosen, usize::from(plan.shares[0].logits.is_some()));
        }
    }

    #[test]
    fn every_piece_is_whole_and_begins_on_the_grid(
        begin in 0_usize..20,
        length in 1_usize..900,
        rooms in proptest::collection::vec(4_usize..17, 1..20),
    ) {
        let mut seen = begin * GRID;
        let whole = seen + length;
        for room in rooms.iter().cycle() {
            let share = share(seen, whole, room * GRID, 256);
            prop_assert!(share >= PIECE_MIN.min(length));
            prop_assert!(share <= (room * GRID).max(2 * PIECE_MIN));
            prop_assert_eq!(seen % GRID, 0);
            seen += share;
            if seen == whole {
                break;
            }
        }
    }

    #[test]
    fn the_pace_stays_in_bounds(
        steps in proptest::collection::vec((0_usize..600, 0_u64..5000), 0..40),
        chunk_max in 1_usize..600,
    ) {
        let mut pace = Pace::new(STEP_SHARED, CHUNK_MIN, chunk_max);
        for (prefill, took) in steps {
            pace.learn(prefill, Duration::from_millis(took));
            prop_assert!(pace.chunk() <= chunk_max);
            prop_assert!(pace.chunk() >= CHUNK_MIN.min(chunk_max));
        }
    }
}
