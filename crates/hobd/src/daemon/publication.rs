//! What the daemon tells about itself: its status, to watchers, load callers and systemd; and
//! why a load failed.

use hob_api::status::{CacheStatus, EngineStatus, ModelStatus, State, Status};
use hob_api::{ApiError, ErrorCode};
use hob_ipc::message::LoadFailure;
use tokio::sync::{oneshot, watch};

use super::figures::EngineMemory;
use crate::engine::Started;
use crate::kernels::gpu::HINT;
use crate::notify::Notifier;
use crate::scheduler::Scheduler;

/// Load calls that may wait at once; one more gets `busy`.
const LOAD_WAITERS_MAX: usize = 16;

/// A caller that waits for a model to load.
pub(super) type LoadWaiter = oneshot::Sender<Result<(), ApiError>>;

/// The daemon's status, and who is told when it changes.
#[derive(Debug)]
pub(super) struct Publication {
    status: watch::Sender<Status>,
    engine_memory: EngineMemory,
    waiters: Vec<LoadWaiter>,
    notifier: Notifier,
}

impl Publication {
    pub(super) fn new(
        status: watch::Sender<Status>,
        engine_memory: EngineMemory,
        notifier: Notifier,
    ) -> Self {
        Self {
            status,
            engine_memory,
            waiters: Vec::new(),
            notifier,
        }
    }

    /// The daemon's loop is at work.
    pub(super) fn watchdog(&self) {
        self.notifier.watchdog();
    }

    pub(super) fn modify(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }

    /// Shows the engine's process.
    pub(super) fn engine_started(&self, started: Started) {
        let Started { pid, statm } = started;
        self.engine_memory.replace(statm);
        self.modify(|status| {
            status.engine = Some(EngineStatus {
                pid,
                ..EngineStatus::default()
            });
        });
    }

    /// Shows no longer what was true of the engine.
    pub(super) fn engine_gone(&self) {
        self.engine_memory.replace(None);
        self.modify(|status| {
            status.engine = None;
            status.load_percent = 0;
            if let Some(model) = status.model.take() {
                status.model = Some(ModelStatus {
                    name: model.name,
                    sha256: model.sha256,
                    size_bytes: model.size_bytes,
                    ..ModelStatus::default()
                });
            }
        });
    }

    /// Shows figures of the cache, if they have changed.
    pub(super) fn show_cache(&self, figures: CacheStatus) {
        self.status.send_if_modified(|status| {
            let changed = status.cache != figures;
            status.cache = figures;
            changed
        });
    }

    pub(super) fn model(&self) -> Option<ModelStatus> {
        self.status.borrow().model.clone()
    }

    pub(super) fn model_name(&self) -> String {
        let status = self.status.borrow();
        let model = status.model.as_ref();
        model.map_or_else(String::new, |m| m.name.clone())
    }

    /// Why no GPU computes.
    pub(super) fn gpu_problem(&self) -> Option<String> {
        self.status.borrow().gpu.problem.clone()
    }

    /// Why the model's control vector is not added.
    pub(super) fn control_problem(&self) -> Option<String> {
        self.status.borrow().control_vector.problem.clone()
    }

    /// Whether another caller may wait for a model to load.
    pub(super) fn has_room(&self) -> bool {
        self.waiters.len() < LOAD_WAITERS_MAX
    }

    /// Has `waiter` told when the model that loads now is ready, or failed.
    pub(super) fn tell_when_loaded(&mut self, waiter: LoadWaiter) {
        self.waiters.push(waiter);
    }

    /// Tells everybody what the scheduler's step changed, if anything.
    pub(super) fn update(&mut self, scheduler: &Scheduler) {
        let (state, problem) = scheduler.state();
        let (active, queued) = scheduler.counts();
        let count = |n| u32::try_from(n).unwrap_or(u32::MAX);
        let (active, queued) = (count(active), count(queued));
        let before = self.status.borrow().state;
        self.status.send_if_modified(|status| {
            let same = status.state == state
                && status.problem.as_ref() == problem
                && (status.active, status.queued) == (active, queued);
            status.state = state;
            status.problem = problem.cloned();
            (status.active, status.queued) = (active, queued);
            !same
        });
        if before != state {
            self.notifier.status(&status_line(&self.status.borrow()));
        }
        let result = match (state, problem) {
            (State::Ready, _) => Ok(()),
            (_, Some(problem)) => Err(problem.clone()),
            (State::Sleeping, None) => Err(unloaded()),
            _ => return,
        };
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(result.clone());
        }
    }
}

/// The error of a load that an unload ended, asked for or for want of memory.
fn unloaded() -> ApiError {
    ApiError::new(ErrorCode::Cancelled, "the model was unloaded again")
        .hint("`hob status` tells whether memory is scarce; the next question loads the model")
}

/// One line for `systemctl status`.
fn status_line(status: &Status) -> String {
    let model = status.model.as_ref().map_or("none", |m| m.name.as_str());
    match (status.state, &status.problem) {
        (_, Some(problem)) => problem.message.clone(),
        (State::Ready, None) => format!("ready: {model}"),
        (State::Sleeping, None) => "sleeping until the next request".to_owned(),
        _ => format!("loading {model}"),
    }
}

/// What a failed load means to clients. The engine's own words stay in the log.
pub(super) fn load_failure(code: LoadFailure) -> ApiError {
    let (message, hint) = match code {
        LoadFailure::Protocol => (
            "hobd and its engine are of different versions",
            "install both from one build, and check engine.path",
        ),
        LoadFailure::Sandbox => (
            "the engine's sandbox can't be put in force on this machine",
            "run `hob doctor`; engine.sandbox = \"degraded\" goes on with what there is",
        ),
        LoadFailure::Cpu => (
            "this processor lacks instructions that the engine was built for",
            "set engine.kernels = \"auto\", and install hob's package or build hob on this machine",
        ),
        LoadFailure::Model => (
            "llama.cpp refuses the model's file",
            "check it with `hob models verify` and `hob models show`, or choose another model",
        ),
        LoadFailure::Memory => (
            "there is not enough memory for the model and its context",
            "lower engine.n_ctx or engine.parallel, or choose a smaller model",
        ),
        // The status says more.
        LoadFailure::Gpu => ("no GPU can compute the model", HINT),
        LoadFailure::Lock => (
            "the engine may not keep all of its memory in RAM",
            "give hobd's unit LimitMEMLOCK=infinity, or set engine.weights = \"auto\"",
        ),
        // Not for what hobd asks for; a vector that is refused is done without.
        LoadFailure::Quantize | LoadFailure::Observe | LoadFailure::Control => (
            "the engine did something else than to load the model",
            "install hobd and its engine from one build, and check engine.path",
        ),
        LoadFailure::Template => (
            "the model's chat template can't be compiled",
            "choose another model, or another file of this one",
        ),
    };
    let code = match code {
        LoadFailure::Memory => ErrorCode::InsufficientMemory,
        _ => ErrorCode::ModelFailed,
    };
    ApiError::new(code, message).hint(hint)
}
