use super::*;
use proptest::prelude::*;

const VOCABULARY: Token = 5;
const ENDS: [Token; 2] = [0, 4];

/// A model whose scores depend on everything before, as a real one's do.
fn scores(before: &[Token]) -> Vec<f32> {
    let hash = before.iter().fold(7_u32, |hash, token| {
        hash.wrapping_mul(31)
            .wrapping_add(token.cast_unsigned() + 1)
    });
    let scores = (1..=VOCABULARY.cast_unsigned()).map(|token| {
        let score = hash.wrapping_mul(token.wrapping_mul(2_654_435_761)) >> 24;
        u8::try_from(score).map_or(0.0, |score| f32::from(score) / 16.0)
    });
    scores.collect()
}

/// The same one token at a time, by the definition.
fn reference(prompt: &[Token], continuation: &[Token], wanted: Wanted) -> Likelihood {
    let softmax = |before: &[Token]| -> Vec<f64> {
        let exp: Vec<f64> = scores(before).iter().map(|s| f64::from(*s).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.iter().map(|exp| exp / sum).collect()
    };
    let mut before = prompt.to_vec();
    let mut each = Vec::new();
    let mut greedy = true;
    for token in continuation {
        let probabilities = softmax(&before);
        let probability = probabilities[usize::try_from(*token).unwrap()];
        let likeliest = probabilities.iter().copied().fold(0.0, f64::max);
        let first = probabilities.iter().position(|p| *p >= likeliest);
        greedy &= first == usize::try_from(*token).ok();
        #[allow(clippy::cast_possible_truncation, reason = "as the engine does")]
        each.push(probability.ln() as f32);
        before.push(*token);
    }
    let ends = softmax(&before);
    let end: f64 = ENDS
        .iter()
        .map(|end| ends[usize::try_from(*end).unwrap()])
        .sum();
    Likelihood {
        log_probability: each.iter().map(|each| f64::from(*each)).sum(),
        tokens: slots::count(continuation.len()),
        greedy,
        end: wanted.ends.then(|| end.ln()),
        token_log_probabilities: wanted.single_tokens.then_some(each),
    }
}

fn is_near(one: &Likelihood, other: &Likelihood) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() < 1e-4;
    let singles = |l: &Likelihood| l.token_log_probabilities.clone().unwrap_or_default();
    let (a, b) = (singles(one), singles(other));
    near(one.log_probability, other.log_probability)
        && one.tokens == other.tokens
        && one.greedy == other.greedy
        && one.end.is_some() == other.end.is_some()
        && near(one.end.unwrap_or(0.0), other.end.unwrap_or(0.0))
        && a.len() == b.len()
        && a.iter()
            .zip(&b)
            .all(|(a, b)| near((*a).into(), (*b).into()))
}

struct Run {
    likelihoods: Vec<Vec<Likelihood>>,
    rows: usize,
}

/// Walks as the server does, over a sequence that `goes_back` or loses all when it is cut.
fn run(parts: &[Part], wanted: Wanted, room: usize, cached: usize, goes_back: bool) -> Run {
    let mut walk = Walk::new(parts.to_vec(), wanted);
    let beginning = walk.beginning();
    let cached = cached.min(beginning.len() - 1);
    walk.begin(cached);
    let mut held = beginning[..cached].to_vec();
    let mut rows_in_all = 0;
    loop {
        let count = (walk.target() - held.len()).min(room);
        let rows = walk.rows(3, held.len(), count);
        assert!((1..=room).contains(&rows.len()));
        assert!(rows.iter().filter(|row| row.logits).count() <= SCORED_ROWS_MAX);
        for row in &rows {
            assert_eq!((row.position as usize, row.sequence), (held.len(), 3));
            held.push(row.token);
            if row.logits {
                walk.take(row.position as usize, &scores(&held), &ENDS)
                    .unwrap();
            }
        }
        rows_in_all += rows.len();
        walk.have_read(held.len());
        assert_eq!(walk.held(held.len()), held);
        while !walk.is_done() && held.len() >= walk.target() {
            let common = walk.next_path();
            if !walk.is_done() && common < held.len() {
                held.truncate(if goes_back { common } else { 0 });
            }
        }
        if walk.is_done() {
            let scored = walk.scored(RequestId(1));
            let likelihoods = scored.map(|scored| scored.likelihoods).collect();
            return Run {
                likelihoods,
                rows: rows_in_all,
            };
        }
    }
}

fn part(prompt: &[Token], continuations: &[&[Token]]) -> Part {
    Part {
        prompt: prompt.to_vec(),
        continuations: continuations.iter().map(|tokens| tokens.to_vec()).collect(),
    }
}

