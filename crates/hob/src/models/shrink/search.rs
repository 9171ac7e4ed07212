//! Which smaller model is the best within limits: what is tried, in which order, and what is chosen. Pure.
//!
//! What makes the difference is how many tokens there are, and how coarsely their table and the layers'
//! matrices are stored: thousands of combinations, of which a forecast tells which ones are worth
//! measuring. With a limit of loss those are left of which none that is smaller promises as little loss, and
//! they are halved by size; with one of size alone, a few of those that promise least loss are measured.

use hob_ipc::quantize::Scheme;

use crate::failure::Failure;
use crate::render::bytes;

/// With a limit of size alone, so many are measured at most.
const MEASURED: usize = 6;

/// What a smaller model must keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// Most bytes.
    pub(super) bytes: Option<u64>,
    /// Most of the bits per byte that it may take more, as a share of its source's.
    pub(super) loss: Option<f64>,
}

/// A size in bytes, or as a share of the source's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Size {
    Bytes(u64),
    Share(f64),
}

impl Size {
    /// In bytes.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a file's size, which is below 2^52"
    )]
    pub(super) fn of(self, source: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => (source as f64 * share) as u64,
        }
    }
}

/// `80M`, `80MB`, `76MiB`, `1.5G` or `50%`; a number alone counts bytes.
pub(super) fn parse_size(text: &str) -> Result<Size, String> {
    const HELP: &str = "say a size such as 80MB, 76MiB or 50%";
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: f64 = number.parse().map_err(|_| HELP)?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "%" if number > 0.0 && number < 100.0 => return Ok(Size::Share(number / 100.0)),
        "" | "b" => 1e0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return Err(HELP.to_owned()),
    };
    let size = number * factor;
    if !(1.0..1e15).contains(&size) {
        return Err(HELP.to_owned());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within the range just looked at"
    )]
    Ok(Size::Bytes(size as u64))
}

/// `1%`, or `1`: as a share.
pub(super) fn parse_loss(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: f64 = number.parse().map_err(|_| "say a share such as 1%")?;
    if (0.0..=100.0).contains(&percent) {
        Ok(percent / 100.0)
    } else {
        Err("say a share from 0% to 100%".to_owned())
    }
}

/// Something to try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Tokens that stay.
    pub(super) tokens: usize,
    /// How their table is stored; `None` for as it is.
    pub(super) embedding: Option<Scheme>,
    /// How the layers' matrices are stored: 0 for as they are, and the more the coarser.
    pub(super) stop: usize,
    /// Layers that are left out.
    pub(super) layers_out: usize,
    /// The model's bytes; with another type of table, some hundred fewer perhaps.
    pub(super) bytes: u64,
    /// The loss that it promises.
    pub(super) forecast: f64,
}

/// A candidate that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tried {
    pub(super) candidate: Candidate,
    /// Bits per byte more than the source takes, as a share of these.
    pub(super) loss: f64,
    /// Half of the width of the loss's interval of 95 %; `None` of a single piece.
    pub(super) error: Option<f64>,
}

/// A search under way.
#[derive(Clone, Debug)]
pub(super) struct Search {
    limits: Limits,
    /// By size.
    candidates: Vec<Candidate>,
    /// With a limit of loss: between these the smallest that keeps to it is looked for.
    open: std::ops::Range<usize>,
    tried: Vec<Tried>,
}

impl Search {
    /// A search among `candidates`.
    ///
    /// # Errors
    /// When none of them keeps to the limit of size.
    pub(super) fn new(limits: Limits, mut candidates: Vec<Candidate>) -> Result<Self, Failure> {
        // Of types of as many bits, the later one is llama.cpp's better one.
        candidates.sort_by_key(|one| (one.bytes, std::cmp::Reverse(one.embedding)));
        let smallest = candidates.first().map_or(0, |candidate| candidate.bytes);
        if let Some(most) = limits.bytes {
            candidates.retain(|candidate| candidate.bytes <= most);
            if candidates.is_empty() {
                return Err(too_large(most, smallest, ""));
            }
        }
        let candidates = match limits.loss {
            Some(_) => frontier(candidates),
            None => promising(candidates),
        };
        Ok(Self {
            limits,
            open: 0..candidates.len(),
            candidates,
            tried: Vec::new(),
        })
    }

