//! `/hob/v1/home`: from what somebody says to a call that exists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{Timings, Usage};
use crate::provider::Scalar;

/// Longest utterance in bytes.
pub const UTTERANCE_BYTES_MAX: usize = 2000;
/// Most calls that one utterance can be let do.
pub const ROUNDS_MAX: u32 = 16;
/// Most calls that are done for one utterance unless it says otherwise.
pub const ROUNDS_DEFAULT: u32 = 8;
/// How often a model can be asked whether more follows from what came of its calls.
pub const FOLLOW_UPS_MAX: u32 = 3;

/// The body of `POST /hob/v1/home`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeRequest {
    /// What somebody said.
    pub text: String,
    /// The provider that is meant; absent for all of the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The room in which it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<String>,
    /// Who reads it.
    #[serde(default, skip_serializing_if = "Reader::is_words")]
    pub reader: Reader,
    /// Aids to leave out, to measure what they are worth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Aid>,
    /// The least probability of a call, from 0 to 1; below it the outcome is `unsure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_probability: Option<f64>,
    /// Whether it is to be done, and answered in words, instead of only read.
    #[serde(default, skip_serializing_if = "is_false")]
    pub execute: bool,
    /// What it was said to, for the hub; with `execute` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The language of the reply; absent for that of what was said. With `execute` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Most calls that are done, 1 to [`ROUNDS_MAX`]; absent for [`ROUNDS_DEFAULT`]. With `execute`
    /// alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// How often the model is asked whether more follows from what the hub told of its calls, 0 to
    /// [`FOLLOW_UPS_MAX`]; absent for 0. With `execute` and [`Reader::Model`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_ups: Option<u32>,
    /// Until when it must be done, in milliseconds from now; absent for hobd's setting. With
    /// `execute` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A language in which hob speaks of the home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// German.
    #[serde(rename = "de")]
    German,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 2] = [Self::English, Self::German];

    /// The language's name on the wire: its code in ISO 639-1.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }
}

/// Who reads an utterance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// Its words are compared with those of the home.
    #[default]
    Words,
    /// The model writes what it means, and can write nothing that does not exist.
    Model,
}

impl Reader {
    /// Every reader.
    pub const ALL: [Self; 2] = [Self::Words, Self::Model];

    /// The reader's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Model => "model",
        }
    }

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_words(&self) -> bool {
        *self == Self::Words
    }
}

/// Something that helps to read an utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aid {
    /// The provider's examples: words that go with a tool.
    Examples,
    /// The targets that examples name: words that go with a target, and how often it is meant.
    Learned,
    /// A word that few targets share says more than one that many share.
    Rarity,
    /// Misspelt, compound and shortened words are recognised.
    Fuzzy,
    /// What common words of English and German mean: off, schließen, lamp.
    Lexicon,
    /// Kinds of target that an utterance names.
    Kinds,
    /// Opposites of what a tool does count against it.
    Antonyms,
    /// `second`, `zwei` and `2` are the same.
    Ordinals,
    /// Words that a call leaves unexplained count against it.
    Unexplained,
    /// The model chooses among what the words suggest, and not among all that there is.
    Narrowing,
}

impl Aid {
    /// Every aid.
    pub const ALL: [Self; 10] = [
        Self::Examples,
        Self::Learned,
        Self::Rarity,
        Self::Fuzzy,
        Self::Lexicon,
        Self::Kinds,
        Self::Antonyms,
        Self::Ordinals,
        Self::Unexplained,
        Self::Narrowing,
    ];

    /// The aid's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Examples => "examples",
            Self::Learned => "learned",
            Self::Rarity => "rarity",
            Self::Fuzzy => "fuzzy",
            Self::Lexicon => "lexicon",
            Self::Kinds => "kinds",
            Self::Antonyms => "antonyms",
            Self::Ordinals => "ordinals",
            Self::Unexplained => "unexplained",
            Self::Narrowing => "narrowing",
        }
    }
}

/// What is to be done about an utterance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The calls.
    Call,
    /// Somebody asks how a target is.
    Question,
    /// One of the candidates may be meant; ask which.
    Unsure,
    /// It is about the home, and the home can't do it.
    Cannot,
    /// It is not about the home.
    #[default]
    Talk,
}

