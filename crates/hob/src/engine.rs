//! An engine of hob's own, for work on models that are not hobd's: the same sandboxed program, started
//! without hobd. What it says is not believed where it can't be, as it parses files of others.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use hob_ipc::frame::{COMMAND_BYTES_MAX, EVENT_BYTES_MAX};
use hob_ipc::kernels::{self, ENGINE, ENGINES, Features};
use hob_ipc::memory::{KvType, Weights};
use hob_ipc::message::{Drafts, Load, LoadFailure, SandboxPolicy};
use hob_ipc::tokens::Tokenize;
use hob_ipc::{Command, Decoder, EngineEvent, RequestId, encode, start};

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

mod observe;
mod pace;
mod quantize;
mod residual;
mod score;
mod text;

pub(crate) use observe::Importance;
pub(crate) use pace::{Footprint, Pace};
pub(crate) use quantize::Order;
pub(crate) use residual::Control;
pub(crate) use text::Foreseen;

/// Another engine, and how it is started; hobd's own variables.
const PATH_VARIABLE: &str = "HOB_ENGINE_PATH";
const SANDBOX_VARIABLE: &str = "HOB_ENGINE_SANDBOX";
const THREADS_VARIABLE: &str = "HOB_ENGINE_THREADS";

/// Tokens of context.
const N_CTX: u32 = 2048;
/// How often Ctrl-C is looked for while an engine says or reads nothing.
const TICK: Duration = Duration::from_millis(500);
/// The engine's heart beats every second, so that one that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest wait for one answer. Reading a large model from a slow disk takes minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// What went wrong with an engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// It can't be started.
    #[error("the engine {} can't be started: {source}", path.display())]
    Start {
        /// Its program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended, was killed, or says nothing any more.
    #[error("the engine ended before its work was done: {0}")]
    Lost(String),
    /// It refuses the model.
    #[error("the engine can't load the model: {message}")]
    Refused {
        /// The kind.
        code: LoadFailure,
        /// The engine's words.
        message: String,
    },
    /// It can't do what was asked.
    #[error("the engine can't do this: {0}")]
    Failed(String),
    /// It said what can't be.
    #[error("the engine gave an impossible answer, and was ended")]
    Absurd,
    /// Ctrl-C.
    #[error("stopped")]
    Stopped(Failure),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let failure = Failure::new(error.to_string()).status(ExitStatus::Model);
        match error {
            EngineError::Stopped(stopped) => stopped,
            EngineError::Start { .. } => failure.hint(format!(
                "It comes with hobd; {PATH_VARIABLE} can name another."
            )),
            EngineError::Refused {
                code: LoadFailure::Sandbox,
                ..
            } => failure.hint(format!(
                "{SANDBOX_VARIABLE}=degraded goes on with the layers that this kernel has."
            )),
            _ => failure,
        }
    }
}

/// A text's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Their numbers, each one of the vocabulary's.
    pub(crate) tokens: Vec<u32>,
    /// Whether they spell the text again, byte for byte.
    pub(crate) exact: bool,
}

