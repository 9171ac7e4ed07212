//! Who runs when, and when the engine starts and ends: a pure state machine.
//!
//! [`Scheduler::step`] takes what happened and the time, and says what to do. It does no I/O,
//! reads no clock and holds no channel, so that a simulation can try it under any schedule.
//!
//! Invariants, checked by the simulation in `tests`: every admitted request gets exactly one
//! terminal action ([`Action::Fail`], or the engine's own end of it); no more requests are in the
//! engine than it can take; the queue is bounded; and no request outlives its deadline.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hob_api::chat::Class;
use hob_api::status::State;
use hob_api::{ApiError, ErrorCode};
use hob_ipc::RequestId;

mod errors;
mod pace;
mod queue;
#[cfg(test)]
mod tests;

use self::pace::Pace;
use self::queue::Queue;

/// Crashes within this time count together.
const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// As many crashes within [`CRASH_WINDOW`] put the model in quarantine.
const CRASHES_MAX: usize = 3;
/// How long a quarantined model is left alone before a request may try it once more.
const QUARANTINE: Duration = Duration::from_secs(600);
/// How long after a failed load a request may try again.
const RELOAD_PAUSE: Duration = Duration::from_secs(5);
/// Pause before the first restart of a lost engine; doubled for each further loss in the window.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What the scheduler keeps to.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Requests that may wait.
    pub queue: usize,
    /// Requests of one uid, waiting or in the engine.
    pub per_uid: usize,
    /// Requests in the engine.
    pub parallel: usize,
    /// How long a load may take.
    pub load_timeout: Duration,
    /// How long the engine may work without progress.
    pub hang_timeout: Duration,
    /// How long an engine without work stays, unless a request says otherwise; zero for ever.
    pub keep_alive: Duration,
    /// How long running requests may go on once shutdown began.
    pub shutdown_grace: Duration,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A request came in.
    Submit {
        /// Its number, never used before.
        id: RequestId,
        /// Whose it is.
        uid: u32,
        /// How urgent it is.
        class: Class,
        /// When it must have ended.
        deadline: Instant,
        /// How long the engine is to stay after it; zero for ever. `None` for the usual.
        keep_alive: Option<Duration>,
    },
    /// A request is to end now, with this error.
    Abort {
        /// Which one; unknown and ended ones are ignored.
        id: RequestId,
        /// What its reader is told.
        error: ApiError,
    },
    /// (Re)load: the model chosen may be another one now.
    Load,
    /// End the engine; the next request starts it again.
    Unload,
    /// There is nothing to start the engine with.
    StartFailed {
        /// Why.
        error: ApiError,
    },
    /// The engine loaded its model and takes this many requests.
    Ready {
        /// Requests at once, at least 1.
        parallel: usize,
    },
    /// The engine refuses the model and will end.
    LoadFailed {
        /// Why.
        error: ApiError,
    },
    /// The engine lives, and is idle or makes progress.
    Alive,
    /// The engine ended a request, well or not; its reader has been told.
    Ended {
        /// Which one.
        id: RequestId,
    },
    /// The engine process broke the protocol and must go.
    Misbehaved,
    /// The engine process is gone.
    Gone,
    /// Finish: take no more requests, and stop when those that run have ended.
    Shutdown,
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start an engine with the chosen model; answered by `Ready`, `StartFailed`, `LoadFailed` or
    /// `Gone`.
    Start,
    /// Kill the engine; answered by `Gone`.
    Kill,
    /// Give a request to the engine.
    Dispatch(RequestId),
    /// Tell the engine to stop a request; answered by `Ended`.
    Cancel(RequestId),
    /// Don't admit the request.
    Refuse(RequestId, ApiError),
    /// Tell the request's reader that it failed. Nothing more may be sent to that reader.
    Fail(RequestId, ApiError),
    /// Tell the request's reader how many are before it.
    Position(RequestId, u32),
    /// All is done after `Shutdown`.
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// In the engine.
    Running,
    /// Its reader has been told, but the engine has not let go of it.
    Leaving,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    uid: u32,
    /// When it must have ended; once it is leaving, when the engine must have let go of it.
    deadline: Instant,
    stage: Stage,
    /// When the engine got it.
    started: Option<Instant>,
}

