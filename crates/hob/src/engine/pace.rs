//! How fast an engine is, and how much memory it takes.

use std::time::Duration;

use hob_api::chat::Class;
use hob_ipc::message::{Finished, Generate, Prompt, Sampling};
use hob_ipc::{Command, EngineEvent};

use super::{Engine, EngineError, N_CTX};

/// How fast one answer was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Tokens a second while the prompt was read.
    pub(crate) prefill: f64,
    /// Tokens a second while the answer was written; `None` if it had too few.
    pub(crate) decode: Option<f64>,
}

/// Memory of an engine's process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// The most that was resident at once, weights included.
    pub(crate) peak: u64,
    /// What of that resident now is its own, and no file's.
    pub(crate) private: u64,
}

impl Engine {
    /// Lets the model go on from `prompt` for `tokens` tokens, the likeliest always, and tells how fast that
    /// was.
    ///
    /// # Errors
    /// [`EngineError`], also where the prompt leaves no room for an answer.
    pub(crate) fn pace(&mut self, prompt: &str, tokens: u32) -> Result<Pace, EngineError> {
        let asked = self.next_request();
        self.send(&Command::Generate(Box::new(Generate {
            id: asked,
            prompt: Prompt::Text(prompt.to_owned()),
            max_tokens: tokens,
            stop: Vec::new(),
            sampling: Sampling::GREEDY,
            cache_owner: None,
            class: Class::Batch,
            drafts: false,
            constraint: None,
        })))?;
        let finished = self.answer(asked, |event| match event {
            EngineEvent::Finished(finished) if finished.id == asked => Some(Ok(finished)),
            _ => None,
        })?;
        pace(&finished).ok_or(EngineError::Absurd)
    }

    /// The memory that the engine takes; `None` if the kernel does not tell.
    pub(crate) fn footprint(&self) -> Option<Footprint> {
        let path = format!("/proc/{}/status", self.child.id());
        footprint(&std::fs::read_to_string(path).ok()?)
    }
}

/// What an answer's figures say; `None` if they can't be right.
fn pace(finished: &Finished) -> Option<Pace> {
    let rate = |tokens: u32, microseconds: u64| {
        let seconds = Duration::from_micros(microseconds).as_secs_f64();
        (tokens > 0 && seconds > 0.0).then(|| f64::from(tokens) / seconds)
    };
    let read = finished.prompt_tokens.checked_sub(finished.cached_tokens)?;
    let sane = finished.prompt_tokens <= N_CTX && finished.completion_tokens <= N_CTX;
    // The first token of an answer comes with the prompt.
    let written = finished.completion_tokens.saturating_sub(1);
    sane.then_some(())?;
    Some(Pace {
        prefill: rate(read, finished.prefill_us)?,
        decode: rate(written, finished.decode_us),
    })
}

/// The figures of `/proc/PID/status` (proc(5)).
fn footprint(status: &str) -> Option<Footprint> {
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes = line.trim().strip_suffix(" kB")?.trim();
        kibibytes.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Footprint {
        peak: of("VmHWM:")?,
        private: of("RssAnon:")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use hob_ipc::RequestId;

    use super::*;

    #[test]
    fn rates_are_tokens_by_seconds() {
        let finished = Finished {
            completion_tokens: 21,
            decode_us: 2_000_000,
            ..Finished::without_answer(RequestId(1), 100, 500_000)
        };
        let found = pace(&finished).unwrap();
        assert!((found.prefill - 200.0).abs() < 1e-9);
        assert!((found.decode.unwrap() - 10.0).abs() < 1e-9);
        let short = Finished {
            completion_tokens: 1,
            ..finished
        };
        assert_eq!(pace(&short).unwrap().decode, None);
        let impossible = Finished {
            cached_tokens: 101,
            ..finished
        };
        assert_eq!(pace(&impossible), None);
        assert_eq!(
            pace(&Finished {
                prefill_us: 0,
                ..finished
            }),
            None
        );
    }

    #[test]
    fn the_kernels_figures_are_read() {
        let status = "Name:\thob-engine\nVmHWM:\t  123456 kB\nRssAnon:\t     100 kB\n";
        let found = footprint(status).unwrap();
        assert_eq!((found.peak, found.private), (123_456 << 10, 100 << 10));
        assert_eq!(footprint("VmHWM:\t1 kB\n"), None);
        assert_eq!(footprint(""), None);
    }
}
