//! The engine's life from its first message to its last.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use hob_ipc::gpu::{self as ipc_gpu, Found, Gpu, Offload};
use hob_ipc::message::{Load, LoadFailure, SandboxPolicy};
use hob_ipc::quantize::Quantize;
use hob_ipc::{Decoder, EngineEvent};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;

use crate::gpu::{self, Computing};
use crate::grammar::compiler::Compiler;
use crate::inbox::{self, Inbox, Sender};
use crate::llama::{self, Llama, LoadError, Steering};
use crate::observe::{self, ObserveError};
use crate::pulse::Pulse;
use crate::sandbox::limits::{self, Bounds, LockError};
use crate::sandbox::{self, LayerError, Openable};
use crate::wire::{self, Events, HandshakeError, Outbox, ReadError, Task};
use crate::{cpu, raw, serve};

/// Longest reason for a failed load, in characters.
const REASON_CHARS_MAX: usize = 500;

/// Private memory for storing weights anew: some pieces of [`raw::QUANTIZE_BYTES`], and the metadata with
/// its vocabulary a few times over.
const QUANTIZE_MEMORY: u64 = 1 << 30;

/// Longest file in memory that a GPU's driver makes. Landlock lets it write to no other.
const GPU_SHARED_BYTES: u64 = 1 << 30;

/// hobd closed the socket, or is gone; or there was one thing to do, and it is done.
pub const EXIT_DONE: u8 = 0;
/// The engine reported that it can't load the model.
pub const EXIT_LOAD_FAILED: u8 = 1;
/// hobd and the engine do not understand each other.
pub const EXIT_PROTOCOL: u8 = 2;

/// Why the engine ends before it serves.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("this processor lacks {0}, which this build of hob-engine needs")]
    Cpu(String),
    /// One that is required.
    #[error("no GPU computes any layer of the model")]
    Gpu,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Quantize(#[from] raw::QuantizeError),
    #[error("what matters can't be read: {0}")]
    Importance(io::Error),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// hobd is gone; there is nobody to tell.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

impl StartError {
    fn code(&self) -> LoadFailure {
        match self {
            Self::Handshake(_) | Self::Socket(_) => LoadFailure::Protocol,
            Self::Layer(_) => LoadFailure::Sandbox,
            Self::Lock(_) => LoadFailure::Lock,
            Self::Cpu(_) => LoadFailure::Cpu,
            Self::Gpu => LoadFailure::Gpu,
            Self::Load(error) | Self::Observe(ObserveError::Load(error)) => error.code,
            Self::Quantize(_) | Self::Importance(_) => LoadFailure::Quantize,
            Self::Observe(_) => LoadFailure::Observe,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Handshake(_) => EXIT_PROTOCOL,
            _ => EXIT_LOAD_FAILED,
        }
    }
}

/// Runs the engine on the socket at descriptor 0, and returns its exit code.
pub fn run() -> u8 {
    // First of all: later there are descriptors of our own.
    let closed = raw::close_inherited();
    let socket = match rustix::stdio::stdin().try_clone_to_owned() {
        Ok(socket) => UnixStream::from(socket),
        Err(error) => return tell(&format!("there is no socket at descriptor 0: {error}")),
    };
    let outbox = match socket.try_clone() {
        Ok(writer) => Outbox::new(writer),
        Err(error) => return tell(&format!("the socket can't be shared: {error}")),
    };
    match live(socket, &outbox, closed) {
        Ok(()) => EXIT_DONE,
        Err(error) => {
            let message: String = error.to_string().chars().take(REASON_CHARS_MAX).collect();
            let event = EngineEvent::LoadFailed {
                code: error.code(),
                message,
            };
            // If hobd is gone, its log is the place for the reason.
            let _ = outbox.send(&event);
            tell(&error.to_string());
            error.exit_code()
        }
    }
}

fn tell(reason: &str) -> u8 {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "hob-engine: {reason}");
    EXIT_PROTOCOL
}

