//! What was said at home, done: the reading, then call after call as the plan says, then words.
//!
//! The calls are made in a task of their own, which ends when its reader is dropped; a call under way
//! is dropped with it, and the hub is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use hob_api::event::{Done, FinishReason, Timings, Usage};
use hob_api::home::{Call, HomeAnswer, Language, Outcome};
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::RequestId;
use tokio::time::{Instant, timeout_at};

use super::DaemonHandle;
use crate::answer::{self, Answer};
use crate::decode::Round;
use crate::fulfilment::{Next, Plan, Standing, courtesy, is_news, new_calls, reply, standing};
use crate::home::language;
use crate::hub::{CallFailure, Hub, Invocation, Place, Step, cleaned};
use crate::providers::{Entry, ProviderName};
use crate::request::ValidFulfilment;
use crate::scheduler;
use crate::settings::HomeSettings;

/// The number of requests that no engine sees.
const NO_REQUEST: RequestId = RequestId(0);
/// Longest text of an utterance that a hub is told, in bytes: all that an utterance may have.
const TEXT_BYTES_MAX: usize = hob_api::home::UTTERANCE_BYTES_MAX;
/// How often an utterance is read whose home changes while it is.
const READINGS_MAX: usize = 2;

/// Numbers calls, so that a hub can tell them apart for as long as hobd runs.
static CALLS: AtomicU64 = AtomicU64::new(1);

impl DaemonHandle {
    /// Does what was said; what came of it is told in the answer's `done`. What is no matter of the
    /// home is answered by the model.
    ///
    /// # Errors
    /// As of [`DaemonHandle::interpret`]; `deadline_exceeded` if that took too long; `no_hub` if there
    /// is a call and nobody to make it; and for the model's answer those of [`DaemonHandle::submit`].
    pub async fn fulfil(&self, request: ValidFulfilment) -> Result<Answer, ApiError> {
        let deadline = Instant::now() + request.timeout();
        let uid = request.talk.caller.uid;
        let reading = timeout_at(deadline, self.read_now(uid, &request)).await;
        let (read, entries) = reading.map_err(|_| too_late())??;
        let heard = || language(&request.said.text);
        let language = request.language.unwrap_or_else(heard);
        let talk = read.outcome == Outcome::Talk;
        let courtesy = || courtesy(&request.said.text, &entries, language);
        let courtesy = talk.then(courtesy).flatten();
        if talk && courtesy.is_none() {
            let mut talk = request.talk;
            talk.timeout = deadline.saturating_duration_since(Instant::now());
            return Ok(self.submit(talk).await?.about(read));
        }
        let (hub, under_way, entries) = match read.outcome {
            Outcome::Call => {
                let (entry, hub) = hub_of(&read.calls, &entries)?;
                // What it is called is said even if its hub is gone by then.
                (Some(hub), Some(self.errands.begin(uid)?), vec![entry])
            }
            _ => (None, None, entries),
        };
        let (sender, answer) = answer::relay(NO_REQUEST);
        let errand = Errand {
            daemon: self.clone(),
            request,
            language,
            deadline,
        };
        tokio::spawn(async move {
            let _under_way = under_way;
            let (mut read, mut entries) = (read, entries);
            if let Some(hub) = hub {
                let done = errand.see_through(&mut read, &hub);
                let gone = std::pin::pin!(sender.reader_gone());
                if let Either::Left(_) = select(gone, std::pin::pin!(done)).await {
                    return;
                }
                let name = |entry: &Arc<Entry>| entry.provider.name().clone();
                let now = errand.daemon.providers().all(uid);
                entries.retain(|held| now.iter().all(|there| name(there) != name(held)));
                entries.extend(now);
            }
            let text = courtesy.unwrap_or_else(|| reply(&read, &entries, language));
            read.reply = Some(text.clone());
            // A reader that has gone meanwhile does not miss it.
            let _ = sender.progress(Event::Delta { text });
            sender.finish(Event::Done(told(read)));
        });
        Ok(answer)
    }

