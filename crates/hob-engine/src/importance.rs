//! What each column of a model's matrices is multiplied with: sums of squares, and their means. Pure.
//!
//! What is summed up is what llama.cpp's `llama-imatrix` does, but in 64 bits and whatever a matrix is called
//! by the layer that it stands in: a table of tokens that is the last matrix, too, is one of them.

use std::collections::HashMap;

use hob_ipc::importance::Matrix;

/// Sums of squares of what the columns of some matrices were multiplied with.
#[derive(Debug)]
pub struct Inputs {
    places: HashMap<String, usize>,
    /// One for each matrix.
    sums: Vec<Sums>,
}

#[derive(Debug)]
struct Sums {
    columns: usize,
    /// Of all columns, one expert's after another's.
    squares: Vec<f64>,
    /// What the matrix of each expert was multiplied with so far.
    counts: Vec<u64>,
}

/// Rows of numbers in up to four dimensions, as ggml has them: a row's length first, and from one to the next
/// in each dimension a stride.
#[derive(Clone, Debug, Default)]
pub struct Rows<T> {
    /// The numbers.
    pub data: Vec<T>,
    /// Lengths.
    pub lengths: [usize; 4],
    /// How far apart neighbours are, in numbers; 1 in the first dimension.
    pub strides: [usize; 4],
}

impl<T> Rows<T> {
    /// A row; `None` beyond the lengths or the numbers.
    fn row(&self, [one, two, three]: [usize; 3]) -> Option<&[T]> {
        let [length, ones, twos, threes] = self.lengths;
        if one >= ones || two >= twos || three >= threes {
            return None;
        }
        let start = one * self.strides[1] + two * self.strides[2] + three * self.strides[3];
        self.data.get(start..start + length)
    }
}

impl Inputs {
    /// Nothing seen yet of these.
    pub fn new(matrices: &[Matrix]) -> Self {
        let named = |(place, matrix): (usize, &Matrix)| (matrix.name.clone(), place);
        let sums = matrices.iter().map(|matrix| {
            let (columns, experts) = (matrix.columns as usize, matrix.experts as usize);
            Sums {
                columns,
                squares: vec![0.0; columns * experts],
                counts: vec![0; experts],
            }
        });
        Self {
            places: matrices.iter().enumerate().map(named).collect(),
            sums: sums.collect(),
        }
    }

    /// The place of a matrix by the name that ggml has for it, if it is one of these and such a one.
    pub fn find(&self, name: &str, columns: usize, experts: usize) -> Option<usize> {
        let place = *self.places.get(plain(name))?;
        let sums = self.sums.get(place)?;
        let fits = sums.columns == columns && sums.counts.len() == experts;
        fits.then_some(place)
    }

    /// Notes what a matrix was multiplied with, where experts lie in the third and fourth dimension, of which
    /// the matrix has `threes` in the third.
    pub fn note(&mut self, place: usize, inputs: &Rows<f32>, threes: usize) {
        let Some(sums) = self.sums.get_mut(place) else {
            return;
        };
        let experts = sums.counts.len();
        let threes = threes.clamp(1, experts.max(1));
        let fours = (experts / threes).max(1);
        let [_, rows, twos, last] = inputs.lengths;
        for four in 0..last {
            for three in 0..twos {
                let expert = (four % fours) * threes + three % threes;
                for row in 0..rows {
                    if let Some(row) = inputs.row([row, three, four]) {
                        sums.add(expert, row);
                    }
                }
            }
        }
    }

    /// Notes what the matrices of a mixture's experts were multiplied with: of each token (in the third
    /// dimension) a row for each of the experts that were asked, or one for all of them.
    pub fn note_experts(&mut self, place: usize, inputs: &Rows<f32>, asked: &Rows<i32>) {
        let Some(sums) = self.sums.get_mut(place) else {
            return;
        };
        let [_, rows, tokens, _] = inputs.lengths;
        for token in 0..tokens {
            let experts = asked.row([token, 0, 0]).unwrap_or_default();
            for (number, expert) in experts.iter().enumerate() {
                let row = inputs.row([number % rows.max(1), token, 0]);
                if let (Some(row), Ok(expert)) = (row, usize::try_from(*expert)) {
                    sums.add(expert, row);
                }
            }
        }
    }

    /// The means of the squares, in the order of the matrices: zeros of what nothing was seen of, and ones of
    /// an expert that was not asked where others were.
    pub fn means(&self) -> Vec<f32> {
        self.sums.iter().flat_map(Sums::means).collect()
    }
}

