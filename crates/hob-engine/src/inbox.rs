//! Commands on their way from the thread that reads them to the decode thread, and how a cancel
//! gets ahead of a step that is under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SendError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hob_ipc::RequestId;
use hob_ipc::message::Generate;

/// Commands that wait for the decode thread. More stay in the socket.
const COMMANDS_MAX: usize = 64;

/// A command for the decode thread.
#[derive(Debug)]
pub enum Inbound {
    /// A request, and when it was read from the socket.
    Generate(Box<Generate>, Instant),
    /// Stop a request.
    Cancel(RequestId),
}

/// Both ends.
pub fn inbox() -> (Sender, Inbox) {
    let (sender, commands) = sync_channel(COMMANDS_MAX);
    let interrupt: Arc<Interrupt> = Arc::default();
    let inbox = Inbox {
        commands,
        interrupt: Arc::clone(&interrupt),
    };
    (
        Sender {
            commands: sender,
            interrupt,
        },
        inbox,
    )
}

/// The reading thread's end.
#[derive(Debug)]
pub struct Sender {
    commands: SyncSender<Inbound>,
    interrupt: Arc<Interrupt>,
}

impl Sender {
    /// Passes a command on; blocks while many wait.
    ///
    /// # Errors
    /// The command, when the decode thread is gone.
    pub fn send(&self, command: Inbound) -> Result<(), SendError<Inbound>> {
        if let Inbound::Cancel(id) = command {
            self.interrupt.cancel(id);
        }
        self.commands.send(command)
    }
}

/// The decode thread's end.
#[derive(Debug)]
pub struct Inbox {
    commands: Receiver<Inbound>,
    interrupt: Arc<Interrupt>,
}

impl Inbox {
    /// Waits for the next command.
    ///
    /// # Errors
    /// When there will be none.
    pub fn receive(&self) -> Result<Inbound, RecvError> {
        self.commands.recv().inspect(|command| self.taken(command))
    }

    /// The next command, if there is one already.
    ///
    /// # Errors
    /// When there is none now, or will be none.
    pub fn try_receive(&self) -> Result<Inbound, TryRecvError> {
        let command = self.commands.try_recv();
        command.inspect(|command| self.taken(command))
    }

    /// What tells a step to stop.
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    fn taken(&self, command: &Inbound) {
        if let Inbound::Cancel(id) = command {
            self.interrupt.forget(*id);
        }
    }
}

/// Tells a step that the only request it works for is cancelled.
///
/// A step that works for several requests is never told: what one client cancels costs no other
/// client a step.
#[derive(Debug, Default)]
pub struct Interrupt {
    raised: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The request that has the step to itself.
    alone: Option<RequestId>,
    /// Cancels that the decode thread has not taken yet: at most as many as fit the channel,
    /// and one more.
    cancelled: Vec<RequestId>,
}

impl Interrupt {
    /// Whether the step under way is for nothing. Cheap enough to ask thousands of times a step.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Begins a step, for one request alone or for several.
    pub fn begin(&self, alone: Option<RequestId>) {
        self.change(|state| state.alone = alone);
    }

    fn cancel(&self, id: RequestId) {
        self.change(|state| state.cancelled.push(id));
    }

    fn forget(&self, id: RequestId) {
        self.change(|state| {
            if let Some(at) = state
                .cancelled
                .iter()
                .position(|cancelled| *cancelled == id)
            {
                state.cancelled.swap_remove(at);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let raised = state.alone.is_some_and(|id| state.cancelled.contains(&id));
        self.raised.store(raised, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_is_seen_by_the_step_of_its_request_alone() {
        let (sender, inbox) = inbox();
        let interrupt = Arc::clone(inbox.interrupt());
        let (own, other) = (RequestId(1), RequestId(2));
        interrupt.begin(Some(own));
        assert!(sender.send(Inbound::Cancel(other)).is_ok());
        assert!(!interrupt.is_raised(), "another request's");
        assert!(sender.send(Inbound::Cancel(own)).is_ok());
        assert!(interrupt.is_raised());
        interrupt.begin(None);
        assert!(!interrupt.is_raised(), "a step for several");
        interrupt.begin(Some(own));
        assert!(interrupt.is_raised(), "the cancel came before the step");
        assert!(matches!(inbox.receive(), Ok(Inbound::Cancel(id)) if id == other));
        assert!(interrupt.is_raised());
        assert!(matches!(inbox.try_receive(), Ok(Inbound::Cancel(id)) if id == own));
        assert!(!interrupt.is_raised(), "taken");
    }
}
