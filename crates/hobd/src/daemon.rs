//! The one task that owns the scheduler, and the handle by which front doors reach it.
//!
//! `task::Daemon` is the only place where the engine, the store and the readers of answers
//! meet. It never waits for any of them: the engine is written to through a bounded channel, a
//! reader that is too slow loses its request, and models are read on another thread; of the store
//! it reads manifests alone.

use std::sync::Arc;
use std::time::Instant;

use hob_api::model::{ModelEntry, ModelList};
use hob_api::pin::Pin;
use hob_api::status::{State, Status};
use hob_api::{ApiError, ErrorCode};
use hob_ipc::message::ChatMessage;
use hob_models::store::Store;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::fulfilment::Errands;
use self::live::LiveRequests;
use self::metrics::Metrics;
use self::publication::Publication;
pub use self::score::Scores;
use crate::answer::Answer;
use crate::conversations::Conversations;
use crate::notify::Notifier;
use crate::pins::{self, Owner, PinName};
use crate::providers::Providers;
use crate::request::{ValidEmbedding, ValidRequest, ValidScore};
use crate::settings::Settings;
use crate::supply::Tree;
use crate::turns::Turns;

mod decision;
mod decode;
mod embedding;
mod figures;
mod fulfilment;
mod home;
mod live;
mod memory;
mod metrics;
mod model;
mod publication;
mod score;
mod task;
mod tuning;
mod wake;
mod work;

/// Calls that may wait for the daemon's task; more make their callers wait.
const MESSAGES_MAX: usize = 64;
/// What a handle asks of the task.
#[derive(Debug)]
enum Message {
    Submit(Box<ValidRequest>, oneshot::Sender<Result<Answer, ApiError>>),
    Embed(
        Box<ValidEmbedding>,
        oneshot::Sender<Result<Answer, ApiError>>,
    ),
    Score(Box<ValidScore>, oneshot::Sender<Result<Answer, ApiError>>),
    Load(String, oneshot::Sender<Result<(), ApiError>>),
    Unload(oneshot::Sender<Result<(), ApiError>>),
    Pins(pins::Call),
    Tune(tuning::Call),
}

/// A front door's way to the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DaemonHandle {
    messages: mpsc::Sender<Message>,
    conversations: Conversations,
    providers: Providers,
    status: watch::Receiver<Status>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    memory: Tree,
    engine_memory: figures::EngineMemory,
    errands: Errands,
    turns: Turns,
    board: tuning::Board,
    started: Instant,
}

/// Starts the daemon's task: it loads the model that the settings name, and runs until
/// `shutdown` is cancelled and the last answer has ended.
pub fn start(
    settings: Arc<Settings>,
    store: Store,
    notifier: Notifier,
    shutdown: CancellationToken,
) -> (DaemonHandle, tokio::task::JoinHandle<()>) {
    let (messages, inbox) = mpsc::channel(MESSAGES_MAX);
    let (cancelled, cancellations) = mpsc::unbounded_channel();
    let (status_sender, status) = watch::channel(Status::default());
    let store = Arc::new(store);
    let metrics = Arc::new(Metrics::new());
    let memory = Tree::from_env();
    let engine_memory = figures::EngineMemory::default();
    let providers = Providers::default();
    let handle = DaemonHandle {
        messages,
        conversations: Conversations::start(&settings.conversations),
        providers: providers.clone(),
        status,
        store: Arc::clone(&store),
        metrics: Arc::clone(&metrics),
        memory: memory.clone(),
        engine_memory: engine_memory.clone(),
        turns: Turns::new(settings.limits.queue, settings.limits.per_uid),
        errands: Errands::new(settings.limits.per_uid, &settings.home),
        board: tuning::Board::new(Arc::clone(&settings)),
        started: Instant::now(),
    };
    let inputs = wake::Inputs::new(inbox, cancellations, providers, &notifier, shutdown);
    let daemon = task::Daemon::new(
        settings,
        store,
        memory,
        LiveRequests::new(metrics),
        Publication::new(status_sender, engine_memory, notifier),
        cancelled,
    );
    let task = tokio::spawn(daemon.run(inputs));
    tokio::spawn(tuning::check(handle.clone()));
    (handle, task)
}

impl DaemonHandle {
    /// Hands in a request; the answer's events then come through [`Answer`].
    ///
    /// # Errors
    /// `busy` at once when the queue or the caller's share of it is full, `model_not_found` for a
    /// model that is not loaded or when there is none, `not_ready` when hobd is shutting down,
    /// `model_failed` while a model that failed is left alone; and within a conversation,
    /// `conversation_not_found`, `busy`, and those of [`Conversations::create`].
    pub async fn submit(&self, mut request: ValidRequest) -> Result<Answer, ApiError> {
        match request.conversation.take() {
            None => self.submit_alone(request).await,
            Some(belonging) => {
                let daemon = self.clone();
                self.conversations.submit(daemon, request, belonging).await
            }
        }
    }

    /// Hands in a request for embeddings; they then come through [`Answer`].
    ///
    /// # Errors
    /// As of [`DaemonHandle::submit`] outside of a conversation.
    pub async fn embed(&self, request: ValidEmbedding) -> Result<Answer, ApiError> {
        self.call(|reply| Message::Embed(Box::new(request), reply))
            .await
    }

