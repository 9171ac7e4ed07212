//! The daemon's task: one loop that takes in what happens and does what the scheduler says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use hob_api::status::{EngineStatus, ModelStatus, State, Status};
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::message::{Generate, Load, PinState, Ready};
use hob_ipc::{Command, EngineEvent, RequestId};
use hob_models::store::{OpenModel, Store, Verified, Witness};
use tokio::sync::{mpsc, oneshot, watch};

use super::live::{self, LiveRequests};
use super::publication::{Publication, load_failure};
use super::wake::{Inputs, Wake};
use super::{Message, model};
use crate::answer;
use crate::engine::{Engine, Exit, Launch, Ledger, Report};
use crate::notify::Notifier;
use crate::pins::Pins;
use crate::request::ValidRequest;
use crate::scheduler::{Action, Bounds, Input, Scheduler};
use crate::settings::Settings;

mod pins;

/// The state behind the loop.
pub(super) struct Daemon {
    settings: Arc<Settings>,
    store: Arc<Store>,
    verified: Arc<Verified>,
    scheduler: Scheduler,
    live: LiveRequests,
    next_id: u64,
    cancelled: mpsc::UnboundedSender<RequestId>,
    /// The model to load: an administrator's choice, else the settings'; `None` for the store's.
    chosen: Option<String>,
    opening: Option<model::Opening>,
    engine: Option<Engine>,
    /// Of the file that the engine has.
    witness: Option<Witness>,
    ledger: Ledger,
    pins: Pins,
    /// The engine's last progress counter.
    progress: u64,
    engine_started: Instant,
    shown: Publication,
    exit: bool,
}

