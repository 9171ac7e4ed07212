//! The engine's life: loading, ready, ending, back-off, failed.

use std::time::{Duration, Instant};

use hob_api::{ApiError, ErrorCode};

use super::message::Action;
use super::requests::Stage;
use super::{Scheduler, errors};

/// Crashes within this time count together.
const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// As many crashes within [`CRASH_WINDOW`] put the model in quarantine.
pub(super) const CRASHES_MAX: usize = 3;
/// How long a quarantined model is left alone before a request may try it once more.
pub(super) const QUARANTINE: Duration = Duration::from_secs(600);
/// How long after a failed load a request may try again.
const RELOAD_PAUSE: Duration = Duration::from_secs(5);
/// Pause before the first restart of a lost engine; doubled for each further loss in the window.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The engine, as far as is known.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    /// None; the next request starts one.
    Asleep,
    Loading {
        until: Instant,
    },
    Ready {
        alive_at: Instant,
        /// When it last had work.
        worked_at: Instant,
    },
    /// It was killed, or is about to end by itself; waits for `Input::Gone`.
    Ending(Next),
    /// Lost; starts again at the time given.
    BackOff {
        until: Instant,
    },
    Failed {
        error: ApiError,
        retry_at: Instant,
    },
}

/// What follows the end of an engine.
#[derive(Clone, Debug)]
pub(super) enum Next {
    Sleep,
    Load,
    Restart,
    Fail(ApiError),
}

impl Scheduler {
    pub(super) fn load(&mut self, now: Instant) {
        if self.shutdown.is_some() {
            return;
        }
        self.crashes.clear();
        match self.engine {
            Engine::Loading { .. } | Engine::Ready { .. } => {
                self.end_all(now, errors::model_changed, |stage| stage == Stage::Running);
                self.kill(Next::Load);
            }
            Engine::Ending(ref mut next) => *next = Next::Load,
            Engine::Asleep | Engine::BackOff { .. } | Engine::Failed { .. } => self.start(now),
        }
    }

    pub(super) fn unload(&mut self, now: Instant) {
        self.end_all(now, errors::model_unloaded, |_| true);
        match self.engine {
            Engine::Loading { .. } | Engine::Ready { .. } => self.kill(Next::Sleep),
            Engine::Ending(ref mut next) => *next = Next::Sleep,
            Engine::Asleep | Engine::BackOff { .. } | Engine::Failed { .. } => {
                self.engine = Engine::Asleep;
            }
        }
    }

    pub(super) fn start(&mut self, now: Instant) {
        let until = now + self.bounds.load_timeout;
        self.engine = Engine::Loading { until };
        self.actions.push(Action::Start);
    }

    pub(super) fn ready(&mut self, now: Instant, parallel: usize) {
        if matches!(self.engine, Engine::Loading { .. }) {
            self.parallel = parallel.clamp(1, self.bounds.parallel);
            self.engine = Engine::Ready {
                alive_at: now,
                worked_at: now,
            };
        }
    }

    pub(super) fn alive(&mut self, now: Instant) {
        if let Engine::Ready { alive_at, .. } = &mut self.engine {
            *alive_at = now;
        }
    }

    pub(super) fn busy(&mut self, now: Instant) {
        if let Engine::Ready { worked_at, .. } = &mut self.engine {
            *worked_at = now;
        }
    }

    pub(super) fn kill(&mut self, next: Next) {
        if matches!(self.engine, Engine::Loading { .. } | Engine::Ready { .. }) {
            self.engine = Engine::Ending(next);
            self.actions.push(Action::Kill);
        }
    }

    /// Ends the engine over a model that changed under it; loading it again verifies it again.
    pub(super) fn reload(&mut self) {
        self.fail_running(errors::model_overwritten);
        self.kill(Next::Load);
    }

    /// Gives up on an engine that is still there.
    pub(super) fn lose(&mut self, error: fn() -> ApiError) {
        self.fail_running(error);
        self.kill(Next::Restart);
    }

    pub(super) fn gone(&mut self, now: Instant) {
        let engine = std::mem::replace(&mut self.engine, Engine::Asleep);
        self.fail_running(errors::engine_lost);
        match engine {
            Engine::Ending(Next::Sleep) if self.queue.is_empty() => {}
            Engine::Ending(Next::Sleep | Next::Load) => self.start(now),
            Engine::Ending(Next::Fail(error)) => self.load_failed(now, error),
            Engine::Loading { .. } | Engine::Ready { .. } | Engine::Ending(Next::Restart) => {
                self.crashed(now);
            }
            other @ (Engine::Asleep | Engine::BackOff { .. } | Engine::Failed { .. }) => {
                self.engine = other;
            }
        }
    }

    pub(super) fn crashed(&mut self, now: Instant) {
        self.crashes.push_back(now);
        self.crashes
            .retain(|at| now.saturating_duration_since(*at) < CRASH_WINDOW);
        if self.crashes.len() >= CRASHES_MAX {
            self.fail_engine(now, QUARANTINE, errors::quarantined());
        } else {
            let doublings = u32::try_from(self.crashes.len()).unwrap_or(u32::MAX) - 1;
            let until = now + BACK_OFF * 2_u32.pow(doublings);
            self.engine = Engine::BackOff { until };
        }
    }

    pub(super) fn load_failed(&mut self, now: Instant, error: ApiError) {
        // A missing model costs nothing to look for again, and may have been installed by then.
        let pause = match error.code {
            ErrorCode::NotReady | ErrorCode::ModelNotFound => Duration::ZERO,
            _ => RELOAD_PAUSE,
        };
        self.fail_engine(now, pause, error);
    }

    pub(super) fn fail_engine(&mut self, now: Instant, pause: Duration, error: ApiError) {
        self.end_all(now, || error.clone(), |stage| stage == Stage::Waiting);
        let retry_at = now + pause;
        self.engine = Engine::Failed { error, retry_at };
    }

    /// When an engine without work is to end.
    pub(super) fn sleep_at(&self) -> Option<Instant> {
        match self.engine {
            Engine::Ready { worked_at, .. }
                if self.entries.is_empty() && !self.keep_alive.is_zero() =>
            {
                Some(worked_at + self.keep_alive)
            }
            _ => None,
        }
    }
}
