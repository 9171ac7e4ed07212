//! Who runs when, and when the engine starts and ends: a pure state machine.
//!
//! [`Scheduler::step`] takes what happened and the time, and says what to do. It does no I/O,
//! reads no clock and holds no channel, so that a simulation can try it under any schedule.
//!
//! Invariants, checked by the simulation in `tests`: every admitted request gets exactly one
//! terminal action ([`Action::Fail`], or the engine's own end of it); no more requests are in the
//! engine than it can take; the queue is bounded; no request outlives its deadline; and none that
//! has waited for twice the ageing time sees more go before it than its user's other requests, each
//! with one of every other user's.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hob_api::status::State;
use hob_api::{ApiError, ErrorCode};
use hob_ipc::RequestId;

mod engine;
mod errors;
mod message;
mod pace;
mod queue;
mod requests;
#[cfg(test)]
mod tests;

use self::engine::{Engine, Next};
pub(crate) use self::errors::{queue_full, share_full};
pub use self::message::{Action, Bounds, Input};
use self::pace::Pace;
use self::queue::Queue;
use self::requests::{Entry, Stage};
use crate::pressure::Level;

/// The state machine.
#[derive(Debug)]
pub struct Scheduler {
    bounds: Bounds,
    /// What the engine takes: its own word, at most `bounds.parallel`.
    parallel: usize,
    entries: BTreeMap<RequestId, Entry>,
    queue: Queue,
    pace: Pace,
    /// How long the engine stays without work, since the last request.
    keep_alive: Duration,
    engine: Engine,
    /// Times of recent losses, oldest first, at most `CRASHES_MAX`.
    crashes: VecDeque<Instant>,
    /// Set once shutdown began: when running requests must have ended.
    shutdown: Option<Instant>,
    exited: bool,
    /// What is given up for want of memory.
    pressure: Level,
    actions: Vec<Action>,
}

impl Scheduler {
    /// A scheduler with no engine and no request.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            parallel: bounds.parallel,
            keep_alive: bounds.keep_alive,
            bounds,
            entries: BTreeMap::new(),
            queue: Queue::default(),
            pace: Pace::default(),
            engine: Engine::Asleep,
            crashes: VecDeque::new(),
            shutdown: None,
            exited: false,
            pressure: Level::None,
            actions: Vec::new(),
        }
    }

    /// Takes in what happened at `now`, and says what to do, in order.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        match input {
            Input::Submit {
                id,
                uid,
                class,
                deadline,
                keep_alive,
            } => {
                let entry = Entry {
                    uid,
                    deadline,
                    stage: Stage::Waiting,
                    started: None,
                };
                self.submit(now, id, entry, class, keep_alive);
            }
            Input::Abort { id, error } => self.end(now, id, error),
            Input::Load => self.load(now),
            Input::Unload => self.unload(now),
            Input::StartFailed { error } => self.load_failed(now, error),
            Input::Ready { parallel } => self.ready(now, parallel),
            Input::LoadFailed { error } => self.kill(Next::Fail(error)),
            Input::Alive => self.alive(now),
            Input::Busy => self.busy(now),
            Input::Ended { id } => self.ended(now, id),
            Input::ModelChanged => self.reload(),
            Input::Pressure(level) => self.press(now, level),
            Input::Misbehaved => self.lose(errors::misbehaved),
            Input::Gone => self.gone(now),
            Input::Shutdown => self.shut_down(now),
            Input::Tick => {}
        }
        self.pass_time(now);
        self.dispatch(now);
        self.leave();
        std::mem::take(&mut self.actions)
    }

    /// When [`Input::Tick`] is due, if nothing else happens before.
    pub fn wakeup(&self) -> Option<Instant> {
        let engine = match &self.engine {
            Engine::Loading { until } | Engine::BackOff { until } => Some(*until),
            Engine::Ready { alive_at, .. } => {
                let hung_at = *alive_at + self.bounds.hang_timeout;
                Some(self.sleep_at().map_or(hung_at, |at| at.min(hung_at)))
            }
            Engine::Asleep | Engine::Ending(_) | Engine::Failed { .. } => None,
        };
        let deadlines = self.entries.values().map(|e| e.deadline).min();
        [engine, deadlines, self.shutdown]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether questions can be answered, and if not, why.
    pub fn state(&self) -> (State, Option<&ApiError>) {
        match &self.engine {
            Engine::Asleep | Engine::Ending(Next::Sleep) => (State::Sleeping, None),
            Engine::Loading { .. }
            | Engine::BackOff { .. }
            | Engine::Ending(Next::Load | Next::Restart) => (State::Loading, None),
            Engine::Ready { .. } => (State::Ready, None),
            Engine::Failed { error, .. } | Engine::Ending(Next::Fail(error)) => {
                let state = match error.code {
                    ErrorCode::NotReady | ErrorCode::ModelNotFound => State::NoModel,
                    _ => State::Failed,
                };
                (state, Some(error))
            }
        }
    }

    /// Requests in the engine, and requests that wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.in_engine(), self.queue.len())
    }

    /// Whether an engine that ends now was asked to, or said that it would.
    pub fn expects_end(&self) -> bool {
        matches!(
            self.engine,
            Engine::Ending(Next::Sleep | Next::Load | Next::Fail(_))
        )
    }

    fn shut_down(&mut self, now: Instant) {
        if self.shutdown.is_none() {
            self.shutdown = Some(now + self.bounds.shutdown_grace);
            self.end_all(now, errors::shutting_down, |stage| stage == Stage::Waiting);
        }
    }

    fn pass_time(&mut self, now: Instant) {
        let due = |e: &Entry| e.stage != Stage::Leaving && e.deadline <= now;
        let late = self.entries.iter().filter(|(_, e)| due(e));
        let ids: Vec<_> = late.map(|(id, _)| *id).collect();
        for id in ids {
            self.end(now, id, errors::deadline());
        }
        let kept = |e: &Entry| e.stage == Stage::Leaving && e.deadline <= now;
        if self.entries.values().any(kept) {
            // An engine that does not let go of what was cancelled keeps others from its places.
            self.lose(errors::misbehaved);
        }
        if self.shutdown.is_some_and(|until| until <= now) {
            self.end_all(now, errors::shutting_down, |stage| stage == Stage::Running);
        }
        match self.engine {
            Engine::Loading { until } if until <= now => {
                let error = errors::load_timeout(self.bounds.load_timeout);
                self.kill(Next::Fail(error));
            }
            Engine::Ready { alive_at, .. } if alive_at + self.bounds.hang_timeout <= now => {
                self.lose(errors::engine_hung);
            }
            Engine::Ready { .. } if self.pressure == Level::Model && self.entries.is_empty() => {
                self.kill(Next::Sleep);
            }
            Engine::Ready { .. } if self.sleep_at().is_some_and(|at| at <= now) => {
                self.kill(Next::Sleep);
            }
            Engine::BackOff { until } if until <= now && self.shutdown.is_none() => {
                self.start(now);
            }
            _ => {}
        }
    }

    /// Ends the engine, then the daemon, once shutdown began and nobody is owed an answer.
    fn leave(&mut self) {
        let owed = self.entries.values().any(|e| e.stage != Stage::Leaving);
        if self.shutdown.is_none() || owed || self.exited {
            return;
        }
        match self.engine {
            Engine::Loading { .. } | Engine::Ready { .. } => self.kill(Next::Sleep),
            Engine::Ending(ref mut next) => *next = Next::Sleep,
            Engine::Asleep | Engine::BackOff { .. } | Engine::Failed { .. } => {
                self.exited = true;
                self.actions.push(Action::Exit);
            }
        }
    }
}
