//! How much was answered since hobd started, and how fast lately.

use std::collections::VecDeque;

use hob_api::event::{Timings, Usage};
use hob_api::status::WorkStatus;

/// Answers that count as late ones.
const LATELY: usize = 8;

/// Tokens of one answer, and the milliseconds that they took.
#[derive(Clone, Copy, Debug)]
struct Answer {
    read: (u32, f64),
    written: (u32, f64),
}

/// Sums, and the last answers.
#[derive(Debug, Default)]
pub(super) struct Work {
    sums: WorkStatus,
    lately: VecDeque<Answer>,
}

impl Work {
    pub(super) fn failed(&mut self) {
        self.sums.failed += 1;
    }

    pub(super) fn answered(&mut self, usage: &Usage, timings: &Timings) {
        let cached = usage.prompt_tokens_details.cached_tokens;
        let read = usage.prompt_tokens - cached;
        let written = usage.completion_tokens;
        self.sums.answered += 1;
        self.sums.read_tokens += u64::from(read);
        self.sums.cached_tokens += u64::from(cached);
        self.sums.written_tokens += u64::from(written);
        if self.lately.len() == LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back(Answer {
            read: (read, timings.prefill_ms),
            // An answer's first token comes with the end of its prompt.
            written: (written.saturating_sub(1), timings.decode_ms),
        });
    }

    pub(super) fn status(&self) -> WorkStatus {
        let speed = |part: fn(&Answer) -> (u32, f64)| {
            let parts = self.lately.iter().map(part);
            let (tokens, ms) = parts.fold((0, 0.0), |sum, part| {
                (sum.0 + u64::from(part.0), sum.1 + part.1)
            });
            #[allow(
                clippy::cast_precision_loss,
                reason = "a few contexts are far below 2^52"
            )]
            let tokens = tokens as f64;
            if ms > 0.0 { tokens * 1e3 / ms } else { 0.0 }
        };
        WorkStatus {
            read_per_second: speed(|answer| answer.read),
            written_per_second: speed(|answer| answer.written),
            ..self.sums
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_all_and_speeds_of_the_last() {
        let mut work = Work::default();
        assert!(work.status().read_per_second.abs() < f64::EPSILON);
        let mut answer = |prefill_ms| {
            let timings = Timings {
                prefill_ms,
                decode_ms: 100.0,
                ..Timings::default()
            };
            work.answered(&Usage::new(30, 10, 11), &timings);
        };
        answer(1e9);
        for _ in 0..LATELY {
            answer(100.0);
        }
        work.failed();
        let status = work.status();
        assert_eq!((status.answered, status.failed), (9, 1));
        assert_eq!((status.read_tokens, status.cached_tokens), (180, 90));
        assert_eq!(status.written_tokens, 99);
        assert!((status.read_per_second - 200.0).abs() < 1e-9, "{status:?}");
        assert!((status.written_per_second - 100.0).abs() < 1e-9);
    }
}
