//! The socket to hobd: the first message with its descriptors, then frames both ways.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::inbox::{Inbound, Sender};
use crate::observe::Files;
use crate::saved;
use hob_ipc::frame::{COMMAND_BYTES_MAX, EVENT_BYTES_MAX};
use hob_ipc::importance::Observe;
use hob_ipc::message::Load;
use hob_ipc::passages::TEXT_BYTES_MAX;
use hob_ipc::quantize::Quantize;
use hob_ipc::start::DESCRIPTORS_MAX;
use hob_ipc::{Command, Decoder, EngineEvent, FrameError};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 << 10;

/// Why the first message could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The socket failed.
    #[error("the socket to hobd failed: {0}")]
    Io(#[from] io::Error),
    /// hobd closed the socket before it said anything.
    #[error("hobd closed the socket before the first message")]
    Closed,
    /// Bytes that are not frames.
    #[error("the first message can't be read: {0}")]
    Frame(#[from] FrameError),
    /// A message that begins nothing.
    #[error("the first message must be Load, Quantize or Observe")]
    NotFirst,
    /// Other descriptors than the message needs.
    #[error("the first message came with {found} descriptors instead of {needed}")]
    Descriptors {
        /// As many came.
        found: usize,
        /// As many are needed.
        needed: usize,
    },
    /// The other side is of another build.
    #[error(
        "hobd speaks version {theirs} of the protocol, hob-engine version {}",
        hob_ipc::VERSION
    )]
    Version {
        /// hobd's version.
        theirs: u32,
    },
}

/// The first message.
#[derive(Debug)]
pub struct Handshake {
    /// What is to be done.
    pub task: Task,
    /// What was read beyond the message.
    pub rest: Decoder,
}

/// What an engine is started for.
#[derive(Debug)]
pub enum Task {
    /// Load a model, and serve it.
    Serve {
        /// How to load.
        load: Load,
        /// The model's open file.
        model: OwnedFd,
        /// The memory of the control vector that [`Load::control`] tells of.
        control: Option<OwnedFd>,
    },
    /// Store a model's weights anew.
    Quantize {
        /// How.
        order: Quantize,
        /// The model's open file.
        source: OwnedFd,
        /// The file to write.
        target: OwnedFd,
        /// Memory that tells what matters, if the order says so.
        importance: Option<OwnedFd>,
    },
    /// Read a text for what a model's matrices are multiplied with.
    Observe {
        /// How.
        order: Box<Observe>,
        /// The model, the text, and memory for the numbers.
        files: Files,
    },
}

impl Task {
    fn of(command: Command, descriptors: VecDeque<OwnedFd>) -> Result<Self, HandshakeError> {
        let found = descriptors.len();
        let wrong = |needed| HandshakeError::Descriptors { found, needed };
        let version = match &command {
            Command::Load(load) => load.version,
            Command::Quantize(order) => order.version,
            Command::Observe(order) => order.load.version,
            _ => return Err(HandshakeError::NotFirst),
        };
        if version != hob_ipc::VERSION {
            return Err(HandshakeError::Version { theirs: version });
        }
        match command {
            Command::Load(load) if load.control.is_some() => {
                let [model, control] = exactly(descriptors).ok_or_else(|| wrong(2))?;
                Ok(Self::Serve {
                    load,
                    model,
                    control: Some(control),
                })
            }
            Command::Load(load) => {
                let [model] = exactly(descriptors).ok_or_else(|| wrong(1))?;
                Ok(Self::Serve {
                    load,
                    model,
                    control: None,
                })
            }
            Command::Quantize(order) if order.importance.is_empty() => {
                let [source, target] = exactly(descriptors).ok_or_else(|| wrong(2))?;
                Ok(Self::Quantize {
                    order,
                    source,
                    target,
                    importance: None,
                })
            }
            Command::Quantize(order) => {
                let [source, target, memory] = exactly(descriptors).ok_or_else(|| wrong(3))?;
                Ok(Self::Quantize {
                    order,
                    source,
                    target,
                    importance: Some(memory),
                })
            }
            Command::Observe(order) => {
                let [model, text, numbers] = exactly(descriptors).ok_or_else(|| wrong(3))?;
                let files = Files {
                    model,
                    text,
                    numbers,
                };
                Ok(Self::Observe { order, files })
            }
            _ => Err(HandshakeError::NotFirst),
        }
    }
}

fn exactly<const N: usize>(descriptors: VecDeque<OwnedFd>) -> Option<[OwnedFd; N]> {
    Vec::from(descriptors).try_into().ok()
}

/// Waits for the first message and the descriptors that come with it.
///
/// # Errors
/// [`HandshakeError`].
pub fn receive_first(socket: impl AsFd) -> Result<Handshake, HandshakeError> {
    let mut decoder = Decoder::new(COMMAND_BYTES_MAX);
    let mut descriptors = VecDeque::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if let Some(command) = decoder.next::<Command>()? {
            let task = Task::of(command, descriptors)?;
            return Ok(Handshake {
                task,
                rest: decoder,
            });
        }
        let bytes = receive_once(&socket, &mut buffer, &mut descriptors)?;
        if bytes == 0 {
            return Err(HandshakeError::Closed);
        }
        decoder.push(&buffer[..bytes]);
    }
}

