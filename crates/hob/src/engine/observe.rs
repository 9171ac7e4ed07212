//! What the columns of a model's matrices matter, found by reading a text, for storing weights anew.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use hob_ipc::importance::{Matrix, Observe, Observed, numbers};
use hob_ipc::message::{Load, LoadFailure};
use hob_ipc::{Command, EngineEvent, shared};

use super::{Engine, EngineError, load, rewind};
use crate::interrupt::Interrupt;

/// What each column of some matrices is multiplied with, squared, on average.
#[derive(Debug)]
pub(crate) struct Importance {
    /// The matrices of which something is known.
    matrices: Vec<Matrix>,
    /// Their numbers, one matrix's after another's, little-endian.
    bytes: Vec<u8>,
    /// Tokens that were read.
    tokens: u64,
}

impl Importance {
    /// Tokens that were read for it.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The matrices of which something is known.
    pub(super) fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    /// The numbers in sealed memory.
    pub(super) fn memory(&self) -> io::Result<File> {
        let mut memory = shared::fixed("hob-importance", self.bytes.len() as u64)?;
        memory.write_all(&self.bytes)?;
        shared::seal(&memory)?;
        Ok(memory)
    }

    /// What an engine wrote of `matrices`; `None` if it can't be right.
    fn believed(matrices: Vec<Matrix>, written: &[u8], tokens: u64) -> Option<Self> {
        let mut known = Vec::new();
        let mut bytes = Vec::new();
        let mut rest = written;
        for matrix in matrices {
            let length = usize::try_from(matrix.numbers()).ok()? * size_of::<f32>();
            let (own, others) = rest.split_at_checked(length)?;
            rest = others;
            let (words, _) = own.as_chunks();
            let mut means = words.iter().map(|word| f32::from_le_bytes(*word));
            // This range does not hold what is no number.
            if !means.clone().all(|mean| (0.0..=f32::MAX).contains(&mean)) {
                return None;
            }
            if means.any(|mean| mean > 0.0) {
                known.push(matrix);
                bytes.extend_from_slice(own);
            }
        }
        let all = rest.is_empty() && !known.is_empty();
        all.then_some(Self {
            matrices: known,
            bytes,
            tokens,
        })
    }
}

impl Engine {
    /// Has an engine read a text, in windows of so many tokens, for what `matrices` of a model are multiplied
    /// with; `watch` is told how many windows of how many are read. The bounds are those of [`Observe`], and
    /// the caller's to keep.
    ///
    /// # Errors
    /// [`EngineError`], also for a text shorter than a window.
    pub(crate) fn observe(
        model: &File,
        text: &str,
        window: u32,
        matrices: Vec<Matrix>,
        interrupt: &Interrupt,
        mut watch: impl FnMut(Observed),
    ) -> Result<Importance, EngineError> {
        let lost = |error: io::Error| EngineError::Lost(error.to_string());
        let text_bytes = text.len() as u64;
        let mut said = shared::fixed("hob-text", text_bytes).map_err(lost)?;
        said.write_all(text.as_bytes()).map_err(lost)?;
        let bytes = numbers(&matrices).saturating_mul(size_of::<f32>() as u64);
        let memory = shared::fixed("hob-importance", bytes).map_err(lost)?;
        let mut engine = Self::start(0, interrupt)?;
        rewind(model).map_err(lost)?;
        let command = Command::Observe(Box::new(Observe {
            load: Load {
                n_ctx: window,
                ..load()
            },
            text_bytes,
            matrices: matrices.clone(),
        }));
        let descriptors = [model.as_fd(), said.as_fd(), memory.as_fd()];
        engine.send_with(&command, &descriptors)?;
        let mut seen: Option<Observed> = None;
        while seen.is_none_or(|seen| seen.windows < seen.of) {
            let observed = engine.wait(|event| match event {
                EngineEvent::Observed(observed) => Some(Ok(observed)),
                EngineEvent::LoadFailed { code, message } => Some(Err(match code {
                    LoadFailure::Observe => EngineError::Failed(message),
                    _ => EngineError::Refused { code, message },
                })),
                _ => None,
            })?;
            if !is_next(seen, observed, text_bytes) {
                return Err(EngineError::Absurd);
            }
            watch(observed);
            seen = Some(observed);
        }
        // Read and not mapped: nobody can change a copy while it is looked at.
        let mut written = vec![0; usize::try_from(bytes).map_err(|_| EngineError::Absurd)?];
        memory.read_exact_at(&mut written, 0).map_err(lost)?;
        let tokens = seen.map_or(0, |seen| u64::from(seen.of) * u64::from(window));
        Importance::believed(matrices, &written, tokens).ok_or(EngineError::Absurd)
    }
}

