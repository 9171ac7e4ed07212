use proptest::prelude::*;

use super::*;

/// All that is asked of a passage, read in steps: the rows, and for each one that is looked at, the token
/// behind it.
fn read(
    passages: &Passages,
    passage: usize,
    wanted: usize,
    batch: usize,
) -> (Vec<Row>, Vec<Token>) {
    let (mut rows, mut behind) = (Vec::new(), Vec::new());
    let mut left = passages.scored_rows(passage).unwrap();
    while left > 0 {
        let mut looked_at = 0;
        while looked_at < wanted.min(left) {
            let more = wanted.min(left) - looked_at;
            let step = passages.rows(passage, rows.len(), more, batch, 3);
            assert!((1..=batch).contains(&step.len()));
            for row in step.iter().filter(|row| row.logits) {
                looked_at += 1;
                behind.push(passages.next_token(passage, row.position as usize).unwrap());
            }
            rows.extend(step);
        }
        assert_eq!(looked_at, wanted.min(left));
        left -= looked_at;
    }
    (rows, behind)
}

#[test]
fn the_second_half_of_a_window_is_scored_but_for_its_first_token() {
    let passages = Passages::windows((0..21).collect(), 8, Some(99), 64).unwrap();
    assert_eq!((passages.count(), passages.tokens()), (2, 16));
    let (rows, behind) = read(&passages, 1, 256, 256);
    // As of llama-perplexity: rows 4 to 6 tell of tokens 5 to 7.
    assert_eq!(behind, [13, 14, 15]);
    let tokens: Vec<Token> = rows.iter().map(|row| row.token).collect();
    assert_eq!(tokens, [99, 9, 10, 11, 12, 13, 14]);
    assert!(passages.scored_rows(2).is_none() && passages.next_token(1, 7).is_none());
}

#[test]
fn what_can_not_be_cut_is_refused() {
    let windows = |tokens: usize, window| {
        let tokens = vec![1; tokens];
        Passages::windows(tokens, window, None, 64).map(|found| found.count())
    };
    assert_eq!(windows(64, 64), Ok(1));
    for (tokens, window) in [(63, 64), (100, 65), (100, 3), (0, 4)] {
        let refused = NoPassages::Window { tokens, window };
        assert_eq!(windows(tokens, window), Err(refused));
    }
    let pieces = |pieces: Vec<(usize, usize)>| {
        let tokens = pieces.into_iter().map(|(a, b)| (vec![1; a], vec![2; b]));
        Passages::pieces(tokens, 8).map(|found| found.count())
    };
    assert_eq!(pieces(vec![(1, 1), (3, 5)]), Ok(2));
    assert_eq!(pieces(vec![(1, 1), (0, 5)]), Err(NoPassages::Piece(1)));
    assert_eq!(pieces(vec![(1, 0)]), Err(NoPassages::Piece(0)));
    assert_eq!(pieces(vec![(4, 5)]), Err(NoPassages::Piece(0)));
    assert_eq!(pieces(vec![]), Err(NoPassages::Piece(0)));
}

#[test]
fn digests_tell_tokens_and_cuts_apart() {
    let digest = |first: Vec<Token>, second: Vec<Token>| {
        Passages::pieces([(vec![1], first), (vec![1], second)], 64)
            .unwrap()
            .digest()
    };
    assert_eq!(digest(vec![1, 2], vec![3]), digest(vec![1, 2], vec![3]));
    assert_ne!(digest(vec![1, 2], vec![3]), digest(vec![1, 2], vec![4]));
    assert_ne!(digest(vec![1, 1], vec![1]), digest(vec![1], vec![1, 1]));
}

#[test]
fn divergence_is_what_it_is_defined_as() {
    let (p, q) = ([0.5f64, 0.25, 0.25], [0.25f64, 0.25, 0.5]);
    let expected: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
    // Scores are logarithms of probabilities but for what is added to all.
    #[allow(clippy::cast_possible_truncation, reason = "numbers of a test")]
    let scores = |of: [f64; 3], shift: f64| of.map(|x| (x.ln() + shift) as f32);
    let (divergence, agree) = apart(&scores(p, 7.0), &scores(q, -30.0)).unwrap();
    assert!((divergence - expected).abs() < 1e-5, "{divergence}");
    assert!(!agree);
    assert_eq!(
        apart(&scores(p, 0.0), &scores(p, 0.0)).unwrap(),
        (0.0, true)
    );
}

