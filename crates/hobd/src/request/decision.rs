//! Requests for decisions, checked.

use std::collections::BTreeMap;
use std::time::Duration;

use hob_api::ApiError;
use hob_api::chat::Class;
use hob_api::decision::{DecisionRequest, Question};
use serde_json::{Map, Value};

use super::shape::{self, echo, invalid};
use super::{
    Caller, bounded_keep_alive, bounded_model, bounded_timeout, check_no_nul, check_text_bytes,
    fields, from_value,
};
use crate::settings::Limits;

/// Most questions of one request.
pub const QUESTIONS_MAX: usize = 16;
/// Most options of a choice.
pub const OPTIONS_MAX: usize = 64;
/// Most options of all questions together: each is looked at in several orders, with the state and
/// without.
const OPTIONS_IN_ALL_MAX: usize = 256;
/// Fewest and most levels of a scale.
const LEVELS: std::ops::RangeInclusive<usize> = 2..=10;
/// Longest id of a question, and longest name of an option, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest instructions and longest meaning of an option, in bytes.
const PHRASE_BYTES_MAX: usize = 4096;

/// A request for decisions that is within all bounds that do not depend on the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidDecision {
    /// Who asks.
    pub caller: Caller,
    /// The model asked for; `None` for whichever is loaded.
    pub model: Option<String>,
    /// What the questions are about; not blank.
    pub state: String,
    /// 1 to [`QUESTIONS_MAX`] questions, each with 1 to [`OPTIONS_MAX`] options or 2 to 10 levels,
    /// no text of which is blank.
    pub questions: BTreeMap<String, Question>,
    /// Until when all must be answered, from now.
    pub timeout: Duration,
    /// How urgent it is.
    pub class: Class,
    /// Whether the model may use what it remembers of the caller's requests, and remember this.
    pub cache: bool,
    /// How long the engine stays after it; `None` for the usual.
    pub keep_alive: Option<Duration>,
}

/// The body of `POST /v1/systemone`.
///
/// # Errors
/// `invalid_request` or `unsupported`, naming the field.
pub fn parse_decision(body: &[u8]) -> Result<DecisionRequest, ApiError> {
    decision_of(shape::parse(body)?)
}

/// The same of a body that was read already.
///
/// # Errors
/// As of [`parse_decision`].
pub(crate) fn decision_of(mut value: Value) -> Result<DecisionRequest, ApiError> {
    shape::check(&mut value, fields::DECISION)?;
    if let Some(state) = value.get_mut("state") {
        textify(state);
    }
    if let Some(Value::Object(questions)) = value.get_mut("questions") {
        for (id, question) in questions {
            read_question(question, &format!("questions.{}", echo(id)))?;
        }
    }
    from_value(value)
}

/// Checks the shape of a question, and makes text of what may be given in other ways.
fn read_question(question: &mut Value, path: &str) -> Result<(), ApiError> {
    let kind = question.get("type").and_then(Value::as_str);
    let fields = match kind {
        Some("score") => fields::SCORE_QUESTION,
        Some("noul") => fields::NOUL_QUESTION,
        // What has another type, or none, is refused by the same table.
        _ => fields::CHOICE_QUESTION,
    };
    let Value::Object(object) = question else {
        return Err(invalid(format!("`{path}` must be an object"))
            .hint("give it `type`, `instructions` and `criteria`")
            .param(path));
    };
    shape::read_object(object, fields, path)?;
    if let Some(instructions) = object.get_mut("instructions") {
        textify(instructions);
    }
    match object.get_mut("criteria") {
        Some(Value::Object(meanings)) => textify_each(meanings),
        Some(Value::Array(levels)) => {
            let levels = levels.iter_mut();
            levels.filter(|level| !level.is_null()).for_each(textify);
        }
        _ => {}
    }
    Ok(())
}

fn textify_each(meanings: &mut Map<String, Value>) {
    for value in meanings.values_mut() {
        if *value == "" {
            // The bus has no word for nothing.
            *value = Value::Null;
        }
        if !value.is_null() {
            textify(value);
        }
    }
}

/// What is no text becomes its JSON.
fn textify(value: &mut Value) {
    if !value.is_string() {
        *value = Value::String(value.to_string());
    }
}

