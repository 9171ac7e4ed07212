//! Commands on their way from the thread that reads them to the decode thread, and how a cancel
//! or an urgent request gets ahead of a step that is under way.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SendError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use hob_api::chat::Class;
use hob_ipc::RequestId;
use hob_ipc::embedding::Embed;
use hob_ipc::message::{Generate, Pin, PinId};
use hob_ipc::passages::{OpenText, OpenTokens, ReadText};
use hob_ipc::residual::ReadResidual;
use hob_ipc::score::Score;
use hob_ipc::tokens::Tokenize;

use crate::grammar::{Grammar, GrammarError};
use crate::saved::Saved;

/// Commands that wait for the decode thread. More stay in the socket.
const COMMANDS_MAX: usize = 64;

/// A command for the decode thread.
#[derive(Debug)]
pub enum Inbound {
    /// A request, and when it was read from the socket.
    Generate(Box<Generate>, Instant),
    /// A request for embeddings, and when it was read from the socket.
    Embed(Box<Embed>, Instant),
    /// A request for likelihoods, and when it was read from the socket.
    Score(Box<Score>, Instant),
    /// Make tokens of a text.
    Tokenize(Tokenize),
    /// Open a text: its bytes, if they could be read and are one.
    OpenText(OpenText, io::Result<String>),
    /// Open a text that is tokens already.
    OpenTokens(OpenTokens),
    /// Read on in it; with the memory for scores, if one came along.
    ReadText(ReadText, Option<OwnedFd>),
    /// Read the residual stream into this memory.
    ReadResidual(Box<ReadResidual>, OwnedFd),
    /// Stop a request.
    Cancel(RequestId),
    /// Keep a prefix; with its state, if one came along.
    Pin(Box<Pin>, Option<Saved>),
    /// Let go of a pinned prefix.
    Unpin(PinId),
    /// Write a pinned prefix's state into this memory.
    SavePin(PinId, OwnedFd),
    /// Keep at most so many bytes beside the sequences.
    LimitCache(u64),
    /// What a request's answer must be is compiled, or can't be.
    Compiled(RequestId, Box<Result<Grammar, GrammarError>>),
}

impl Inbound {
    /// Whether work begins with it.
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Generate(..) | Self::Embed(..) | Self::Score(..) | Self::Compiled(..)
        )
    }

    /// How urgent it is, if steps under way may end for it.
    fn arrival(&self) -> Option<Class> {
        match self {
            Self::Generate(request, _) => Some(request.class),
            Self::Score(request, _) => Some(request.class),
            _ => None,
        }
    }
}

/// Both ends.
pub fn inbox() -> (Sender, Inbox) {
    let (sender, commands) = sync_channel(COMMANDS_MAX);
    let interrupt: Arc<Interrupt> = Arc::default();
    let sender = Arc::new(sender);
    let inbox = Inbox {
        commands,
        own: WeakSender(Arc::downgrade(&sender)),
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
    commands: Arc<SyncSender<Inbound>>,
    interrupt: Arc<Interrupt>,
}

/// A sender for what the engine tells itself. It does not keep the inbox open.
#[derive(Clone, Debug)]
pub struct WeakSender(Weak<SyncSender<Inbound>>);

impl WeakSender {
    /// Passes something on; blocks while many commands wait.
    ///
    /// # Errors
    /// When nobody sends commands any more, or nobody takes them.
    pub fn send(&self, inbound: Inbound) -> Result<(), Closed> {
        let commands = self.0.upgrade().ok_or(Closed)?;
        commands.send(inbound).map_err(|_| Closed)
    }
}

/// There is no inbox any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the inbox is closed")]
pub struct Closed;

impl Sender {
    /// Passes a command on; blocks while many wait.
    ///
    /// # Errors
    /// The command, when the decode thread is gone.
    pub fn send(&self, command: Inbound) -> Result<(), SendError<Inbound>> {
        if let Inbound::Cancel(id) = &command {
            self.interrupt.cancel(*id);
        }
        if let Some(class) = command.arrival() {
            self.interrupt.arrived(class);
        }
        self.commands.send(command)
    }
}

/// The decode thread's end.
#[derive(Debug)]
pub struct Inbox {
    commands: Receiver<Inbound>,
    own: WeakSender,
    interrupt: Arc<Interrupt>,
}

impl Inbox {
    /// The way in for what the engine tells itself.
    pub fn own_sender(&self) -> WeakSender {
        self.own.clone()
    }

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
        if let Some(class) = command.arrival() {
            self.interrupt.taken(class);
        }
    }
}

/// Tells a step that the only request it works for is cancelled, or should let a newcomer in.
///
/// A step that works for several requests is never told: what one client cancels costs no other
/// client a step.
#[derive(Debug, Default)]
pub struct Interrupt {
    raised: AtomicBool,
    state: Mutex<State>,
}

