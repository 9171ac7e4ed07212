//! Runs the engine as hobd does, for tests and the example `ask`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each user of this file needs a part of it, and a failed unwrap is a failed test"
)]

pub(crate) mod sequences;

use std::fs::File;
use std::io::{IoSlice, Read, Seek as _, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hob_api::chat::Class;
use hob_ipc::frame::{COMMAND_BYTES_MAX, EVENT_BYTES_MAX};
use hob_ipc::memory::{KvType, Weights};
use hob_ipc::message::{
    Drafts, FailureCode, Finished, Generate, Load, LoadFailure, Prompt, Ready, Sampling,
    SandboxPolicy,
};
use hob_ipc::{Command, Decoder, EngineEvent, RequestId, encode};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Longest wait for anything; tests that hang fail here.
const PATIENCE: Duration = Duration::from_secs(120);

/// The model that tests run: `HOB_TEST_MODEL`, or where `scripts/check` puts it.
pub(crate) fn test_model() -> PathBuf {
    let path = std::env::var_os("HOB_TEST_MODEL").map_or_else(
        || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../target/test-models/SmolLM2-135M-Instruct.Q4_1.gguf")
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "no model at {}: run scripts/check once, or set HOB_TEST_MODEL",
        path.display()
    );
    path
}

/// A model of another kind, with a sliding window of 512 tokens: where `scripts/check` puts it.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn sliding_model() -> PathBuf {
    let path = test_model().with_file_name("gemma-3-270m-q4_k_m.gguf");
    assert!(
        path.is_file(),
        "no model at {}: run scripts/check once",
        path.display()
    );
    path
}

/// Ordinary settings.
pub(crate) fn load() -> Load {
    Load {
        version: hob_ipc::VERSION,
        sandbox: SandboxPolicy::Required,
        n_ctx: 2048,
        parallel: 2,
        // Tests run side by side: engines with all cores each would wait for one another.
        threads: Some(1),
        memory_bytes_max: None,
        kv_type: KvType::F16,
        weights: Weights::Mapped,
        lock: false,
        chat_template: None,
        drafts: Drafts::Auto,
        embeddings: true,
        gpu: None,
        cache_bytes_max: 0,
        control: None,
    }
}

/// A request to go on from `text`.
pub(crate) fn complete(id: u64, text: &str, max_tokens: u32) -> Generate {
    Generate {
        id: RequestId(id),
        prompt: Prompt::Text(text.to_owned()),
        max_tokens,
        stop: Vec::new(),
        sampling: Sampling::GREEDY,
        cache_owner: None,
        class: Class::Chat,
        drafts: true,
        constraint: None,
    }
}

/// How one request went.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// All deltas.
    pub(crate) text: String,
    /// Reports of progress with the prompt.
    pub(crate) prefills: Vec<(u32, u32)>,
    /// The terminal event.
    pub(crate) end: Option<Result<Finished, (FailureCode, String, u32)>>,
}

impl Outcome {
    pub(crate) fn finished(&self) -> Finished {
        self.end.clone().expect("no end").expect("a failure")
    }

    pub(crate) fn failure(&self) -> (FailureCode, String, u32) {
        self.end.clone().expect("no end").expect_err("an answer")
    }
}

