//! The hub behind a provider: the way in which a call is made.
//!
//! A door through which hubs come gives each a [`Line`], and hands the [`Hub`] in with the
//! provider's definition; it is in force exactly as long as that is. What a hub tells is data: it is
//! bounded here, and has no control characters.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hob_api::home::Language;
use hob_api::provider::Scalar;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::name::is_plain;
use crate::providers::{ARGUMENT_BYTES_MAX, is_unseen};

/// Longest text in a hub's result in bytes; what is longer is cut.
pub const RESULT_TEXT_BYTES_MAX: usize = 500;
/// Most values that a hub's result may have beside success, speech and error.
const DATA_MAX: usize = 16;
/// Longest name of such a value in bytes.
const DATA_NAME_BYTES_MAX: usize = 64;
/// What stands for the rest of a text that was cut.
const CUT: char = '…';

/// A call, as the hub is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// What the call is known by from now on.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// The tool's arguments.
    pub arguments: BTreeMap<String, Scalar>,
    /// Ids of the targets.
    pub targets: Vec<String>,
    /// The provider.
    pub provider: String,
    /// The change that made the provider what it was when the call was checked.
    pub generation: u64,
    /// What was said, without control characters.
    pub text: String,
    /// The room in which it was said, if that is known.
    pub area: Option<String>,
    /// What it was said to, if that is known.
    pub device: Option<String>,
    /// The language of the reply.
    pub language: Language,
    /// How long an answer is still of use.
    pub left: Duration,
    /// Whether a person confirmed it.
    pub confirmed: bool,
}

/// What a hub says of a call that it was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolResult {
    /// Whether it is done: the hub says so, and names no error. One that does both is not sure
    /// itself, and nobody is to be told that a door is locked which may not be.
    pub success: bool,
    /// What is to be said.
    pub speech: Option<String>,
    /// Why it is not done.
    pub error: Option<String>,
    /// Whatever else the hub told.
    pub data: BTreeMap<String, Scalar>,
}

impl ToolResult {
    /// Reads a result. What is too long is cut, and values that are none of those that a result may
    /// have are left out: whether it was done matters more.
    ///
    /// # Errors
    /// What is wrong, if it does not say whether the call succeeded.
    pub fn read(fields: &Map<String, Value>) -> Result<Self, String> {
        let Some(Value::Bool(success)) = fields.get("success") else {
            return Err("the hub's result does not say whether it succeeded".to_owned());
        };
        let text = |key: &str| {
            let text = fields.get(key).and_then(Value::as_str);
            let text = text.map(|text| cleaned(text, RESULT_TEXT_BYTES_MAX));
            text.filter(|text| !text.is_empty())
        };
        let data = fields.get("data").and_then(Value::as_object);
        let data = data.into_iter().flatten();
        let error = text("error");
        Ok(Self {
            success: *success && error.is_none(),
            speech: text("speech"),
            error,
            data: data
                .filter(|(name, _)| is_plain(name, DATA_NAME_BYTES_MAX))
                .filter_map(|(name, value)| Some((name.clone(), scalar(value)?)))
                .take(DATA_MAX)
                .collect(),
        })
    }
}

fn scalar(value: &Value) -> Option<Scalar> {
    match value {
        Value::Bool(value) => Some(Scalar::Boolean(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Some(Scalar::Integer(number)),
            None => number.as_f64().map(Scalar::Number),
        },
        Value::String(text) => Some(Scalar::Text(cleaned(text, ARGUMENT_BYTES_MAX))),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `text` on one line, without control characters, at most `bytes` long.
pub(crate) fn cleaned(text: &str, bytes: usize) -> String {
    let seen = text.chars().filter_map(|c| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
        c => (!is_unseen(c)).then_some(c),
    });
    let mut clean = String::new();
    // One more than fits tells that something is left.
    clean.extend(seen.take(bytes + 1));
    let clean = clean.trim();
    if clean.len() <= bytes {
        return clean.to_owned();
    }
    let room = bytes.saturating_sub(CUT.len_utf8());
    let ends = clean.char_indices().map(|(start, c)| start + c.len_utf8());
    let end = ends.take_while(|end| *end <= room).last().unwrap_or(0);
    format!("{}{CUT}", &clean[..end])
}

/// Why a hub's answer did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The hub is gone.
    Lost,
    /// The hub took longer than it may.
    Silent,
    /// The hub answered with an error, or what can't be understood.
    Failed(String),
}

/// What a call waits for at a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// That a person confirms it.
    Confirm,
    /// That it is done.
    Invoke,
}

/// A place at a hub, which does one call at once. It is held until the hub has answered, or has been
/// told that nobody waits any more.
pub type Place = OwnedSemaphorePermit;

