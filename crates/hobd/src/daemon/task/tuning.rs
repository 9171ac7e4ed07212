//! A measurement's part of the daemon's task: whom it serves meanwhile, and with which settings.

use std::sync::Arc;

use hob_api::{ApiError, ErrorCode};
use tokio::sync::oneshot;

use super::Daemon;
use crate::daemon::{model, tuning};
use crate::scheduler::Input;
use crate::settings::{EngineSettings, Settings};

/// When to try again what a measurement refuses: it takes at most two minutes.
const RETRY_MS: u64 = 10_000;

impl Daemon {
    pub(super) fn tuning_called(&mut self, call: tuning::Call) {
        // A caller that is gone does not need the reply.
        match call {
            tuning::Call::Begin(reply) => drop(reply.send(self.begin_tuning())),
            tuning::Call::Try(engine, reply) => self.load_with(*engine, reply),
            tuning::Call::Measure(request, reply) => drop(reply.send(self.submit(*request))),
            tuning::Call::End(engine, reply) => {
                if let Some(before) = self.before_tuning.take() {
                    self.use_engine(engine.map_or(before, |engine| *engine));
                    self.step(Input::Load);
                }
                drop(reply.send(Ok(())));
            }
        }
    }

    /// Refuses what is not the measurement's own while there is one.
    pub(super) fn check_not_tuning(&self) -> Result<(), ApiError> {
        if self.before_tuning.is_none() {
            return Ok(());
        }
        let message = "hobd measures this board, which takes two minutes at most";
        Err(ApiError::new(ErrorCode::Busy, message)
            .hint("try again when `hob tune` has ended")
            .retry_after_ms(RETRY_MS))
    }

    fn begin_tuning(&mut self) -> Result<(), ApiError> {
        self.check_not_tuning()?;
        if self.scheduler.counts() != (0, 0) {
            let message = "requests are under way, and measuring would end them";
            return Err(ApiError::new(ErrorCode::Busy, message)
                .hint("try again when they have ended; `hob status` shows them")
                .retry_after_ms(RETRY_MS));
        }
        model::resolve(&self.store, self.chosen.as_deref())?;
        self.before_tuning = Some(self.settings.engine.clone());
        Ok(())
    }

    fn load_with(&mut self, engine: EngineSettings, reply: oneshot::Sender<Result<(), ApiError>>) {
        self.use_engine(engine);
        self.step(Input::Load);
        self.shown.tell_when_loaded(reply);
    }

    fn use_engine(&mut self, engine: EngineSettings) {
        let settings = Settings {
            engine,
            ..Settings::clone(&self.settings)
        };
        self.settings = Arc::new(settings);
    }
}