/// A running engine; killed when dropped.
pub(crate) struct Engine {
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
    decoder: Decoder,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Engine {
    /// Starts `binary` with the model in `file`.
    pub(crate) fn of_file(binary: impl AsRef<Path>, mut file: File) -> Self {
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut engine = Self::spawn(binary);
        engine.send_with(&Command::Load(load()), &[file]);
        loop {
            match engine.next_work() {
                Some(EngineEvent::Ready(_)) => return engine,
                Some(EngineEvent::Sandboxed { .. } | EngineEvent::Loading { .. }) => {}
                event => panic!("unexpected {event:?}"),
            }
        }
    }

    /// Starts `binary` and sends nothing.
    pub(crate) fn spawn(binary: impl AsRef<Path>) -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Process::new(binary.as_ref())
            .env_clear()
            .env("GGML_NO_BACKTRACE", "1")
            .envs(std::env::var_os("HOB_ENGINE_LOG").map(|level| ("HOB_ENGINE_LOG", level)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A pipe: the engine may not write to files. A long log would fill one that nobody
            // reads while the model loads, and goes to this program's own.
            .stderr(if std::env::var_os("HOB_ENGINE_LOG").is_some() {
                Stdio::inherit()
            } else {
                Stdio::piped()
            })
            .spawn()
            .unwrap();
        Self {
            child,
            socket,
            decoder: Decoder::new(EVENT_BYTES_MAX),
        }
    }

    /// Sends a message with descriptors.
    pub(crate) fn send_with(&mut self, command: &Command, descriptors: &[impl AsFd]) {
        let frame = encode(command, COMMAND_BYTES_MAX).unwrap();
        let fds: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let sent = sendmsg(
            &self.socket,
            &[IoSlice::new(&frame)],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        self.socket.write_all(&frame[sent..]).unwrap();
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, command: &Command) {
        let frame = encode(command, COMMAND_BYTES_MAX).unwrap();
        self.socket.write_all(&frame).unwrap();
    }

    pub(crate) fn generate(&mut self, request: Generate) {
        self.send(&Command::Generate(Box::new(request)));
    }

    /// The next event, or `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<EngineEvent> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(event) = self.decoder.next().unwrap() {
                return Some(event);
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(bytes) => self.decoder.push(&buffer[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no event: {error}"),
            }
        }
    }

    /// The next event that is neither a heartbeat nor about the cache.
    pub(crate) fn next_work(&mut self) -> Option<EngineEvent> {
        loop {
            match self.next() {
                Some(EngineEvent::Heartbeat { .. } | EngineEvent::Cache { .. }) => {}
                event => return event,
            }
        }
    }

    /// Starts `binary`, loads `model`, and waits until it is ready.
    pub(crate) fn start(binary: impl AsRef<Path>, load: &Load, model: &Path) -> (Self, Started) {
        match Self::try_start(binary, load, model) {
            (engine, Ok(started)) => (engine, started),
            (mut engine, Err(failure)) => panic!("{failure:?}: {}", engine.log()),
        }
    }

    /// As [`Engine::start`], where failing is an outcome.
    pub(crate) fn try_start(
        binary: impl AsRef<Path>,
        load: &Load,
        model: &Path,
    ) -> (Self, Result<Started, (LoadFailure, String)>) {
        let mut engine = Self::spawn(binary);
        let file = File::open(model).unwrap();
        engine.send_with(&Command::Load(load.clone()), &[file]);
        let outcome = engine.wait_until_ready();
        (engine, outcome)
    }

    pub(crate) fn wait_until_ready(&mut self) -> Result<Started, (LoadFailure, String)> {
        let mut started = Started::default();
        loop {
            match self.next_work() {
                Some(EngineEvent::Sandboxed { layers }) => started.layers = layers,
                Some(EngineEvent::Loading { percent }) => started.percents.push(percent),
                Some(EngineEvent::Ready(ready)) => {
                    started.ready = ready;
                    return Ok(started);
                }
                Some(EngineEvent::LoadFailed { code, message }) => return Err((code, message)),
                event => panic!("unexpected {event:?}: {}", self.log()),
            }
        }
    }

    /// Takes events until every request in `ids` has ended.
    pub(crate) fn outcomes<const N: usize>(&mut self, ids: [u64; N]) -> [Outcome; N] {
        let mut outcomes: [Outcome; N] = std::array::from_fn(|_| Outcome::default());
        while outcomes.iter().any(|outcome| outcome.end.is_none()) {
            let Some(event) = self.next_work() else {
                panic!("the engine ended: {}", self.log());
            };
            note(&mut outcomes, ids, event);
        }
        outcomes
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, request: Generate) -> Outcome {
        let id = request.id.0;
        self.generate(request);
        let [outcome] = self.outcomes([id]);
        outcome
    }

    /// Waits for the end, which must come soon.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the engine does not end");
    }

    /// What the engine logged; ends it first.
    pub(crate) fn log(&mut self) -> String {
        let _ = self.child.kill();
        let mut log = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.read_to_string(&mut log);
        }
        log
    }
}

/// What the engine said while it started.
#[derive(Debug, Default)]
pub(crate) struct Started {
    pub(crate) layers: Vec<String>,
    pub(crate) percents: Vec<u8>,
    pub(crate) ready: Ready,
}

fn note<const N: usize>(outcomes: &mut [Outcome; N], ids: [u64; N], event: EngineEvent) {
    match event {
        EngineEvent::Delta { id, text } => {
            assert!(!text.is_empty());
            of(outcomes, ids, id).text.push_str(&text);
        }
        EngineEvent::Prefill {
            id,
            processed,
            total,
        } => of(outcomes, ids, id).prefills.push((processed, total)),
        EngineEvent::Finished(finished) => of(outcomes, ids, finished.id).end = Some(Ok(finished)),
        // Pinned prefixes go on meanwhile.
        EngineEvent::Pin { .. } => {}
        EngineEvent::Failed {
            id,
            code,
            message,
            prompt_tokens,
        } => of(outcomes, ids, id).end = Some(Err((code, message, prompt_tokens))),
        event => panic!("unexpected {event:?}"),
    }
}

fn of<const N: usize>(outcomes: &mut [Outcome; N], ids: [u64; N], id: RequestId) -> &mut Outcome {
    let place = ids.iter().position(|known| *known == id.0);
    let outcome = &mut outcomes[place.unwrap_or_else(|| panic!("unknown id {id}"))];
    assert!(outcome.end.is_none(), "an event after the end of {id}");
    outcome
}