/// The engine, as far as is known.
#[derive(Clone, Debug)]
enum Engine {
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
    /// It was killed, or is about to end by itself; waits for [`Input::Gone`].
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
enum Next {
    Sleep,
    Load,
    Restart,
    Fail(ApiError),
}

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
    /// Times of recent losses, oldest first, at most [`CRASHES_MAX`].
    crashes: VecDeque<Instant>,
    /// Set once shutdown began: when running requests must have ended.
    shutdown: Option<Instant>,
    exited: bool,
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
            Input::Ended { id } => self.ended(now, id),
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

    fn in_engine(&self) -> usize {
        self.entries.len() - self.queue.len()
    }

    fn submit(
        &mut self,
        now: Instant,
        id: RequestId,
        entry: Entry,
        class: Class,
        keep_alive: Option<Duration>,
    ) {
        if let Some(error) = self.refusal(now, entry.uid) {
            self.actions.push(Action::Refuse(id, error));
            return;
        }
        self.queue.push(now, id, entry.uid, class);
        let order = self.queue.order(now);
        let before = order.iter().take_while(|other| **other != id).count();
        if let Some(wait) = self.pace.least_wait(before, self.parallel)
            && entry.deadline <= now + wait
        {
            self.queue.remove(id);
            self.actions
                .push(Action::Refuse(id, errors::too_late(wait)));
            return;
        }
        if matches!(self.engine, Engine::Asleep | Engine::Failed { .. }) {
            self.start(now);
        }
        self.keep_alive = keep_alive.unwrap_or(self.bounds.keep_alive);
        self.entries.insert(id, entry);
        self.tell_positions(now);
    }

    fn ended(&mut self, now: Instant, id: RequestId) {
        if let Some(entry) = self.entries.remove(&id)
            && let (Stage::Running, Some(started)) = (entry.stage, entry.started)
        {
            self.pace.learn(now.saturating_duration_since(started));
        }
    }

    /// When an engine without work is to end.
    fn sleep_at(&self) -> Option<Instant> {
        match self.engine {
            Engine::Ready { worked_at, .. }
                if self.entries.is_empty() && !self.keep_alive.is_zero() =>
            {
                Some(worked_at + self.keep_alive)
            }
            _ => None,
        }
    }

    fn refusal(&self, now: Instant, uid: u32) -> Option<ApiError> {
        if self.shutdown.is_some() {
            return Some(errors::shutting_down());
        }
        if let Engine::Failed { error, retry_at } = &self.engine
            && now < *retry_at
        {
            return Some(error.clone());
        }
        if self.queue.len() >= self.bounds.queue {
            return Some(errors::queue_full(self.bounds.queue));
        }
        let own = self.entries.values().filter(|e| e.uid == uid).count();
        (own >= self.bounds.per_uid).then(|| errors::share_full(self.bounds.per_uid))
    }

