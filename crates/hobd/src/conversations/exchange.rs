//! A request within a conversation, from its first message to the turn on the disk.
//!
//! The engine's answer passes through a task of its own here. The task hands progress on as it
//! comes, and the end when the turn is stored; a client that goes away takes the task's reader
//! with it, which cancels the request as everywhere.

use std::time::Instant;

use futures_util::StreamExt as _;
use hob_api::chat::Role;
use hob_api::conversation::{Kept, Truncate};
use hob_api::event::Done;
use hob_api::{ApiError, ErrorCode, Event};
use hob_ipc::message::{ChatMessage, Prompt};

use super::error::StoreError;
use super::store::{Context, NewTurn};
use super::{Belonging, ConversationId, Conversations};
use crate::answer::{self, Answer, AnswerSender, Undelivered};
use crate::daemon::DaemonHandle;
use crate::request::{Asked, MESSAGES_MAX, TEXT_BYTES_MAX, ValidRequest};

/// How often a conversation that has outgrown the context is tried, each time with fewer turns;
/// the last try leaves out all of them.
const TRIES_MAX: u32 = 5;
/// Longest answer that is stored, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Hands in `request`, with the stored turns before its messages.
///
/// # Errors
/// See [`Conversations::submit`].
pub(super) async fn begin(
    conversations: Conversations,
    daemon: DaemonHandle,
    request: ValidRequest,
    belonging: Belonging,
) -> Result<Answer, ApiError> {
    let uid = request.caller.uid;
    let occupied = conversations.occupy(uid, &belonging.id)?;
    let (request, system, messages) = split(request)?;
    let id = belonging.id.clone();
    let read = conversations
        .writer()?
        .read(move |store| store.context(uid, &id))
        .await;
    let mut exchange = Exchange {
        deadline: Instant::now() + request.timeout,
        conversations,
        daemon,
        request,
        belonging,
        system,
        messages,
        context: read.map_err(super::refused)?,
        left_out: 0,
    };
    exchange.leave_out_at_first()?;
    let answer = exchange.submit().await?;
    let (sender, reader) = answer::relay(answer.id());
    tokio::spawn(async move {
        let end = exchange.run(answer, &sender).await;
        // Free before the client hears of the end, and may ask again.
        drop(occupied);
        if let Some(end) = end {
            sender.finish(end);
        }
    });
    Ok(reader)
}

/// The request without its messages, the instructions among them, and the others.
fn split(
    request: ValidRequest,
) -> Result<(ValidRequest, Option<String>, Vec<ChatMessage>), ApiError> {
    let mut request = request;
    let empty = Asked::Plain(Prompt::Chat(Vec::new()));
    let prompt = std::mem::replace(&mut request.prompt, empty);
    request.conversation = None;
    let Asked::Plain(Prompt::Chat(mut messages)) = prompt else {
        return Err(ApiError::new(
            ErrorCode::Internal,
            "no words of a chat came with a conversation",
        ));
    };
    let system = match messages.first() {
        Some(first) if first.role == Role::System => Some(messages.remove(0).content),
        _ => None,
    };
    let misplaced = messages.iter().any(|message| message.role == Role::System);
    if misplaced || messages.last().is_none_or(|last| last.role != Role::User) {
        return Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "`messages` of a conversation must be the new ones: instructions at most first, a \
             question last",
        )
        .param("messages")
        .hint("leave out what is stored already: hobd puts it in front"));
    }
    Ok((request, system, messages))
}

/// One request within a conversation.
struct Exchange {
    conversations: Conversations,
    daemon: DaemonHandle,
    /// Everything but the messages.
    request: ValidRequest,
    belonging: Belonging,
    /// Instructions that take the place of the conversation's.
    system: Option<String>,
    messages: Vec<ChatMessage>,
    context: Context,
    /// How many of the oldest turns the prompt does without.
    left_out: u32,
    deadline: Instant,
}

