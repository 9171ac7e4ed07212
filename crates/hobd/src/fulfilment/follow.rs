//! Whether a model is asked for more behind calls that were made, and what of it is new: pure.

use hob_api::home::{Call, CallStatus};

/// Whether calls ended so that something may follow from it: each was answered by the hub, which told
/// more of one than that it is done. What a person refused, or nobody knows, is not to be got round.
pub fn is_news(calls: &[Call]) -> bool {
    let results = || calls.iter().filter_map(|call| call.result.as_ref());
    let mut ends = results().map(|result| result.status);
    let mut told = results().map(|r| r.error.is_some() || r.speech.is_some() || !r.data.is_empty());
    ends.all(|status| matches!(status, CallStatus::Done | CallStatus::Failed))
        && told.any(|told| told)
}

/// Those of `calls` that were not made before: nothing is done twice for one utterance.
pub fn new_calls(calls: Vec<Call>, made: &[Call]) -> Vec<Call> {
    let same = |a: &Call, b: &Call| {
        (&a.provider, &a.tool, &a.targets, &a.arguments)
            == (&b.provider, &b.tool, &b.targets, &b.arguments)
    };
    let is_new = |call: &Call| !made.iter().any(|before| same(before, call));
    calls.into_iter().filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use hob_api::home::CallResult;
    use hob_api::provider::Scalar;

    use super::*;

    fn ended(status: CallStatus, error: Option<&str>) -> Call {
        Call {
            result: Some(CallResult {
                status,
                error: error.map(ToOwned::to_owned),
                ..CallResult::default()
            }),
            ..Call::default()
        }
    }

    #[test]
    fn more_follows_from_what_a_hub_tells_alone() {
        let done = || ended(CallStatus::Done, None);
        assert!(!is_news(&[]));
        assert!(!is_news(&[done(), done()]));
        assert!(is_news(&[
            done(),
            ended(CallStatus::Failed, Some("it is locked"))
        ]));
        let mut spoken = done();
        if let Some(result) = &mut spoken.result {
            result.data.insert("level".to_owned(), Scalar::Integer(3));
        }
        assert!(is_news(&[spoken.clone()]));
        for status in [
            CallStatus::Refused,
            CallStatus::Unanswered,
            CallStatus::Lost,
            CallStatus::Skipped,
        ] {
            assert!(
                !is_news(&[spoken.clone(), ended(status, Some("why"))]),
                "{status:?}"
            );
        }
    }

    #[test]
    fn nothing_is_done_twice() {
        let call = |tool: &str, level| Call {
            tool: tool.to_owned(),
            arguments: [("level".to_owned(), Scalar::Integer(level))].into(),
            ..Call::default()
        };
        let made = [Call {
            result: Some(CallResult::default()),
            probability: 0.5,
            ..call("dim", 3)
        }];
        let calls = vec![call("dim", 3), call("dim", 4), call("lift", 3)];
        assert_eq!(new_calls(calls, &made), [call("dim", 4), call("lift", 3)]);
    }
}