    /// Ends a request before the engine did.
    fn end(&mut self, now: Instant, id: RequestId, error: ApiError) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        match entry.stage {
            Stage::Waiting => {
                self.entries.remove(&id);
                self.queue.remove(id);
                self.tell_positions(now);
            }
            Stage::Running => {
                entry.stage = Stage::Leaving;
                entry.deadline = now + self.bounds.hang_timeout;
                self.actions.push(Action::Cancel(id));
            }
            Stage::Leaving => return,
        }
        self.actions.push(Action::Fail(id, error));
    }

    fn end_all(
        &mut self,
        now: Instant,
        error: impl Fn() -> ApiError,
        which: impl Fn(Stage) -> bool,
    ) {
        let chosen = self.entries.iter().filter(|(_, e)| which(e.stage));
        let ids: Vec<_> = chosen.map(|(id, _)| *id).collect();
        for id in ids {
            self.end(now, id, error());
        }
    }

    fn load(&mut self, now: Instant) {
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

    fn unload(&mut self, now: Instant) {
        self.end_all(now, errors::model_unloaded, |_| true);
        match self.engine {
            Engine::Loading { .. } | Engine::Ready { .. } => self.kill(Next::Sleep),
            Engine::Ending(ref mut next) => *next = Next::Sleep,
            Engine::Asleep | Engine::BackOff { .. } | Engine::Failed { .. } => {
                self.engine = Engine::Asleep;
            }
        }
    }

    fn start(&mut self, now: Instant) {
        let until = now + self.bounds.load_timeout;
        self.engine = Engine::Loading { until };
        self.actions.push(Action::Start);
    }

    fn ready(&mut self, now: Instant, parallel: usize) {
        if matches!(self.engine, Engine::Loading { .. }) {
            self.parallel = parallel.clamp(1, self.bounds.parallel);
            self.engine = Engine::Ready {
                alive_at: now,
                worked_at: now,
            };
        }
    }

    fn alive(&mut self, now: Instant) {
        if let Engine::Ready { alive_at, .. } = &mut self.engine {
            *alive_at = now;
        }
    }

    fn kill(&mut self, next: Next) {
        if matches!(self.engine, Engine::Loading { .. } | Engine::Ready { .. }) {
            self.engine = Engine::Ending(next);
            self.actions.push(Action::Kill);
        }
    }

    /// Gives up on an engine that is still there.
    fn lose(&mut self, error: fn() -> ApiError) {
        self.fail_running(error);
        self.kill(Next::Restart);
    }

    /// Ends what was in the engine, which will not say so any more.
    fn fail_running(&mut self, error: fn() -> ApiError) {
        let actions = &mut self.actions;
        self.entries.retain(|id, entry| {
            if entry.stage == Stage::Running {
                actions.push(Action::Fail(*id, error()));
            }
            entry.stage == Stage::Waiting
        });
    }

    fn gone(&mut self, now: Instant) {
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

    fn crashed(&mut self, now: Instant) {
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

    fn load_failed(&mut self, now: Instant, error: ApiError) {
        // A missing model costs nothing to look for again, and may have been installed by then.
        let pause = match error.code {
            ErrorCode::NotReady | ErrorCode::ModelNotFound => Duration::ZERO,
            _ => RELOAD_PAUSE,
        };
        self.fail_engine(now, pause, error);
    }

    fn fail_engine(&mut self, now: Instant, pause: Duration, error: ApiError) {
        self.end_all(now, || error.clone(), |stage| stage == Stage::Waiting);
        let retry_at = now + pause;
        self.engine = Engine::Failed { error, retry_at };
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
            Engine::Ready { .. } if self.sleep_at().is_some_and(|at| at <= now) => {
                self.kill(Next::Sleep);
            }
            Engine::BackOff { until } if until <= now && self.shutdown.is_none() => {
                self.start(now);
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, now: Instant) {
        let Engine::Ready { worked_at, .. } = &mut self.engine else {
            return;
        };
        if !self.entries.is_empty() {
            *worked_at = now;
        }
        let mut dispatched = false;
        while self.in_engine() < self.parallel
            && let Some(id) = self.queue.pop(now)
        {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.stage = Stage::Running;
                entry.started = Some(now);
            }
            self.actions.push(Action::Dispatch(id));
            dispatched = true;
        }
        if dispatched {
            self.tell_positions(now);
        }
    }

    fn tell_positions(&mut self, now: Instant) {
        for (before, id) in (0..).zip(self.queue.order(now)) {
            self.actions.push(Action::Position(id, before));
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
