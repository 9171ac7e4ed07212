//! Which digits a range of numbers allows, as a regular expression: ranges are taken apart digit by
//! digit, the two ends and what lies between them.

use std::ops::RangeInclusive;

/// Most decimals of a number that is not whole.
const DECIMALS_MAX: usize = 2;
/// Beyond this, whole numbers are not exact as floats, and nobody says them.
const NUMBER_MAX: f64 = 1e15;

/// Whole numbers of a range that is not empty.
pub(super) fn integers(range: &RangeInclusive<i64>) -> String {
    fixed(i128::from(*range.start()), i128::from(*range.end()), 0).join("|")
}

/// Numbers of a range with at most [`DECIMALS_MAX`] decimals; `None` if there is none.
pub(super) fn numbers(range: &RangeInclusive<f64>) -> Option<String> {
    let (from, to) = (range.start().max(-NUMBER_MAX), range.end().min(NUMBER_MAX));
    let mut alternatives = Vec::new();
    let mut scale = 1.0;
    for decimals in 0..=DECIMALS_MAX {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "at most 1e17, as a whole number and as the float next to it"
        )]
        let units = {
            // A product may be rounded across the bound; a quotient is what the digits are read as.
            let within = |units: &i128| range.contains(&(*units as f64 / scale));
            let (first, last) = ((from * scale).ceil() as i128, (to * scale).floor() as i128);
            let first = [first, first + 1].into_iter().find(within);
            let last = [last, last - 1].into_iter().find(within);
            first.zip(last)
        };
        if let Some((first, last)) = units {
            alternatives.extend(fixed(first, last, decimals));
        }
        scale *= 10.0;
    }
    (!alternatives.is_empty()).then(|| alternatives.join("|"))
}

/// Numbers from `least` to `most`, in units of so many decimals; none if there are none.
fn fixed(least: i128, most: i128, decimals: usize) -> Vec<String> {
    let mut alternatives = Vec::new();
    if least < 0 && least <= most {
        let sizes = magnitudes(most.min(-1).unsigned_abs(), least.unsigned_abs(), decimals);
        alternatives.extend(sizes.into_iter().map(|size| format!("-({size})")));
    }
    if most >= 0 && least <= most {
        alternatives.extend(magnitudes(
            least.max(0).unsigned_abs(),
            most.unsigned_abs(),
            decimals,
        ));
    }
    alternatives
}

/// The same for numbers without a sign: an expression for each count of digits.
fn magnitudes(least: u128, most: u128, decimals: usize) -> Vec<String> {
    let mut alternatives = Vec::new();
    let shortest = decimals + 1;
    for length in shortest..=most.to_string().len().max(shortest) {
        let power = |digits: usize| 10_u128.pow(u32::try_from(digits).unwrap_or(0));
        // The shortest have leading zeros as far as the decimals ask for them.
        let from = if length == shortest {
            0
        } else {
            power(length - 1)
        };
        let (least, most) = (least.max(from), most.min(power(length) - 1));
        if least <= most {
            let digits = |number: u128| format!("{number:0length$}").into_bytes();
            alternatives.push(between(&digits(least), &digits(most), decimals));
        }
    }
    alternatives
}

/// Numbers of as many digits as both ends have.
fn between(least: &[u8], most: &[u8], decimals: usize) -> String {
    let (Some((low, least_rest)), Some((high, most_rest))) =
        (least.split_first(), most.split_first())
    else {
        return String::new();
    };
    let point = if least.len() == decimals { r"\." } else { "" };
    let zeros = vec![b'0'; least_rest.len()];
    let nines = vec![b'9'; least_rest.len()];
    if low == high {
        let rest = between(least_rest, most_rest, decimals);
        return format!("{point}{}{rest}", char::from(*low));
    }
    let mut parts = Vec::new();
    let (mut from, mut to) = (*low, *high);
    if least_rest != zeros {
        let rest = between(least_rest, &nines, decimals);
        parts.push(format!("{}{rest}", char::from(from)));
        from += 1;
    }
    if most_rest != nines {
        to -= 1;
    }
    if from <= to {
        let rest: String = (1..=least_rest.len())
            .rev()
            .map(|left| {
                if left == decimals {
                    r"\.[0-9]"
                } else {
                    "[0-9]"
                }
            })
            .collect();
        parts.push(format!("[{}-{}]{rest}", char::from(from), char::from(to)));
    }
    if most_rest != nines {
        let rest = between(&zeros, most_rest, decimals);
        parts.push(format!("{}{rest}", char::from(*high)));
    }
    format!("{point}({})", parts.join("|"))
}