fn receive_once(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    // Room for one more than is allowed, so that it is seen and refused.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX + 1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        let received = recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        match received {
            Ok(message) => {
                for entry in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = entry {
                        descriptors.extend(received);
                    }
                }
                return Ok(message.bytes);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Why the stream of commands ended before its end of file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed.
    #[error("the socket to hobd failed: {0}")]
    Io(#[from] io::Error),
    /// Bytes that are not frames.
    #[error("hobd's message can't be read: {0}")]
    Frame(#[from] FrameError),
    /// A second first message.
    #[error("hobd sent a second first message")]
    SecondLoad,
    /// A message without its descriptor, or descriptors without a message.
    #[error("hobd sent a message with other descriptors than it needs")]
    Descriptors,
}

/// Passes commands on until the stream ends or nobody takes them any more.
///
/// A descriptor comes with the first byte of the message that it belongs to, and the kernel ends a
/// read after such a byte's piece of the stream: so there is never more than one for a message that
/// is not whole yet.
///
/// # Errors
/// [`ReadError`] for anything but a clean end.
pub fn read_commands(
    socket: impl AsFd,
    mut decoder: Decoder,
    commands: &Sender,
) -> Result<(), ReadError> {
    let mut descriptors = VecDeque::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        while let Some(command) = decoder.next::<Command>()? {
            let descriptor = if command.brings_descriptor() {
                Some(descriptors.pop_front().ok_or(ReadError::Descriptors)?)
            } else {
                None
            };
            if commands.send(inbound(command, descriptor)?).is_err() {
                return Ok(());
            }
        }
        let whole = decoder.is_empty();
        if descriptors.len() > usize::from(!whole) {
            return Err(ReadError::Descriptors);
        }
        match receive_once(&socket, &mut buffer, &mut descriptors)? {
            0 => return Ok(()),
            bytes => decoder.push(&buffer[..bytes]),
        }
    }
}

fn inbound(command: Command, descriptor: Option<OwnedFd>) -> Result<Inbound, ReadError> {
    Ok(match (command, descriptor) {
        (Command::Generate(request), _) => Inbound::Generate(request, Instant::now()),
        (Command::Embed(request), _) => Inbound::Embed(request, Instant::now()),
        (Command::Score(request), _) => Inbound::Score(request, Instant::now()),
        (Command::Tokenize(request), _) => Inbound::Tokenize(request),
        (Command::OpenText(request), Some(memory)) => {
            let text = text(memory, request.bytes);
            Inbound::OpenText(request, text)
        }
        (Command::OpenTokens(request), _) => Inbound::OpenTokens(request),
        (Command::ReadText(request), memory) => Inbound::ReadText(request, memory),
        (Command::Cancel { id }, _) => Inbound::Cancel(id),
        (Command::Pin(pin), memory) => {
            // Copied here, so that descriptors do not pile up and the decode thread goes on.
            let saved = match (memory, pin.state_bytes) {
                (Some(memory), Some(bytes)) => saved::read(memory, bytes).ok().flatten(),
                _ => None,
            };
            Inbound::Pin(pin, saved)
        }
        (Command::Unpin { id }, _) => Inbound::Unpin(id),
        (Command::SavePin { id }, Some(memory)) => Inbound::SavePin(id, memory),
        (Command::ReadResidual(request), Some(memory)) => Inbound::ReadResidual(request, memory),
        (Command::SavePin { .. } | Command::OpenText(_) | Command::ReadResidual(_), None) => {
            return Err(ReadError::Descriptors);
        }
        (Command::LimitCache { bytes }, _) => Inbound::LimitCache(bytes),
        (Command::Load(_) | Command::Quantize(_) | Command::Observe(_), _) => {
            return Err(ReadError::SecondLoad);
        }
    })
}

/// The text of `bytes` bytes that lies in `memory`.
///
/// # Errors
/// If it is longer than may be, or there are fewer bytes, or they are no UTF-8.
pub fn text(memory: OwnedFd, bytes: u64) -> io::Result<String> {
    let length = usize::try_from(bytes).ok();
    let length = length.filter(|_| (1..=TEXT_BYTES_MAX).contains(&bytes));
    let mut text = vec![0; length.ok_or(io::ErrorKind::InvalidInput)?];
    File::from(memory).read_exact_at(&mut text, 0)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// Where events go.
pub trait Events: Send + Sync {
    /// Sends one event; blocks while hobd is slow to read.
    ///
    /// # Errors
    /// The socket's, when hobd is gone.
    fn send(&self, event: &EngineEvent) -> io::Result<()>;

    /// Sends several events, in their order.
    ///
    /// # Errors
    /// As of [`Events::send`].
    fn send_all(&self, events: &[EngineEvent]) -> io::Result<()> {
        events.iter().try_for_each(|event| self.send(event))
    }
}

/// The events' way to hobd, shared by the threads that report.
#[derive(Clone, Debug)]
pub struct Outbox {
    socket: Arc<Mutex<UnixStream>>,
}

impl Outbox {
    /// An outbox that writes to `socket`.
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket: Arc::new(Mutex::new(socket)),
        }
    }
}

impl Events for Outbox {
    fn send(&self, event: &EngineEvent) -> io::Result<()> {
        self.send_all(std::slice::from_ref(event))
    }

    fn send_all(&self, events: &[EngineEvent]) -> io::Result<()> {
        let mut frames = Vec::new();
        for event in events {
            let frame = hob_ipc::encode(event, EVENT_BYTES_MAX).map_err(io::Error::other)?;
            frames.extend_from_slice(&frame);
        }
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.write_all(&frames)
    }
}
