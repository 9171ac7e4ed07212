//! The engine's life as the daemon's task leads it: from a model's name to an engine that is ready,
//! and to its end.

use std::sync::Arc;
use std::time::Instant;

use hob_api::status::{KernelsStatus, ModelStatus, State};
use hob_ipc::Command;
use hob_ipc::kernels::{Features, Level};
use hob_ipc::message::{Load, LoadFailure, Ready};

use super::Daemon;
use crate::budget;
use crate::daemon::publication::load_failure;
use crate::daemon::{memory, model};
use crate::engine::{Engine, Exit, Launch, Ledger};
use crate::kernels::{self, Choice, Engines, NoEngine};
use crate::scheduler::Input;

impl Daemon {
    pub(super) fn start(&mut self) -> Option<Input> {
        let engine = match self.choose_engine() {
            Ok(engine) => engine,
            Err(refused) => {
                tracing::error!(error = %refused, "there is no engine to start");
                let error = refused.error();
                return Some(Input::StartFailed { error });
            }
        };
        let name = match model::resolve(&self.store, self.chosen.as_deref()) {
            Ok(name) => name,
            Err(error) => {
                tracing::warn!(%error, "there is no model to load");
                self.shown.modify(|status| status.model = None);
                return Some(Input::StartFailed { error });
            }
        };
        self.shown.modify(|status| {
            status.load_percent = 0;
            status.model = Some(ModelStatus {
                name: name.to_string(),
                ..ModelStatus::default()
            });
        });
        let (store, verified) = (Arc::clone(&self.store), Arc::clone(&self.verified));
        let memory = self.memory.tree().clone();
        let settings = Arc::clone(&self.settings);
        self.opening = Some(model::open(store, verified, name, engine, memory, settings));
        None
    }

    /// The engine for this processor, of those that are installed now.
    fn choose_engine(&mut self) -> Result<Choice, NoEngine> {
        let installed = Engines::at(&self.settings.engine_path);
        let wanted = self.settings.engine.kernels;
        let processor = || kernels::choose(&installed, wanted, &Features::here());
        let gpu = self.choose_gpu(&installed);
        let chosen = gpu.and_then(|gpu| gpu.map_or_else(processor, Ok));
        self.shown.modify(|status| {
            status.kernels = chosen.as_ref().map_or_else(
                |_| KernelsStatus::default(),
                |choice| KernelsStatus {
                    level: choice.level.map_or("", Level::as_str).to_owned(),
                    reason: choice.reason.clone(),
                },
            );
        });
        chosen
    }

    pub(super) fn start_engine(&mut self, opened: model::Opened) {
        let model::Opened {
            engine: chosen,
            model,
            plan,
            offload,
            format,
            control,
        } = opened;
        let (control, control_memory) = self.control(control).unzip();
        self.format = format;
        self.cache_planned = plan.cache;
        let cache = self.cache_allowed();
        // There is no engine to tell yet: it is loaded with this bound.
        let _ = self.pins.limit_cache(cache);
        let engine = &self.settings.engine;
        let load = Load {
            version: hob_ipc::VERSION,
            sandbox: engine.sandbox,
            n_ctx: plan.n_ctx,
            parallel: plan.parallel,
            threads: engine.threads,
            memory_bytes_max: plan.memory_bytes_max().map(|bytes| match offload {
                None => bytes,
                Some(_) => bytes.saturating_add(budget::DRIVER_BYTES),
            }),
            kv_type: plan.kv_type,
            weights: plan.weights,
            lock: plan.lock,
            chat_template: None,
            drafts: engine.drafts,
            embeddings: plan.embeddings > 0,
            cache_bytes_max: cache,
            gpu: offload,
            control,
        };
        self.offload = offload;
        let level = self.memory.level();
        self.pins.model_opened(&model.sha256.to_string());
        self.shown.modify(|status| {
            status.memory = memory::status(&plan, level);
            if let Some(shown) = &mut status.model {
                shown.sha256 = model.sha256.to_string();
                shown.size_bytes = model.size_bytes;
            }
        });
        self.witness = Some(model.witness);
        self.ledger = Ledger::default();
        self.ledger.told(&Command::Load(load.clone()));
        self.progress = 0;
        self.engine_started = Instant::now();
        self.engine = Some(Engine::start(Launch {
            binary: chosen.binary,
            model: model.file,
            load,
            control: control_memory,
        }));
    }

    pub(super) fn kill(&mut self) -> Option<Input> {
        if let Some(engine) = &self.engine {
            engine.kill();
            return None;
        }
        // There is no process yet, only a file being read; nobody waits for it any more.
        self.opening = None;
        Some(Input::Gone)
    }

    pub(super) fn ready(&mut self, ready: &Ready) {
        let load_ms = u64::try_from(self.engine_started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let kernels = ready.kernels.map_or("", Level::as_str);
        tracing::info!(
            model = self.shown.model_name(),
            architecture = ready.architecture.as_str(),
            n_ctx = ready.n_ctx,
            threads = ready.threads,
            kernels,
            load_ms,
            "ready"
        );
        self.shown.modify(|status| {
            // What the engine says of itself is nearer the truth than its folder's name.
            if !kernels.is_empty() {
                kernels.clone_into(&mut status.kernels.level);
            }
            if let Some(model) = &mut status.model {
                model.architecture.clone_from(&ready.architecture);
                model.parameters = ready.parameters;
                model.n_ctx = ready.n_ctx;
                model.n_ctx_train = ready.n_ctx_train;
                model.chat = ready.chat;
            }
            if let Some(engine) = &mut status.engine {
                engine.threads = ready.threads;
                engine.parallel = ready.parallel;
                engine.load_ms = load_ms;
            }
        });
        self.control_on_trial = None;
        let name = self.shown.model_name();
        for (id, wanted) in self.live.insisting_on_other_than(&name) {
            self.abort(id, model::not_loaded(&wanted, &name, &self.store));
        }
        let parallel = ready.parallel as usize;
        self.step(Input::Ready { parallel });
    }

    pub(super) fn load_failed(&mut self, code: LoadFailure, reason: &str) {
        tracing::error!(?code, reason, "the model can't be loaded");
        if self.goes_on_without_gpu(Some(code)) || self.goes_on_without_control(code, reason) {
            return self.step(Input::Load);
        }
        let error = match code {
            LoadFailure::Gpu => self.no_gpu(),
            code => load_failure(code),
        };
        self.step(Input::LoadFailed { error });
    }

    pub(super) fn engine_gone(&mut self, exit: &Exit) {
        self.engine = None;
        self.witness = None;
        self.pins.engine_gone();
        self.memory.engine_gone();
        self.shown.engine_gone();
        self.control_gone(!self.scheduler.expects_end());
        if self.scheduler.expects_end() {
            tracing::info!(status = exit.status.as_str(), "the engine ended");
        } else {
            self.shown.modify(|status| status.engine_losses += 1);
            tracing::error!(
                status = exit.status.as_str(),
                stderr = exit.stderr_tail.as_str(),
                "the engine was lost"
            );
            self.goes_on_without_gpu(None);
        }
        self.offload = None;
        self.step(Input::Gone);
        if self.scheduler.state().0 == State::Sleeping {
            self.shown.modify(|status| status.model = None);
        }
    }
}
