//! The daemon's task: one loop that takes in what happens and does what the scheduler says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hob_api::chat::Class;
use hob_api::status::{ControlStatus, GpuStatus, MemoryStatus, State, Status};
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::gpu::Offload;
use hob_ipc::message::{FailureCode, Generate, PARALLEL_MAX, PinState, Prompt};
use hob_ipc::{Command, EngineEvent, RequestId};
use hob_models::store::{Store, Verified, Witness};
use hob_models::{Sha256, ToolFormat};
use tokio::sync::{mpsc, oneshot};

use super::live::{self, LiveRequests, Order};
use super::memory::Watch;
use super::publication::Publication;
use super::wake::{Inputs, Wake};
use super::{Message, model};
use crate::answer;
use crate::engine::{Engine, Ledger, Report};
use crate::forms;
use crate::pins::Pins;
use crate::pressure::Level;
use crate::request::{Asked, ValidRequest};
use crate::scheduler::{Action, Bounds, Input, Scheduler};
use crate::settings::{EngineSettings, Settings};
use crate::supply::Tree;

mod control;
mod embedding;
mod engine;
mod gpu;
mod length;
mod memory;
mod pins;
mod score;
mod tuning;

/// What the scheduler wants to know of a request, whatever it asks of the engine.
struct Terms {
    uid: u32,
    class: Class,
    timeout: Duration,
    keep_alive: Option<Duration>,
    /// The model that it insists on.
    model: Option<String>,
}

/// The state behind the loop.
pub(super) struct Daemon {
    settings: Arc<Settings>,
    /// While this board is measured: how models were loaded before, and are again after it.
    before_tuning: Option<EngineSettings>,
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
    /// What the engine was asked to compute on a GPU.
    offload: Option<Offload>,
    /// Why no GPU is tried any more, until somebody loads a model.
    gpu_given_up: Option<String>,
    /// The control vector that the engine loads with, until it is ready.
    control_on_trial: Option<Sha256>,
    /// The one that an engine failed with, until somebody loads a model.
    control_given_up: Option<control::GivenUp>,
    /// In which form the engine's model knows calls.
    format: ToolFormat,
    /// Of the file that the engine has.
    witness: Option<Witness>,
    ledger: Ledger,
    pins: Pins,
    /// The prefix cache's part of the memory budget in bytes, by the plan for the model.
    cache_planned: u64,
    /// The engine's last progress counter.
    progress: u64,
    engine_started: Instant,
    memory: Watch,
    shown: Publication,
    exit: bool,
}

