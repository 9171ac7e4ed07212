use super::*;
use proptest::prelude::*;

/// Makes of a token the vector (1, token), and remembers the rows of the last step.
struct Echo {
    pooling: Pooling,
    states: Vec<[f32; 2]>,
}

impl Echo {
    fn new(pooling: Pooling) -> Self {
        let states = Vec::new();
        Self { pooling, states }
    }
}

impl Embedder for Echo {
    fn pooling(&self) -> Pooling {
        self.pooling
    }

    fn dimensions(&self) -> usize {
        2
    }

    fn tokens(&self, _: EmbedInput, index: u32) -> Result<Vec<Token>, Failure> {
        Err(failure(EmbedFailure::Empty { index }, "no tokens"))
    }

    fn start_over(&mut self) {}

    fn read(&mut self, rows: &[Row]) -> Result<Step, Failure> {
        assert!((1..=ROWS_MAX).contains(&rows.len()));
        assert!(rows.iter().all(|row| (row.sequence as usize) < SEQUENCES));
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let states = rows.iter().map(|row| [1.0, row.token as f32]);
        self.states = states.collect();
        Ok(Step::Done)
    }

    fn state(&self, row: usize) -> Result<&[f32], Failure> {
        Ok(&self.states[row])
    }
}

fn job(inputs: Vec<Vec<Token>>) -> Job {
    Job::new(RequestId(1), Class::Batch, Instant::now(), inputs)
}

fn run(mut job: Job, pooling: Pooling, room: usize) -> (Vec<Embedding>, Vec<usize>) {
    let mut echo = Echo::new(pooling);
    let (mut made, mut steps) = (Vec::new(), Vec::new());
    while !job.is_done() {
        let pieces = job.next(room);
        let rows = job.rows(&pieces);
        steps.push(rows.len());
        echo.read(&rows).unwrap();
        made.extend(job.take(&pieces, &echo).unwrap());
    }
    (made, steps)
}

#[test]
fn short_inputs_share_a_step_and_long_ones_take_several() {
    let tokens = |n| vec![1; n];
    let inputs = vec![tokens(3), tokens(5), tokens(70), tokens(4)];
    assert_eq!(run(job(inputs.clone()), Pooling::Mean, 64).1, [8, 64, 6, 4]);
    assert_eq!(run(job(inputs), Pooling::Mean, 4).1[..4], [3, 4, 1, 4]);
    let many = vec![tokens(1); SEQUENCES + 2];
    assert_eq!(run(job(many), Pooling::Mean, 64).1, [SEQUENCES, 2]);
}

#[test]
fn the_mean_is_of_all_tokens_and_the_last_of_one() {
    let close = |made: &[Embedding], expected: [f32; 2]| {
        let [x, y] = expected;
        let length = x.hypot(y);
        let vector = &made[0].vector.0;
        assert!((vector[0] - x / length).abs() < 1e-6, "{vector:?}");
        assert!((vector[1] - y / length).abs() < 1e-6, "{vector:?}");
    };
    let inputs = vec![vec![1, 2, 6]];
    close(&run(job(inputs.clone()), Pooling::Mean, 2).0, [1.0, 3.0]);
    close(&run(job(inputs), Pooling::Last, 2).0, [1.0, 6.0]);
}

#[test]
fn no_direction_is_an_error() {
    for vector in [[0.0, 0.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0]] {
        let code = normalized(&vector).unwrap_err().code;
        assert_eq!(code, FailureCode::Decode, "{vector:?}");
    }
}

proptest! {
    #[test]
    fn every_input_gets_one_vector_of_length_one_however_it_is_cut(
        lengths in proptest::collection::vec(1_usize..200, 1..70),
        rooms in 1_usize..300,
        last: bool,
    ) {
        let inputs: Vec<Vec<Token>> = lengths
            .iter()
            .map(|length| (0..).take(*length).collect())
            .collect();
        let pooling = if last { Pooling::Last } else { Pooling::Mean };
        let (made, steps) = run(job(inputs.clone()), pooling, rooms);
        prop_assert_eq!(steps.iter().sum::<usize>(), lengths.iter().sum::<usize>());
        let indices: Vec<u32> = made.iter().map(|one| one.index).collect();
        let expected: Vec<u32> = (0..).take(inputs.len()).collect();
        prop_assert_eq!(indices, expected);
        let (whole, _) = run(job(inputs), pooling, ROWS_MAX);
        for ((one, same), length) in made.iter().zip(&whole).zip(&lengths) {
            prop_assert_eq!(one.tokens as usize, *length);
            prop_assert_eq!(&one.vector, &same.vector);
            let squares: f32 = one.vector.0.iter().map(|n| n * n).sum();
            prop_assert!((squares - 1.0).abs() < 1e-5);
        }
    }
}
