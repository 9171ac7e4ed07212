//! Something that was said and is to be done.

use std::time::Duration;

use hob_api::chat::{ChatRequest, Message, Role};
use hob_api::home::{FOLLOW_UPS_MAX, HomeRequest, Language, ROUNDS_DEFAULT, ROUNDS_MAX, Reader};
use hob_api::{ApiError, ErrorCode};

use super::shape::invalid;
use super::{Caller, ValidHome, ValidRequest, check_range};
use crate::hub::cleaned;
use crate::settings::{Limits, SamplingDefaults};

/// Longest name of a room or device that a hub is told, in bytes.
const PLACE_BYTES_MAX: usize = 200;

/// An utterance that is to be done, within all bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidFulfilment {
    /// What was said, and how it is to be read.
    pub said: ValidHome,
    /// What it was said to, for the hub.
    pub device: Option<String>,
    /// The language of the reply; `None` for that of what was said.
    pub language: Option<Language>,
    /// Most calls that are made: 1 to [`ROUNDS_MAX`].
    pub rounds: usize,
    /// How often the model is asked for more behind its calls: 0 to [`FOLLOW_UPS_MAX`].
    pub follow_ups: u32,
    /// What the model is asked if it is no matter of the home; its caller and its time are those of
    /// the whole.
    pub talk: ValidRequest,
}

impl ValidFulfilment {
    /// An utterance that is to be done, checked; `talk` is what the model is asked otherwise.
    ///
    /// # Errors
    /// `invalid_request` if a field is out of bounds, naming it; `unsupported` within a conversation
    /// that hobd keeps.
    pub fn new(request: HomeRequest, talk: ValidRequest) -> Result<Self, ApiError> {
        if talk.conversation.is_some() {
            let message = "what is done at home is not kept in a conversation";
            return Err(ApiError::new(ErrorCode::Unsupported, message)
                .hint("ask outside of the conversation")
                .param("conversation"));
        }
        if talk.constraint.is_some() {
            let message = "`response_schema` can't be given for what is said at home";
            return Err(invalid(message)
                .hint("leave it out: what is done is told in sentences")
                .param("response_schema"));
        }
        let rounds = request.rounds.unwrap_or(ROUNDS_DEFAULT);
        check_range("rounds", &rounds, &(1..=ROUNDS_MAX))?;
        let follow_ups = request.follow_ups.unwrap_or_default();
        check_range("follow_ups", &follow_ups, &(0..=FOLLOW_UPS_MAX))?;
        if follow_ups > 0 && request.reader != Reader::Model {
            let message = "`follow_ups` is given, and no model reads what is said";
            return Err(invalid(message)
                .hint("set `reader` to model, or leave it out")
                .param("follow_ups"));
        }
        let place = |place: &Option<String>| {
            let place = place.as_deref();
            place.map(|place| cleaned(place, PLACE_BYTES_MAX))
        };
        let (device, language) = (place(&request.device), request.language);
        Ok(Self {
            said: ValidHome::new(HomeRequest {
                area: place(&request.area),
                ..request
            })?,
            device,
            language,
            rounds: usize::try_from(rounds).unwrap_or(usize::MAX),
            follow_ups,
            talk,
        })
    }

    /// The same, where the model is asked nothing but what was said.
    ///
    /// # Errors
    /// As of [`ValidFulfilment::new`].
    pub fn of_text(
        request: HomeRequest,
        caller: Caller,
        defaults: &SamplingDefaults,
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        // Told by the name that the field has here.
        ValidHome::new(request.clone())?;
        let talk = ChatRequest {
            messages: vec![Message::text(Role::User, request.text.clone())],
            timeout_ms: request.timeout_ms,
            ..ChatRequest::default()
        };
        let talk = ValidRequest::chat(talk, caller, defaults, limits)?;
        Self::new(request, talk)
    }

    /// How long all of it may take.
    pub fn timeout(&self) -> Duration {
        self.talk.timeout
    }
}

/// Refuses what means nothing to an utterance that is only read.
///
/// # Errors
/// `invalid_request`, naming the field.
pub fn check_only_read(request: &HomeRequest) -> Result<(), ApiError> {
    let fields = [
        ("device", request.device.is_some()),
        ("language", request.language.is_some()),
        ("rounds", request.rounds.is_some()),
        ("follow_ups", request.follow_ups.is_some()),
        ("timeout_ms", request.timeout_ms.is_some()),
    ];
    match fields.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((field, _)) => Err(invalid(format!("`{field}` is given without `execute`"))
            .hint("set `execute` to true to have it done, or leave the field out")
            .param(field)),
    }
}