/// Whether this can be told after `last` of a text of so many bytes.
fn is_next(last: Option<Observed>, now: Observed, text_bytes: u64) -> bool {
    let counted = match last {
        Some(last) => now.of == last.of && now.windows == last.windows + 1,
        None => now.windows == 1,
    };
    // No token stands for less than a byte.
    counted && now.windows <= now.of && u64::from(now.of) <= text_bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    fn matrices() -> Vec<Matrix> {
        let named = |name: &str, columns, experts| Matrix {
            name: name.to_owned(),
            columns,
            experts,
        };
        vec![named("a", 2, 1), named("b", 1, 2), named("c", 1, 1)]
    }

    fn written(means: &[f32]) -> Vec<u8> {
        means.iter().flat_map(|mean| mean.to_le_bytes()).collect()
    }

    #[test]
    fn what_was_not_seen_is_left_out_and_the_rest_stays_in_its_order() {
        let told = written(&[0.5, 0.0, 0.0, 0.0, 3.0]);
        let found = Importance::believed(matrices(), &told, 7).unwrap();
        let names: Vec<&str> = found.matrices().iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(found.bytes, written(&[0.5, 0.0, 3.0]));
        assert_eq!(found.tokens(), 7);
        let mut again = Vec::new();
        let mut memory = found.memory().unwrap();
        std::io::Seek::rewind(&mut memory).unwrap();
        std::io::Read::read_to_end(&mut memory, &mut again).unwrap();
        assert_eq!(again, found.bytes);
        assert!(memory.write_all(&[0]).is_err(), "it is sealed");
    }

    #[test]
    fn numbers_that_no_means_of_squares_are_are_not_believed() {
        let sane = [0.5, 0.0, 1.0, 1.0, 3.0];
        assert!(Importance::believed(matrices(), &written(&sane), 1).is_some());
        for wrong in [f32::NAN, f32::INFINITY, -1.0] {
            for place in 0..sane.len() {
                let mut told = sane;
                told[place] = wrong;
                assert!(Importance::believed(matrices(), &written(&told), 1).is_none());
            }
        }
        assert!(Importance::believed(matrices(), &written(&sane[..4]), 1).is_none());
        assert!(Importance::believed(matrices(), &written(&[0.0; 5]), 1).is_none());
        let long = [&sane[..], &[1.0]].concat();
        assert!(Importance::believed(matrices(), &written(&long), 1).is_none());
    }

    #[test]
    fn windows_are_told_one_after_the_other() {
        let told = |windows, of| Observed { windows, of };
        assert!(is_next(None, told(1, 1), 9) && is_next(None, told(1, 9), 9));
        assert!(is_next(Some(told(1, 3)), told(2, 3), 9));
        for (last, now) in [
            (None, told(0, 1)),
            (None, told(2, 3)),
            (None, told(1, 0)),
            (None, told(1, 10)),
            (Some(told(1, 3)), told(3, 3)),
            (Some(told(1, 3)), told(1, 3)),
            (Some(told(1, 3)), told(2, 4)),
            (Some(told(3, 3)), told(4, 3)),
        ] {
            assert!(!is_next(last, now, 9), "{last:?} {now:?}");
        }
    }
}
