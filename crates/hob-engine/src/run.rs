//! The engine's life from its first message to its last.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hob_ipc::message::{Load, LoadFailure};
use hob_ipc::{Decoder, EngineEvent};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;

use crate::grammar::compiler::Compiler;
use crate::inbox::{self, Inbox, Sender};
use crate::llama::{self, Llama, LoadError};
use crate::pulse::Pulse;
use crate::sandbox::limits::{self, LockError};
use crate::sandbox::{self, LayerError};
use crate::wire::{self, Events, HandshakeError, Outbox, ReadError};
use crate::{cpu, raw, serve};

/// Longest reason for a failed load, in characters.
const REASON_CHARS_MAX: usize = 500;

/// hobd closed the socket, or is gone.
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
    #[error(transparent)]
    Load(#[from] LoadError),
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
            Self::Load(error) => error.code,
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
    let handshake = wire::receive_load(&socket)?;
    if let Some(missing) = cpu::missing_features() {
        return Err(StartError::Cpu(missing));
    }
    let load = handshake.load;
    let (backend, threads) = enter_sandbox(&load, outbox, closed)?;
    let pulse: Arc<Pulse> = Arc::default();
    pulse.set_working(true);
    let commands = start_threads(socket, handshake.rest, outbox, &pulse)?;
    load_and_serve(
        &load,
        handshake.model,
        &backend,
        threads,
        &commands,
        outbox,
        &pulse,
    )
}

fn enter_sandbox(
    load: &Load,
    outbox: &Outbox,
    closed: io::Result<()>,
) -> Result<(LlamaBackend, u32), StartError> {
    let mut layers = sandbox::confine(load.sandbox, load.memory_bytes_max, closed)?;
    std::env::set_current_dir("/")?;
    let verbose = std::env::var_os("HOB_ENGINE_LOG").is_some_and(|level| level == "debug");
    if load.lock {
        limits::lock_memory(load.memory_bytes_max)?;
    }
    let backend = llama::start_backend(verbose)?;
    let threads = load.threads.unwrap_or_else(cpu::default_threads).max(1);
    layers.extend(sandbox::close(load.sandbox)?);
    outbox.send(&EngineEvent::Sandboxed { layers })?;
    Ok((backend, threads))
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

fn load_and_serve(
    load: &Load,
    file: OwnedFd,
    backend: &LlamaBackend,
    threads: u32,
    commands: &Inbox,
    outbox: &Outbox,
    pulse: &Arc<Pulse>,
) -> Result<(), StartError> {
    let mut reported = None;
    let model = llama::load(file, load.weights, &mut |percent| {
        pulse.advance();
        if reported.is_none_or(|last| percent > last) {
            reported = Some(percent);
            return outbox.send(&EngineEvent::Loading { percent }).is_ok();
        }
        true
    })?;
    // The process holds one model and ends with it; the thread that compiles grammars may look at the
    // vocabulary until then.
    let model: &'static LlamaModel = Box::leak(Box::new(model));
    let compiler = Compiler::start(move || llama::alphabet(model), commands.own_sender())?;
    let mut llama = Llama::new(
        backend,
        model,
        load,
        threads,
        raw::Watch {
            interrupt: Arc::clone(commands.interrupt()),
            pulse: Arc::clone(pulse),
        },
    )?
    .with_grammars(compiler);
    outbox.send(&EngineEvent::Ready(llama.ready()))?;
    // An error means that hobd is gone, which is the ordinary end.
    let _ = serve::serve(&mut llama, load.drafts, commands, outbox, pulse);
    Ok(())
}