impl Exchange {
    /// Turns that the prompt has.
    fn turns(&self) -> &[Vec<ChatMessage>] {
        let skipped = self.left_out.saturating_sub(self.context.unread);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.context.turns.get(skipped..).unwrap_or_default()
    }

    fn prompt(&self) -> Vec<ChatMessage> {
        let mut prompt = Vec::new();
        prompt.extend(self.instructions().map(|text| ChatMessage {
            role: Role::System,
            content: text.clone(),
        }));
        prompt.extend(self.turns().iter().flatten().cloned());
        prompt.extend(self.messages.iter().cloned());
        prompt
    }

    /// Leaves out what was left out last time, so that the prompt begins as the last one did and
    /// the engine need not read it again; and what no request may have.
    fn leave_out_at_first(&mut self) -> Result<(), ApiError> {
        let all = self.context.unread + u32::try_from(self.context.turns.len()).unwrap_or(u32::MAX);
        if self.belonging.truncate == Truncate::Oldest {
            let n_ctx = self.n_ctx();
            let same = n_ctx == 0 || n_ctx == self.context.left_out_for;
            let before = if same { self.context.left_out } else { 0 };
            self.left_out = before.max(self.context.unread).min(all);
        }
        // One turn at a time, by counting: the prompt is put together when it fits.
        let mut messages = self.messages.len() + usize::from(self.instructions().is_some());
        messages += self.turns().iter().map(Vec::len).sum::<usize>();
        let mut text = self.bytes();
        let mut dropped = 0;
        for turn in self.turns() {
            if messages <= MESSAGES_MAX && text <= TEXT_BYTES_MAX {
                break;
            }
            messages -= turn.len();
            text -= bytes(turn);
            dropped += 1;
        }
        let fits = messages <= MESSAGES_MAX && text <= TEXT_BYTES_MAX;
        let whole = dropped == 0 && self.left_out >= self.context.unread;
        if !fits || (!whole && self.belonging.truncate == Truncate::Never) {
            let message = "this conversation has outgrown what one request may hold";
            return Err(way_on(ApiError::new(ErrorCode::ContextOverflow, message)));
        }
        self.left_out += dropped;
        Ok(())
    }

    /// Bytes of text in the prompt.
    fn bytes(&self) -> usize {
        let turns: usize = self.turns().iter().map(|turn| bytes(turn)).sum();
        turns + bytes(&self.messages) + self.instructions().map_or(0, String::len)
    }

    fn instructions(&self) -> Option<&String> {
        let system = self.system.as_ref().or(self.context.system.as_ref());
        system.filter(|text| !text.is_empty())
    }

    fn n_ctx(&self) -> u32 {
        let status = self.daemon.status();
        let status = status.borrow();
        status.model.as_ref().map_or(0, |model| model.n_ctx)
    }

    async fn submit(&self) -> Result<Answer, ApiError> {
        let mut request = self.request.clone();
        request.prompt = Asked::Plain(Prompt::Chat(self.prompt()));
        request.timeout = self.deadline.saturating_duration_since(Instant::now());
        self.daemon.submit_alone(request).await
    }

    /// Gets the answer, and stores the turn; returns the answer's end, or `None` if the reader has
    /// gone.
    async fn run(mut self, mut answer: Answer, sender: &AnswerSender) -> Option<Event> {
        let mut text = String::new();
        let mut tries = 1;
        loop {
            let event = tokio::select! {
                biased;
                () = sender.reader_gone() => return None,
                event = answer.next() => event?,
            };
            match event {
                Event::Done(done) => return Some(Event::Done(self.keep(done, text).await)),
                Event::Error { error } => {
                    if !self.leave_out_more(&error, tries) {
                        return Some(Event::Error {
                            error: self.explain(error),
                        });
                    }
                    tries += 1;
                    match self.submit().await {
                        Ok(again) => answer = again,
                        Err(error) => return Some(Event::Error { error }),
                    }
                }
                progress => {
                    if let Event::Delta { text: more } = &progress
                        && text.len() <= ANSWER_BYTES_MAX
                    {
                        text.push_str(more);
                    }
                    match sender.progress(progress) {
                        Ok(()) => {}
                        Err(Undelivered::ReaderGone) => return None,
                        Err(Undelivered::ReaderTooSlow) => {
                            return Some(Event::Error {
                                error: answer::too_slow(),
                            });
                        }
                    }
                }
            }
        }
    }

