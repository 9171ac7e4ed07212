//! Measuring this board: the model is loaded in one way after another, and a fixed prompt is read and
//! written on in each. With hobd's own engine, so that sandbox and memory budget are those of every day.
//!
//! While it lasts, everybody else's requests are refused as `busy`; it does not begin while there are
//! any, so that nobody loses an answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use hob_api::chat::Class;
use hob_api::event::Done;
use hob_api::status::{State, Status};
use hob_api::tuning::{Checked, Speed, Trial, TuneEvent, Tuning};
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::memory::Weights;
use hob_ipc::message::{Prompt, Sampling};
use tokio::sync::{mpsc, oneshot, watch};

use super::{DaemonHandle, Message};
use crate::answer::Answer;
use crate::request::{Asked, Caller, ValidRequest};
use crate::settings::{EngineSettings, Settings, WeightsSetting};
use crate::tuning::{self, Chosen, Search, Way, file};

/// This version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// When no further way is begun: two minutes are promised, and the last one takes a while.
const TIME_MAX: Duration = Duration::from_secs(110);
/// How long reading is to take, and writing, so that the clock's noise does not matter.
const PART: Duration = Duration::from_secs(2);
/// A round that takes longer than this is not repeated.
const ROUND_MAX: Duration = Duration::from_secs(6);
/// Records that may wait for the client.
const EVENTS_MAX: usize = 32;
/// Numbers that the first prompt counts, and tokens that are then written: to learn how fast the board
/// is at all.
const SAMPLE: Size = Size {
    numbers: 16,
    written: 8,
};

/// What the measurement asks of the daemon's task.
#[derive(Debug)]
pub(super) enum Call {
    /// To refuse everybody else from now on.
    Begin(oneshot::Sender<Result<(), ApiError>>),
    /// To load the model with these settings; replied to when it is ready.
    Try(Box<EngineSettings>, oneshot::Sender<Result<(), ApiError>>),
    /// To answer this, of the measurement's own.
    Measure(Box<ValidRequest>, oneshot::Sender<Result<Answer, ApiError>>),
    /// To load the model with these settings, or with those of before, and to serve everybody again.
    End(
        Option<Box<EngineSettings>>,
        oneshot::Sender<Result<(), ApiError>>,
    ),
}

/// What is known of this board, and where it is kept. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Board {
    settings: Arc<Settings>,
    file: PathBuf,
    known: Arc<watch::Sender<Option<Tuning>>>,
}

impl Board {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let stored = settings.tuning.stored.clone();
        Self {
            file: settings.tuning.file.clone(),
            known: Arc::new(watch::channel(stored).0),
            settings,
        }
    }

    pub(super) fn known(&self) -> Option<Tuning> {
        self.known.borrow().clone()
    }

    /// Keeps it, or that there is none.
    async fn keep(&self, tuning: Option<Tuning>) -> Result<(), ApiError> {
        let path = self.file.clone();
        let kept = tuning.clone();
        let written = tokio::task::spawn_blocking(move || match kept {
            Some(tuning) => file::write(&path, &tuning),
            None => file::remove(&path),
        });
        let written = written.await.map_err(std::io::Error::other);
        written.and_then(|written| written).map_err(|error| {
            tracing::error!(%error, "what was measured can't be kept");
            ApiError::new(
                ErrorCode::Internal,
                "what was measured can't be kept on the disk",
            )
            .hint("hobd's log tells why")
        })?;
        self.known.send_replace(tuning);
        Ok(())
    }

    /// The settings with what nobody set at its default.
    fn untuned(&self) -> EngineSettings {
        let engine = &self.settings.engine;
        Way::untuned(engine, self.settings.tuning.free).within(engine)
    }
}

/// How much is read and written at a time.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Numbers that the prompt counts, of some four tokens each.
    numbers: u32,
    /// Tokens of answer.
    written: u32,
}

