//! Which call comes next, and what became of those before: pure.

use hob_api::home::{Call, CallResult, CallStatus};

use super::Standing;
use crate::hub::{CallFailure, Step, ToolResult};

/// Calls, one after the other. Each ends in exactly one way.
///
/// Whoever asks for several things at once asks for each: a call that fails or is refused keeps
/// nothing else from being done. When the hub is gone or the time over, nothing more is begun.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    calls: Vec<Call>,
    /// Which call's turn it is.
    at: usize,
    /// How many calls may be made.
    most: usize,
    /// Whether a person has confirmed that call.
    confirmed: bool,
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
            confirmed: false,
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
        self.confirmed
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
            Standing::Valid {
                needs_confirmation: true,
            } if !self.confirmed => Next::Confirm,
            Standing::Valid { .. } => Next::Invoke,
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
        match answer {
            Ok(true) => self.confirmed = true,
            Ok(false) => self.end(CallStatus::Refused, None),
            Err(CallFailure::Failed(why)) => self.end(CallStatus::Refused, Some(why)),
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
        self.end(status, result.error.filter(|_| !result.success));
    }

    /// The time is over, and the call whose turn it is still waits: for `step` if it was begun.
    pub fn late(&mut self, begun: Option<Step>) {
        let (status, why) = match begun {
            None => (CallStatus::Skipped, "the time was over before its turn"),
            Some(Step::Confirm) => (CallStatus::Refused, "nobody confirmed it in time"),
            Some(Step::Invoke) => (CallStatus::Unanswered, "the hub did not answer in time"),
        };
        self.end(status, Some(why.to_owned()));
        self.at = self.calls.len();
    }

    /// The calls, each with what became of it.
    pub fn into_calls(self) -> Vec<Call> {
        self.calls
    }

    fn lost(&mut self) {
        self.end(CallStatus::Lost, Some("the hub is gone".to_owned()));
        self.at = self.calls.len();
    }

    fn end(&mut self, status: CallStatus, error: Option<String>) {
        if let Some(told) = self.result() {
            told.status = status;
            told.error = error;
        }
        self.at += 1;
        self.confirmed = false;
    }

    fn result(&mut self) -> Option<&mut CallResult> {
        self.calls.get_mut(self.at)?.result.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: Standing = Standing::Valid {
        needs_confirmation: false,
    };
    const CAREFUL: Standing = Standing::Valid {
        needs_confirmation: true,
    };

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
        assert_eq!(plan.next(CAREFUL), Next::Confirm);
        plan.confirmed(Ok(true));
        assert!(plan.is_confirmed());
        assert_eq!(plan.next(CAREFUL), Next::Invoke);
        plan.invoked(Ok(done()));
        assert_eq!(plan.next(CAREFUL), Next::Confirm);
        plan.confirmed(Ok(false));
        assert_eq!(ended(plan), [CallStatus::Done, CallStatus::Refused]);
    }

    #[test]
    fn what_became_invalid_while_a_person_thought_is_not_done() {
        let mut plan = plan(1, 8);
        assert_eq!(plan.next(CAREFUL), Next::Confirm);
        plan.confirmed(Ok(true));
        assert_eq!(plan.next(Standing::Invalid("gone".to_owned())), Next::Pass);
        assert_eq!(ended(plan), [CallStatus::Skipped]);
    }

    #[test]
    fn nothing_is_begun_when_the_hub_is_gone_or_the_time_over() {
        let mut gone = plan(2, 8);
        assert_eq!(gone.next(Standing::Gone), Next::End);
        assert_eq!(gone.next(VALID), Next::End);
        assert_eq!(ended(gone), [CallStatus::Lost, CallStatus::Skipped]);
        for (begun, status) in [
            (None, CallStatus::Skipped),
            (Some(Step::Confirm), CallStatus::Refused),
            (Some(Step::Invoke), CallStatus::Unanswered),
        ] {
            let mut late = plan(2, 8);
            late.late(begun);
            assert_eq!(late.next(VALID), Next::End);
            assert_eq!(ended(late), [status, CallStatus::Skipped]);
        }
    }

    fn standings() -> impl Strategy<Value = Standing> {
        prop_oneof![
            4 => any::<bool>().prop_map(|needs_confirmation| Standing::Valid { needs_confirmation }),
            1 => Just(Standing::Invalid("changed".to_owned())),
            1 => Just(Standing::Gone),
        ]
    }

    proptest! {
        /// Whatever happens: it ends, no call that must be confirmed is made without, none is made
        /// twice, and none counts as done without a result that says so.
        #[test]
        fn every_call_ends_once(
            calls in 0_usize..6,
            most in 0_usize..6,
            events in prop::collection::vec((standings(), 0_u8..5), 40),
        ) {
            let mut plan = plan(calls, most);
            let (mut invoked, mut successes, mut ended_early) = (Vec::new(), 0, false);
            for (standing, answer) in events {
                let careful = standing == CAREFUL;
                let confirmed = plan.is_confirmed();
                let at = plan.at;
                match plan.next(standing) {
                    Next::End => { ended_early = true; break; }
                    Next::Pass => prop_assert_eq!(plan.at, at + 1),
                    Next::Confirm => match answer {
                        0 => plan.late(Some(Step::Confirm)),
                        1 => plan.confirmed(Err(CallFailure::Lost)),
                        2 => plan.confirmed(Err(CallFailure::Failed(String::new()))),
                        other => plan.confirmed(Ok(other == 3)),
                    },
                    Next::Invoke => {
                        prop_assert!(!careful || confirmed);
                        prop_assert!(!invoked.contains(&at), "made twice");
                        invoked.push(at);
                        match answer {
                            0 => plan.late(Some(Step::Invoke)),
                            1 => plan.invoked(Err(CallFailure::Lost)),
                            2 => plan.invoked(Err(CallFailure::Failed(String::new()))),
                            other => {
                                successes += usize::from(other == 3);
                                let success = other == 3;
                                plan.invoked(Ok(ToolResult { success, ..ToolResult::default() }));
                            }
                        }
                    }
                }
            }
            // A call takes two events at most.
            prop_assert!(ended_early);
            prop_assert!(invoked.len() <= most);
            let done = ended(plan).into_iter().filter(|status| *status == CallStatus::Done);
            prop_assert_eq!(done.count(), successes);
        }
    }
}