impl Outcome {
    /// The outcome's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Question => "question",
            Self::Unsure => "unsure",
            Self::Cannot => "cannot",
            Self::Talk => "talk",
        }
    }
}

/// A call that exists: its tool and targets are registered, its arguments fit the tool's schema.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The provider.
    pub provider: String,
    /// The tool.
    pub tool: String,
    /// Ids of the targets; empty if the tool acts on none.
    pub targets: Vec<String>,
    /// The arguments.
    pub arguments: BTreeMap<String, Scalar>,
    /// How probable it is that this is meant, from 0 to 1; 1 where a model wrote it, which says
    /// nothing of what else may be meant.
    pub probability: f64,
    /// Whether the hub must ask back first: the tool is dangerous, or says so.
    pub needs_confirmation: bool,
    /// What became of it; absent if it was only read.
    #[serde(flatten)]
    pub result: Option<CallResult>,
}

/// What became of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallResult {
    /// The name under which the hub was told of it.
    pub call_id: String,
    /// How it ended.
    pub status: CallStatus,
    /// What the hub wants said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech: Option<String>,
    /// Why it was not done, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What else the hub told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Scalar>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// The hub says that it is done.
    Done,
    /// The hub says that it is not, or nothing that can be understood.
    Failed,
    /// Nobody confirmed it, so it was not done.
    Refused,
    /// The hub had not answered when the time was over.
    Unanswered,
    /// The hub went before it answered.
    Lost,
    /// It was not begun.
    #[default]
    Skipped,
}

impl CallStatus {
    /// The status's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
        }
    }
}

/// The answer to `POST /hob/v1/home`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HomeAnswer {
    /// Always `home`.
    pub object: String,
    /// What is to be done.
    pub outcome: Outcome,
    /// The calls, in order; with [`Outcome::Call`] alone.
    pub calls: Vec<Call>,
    /// What else may be meant, the most probable first; with [`Outcome::Unsure`], all that may be.
    pub alternatives: Vec<Call>,
    /// Ids of the targets that are asked about; with [`Outcome::Question`] alone.
    pub targets: Vec<String>,
    /// What is asked about them, and the answer as far as their state tells; with
    /// [`Outcome::Question`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The provider whose targets those are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What was said besides the calls, and is not done, in the words in which it was said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What an argument may be for which another value was said; with [`Outcome::Cannot`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// What to say to who said it; if it was to be done alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Why there is no call, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The generation of each provider that was read against.
    pub generations: BTreeMap<String, u64>,
    /// How long the reading took, in microseconds; the model's part included, if it has any.
    pub read_us: u64,
    /// What the model did; with [`Reader::Model`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoded: Option<Decoded>,
}

/// Which figures an argument takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// The provider.
    pub provider: String,
    /// The tool.
    pub tool: String,
    /// Ids of the targets.
    pub targets: Vec<String>,
    /// The argument.
    pub argument: String,
    /// The least that it takes, if there is a least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<String>,
    /// The most that it takes, if there is a most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<String>,
    /// Its unit as it is written, if its name or description tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// What a question asks about its targets, and what their state says to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// How it is asked.
    pub form: AskedForm,
    /// Ids of the targets for which it is so; empty for [`AskedForm::How`].
    pub holds: Vec<String>,
    /// Ids of those for which it is not. Of the others it is not known.
    pub fails: Vec<String>,
    /// The word that asks for a value, if one does; if there are no `values`, it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The values that are asked for; empty for the whole state.
    pub values: Vec<AskedValue>,
}

/// How a question asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedForm {
    /// How targets are.
    #[default]
    How,
    /// Whether something is so.
    Whether,
    /// For which of the targets it is so.
    Which,
    /// For how many it is so.
    Count,
}

/// A value of a target's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedValue {
    /// The target's id.
    pub target: String,
    /// The value's name.
    pub name: String,
    /// The value.
    pub value: Scalar,
}

/// How the model came to an answer about a home.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decoded {
    /// The model.
    pub model: String,
    /// Whether it chose among what the words suggest.
    pub narrowed: bool,
    /// What it wrote.
    pub text: String,
    /// How long it took to make the question of the utterance, in microseconds.
    pub asked_us: u64,
    /// Tokens, and steps of the model.
    pub usage: Usage,
    /// How long the model took.
    pub timings: Timings,
    /// What it wrote each time that it was asked whether more follows; of that, tokens and time are
    /// not counted above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<String>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