impl Size {
    /// What takes about [`PART`] each at this speed, within a small context.
    fn at(speed: Speed) -> Self {
        let seconds = PART.as_secs_f64();
        // Between the bounds, so that nothing is cut.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped"
        )]
        let within = |tokens: f64, least: f64, most: f64| tokens.clamp(least, most) as u32;
        Self {
            numbers: within(speed.read_per_second * seconds / 4.0, 12.0, 128.0),
            written: within(speed.written_per_second * seconds, 12.0, 96.0),
        }
    }
}

/// What measures, and has learned how much to measure with.
#[derive(Debug, Default)]
struct Bench {
    size: Option<Size>,
    /// Requests made so far.
    asked: u64,
}

impl Bench {
    /// The speed of the model as it is loaded. `alone` for a measurement during which others are
    /// refused.
    async fn measure(&mut self, daemon: &DaemonHandle, alone: bool) -> Result<Speed, ApiError> {
        let size = match self.size {
            Some(size) => size,
            None => Size::at(self.timed(daemon, SAMPLE, alone).await?),
        };
        self.size = Some(size);
        let started = Instant::now();
        let first = self.timed(daemon, size, alone).await?;
        if started.elapsed() > ROUND_MAX {
            return Ok(first);
        }
        // The better of two: what else the board did meanwhile only makes things slower.
        let second = self.timed(daemon, size, alone).await?;
        Ok(Speed {
            read_per_second: first.read_per_second.max(second.read_per_second),
            written_per_second: first.written_per_second.max(second.written_per_second),
        })
    }

    async fn timed(
        &mut self,
        daemon: &DaemonHandle,
        size: Size,
        alone: bool,
    ) -> Result<Speed, ApiError> {
        self.asked += 1;
        daemon.timed(size, alone).await
    }
}

impl DaemonHandle {
    /// Measures this board, and loads models as was fastest from then on. What is found out comes
    /// through the channel; closing it ends the measurement, and what was tried until then counts.
    ///
    /// # Errors
    /// `busy` while requests are under way, or another measurement.
    pub async fn tune(&self) -> Result<mpsc::Receiver<TuneEvent>, ApiError> {
        self.call(|reply| Message::Tune(Call::Begin(reply))).await?;
        tracing::info!("measuring this board");
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(run(self.clone(), events));
        Ok(receiver)
    }

    /// Forgets what was measured, and loads models as hobd chooses by itself.
    ///
    /// # Errors
    /// As of [`DaemonHandle::tune`], and `internal` if the disk fails.
    pub async fn forget_tuning(&self) -> Result<(), ApiError> {
        self.call(|reply| Message::Tune(Call::Begin(reply))).await?;
        let kept = self.board.keep(None).await;
        let engine = kept.is_ok().then(|| Box::new(self.board.untuned()));
        let ended = self.call(|reply| Message::Tune(Call::End(engine, reply)));
        ended.await.and(kept)
    }

    /// What was measured; `None` if nothing was.
    pub fn tuning(&self) -> Option<Tuning> {
        self.board.known()
    }

    /// Loads the model in this way, and measures it.
    async fn try_way(&self, way: Way, bench: &mut Bench) -> Result<(Chosen, Trial), ApiError> {
        let engine = Box::new(way.within(&self.board.settings.engine));
        self.call(|reply| Message::Tune(Call::Try(engine, reply)))
            .await?;
        let speed = bench.measure(self, true).await?;
        let chosen = chosen(&self.status.borrow());
        let trial = Trial {
            threads: chosen.threads,
            weights: chosen.weights.as_str().to_owned(),
            kv_type: way.kv_type.as_str().to_owned(),
            speed,
        };
        Ok((chosen, trial))
    }

