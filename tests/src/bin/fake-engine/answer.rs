//! How a request goes: the words after `fake: ` at the start of the last message.
//!
//! | words | what happens |
//! | --- | --- |
//! | (no `fake: `) | the prompt comes back, a word at a time |
//! | `slow MS N` | N words, that long apart |
//! | `prefill MS` | the prompt takes that long to read, with progress; then one word |
//! | `repeat N TEXT` | the text N times, as fast as the socket takes it |
//! | `show` | the request itself as JSON, so that a test sees what reached the engine |
//! | `crash after N`, `exit after N` | N words, then the process aborts or exits 0 |
//! | `hang` | one word, then no progress while heartbeats go on and `Cancel` is ignored |
//! | `mute` | one word, then nothing, heartbeats included |
//! | `flood` | words without end, whatever the limit, until hobd closes the socket |
//! | `deaf MS` | words for that long, and `Cancel` is ignored |
//! | `garbage`, `oversized`, `bad-utf8` | a frame that no decoder takes |
//! | `long-delta` | one well-formed event far longer than a token |
//! | `empty-delta` | a delta with no text |
//! | `escape` | terminal escape sequences |
//! | `wrong-id` | a delta for a request that never was, then a normal answer |
//! | `double-finish` | two terminal events |
//! | `after-finish` | a delta after the terminal event |
//! | `overcount` | more tokens reported than were allowed |
//! | `second-ready` | `Ready` in the middle of an answer |
//! | `fail CODE` | `Failed` with that code: `decode`, `template`, … |
//!
//! Said at home, `fake: home A // B // C` is answered with A, then with B when the engine is told what
//! came of A, and so on. Each is text, or `obey` for what the last message has in quotes behind `do: `,
//! or `nothing` for no answer until it is cancelled, or `fail CODE`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hob_api::chat::Role;
use hob_api::event::FinishReason;
use hob_ipc::EngineEvent;
use hob_ipc::message::{ChatMessage, FailureCode, Finished, Generate, Prompt, Ready, RequestId};

use crate::load::FOREVER;
use crate::wire::Wire;

/// One request under way.
struct Reply<'a> {
    wire: &'a Wire,
    id: RequestId,
    cancelled: &'a AtomicBool,
    prompt_tokens: u32,
    max_tokens: u32,
    sent: u32,
}

pub(crate) fn run(wire: &Wire, generate: &Generate, model: &Ready, cancelled: &AtomicBool) {
    let prompt_tokens = count(&generate.prompt);
    let mut reply = Reply {
        wire,
        id: generate.id,
        cancelled,
        prompt_tokens,
        max_tokens: generate.max_tokens,
        sent: 0,
    };
    if !model.chat && generate.prompt.is_chat() {
        return reply.fail(FailureCode::NoChatTemplate);
    }
    if prompt_tokens >= model.n_ctx {
        return reply.fail(FailureCode::ContextOverflow);
    }
    wire.send(&EngineEvent::Prefill {
        id: reply.id,
        processed: prompt_tokens,
        total: prompt_tokens,
    });
    if let Some(part) = part_at_home(&generate.prompt) {
        return at_home(&mut reply, &part, last_text(&generate.prompt));
    }
    let text = last_text(&generate.prompt).to_owned();
    match text.strip_prefix("fake: ") {
        None => reply.say_all(text.split_inclusive(' '), Duration::ZERO),
        Some("show") => {
            let json = serde_json::to_string(generate).unwrap_or_default();
            reply.say_all([json.as_str()], Duration::ZERO);
        }
        Some(command) => obey(&mut reply, command),
    }
}

/// Which part of what was said at home it is the turn of.
fn part_at_home(prompt: &Prompt) -> Option<String> {
    let Prompt::Chat(messages) = prompt else {
        return None;
    };
    let said = |message: &ChatMessage| {
        let (_, parts) = message.content.rsplit_once("Said: fake: home ")?;
        Some(parts.to_owned())
    };
    let at = messages
        .iter()
        .rposition(|message| said(message).is_some())?;
    let answered = messages[at..].iter().filter(|m| m.role == Role::Assistant);
    let parts = said(&messages[at])?;
    let part = parts.split(" // ").nth(answered.count());
    Some(part.unwrap_or("(done)").to_owned())
}

fn at_home(reply: &mut Reply, part: &str, told: &str) {
    match part {
        "nothing" => reply.read_for(Duration::from_secs(3600)),
        "obey" => {
            let order = told.split_once("do: ").map_or("(done)", |(_, order)| order);
            let order = order.replace("\\\"", "'");
            let order = order.split('"').next().unwrap_or_default();
            reply.say_all([order.replace('\'', "\"").as_str()], Duration::ZERO);
        }
        part if part.starts_with("fail ") => obey(reply, part),
        text => reply.say_all([text], Duration::ZERO),
    }
}

