//! What the scheduler is told, and what it says.

use std::time::{Duration, Instant};

use hob_api::ApiError;
use hob_api::chat::Class;
use hob_ipc::RequestId;

use crate::pressure::Level;

/// What the scheduler keeps to.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Requests that may wait.
    pub queue: usize,
    /// Requests of one uid, waiting or in the engine.
    pub per_uid: usize,
    /// Requests in the engine.
    pub parallel: usize,
    /// How long a load may take.
    pub load_timeout: Duration,
    /// How long the engine may work without progress.
    pub hang_timeout: Duration,
    /// How long an engine without work stays, unless a request says otherwise; zero for ever.
    pub keep_alive: Duration,
    /// How long running requests may go on once shutdown began.
    pub shutdown_grace: Duration,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A request came in.
    Submit {
        /// Its number, never used before.
        id: RequestId,
        /// Whose it is.
        uid: u32,
        /// How urgent it is.
        class: Class,
        /// When it must have ended.
        deadline: Instant,
        /// How long the engine is to stay after it; zero for ever. `None` for the usual.
        keep_alive: Option<Duration>,
    },
    /// A request is to end now, with this error.
    Abort {
        /// Which one; unknown and ended ones are ignored.
        id: RequestId,
        /// What its reader is told.
        error: ApiError,
    },
    /// (Re)load: the model chosen may be another one now.
    Load,
    /// End the engine; the next request starts it again.
    Unload,
    /// There is nothing to start the engine with.
    StartFailed {
        /// Why.
        error: ApiError,
    },
    /// The engine loaded its model and takes this many requests.
    Ready {
        /// Requests at once, at least 1.
        parallel: usize,
    },
    /// The engine refuses the model and will end.
    LoadFailed {
        /// Why.
        error: ApiError,
    },
    /// The engine lives, and is idle or makes progress.
    Alive,
    /// The engine works of its own accord: it reads what is pinned. That counts as work.
    Busy,
    /// The engine ended a request, well or not; its reader has been told.
    Ended {
        /// Which one.
        id: RequestId,
    },
    /// The file that the engine loaded is not any more what was verified.
    ModelChanged,
    /// Memory is as scarce as this now.
    Pressure(Level),
    /// The engine process broke the protocol and must go.
    Misbehaved,
    /// The engine process is gone.
    Gone,
    /// Finish: take no more requests, and stop when those that run have ended.
    Shutdown,
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start an engine with the chosen model; answered by `Ready`, `StartFailed`, `LoadFailed` or
    /// `Gone`.
    Start,
    /// Kill the engine; answered by `Gone`.
    Kill,
    /// Give a request to the engine.
    Dispatch(RequestId),
    /// Tell the engine to stop a request; answered by `Ended`.
    Cancel(RequestId),
    /// Don't admit the request.
    Refuse(RequestId, ApiError),
    /// Tell the request's reader that it failed. Nothing more may be sent to that reader.
    Fail(RequestId, ApiError),
    /// Tell the request's reader how many are before it.
    Position(RequestId, u32),
    /// All is done after `Shutdown`.
    Exit,
}