fn live(socket: UnixStream, outbox: &Outbox, closed: io::Result<()>) -> Result<(), StartError> {
    let handshake = wire::receive_first(&socket)?;
    if let Some(missing) = cpu::missing_features() {
        return Err(StartError::Cpu(missing));
    }
    let pulse: Arc<Pulse> = Arc::default();
    pulse.set_working(true);
    match handshake.task {
        Task::Serve {
            load,
            model,
            control,
        } => {
            let walls = Walls::of(&load);
            let inside = enter_sandbox(&walls, load.threads, outbox, closed)?;
            let commands = start_threads(socket, handshake.rest, outbox, &pulse)?;
            check_gpu(&load, inside.computing, outbox)?;
            let model = load_model(&load, model, inside.computing, outbox, &pulse)?;
            let control = load.control.zip(control);
            let steering = control.map(|(control, memory)| Steering::read(control, memory, model));
            let shape = Shape {
                load: &load,
                inside: &inside,
                steering: steering.transpose()?,
            };
            serve_model(&shape, model, &commands, outbox, &pulse)
        }
        Task::Quantize {
            order,
            source,
            target,
            importance,
        } => {
            let walls = Walls::around(&order, &source, &target);
            let inside = enter_sandbox(&walls, order.threads, outbox, closed)?;
            // While this lives, the thread that reads ends the process only with the socket.
            let _commands = start_threads(socket, handshake.rest, outbox, &pulse)?;
            let importance =
                importance.map(|memory| observe::importance(memory, &order.importance));
            let importance = importance.transpose().map_err(StartError::Importance)?;
            let how = raw::Quantization {
                scheme: order.scheme,
                uniform: order.uniform,
                importance: importance.as_deref().unwrap_or_default(),
                threads: inside.threads,
            };
            raw::quantize(&source, &target, how)?;
            Ok(outbox.send(&EngineEvent::Quantized)?)
        }
        Task::Observe { order, files } => {
            let walls = Walls::of(&order.load);
            let inside = enter_sandbox(&walls, order.load.threads, outbox, closed)?;
            // While this lives, the thread that reads ends the process only with the socket.
            let _commands = start_threads(socket, handshake.rest, outbox, &pulse)?;
            let Inside {
                backend, threads, ..
            } = inside;
            Ok(observe::observe(
                &order, files, &backend, threads, outbox, &pulse,
            )?)
        }
    }
}

/// What the sandbox is like.
struct Walls<'f> {
    policy: SandboxPolicy,
    bounds: Bounds,
    lock: bool,
    openable: Option<Openable<'f>>,
    gpu: Option<Offload>,
}

impl<'f> Walls<'f> {
    fn of(load: &Load) -> Self {
        let gpu = load.gpu.filter(|_| gpu::BACKEND.is_some());
        Self {
            policy: load.sandbox,
            bounds: Bounds {
                memory: load.memory_bytes_max,
                file: if gpu.is_some() { GPU_SHARED_BYTES } else { 0 },
                gpu: gpu.is_some(),
            },
            lock: load.lock,
            openable: None,
            gpu,
        }
    }

    fn around(order: &Quantize, source: &'f OwnedFd, target: &'f OwnedFd) -> Self {
        Self {
            policy: order.sandbox,
            bounds: Bounds {
                memory: Some(QUANTIZE_MEMORY),
                file: order.bytes_max,
                gpu: false,
            },
            lock: false,
            openable: Some(Openable {
                read: source.as_fd(),
                write: target.as_fd(),
            }),
            gpu: None,
        }
    }
}

/// What there is behind the sandbox's closed door.
struct Inside {
    backend: LlamaBackend,
    threads: u32,
    computing: Computing,
}

fn enter_sandbox(
    walls: &Walls<'_>,
    threads: Option<u32>,
    outbox: &Outbox,
    closed: io::Result<()>,
) -> Result<Inside, StartError> {
    let mut layers = sandbox::confine(walls.policy, walls.bounds, closed)?;
    std::env::set_current_dir("/")?;
    let verbose = std::env::var_os("HOB_ENGINE_LOG").is_some_and(|level| level == "debug");
    if walls.lock {
        limits::lock_memory(walls.bounds.memory)?;
    }
    let threads = threads.unwrap_or_else(cpu::default_threads).max(1);
    let Some(offload) = walls.gpu else {
        gpu::prepare(Gpu::Off);
        let backend = llama::start_backend(verbose)?;
        layers.extend(sandbox::close(walls.policy, walls.openable)?);
        outbox.send(&EngineEvent::Sandboxed { layers })?;
        return Ok(Inside {
            backend,
            threads,
            computing: Computing::default(),
        });
    };
    gpu::prepare(offload.gpu);
    let nodes = ipc_gpu::nodes(Path::new("/dev"));
    layers.extend(sandbox::gpu::enter(walls.policy, &nodes)?);
    let backend = llama::start_backend(verbose)?;
    let (computing, found) = gpu::choose(&offload);
    let makes_code = offload.gpu == Gpu::Emulated;
    layers.extend(sandbox::gpu::close(walls.policy, makes_code)?);
    outbox.send(&EngineEvent::Sandboxed { layers })?;
    outbox.send(&EngineEvent::Gpu(found))?;
    Ok(Inside {
        backend,
        threads,
        computing,
    })
}

