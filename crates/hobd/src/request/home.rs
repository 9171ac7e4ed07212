//! What a home can do, and what is said in it.

use hob_api::ApiError;
use hob_api::home::{HomeRequest, Reader, UTTERANCE_BYTES_MAX};
use hob_api::provider::{ProviderFields, TargetsPatch};

use super::shape::invalid;
use super::{check_range, fields, parse};
use crate::home::Options;
use crate::providers::ProviderName;

/// An utterance to be read, within all bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidHome {
    /// What was said: 1 to [`UTTERANCE_BYTES_MAX`] bytes.
    pub text: String,
    /// The provider that is meant; `None` for all of the caller's.
    pub provider: Option<ProviderName>,
    /// Who reads it.
    pub reader: Reader,
    /// How it is to be read.
    pub options: Options,
}

/// The body of `PUT /hob/v1/providers/NAME`.
///
/// # Errors
/// `invalid_request`, naming the field.
pub fn parse_provider(body: &[u8]) -> Result<ProviderFields, ApiError> {
    parse(body, fields::PROVIDER)
}

/// The body of `PATCH /hob/v1/providers/NAME/targets`.
///
/// # Errors
/// `invalid_request`, naming the field.
pub fn parse_targets(body: &[u8]) -> Result<TargetsPatch, ApiError> {
    parse(body, fields::TARGETS)
}

/// The body of `POST /hob/v1/home`.
///
/// # Errors
/// `invalid_request`, naming the field.
pub fn parse_home(body: &[u8]) -> Result<HomeRequest, ApiError> {
    parse(body, fields::HOME)
}

impl ValidHome {
    /// A request, checked.
    ///
    /// # Errors
    /// `invalid_request` if a field is out of bounds, naming it.
    pub fn new(request: HomeRequest) -> Result<Self, ApiError> {
        let bytes = request.text.len();
        if request.text.trim().is_empty() || bytes > UTTERANCE_BYTES_MAX {
            let message = format!("`text` must be 1 to {UTTERANCE_BYTES_MAX} bytes, not {bytes}");
            return Err(invalid(message)
                .hint("send what somebody said, a sentence or a few")
                .param("text"));
        }
        if let Some(least) = &request.min_probability {
            check_range("min_probability", least, &(0.0..=1.0))?;
        }
        let provider = request.provider.as_deref().map(ProviderName::parse);
        Ok(Self {
            text: request.text,
            provider: provider
                .transpose()
                .map_err(|error| error.param("provider"))?,
            reader: request.reader,
            options: Options {
                area: request.area,
                without: request.without.into_iter().collect(),
                min_probability: request.min_probability,
            },
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use hob_api::ErrorCode;
    use hob_api::home::Aid;
    use serde_json::{Value, json};

    fn valid(body: &Value) -> Result<ValidHome, ApiError> {
        ValidHome::new(parse_home(body.to_string().as_bytes())?)
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        for (body, param) in [
            (json!({}), "text"),
            (json!({"text": " "}), "text"),
            (json!({"text": "x".repeat(UTTERANCE_BYTES_MAX + 1)}), "text"),
            (json!({"text": "x", "provider": ""}), "provider"),
            (json!({"text": "x", "provider": "../x"}), "provider"),
            (
                json!({"text": "x", "min_probability": 1.5}),
                "min_probability",
            ),
            (json!({"text": "x", "without": ["luck"]}), "without[0]"),
            (json!({"text": "x", "reader": "tea leaves"}), "reader"),
            (json!({"text": "x", "uid": 0}), "uid"),
        ] {
            let error = valid(&body).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{body}");
            assert_eq!(error.param.as_deref(), Some(param), "{error:?}");
        }
    }

    #[test]
    fn every_aid_can_be_left_out() {
        let names: Vec<&str> = Aid::ALL.iter().map(|aid| aid.as_str()).collect();
        let request = valid(&json!({"text": "x", "without": names})).unwrap();
        assert_eq!(request.options.without.len(), Aid::ALL.len());
    }
}