/// What may end a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The cancel of the one request that it works for, if it works for one.
    pub request: Option<RequestId>,
    /// The arrival of a request that is at least so urgent, if any arrival may.
    pub arrival: Option<Class>,
}

#[derive(Debug, Default)]
struct State {
    /// What may end the step under way.
    ends: Option<Ends>,
    /// Cancels that the decode thread has not taken yet: at most as many as fit the channel,
    /// and one more.
    cancelled: Vec<RequestId>,
    /// Classes of the requests that it has not taken yet, with the same bound.
    arrived: Vec<Class>,
}

impl State {
    fn ended(&self) -> bool {
        self.ends.is_some_and(|ends| {
            let urgent = |class: &Class| ends.arrival.is_some_and(|least| *class <= least);
            ends.request.is_some_and(|id| self.cancelled.contains(&id))
                || self.arrived.iter().any(urgent)
        })
    }
}

impl Interrupt {
    /// Whether the step under way should end. Cheap enough to ask thousands of times a step.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Begins a step that these may end, or nothing.
    pub fn begin(&self, ends: Option<Ends>) {
        self.change(|state| state.ends = ends);
    }

    /// Begins a step that works for no request, and that any comes before.
    pub fn begin_idle(&self) {
        self.begin(Some(Ends {
            request: None,
            arrival: Class::ALL.last().copied(),
        }));
    }

    /// Whether a request's cancel is on its way to the decode thread.
    pub fn is_cancelled(&self, id: RequestId) -> bool {
        self.lock().cancelled.contains(&id)
    }

    fn cancel(&self, id: RequestId) {
        self.change(|state| state.cancelled.push(id));
    }

    fn forget(&self, id: RequestId) {
        self.change(|state| remove_one(&mut state.cancelled, &id));
    }

    fn arrived(&self, class: Class) {
        self.change(|state| state.arrived.push(class));
    }

    fn taken(&self, class: Class) {
        self.change(|state| remove_one(&mut state.arrived, &class));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        self.raised.store(state.ended(), Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_one<T: PartialEq>(items: &mut Vec<T>, item: &T) {
    if let Some(at) = items.iter().position(|other| other == item) {
        items.swap_remove(at);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use hob_ipc::message::{Prompt, Sampling};

    fn ends(request: RequestId, arrival: Option<Class>) -> Ends {
        Ends {
            request: Some(request),
            arrival,
        }
    }

    #[test]
    fn a_cancel_is_seen_by_the_step_of_its_request_alone() {
        let (sender, inbox) = inbox();
        let interrupt = Arc::clone(inbox.interrupt());
        let (own, other) = (RequestId(1), RequestId(2));
        interrupt.begin(Some(ends(own, None)));
        sender.send(Inbound::Cancel(other)).unwrap();
        assert!(!interrupt.is_raised(), "another request's");
        sender.send(Inbound::Cancel(own)).unwrap();
        assert!(interrupt.is_raised() && interrupt.is_cancelled(own));
        interrupt.begin(None);
        assert!(!interrupt.is_raised(), "a step for several");
        interrupt.begin(Some(ends(own, None)));
        assert!(interrupt.is_raised(), "the cancel came before the step");
        assert!(matches!(inbox.receive(), Ok(Inbound::Cancel(id)) if id == other));
        assert!(interrupt.is_raised());
        assert!(matches!(inbox.try_receive(), Ok(Inbound::Cancel(id)) if id == own));
        assert!(!interrupt.is_raised(), "taken");
    }

    #[test]
    fn an_arrival_is_seen_by_a_step_that_is_no_more_urgent() {
        let (sender, inbox) = inbox();
        let interrupt = Arc::clone(inbox.interrupt());
        let arrive = |class| {
            let request = Generate {
                id: RequestId(2),
                prompt: Prompt::Text(String::new()),
                max_tokens: 1,
                stop: Vec::new(),
                sampling: Sampling::GREEDY,
                cache_owner: None,
                class,
                drafts: true,
                constraint: None,
            };
            let request = Box::new(request);
            sender
                .send(Inbound::Generate(request, Instant::now()))
                .unwrap();
        };
        let own = RequestId(1);
        interrupt.begin(Some(ends(own, Some(Class::Chat))));
        arrive(Class::Batch);
        assert!(!interrupt.is_raised(), "less urgent");
        arrive(Class::Chat);
        assert!(interrupt.is_raised() && !interrupt.is_cancelled(own));
        interrupt.begin(Some(ends(own, None)));
        assert!(!interrupt.is_raised(), "a step that no arrival ends");
        interrupt.begin(Some(ends(own, Some(Class::Batch))));
        assert!(interrupt.is_raised());
        inbox.receive().unwrap();
        assert!(interrupt.is_raised());
        inbox.receive().unwrap();
        assert!(!interrupt.is_raised(), "both are taken");
    }
}