fn start_threads(
    socket: UnixStream,
    rest: Decoder,
    outbox: &Outbox,
    pulse: &Arc<Pulse>,
) -> io::Result<Inbox> {
    let (sender, commands) = inbox::inbox();
    std::thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || read_to_the_end(socket, rest, &sender))?;
    let (outbox, pulse) = (outbox.clone(), Arc::clone(pulse));
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(move || {
            // hobd is gone. Waiting for the decode thread to notice would cost its time.
            let _ = pulse.beat(&outbox);
            raw::exit_now(i32::from(EXIT_DONE));
        })?;
    Ok(commands)
}

fn read_to_the_end(socket: UnixStream, rest: Decoder, commands: &Sender) {
    // The process ends with the stream, at once and in the middle of a step if need be: there is
    // nothing to save, and hobd wants the memory back.
    let code = match wire::read_commands(socket, rest, commands) {
        Ok(()) | Err(ReadError::Io(_)) => EXIT_DONE,
        Err(error) => tell(&error.to_string()),
    };
    raw::exit_now(i32::from(code));
}

/// Says what computes where the sandbox is the ordinary one, and goes on with the processor alone if that
/// will do.
fn check_gpu(load: &Load, computing: Computing, outbox: &Outbox) -> Result<(), StartError> {
    let Some(offload) = load.gpu else {
        return Ok(());
    };
    if gpu::BACKEND.is_none() {
        outbox.send(&EngineEvent::Gpu(Found::NotBuilt))?;
    }
    if computing.layers == 0 && offload.gpu != Gpu::Auto {
        return Err(StartError::Gpu);
    }
    Ok(())
}

/// Loads the weights. The process holds one model and ends with it; the thread that compiles grammars may
/// look at the vocabulary until then.
fn load_model(
    load: &Load,
    file: OwnedFd,
    computing: Computing,
    outbox: &Outbox,
    pulse: &Arc<Pulse>,
) -> Result<&'static LlamaModel, StartError> {
    let mut reported = None;
    let model = llama::load(file, load.weights, computing, &mut |percent| {
        pulse.advance();
        if reported.is_none_or(|last| percent > last) {
            reported = Some(percent);
            return outbox.send(&EngineEvent::Loading { percent }).is_ok();
        }
        true
    })?;
    Ok(Box::leak(Box::new(model)))
}

/// How a model is served.
struct Shape<'l> {
    load: &'l Load,
    inside: &'l Inside,
    steering: Option<Steering>,
}

fn serve_model(
    shape: &Shape<'_>,
    model: &'static LlamaModel,
    commands: &Inbox,
    outbox: &Outbox,
    pulse: &Arc<Pulse>,
) -> Result<(), StartError> {
    let compiler = Compiler::start(move || llama::alphabet(model), commands.own_sender())?;
    let mut llama = Llama::new(
        &shape.inside.backend,
        model,
        shape.load,
        shape.inside.threads,
        shape.steering.as_ref(),
        raw::Watch {
            interrupt: Arc::clone(commands.interrupt()),
            pulse: Arc::clone(pulse),
            inputs: None,
        },
    )?
    .on(shape.inside.computing)
    .with_grammars(compiler);
    outbox.send(&EngineEvent::Ready(llama.ready()))?;
    // An error means that hobd is gone, which is the ordinary end.
    let _ = serve::serve(&mut llama, shape.load.drafts, commands, outbox, pulse);
    Ok(())
}