impl Sums {
    fn add(&mut self, expert: usize, row: &[f32]) {
        let start = expert * self.columns;
        let squares = self.squares.get_mut(start..start + self.columns);
        let (Some(squares), Some(count)) = (squares, self.counts.get_mut(expert)) else {
            return;
        };
        for (sum, value) in squares.iter_mut().zip(row) {
            *sum += f64::from(*value) * f64::from(*value);
        }
        *count += 1;
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "as exact as who stores weights anew can use it"
    )]
    fn means(&self) -> Vec<f32> {
        let seen = self.counts.iter().any(|count| *count > 0);
        let mut means = Vec::with_capacity(self.squares.len());
        for (squares, count) in self.squares.chunks(self.columns.max(1)).zip(&self.counts) {
            let mean = |sum: &f64| match count {
                0 if seen => 1.0,
                0 => 0.0,
                count => (sum / *count as f64) as f32,
            };
            means.extend(squares.iter().map(mean));
        }
        means
    }
}

/// A name without what ggml puts around it where a matrix is copied to a device: `CUDA0#name#0`.
fn plain(name: &str) -> &str {
    let Some((_, rest)) = name.split_once('#') else {
        return name;
    };
    rest.split_once('#').map_or(rest, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(name: &str, columns: u32, experts: u32) -> Matrix {
        Matrix {
            name: name.to_owned(),
            columns,
            experts,
        }
    }

    /// Rows one after another.
    fn rows<T>(data: Vec<T>, lengths: [usize; 4]) -> Rows<T> {
        let [one, two, three, _] = lengths;
        let strides = [1, one, one * two, one * two * three];
        Rows {
            data,
            lengths,
            strides,
        }
    }

    #[test]
    fn means_of_squares_are_told_in_the_order_of_the_matrices() {
        let mut inputs = Inputs::new(&[matrix("a", 2, 1), matrix("b", 2, 1), matrix("c", 1, 1)]);
        let c = inputs.find("c", 1, 1).unwrap_or_default();
        let a = inputs.find("CUDA0#a#0", 2, 1).unwrap_or_default();
        assert_eq!((a, c), (0, 2));
        assert_eq!(inputs.find("a", 3, 1), None);
        assert_eq!(inputs.find("a", 2, 2), None);
        assert_eq!(inputs.find("d", 2, 1), None);
        inputs.note(a, &rows(vec![1.0, 2.0, 3.0, -4.0], [2, 2, 1, 1]), 1);
        inputs.note(a, &rows(vec![2.0, 0.0], [2, 1, 1, 1]), 1);
        inputs.note(c, &rows(vec![0.5], [1, 1, 1, 1]), 1);
        let means = inputs.means();
        assert_eq!(means[1..], [20.0 / 3.0, 0.0, 0.0, 0.25]);
        assert!((means[0] - 14.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn experts_are_told_apart_and_one_that_was_not_asked_counts_evenly() {
        let mut inputs = Inputs::new(&[matrix("e", 1, 3)]);
        // Two tokens, two experts asked of each; a row for each of these.
        let given = rows(vec![1.0, 2.0, 3.0, 4.0], [1, 2, 2, 1]);
        inputs.note_experts(0, &given, &rows(vec![0, 2, 2, 0], [2, 2, 1, 1]));
        assert_eq!(
            inputs.means(),
            [f32::midpoint(1.0, 16.0), 1.0, f32::midpoint(4.0, 9.0)]
        );
        // The same row for both.
        let mut inputs = Inputs::new(&[matrix("e", 1, 3)]);
        let given = rows(vec![1.0, 3.0], [1, 1, 2, 1]);
        inputs.note_experts(0, &given, &rows(vec![0, 2, 2, 0], [2, 2, 1, 1]));
        assert_eq!(inputs.means(), [5.0, 1.0, 5.0]);
    }

    #[test]
    fn matrices_that_lie_above_each_other_are_told_apart() {
        let mut inputs = Inputs::new(&[matrix("m", 1, 2)]);
        // Four layers of inputs for two matrices, which take turns.
        inputs.note(0, &rows(vec![1.0, 2.0, 3.0, 4.0], [1, 1, 4, 1]), 2);
        assert_eq!(inputs.means(), [5.0, 10.0]);
    }

    proptest! {
        /// Whatever a graph is like, and whoever was asked.
        #[test]
        fn nothing_panics_and_numbers_stay_as_many(
            data in proptest::collection::vec(-9.0f32..9.0, 0..40),
            lengths in proptest::array::uniform4(0usize..5),
            strides in proptest::array::uniform4(0usize..9),
            experts in 1u32..4,
            asked in proptest::collection::vec(-3i32..6, 0..12),
            threes in 0usize..4,
        ) {
            let mut inputs = Inputs::new(&[matrix("m", 3, experts)]);
            let given = Rows { data, lengths, strides };
            let count = asked.len();
            inputs.note(0, &given, threes);
            inputs.note(1, &given, threes);
            inputs.note_experts(0, &given, &rows(asked, [2, count / 2, 1, 1]));
            let means = inputs.means();
            prop_assert_eq!(means.len(), 3 * experts as usize);
            prop_assert!(means.iter().all(|mean| (0.0..=81.0).contains(mean)));
        }
    }
}