impl Daemon {
    pub(super) fn new(
        settings: Arc<Settings>,
        store: Arc<Store>,
        pins: Pins,
        live: LiveRequests,
        status: watch::Sender<Status>,
        cancelled: mpsc::UnboundedSender<RequestId>,
        notifier: Notifier,
    ) -> Self {
        let bounds = Bounds {
            queue: settings.limits.queue,
            per_uid: settings.limits.per_uid,
            parallel: settings.engine.parallel as usize,
            load_timeout: settings.engine.load_timeout,
            hang_timeout: settings.engine.hang_timeout,
            keep_alive: settings.engine.keep_alive,
            shutdown_grace: settings.limits.shutdown_grace,
        };
        let queue_max = u32::try_from(settings.limits.queue).unwrap_or(u32::MAX);
        status.send_replace(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            queue_max,
            sandbox_setting: settings.engine.sandbox.as_str().to_owned(),
            ..Status::default()
        });
        Self {
            chosen: settings.model.clone(),
            settings,
            store,
            verified: Arc::new(Verified::default()),
            scheduler: Scheduler::new(bounds),
            live,
            next_id: 1,
            cancelled,
            opening: None,
            engine: None,
            witness: None,
            ledger: Ledger::default(),
            pins,
            progress: 0,
            engine_started: Instant::now(),
            shown: Publication::new(status, notifier),
            exit: false,
        }
    }

    pub(super) async fn run(mut self, mut inputs: Inputs) {
        self.step(Input::Load);
        // Without a model to load, nothing more happens by itself.
        self.shown.update(&self.scheduler);
        while !self.exit {
            let wakeup = self.scheduler.wakeup();
            let wake = inputs.next(
                self.engine.as_mut(),
                self.opening.as_mut(),
                &mut self.pins,
                wakeup,
            );
            match wake.await {
                Wake::Message(message) => self.message(message),
                Wake::Cancelled(id) => self.abort(id, live::cancelled()),
                Wake::Opened(opened) => self.opened(opened),
                Wake::Engine(report) => self.report(report),
                Wake::Shutdown => self.step(Input::Shutdown),
                Wake::Watchdog => self.shown.watchdog(),
                Wake::Time => self.step(Input::Tick),
                Wake::Pins(done) => self.pins_done(done),
            }
            self.show_cache();
            self.shown.update(&self.scheduler);
        }
    }

    fn message(&mut self, message: Message) {
        // A caller that is gone does not need the reply.
        match message {
            Message::Submit(request, reply) => drop(reply.send(self.submit(*request))),
            Message::Load(name, reply) => self.load(&name, reply),
            Message::Unload(reply) => drop(reply.send(self.unload())),
            Message::Pins(call) => {
                let outgoing = self.pins.call(call);
                self.tell_of_pins(outgoing);
            }
        }
    }

    fn submit(&mut self, request: ValidRequest) -> Result<answer::Answer, ApiError> {
        self.check_model(request.model.as_deref())?;
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let now = Instant::now();
        let (sender, answer) = answer::channel(id, self.cancelled.clone());
        let generate = Box::new(Generate {
            id,
            prompt: request.prompt,
            max_tokens: request.max_tokens,
            stop: request.stop,
            sampling: request.sampling,
            cache_owner: request.cache.then_some(request.caller.uid),
            class: request.class,
            drafts: request.drafts,
        });
        let whose = (request.caller.uid, request.class);
        self.live.admit(now, generate, whose, request.model, sender);
        let input = Input::Submit {
            id,
            uid: request.caller.uid,
            class: request.class,
            deadline: now + request.timeout,
            keep_alive: request.keep_alive,
        };
        self.step_refusable(input).map(|()| answer)
    }

    /// Refuses a request for a model that is not the one loaded or loading.
    fn check_model(&self, wanted: Option<&str>) -> Result<(), ApiError> {
        let Some(wanted) = wanted else {
            return Ok(());
        };
        match self.shown.model() {
            Some(current) if current.name == wanted => Ok(()),
            Some(current) => {
                let installed = model::resolve(&self.store, Some(wanted)).is_ok();
                Err(if installed {
                    model::not_loaded(wanted, &current.name)
                } else {
                    model::not_found(wanted)
                })
            }
            None => model::resolve(&self.store, Some(wanted)).map(drop),
        }
    }

    fn load(&mut self, name: &str, reply: oneshot::Sender<Result<(), ApiError>>) {
        let chosen = match model::resolve(&self.store, Some(name)) {
            Ok(chosen) => chosen,
            Err(error) => return drop(reply.send(Err(error))),
        };
        if !self.shown.has_room() {
            let message = "too many callers wait for a model to load";
            let busy = ApiError::new(ErrorCode::Busy, message).hint("try again in a moment");
            return drop(reply.send(Err(busy)));
        }
        tracing::info!(model = %chosen, "loading as asked");
        self.chosen = Some(chosen.to_string());
        self.step(Input::Load);
        self.shown.tell_when_loaded(reply);
    }

    fn unload(&mut self) -> Result<(), ApiError> {
        if !matches!(self.scheduler.state().0, State::Ready | State::Loading) {
            return Err(ApiError::new(ErrorCode::NotReady, "no model is loaded")
                .hint("there is nothing to unload"));
        }
        self.step(Input::Unload);
        Ok(())
    }

    fn opened(&mut self, opened: Result<Box<OpenModel>, ApiError>) {
        self.opening = None;
        match opened {
            Ok(model) => self.start_engine(*model),
            Err(error) => {
                tracing::error!(%error, "the model can't be opened");
                self.step(Input::StartFailed { error });
            }
        }
    }

    fn start_engine(&mut self, model: OpenModel) {
        let engine = &self.settings.engine;
        let load = Load {
            version: hob_ipc::VERSION,
            sandbox: engine.sandbox,
            n_ctx: engine.n_ctx,
            parallel: engine.parallel,
            threads: engine.threads,
            memory_bytes_max: None,
            chat_template: None,
            drafts: engine.drafts,
            cache_bytes_max: engine.cache_bytes,
        };
        self.pins.model_opened(&model.sha256.to_string());
        self.shown.modify(|status| {
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
            binary: self.settings.engine_path.clone(),
            model: model.file,
            load,
        }));
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Started(pid) => self.shown.modify(|status| {
                let parallel = self.settings.engine.parallel;
                status.engine = Some(EngineStatus {
                    pid,
                    parallel,
                    ..EngineStatus::default()
                });
            }),
            Report::Event(event) => match self.ledger.check(&event) {
                Ok(()) => self.event(event),
                Err(violation) => {
                    tracing::error!(%violation, "the engine broke the protocol");
                    self.step(Input::Misbehaved);
                }
            },
            Report::Malformed(error) => {
                tracing::error!(%error, "the engine broke the protocol");
                self.step(Input::Misbehaved);
            }
            Report::Gone(exit) => self.engine_gone(&exit),
        }
    }

    fn event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Sandboxed { layers } => self.shown.modify(|status| {
                if let Some(engine) = &mut status.engine {
                    engine.sandbox = layers;
                }
            }),
            EngineEvent::Loading { percent } => self
                .shown
                .modify(|status| status.load_percent = u32::from(percent)),
            EngineEvent::Ready(ready) => {
                // Pins that were saved come before the first request, which may begin with one.
                if let Some(outgoing) = self.pins.engine_ready(ready.clone()) {
                    self.tell_of_pins(outgoing);
                    self.ready(&ready);
                }
            }
            EngineEvent::Pin { id, state } => {
                if matches!(state, PinState::Reading { .. }) {
                    self.step(Input::Busy);
                }
                let outgoing = self.pins.progress(id, state);
                self.tell_of_pins(outgoing);
            }
            EngineEvent::PinSaved { id, written } => self.pins.saved(id, written),
            EngineEvent::Cache { entries, bytes } => self.pins.cache(entries, bytes),
            EngineEvent::LoadFailed { code, message } => {
                tracing::error!(
                    ?code,
                    reason = message.as_str(),
                    "the model can't be loaded"
                );
                let error = load_failure(code);
                self.step(Input::LoadFailed { error });
            }
            EngineEvent::Prefill {
                id,
                processed,
                total,
            } => self.progress(id, Event::Prefill { processed, total }),
            EngineEvent::Delta { id, text } => self.progress(id, Event::Delta { text }),
            EngineEvent::Finished(_) if self.model_changed() => self.step(Input::ModelChanged),
            EngineEvent::Finished(finished) => {
                let name = self.shown.model_name();
                self.live.finish(&finished, &name);
                self.step(Input::Ended { id: finished.id });
            }
            EngineEvent::Failed {
                id,
                code,
                prompt_tokens,
                ..
            } => {
                let n_ctx = self.shown.model().map_or(0, |m| m.n_ctx);
                self.live
                    .fail(id, live::failure(code, prompt_tokens, n_ctx));
                self.step(Input::Ended { id });
            }
            EngineEvent::Heartbeat { progress, working } => {
                if progress != self.progress || !working {
                    self.progress = progress;
                    self.step(Input::Alive);
                }
            }
        }
    }

    fn ready(&mut self, ready: &Ready) {
        let load_ms = u64::try_from(self.engine_started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            model = self.shown.model_name(),
            architecture = ready.architecture.as_str(),
            n_ctx = ready.n_ctx,
            threads = ready.threads,
            load_ms,
            "ready"
        );
        self.shown.modify(|status| {
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
        let name = self.shown.model_name();
        for (id, wanted) in self.live.insisting_on_other_than(&name) {
            self.abort(id, model::not_loaded(&wanted, &name));
        }
        let parallel = ready.parallel as usize;
        self.step(Input::Ready { parallel });
    }

    fn engine_gone(&mut self, exit: &Exit) {
        self.engine = None;
        self.witness = None;
        self.pins.engine_gone();
        self.shown.modify(forget_engine);
        if self.scheduler.expects_end() {
            tracing::info!(status = exit.status.as_str(), "the engine ended");
        } else {
            self.shown.modify(|status| status.engine_losses += 1);
            tracing::error!(
                status = exit.status.as_str(),
                stderr = exit.stderr_tail.as_str(),
                "the engine was lost"
            );
        }
        self.step(Input::Gone);
        if self.scheduler.state().0 == State::Sleeping {
            self.shown.modify(|status| status.model = None);
        }
    }

    fn progress(&mut self, id: RequestId, event: Event) {
        if let Err(error) = self.live.progress(id, event) {
            self.abort(id, error);
        }
    }

    fn abort(&mut self, id: RequestId, error: ApiError) {
        self.step(Input::Abort { id, error });
    }

    fn step(&mut self, input: Input) {
        // Only `Submit` can be refused, and it comes by the other way.
        let _ = self.step_refusable(input);
    }

    /// Steps the scheduler and does what it says; an action that fails at once is stepped, too.
    fn step_refusable(&mut self, input: Input) -> Result<(), ApiError> {
        let mut refused = Ok(());
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.scheduler.step(Instant::now(), input) {
                match action {
                    Action::Refuse(id, error) => {
                        self.live.withdraw(id, error.code);
                        refused = Err(error);
                    }
                    action => inputs.extend(self.act(action)),
                }
            }
        }
        refused
    }

    fn act(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Start => self.start(),
            Action::Kill => self.kill(),
            Action::Dispatch(id) => self.dispatch(id),
            Action::Cancel(id) => self.tell_engine(Command::Cancel { id }),
            Action::Fail(id, error) => {
                self.live.fail(id, error);
                None
            }
            Action::Position(id, position) => {
                let error = self.live.progress(id, Event::Queued { position }).err()?;
                Some(Input::Abort { id, error })
            }
            Action::Exit => {
                self.exit = true;
                None
            }
            Action::Refuse(..) => None,
        }
    }

    fn start(&mut self) -> Option<Input> {
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
        self.opening = Some(model::open(store, verified, name));
        None
    }

    fn kill(&mut self) -> Option<Input> {
        if let Some(engine) = &self.engine {
            engine.kill();
            return None;
        }
        // There is no process yet, only a file being read; nobody waits for it any more.
        self.opening = None;
        Some(Input::Gone)
    }

    /// Whether somebody wrote to the file that the engine maps: what it makes of that is the answer
    /// of no model that was ever verified.
    fn model_changed(&self) -> bool {
        let changed = self
            .witness
            .as_ref()
            .is_some_and(|witness| !witness.holds());
        if changed {
            tracing::error!("the model's file was written to while it was loaded");
        }
        changed
    }

    fn dispatch(&mut self, id: RequestId) -> Option<Input> {
        if self.model_changed() {
            return Some(Input::ModelChanged);
        }
        let generate = self.live.dispatch(Instant::now(), id)?;
        self.ledger.asked(&generate);
        self.tell_engine(Command::Generate(generate))
    }

    fn tell_engine(&mut self, command: Command) -> Option<Input> {
        let engine = self.engine.as_ref()?;
        if engine.send(command).is_ok() {
            return None;
        }
        tracing::error!("the engine does not read its commands");
        Some(Input::Misbehaved)
    }
}

/// What is no longer true when the engine is gone.
fn forget_engine(status: &mut Status) {
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
}
