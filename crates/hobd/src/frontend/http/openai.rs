//! Events in `OpenAI`'s shapes.

use hob_api::chat::{
    AssistantMessage, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, Role,
};
use hob_api::completion::{Completion, CompletionChoice};
use hob_api::event::{Done, FinishReason, Usage};
use hob_api::tools::{FunctionDelta, ToolCall, ToolCallDelta, ToolKind};
use hob_ipc::RequestId;
use serde::Serialize;

/// Which of the two APIs an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
}

/// What is the same in every record of one answer.
#[derive(Clone, Debug)]
pub(super) struct Heading {
    pub(super) api: Api,
    pub(super) id: RequestId,
    /// Seconds since the Unix epoch.
    pub(super) created: u64,
    pub(super) model: String,
}

/// What an answer holds.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// What the model thought before.
    pub(super) reasoning: String,
    /// Its text.
    pub(super) text: String,
    /// Its calls.
    pub(super) calls: Vec<ToolCall>,
}

/// An answer that does not stream.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Whole {
    Chat(ChatCompletion),
    Completion(Completion),
}

/// One record of an answer that streams.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Record {
    Chat(ChatChunk),
    Completion(Completion),
}

impl Heading {
    /// The whole answer, by the model that gave it.
    pub(super) fn whole(mut self, said: Said, done: Done) -> Whole {
        let Said {
            reasoning,
            text,
            calls,
        } = said;
        self.model = done.model;
        match self.api {
            Api::Chat => Whole::Chat(ChatCompletion {
                id: self.number(),
                object: "chat.completion".to_owned(),
                created: self.created,
                model: self.model,
                choices: vec![ChatChoice {
                    index: 0,
                    message: AssistantMessage {
                        role: Role::Assistant,
                        content: (calls.is_empty() || !text.is_empty()).then_some(text),
                        reasoning_content: (!reasoning.is_empty()).then_some(reasoning),
                        tool_calls: (!calls.is_empty()).then_some(calls),
                    },
                    logprobs: None,
                    finish_reason: done.reason,
                }],
                usage: done.usage,
                timings: Some(done.timings),
                kept: done.kept,
            }),
            Api::Completion => {
                let mut completion = self.completion(text, Some(done.reason));
                completion.usage = Some(done.usage);
                completion.timings = Some(done.timings);
                Whole::Completion(completion)
            }
        }
    }

    /// The record before all text: in a chat, it says who speaks.
    pub(super) fn opening(&self) -> Option<Record> {
        (self.api == Api::Chat).then(|| {
            self.chunk(
                ChatDelta {
                    role: Some(Role::Assistant),
                    content: Some(String::new()),
                    ..ChatDelta::default()
                },
                None,
            )
        })
    }

    /// More text.
    pub(super) fn delta(&self, text: String) -> Record {
        match self.api {
            Api::Chat => self.chunk(
                ChatDelta {
                    content: Some(text),
                    ..ChatDelta::default()
                },
                None,
            ),
            Api::Completion => Record::Completion(self.completion(text, None)),
        }
    }

    /// More of what the model thinks, which has no place in a text completion.
    pub(super) fn reasoning(&self, text: String) -> Option<Record> {
        let delta = ChatDelta {
            reasoning_content: Some(text),
            ..ChatDelta::default()
        };
        (self.api == Api::Chat).then(|| self.chunk(delta, None))
    }

    /// A call that begins.
    pub(super) fn call(&self, index: u32, id: String, name: String) -> Record {
        self.call_delta(ToolCallDelta {
            index,
            id: Some(id),
            kind: Some(ToolKind::Function),
            function: FunctionDelta {
                name: Some(name),
                arguments: Some(String::new()),
            },
        })
    }

    /// More of a call's arguments.
    pub(super) fn arguments(&self, index: u32, text: String) -> Record {
        self.call_delta(ToolCallDelta {
            index,
            id: None,
            kind: None,
            function: FunctionDelta {
                name: None,
                arguments: Some(text),
            },
        })
    }

    fn call_delta(&self, delta: ToolCallDelta) -> Record {
        let delta = ChatDelta {
            tool_calls: Some(vec![delta]),
            ..ChatDelta::default()
        };
        self.chunk(delta, None)
    }

    /// The record after all text.
    pub(super) fn ending(&self, done: &Done) -> Record {
        match self.api {
            Api::Chat => {
                let mut record = self.chunk(ChatDelta::default(), Some(done.reason));
                if let Record::Chat(chunk) = &mut record {
                    chunk.timings = Some(done.timings);
                    chunk.kept.clone_from(&done.kept);
                }
                record
            }
            Api::Completion => {
                let mut completion = self.completion(String::new(), Some(done.reason));
                completion.timings = Some(done.timings);
                Record::Completion(completion)
            }
        }
    }

    /// The record with the usage and no choice, for clients that asked for it.
    pub(super) fn usage(&self, usage: Usage) -> Record {
        match self.api {
            Api::Chat => Record::Chat(ChatChunk {
                choices: Vec::new(),
                usage: Some(usage),
                ..self.bare_chunk()
            }),
            Api::Completion => {
                let mut completion = self.completion(String::new(), None);
                completion.choices.clear();
                completion.usage = Some(usage);
                Record::Completion(completion)
            }
        }
    }

    fn number(&self) -> String {
        match self.api {
            Api::Chat => format!("chatcmpl-{}", self.id),
            Api::Completion => format!("cmpl-{}", self.id),
        }
    }

    fn bare_chunk(&self) -> ChatChunk {
        ChatChunk {
            id: self.number(),
            object: "chat.completion.chunk".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices: Vec::new(),
            usage: None,
            timings: None,
            kept: None,
        }
    }

    fn chunk(&self, delta: ChatDelta, finish_reason: Option<FinishReason>) -> Record {
        Record::Chat(ChatChunk {
            choices: vec![ChatChunkChoice {
                index: 0,
                delta,
                logprobs: None,
                finish_reason,
            }],
            ..self.bare_chunk()
        })
    }

    fn completion(&self, text: String, finish_reason: Option<FinishReason>) -> Completion {
        Completion {
            id: self.number(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices: vec![CompletionChoice {
                index: 0,
                text,
                logprobs: None,
                finish_reason,
            }],
            usage: None,
            timings: None,
        }
    }
}