    /// How many are still to be measured, at most.
    pub(super) fn left(&self) -> usize {
        if self.limits.loss.is_some() {
            (usize::BITS - self.open.len().leading_zeros()) as usize
        } else {
            self.open.len()
        }
    }

    /// What to measure next; `None` when enough is known.
    pub(super) fn next(&self) -> Option<Candidate> {
        let at = match self.limits.loss {
            _ if self.open.is_empty() => return None,
            Some(_) => usize::midpoint(self.open.start, self.open.end),
            None => self.open.start,
        };
        self.candidates.get(at).copied()
    }

    /// Notes what [`Search::next`] gave when it was measured.
    pub(super) fn note(&mut self, tried: Tried) {
        let known = |candidate: &Candidate| *candidate == tried.candidate;
        let at = self.candidates.iter().position(known).unwrap_or(0);
        match self.limits.loss {
            Some(most) if tried.loss <= most => self.open.end = at,
            _ => self.open.start = at + 1,
        }
        self.tried.push(tried);
    }

    /// The best of what was measured: with a limit of loss the smallest that keeps to it, else the one that
    /// loses least.
    ///
    /// # Errors
    /// When none keeps to the limit of loss.
    pub(super) fn best(&self) -> Result<Tried, Failure> {
        let least = |tried: &&Tried, other: &&Tried| tried.loss.total_cmp(&other.loss);
        let found = match self.limits.loss {
            None => self.tried.iter().min_by(least),
            Some(most) => {
                let within = self.tried.iter().filter(|tried| tried.loss <= most);
                within.min_by_key(|tried| tried.candidate.bytes)
            }
        };
        found.copied().ok_or_else(|| {
            let closest = self.tried.iter().min_by(least).map_or_else(String::new, |tried| {
                format!(
                    ": the one that loses least of what was measured, {} with {} tokens, loses {:.2} %",
                    bytes(tried.candidate.bytes),
                    tried.candidate.tokens,
                    tried.loss * 100.0
                )
            });
            Failure::new(format!(
                "no smaller model keeps to --max-loss{closest}"
            ))
            .hint("Allow more with --max-loss or --max-size, or give more text of what it is for.")
        })
    }

    /// All that was measured, in that order.
    pub(super) fn tried(&self) -> &[Tried] {
        &self.tried
    }
}

/// That the smallest model has more bytes than the most that are allowed.
pub(super) fn too_large(most: u64, smallest: u64, about: &str) -> Failure {
    Failure::new(format!(
        "no smaller model has {} or less: the smallest that can be made has {about}{smallest} bytes ({})",
        bytes(most),
        bytes(smallest)
    ))
    .hint("Allow more with --max-size, or begin with a smaller model.")
}

/// Whether a model is as small as was asked for, as its size was a forecast until it was put together.
pub(super) fn keeps_to(most: u64, size: u64) -> Result<(), Failure> {
    if size <= most {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the model that was chosen has {size} bytes, more than the {most} allowed, and was thrown away"
    ))
    .hint("Allow a little less with --max-size, so that another one is chosen."))
}

/// Of all, by size, those that promise less loss than any that is smaller.
fn frontier(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept
            .last()
            .is_none_or(|smaller| candidate.forecast < smaller.forecast)
        {
            kept.push(candidate);
        }
    }
    kept
}

