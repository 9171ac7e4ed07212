//! The messages. Types shared with clients come from `hob-api`; these here are validated ones,
//! made only by `hobd::request`, so the engine need not check their ranges again.

use hob_api::chat::{Class, Role};
use hob_api::event::FinishReason;
use serde::{Deserialize, Serialize};

use crate::constraint::{Constraint, ConstraintFailure};
use crate::embedding::{Embed, EmbedFailure, Embedding};
use crate::gpu::{Found, Offload};
use crate::importance::{Observe, Observed};
use crate::kernels::Level;
use crate::memory::{KvType, Weights};
use crate::passages::{OpenText, OpenTokens, ReadText, Scores, TextOpened, TextRead};
use crate::quantize::Quantize;
use crate::residual::{Control, ReadResidual, ResidualRead};
use crate::score::{Score, ScoreFailure, Scored};
use crate::tokens::{Tokenize, Tokenized};

/// Most requests that an engine works on at once.
pub const PARALLEL_MAX: u32 = 16;
/// Most layers that an engine reports of its sandbox.
pub const LAYERS_MAX: usize = 16;
/// Longest name of a layer or an architecture in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest description of the format of a saved state in bytes.
pub const STATE_FORMAT_BYTES_MAX: usize = 200;
/// Most pinned prefixes that an engine is given.
pub const PINS_MAX: usize = 64;

/// A request's number, unique for the life of hobd and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A pinned prefix's number, unique for the life of hobd and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PinId(pub u64);

impl std::fmt::Display for PinId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// From hobd to the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Close the sandbox, then load the model whose descriptor comes with this message, and with
    /// [`Load::control`] the vector whose memory's descriptor comes second.
    Load(Load),
    /// Instead of [`Command::Load`]: close the sandbox, then store the weights of the model whose
    /// descriptor comes with this anew, in the file whose descriptor comes second.
    Quantize(Quantize),
    /// Instead of [`Command::Load`]: close the sandbox, then read a text with the model for what its matrices
    /// are multiplied with. The descriptors of both, and of the memory for the numbers, come with this.
    Observe(Box<Observe>),
    /// Answer a request.
    Generate(Box<Generate>),
    /// Make embeddings.
    Embed(Box<Embed>),
    /// Tell likelihoods.
    Score(Box<Score>),
    /// Make tokens of a text; answered at once, by [`EngineEvent::Tokenized`].
    Tokenize(Tokenize),
    /// Open a text whose descriptor comes with this message.
    OpenText(OpenText),
    /// Open a text that is tokens already.
    OpenTokens(OpenTokens),
    /// Read on in the open text. Where scores are handed over, a descriptor comes with this message.
    ReadText(ReadText),
    /// Read the residual stream, into the memory whose descriptor comes with this message.
    ReadResidual(Box<ReadResidual>),
    /// Stop answering a request: it ends with `Failed` and [`FailureCode::Cancelled`], unless it
    /// ended before this arrived.
    Cancel {
        /// Which one.
        id: RequestId,
    },
    /// Keep a prefix in memory: restored from the memory whose descriptor comes with this, if one
    /// does, else read when there is nothing else to do.
    Pin(Box<Pin>),
    /// Let go of a pinned prefix.
    Unpin {
        /// Which one.
        id: PinId,
    },
    /// Write a pinned prefix's state into the memory whose descriptor comes with this; answered by
    /// [`EngineEvent::PinSaved`].
    SavePin {
        /// Which one.
        id: PinId,
    },
    /// Keep at most so many bytes of what sequences held before, from now on.
    LimitCache {
        /// 0 to keep nothing.
        bytes: u64,
    },
}

impl Command {
    /// Whether descriptors come with the message's first byte: one, but for messages that begin.
    pub fn brings_descriptor(&self) -> bool {
        match self {
            Self::Load(_)
            | Self::Quantize(_)
            | Self::Observe(_)
            | Self::SavePin { .. }
            | Self::OpenText(_)
            | Self::ReadResidual(_) => true,
            Self::ReadText(read) => read.scores != Scores::Drop,
            Self::Pin(pin) => pin.state_bytes.is_some(),
            Self::Generate(_)
            | Self::Embed(_)
            | Self::Score(_)
            | Self::Tokenize(_)
            | Self::OpenTokens(_)
            | Self::Cancel { .. }
            | Self::Unpin { .. }
            | Self::LimitCache { .. } => false,
        }
    }
}

