//! How well a model foresees a text, with how sure that is. Pure.
//!
//! What is counted is bits for each byte, which models of different vocabularies can be compared by. Of
//! pieces of unlike lengths the rate is a ratio of sums, and its error that of a ratio (Cochran, Sampling
//! Techniques, 3rd edition, section 6.4). Of two models on the same pieces, the difference is surer
//! than either, since what is hard for one is hard for the other.

/// Standard errors on each side that hold 95 of 100, of few pieces: Student's distribution, for as many
/// pieces less one, from 1.
const FEW: [f64; 10] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
];
/// The same of any number (the normal distribution).
const MANY: f64 = 1.96;

/// Standard errors on each side that hold 95 of 100 of an estimate from so many pieces, at least 2. Of
/// more than [`FEW`] tells, by the first term of its expansion (Abramowitz and Stegun, 26.7.5).
fn ninety_five(pieces: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a few hundred pieces")]
    let free = pieces.saturating_sub(1) as f64;
    let few = pieces.checked_sub(2).and_then(|at| FEW.get(at));
    few.copied()
        .unwrap_or(MANY + (MANY.powi(3) + MANY) / (4.0 * free))
}

/// Longest piece in bytes: no tokenizer makes more tokens of it than an engine has context.
pub(super) const PIECE_BYTES: usize = 1536;
/// What goes before, of each piece, at most, and is not counted.
pub(super) const BEFORE_BYTES: usize = 384;

/// What one piece of text took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    /// Its bytes, at least 1.
    pub(super) bytes: f64,
    /// Bits of surprise.
    pub(super) bits: f64,
}

impl Piece {
    /// So many bytes of text that were found this likely, in nats.
    pub(super) fn foreseen(bytes: u32, log_probability: f64) -> Self {
        Self::of(bytes, -log_probability / std::f64::consts::LN_2)
    }

    /// So many bytes of text that took so many bits.
    pub(super) fn of(bytes: u32, bits: f64) -> Self {
        Self {
            bytes: f64::from(bytes),
            bits,
        }
    }
}

/// A rate for each byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    /// The rate.
    pub(super) value: f64,
    /// Half of the width of the interval that holds it with 95 %; `None` of a single piece.
    pub(super) error: Option<f64>,
}

/// The rate over all pieces; `None` without any.
pub(super) fn rate(pieces: &[Piece]) -> Option<Estimate> {
    let bytes: f64 = pieces.iter().map(|piece| piece.bytes).sum();
    let bits: f64 = pieces.iter().map(|piece| piece.bits).sum();
    if pieces.is_empty() || bytes <= 0.0 {
        return None;
    }
    let value = bits / bytes;
    #[allow(clippy::cast_precision_loss, reason = "a few hundred pieces")]
    let count = pieces.len() as f64;
    let residues = pieces.iter().map(|piece| piece.bits - value * piece.bytes);
    let squares: f64 = residues.map(|residue| residue * residue).sum();
    let error = (pieces.len() > 1)
        .then(|| ninety_five(pieces.len()) * (squares * count / (count - 1.0)).sqrt() / bytes);
    Some(Estimate { value, error })
}

/// By how much the rate of `other` is above that of `base` on the same pieces, in the same order.
pub(super) fn difference(base: &[Piece], other: &[Piece]) -> Option<Estimate> {
    let apart: Vec<Piece> = base
        .iter()
        .zip(other)
        .map(|(base, other)| Piece {
            bytes: base.bytes,
            bits: other.bits - base.bits,
        })
        .collect();
    rate(&apart)
}

/// A share of a whole, with the interval that holds it with 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    /// The share, from 0 to 1.
    pub(super) value: f64,
    /// The lower end of the interval.
    pub(super) low: f64,
    /// The upper end.
    pub(super) high: f64,
}

/// So many of so many; `None` of none. The interval is Wilson's (1927, "Probable inference, the law of
/// succession, and statistical inference"), which has a width also where all or none are meant.
pub(super) fn share(part: usize, of: usize) -> Option<Share> {
    #[allow(clippy::cast_precision_loss, reason = "some thousand at most")]
    let (part, of) = (part as f64, of as f64);
    if of <= 0.0 {
        return None;
    }
    let value = part / of;
    let square = MANY * MANY;
    let middle = (part + square / 2.0) / (of + square);
    let half = MANY / (of + square) * (of * value * (1.0 - value) + square / 4.0).sqrt();
    Some(Share {
        value,
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
    })
}