    /// Asks how likely texts are behind prompts, and waits for all. Dropping the future cancels the
    /// request.
    ///
    /// # Errors
    /// As of [`DaemonHandle::submit`] outside of a conversation, and what ends the request:
    /// `context_overflow`, `invalid_request` for a prompt or continuation without tokens,
    /// `unsupported` for a conversation and a model without a chat template, `deadline_exceeded`,
    /// `engine_lost`, `model_failed`.
    pub async fn scores(&self, request: ValidScore) -> Result<Scores, ApiError> {
        let answer = self.call(|reply| Message::Score(Box::new(request), reply));
        score::gathered(answer.await?).await
    }

    /// The conversations that hobd keeps.
    pub fn conversations(&self) -> &Conversations {
        &self.conversations
    }

    /// Hands in a request whose prompt is whole.
    pub(crate) async fn submit_alone(&self, request: ValidRequest) -> Result<Answer, ApiError> {
        self.call(|reply| Message::Submit(Box::new(request), reply))
            .await
    }

    /// The daemon's state, now and whenever it changes. Figures that change all the time (memory,
    /// uptime) are 0 in it; [`DaemonHandle::status_now`] has them.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The daemon's state with fresh figures. Never waits for the daemon's task.
    pub fn status_now(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.conversations = self.conversations.status();
        status.uptime_s = self.started.elapsed().as_secs();
        let machine = self.memory.supply().machine;
        status.memory.available_bytes = machine.map_or(0, |machine| machine.available);
        status.work = self.metrics.work();
        status.tuning = self.board.known();
        status.hobd_rss_bytes = figures::rss_bytes();
        if let Some(engine) = &mut status.engine {
            engine.rss_bytes = self.engine_memory.rss_bytes();
        }
        status
    }

    /// Requests answered, refused or failed since hobd started.
    fn requests_ended(&self) -> u64 {
        let work = self.metrics.work();
        work.answered + work.failed
    }

    /// What Prometheus is told, in the text format of `OpenMetrics`.
    ///
    /// # Errors
    /// Never in practice.
    pub fn metrics(&self) -> Result<String, ApiError> {
        let text = self.metrics.text(&self.status_now());
        text.map_err(|_| internal("the metrics can't be written"))
    }

    /// Models in the store, by name.
    ///
    /// # Errors
    /// `internal` if the store can't be read.
    pub async fn models(&self) -> Result<ModelList, ApiError> {
        let store = Arc::clone(&self.store);
        let installed = tokio::task::spawn_blocking(move || store.list()).await;
        let installed = installed
            .map_err(|_| internal("the model store can't be read"))?
            .map_err(|error| internal(error.to_string()))?;
        let status = self.status.borrow().clone();
        let loaded = status.model.filter(|_| status.state == State::Ready);
        let data = installed.into_iter().map(|model| ModelEntry {
            loaded: loaded
                .as_ref()
                .is_some_and(|m| m.name == model.name.as_str()),
            id: model.name.to_string(),
            object: "model".to_owned(),
            created: model.manifest.installed,
            owned_by: "hob".to_owned(),
            size_bytes: model.manifest.size_bytes,
        });
        Ok(ModelList {
            object: "list".to_owned(),
            data: data.collect(),
        })
    }

    /// Loads a model (`default` for the one that the settings or the store choose), ending the
    /// one that is loaded; returns when it is ready. Running answers of the old one fail with
    /// `cancelled`.
    ///
    /// # Errors
    /// `model_not_found`, `model_failed`, `not_ready`.
    pub async fn load_model(&self, name: String) -> Result<(), ApiError> {
        self.call(|reply| Message::Load(name, reply)).await
    }

    /// Ends the engine; the next request starts it again.
    ///
    /// # Errors
    /// `not_ready` if no model is loaded or loading.
    pub async fn unload_model(&self) -> Result<(), ApiError> {
        self.call(Message::Unload).await
    }

    /// Pins messages under a name, in place of what had it before. Returns when that is stored; the
    /// model reads them when it has nothing else to do.
    ///
    /// # Errors
    /// `quota_exceeded`, `busy`, `internal` if the disk fails, `not_ready` when hobd is ending.
    pub async fn put_pin(
        &self,
        owner: Owner,
        name: PinName,
        messages: Vec<ChatMessage>,
    ) -> Result<Pin, ApiError> {
        self.call(|reply| {
            Message::Pins(pins::Call::Put {
                owner,
                name,
                messages,
                reply,
            })
        })
        .await
    }

    /// Unpins a name.
    ///
    /// # Errors
    /// `not_found`, and those of [`DaemonHandle::put_pin`].
    pub async fn remove_pin(&self, owner: Owner, name: PinName) -> Result<(), ApiError> {
        self.call(|reply| Message::Pins(pins::Call::Remove { owner, name, reply }))
            .await
    }

    /// One pin, with its messages.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn pin(&self, owner: Owner, name: PinName) -> Result<Pin, ApiError> {
        self.call(|reply| Message::Pins(pins::Call::Get { owner, name, reply }))
            .await
    }

    /// A user's pins and those of the user's homes, by name.
    ///
    /// # Errors
    /// `not_ready` when hobd is ending.
    pub async fn pins(&self, uid: u32) -> Result<Vec<Pin>, ApiError> {
        self.call(|reply| Message::Pins(pins::Call::List { uid, reply }))
            .await
    }

    async fn call<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, ApiError>>) -> Message,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let ended = || ApiError::new(ErrorCode::NotReady, "hobd is shutting down");
        self.messages
            .send(message(reply))
            .await
            .map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

fn internal(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Internal, message).hint("hobd's log may tell more")
}