/// A prefix to keep in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its number.
    pub id: PinId,
    /// The user whose requests may begin with it; `None` for everybody's.
    pub owner: Option<u32>,
    /// What the conversations begin with.
    pub messages: Vec<ChatMessage>,
    /// Bytes of the saved state that comes with this, if one does: what an engine of the same model
    /// and [`Ready::state_format`] wrote.
    pub state_bytes: Option<u64>,
}

/// How to load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// [`crate::VERSION`] of the sender.
    pub version: u32,
    /// What the sandbox must achieve.
    pub sandbox: SandboxPolicy,
    /// Tokens of context for each request; lowered to what the model was trained for.
    pub n_ctx: u32,
    /// Requests worked on at once, 1 to [`PARALLEL_MAX`].
    pub parallel: u32,
    /// Decode threads; `None` for the physical cores that the process may use.
    pub threads: Option<u32>,
    /// Upper bound of the engine's private memory (`RLIMIT_DATA`) in bytes.
    pub memory_bytes_max: Option<u64>,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Where the weights lie.
    pub weights: Weights,
    /// Whether all memory stays in RAM, never swapped out or dropped.
    pub lock: bool,
    /// A Jinja chat template to use instead of the model's own.
    pub chat_template: Option<String>,
    /// Most bytes of what sequences held before that are kept beside them; see
    /// [`Command::LimitCache`].
    pub cache_bytes_max: u64,
    /// When to write by drafts.
    pub drafts: Drafts,
    /// Whether there is memory for a context of embeddings' own, made when first asked for.
    pub embeddings: bool,
    /// What is to be computed on a GPU; `None` for nothing.
    pub gpu: Option<Offload>,
    /// What is added to the residual stream of all that is computed, but for embeddings and for what
    /// [`crate::Command::ReadResidual`] reads.
    pub control: Option<Control>,
}

/// When answers are written by drafts of what may come next, checked several at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drafts {
    /// Where that measures faster.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Wherever something came up before. For tests and measurements.
    Always,
}

impl Drafts {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Off, Self::Always];

    /// The mode's name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Always => "always",
        }
    }
}

/// What the engine does when a layer of its sandbox can't be put in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxPolicy {
    /// Refuse to load the model.
    #[default]
    Required,
    /// Go on with the layers that there are, and report them.
    Degraded,
    /// Put no layer in force. For debuggers only.
    Off,
}

impl SandboxPolicy {
    /// Every policy, the strictest first.
    pub const ALL: [Self; 3] = [Self::Required, Self::Degraded, Self::Off];

    /// The policy's name in settings and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Degraded => "degraded",
            Self::Off => "off",
        }
    }
}

/// One request, validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// Its number.
    pub id: RequestId,
    /// What to answer.
    pub prompt: Prompt,
    /// Longest answer in tokens, at least 1.
    pub max_tokens: u32,
    /// Texts that end the answer: at most 4, each 1 to 256 bytes.
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The user whose earlier requests' computed prefix may be used, and who may use this one's;
    /// `None` for no use of either.
    pub cache_owner: Option<u32>,
    /// How urgent it is.
    pub class: Class,
    /// Whether it may be written by drafts, if [`Load::drafts`] allows.
    pub drafts: bool,
    /// What the answer must be; `None` for any text.
    pub constraint: Option<Constraint>,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// A conversation, to be rendered by the model's chat template.
    Chat(Vec<ChatMessage>),
    /// The same with more to it than words.
    Dialogue(Dialogue),
    /// Plain text to go on from.
    Text(String),
}

impl Prompt {
    /// Whether a chat template renders it.
    pub fn is_chat(&self) -> bool {
        match self {
            Self::Chat(_) | Self::Dialogue(_) => true,
            Self::Text(_) => false,
        }
    }

    /// Its texts in their order, without what the template writes.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::Chat(messages) => messages.iter().map(|m| m.content.as_str()).collect(),
            Self::Dialogue(dialogue) => {
                let parts = dialogue.turns.iter().flat_map(|turn| &turn.parts);
                parts.map(Part::text).collect()
            }
        }
    }
}

/// A conversation with marks of the model's own, or with a word about thinking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialogue {
    /// What was said.
    pub turns: Vec<Turn>,
    /// Whether the model is to think before it answers, for templates that ask for it by the name of
    /// `enable_thinking`; `None` for as they have it.
    pub thinking: Option<bool>,
}

/// One message of a [`Dialogue`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who says it.
    pub role: Role,
    /// What is said, one part behind the other.
    pub parts: Vec<Part>,
}