fn obey(reply: &mut Reply, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["slow", ms, n] => {
            reply.say_all(["word "].repeat(number(n)), millis(ms));
        }
        ["prefill", ms] => reply.read_for(millis(ms)),
        ["repeat", n, ..] => {
            let text = command.splitn(3, ' ').nth(2).unwrap_or_default();
            reply.say_all([text].repeat(number(n)), Duration::ZERO);
        }
        ["crash", "after", n] => {
            reply.words(number(n));
            std::process::abort();
        }
        ["exit", "after", n] => {
            reply.words(number(n));
            std::process::exit(0);
        }
        ["hang"] => {
            reply.words(1);
            std::thread::sleep(FOREVER);
        }
        ["mute"] => {
            reply.words(1);
            reply.wire.mute();
            std::thread::sleep(FOREVER);
        }
        ["flood"] => loop {
            reply.words(1);
        },
        ["deaf", ms] => {
            let end = Instant::now() + millis(ms);
            while Instant::now() < end {
                reply.words(1);
                std::thread::sleep(Duration::from_millis(10));
            }
            reply.finish();
        }
        ["fail", code] => match serde_json::from_value((*code).into()) {
            Ok(code) => reply.fail(code),
            Err(error) => panic!("no such failure: {error}"),
        },
        [breach] => violate(reply, breach),
        other => panic!("no such behaviour: {other:?}"),
    }
}

/// What no honest engine sends.
fn violate(reply: &mut Reply, breach: &str) {
    match breach {
        "garbage" => reply.wire.send_raw(&[3, 0, 0, 0, b'}', b'{', b'!']),
        "oversized" => reply.wire.send_raw(&[0xff, 0xff, 0xff, 0xff, b'x']),
        "bad-utf8" => reply.wire.send_raw(&bad_utf8(reply.id)),
        "long-delta" => reply.delta(&"x".repeat(60 << 10)),
        "empty-delta" => reply.delta(""),
        "escape" => reply.delta("\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\rend\u{202e}"),
        "wrong-id" => {
            let id = RequestId(reply.id.0 + 1_000_000);
            let text = "astray".to_owned();
            reply.wire.send(&EngineEvent::Delta { id, text });
        }
        "double-finish" => reply.finish(),
        "after-finish" => {
            reply.finish();
            return reply.delta("too late");
        }
        "overcount" => reply.sent = u32::MAX,
        "second-ready" => reply.wire.send(&EngineEvent::Ready(Ready::default())),
        other => panic!("no such behaviour: {other:?}"),
    }
    reply.finish();
}

/// A `Delta` frame whose text holds a byte that is not UTF-8.
fn bad_utf8(id: RequestId) -> Vec<u8> {
    let mut body = format!("{{\"delta\":{{\"id\":{id},\"text\":\"").into_bytes();
    body.extend_from_slice(b"\xff\"}}");
    let mut frame = u32::try_from(body.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes()
        .to_vec();
    frame.extend_from_slice(&body);
    frame
}

impl Reply<'_> {
    fn delta(&mut self, text: &str) {
        self.sent = self.sent.saturating_add(1);
        self.wire.send(&EngineEvent::Delta {
            id: self.id,
            text: text.to_owned(),
        });
    }

    /// `n` words at once.
    fn words(&mut self, n: usize) {
        for _ in 0..n {
            self.delta("word ");
        }
    }

    /// Reads the prompt for that long, until cancelled, then says a word.
    fn read_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.cancelled.load(Ordering::Relaxed) {
                return self.fail(FailureCode::Cancelled);
            }
            self.wire.advance();
            std::thread::sleep(Duration::from_millis(2));
        }
        self.delta("word");
        self.finish();
    }

    /// The pieces, `pause` apart, within the limits and until cancelled.
    fn say_all<'p>(&mut self, pieces: impl IntoIterator<Item = &'p str>, pause: Duration) {
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            if self.cancelled.load(Ordering::Relaxed) {
                return self.fail(FailureCode::Cancelled);
            }
            if self.sent == self.max_tokens {
                return self.finish_because(FinishReason::Length);
            }
            self.delta(piece);
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        self.finish();
    }

    fn finish(&mut self) {
        self.finish_because(FinishReason::Stop);
    }

    fn finish_because(&mut self, reason: FinishReason) {
        self.wire.send(&EngineEvent::Finished(Finished {
            id: self.id,
            reason,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: 0,
            completion_tokens: self.sent,
            drafted_tokens: 0,
            accepted_tokens: 0,
            forced_tokens: 0,
            passes: 0,
            prefill_us: 1,
            decode_us: 1,
        }));
    }

    fn fail(&mut self, code: FailureCode) {
        self.wire.send(&EngineEvent::Failed {
            id: self.id,
            code,
            message: "the fake engine failed this request".to_owned(),
            prompt_tokens: self.prompt_tokens,
        });
    }
}

fn last_text(prompt: &Prompt) -> &str {
    prompt.texts().pop().unwrap_or_default()
}

fn count(prompt: &Prompt) -> u32 {
    let texts = prompt.texts().into_iter();
    let words: usize = texts.map(|text| text.split_whitespace().count()).sum();
    u32::try_from(words).unwrap_or(u32::MAX)
}

fn number(word: &str) -> usize {
    word.parse()
        .unwrap_or_else(|error| panic!("{word}: {error}"))
}

fn millis(word: &str) -> Duration {
    Duration::from_millis(
        word.parse()
            .unwrap_or_else(|error| panic!("{word}: {error}")),
    )
}
