//! Frames on descriptor 0, in both directions.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use hob_ipc::frame::{COMMAND_BYTES_MAX, EVENT_BYTES_MAX};
use hob_ipc::start::DESCRIPTORS_MAX;
use hob_ipc::{Command, Decoder, EngineEvent, encode};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// How often the engine says that it lives.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// The way to hobd, shared by all threads.
pub(crate) struct Wire {
    out: Mutex<UnixStream>,
    progress: AtomicU64,
    working: AtomicU64,
    mute: AtomicBool,
}

/// The way from hobd.
pub(crate) struct Inbox {
    stream: UnixStream,
    decoder: Decoder,
    fds: Vec<OwnedFd>,
}

/// Both ways, on descriptor 0.
pub(crate) fn open() -> anyhow::Result<(Arc<Wire>, Inbox)> {
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(false)?;
    let wire = Wire {
        out: Mutex::new(stream.try_clone()?),
        progress: AtomicU64::new(0),
        working: AtomicU64::new(0),
        mute: AtomicBool::new(false),
    };
    let inbox = Inbox {
        stream,
        decoder: Decoder::new(COMMAND_BYTES_MAX),
        fds: Vec::new(),
    };
    Ok((Arc::new(wire), inbox))
}

impl Wire {
    /// Sends an event as one well-formed frame.
    pub(crate) fn send(&self, event: &EngineEvent) {
        match encode(event, EVENT_BYTES_MAX) {
            Ok(frame) => self.send_raw(&frame),
            Err(error) => unreachable!("the fake engine sends small events only: {error}"),
        }
    }

    /// Sends bytes, whatever they are.
    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        if self.mute.load(Ordering::Relaxed) {
            return;
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.write_all(bytes).is_err() {
            // hobd is gone, or wants nothing more from this engine.
            std::process::exit(0);
        }
        self.advance();
    }

    /// Says nothing from now on, not even that the engine lives.
    pub(crate) fn mute(&self) {
        self.mute.store(true, Ordering::Relaxed);
    }

    /// Counts one step of work.
    pub(crate) fn advance(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request in.
    pub(crate) fn begin(&self) {
        self.working.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request out.
    pub(crate) fn end(&self) {
        self.working.fetch_sub(1, Ordering::Relaxed);
        self.advance();
    }

    /// Sends heartbeats from a thread of its own until the process ends.
    pub(crate) fn start_heartbeat(self: &Arc<Self>) {
        let wire = self.clone();
        std::thread::spawn(move || {
            // A heartbeat is no progress in itself, though `send_raw` counts every frame.
            let mut own = 0;
            loop {
                let progress = wire.progress.load(Ordering::Relaxed).saturating_sub(own);
                let working = wire.working.load(Ordering::Relaxed) > 0;
                wire.send(&EngineEvent::Heartbeat { progress, working });
                own += 1;
                std::thread::sleep(HEARTBEAT);
            }
        });
    }
}

impl Inbox {
    /// The first command, with the descriptors that came along.
    pub(crate) fn first_command(&mut self) -> anyhow::Result<(Command, Vec<File>)> {
        let command = self
            .next_command()?
            .context("hobd left before it sent a command")?;
        Ok((command, self.fds.drain(..).map(File::from).collect()))
    }

    /// The next command; `None` when hobd closed its end.
    pub(crate) fn next_command(&mut self) -> anyhow::Result<Option<Command>> {
        loop {
            if let Some(command) = self.decoder.next()? {
                return Ok(Some(command));
            }
            let mut bytes = [0; 16 << 10];
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX + 1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                self.stream.as_fd(),
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    self.fds.extend(fds);
                    if self.fds.len() > DESCRIPTORS_MAX {
                        bail!("more descriptors than any message has");
                    }
                }
            }
            if received.bytes == 0 {
                return Ok(None);
            }
            self.decoder.push(&bytes[..received.bytes]);
        }
    }
}