/// Whether chance alone would rarely (5 %) make so uneven what one of two models gets right and the other
/// does not, and the other way round: the exact sign test of pairs that are answered otherwise.
pub(super) fn differ(gained: usize, lost: usize) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "some thousand at most")]
    let [all, fewer] = [gained + lost, gained.min(lost)].map(|count| count as f64);
    // Of so many coins, the probability of as few heads or fewer, as logarithms of single ones.
    let mut single = -all * std::f64::consts::LN_2;
    let mut tail = single.exp();
    let mut heads = 0.0;
    while heads < fewer {
        single += ((all - heads) / (heads + 1.0)).ln();
        tail += single.exp();
        heads += 1.0;
    }
    2.0 * tail <= 0.05
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use proptest::prelude::*;

    use super::*;

    fn pieces(of: &[(f64, f64)]) -> Vec<Piece> {
        let piece = |(bytes, bits): &(f64, f64)| Piece {
            bytes: *bytes,
            bits: *bits,
        };
        of.iter().map(piece).collect()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn of_equal_pieces_it_is_the_mean_and_its_error() {
        // Rates 1, 2 and 3: a standard deviation of 1, and so an error of 1 over the root of 3.
        let found = rate(&pieces(&[(10.0, 10.0), (10.0, 20.0), (10.0, 30.0)])).unwrap();
        assert!(near(found.value, 2.0));
        assert!(near(found.error.unwrap(), 4.303 / 3f64.sqrt()));
    }

    #[test]
    fn fewer_pieces_are_less_sure() {
        let factors: Vec<f64> = (2..400).map(ninety_five).collect();
        assert!(factors.is_sorted_by(|few, more| few > more));
        // As tables have them for 12, 30 and 120 degrees of freedom.
        for (pieces, known) in [(13, 2.179), (31, 2.042), (121, 1.980)] {
            assert!((ninety_five(pieces) - known).abs() < 0.03, "{pieces}");
        }
    }

    #[test]
    fn shares_have_wilsons_interval() {
        // As in Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I.
        let ends = |part, of| {
            let found = share(part, of).unwrap();
            format!("{:.4} {:.4}", found.low, found.high)
        };
        assert_eq!(ends(81, 263), "0.2553 0.3662");
        assert_eq!(ends(0, 20), "0.0000 0.1611");
        assert_eq!(ends(20, 20), "0.8389 1.0000");
        assert_eq!(share(0, 0), None);
    }

    #[test]
    fn a_few_more_may_be_chance() {
        // 5 and 6 coins that all fall alike: 2 of 32, 2 of 64.
        assert!(!differ(5, 0) && differ(6, 0) && differ(0, 6));
        assert!(!differ(0, 0) && !differ(4, 4));
        // Of 20 coins, 5 heads or fewer: 2 times 0.0207; 6: 2 times 0.0577.
        assert!(differ(15, 5) && !differ(14, 6));
        assert!(!differ(50_000, 49_700) && differ(50_400, 49_700));
    }

    #[test]
    fn longer_pieces_weigh_more() {
        let found = rate(&pieces(&[(30.0, 30.0), (10.0, 20.0)])).unwrap();
        assert!(near(found.value, 1.25));
    }

    #[test]
    fn one_piece_says_nothing_of_its_error_and_none_says_nothing() {
        assert_eq!(rate(&pieces(&[(10.0, 10.0)])).unwrap().error, None);
        assert_eq!(rate(&[]), None);
        assert_eq!(difference(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn what_all_pieces_share_makes_a_difference_no_less_sure(
            texts in proptest::collection::vec((1.0f64..2000.0, 0.1f64..4.0), 2..40),
            more in 0.0f64..0.5,
        ) {
            let base: Vec<(f64, f64)> =
                texts.iter().map(|(bytes, rate)| (*bytes, bytes * rate)).collect();
            let other: Vec<(f64, f64)> =
                base.iter().map(|(bytes, bits)| (*bytes, bits + more * bytes)).collect();
            let found = difference(&pieces(&base), &pieces(&other)).unwrap();
            prop_assert!((found.value - more).abs() < 1e-6);
            prop_assert!(found.error.unwrap() < 1e-6);
        }
    }
}
