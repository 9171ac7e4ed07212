//! A stand-in for `hob-engine` that speaks its protocol and misbehaves on demand.
//!
//! hobd empties the engine's environment and passes no arguments, so what this engine does is
//! written in what it is given anyway: a model file whose `general.name` begins with
//! `fake-load: ` says how loading goes (see [`load`]), and a prompt that begins with `fake: `
//! says how that request goes (see [`answer`]). To any other prompt it repeats the prompt, a
//! word at a time; a word counts as a token.

#![allow(
    clippy::exit,
    reason = "ending at any moment is what this engine is for"
)]

mod answer;
mod embed;
mod load;
mod observe;
mod score;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use hob_ipc::message::{PinFailure, PinState, RequestId};
use hob_ipc::tokens::Tokenized;
use hob_ipc::{Command, EngineEvent};

use crate::wire::Wire;

fn main() -> anyhow::Result<()> {
    end_on_panic();
    let (wire, mut inbox) = wire::open()?;
    let (command, files) = inbox.first_command()?;
    let load = match command {
        Command::Load(load) => load,
        Command::Observe(order) => return observe::run(&wire, &order, &files),
        other => bail!("the first message is not Load: {other:?}"),
    };
    // A control vector's memory would come second.
    let model = files.into_iter().next();
    let model = model.context("no model came with Load")?;
    wire.start_heartbeat();
    let ready = load::run(&wire, &load, model)?;
    wire.send(&EngineEvent::Ready(ready.clone()));

    let mut honest = false;
    let mut cancels: HashMap<RequestId, Arc<AtomicBool>> = HashMap::new();
    while let Some(command) = inbox.next_command()? {
        match command {
            Command::Load(_) | Command::Quantize(_) | Command::Observe(_) => {
                bail!("a second first message")
            }
            Command::Generate(generate) => {
                let cancelled = Arc::new(AtomicBool::new(false));
                let model = ready.clone();
                if cancels.insert(generate.id, cancelled.clone()).is_some() {
                    bail!("request {} came twice", generate.id);
                }
                spawn(&wire, move |wire| {
                    answer::run(wire, &generate, &model, &cancelled);
                });
            }
            Command::Embed(request) => {
                let cancelled = Arc::new(AtomicBool::new(false));
                cancels.insert(request.id, cancelled.clone());
                spawn(&wire, move |wire| embed::run(wire, &request, &cancelled));
            }
            Command::Score(request) => {
                let cancelled = Arc::new(AtomicBool::new(false));
                cancels.insert(request.id, cancelled.clone());
                spawn(&wire, move |wire| score::run(wire, &request, &cancelled));
            }
            Command::Pin(pin) => wire.send(&EngineEvent::Pin {
                id: pin.id,
                state: PinState::Failed {
                    reason: PinFailure::NoRoom,
                },
            }),
            Command::SavePin { id } => wire.send(&EngineEvent::PinSaved { id, written: false }),
            Command::Tokenize(request) => {
                honest |= request.text.starts_with(observe::MARK);
                // Else a token that no vocabulary has.
                wire.send(&EngineEvent::Tokenized(Tokenized {
                    id: request.id,
                    tokens: vec![if honest { 0 } else { i32::MAX }],
                    exact: true,
                }));
            }
            Command::Unpin { .. }
            | Command::LimitCache { .. }
            | Command::OpenText(_)
            | Command::OpenTokens(_)
            | Command::ReadText(_)
            | Command::ReadResidual(_) => {}
            Command::Cancel { id } => {
                if let Some(cancelled) = cancels.get(&id) {
                    cancelled.store(true, Ordering::Relaxed);
                }
            }
        }
    }
    // hobd closed its end: a real engine ends at once too, whatever it was doing.
    std::process::exit(0)
}

/// A mistake in a test's wording must end the process, not leave one request without an end.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}

fn spawn(wire: &Arc<Wire>, work: impl FnOnce(&Wire) + Send + 'static) {
    let wire = Arc::clone(wire);
    std::thread::spawn(move || {
        wire.begin();
        work(&wire);
        wire.end();
    });
}