impl From<ChatMessage> for Turn {
    fn from(message: ChatMessage) -> Self {
        Self {
            role: message.role,
            parts: vec![Part::Text(message.content)],
        }
    }
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Never a source of control tokens.
    Text(String),
    /// As if the template had written it: a control token where the vocabulary has one of this text.
    /// hobd's own, never a caller's.
    Mark(String),
}

impl Part {
    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Mark(text) => text,
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What is said; never a source of control tokens.
    pub content: String,
}

/// How tokens are chosen. All numbers are finite and within the bounds in `hob_api::chat`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 for the likeliest token always.
    pub temperature: f32,
    /// 0 for all.
    pub top_k: u32,
    /// 1 for all.
    pub top_p: f32,
    /// 0 for all.
    pub min_p: f32,
    /// 1 for none.
    pub repeat_penalty: f32,
    /// 0 for none.
    pub frequency_penalty: f32,
    /// 0 for none.
    pub presence_penalty: f32,
    /// `None` for one from the system's random generator.
    pub seed: Option<u32>,
}

impl Sampling {
    /// The likeliest token always, whatever was said before.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        seed: None,
    };
}

/// From the engine to hobd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineEvent {
    /// The sandbox is closed; parsing begins.
    Sandboxed {
        /// The layers in force, at most [`LAYERS_MAX`] of at most [`NAME_BYTES_MAX`] each.
        layers: Vec<String>,
    },
    /// What computes, where [`Load::gpu`] asks for a GPU; parsing has not begun.
    Gpu(Found),
    /// Loading goes on.
    Loading {
        /// 0 to 100, never falling.
        percent: u8,
    },
    /// The model is loaded.
    Ready(Ready),
    /// The weights are stored anew, and the file is closed; the engine exits.
    Quantized,
    /// So much of a text was read for what matrices are multiplied with; after the last window the engine
    /// exits.
    Observed(Observed),
    /// The model can't be loaded, or what else was asked for can't be done; the engine exits.
    LoadFailed {
        /// Why.
        code: LoadFailure,
        /// One sentence.
        message: String,
    },
    /// A prompt is being read; sent at most a few times a second.
    Prefill {
        /// Which request.
        id: RequestId,
        /// Tokens read so far, cached ones included.
        processed: u32,
        /// Tokens in all.
        total: u32,
    },
    /// More of an answer.
    Delta {
        /// Which request.
        id: RequestId,
        /// Whole characters; never empty.
        text: String,
    },
    /// One input's embedding.
    Embedding(Embedding),
    /// The likelihoods of one prompt's continuations.
    Scored(Scored),
    /// A text's tokens.
    Tokenized(Tokenized),
    /// A text is open.
    TextOpened(TextOpened),
    /// What a step told of a passage.
    TextRead(TextRead),
    /// The residual stream was read.
    ResidualRead(ResidualRead),
    /// An answer is complete.
    Finished(Finished),
    /// A request failed.
    Failed {
        /// Which one.
        id: RequestId,
        /// Why.
        code: FailureCode,
        /// One sentence, with no text of the prompt or the answer.
        message: String,
        /// With [`FailureCode::ContextOverflow`], [`EmbedFailure::TooLong`] or [`ScoreFailure::TooLong`]:
        /// tokens of the prompt, or a lower bound of them if it is far too long.
        prompt_tokens: u32,
    },
    /// How far a pinned prefix is.
    Pin {
        /// Which one.
        id: PinId,
        /// How far.
        state: PinState,
    },
    /// The answer to [`Command::SavePin`].
    PinSaved {
        /// Which one.
        id: PinId,
        /// Whether the memory holds its state now: not if it was let go of meanwhile.
        written: bool,
    },
    /// What is kept beside the sequences has changed.
    Cache {
        /// How many prefixes.
        entries: u32,
        /// Their bytes.
        bytes: u64,
    },
    /// The engine lives, and the decode thread got this far.
    Heartbeat {
        /// Operations of steps computed, model tensors loaded and requests begun and ended: grows
        /// while work is done.
        progress: u64,
        /// Whether the decode thread has work. If it has and `progress` stands still for long,
        /// the engine hangs.
        working: bool,
    },
}