/// A running engine with a model; ended when dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    socket: UnixStream,
    decoder: Decoder,
    interrupt: Interrupt,
    requests: u64,
    /// Tokens of the vocabulary, as the model's header has them.
    vocabulary: u32,
    /// Bytes of the open text.
    text_bytes: u64,
    /// Whether scores of it are written for the tokens of another model alone.
    writes_kept: bool,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It has nothing to save; an error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Engine {
    /// Starts an engine and loads a model of so many tokens, from its open file.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn load(
        model: &File,
        vocabulary: u32,
        interrupt: &Interrupt,
    ) -> Result<Self, EngineError> {
        Self::load_with(model, vocabulary, None, interrupt)
    }

    /// The same, with a vector that is added to what its layers hand on.
    ///
    /// # Errors
    /// [`EngineError`], also where it is none for this model.
    pub(crate) fn load_with(
        model: &File,
        vocabulary: u32,
        control: Option<&Control>,
        interrupt: &Interrupt,
    ) -> Result<Self, EngineError> {
        let lost = |error: io::Error| EngineError::Lost(error.to_string());
        let mut engine = Self::start(vocabulary, interrupt)?;
        // llama.cpp reads on from where the file stands, which is one place for all its descriptors.
        rewind(model).map_err(lost)?;
        let control = control.map(Control::sealed).transpose().map_err(lost)?;
        let (control, memory) = control.unzip();
        let files = std::iter::once(model).chain(memory.as_ref());
        let descriptors: Vec<_> = files.map(|file| file.as_fd()).collect();
        engine.send_with(&Command::Load(Load { control, ..load() }), &descriptors)?;
        engine.wait(|event| match event {
            EngineEvent::Ready(_) => Some(Ok(())),
            EngineEvent::LoadFailed { code, message } => {
                Some(Err(EngineError::Refused { code, message }))
            }
            _ => None,
        })?;
        Ok(engine)
    }

    /// Starts an engine that waits for its first message.
    fn start(vocabulary: u32, interrupt: &Interrupt) -> Result<Self, EngineError> {
        let path = program();
        let (socket, theirs) = UnixStream::pair().map_err(|source| EngineError::Start {
            path: path.clone(),
            source,
        })?;
        let child = spawn(&path, theirs).map_err(|source| EngineError::Start {
            path: path.clone(),
            source,
        })?;
        let engine = Self {
            child,
            socket,
            decoder: Decoder::new(EVENT_BYTES_MAX),
            interrupt: interrupt.clone(),
            requests: 0,
            vocabulary,
            text_bytes: 0,
            writes_kept: false,
        };
        let socket = &engine.socket;
        let limited = socket.set_read_timeout(Some(TICK));
        limited
            .and_then(|()| socket.set_write_timeout(Some(TICK)))
            .map_err(|error| EngineError::Lost(error.to_string()))?;
        Ok(engine)
    }

    /// Sends a command with the descriptors that belong to it.
    fn send_with(
        &mut self,
        command: &Command,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), EngineError> {
        let frame = encode(command, COMMAND_BYTES_MAX);
        let frame = frame.map_err(|error| EngineError::Lost(error.to_string()))?;
        let mut sent = 0;
        if !descriptors.is_empty() {
            sent = self.patiently("read", |socket| {
                start::send_with(socket, &frame, descriptors)
            })?;
        }
        while sent < frame.len() {
            sent += self.patiently("read", |mut socket| socket.write(&frame[sent..]))?;
        }
        Ok(())
    }

    /// Does something with the socket of an engine that may be slow, or silent for good.
    fn patiently(
        &self,
        what: &str,
        mut attempt: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> Result<usize, EngineError> {
        let lost = |error: String| Err(EngineError::Lost(error));
        let started = Instant::now();
        loop {
            self.interrupt.check().map_err(EngineError::Stopped)?;
            let error = match attempt(&self.socket) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    if started.elapsed() >= SILENCE {
                        return lost(format!("it has {what} nothing for {} s", SILENCE.as_secs()));
                    }
                }
                _ => return lost(error.to_string()),
            }
        }
    }

    /// Makes tokens of a text of at most [`hob_ipc::tokens::TEXT_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn tokenize(&mut self, text: &str) -> Result<Tokens, EngineError> {
        let asked = self.next_request();
        self.send(&Command::Tokenize(Tokenize {
            id: asked,
            text: text.to_owned(),
        }))?;
        let told = self.answer(asked, |event| match event {
            EngineEvent::Tokenized(told) if told.id == asked => Some(Ok(told)),
            _ => None,
        })?;
        let known = |token: i32| u32::try_from(token).ok().filter(|t| *t < self.vocabulary);
        let tokens: Option<Vec<u32>> = told.tokens.into_iter().map(known).collect();
        let exact = told.exact;
        match tokens {
            // No token stands for less than a byte, but for the space that some tokenizers add.
            Some(tokens) if tokens.len() <= text.len() + 1 => Ok(Tokens { tokens, exact }),
            _ => Err(EngineError::Absurd),
        }
    }

    /// A number for a request, used once.
    fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn send(&mut self, command: &Command) -> Result<(), EngineError> {
        self.send_with(command, &[])
    }

    /// Waits for what `wanted` takes of the events of a request, or for its failure.
    fn answer<T>(
        &mut self,
        asked: RequestId,
        mut wanted: impl FnMut(EngineEvent) -> Option<Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        self.wait(|event| match event {
            EngineEvent::Failed { id, message, .. } if id == asked => {
                Some(Err(EngineError::Failed(message)))
            }
            other => wanted(other),
        })
    }

    /// Waits for the event that `wanted` takes.
    fn wait<T>(
        &mut self,
        mut wanted: impl FnMut(EngineEvent) -> Option<Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let lost = |error: String| EngineError::Lost(error);
        let started = Instant::now();
        let mut buffer = [0; 16 << 10];
        loop {
            while let Some(event) = self.decoder.next().map_err(|e| lost(e.to_string()))? {
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
            if started.elapsed() > PATIENCE {
                return Err(lost(format!("no answer for {} s", PATIENCE.as_secs())));
            }
            match self.patiently("said", |mut socket| socket.read(&mut buffer))? {
                0 => return Err(lost("it closed the connection".to_owned())),
                bytes => self.decoder.push(&buffer[..bytes]),
            }
        }
    }
}

/// The engine that belongs to this program: the one that a variable names, the one beside it in a build
/// folder, else the packaged one.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os(PATH_VARIABLE) {
        return best(path.into());
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name(ENGINE);
    if beside.is_file() {
        beside
    } else {
        best(PathBuf::from(ENGINES))
    }
}

/// Of a package's folder, the engine with the best kernels that this processor has.
fn best(path: PathBuf) -> PathBuf {
    if !path.is_dir() {
        return path;
    }
    let has = Features::here();
    let engines = kernels::installed(&path).into_iter();
    let mut runs = engines.filter(|(level, _)| has.lack(&level.needs()).is_none());
    runs.next_back()
        .map_or_else(|| path.join(ENGINE), |(_, engine)| engine)
}

fn rewind(mut file: &File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0)).map(|_| ())
}

/// A group of its own keeps the terminal's Ctrl-C from it, which is for hob to act on.
fn spawn(path: &Path, socket: UnixStream) -> io::Result<Child> {
    start::command(path, socket).process_group(0).spawn()
}

fn said(variable: &str) -> String {
    std::env::var(variable).unwrap_or_default()
}

fn policy() -> SandboxPolicy {
    let mut all = SandboxPolicy::ALL.into_iter();
    let policy = all.find(|policy| policy.as_str() == said(SANDBOX_VARIABLE));
    policy.unwrap_or_default()
}

fn threads() -> Option<u32> {
    said(THREADS_VARIABLE).parse().ok()
}

fn load() -> Load {
    Load {
        version: hob_ipc::VERSION,
        sandbox: policy(),
        n_ctx: N_CTX,
        parallel: 1,
        threads: threads(),
        memory_bytes_max: None,
        kv_type: KvType::F16,
        weights: Weights::Mapped,
        lock: false,
        chat_template: None,
        drafts: Drafts::Off,
        embeddings: false,
        gpu: None,
        control: None,
        cache_bytes_max: 0,
    }
}