/// Those that promise least loss, by size: of each way to store a model the best vocabulary, and not all with
/// one type of the table, as a forecast may be wrong of that.
fn promising(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|one, other| {
        let forecasts = one.forecast.total_cmp(&other.forecast);
        forecasts.then(other.bytes.cmp(&one.bytes))
    });
    let mut best: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let alike = |other: &&Candidate| other.embedding == candidate.embedding;
        if !best
            .iter()
            .any(|other| alike(&other) && other.stop == candidate.stop)
        {
            best.push(candidate);
        }
    }
    let mut kept: Vec<Candidate> = Vec::new();
    let mut rest = Vec::new();
    for candidate in best {
        let known = kept
            .iter()
            .any(|other| other.embedding == candidate.embedding);
        if !known && kept.len() < MEASURED / 2 {
            kept.push(candidate);
        } else {
            rest.push(candidate);
        }
    }
    let more = MEASURED - kept.len();
    kept.extend(rest.into_iter().take(more));
    kept.sort_by_key(|candidate| candidate.bytes);
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    fn candidates(sizes: &[u64]) -> Vec<Candidate> {
        let types = [None, Some(Scheme::Q5_1), Some(Scheme::Q4_0)];
        let sizes = sizes.iter().zip(types.into_iter().cycle());
        sizes
            .map(|(bytes, embedding)| Candidate {
                tokens: usize::try_from(*bytes).unwrap(),
                embedding,
                stop: 0,
                layers_out: 0,
                bytes: *bytes,
                forecast: 1.0 / *bytes as f64,
            })
            .collect()
    }

    fn measured(candidate: Candidate, loss: f64) -> Tried {
        Tried {
            candidate,
            loss,
            error: None,
        }
    }

    /// Runs a search in which a model loses the less the larger it is.
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    fn run(limits: Limits, sizes: &[u64]) -> Result<(Tried, usize), Failure> {
        let mut search = Search::new(limits, candidates(sizes))?;
        while let Some(candidate) = search.next() {
            let left = search.left();
            search.note(measured(candidate, 1.0 / candidate.bytes as f64));
            assert!(search.left() < left);
        }
        search.best().map(|best| (best, search.tried().len()))
    }

    proptest! {
        #[test]
        fn the_smallest_within_the_loss_is_found_in_few_steps(
            mut sizes in proptest::collection::vec(1u64..1000, 1..60),
            least in 1u32..1200,
        ) {
            sizes.sort_unstable();
            sizes.dedup();
            let loss = 1.0 / f64::from(least);
            let limits = Limits { bytes: None, loss: Some(loss) };
            let wanted = sizes.iter().copied().find(|size| *size >= u64::from(least));
            match (run(limits, &sizes), wanted) {
                (Ok((best, steps)), Some(wanted)) => {
                    prop_assert_eq!(best.candidate.bytes, wanted);
                    prop_assert!(steps <= 7);
                }
                (Err(failure), None) => prop_assert!(failure.message.contains("loses least")),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn what_is_too_large_is_not_even_measured(
            sizes in proptest::collection::vec(1u64..1000, 1..60),
            most in 1u64..1000,
        ) {
            let limits = Limits { bytes: Some(most), loss: None };
            match run(limits, &sizes) {
                Ok((best, steps)) => {
                    // One of each type at most, of which the largest loses least.
                    prop_assert!(steps <= 3);
                    let largest = sizes.iter().filter(|size| **size <= most).max();
                    prop_assert_eq!(Some(&best.candidate.bytes), largest);
                }
                Err(failure) => {
                    let smallest = sizes.iter().min().unwrap();
                    prop_assert!(*smallest > most);
                    let named = format!("{smallest} bytes");
                    prop_assert!(failure.message.contains(&named));
                }
            }
        }
    }

    #[test]
    fn of_what_promises_as_much_the_largest_is_measured() {
        let mut alike = candidates(&[100, 200, 300, 400, 500, 600]);
        for one in &mut alike {
            one.forecast = 0.5;
        }
        let search = Search::new(Limits::default(), alike).unwrap();
        let measured: Vec<u64> = search.candidates.iter().map(|one| one.bytes).collect();
        assert_eq!(measured, [400, 500, 600]);
    }

    #[test]
    fn sizes_and_losses_are_read_as_people_write_them() {
        assert_eq!(parse_size("80MB"), Ok(Size::Bytes(80_000_000)));
        assert_eq!(parse_size("80m"), Ok(Size::Bytes(80_000_000)));
        assert_eq!(parse_size("1.5 GiB"), Ok(Size::Bytes(1_610_612_736)));
        assert_eq!(parse_size("4096"), Ok(Size::Bytes(4096)));
        assert_eq!(parse_size("50%").unwrap().of(1000), 500);
        for wrong in [
            "", "MB", "0", "0%", "100%", "-5M", "5 apples", "1.2.3M", "9e9G",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_loss("1%"), Ok(0.01));
        assert_eq!(parse_loss("0"), Ok(0.0));
        for wrong in ["", "%", "-1%", "101%", "nan", "one"] {
            assert!(parse_loss(wrong).is_err(), "{wrong}");
        }
    }
}