    /// Reads and writes so much, and says how fast that was.
    async fn timed(&self, size: Size, alone: bool) -> Result<Speed, ApiError> {
        let request = request(size);
        let answer = if alone {
            self.call(|reply| Message::Tune(Call::Measure(Box::new(request), reply)))
                .await?
        } else {
            self.submit_alone(request).await?
        };
        let done = ended(answer).await?;
        if done.usage.completion_tokens < 2 {
            let message = "the model writes nothing that could be measured";
            return Err(ApiError::new(ErrorCode::ModelFailed, message).hint("choose another model"));
        }
        Ok(Speed {
            read_per_second: done.timings.prefill_per_second,
            written_per_second: done.timings.decode_per_second,
        })
    }
}

/// How the model is loaded.
fn chosen(status: &Status) -> Chosen {
    Chosen {
        threads: status.engine.as_ref().map_or(1, |engine| engine.threads),
        weights: if status.memory.weights.starts_with(Weights::Copied.as_str()) {
            Weights::Copied
        } else {
            Weights::Mapped
        },
    }
}

/// A text that counts, as every model goes on with that for long.
fn request(size: Size) -> ValidRequest {
    let numbers: Vec<String> = (1..=size.numbers).map(|n| (100 + n).to_string()).collect();
    ValidRequest {
        // Of hobd's own: nobody's share of the queue.
        caller: Caller { uid: 0 },
        model: None,
        conversation: None,
        prompt: Asked::Plain(Prompt::Text(numbers.join(" ") + " ")),
        max_tokens: size.written,
        stop: Vec::new(),
        sampling: Sampling::GREEDY,
        timeout: TIME_MAX,
        class: Class::Batch,
        cache: false,
        keep_alive: None,
        drafts: false,
        constraint: None,
        thinking: None,
    }
}

async fn ended(mut answer: Answer) -> Result<Done, ApiError> {
    while let Some(event) = answer.next().await {
        match event {
            Event::Done(done) => return Ok(done),
            Event::Error { error } => return Err(error),
            _ => {}
        }
    }
    Err(super::internal("hobd lost track of this request"))
}

/// A measurement from its beginning to its end, whatever becomes of the client.
async fn run(daemon: DaemonHandle, events: mpsc::Sender<TuneEvent>) {
    let board = daemon.board.clone();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let mut search = Search::new(
        &board.settings.engine,
        board.settings.tuning.free,
        processors,
    );
    let mut trials = Vec::new();
    let tried = try_all(&daemon, &events, &mut search, &mut trials).await;
    let ending = match (search.best(), tried) {
        (Some((way, speed)), tried) => {
            let complete = tried.is_ok_and(|complete| complete);
            let tuning = conclusion(&daemon, way, speed, (trials, complete));
            let kept = board.keep(Some(tuning.clone())).await;
            kept.map(|()| (way, tuning))
        }
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(super::live::cancelled()),
    };
    let engine = ending.as_ref().ok().map(|(way, _)| {
        let free = board.settings.tuning.free;
        let best = way.within(&board.settings.engine);
        tracing::info!(?free, threads = best.threads, "this board was measured");
        Box::new(best)
    });
    // Only a hobd that ends does not take this.
    let _ = daemon
        .call(|reply| Message::Tune(Call::End(engine, reply)))
        .await;
    let last = match ending {
        Ok((_, tuning)) => TuneEvent::Done(tuning),
        Err(error) => TuneEvent::Error { error },
    };
    let _ = events.send(last).await;
}