    /// Leaves out more turns if the prompt was too long and that is allowed: as many as the counts
    /// of the error tell, so that a quarter of the context stays free, or more for a long answer.
    /// Otherwise every turn would push another one out, and the engine would read all of the prompt
    /// each time.
    fn leave_out_more(&mut self, error: &ApiError, tries: u32) -> bool {
        let left = self.turns().len();
        let may = self.belonging.truncate == Truncate::Oldest
            && error.code == ErrorCode::ContextOverflow
            && tries < TRIES_MAX;
        if !may || left == 0 {
            return false;
        }
        let (tokens, n_ctx) = (error.prompt_tokens.unwrap_or(0), error.n_ctx.unwrap_or(0));
        let free = (n_ctx / 4).max(self.request.max_tokens.min(n_ctx / 2));
        let budget = u64::from(n_ctx - free);
        let last = tries + 1 == TRIES_MAX;
        let now = self.bytes() as u64;
        let allowed = now * budget / u64::from(tokens.max(1));
        let mut rest = now;
        let mut dropped = 0;
        for turn in self.turns() {
            if dropped > 0 && rest <= allowed && !last {
                break;
            }
            rest = rest.saturating_sub(bytes(turn) as u64);
            dropped += 1;
        }
        self.left_out += dropped;
        true
    }

    /// The error, with what it means for the conversation.
    fn explain(&self, error: ApiError) -> ApiError {
        if error.code != ErrorCode::ContextOverflow || self.turns().is_empty() {
            return error;
        }
        let message = format!(
            "this conversation has outgrown the context: {}",
            error.message
        );
        way_on(ApiError { message, ..error })
    }

    /// Stores the turn, and tells in the end of the answer what became of it.
    async fn keep(self, mut done: Done, text: String) -> Done {
        let id = self.belonging.id.clone();
        let left_out = self.left_out;
        let stored = self.store(&done.model, text).await;
        done.kept = Some(Kept {
            conversation: id.as_str().to_owned(),
            stored: stored.is_ok(),
            store_problem: stored.err().map(|error| error.to_string()),
            dropped_turns: left_out,
        });
        done
    }

    async fn store(mut self, model: &str, text: String) -> Result<(), StoreError> {
        if text.len() > ANSWER_BYTES_MAX {
            let message = format!("the answer has more than {ANSWER_BYTES_MAX} bytes");
            return Err(StoreError::Quota(message));
        }
        self.messages.push(ChatMessage {
            role: Role::Assistant,
            // No prompt may have one, and the answer is part of the next.
            content: text.replace('\0', "\u{fffd}"),
        });
        let (left_out, left_out_for) = match self.belonging.truncate {
            Truncate::Oldest => (self.left_out, self.n_ctx()),
            Truncate::Never => (self.context.left_out, self.context.left_out_for),
        };
        let turn = NewTurn {
            system: self.system,
            messages: self.messages,
            model: model.to_owned(),
            left_out,
            left_out_for,
        };
        let (uid, id): (u32, ConversationId) = (self.request.caller.uid, self.belonging.id);
        let Some(writer) = &self.conversations.writer else {
            return Err(StoreError::NotFound);
        };
        writer
            .write(move |store| store.commit(uid, &id, &turn))
            .await
    }
}

fn bytes(messages: &[ChatMessage]) -> usize {
    messages.iter().map(|message| message.content.len()).sum()
}

fn way_on(error: ApiError) -> ApiError {
    error.hint(
        "start a new conversation, or let its oldest turns be left out with \
         \"truncate\": \"oldest\"",
    )
}
