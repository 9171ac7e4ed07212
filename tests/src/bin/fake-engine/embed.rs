//! How a request for embeddings goes: the first input's words after `fake: `.
//!
//! | words | what happens |
//! | --- | --- |
//! | (no `fake: `) | each input gets the vector (1, 0, 0) |
//! | `slow MS` | so long before each |
//! | `crash` | the process aborts after the first |
//! | `nan`, `zeros`, `long` | numbers that are none, that are nothing, or a vector too long |
//! | `uneven` | vectors of different lengths |
//! | `order` | the last input's comes first |
//! | `missing`, `extra` | one embedding too few or too many |
//! | `tokens` | more tokens at the end than in all |
//! | `foreign` | a failure that names an input that never was |

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hob_ipc::EngineEvent;
use hob_ipc::embedding::{Embed, EmbedFailure, EmbedInput, Embedding, Vector};
use hob_ipc::message::{FailureCode, Finished};

use crate::wire::Wire;

pub(crate) fn run(wire: &Wire, request: &Embed, cancelled: &AtomicBool) {
    let words = match request.inputs.first() {
        Some(EmbedInput::Text(text)) => text.strip_prefix("fake: ").unwrap_or_default(),
        _ => "",
    };
    let count = u32::try_from(request.inputs.len()).unwrap_or(u32::MAX);
    let fail = |code| {
        wire.send(&EngineEvent::Failed {
            id: request.id,
            code,
            message: "the fake engine failed this request".to_owned(),
            prompt_tokens: 0,
        });
    };
    if words == "foreign" {
        return fail(FailureCode::Embed(EmbedFailure::Empty { index: count }));
    }
    let made = match words {
        "missing" => count - 1,
        "extra" => count + 1,
        _ => count,
    };
    for index in 0..made {
        if let Some(ms) = words.strip_prefix("slow ") {
            std::thread::sleep(Duration::from_millis(ms.parse().unwrap_or(0)));
        }
        if cancelled.load(Ordering::Relaxed) {
            return fail(FailureCode::Cancelled);
        }
        if words == "crash" && index > 0 {
            std::process::abort();
        }
        wire.send(&EngineEvent::Embedding(Embedding {
            id: request.id,
            index: if words == "order" {
                count - 1 - index
            } else {
                index
            },
            tokens: 1,
            vector: Vector(vector(words, index)),
        }));
    }
    let tokens = if words == "tokens" { count + 1 } else { count };
    let finished = Finished::without_answer(request.id, tokens, 1);
    wire.send(&EngineEvent::Finished(finished));
}

fn vector(words: &str, index: u32) -> Vec<f32> {
    match words {
        "nan" => vec![f32::NAN, 0.0, 0.0],
        "zeros" => vec![0.0; 3],
        "long" => vec![1.0, 1.0, 1.0],
        "uneven" if index > 0 => vec![1.0, 0.0],
        _ => vec![1.0, 0.0, 0.0],
    }
}