impl Daemon {
    pub(super) fn new(
        settings: Arc<Settings>,
        store: Arc<Store>,
        memory: Tree,
        live: LiveRequests,
        shown: Publication,
        cancelled: mpsc::UnboundedSender<RequestId>,
    ) -> Self {
        let bounds = Bounds {
            queue: settings.limits.queue,
            per_uid: settings.limits.per_uid,
            parallel: settings.engine.parallel.unwrap_or(PARALLEL_MAX) as usize,
            load_timeout: settings.engine.load_timeout,
            hang_timeout: settings.engine.hang_timeout,
            keep_alive: settings.engine.keep_alive,
            shutdown_grace: settings.limits.shutdown_grace,
        };
        let pins = Pins::open(&settings);
        let queue_max = u32::try_from(settings.limits.queue).unwrap_or(u32::MAX);
        shown.modify(|status| {
            *status = Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                queue_max,
                memory: MemoryStatus {
                    given_up: Level::None.as_str().to_owned(),
                    ..MemoryStatus::default()
                },
                sandbox_setting: settings.engine.sandbox.as_str().to_owned(),
                gpu: GpuStatus {
                    setting: settings.engine.gpu.as_str().to_owned(),
                    ..GpuStatus::default()
                },
                control_vector: ControlStatus {
                    setting: settings.engine.control_vector.as_str().to_owned(),
                    ..ControlStatus::default()
                },
                loopback: settings.http.listen.map(|address| address.to_string()),
                ..Status::default()
            }
        });
        Self {
            chosen: settings.model.clone(),
            settings,
            before_tuning: None,
            store,
            verified: Arc::new(Verified::default()),
            scheduler: Scheduler::new(bounds),
            live,
            next_id: 1,
            cancelled,
            opening: None,
            engine: None,
            offload: None,
            gpu_given_up: None,
            control_on_trial: None,
            control_given_up: None,
            format: ToolFormat::Json,
            witness: None,
            ledger: Ledger::default(),
            pins,
            cache_planned: 0,
            progress: 0,
            engine_started: Instant::now(),
            memory: Watch::new(memory),
            shown,
            exit: false,
        }
    }

    pub(super) async fn run(mut self, mut inputs: Inputs) {
        self.step(Input::Load);
        // Without a model to load, nothing more happens by itself.
        self.shown.update(&self.scheduler);
        while !self.exit {
            let wakeup = self.wakeup();
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
                Wake::Time => {
                    self.look_at_memory();
                    self.release_engine();
                    self.settle_homes();
                    self.step(Input::Tick);
                }
                Wake::Homes(homes) => {
                    self.pins.homes_changed(Instant::now(), homes);
                    self.settle_homes();
                }
                Wake::Pins(done) => self.pins_done(done),
            }
            self.show_cache();
            self.shown.update(&self.scheduler);
        }
    }

    /// When to go on although nothing happens.
    fn wakeup(&self) -> Option<Instant> {
        let look = self.memory.wakeup().filter(|_| self.engine.is_none());
        let times = [self.scheduler.wakeup(), look, self.pins.wakeup()];
        times.into_iter().flatten().min()
    }

    fn message(&mut self, message: Message) {
        let free = self.check_not_tuning();
        // A caller that is gone does not need the reply.
        match message {
            Message::Submit(request, reply) => {
                drop(reply.send(free.and_then(|()| self.submit(*request))));
            }
            Message::Embed(request, reply) => {
                drop(reply.send(free.and_then(|()| self.submit_embedding(*request))));
            }
            Message::Score(request, reply) => {
                drop(reply.send(free.and_then(|()| self.submit_score(*request))));
            }
            Message::Load(name, reply) => match free {
                Ok(()) => self.load(&name, reply),
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::Unload(reply) => drop(reply.send(free.and_then(|()| self.unload()))),
            Message::Tune(call) => self.tuning_called(call),
            Message::Pins(call) => self.pins_called(call),
        }
    }

    fn submit(&mut self, request: ValidRequest) -> Result<answer::Answer, ApiError> {
        let terms = Terms {
            uid: request.caller.uid,
            class: request.class,
            timeout: request.timeout,
            keep_alive: request.keep_alive,
            model: request.model,
        };
        let thinking = request.thinking;
        let (prompt, calling) = match request.prompt {
            Asked::Plain(prompt) => (forms::plain(prompt, thinking), None),
            Asked::Calling(calling) => (Prompt::Chat(Vec::new()), Some(calling)),
        };
        // A form of the caller's own is the whole answer's. Of one with calls, the model decides more.
        let read = calling.is_none() && request.constraint.is_none() && prompt.is_chat();
        let generate = |id| {
            Box::new(Generate {
                id,
                prompt,
                max_tokens: request.max_tokens,
                stop: request.stop,
                sampling: request.sampling,
                cache_owner: request.cache.then_some(request.caller.uid),
                class: request.class,
                drafts: request.drafts,
                constraint: request.constraint,
            })
        };
        let answer = self.admit(terms, |id| match calling {
            None => Order::Whole(Command::Generate(generate(id))),
            Some(calling) => Order::Calling(generate(id), calling, thinking),
        })?;
        if read {
            self.live.read_output(answer.id());
        }
        Ok(answer)
    }

    /// Gives a request its number and hands it to the scheduler; `order` says what it asks of the
    /// engine.
    fn admit(
        &mut self,
        terms: Terms,
        order: impl FnOnce(RequestId) -> Order,
    ) -> Result<answer::Answer, ApiError> {
        let Terms {
            uid,
            class,
            timeout,
            keep_alive,
            model,
        } = terms;
        self.check_model(model.as_deref())?;
        if self.engine.is_none() {
            self.look_at_memory();
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let order = order(id);
        length::check(&order)?;
        let now = Instant::now();
        let (sender, answer) = answer::channel(id, self.cancelled.clone());
        self.live
            .admit(now, (id, order), (uid, class), model, sender);
        let input = Input::Submit {
            id,
            uid,
            class,
            deadline: now + timeout,
            keep_alive,
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
                    model::not_loaded(wanted, &current.name, &self.store)
                } else {
                    model::not_found(wanted, &self.store)
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
        self.gpu_given_up = None;
        self.control_given_up = None;
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

    fn opened(&mut self, opened: Result<Box<model::Opened>, ApiError>) {
        self.opening = None;
        match opened {
            Ok(opened) => self.start_engine(*opened),
            Err(error) => {
                tracing::error!(%error, "the model can't be loaded");
                self.step(Input::StartFailed { error });
            }
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Started(started) => self.shown.engine_started(started),
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
            // A measurement is to have the engine for itself, which would read what is pinned.
            EngineEvent::Ready(ready) if self.before_tuning.is_some() => self.ready(&ready),
            EngineEvent::Ready(ready) => {
                // Pins that were saved come before the first request, which may begin with one.
                if let Some(outgoing) = self.pins.engine_ready(Instant::now(), ready.clone()) {
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
            EngineEvent::Gpu(found) => self.gpu_found(found),
            EngineEvent::LoadFailed { code, message } => self.load_failed(code, &message),
            EngineEvent::Prefill {
                id,
                processed,
                total,
            } => self.progress(id, Event::Prefill { processed, total }),
            EngineEvent::Delta { id, text } => self.progress(id, Event::Delta { text }),
            EngineEvent::Embedding(embedding) => self.embedded(embedding),
            EngineEvent::Scored(scored) => self.scored(scored),
            // Out of turn: the ledger has ended an engine that says this.
            EngineEvent::Tokenized(_)
            | EngineEvent::Quantized
            | EngineEvent::Observed(_)
            | EngineEvent::TextOpened(_)
            | EngineEvent::TextRead(_)
            | EngineEvent::ResidualRead(_) => {}
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
                message,
            } => {
                let n_ctx = self.shown.model().map_or(0, |m| m.n_ctx);
                let error = match code {
                    FailureCode::Constraint(code) => live::unconstrained(code, &message),
                    code => live::failure(code, prompt_tokens, n_ctx),
                };
                self.live.fail(id, error);
                self.step(Input::Ended { id });
            }
            EngineEvent::Heartbeat { progress, working } => {
                if progress != self.progress || !working {
                    self.progress = progress;
                    self.step(Input::Alive);
                }
                if self.memory.is_due(Instant::now()) {
                    self.look_at_memory();
                }
            }
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
        let command = self.live.dispatch(Instant::now(), id, self.format)?;
        self.ledger.told(&command);
        self.tell_engine(command)
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
