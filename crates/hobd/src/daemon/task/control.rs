//! The control vector as the daemon's task sees it: whether the next engine gets one, and going on without.
//!
//! A vector that can't be added costs nobody an answer: the model is loaded as it is, and status and log say why.

use std::fs::File;

use hob_api::status::ControlStatus;
use hob_ipc::message::LoadFailure;
use hob_ipc::residual::Control;
use hob_models::store::{ControlVector, StoreError};

use super::Daemon;

/// Why an engine refuses what fits the model.
const REFUSED: &str = "a control vector can't be added in this architecture";

impl Daemon {
    /// What the next engine is told of the vector that was found, with the memory that holds it.
    pub(super) fn control(
        &mut self,
        found: Result<Option<ControlVector>, StoreError>,
    ) -> Option<(Control, File)> {
        let (added, problem) = match found.map_err(|error| error.to_string()) {
            Ok(None) => (None, None),
            Err(problem) => (None, Some(problem)),
            Ok(Some(vector)) if self.control_given_up == Some(vector.digest()) => {
                (None, Some(REFUSED.to_owned()))
            }
            Ok(Some(vector)) => match Control::sealed(vector.layer(), vector.numbers()) {
                Ok(sealed) => (Some((vector.digest(), sealed)), None),
                Err(error) => (None, Some(format!("there is no memory for it: {error}"))),
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
        self.control_added = digest;
        sealed
    }

    /// Whether the status, and so the log, says this already.
    fn is_told(&self, why: &str) -> bool {
        self.shown.control_problem().as_deref() == Some(why)
    }

    /// Whether the next engine is one without the vector that this one refuses.
    pub(super) fn goes_on_without_control(&mut self, code: LoadFailure) -> bool {
        let added = self.control_added.take();
        let goes_on = code == LoadFailure::Control && added.is_some();
        if goes_on {
            self.control_given_up = added;
        }
        goes_on
    }
}