/// How a door reaches a hub. Dropping a future tells the hub that nobody waits for its answer.
pub trait Line: Debug + Send + Sync {
    /// Has a person asked whether the call is to be made.
    fn confirm(
        &self,
        call: Invocation,
        place: Place,
    ) -> BoxFuture<'static, Result<bool, CallFailure>>;
    /// Has the call made.
    fn invoke(
        &self,
        call: Invocation,
        place: Place,
    ) -> BoxFuture<'static, Result<ToolResult, CallFailure>>;
    /// Tells the hub that it is asked for nothing any more.
    fn release(&self) -> BoxFuture<'static, ()>;
}

/// A hub that registered a provider.
#[derive(Debug)]
pub struct Hub {
    line: Box<dyn Line>,
    /// A person who is to confirm something keeps nobody else's lamp waiting.
    confirmations: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    gone: CancellationToken,
}

impl Hub {
    /// A hub that is there.
    pub fn new(line: impl Line + 'static) -> Arc<Self> {
        Arc::new(Self {
            line: Box::new(line),
            confirmations: Arc::new(Semaphore::new(1)),
            calls: Arc::new(Semaphore::new(1)),
            gone: CancellationToken::new(),
        })
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`CallFailure::Lost`].
    pub async fn place(&self, step: Step) -> Result<Place, CallFailure> {
        let places = match step {
            Step::Confirm => &self.confirmations,
            Step::Invoke => &self.calls,
        };
        let place = async {
            let place = Arc::clone(places).acquire_owned().await;
            // They are closed by nobody.
            place.map_err(|_| CallFailure::Lost)
        };
        self.while_there(place).await
    }

    /// Has a person asked whether the call is to be made.
    ///
    /// # Errors
    /// [`CallFailure`]: it is not confirmed, then.
    pub async fn confirm(&self, call: Invocation, place: Place) -> Result<bool, CallFailure> {
        self.while_there(self.line.confirm(call, place)).await
    }

    /// Has the call made.
    ///
    /// # Errors
    /// [`CallFailure`].
    pub async fn invoke(&self, call: Invocation, place: Place) -> Result<ToolResult, CallFailure> {
        self.while_there(self.line.invoke(call, place)).await
    }

    /// Whether it has left or was released.
    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Notes that it has left.
    pub fn left(&self) {
        self.gone.cancel();
    }

    /// Parts with it; the future tells it so.
    pub fn release(&self) -> BoxFuture<'static, ()> {
        self.gone.cancel();
        self.line.release()
    }

    async fn while_there<T>(
        &self,
        answer: impl Future<Output = Result<T, CallFailure>>,
    ) -> Result<T, CallFailure> {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Err(CallFailure::Lost),
            answer = answer => answer,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<ToolResult, String> {
        let Value::Object(fields) = value else {
            panic!("{value} is no object");
        };
        ToolResult::read(&fields)
    }

    #[test]
    fn a_result_says_whether_it_succeeded() {
        for bad in [
            json!({}),
            json!({"success": "true"}),
            json!({"success": 1}),
            json!({"speech": "Done."}),
        ] {
            read(bad).unwrap_err();
        }
        let result = read(json!({"success": false, "error": "no power", "speech": 7})).unwrap();
        assert!(!result.success);
        assert_eq!(result.error.as_deref(), Some("no power"));
        assert_eq!(result.speech, None);
        // What is done and is not is not; an error without a word is none.
        let both = read(json!({"success": true, "error": "no power", "speech": "Done."})).unwrap();
        assert!(!both.success);
        assert!(
            read(json!({"success": true, "error": "\n"}))
                .unwrap()
                .success
        );
    }

    #[test]
    fn what_is_in_a_result_is_bounded_and_clean() {
        let many: Map<String, Value> = (0..100)
            .map(|n| (format!("k{n:03}"), json!(n)))
            .chain([("a b".to_owned(), json!(1))])
            .collect();
        let long = "😀".repeat(10_000);
        let result = read(json!({
            "success": false,
            "speech": long,
            "error": "a\u{1b}[31mb\u{202e}c\0d\r\ne\u{2028}f",
            "data": many,
        }));
        let result = result.unwrap();
        let speech = result.speech.unwrap();
        assert!(speech.len() <= RESULT_TEXT_BYTES_MAX && speech.ends_with('…'));
        assert_eq!(result.error.unwrap(), "a[31mbcd  e f");
        assert_eq!(result.data.len(), DATA_MAX);
        let nested =
            json!({"success": true, "data": {"a": {"b": 1}, "c": [1], "d": null, "e": 0.5}});
        let data = read(nested).unwrap().data;
        assert_eq!(
            data,
            BTreeMap::from([("e".to_owned(), Scalar::Number(0.5))])
        );
        // What has nothing to see is nothing to say.
        assert_eq!(
            read(json!({"success": true, "speech": "\u{202e}\n "}))
                .unwrap()
                .speech,
            None
        );
    }

    #[test]
    fn a_text_at_the_bound_is_whole_unless_it_needs_the_mark() {
        assert_eq!(cleaned("abc", 10), "abc");
        assert_eq!(cleaned("abcdef", 6), "abcdef");
        assert_eq!(cleaned("abcdefg", 6), "abc…");
        assert!(cleaned(&"ü".repeat(100), 9).len() <= 9);
    }
}
