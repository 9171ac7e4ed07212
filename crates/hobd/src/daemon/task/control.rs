//! The control vector as the daemon's task sees it: whether the next engine gets one, and going on without.
//!
//! A vector that can't be added costs nobody an answer: the model is loaded as it is, and status and log say why.

use std::fs::File;

use hob_api::status::ControlStatus;
use hob_ipc::message::LoadFailure;
use hob_ipc::residual::Control;
use hob_models::Sha256;
use hob_models::store::{ControlVector, StoreError};

use super::Daemon;

/// Why a vector is given up that an engine was lost with.
const LOST: &str =
    "the engine was lost while the model was loaded with it; its last words are in the log";

/// A vector that engines fail with.
#[derive(Debug)]
pub(super) struct GivenUp {
    digest: Sha256,
    why: String,
}

impl Daemon {
    /// What the next engine is told of the vector that was found, with the memory that holds it.
    pub(super) fn control(
        &mut self,
        found: Result<Option<ControlVector>, StoreError>,
    ) -> Option<(Control, File)> {
        let given_up = |vector: &ControlVector| {
            let given_up = self.control_given_up.as_ref()?;
            (given_up.digest == vector.digest()).then(|| given_up.why.clone())
        };
        let (added, problem) = match found.map_err(|error| error.to_string()) {
            Ok(None) => (None, None),
            Err(problem) => (None, Some(problem)),
            Ok(Some(vector)) => match given_up(&vector) {
                Some(why) => (None, Some(why)),
                None => match Control::sealed(vector.layer(), vector.numbers()) {
                    Ok(sealed) => (Some((vector.digest(), sealed)), None),
                    Err(error) => (None, Some(format!("there is no memory for it: {error}"))),
                },
            },
        };
        if let Some(why) = problem.as_deref().filter(|why| !self.is_told(why)) {
            tracing::warn!(why, "the model is loaded without its control vector");
        }
        let digest = added.as_ref().map(|(digest, _)| *digest);
        let sealed = added.map(|(_, sealed)| sealed);
        self.shown.modify(|status| {
            status.control_vector = ControlStatus {
                setting: self.settings.engine.control_vector.as_str().to_owned(),
                layer: sealed.as_ref().map(|(control, _)| control.layer),
                sha256: digest.map_or_else(String::new, |digest| digest.to_string()),
                problem,
            };
        });
        self.control_on_trial = digest;
        sealed
    }

    /// Whether the status, and so the log, says this already.
    fn is_told(&self, why: &str) -> bool {
        self.shown.control_problem().as_deref() == Some(why)
    }

    /// Whether the next engine is one without the vector that this one refuses, and says why.
    pub(super) fn goes_on_without_control(&mut self, code: LoadFailure, reason: &str) -> bool {
        let on_trial = self.control_on_trial.take();
        code == LoadFailure::Control && self.give_up_control(on_trial, reason)
    }

    /// The engine is gone: nothing is added by it any more, and if it was `lost` while it loaded with a vector,
    /// the next one gets none.
    pub(super) fn control_gone(&mut self, lost: bool) {
        let on_trial = self.control_on_trial.take();
        self.give_up_control(on_trial.filter(|_| lost), LOST);
        self.shown.modify(|status| {
            status.control_vector.layer = None;
            status.control_vector.sha256.clear();
        });
    }

    /// Adds a vector no more, if there is one; whether there is. One that was given up before stays so else.
    fn give_up_control(&mut self, vector: Option<Sha256>, why: &str) -> bool {
        let why = why.to_owned();
        let given_up = vector.map(|digest| GivenUp { digest, why });
        let is_one = given_up.is_some();
        self.control_given_up = given_up.or(self.control_given_up.take());
        is_one
    }
}