#[test]
fn what_is_in_common_is_read_once() {
    let plain = Wanted::default();
    let rows = |parts: &[Part], wanted| run(parts, wanted, 64, 0, true).rows;
    let single = part(&[1, 2, 3], &[&[1], &[2], &[3], &[1]]);
    assert_eq!(rows(std::slice::from_ref(&single), plain), 3, "the prompt");
    let ends = Wanted {
        ends: true,
        ..plain
    };
    assert_eq!(rows(&[single], ends), 6, "and each token but for the twin");
    let tree = part(&[1, 2, 3], &[&[1, 1, 2], &[1, 1, 3], &[1, 2], &[2, 4]]);
    assert_eq!(rows(&[tree], plain), 3 + 2 + 1);
    let longer = [part(&[1, 2, 3], &[&[1, 2]]), part(&[1, 2, 4], &[&[1, 2]])];
    assert_eq!(rows(&longer, plain), 4 + 2);
    // One part's prompt is another's prompt with its continuation.
    let nested = [part(&[1, 2, 3, 4], &[&[1]]), part(&[1, 2], &[&[3, 4, 1]])];
    assert_eq!(rows(&nested, plain), 4);
}

#[test]
fn a_prompt_is_read_in_pieces_and_what_follows_at_once() {
    let continuation: &[Token] = &[2; 40];
    let walk = || Walk::new(vec![part(&[1; 100], &[continuation])], Wanted::default());
    let mut job = Job {
        id: RequestId(1),
        owner: None,
        class: Class::Chat,
        received: Instant::now(),
        turn: 0,
        arrival: 0,
        place: 0,
        walk: walk(),
        seen: 0,
        exact: 0,
        owed: Duration::ZERO,
        computed: 0,
        passes: 0,
    };
    let mut steps = Vec::new();
    while job.seen < job.walk.target() {
        let rows = job.rows(0, 64, 256).len();
        steps.push(rows);
        job.have_read(rows);
    }
    assert_eq!(steps, [100, 16, 16, 7], "the prompt, then rows with scores");
    assert_eq!((job.exact, job.computed, job.passes), (100, 139, 4));
    job.cut(90);
    assert_eq!((job.seen, job.exact), (90, 80));
    assert_eq!(
        job.rows(0, 64, 256).len(),
        49,
        "no prompt's pieces any more"
    );
    job.cut(0);
    assert_eq!((job.seen, job.exact), (0, 0));
}

#[test]
fn numbers_that_are_none_are_an_error() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut walk = Walk::new(vec![part(&[1], &[&[1]])], Wanted::default());
        let taken = walk.take(0, &[0.0, bad, 0.0], &ENDS);
        assert_eq!(taken.unwrap_err().code, FailureCode::Decode);
    }
    let mut walk = Walk::new(vec![part(&[1], &[&[1], &[9]])], Wanted::default());
    walk.take(0, &[0.0, f32::NEG_INFINITY, 0.0], &ENDS).unwrap();
    let scored: Vec<_> = walk.scored(RequestId(1)).collect();
    for likelihood in &scored[0].likelihoods {
        assert!((likelihood.log_probability - LOG_PROBABILITY_MIN).abs() < 1e-9);
    }
}

proptest! {
    #[test]
    fn every_likelihood_is_the_one_by_definition(
        parts in proptest::collection::vec((
            proptest::collection::vec(1..3_i32, 1..8),
            proptest::collection::vec(proptest::collection::vec(0..VOCABULARY, 1..24), 1..6),
        ), 1..4),
        (ends, single_tokens, goes_back) in any::<(bool, bool, bool)>(),
        room in 1_usize..40,
        cached in 0_usize..8,
    ) {
        let parts: Vec<Part> = parts
            .into_iter()
            .map(|(prompt, continuations)| Part { prompt, continuations })
            .collect();
        let wanted = Wanted { ends, single_tokens };
        let run = run(&parts, wanted, room, cached, goes_back);
        prop_assert_eq!(run.likelihoods.len(), parts.len());
        for (part, likelihoods) in parts.iter().zip(&run.likelihoods) {
            prop_assert_eq!(likelihoods.len(), part.continuations.len());
            for (continuation, likelihood) in part.continuations.iter().zip(likelihoods) {
                let expected = reference(&part.prompt, continuation, wanted);
                prop_assert!(is_near(likelihood, &expected), "{likelihood:?} {expected:?}");
            }
        }
        if goes_back {
            let all: usize = parts
                .iter()
                .map(|p| p.prompt.len() + p.continuations.iter().map(Vec::len).sum::<usize>())
                .sum();
            prop_assert!(run.rows <= all);
        }
    }
}