impl ValidDecision {
    /// A request, checked.
    ///
    /// # Errors
    /// `invalid_request` if a field is out of bounds, naming it.
    pub fn new(
        request: DecisionRequest,
        caller: Caller,
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        check_text_bytes("state", request.state.len())?;
        check_phrase("state", &request.state, usize::MAX)?;
        let count = request.questions.len();
        if !(1..=QUESTIONS_MAX).contains(&count) {
            return Err(invalid(format!(
                "`questions` must be 1 to {QUESTIONS_MAX}, not {count}"
            ))
            .hint("ask at least one, and many in several requests")
            .param("questions"));
        }
        let mut options = 0;
        for (id, question) in &request.questions {
            let path = format!("questions.{}", echo(id));
            check_name(&path, id)?;
            check_question(&path, question)?;
            options += match question {
                Question::Choice { criteria, .. } => criteria.len(),
                Question::Score { criteria, .. } => criteria.len(),
                Question::Noul { .. } => 2,
            };
        }
        if options > OPTIONS_IN_ALL_MAX {
            return Err(invalid(format!(
                "`questions` must have at most {OPTIONS_IN_ALL_MAX} options in all, not {options}"
            ))
            .hint("ask in several requests")
            .param("questions"));
        }
        Ok(Self {
            caller,
            model: bounded_model(request.model)?,
            state: request.state,
            questions: request.questions,
            timeout: bounded_timeout(request.timeout_ms, limits)?,
            class: request.class.unwrap_or_default(),
            cache: request.cache_prompt.unwrap_or(true),
            keep_alive: bounded_keep_alive(request.keep_alive_ms)?,
        })
    }
}

fn check_question(path: &str, question: &Question) -> Result<(), ApiError> {
    let criteria = format!("{path}.criteria");
    let count = |found: usize, least: usize, most: usize, what: &str| {
        if (least..=most).contains(&found) {
            return Ok(());
        }
        Err(invalid(format!(
            "`{criteria}` must have {least} to {most} {what}, not {found}"
        ))
        .hint("group them, and ask again within the group that was chosen")
        .param(criteria.as_str()))
    };
    let instructions = match question {
        Question::Choice {
            instructions,
            criteria: options,
        } => {
            count(options.len(), 1, OPTIONS_MAX, "options")?;
            for (name, meaning) in options {
                let path = format!("{criteria}.{}", echo(name));
                check_name(&path, name)?;
                check_meaning(&path, meaning.as_ref())?;
            }
            instructions
        }
        Question::Score {
            instructions,
            criteria: levels,
        } => {
            count(levels.len(), *LEVELS.start(), *LEVELS.end(), "levels")?;
            for (index, level) in levels.iter().enumerate() {
                check_phrase(&format!("{criteria}[{index}]"), level, PHRASE_BYTES_MAX)?;
            }
            instructions
        }
        Question::Noul {
            instructions,
            criteria: meanings,
        } => {
            if let Some(meanings) = meanings {
                check_meaning(&format!("{criteria}.true"), meanings.so.as_ref())?;
                check_meaning(&format!("{criteria}.false"), meanings.not_so.as_ref())?;
            }
            instructions
        }
    };
    check_phrase(
        &format!("{path}.instructions"),
        instructions,
        PHRASE_BYTES_MAX,
    )
}

/// An id or an option: it is a key of the answer, and the option is what the model would say.
fn check_name(path: &str, name: &str) -> Result<(), ApiError> {
    let printable = !name.chars().any(char::is_control);
    if !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX && printable {
        return Ok(());
    }
    Err(invalid(format!(
        "`{path}` must be a name of 1 to {NAME_BYTES_MAX} bytes, not blank and without control \
         characters"
    ))
    .hint("give it a short name, and say more in `instructions` or its meaning")
    .param(path))
}

fn check_meaning(path: &str, meaning: Option<&String>) -> Result<(), ApiError> {
    meaning.map_or(Ok(()), |text| check_phrase(path, text, PHRASE_BYTES_MAX))
}

fn check_phrase(path: &str, text: &str, bytes_max: usize) -> Result<(), ApiError> {
    check_no_nul(path, text)?;
    if text.trim().is_empty() {
        return Err(invalid(format!("`{path}` is blank"))
            .hint("give it some text")
            .param(path));
    }
    if text.len() > bytes_max {
        let bytes = text.len();
        return Err(invalid(format!(
            "`{path}` must be at most {bytes_max} bytes, not {bytes}"
        ))
        .hint("put what is long into `state`")
        .param(path));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