/// Tries one way after another; whether that was all. An error if hobd ends, or the last one if no way
/// worked.
async fn try_all(
    daemon: &DaemonHandle,
    events: &mpsc::Sender<TuneEvent>,
    search: &mut Search,
    trials: &mut Vec<Trial>,
) -> Result<bool, ApiError> {
    let started = Instant::now();
    let mut bench = Bench::default();
    let mut failed = Ok(true);
    while let Some(way) = search.next_way() {
        let (number, of) = search.count();
        let each = started.elapsed() / (number - 1).max(1);
        if number > 1 && started.elapsed() + each > TIME_MAX {
            return Ok(false);
        }
        let trying = TuneEvent::Trying {
            number,
            of,
            seconds_left: u32::try_from((each * (of + 1 - number)).as_secs()).unwrap_or(0),
        };
        // Whether the client is there is asked right below.
        let _ = events.send(trying).await;
        let tried = tokio::select! {
            tried = daemon.try_way(way, &mut bench) => tried,
            () = events.closed() => return Ok(false),
        };
        match tried {
            Ok((chosen, trial)) => {
                search.tried(way, chosen, trial.speed);
                trials.push(trial.clone());
                let _ = events.send(TuneEvent::Tried(trial)).await;
            }
            Err(error) if error.code == ErrorCode::NotReady => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a way of loading the model can't be measured");
                failed = Err(error);
            }
        }
    }
    if trials.is_empty() { failed } else { Ok(true) }
}

fn conclusion(
    daemon: &DaemonHandle,
    way: Way,
    speed: Speed,
    (trials, complete): (Vec<Trial>, bool),
) -> Tuning {
    let free = daemon.board.settings.tuning.free;
    let model = daemon.status.borrow().model.clone().unwrap_or_default();
    let weights = match way.weights {
        WeightsSetting::Mapped | WeightsSetting::Copied => Some(way.weights.as_str().to_owned()),
        WeightsSetting::Auto | WeightsSetting::Locked => None,
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Tuning {
        version: VERSION.to_owned(),
        model: model.name,
        sha256: model.sha256,
        time: since.map_or(0, |since| since.as_secs()),
        threads: way.threads.filter(|_| free.threads),
        weights: weights.filter(|_| free.weights),
        speed,
        complete,
        trials,
        checked: None,
    }
}

/// After an upgrade, measures the model once more when it was loaded and nobody asks, and says so if it
/// became clearly slower. What others asked meanwhile makes the figures worthless; then the next start
/// does it.
pub(super) async fn check(daemon: DaemonHandle) {
    let Some(then) = daemon.board.known() else {
        return;
    };
    let is_checked = |checked: &Checked| checked.version == VERSION;
    if then.version == VERSION || then.checked.as_ref().is_some_and(is_checked) {
        return;
    }
    let same = then.trials.iter().find(|trial| trial.speed == then.speed);
    let is_same = |status: &Status| {
        let chosen = chosen(status);
        let kv_type = status.memory.kv_type.as_str();
        same.is_some_and(|trial| {
            trial.threads == chosen.threads
                && trial.weights == chosen.weights.as_str()
                && trial.kv_type == kv_type
        })
    };
    let is_idle = |status: &Status| {
        let same_model = |model: &hob_api::status::ModelStatus| model.sha256 == then.sha256;
        status.state == State::Ready
            && (status.active, status.queued) == (0, 0)
            && status.model.as_ref().is_some_and(same_model)
            && is_same(status)
    };
    if daemon.status().wait_for(is_idle).await.is_err() {
        return;
    }
    let mut bench = Bench::default();
    let before = daemon.requests_ended();
    let Ok(now) = bench.measure(&daemon, false).await else {
        return;
    };
    if daemon.requests_ended() != before + bench.asked {
        tracing::debug!("others asked while this version was compared with the one before");
        return;
    }
    let slower = tuning::is_slower(then.speed, now);
    if slower {
        tracing::warn!(
            before = then.version.as_str(),
            read_per_second_before = then.speed.read_per_second,
            read_per_second = now.read_per_second,
            written_per_second_before = then.speed.written_per_second,
            written_per_second = now.written_per_second,
            "this version is slower on this board than the one before; `hob tune` measures anew"
        );
    }
    let checked = Some(Checked {
        version: VERSION.to_owned(),
        speed: now,
        slower,
    });
    // The log has told if that fails.
    let _ = daemon.board.keep(Some(Tuning { checked, ..then })).await;
}
