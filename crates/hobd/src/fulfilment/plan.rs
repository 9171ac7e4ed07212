//! Which call comes next, and what became of those before: pure.

use hob_api::home::{Call, CallResult, CallStatus};

use super::{Standing, Terms};
use crate::hub::{CallFailure, Step, ToolResult};

/// How often a person is asked to confirm one call whose terms change while they think.
const CONFIRMATIONS_MAX: usize = 2;
/// Why it is not done then.
const UNSETTLED: &str = "the home changed each time that it was confirmed";

/// Calls, one after the other. Each ends in exactly one way.
///
/// Whoever asks for several things at once asks for each: a call that fails or is refused keeps
/// nothing else from being done. When the hub is gone or silent, or the time over, nothing more is
/// begun: of one call at most it is not known whether it was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    calls: Vec<Call>,
    /// Which call's turn it is.
    at: usize,
    /// How many calls may be made.
    most: usize,
    /// How often a person was asked to confirm that call.
    asked: usize,
    /// What that person is asked about.
    asks: Option<Terms>,
    /// What that person confirmed.
    confirmed: Option<Terms>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Have a person asked, and tell [`Plan::confirmed`].
    Confirm,
    /// Have the call made, and tell [`Plan::invoked`].
    Invoke,
    /// Look at the next call.
    Pass,
    /// Nothing.
    End,
}

impl Plan {
    /// Calls of which none is begun, and of which at most `most` are made. `name` gives each its own
    /// `call_id`.
    pub fn new(calls: Vec<Call>, most: usize, mut name: impl FnMut() -> String) -> Self {
        let mut plan = Self {
            calls,
            at: 0,
            most,
            asked: 0,
            asks: None,
            confirmed: None,
        };
        for call in &mut plan.calls {
            call.result = Some(CallResult {
                call_id: name(),
                ..CallResult::default()
            });
        }
        plan
    }

    /// The call whose turn it is.
    pub fn call(&self) -> Option<&Call> {
        self.calls.get(self.at)
    }

