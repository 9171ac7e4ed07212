//! Requests: whether one is let in, whose turn it is, and how it ends.

use std::time::{Duration, Instant};

use hob_api::ApiError;
use hob_api::chat::Class;
use hob_ipc::RequestId;

use super::engine::Engine;
use super::message::Action;
use super::{Scheduler, errors};
use crate::pressure::Level;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    /// In the engine.
    Running,
    /// Its reader has been told, but the engine has not let go of it.
    Leaving,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) uid: u32,
    /// When it must have ended; once it is leaving, when the engine must have let go of it.
    pub(super) deadline: Instant,
    pub(super) stage: Stage,
    /// When the engine got it.
    pub(super) started: Option<Instant>,
}

impl Scheduler {
    pub(super) fn in_engine(&self) -> usize {
        self.entries.len() - self.queue.len()
    }

    pub(super) fn submit(
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

    pub(super) fn ended(&mut self, now: Instant, id: RequestId) {
        if let Some(entry) = self.entries.remove(&id)
            && let (Stage::Running, Some(started)) = (entry.stage, entry.started)
        {
            self.pace.learn(now.saturating_duration_since(started));
        }
    }

    pub(super) fn refusal(&self, now: Instant, uid: u32) -> Option<ApiError> {
        if self.shutdown.is_some() {
            return Some(errors::shutting_down());
        }
        if let Engine::Failed { error, retry_at } = &self.engine
            && now < *retry_at
        {
            return Some(error.clone());
        }
        if self.pressure >= Level::Admission {
            return Some(errors::memory_scarce());
        }
        if self.queue.len() >= self.bounds.queue {
            return Some(errors::queue_full(self.bounds.queue));
        }
        let own = self.entries.values().filter(|e| e.uid == uid).count();
        (own >= self.bounds.per_uid).then(|| errors::share_full(self.bounds.per_uid))
    }

    /// Takes in how scarce memory is. What waits would keep the model loaded for long.
    pub(super) fn press(&mut self, now: Instant, level: Level) {
        self.pressure = level;
        if level == Level::Model {
            self.end_all(now, errors::memory_scarce, |stage| stage == Stage::Waiting);
        }
    }

    /// Ends a request before the engine did.
    pub(super) fn end(&mut self, now: Instant, id: RequestId, error: ApiError) {
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

    pub(super) fn end_all(
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

    /// Ends what was in the engine, which will not say so any more.
    pub(super) fn fail_running(&mut self, error: fn() -> ApiError) {
        let actions = &mut self.actions;
        self.entries.retain(|id, entry| {
            if entry.stage == Stage::Running {
                actions.push(Action::Fail(*id, error()));
            }
            entry.stage == Stage::Waiting
        });
    }

    pub(super) fn dispatch(&mut self, now: Instant) {
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

    pub(super) fn tell_positions(&mut self, now: Instant) {
        for (before, id) in (0..).zip(self.queue.order(now)) {
            self.actions.push(Action::Position(id, before));
        }
    }
}