    /// How it is meant in the homes as they are now, and those homes. A home that changes while it is
    /// read against is read against again.
    async fn read_now(
        &self,
        uid: u32,
        request: &ValidFulfilment,
    ) -> Result<(HomeAnswer, Vec<Arc<Entry>>), ApiError> {
        let mut tries = 1;
        loop {
            let read = self.interpret(uid, request.said.clone()).await?;
            let entries: Vec<Arc<Entry>> = (self.providers().all(uid).into_iter())
                .filter(|entry| {
                    read.generations
                        .contains_key(entry.provider.name().as_str())
                })
                .collect();
            let same = |entry: &Arc<Entry>| {
                let read = read.generations.get(entry.provider.name().as_str());
                read == Some(&entry.generation)
            };
            let unchanged = entries.len() == read.generations.len() && entries.iter().all(same);
            if unchanged || tries == READINGS_MAX {
                return Ok((read, entries));
            }
            tries += 1;
        }
    }
}

fn too_late() -> ApiError {
    let message = "the time was over before it was read what is meant";
    ApiError::new(ErrorCode::DeadlineExceeded, message).hint("nothing was done; allow more time")
}

/// How much is being done for each user, and how long a hub may take for it.
#[derive(Clone, Debug)]
pub(super) struct Errands {
    counts: Arc<Mutex<HashMap<u32, usize>>>,
    per_uid: usize,
    home: HomeSettings,
}

impl Errands {
    /// Nothing yet, and at most `per_uid` of each user's.
    pub(super) fn new(per_uid: usize, home: &HomeSettings) -> Self {
        Self {
            counts: Arc::default(),
            per_uid,
            home: home.clone(),
        }
    }

    /// How long a hub may take for one step.
    fn patience(&self, step: Step) -> Duration {
        match step {
            Step::Confirm => self.home.confirm_timeout,
            Step::Invoke => self.home.invoke_timeout,
        }
    }