#[test]
fn what_one_model_rules_out_is_far_and_finite_and_no_number_is_refused() {
    let never = f32::NEG_INFINITY;
    assert_eq!(
        apart(&[0.0, 0.0], &[0.0, never]).unwrap(),
        (DIVERGENCE_MAX, true)
    );
    // A token that the reference rules out weighs nothing.
    let (divergence, _) = apart(&[0.0, never], &[0.0, 0.0]).unwrap();
    assert!((divergence - 2f64.ln()).abs() < 1e-6);
    assert!(apart(&[0.0, never], &[0.0, never]).unwrap().0 < 1e-9);
    assert!(apart(&[f32::NAN, 0.0], &[0.0, 0.0]).is_err());
    assert!(apart(&[0.0, 0.0], &[0.0, f32::NAN]).is_err());
    assert!(apart(&[never, never], &[0.0, 0.0]).is_err());
}

#[test]
fn what_is_kept_and_what_the_others_get() {
    // Probabilities of 1, 2, 3 and 4 tenths.
    let scores = [1.0f32, 2.0, 3.0, 4.0].map(f32::ln);
    let (kept, others) = of_kept(&scores, &[3, 0]).unwrap();
    assert_eq!(kept, [scores[3], scores[0]]);
    assert!((others - 0.5).abs() < 1e-6, "{others}");
    assert!(of_kept(&scores, &[0, 1, 2, 3]).unwrap().1 < 1e-6);
    assert!(of_kept(&scores, &[4]).is_err() && of_kept(&scores, &[-1]).is_err());
    assert!(of_kept(&[f32::NAN; 4], &[0]).is_err());
}

proptest! {
    #[test]
    fn each_token_is_read_once_in_order_and_scored_once(
        lengths in proptest::collection::vec((1usize..40, 1usize..40), 1..5),
        wanted in 1usize..20,
        batch in 1usize..20,
    ) {
        let mut next = 0;
        let mut tokens = |count: usize| -> Vec<Token> {
            (0..count).map(|_| { next += 1; next }).collect()
        };
        let pieces: Vec<_> = lengths.iter().map(|(a, b)| (tokens(*a), tokens(*b))).collect();
        let passages = Passages::pieces(pieces.clone(), 100).unwrap();
        for (at, (before, scored)) in pieces.into_iter().enumerate() {
            let (rows, behind) = read(&passages, at, wanted, batch);
            prop_assert_eq!(&behind, &scored);
            let whole = [before, scored].concat();
            let tokens: Vec<Token> = rows.iter().map(|row| row.token).collect();
            prop_assert_eq!(&tokens, &whole[..whole.len() - 1]);
            for (place, row) in rows.iter().enumerate() {
                prop_assert_eq!((row.position as usize, row.sequence), (place, 3));
            }
        }
    }

    #[test]
    fn nothing_is_less_apart_than_what_is_the_same(
        one in proptest::collection::vec(-40f32..40.0, 2..50),
        shift in -40f32..40.0,
        noise in proptest::collection::vec(-3f32..3.0, 50),
    ) {
        let other: Vec<f32> = one.iter().zip(&noise).map(|(a, b)| a + b + shift).collect();
        let (divergence, _) = apart(&one, &other).unwrap();
        prop_assert!((0.0..=6.1).contains(&divergence), "{}", divergence);
    }
}

#[test]
fn probabilities_add_up_to_the_rows() {
    let mut sums = [0.0; 3];
    expect(&[0.0, 2f32.ln(), f32::NEG_INFINITY], &mut sums).unwrap();
    expect(&[50.0, 50.0, 50.0], &mut sums).unwrap();
    for (sum, third) in sums.iter().zip([2.0, 3.0, 1.0]) {
        assert!((sum - third / 3.0).abs() < 1e-6, "{sums:?}");
    }
    assert!(expect(&[f32::NAN, 0.0, 0.0], &mut sums).is_err());
    assert!(expect(&[f32::NEG_INFINITY; 3], &mut sums).is_err());
}
