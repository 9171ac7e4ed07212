//! A home call written by the model: from an utterance to a constrained answer, and back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hob_api::chat::Class;
use hob_api::event::{Done, FinishReason};
use hob_api::home::{Aid, Call, Decoded, HomeAnswer};
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::constraint::Constraint;
use hob_ipc::message::{ChatMessage, Prompt, Sampling};

use super::DaemonHandle;
use super::home::micros;
use crate::answer::Answer;
use crate::decode::{
    self, ANSWER_TOKENS_MAX, Likely, Round, SHORTLIST_MAX, Scope, Utterance, Written,
};
use crate::home;
use crate::providers::{Entry, ProviderName};
use crate::request::{Asked, Caller, ValidHome, ValidRequest};

/// How long an answer may take, the waiting for other requests included: a slow board reads what a home
/// begins with in a minute, the first time.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What the model is asked.
struct Question {
    messages: Vec<ChatMessage>,
    grammar: Constraint,
    /// Whether the words of the utterance narrowed it.
    narrowed: bool,
}

impl DaemonHandle {
    /// What the model writes about an utterance, in the home that its words fit best.
    pub(super) async fn decode(
        &self,
        uid: u32,
        entries: Vec<Arc<Entry>>,
        said: ValidHome,
    ) -> Result<HomeAnswer, ApiError> {
        let started = Instant::now();
        let said = Arc::new(said);
        let prepared = self.computed(uid, {
            let said = Arc::clone(&said);
            move || {
                let entry = home::nearest(&entries, &said.text, &said.options)?;
                let question = question(&entry, &said)?;
                Ok((entry, question))
            }
        });
        let (entry, question) = prepared.await?;
        self.providers().want(&entry);
        let asked = Instant::now();
        let (text, done) = self.asked(uid, &question).await?;
        let mut answer = written(&entry, &text, &done)?;
        answer.decoded = Some(Decoded {
            model: done.model,
            narrowed: question.narrowed,
            text,
            asked_us: micros(asked.duration_since(started)),
            usage: done.usage,
            timings: done.timings,
            follow_ups: Vec::new(),
        });
        answer.read_us = micros(started.elapsed());
        Ok(answer)
    }

    /// What the model wants done besides, now that something came of `rounds`: what it wrote, and its
    /// calls in the home as it is now. `None` if nothing may follow from what was said.
    pub(super) async fn decode_further(
        &self,
        uid: u32,
        name: &ProviderName,
        said: ValidHome,
        rounds: Vec<Round>,
    ) -> Result<Option<(String, Vec<Call>)>, ApiError> {
        let entry = self.providers().get(uid, name)?;
        let prepared = self.computed(uid, {
            let entry = Arc::clone(&entry);
            move || further(&entry, &said, &rounds)
        });
        let Some((question, scope)) = prepared.await? else {
            return Ok(None);
        };
        let (text, _) = self.asked(uid, &question).await?;
        let calls = entry.world.read_further(&entry.provider, &scope, &text);
        let calls = calls.map_err(|error| {
            tracing::warn!(%error, "what else is to be done can't be read");
            super::internal("the model wrote what is no answer")
        })?;
        let answer = home::written(&entry, Written::Calls(calls))?;
        Ok(Some((text, answer.calls)))
    }

    /// What the model answers, in a conversation or, if it knows none, as text to go on from.
    async fn asked(&self, uid: u32, question: &Question) -> Result<(String, Done), ApiError> {
        let ask = async |prompt| {
            let request = request(uid, prompt, question.grammar.clone());
            whole(self.submit_alone(request).await?).await
        };
        match ask(Prompt::Chat(question.messages.clone())).await {
            Err(error) if error.code == ErrorCode::Unsupported => {
                ask(Prompt::Text(decode::plain(&question.messages))).await
            }
            answered => answered,
        }
    }
}

/// What the model is asked about `said`.
fn question(entry: &Entry, said: &ValidHome) -> Result<Question, ApiError> {
    let (provider, world) = (&entry.provider, &entry.world);
    let narrowed = !world.is_whole() || !said.options.without.contains(&Aid::Narrowing);
    let scope = narrowed.then(|| {
        let (likely, commands) = shortlist(entry, said);
        Scope::narrow(&likely, &said.text, commands)
    });
    let asked = world.question(provider, utterance(said), scope.as_ref());
    let (messages, grammar) = asked.ok_or_else(too_many_values)?;
    Ok(Question {
        messages,
        grammar,
        narrowed,
    })
}

/// What the model is asked when something came of its calls, and what it may answer about.
fn further(
    entry: &Entry,
    said: &ValidHome,
    rounds: &[Round],
) -> Result<Option<(Question, Scope)>, ApiError> {
    let (likely, _) = shortlist(entry, said);
    let scope = Scope::further(&entry.provider, likely, &said.text);
    if scope.is_empty() {
        return Ok(None);
    }
    let asked = (entry.world).further(&entry.provider, utterance(said), &scope, rounds);
    let (messages, grammar) = asked.ok_or_else(too_many_values)?;
    let question = Question {
        messages,
        grammar,
        narrowed: true,
    };
    Ok(Some((question, scope)))
}

/// What the words suggest, and of how many commands.
fn shortlist(entry: &Entry, said: &ValidHome) -> (Vec<Likely>, usize) {
    let (text, options) = (&said.text, &said.options);
    home::shortlist(&entry.provider, &entry.index, text, options, SHORTLIST_MAX)
}

fn utterance(said: &ValidHome) -> Utterance<'_> {
    Utterance {
        text: &said.text,
        area: said.options.area.as_deref(),
    }
}

fn too_many_values() -> ApiError {
    let message = "this home's arguments have too many values";
    ApiError::new(ErrorCode::Unsupported, message).hint("give fewer, or read it by its words")
}

/// The likeliest tokens, for somebody who has spoken and stands there.
fn request(uid: u32, prompt: Prompt, grammar: Constraint) -> ValidRequest {
    ValidRequest {
        caller: Caller { uid },
        model: None,
        conversation: None,
        prompt: Asked::Plain(prompt),
        thinking: None,
        max_tokens: ANSWER_TOKENS_MAX,
        stop: Vec::new(),
        sampling: Sampling::GREEDY,
        timeout: TIMEOUT,
        class: Class::Voice,
        cache: true,
        keep_alive: None,
        drafts: true,
        constraint: Some(grammar),
    }
}

/// The answer's text, and what it tells of itself.
async fn whole(mut events: Answer) -> Result<(String, Done), ApiError> {
    let mut text = String::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Delta { text: more } => text += &more,
            Event::Done(done) => return Ok((text, done)),
            Event::Error { error } => return Err(error),
            _ => {}
        }
    }
    Err(super::internal("hobd lost track of this request"))
}

/// What was written, as an answer. What was cut means nothing, and is asked about.
fn written(entry: &Arc<Entry>, text: &str, done: &Done) -> Result<HomeAnswer, ApiError> {
    match entry.world.read(&entry.provider, text) {
        Ok(written) => home::written(entry, written),
        Err(_) if done.reason == FinishReason::Length => home::cut(entry),
        Err(error) => {
            tracing::error!(%error, "an answer was written that its grammar does not allow");
            Err(super::internal("the model wrote what is no answer"))
        }
    }
}
