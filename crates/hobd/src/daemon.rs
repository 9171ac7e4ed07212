//! The one task that owns the scheduler, and the handle by which front doors reach it.

use hob_api::ApiError;
use hob_api::model::ModelList;
use hob_api::status::Status;
use hob_ipc::RequestId;
use tokio::sync::watch;

use crate::answer::Answer;
use crate::request::ValidRequest;

/// A front door's way to the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DaemonHandle {}

impl DaemonHandle {
    /// Hands in a request; the answer's events then come through [`Answer`].
    ///
    /// # Errors
    /// `busy` at once when the queue or the caller's share of it is full, `model_not_found` for a
    /// model that is not loaded, `not_ready` when none can be loaded or hobd is shutting down.
    pub async fn submit(&self, _request: ValidRequest) -> Result<Answer, ApiError> {
        unimplemented!()
    }

    /// Cancels a request as its caller would; unknown ids are ignored.
    pub fn cancel(&self, _id: RequestId) {
        unimplemented!()
    }

    /// The daemon's state, now and whenever it changes. Figures that change all the time (memory,
    /// uptime) are as of the last change; [`DaemonHandle::status_now`] has them fresh.
    pub fn status(&self) -> watch::Receiver<Status> {
        unimplemented!()
    }

    /// The daemon's state with fresh figures.
    pub fn status_now(&self) -> Status {
        unimplemented!()
    }

    /// Models in the store.
    ///
    /// # Errors
    /// `internal` if the store can't be read.
    pub async fn models(&self) -> Result<ModelList, ApiError> {
        unimplemented!()
    }

    /// Loads a model (`default` for the store's default), ending the one that is loaded; returns
    /// when it is ready. Running answers of the old one fail with `cancelled`.
    ///
    /// # Errors
    /// `model_not_found`, `model_failed`, `not_ready`.
    pub async fn load_model(&self, _name: String) -> Result<(), ApiError> {
        unimplemented!()
    }

    /// Ends the engine; the next request starts it again.
    ///
    /// # Errors
    /// `not_ready` if no model is loaded.
    pub async fn unload_model(&self) -> Result<(), ApiError> {
        unimplemented!()
    }
}
