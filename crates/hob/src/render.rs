//! What the daemon says, as text for people. Pure: no input, no output, no clock.

use hob_api::Event;
use hob_api::event::{FinishReason, Timings, Usage};
use hob_api::status::{State, Status};

/// What an answer waits for, from the last event and, if known, the daemon's state.
pub(crate) fn waiting(last: Option<&Event>, status: Option<&Status>) -> String {
    if let Some(Event::Prefill { processed, total }) = last {
        let percent = u64::from(*processed) * 100 / u64::from(*total).max(1);
        return format!("reading the prompt: {percent} % ({processed} of {total} tokens)");
    }
    if let Some(status) = status.filter(|status| status.state == State::Loading) {
        let model = status
            .model
            .as_ref()
            .map_or("the model", |model| &model.name);
        return format!("loading {model}: {} %", status.load_percent);
    }
    match last {
        Some(Event::Reasoning { .. }) => "the model thinks before it answers".to_owned(),
        Some(Event::Queued { position: 1 }) => "queued: 1 question before this one".to_owned(),
        Some(Event::Queued { position }) if *position > 1 => {
            format!("queued: {position} questions before this one")
        }
        _ => "waiting for the model".to_owned(),
    }
}

/// What an answer cost, on one line.
pub(crate) fn cost(usage: &Usage, timings: &Timings) -> String {
    let cached = match usage.prompt_tokens_details.cached_tokens {
        0 => String::new(),
        cached => format!(" ({cached} cached)"),
    };
    format!(
        "prompt {} tokens{cached} in {}, {:.1} tok/s · answer {} tokens in {}, {:.1} tok/s",
        usage.prompt_tokens,
        seconds(timings.prefill_ms),
        timings.prefill_per_second,
        usage.completion_tokens,
        seconds(timings.decode_ms),
        timings.decode_per_second,
    )
}

/// What to add to an answer that did not come to its own end.
pub(crate) fn incomplete(reason: FinishReason) -> Option<&'static str> {
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls => None,
        FinishReason::Length => Some(
            "(the answer reached its length limit, or the end of the context; \
             --max-tokens sets the limit)",
        ),
    }
}

/// Bytes in the unit that a person would choose.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Exact enough for one decimal.
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time span in its two largest units.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

/// `count` of something whose plural takes an s.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// A count with its unit of thousands or millions, as models' sizes are given.
pub(crate) fn count(count: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let value = count as f64;
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.0} k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} M", value / 1e6),
        _ => format!("{:.1} G", value / 1e9),
    }
}

fn seconds(ms: f64) -> String {
    format!("{:.2} s", ms / 1000.0)
}

#[cfg(test)]
mod tests {
    use hob_api::status::ModelStatus;

    use super::*;

    #[test]
    fn prefill_beats_everything() {
        let event = Event::Prefill {
            processed: 128,
            total: 512,
        };
        assert_eq!(
            waiting(Some(&event), None),
            "reading the prompt: 25 % (128 of 512 tokens)"
        );
    }

    #[test]
    fn loading_is_said_while_queued() {
        let status = Status {
            state: State::Loading,
            load_percent: 42,
            model: Some(ModelStatus {
                name: "tiny".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let queued = Event::Queued { position: 2 };
        assert_eq!(waiting(Some(&queued), Some(&status)), "loading tiny: 42 %");
        assert_eq!(
            waiting(Some(&queued), None),
            "queued: 2 questions before this one"
        );
        assert_eq!(waiting(None, None), "waiting for the model");
    }

    #[test]
    fn an_empty_prompt_is_no_division_by_zero() {
        let event = Event::Prefill {
            processed: 0,
            total: 0,
        };
        assert_eq!(
            waiting(Some(&event), None),
            "reading the prompt: 0 % (0 of 0 tokens)"
        );
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(bytes(102_400_000), "97.7 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3_661), "1 h 1 min");
        assert_eq!(span(90_000), "1 d 1 h");
        assert_eq!(counted(1, "turn"), "1 turn");
        assert_eq!(counted(0, "turn"), "0 turns");
        assert_eq!(count(134_515_008), "135 M");
        assert_eq!(count(1_235_000_000), "1.2 G");
    }

    #[test]
    fn cost_names_the_cache() {
        let timings = Timings {
            prefill_ms: 500.0,
            decode_ms: 2000.0,
            prefill_per_second: 60.0,
            decode_per_second: 10.0,
            ..Default::default()
        };
        assert_eq!(
            cost(&Usage::new(40, 10, 20), &timings),
            "prompt 40 tokens (10 cached) in 0.50 s, 60.0 tok/s · \
             answer 20 tokens in 2.00 s, 10.0 tok/s"
        );
    }
}
