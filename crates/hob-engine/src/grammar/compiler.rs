//! Compiles grammars beside the decode thread: it may take longer than a step, and the answers under
//! way must not wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use hob_ipc::RequestId;

use super::alphabet::Alphabet;
use super::compile::Grammars;
use super::{Grammar, GrammarError, Wanted};
use crate::inbox::{Inbound, WeakSender};

/// The thread's stack in bytes, of which hardly any is used: rules and definitions that refer to one
/// another are followed by recursion, 2,000 of them in less than 8 MiB, and no constraint has many
/// more.
pub(super) const STACK_BYTES: usize = 32 << 20;

/// A thread that compiles one constraint after another. It ends when this is dropped.
#[derive(Debug)]
pub struct Compiler {
    /// At most as many as there are requests at once, and some that were given up since the one
    /// under way began.
    jobs: Sender<Job>,
}

/// A constraint that is being compiled, or waits for that. Dropping it gives it up.
#[derive(Debug)]
pub struct Compiling(Arc<AtomicBool>);

impl Drop for Compiling {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Job {
    id: RequestId,
    wanted: Wanted,
    given_up: Arc<AtomicBool>,
}

impl Compiler {
    /// Starts the thread. `alphabet` is asked for when the first constraint comes; what is compiled
    /// goes to `done`.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        alphabet: impl FnOnce() -> Alphabet + Send + 'static,
        done: WeakSender,
    ) -> io::Result<Self> {
        let (jobs, received) = channel();
        std::thread::Builder::new()
            .name("grammars".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&received, alphabet, &done))?;
        Ok(Self { jobs })
    }

    /// Begins to compile what the answer to request `id` must be; the end comes as
    /// [`Inbound::Compiled`].
    ///
    /// # Errors
    /// [`GrammarError::Unsupported`] if the thread is gone.
    pub fn begin(&self, id: RequestId, wanted: Wanted) -> Result<Compiling, GrammarError> {
        let compiling = Compiling(Arc::default());
        let job = Job {
            id,
            wanted,
            given_up: Arc::clone(&compiling.0),
        };
        self.jobs
            .send(job)
            .map_err(|_| GrammarError::Unsupported)
            .map(|()| compiling)
    }
}

fn work(jobs: &Receiver<Job>, alphabet: impl FnOnce() -> Alphabet, done: &WeakSender) {
    let mut alphabet = Some(alphabet);
    let mut grammars = Err(GrammarError::Unsupported);
    for job in jobs {
        if job.given_up.load(Ordering::Relaxed) {
            continue;
        }
        if let Some(alphabet) = alphabet.take() {
            grammars = Grammars::new(alphabet());
        }
        let compiled: Result<Grammar, GrammarError> = match &mut grammars {
            Ok(grammars) => grammars.compile(&job.wanted),
            Err(error) => Err(error.clone()),
        };
        if done
            .send(Inbound::Compiled(job.id, Box::new(compiled)))
            .is_err()
        {
            return;
        }
    }
}