/// A loaded model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Tokens of context for each request.
    pub n_ctx: u32,
    /// Tokens that the model was trained for.
    pub n_ctx_train: u32,
    /// Parameters.
    pub parameters: u64,
    /// The architecture's name in GGUF, at most [`NAME_BYTES_MAX`].
    pub architecture: String,
    /// Whether there is a chat template.
    pub chat: bool,
    /// Decode threads.
    pub threads: u32,
    /// Requests worked on at once.
    pub parallel: u32,
    /// What its kernels were compiled for; `None` if for less than the least level.
    pub kernels: Option<Level>,
    /// What a saved state depends on beside the model's file: versions, processor, number formats,
    /// requests at once. Printable ASCII, at most [`STATE_FORMAT_BYTES_MAX`].
    pub state_format: String,
}

/// How far a pinned prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinState {
    /// The saved state does not fit what was pinned or can't be used; the prefix will be read.
    Refused,
    /// It is being read, or waits to be read on; sent at most a few times a second.
    Reading {
        /// Tokens read so far.
        processed: u32,
        /// Tokens in all.
        total: u32,
    },
    /// Requests that begin with it go on from it.
    Ready {
        /// Its tokens.
        tokens: u32,
        /// Bytes of its saved state, for [`Command::SavePin`].
        bytes: u64,
        /// Whether it was restored, not read.
        restored: bool,
    },
    /// It can't be kept.
    Failed {
        /// Why.
        reason: PinFailure,
    },
}

/// Why a prefix can't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinFailure {
    /// Conversations that begin so have too few tokens in common.
    TooShort,
    /// It does not leave room for a question.
    TooLong,
    /// There is no chat template, or it refuses the messages.
    Template,
    /// The cache has no room for it. It is read again when the limit is raised.
    NoRoom,
    /// llama.cpp could not decode.
    Decode,
}

/// A complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Which request.
    pub id: RequestId,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: u32,
    /// Tokens of the answer, its end mark included.
    pub completion_tokens: u32,
    /// Tokens that were drafted for it.
    pub drafted_tokens: u32,
    /// Those of them that are part of it.
    pub accepted_tokens: u32,
    /// Tokens of the answer that the constraint left no choice in, and nobody chose.
    pub forced_tokens: u32,
    /// Steps of the model that computed a part of the answer or what it begins with: the prompt's
    /// last one, and those that wrote. Of likelihoods: all that worked for them.
    pub passes: u32,
    /// From receipt to the end of the prompt, in microseconds.
    pub prefill_us: u64,
    /// From the end of the prompt to the last token, in microseconds.
    pub decode_us: u64,
}

impl Finished {
    /// The end of a request for which `prompt_tokens` were read, and nothing was written.
    pub fn without_answer(id: RequestId, prompt_tokens: u32, prefill_us: u64) -> Self {
        Self {
            id,
            reason: FinishReason::Stop,
            prompt_tokens,
            cached_tokens: 0,
            completion_tokens: 0,
            drafted_tokens: 0,
            accepted_tokens: 0,
            forced_tokens: 0,
            passes: 0,
            prefill_us,
            decode_us: 0,
        }
    }

    /// Whether nothing was written.
    pub fn has_no_answer(&self) -> bool {
        let written = [
            self.completion_tokens,
            self.drafted_tokens,
            self.accepted_tokens,
            self.forced_tokens,
        ];
        written == [0; 4]
    }
}

/// Why a model can't be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadFailure {
    /// hobd and the engine are of different builds, or the first message was none that begins.
    Protocol,
    /// A layer of the sandbox can't be put in force, and the policy requires it.
    Sandbox,
    /// This processor lacks instructions that the engine was built for.
    Cpu,
    /// llama.cpp refuses the file.
    Model,
    /// There is not enough memory.
    Memory,
    /// No GPU computes any of it, and [`Load::gpu`] requires one.
    Gpu,
    /// Memory can't be kept in RAM: the process may not lock as much.
    Lock,
    /// The chat template can't be compiled.
    Template,
    /// llama.cpp can't store the model's weights so.
    Quantize,
    /// The text can't be read for what matrices are multiplied with.
    Observe,
    /// The control vector is none for this model.
    Control,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// As asked.
    Cancelled,
    /// The prompt does not leave room for an answer.
    ContextOverflow,
    /// A chat request to a model without a chat template.
    NoChatTemplate,
    /// The chat template refuses this conversation, or runs too long.
    Template,
    /// llama.cpp could not decode.
    Decode,
    /// More requests at once than `parallel` allows: hobd's mistake.
    Overcommitted,
    /// No embeddings are made.
    Embed(EmbedFailure),
    /// The answer can't be what it must be.
    Constraint(ConstraintFailure),
    /// No likelihoods are told.
    Score(ScoreFailure),
    /// A text can't be opened or read on as asked.
    Text,
}
