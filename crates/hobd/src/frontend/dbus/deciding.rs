//! `Decide`: its arguments, read as the HTTP door reads its body, and its answers as dictionaries.

use std::collections::HashMap;

use hob_api::decision::{Answer, DecisionRequest};
use hob_api::{ApiError, ErrorCode};
use serde_json::{Map, Value};
use zbus::message::Header;
use zbus::{Connection, Variant};

use super::Front;
use super::failure::Failure;
use super::options::{Dict, HandleToken, check_length, invalid, shown, typed};
use super::request::{Details, Request};
use super::values::json;
use crate::request::{self, Caller, ValidDecision};

/// The answers, by the ids of their questions.
pub(super) type Answers = HashMap<String, Variant<'static>>;

/// The arguments of `Decide`, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deciding {
    request: DecisionRequest,
    handle_token: Option<HandleToken>,
}

impl Deciding {
    pub(super) fn read(
        state: String,
        questions: Dict<'_>,
        options: Dict<'_>,
    ) -> Result<Self, ApiError> {
        check_length("state", state.len())?;
        let questions = questions.into_iter();
        let questions = questions.map(|(id, question)| {
            let json = json(&question, usize::MAX, false).ok_or_else(|| {
                let message = format!("question `{}` holds what is no text", shown(&id));
                invalid("questions", message).hint("give strings, lists and dictionaries of them")
            })?;
            Ok((id, json))
        });
        let questions = Value::Object(questions.collect::<Result<_, ApiError>>()?);
        check_length("questions", questions.to_string().len())?;
        let mut body = Map::from_iter([
            ("state".to_owned(), Value::String(state)),
            ("questions".to_owned(), questions),
        ]);
        let mut handle_token = None;
        for (key, value) in options {
            let value = match key.as_str() {
                "handle_token" => {
                    handle_token = Some(HandleToken::parse(typed(&key, value)?)?);
                    continue;
                }
                "class" | "model" => Value::String(typed(&key, value)?),
                "timeout_ms" => Value::from(typed::<u32>(&key, value)?),
                _ => {
                    return Err(invalid(&key, format!("unknown option `{}`", shown(&key)))
                        .hint("Decide takes class, handle_token, model, timeout_ms"));
                }
            };
            body.insert(key, value);
        }
        Ok(Self {
            request: request::decision_of(Value::Object(body))?,
            handle_token,
        })
    }
}

impl Front {
    /// Answers typed questions. There is one reply, at the end.
    pub(super) async fn decide(
        &self,
        deciding: Deciding,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<Answers, Failure> {
        let sender = super::sender(header)?;
        let place = self.callers.enter(&sender, deciding.handle_token)?;
        // From here on the caller's leaving is noticed, so the order of these two is what
        // guarantees that no request outlives its caller.
        let uid = super::uid_of(connection, &sender).await?;
        let caller = Caller { uid };
        let request = ValidDecision::new(deciding.request, caller, &self.settings.limits)?;
        let object = Request::publish(connection, place).await?;
        let decided = tokio::select! {
            biased;
            () = object.cancel().cancelled() => {
                Err(ApiError::new(ErrorCode::Cancelled, "the request was cancelled"))
            }
            decided = self.daemon.decide(request) => decided,
        };
        object.remove().await;
        let answers = decided?.answers.into_iter();
        Ok(answers.map(|(id, one)| (id, variant(one))).collect())
    }
}

fn variant(answer: Answer) -> Variant<'static> {
    let fractions =
        |probabilities: std::collections::BTreeMap<String, f64>| Variant::from(probabilities);
    let details = match answer {
        Answer::Choice {
            choice,
            probabilities,
            confidence,
        } => Details::from([
            ("type", Variant::from("choice")),
            ("choice", Variant::from(choice)),
            ("probabilities", fractions(probabilities)),
            ("confidence", Variant::from(confidence)),
        ]),
        Answer::Score {
            score,
            legend,
            probabilities,
            confidence,
        } => Details::from([
            ("type", Variant::from("score")),
            ("score", Variant::from(score)),
            ("legend", Variant::from(legend)),
            ("probabilities", fractions(probabilities)),
            ("confidence", Variant::from(confidence)),
        ]),
        Answer::Noul { noul } => Details::from([
            ("type", Variant::from("noul")),
            ("noul", Variant::from(noul)),
        ]),
    };
    Variant::from(details)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use hob_api::decision::Question;
    use std::collections::BTreeMap;

    fn question(fields: &[(&str, Variant<'static>)]) -> Variant<'static> {
        let fields = fields.iter().map(|(key, value)| {
            let value = value.try_clone().unwrap();
            ((*key).to_owned(), value)
        });
        Variant::from(fields.collect::<HashMap<String, Variant<'static>>>())
    }

    fn read(asked: Variant<'static>, options: Dict<'_>) -> Result<Deciding, ApiError> {
        let questions = Dict::from([("q".to_owned(), asked)]);
        Deciding::read("It rains.".to_owned(), questions, options)
    }

    #[test]
    fn dictionaries_of_strings_and_of_variants_are_questions() {
        let meanings = BTreeMap::from([("wet", ""), ("dry", "no rain")]);
        let asked = question(&[
            ("type", "choice".into()),
            ("instructions", "Which?".into()),
            ("criteria", meanings.into()),
        ]);
        let options = Dict::from([
            ("timeout_ms".to_owned(), Variant::U32(5)),
            ("handle_token".to_owned(), "mine".into()),
        ]);
        let read = read(asked, options).unwrap();
        assert_eq!(read.request.timeout_ms, Some(5));
        assert!(read.handle_token.is_some());
        let Question::Choice { criteria, .. } = &read.request.questions["q"] else {
            panic!("{read:?}");
        };
        assert_eq!(criteria["wet"], None);
        assert_eq!(criteria["dry"].as_deref(), Some("no rain"));
    }

    #[test]
    fn what_is_no_question_is_refused_by_name() {
        let noul = || [("type", "noul".into()), ("instructions", "Wet?".into())];
        let none = Dict::new;
        let unknown = Dict::from([("ttl".to_owned(), Variant::U32(5))]);
        let wrong = Dict::from([("timeout_ms".to_owned(), Variant::I32(5))]);
        for (asked, options, param) in [
            (question(&noul()), unknown, "ttl"),
            (question(&noul()), wrong, "timeout_ms"),
            (Variant::from("Wet?"), none(), "questions.q"),
            (question(&noul()[..1]), none(), "questions.q.instructions"),
            (
                question(&[("type", Variant::F64(f64::NAN))]),
                none(),
                "questions",
            ),
        ] {
            let error = read(asked, options).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert_eq!(error.param.as_deref(), Some(param), "{error:?}");
        }
        let long = "x".repeat(1 << 17);
        let questions = Dict::from([("q".to_owned(), question(&noul()))]);
        let error = Deciding::read(long, questions, none()).unwrap_err();
        assert_eq!(error.code, ErrorCode::PayloadTooLarge);
    }
}
