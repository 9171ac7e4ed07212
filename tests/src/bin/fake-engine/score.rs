//! How a request for likelihoods goes: the first prompt's words after `fake: `, up to a full stop.
//!
//! | words | what happens |
//! | --- | --- |
//! | (no `fake: `) | each byte of a continuation halves its likelihood |
//! | `slow MS` | so long before each part |
//! | `crash` | the process aborts after the first part |
//! | `positive`, `least` | a log-probability above 0, or below any |
//! | `uneven` | one continuation too few |
//! | `order` | the last part comes first |
//! | `missing`, `extra` | one part too few or too many |
//! | `ends` | the likelihood of an end that nobody asked for, or none where one is asked for |
//! | `tokens` | fewer tokens at the end than the continuations have |
//! | `foreign` | a failure that names a part that never was |

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hob_api::score::Likelihood;
use hob_ipc::EngineEvent;
use hob_ipc::message::{FailureCode, Finished};
use hob_ipc::score::{Score, ScoreFailure, ScorePart, Scored};

use crate::wire::Wire;

pub(crate) fn run(wire: &Wire, request: &Score, cancelled: &AtomicBool) {
    let words = request.parts.first().map(words).unwrap_or_default();
    let count = u32::try_from(request.parts.len()).unwrap_or(u32::MAX);
    let fail = |code| {
        wire.send(&EngineEvent::Failed {
            id: request.id,
            code,
            message: "the fake engine failed this request".to_owned(),
            prompt_tokens: 0,
        });
    };
    if words == "foreign" {
        return fail(FailureCode::Score(ScoreFailure::Empty { part: count }));
    }
    let told = match words.as_str() {
        "missing" => count - 1,
        "extra" => count + 1,
        _ => count,
    };
    for part in 0..told {
        if let Some(ms) = words.strip_prefix("slow ") {
            let until = Instant::now() + Duration::from_millis(ms.parse().unwrap_or(0));
            while Instant::now() < until && !cancelled.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if cancelled.load(Ordering::Relaxed) {
            return fail(FailureCode::Cancelled);
        }
        if words == "crash" && part > 0 {
            std::process::abort();
        }
        let asked = &request.parts[part.min(count - 1) as usize];
        let mut likelihoods = likelihoods(&words, asked, request);
        if words == "uneven" {
            likelihoods.pop();
        }
        wire.send(&EngineEvent::Scored(Scored {
            id: request.id,
            part: if words == "order" {
                count - 1 - part
            } else {
                part
            },
            likelihoods,
        }));
    }
    let continuations = request.parts.iter().map(|part| part.continuations.len());
    let continuations = u32::try_from(continuations.sum::<usize>()).unwrap_or(u32::MAX);
    let tokens = match words.as_str() {
        "tokens" => continuations - 1,
        _ => continuations + count,
    };
    wire.send(&EngineEvent::Finished(Finished {
        passes: 1,
        ..Finished::without_answer(request.id, tokens, 1)
    }));
}

fn words(part: &ScorePart) -> String {
    let text = part.prompt.texts().pop().unwrap_or_default();
    let words = text.split_once("fake: ").map_or("", |(_, words)| words);
    words.split('.').next().unwrap_or_default().to_owned()
}

fn likelihoods(words: &str, part: &ScorePart, request: &Score) -> Vec<Likelihood> {
    let each = part.continuations.iter().map(|text| Likelihood {
        log_probability: match words {
            "positive" => 0.5,
            "least" => -1e9,
            #[allow(clippy::cast_precision_loss, reason = "a few bytes")]
            _ => -(text.len() as f64) * std::f64::consts::LN_2,
        },
        tokens: 1,
        greedy: false,
        end: (request.ends != (words == "ends")).then_some(-1.0),
        token_log_probabilities: request.single_tokens.then(|| vec![-1.0]),
    });
    each.collect()
}