    /// Whether a person confirmed the call whose turn it is.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.is_some()
    }

    /// What is to be done about the call whose turn it is and that stands as given.
    pub fn next(&mut self, standing: Standing) -> Next {
        if self.at >= self.calls.len() {
            return Next::End;
        }
        if self.at >= self.most {
            self.end(
                CallStatus::Skipped,
                Some("it is one call too many".to_owned()),
            );
            return Next::Pass;
        }
        match standing {
            Standing::Valid(Some(terms)) if self.confirmed.as_ref() != Some(&terms) => {
                self.confirmed = None;
                if self.asked == CONFIRMATIONS_MAX {
                    self.end(CallStatus::Refused, Some(UNSETTLED.to_owned()));
                    return Next::Pass;
                }
                self.asks = Some(terms);
                Next::Confirm
            }
            Standing::Valid(_) => Next::Invoke,
            Standing::Invalid(why) => {
                self.end(CallStatus::Skipped, Some(why));
                Next::Pass
            }
            Standing::Gone => {
                self.lost();
                Next::End
            }
        }
    }

    /// What a person said to the call whose turn it is.
    pub fn confirmed(&mut self, answer: Result<bool, CallFailure>) {
        self.asked += 1;
        match answer {
            Ok(true) => self.confirmed = self.asks.take(),
            Ok(false) => self.end(CallStatus::Refused, None),
            Err(CallFailure::Failed(why)) => self.end(CallStatus::Refused, Some(why)),
            Err(CallFailure::Silent) => {
                let why = "nobody confirmed it in time".to_owned();
                self.end(CallStatus::Refused, Some(why));
            }
            Err(CallFailure::Lost) => self.lost(),
        }
    }

    /// The hub can't be asked for a step of the call whose turn it is.
    pub fn failed(&mut self, step: Step, failure: CallFailure) {
        match step {
            Step::Confirm => self.confirmed(Err(failure)),
            Step::Invoke => self.invoked(Err(failure)),
        }
    }

    /// What the hub said of the call whose turn it is.
    pub fn invoked(&mut self, answer: Result<ToolResult, CallFailure>) {
        let result = match answer {
            Ok(result) => result,
            Err(CallFailure::Failed(why)) => return self.end(CallStatus::Failed, Some(why)),
            Err(CallFailure::Silent) => {
                let why = "the hub did not answer in time".to_owned();
                self.end(CallStatus::Unanswered, Some(why));
                return self.stop("the hub did not answer the call before it");
            }
            Err(CallFailure::Lost) => return self.lost(),
        };
        let status = if result.success {
            CallStatus::Done
        } else {
            CallStatus::Failed
        };
        if let Some(told) = self.result() {
            told.speech = result.speech;
            told.data = result.data;
        }
        self.end(status, result.error);
    }

    /// The time is over before the call whose turn it is was begun.
    pub fn late(&mut self) {
        self.stop("the time was over before its turn");
    }

    /// The calls, each with what became of it.
    pub fn into_calls(self) -> Vec<Call> {
        self.calls
    }

    fn lost(&mut self) {
        let why = "the hub is gone";
        self.end(CallStatus::Lost, Some(why.to_owned()));
        self.stop(why);
    }

    /// Begins none of the calls that are left, which stay skipped.
    fn stop(&mut self, why: &str) {
        while let Some(told) = self.result() {
            told.error = Some(why.to_owned());
            self.at += 1;
        }
    }

    fn end(&mut self, status: CallStatus, error: Option<String>) {
        if let Some(told) = self.result() {
            told.status = status;
            told.error = error;
        }
        self.at += 1;
        (self.asked, self.asks, self.confirmed) = (0, None, None);
    }

    fn result(&mut self) -> Option<&mut CallResult> {
        self.calls.get_mut(self.at)?.result.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: Standing = Standing::Valid(None);

    /// One that a person must confirm; another `version` is another definition of it.
    fn careful(version: u8) -> Standing {
        Standing::Valid(Some(Terms::of_version(version)))
    }

    fn plan(calls: usize, most: usize) -> Plan {
        let mut number = 0;
        Plan::new(vec![Call::default(); calls], most, || {
            number += 1;
            number.to_string()
        })
    }

    fn ended(plan: Plan) -> Vec<CallStatus> {
        let results = plan.into_calls().into_iter().map(|call| call.result);
        results.flatten().map(|result| result.status).collect()
    }

    fn done() -> ToolResult {
        ToolResult {
            success: true,
            ..ToolResult::default()
        }
    }

    #[test]
    fn each_call_is_made_in_turn_and_none_too_many() {
        let mut plan = plan(3, 2);
        assert_eq!(plan.next(VALID), Next::Invoke);
        plan.invoked(Ok(done()));
        assert_eq!(plan.next(VALID), Next::Invoke);
        plan.invoked(Err(CallFailure::Failed("no power".to_owned())));
        assert_eq!(plan.next(VALID), Next::Pass);
        assert_eq!(plan.next(VALID), Next::End);
        let expected = [CallStatus::Done, CallStatus::Failed, CallStatus::Skipped];
        assert_eq!(ended(plan), expected);
    }

    #[test]
    fn a_confirmation_holds_for_one_call() {
        let mut plan = plan(2, 8);
        assert_eq!(plan.next(careful(1)), Next::Confirm);
        plan.confirmed(Ok(true));
        assert!(plan.is_confirmed());
        assert_eq!(plan.next(careful(1)), Next::Invoke);
        plan.invoked(Ok(done()));
        assert_eq!(plan.next(careful(1)), Next::Confirm);
        plan.confirmed(Ok(false));
        assert_eq!(ended(plan), [CallStatus::Done, CallStatus::Refused]);
    }

    #[test]
    fn what_means_something_else_by_then_is_asked_once_more_and_no_oftener() {
        let mut asked_again = plan(1, 8);
        assert_eq!(asked_again.next(careful(1)), Next::Confirm);
        asked_again.confirmed(Ok(true));
        assert_eq!(asked_again.next(careful(2)), Next::Confirm);
        assert!(!asked_again.is_confirmed());
        asked_again.confirmed(Ok(true));
        let mut settled = asked_again.clone();
        assert_eq!(settled.next(careful(2)), Next::Invoke);
        assert_eq!(asked_again.next(careful(1)), Next::Pass);
        assert_eq!(ended(asked_again), [CallStatus::Refused]);
        // What changes while a place is waited for is what the person is then asked about.
        let mut waiting = plan(1, 8);
        assert_eq!(waiting.next(careful(1)), Next::Confirm);
        assert_eq!(waiting.next(careful(2)), Next::Confirm);
        waiting.confirmed(Ok(true));
        assert_eq!(waiting.next(careful(2)), Next::Invoke);
    }

    #[test]
    fn what_became_invalid_while_a_person_thought_is_not_done() {
        let mut plan = plan(1, 8);
        assert_eq!(plan.next(careful(1)), Next::Confirm);
        plan.confirmed(Ok(true));
        assert_eq!(plan.next(Standing::Invalid("gone".to_owned())), Next::Pass);
        assert_eq!(ended(plan), [CallStatus::Skipped]);
    }

    #[test]
    fn nothing_is_begun_when_the_hub_is_gone_or_silent_or_the_time_over() {
        type Event = fn(&mut Plan);
        let events: [(Event, CallStatus); 4] = [
            (
                |plan| {
                    plan.next(Standing::Gone);
                },
                CallStatus::Lost,
            ),
            (
                |plan| plan.failed(Step::Invoke, CallFailure::Lost),
                CallStatus::Lost,
            ),
            (
                |plan| plan.invoked(Err(CallFailure::Silent)),
                CallStatus::Unanswered,
            ),
            (Plan::late, CallStatus::Skipped),
        ];
        for (event, status) in events {
            let mut plan = plan(2, 8);
            event(&mut plan);
            assert_eq!(plan.next(VALID), Next::End);
            let calls = plan.into_calls();
            let results: Vec<CallResult> = calls.into_iter().filter_map(|c| c.result).collect();
            let statuses = [results[0].status, results[1].status];
            assert_eq!(statuses, [status, CallStatus::Skipped]);
            assert!(
                results.iter().all(|result| result.error.is_some()),
                "{results:?}"
            );
        }
    }

    #[test]
    fn a_person_who_says_nothing_keeps_nothing_else_from_being_done() {
        let mut plan = plan(2, 8);
        assert_eq!(plan.next(careful(1)), Next::Confirm);
        plan.confirmed(Err(CallFailure::Silent));
        assert_eq!(plan.next(VALID), Next::Invoke);
        plan.invoked(Ok(done()));
        assert_eq!(ended(plan), [CallStatus::Refused, CallStatus::Done]);
    }

    fn standings() -> impl Strategy<Value = Standing> {
        prop_oneof![
            2 => Just(VALID),
            3 => (1_u8..3).prop_map(careful),
            1 => Just(Standing::Invalid("changed".to_owned())),
            1 => Just(Standing::Gone),
        ]
    }

    proptest! {
        /// Whatever happens: it ends, no call that must be confirmed is made without, or with another
        /// meaning than the one that was confirmed, none is made twice, and none counts as done
        /// without a result that says so.
        #[test]
        fn every_call_ends_once(
            calls in 0_usize..6,
            most in 0_usize..6,
            events in prop::collection::vec((standings(), 0_u8..6), 40),
        ) {
            let mut plan = plan(calls, most);
            let (mut invoked, mut successes, mut ended_early) = (Vec::new(), 0, false);
            let mut confirmed = None;
            for (standing, answer) in events {
                let at = plan.at;
                match plan.next(standing.clone()) {
                    Next::End => { ended_early = true; break; }
                    Next::Pass => prop_assert_eq!(plan.at, at + 1),
                    Next::Confirm => match answer {
                        0 => plan.late(),
                        1 => plan.confirmed(Err(CallFailure::Lost)),
                        2 => plan.confirmed(Err(CallFailure::Failed(String::new()))),
                        3 => plan.confirmed(Err(CallFailure::Silent)),
                        other => {
                            confirmed = (other == 4).then_some((at, standing));
                            plan.confirmed(Ok(other == 4));
                        }
                    },
                    Next::Invoke => {
                        prop_assert!(standing == VALID || confirmed == Some((at, standing)));
                        prop_assert!(!invoked.contains(&at), "made twice");
                        invoked.push(at);
                        match answer {
                            0 => plan.late(),
                            1 => plan.invoked(Err(CallFailure::Lost)),
                            2 => plan.invoked(Err(CallFailure::Failed(String::new()))),
                            3 => plan.invoked(Err(CallFailure::Silent)),
                            other => {
                                let success = other == 4;
                                successes += usize::from(success);
                                plan.invoked(Ok(ToolResult { success, ..ToolResult::default() }));
                            }
                        }
                    }
                }
            }
            // A call takes three events at most.
            prop_assert!(ended_early);
            prop_assert!(invoked.len() <= most);
            let done = ended(plan).into_iter().filter(|status| *status == CallStatus::Done);
            prop_assert_eq!(done.count(), successes);
        }
    }
}