    fn begin(&self, uid: u32) -> Result<UnderWay, ApiError> {
        let mut counts = self.counts();
        let count = counts.entry(uid).or_default();
        if *count >= self.per_uid {
            return Err(scheduler::share_full(self.per_uid));
        }
        *count += 1;
        Ok(UnderWay(self.clone(), uid))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        // Nothing panics with the lock held.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is being done; it counts until it is dropped.
#[derive(Debug)]
struct UnderWay(Errands, u32);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// The provider of the calls, which all have the same, and who makes them.
fn hub_of(calls: &[Call], entries: &[Arc<Entry>]) -> Result<(Arc<Entry>, Arc<Hub>), ApiError> {
    let provider = calls.first().map_or("", |call| call.provider.as_str());
    let mut entries = entries.iter();
    let entry = entries.find(|entry| entry.provider.name().as_str() == provider);
    let found = entry.and_then(|entry| Some((Arc::clone(entry), entry.hub.clone()?)));
    found.ok_or_else(|| {
        let message = format!("nobody is there to do it: no hub registered `{provider}`");
        ApiError::new(ErrorCode::NoHub, message).hint(
            "nothing was done; a hub registers over D-Bus, and what is registered over HTTP is only \
             read",
        )
    })
}

/// Calls that are being made.
struct Errand {
    daemon: DaemonHandle,
    request: ValidFulfilment,
    language: Language,
    deadline: Instant,
}

impl Errand {
    /// Makes the calls of a reading, and what the model finds necessary behind them. Whatever keeps it
    /// from being asked, what was done is told.
    async fn see_through(&self, read: &mut HomeAnswer, hub: &Arc<Hub>) {
        let calls = std::mem::take(&mut read.calls);
        let mut made = self.run(calls, hub, self.request.rounds).await;
        if let Some(decoded) = &mut read.decoded {
            let first = Round {
                written: decoded.text.clone(),
                calls: made.clone(),
            };
            let mut rounds = vec![first];
            for _ in 0..self.request.follow_ups {
                let left = self.request.rounds.saturating_sub(made.len());
                let Some((written, calls)) = self.follow_up(&rounds, left).await else {
                    break;
                };
                decoded.follow_ups.push(written.clone());
                let calls = new_calls(calls, &made);
                if calls.is_empty() {
                    break;
                }
                let calls = self.run(calls, hub, left).await;
                made.extend(calls.iter().cloned());
                rounds.push(Round { written, calls });
            }
        }
        read.calls = made;
    }

    /// What the model wrote when it was told what came of `rounds`, and its calls, if something came
    /// of the last and `left` calls may still be made.
    async fn follow_up(&self, rounds: &[Round], left: usize) -> Option<(String, Vec<Call>)> {
        let last = rounds.last()?;
        if left == 0 || !is_news(&last.calls) {
            return None;
        }
        let name = ProviderName::parse(&last.calls.first()?.provider).ok()?;
        let (uid, said) = (self.request.talk.caller.uid, self.request.said.clone());
        let asked = self
            .daemon
            .decode_further(uid, &name, said, rounds.to_vec());
        match timeout_at(self.deadline, asked).await {
            Ok(Ok(further)) => further,
            Ok(Err(error)) => {
                tracing::warn!(
                    code = ?error.code,
                    "the model is not asked what else is to be done"
                );
                None
            }
            Err(_) => None,
        }
    }

    /// Makes calls, at most `most`, and gives them back with what became of each.
    async fn run(&self, calls: Vec<Call>, hub: &Arc<Hub>, most: usize) -> Vec<Call> {
        let name = || format!("c{}", CALLS.fetch_add(1, Ordering::Relaxed));
        let mut plan = Plan::new(calls, most, name);
        let mut place: Option<(Step, Place)> = None;
        while let Some(call) = plan.call() {
            if Instant::now() >= self.deadline {
                plan.late();
                break;
            }
            let (stands, generation) = self.standing(call, hub);
            let step = match plan.next(stands) {
                Next::Confirm => Step::Confirm,
                Next::Invoke => Step::Invoke,
                Next::Pass => continue,
                Next::End => break,
            };
            match place.take() {
                Some((of, place)) if of == step => {
                    self.act(step, &mut plan, hub, generation, place).await;
                }
                // The home may change while others have the place: it is looked at once more.
                _ => match timeout_at(self.deadline, hub.place(step)).await {
                    Err(_) => plan.late(),
                    Ok(Err(failure)) => plan.failed(step, failure),
                    Ok(Ok(taken)) => place = Some((step, taken)),
                },
            }
        }
        plan.into_calls()
    }

    /// One step of the plan's call at the hub, at a place there. The hub has as long for it as the
    /// settings say, if the request has; the place is free afterwards, as dropping what it was asked
    /// for tells it so.
    async fn act(
        &self,
        step: Step,
        plan: &mut Plan,
        hub: &Arc<Hub>,
        generation: u64,
        place: Place,
    ) {
        let patience = self.daemon.errands.patience(step);
        let now = Instant::now();
        let until = self.deadline.min(now + patience);
        let left = until.saturating_duration_since(now);
        let Some(call) = self.invocation(plan, generation, left) else {
            return plan.late();
        };
        match step {
            Step::Confirm => {
                let answer = timeout_at(until, hub.confirm(call, place)).await;
                plan.confirmed(answer.unwrap_or(Err(CallFailure::Silent)));
            }
            Step::Invoke => {
                let answer = timeout_at(until, hub.invoke(call, place)).await;
                plan.invoked(answer.unwrap_or(Err(CallFailure::Silent)));
            }
        }
    }

    /// How a call stands in the home as it is now, and which change made that so.
    fn standing(&self, call: &Call, hub: &Arc<Hub>) -> (Standing, u64) {
        let name = ProviderName::parse(&call.provider);
        let uid = self.request.talk.caller.uid;
        let entry = name.and_then(|name| self.daemon.providers().get(uid, &name));
        let entry = entry.ok();
        let generation = entry.as_ref().map_or(0, |entry| entry.generation);
        (standing(call, hub, entry.as_deref()), generation)
    }

    fn invocation(&self, plan: &Plan, generation: u64, left: Duration) -> Option<Invocation> {
        let call = plan.call()?;
        let said = &self.request.said;
        Some(Invocation {
            call_id: call.result.as_ref()?.call_id.clone(),
            tool: call.tool.clone(),
            arguments: call.arguments.clone(),
            targets: call.targets.clone(),
            provider: call.provider.clone(),
            generation,
            text: cleaned(&said.text, TEXT_BYTES_MAX),
            area: said.options.area.clone(),
            device: self.request.device.clone(),
            language: self.language,
            left,
            confirmed: plan.is_confirmed(),
        })
    }
}

/// The end of an answer that no model wrote.
fn told(read: HomeAnswer) -> Done {
    Done {
        reason: FinishReason::Stop,
        usage: Usage::default(),
        timings: Timings::default(),
        model: String::new(),
        kept: None,
        home: Some(Box::new(read)),
    }
}
