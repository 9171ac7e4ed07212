//! A model's tokens, as its metadata has them.

use std::collections::{BTreeSet, HashMap};

use super::derivation::{MAX_TEXT_BYTES, Merging, derive};
use super::{SurgeryError, Token};
use crate::gguf::{Document, Scalars, Texts, Value};

/// The architectures whose tensors are known: of these, `token_embd` and `output` alone have something
/// for each token (llama.cpp's `src/models`).
pub const ARCHITECTURES: [&str; 13] = [
    "cohere2", "gemma", "gemma2", "gemma3", "granite", "lfm2", "llama", "mistral3", "olmo2",
    "phi3", "qwen2", "qwen3", "smollm3",
];

/// So many tokens keep their numbers, whatever they are: llama.cpp takes some of the first for special
/// where the metadata does not say which ones are (up to 11 with `gpt2`).
const FIRST_KEPT: usize = 16;

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokenizer {
    /// Byte-pair encoding: a ranked list of pairs (`gpt2`).
    BytePairs,
    /// `SentencePiece`: a score for each token (`llama`).
    SentencePiece,
}

/// What a token is for (`llama_token_type` of llama.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    /// Never met in text.
    Unused,
    /// A single byte of `SentencePiece`.
    Byte,
    /// Steers the model, or is looked for in text as a whole.
    Special,
}

/// A model's tokens.
#[derive(Debug)]
pub struct Vocabulary<'d> {
    pub(super) tokenizer: Tokenizer,
    pub(super) texts: &'d Texts,
    pub(super) kinds: Vec<Kind>,
    pub(super) ids: HashMap<&'d [u8], Token>,
    pub(super) merging: Merging<'d>,
    /// Tokens that always stay.
    pub(super) fixed: BTreeSet<Token>,
}

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const TYPES: &str = "tokenizer.ggml.token_type";
pub(super) const SCORES: &str = "tokenizer.ggml.scores";
pub(super) const MERGES: &str = "tokenizer.ggml.merges";

fn wrong(key: &str, why: &'static str) -> SurgeryError {
    SurgeryError::Metadata {
        key: key.to_owned(),
        why,
    }
}

fn texts<'d>(document: &'d Document, key: &str) -> Result<&'d Texts, SurgeryError> {
    match document.get(key) {
        Some(Value::Texts(texts)) => Ok(texts),
        Some(_) => Err(wrong(key, "is not a list of texts")),
        None => Err(wrong(key, "is missing")),
    }
}

/// A number for each token.
fn numbers<'d>(
    document: &'d Document,
    key: &str,
    tokens: usize,
) -> Result<&'d Scalars, SurgeryError> {
    match document.get(key) {
        Some(Value::Scalars(numbers)) if numbers.len() == tokens => Ok(numbers),
        Some(_) => Err(wrong(key, "is not one number for each token")),
        None => Err(wrong(key, "is missing")),
    }
}

impl<'d> Vocabulary<'d> {
    /// Reads a model's tokens.
    ///
    /// # Errors
    /// [`SurgeryError`], if it is a model that can't be made smaller.
    pub fn read(document: &'d Document) -> Result<Self, SurgeryError> {
        let architecture = &document.header().architecture;
        if !ARCHITECTURES.contains(&architecture.as_str()) {
            return Err(SurgeryError::Architecture(architecture.clone()));
        }
        let model = document.text("tokenizer.ggml.model").unwrap_or("none");
        let tokenizer = match model {
            "gpt2" => Tokenizer::BytePairs,
            "llama" => Tokenizer::SentencePiece,
            other => return Err(SurgeryError::Tokenizer(other.to_owned())),
        };
        let texts = texts(document, TOKENS)?;
        let kinds = kinds(numbers(document, TYPES, texts.len())?);
        // Where a text is there twice, llama.cpp takes the last.
        let ids: HashMap<&[u8], Token> = texts.iter().zip(0..).collect();
        let merging = match tokenizer {
            Tokenizer::BytePairs => Merging::ranks(self::texts(document, MERGES)?),
            Tokenizer::SentencePiece => {
                let scores = numbers(document, SCORES, texts.len())?;
                let scores: Option<Vec<f32>> = scores.iter().map(|s| s.fraction()).collect();
                Merging::scores(scores.ok_or_else(|| wrong(SCORES, "is not of fractions"))?)
            }
        };
        let mut vocabulary = Self {
            tokenizer,
            texts,
            kinds,
            ids,
            merging,
            fixed: BTreeSet::new(),
        };
        vocabulary.fixed = vocabulary.fixed_tokens(document)?;
        Ok(vocabulary)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// How text becomes tokens.
    pub fn tokenizer(&self) -> Tokenizer {
        self.tokenizer
    }

    /// Tokens that stay whatever text is met: those that steer the model, single bytes and plain
    /// characters, and whatever the metadata names.
    fn fixed_tokens(&self, document: &Document) -> Result<BTreeSet<Token>, SurgeryError> {
        let template = document.text("tokenizer.chat_template").unwrap_or("");
        let mut fixed: BTreeSet<Token> = named(document).collect();
        let mut bytes = 0;
        for ((token, text), kind) in (0..).zip(self.texts.iter()).zip(&self.kinds) {
            let stays = match kind {
                Kind::Byte => {
                    bytes += 1;
                    true
                }
                Kind::Special => !is_placeholder(text) || contains(template.as_bytes(), text),
                Kind::Normal => self.is_plain(text) || is_tag(text),
                Kind::Unused => false,
            };
            if stays || (token as usize) < FIRST_KEPT {
                fixed.insert(token);
            }
        }
        fixed.retain(|token| (*token as usize) < self.len());
        let joined: Vec<Token> = fixed
            .iter()
            .flat_map(|token| self.derivation(*token))
            .collect();
        fixed.extend(joined);
        if self.tokenizer == Tokenizer::SentencePiece && bytes < 256 {
            return Err(SurgeryError::NoBytes);
        }
        Ok(fixed)
    }

    /// The tokens that a token's text is joined of, and itself; nothing where it is too long to tell.
    pub(super) fn derivation(&self, token: Token) -> Vec<Token> {
        let text = self.texts.get(token as usize).unwrap_or(b"");
        if text.is_empty() || text.len() > MAX_TEXT_BYTES {
            return Vec::new();
        }
        let mut tokens = derive(text, &self.merging, &self.ids);
        tokens.push(token);
        tokens
    }

    /// Whether a text is one of the letters that all others are made of: a byte of byte-pair encoding, or
    /// a letter or sign of European scripts (Unicode's blocks up to Armenian's, and General Punctuation to
    /// Currency Symbols). `SentencePiece` learns single letters last, so that they would be the first to
    /// go; of other scripts, which have tens of thousands, a corpus tells which are needed.
    fn is_plain(&self, text: &[u8]) -> bool {
        let mut letters = std::str::from_utf8(text).unwrap_or("").chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => match self.tokenizer {
                Tokenizer::BytePairs => true,
                // SentencePiece writes a space as U+2581.
                Tokenizer::SentencePiece => {
                    matches!(letter, '\0'..'\u{590}' | '\u{2000}'..'\u{20d0}' | '\u{2581}')
                }
            },
            _ => false,
        }
    }
}

fn kinds(types: &Scalars) -> Vec<Kind> {
    let kind = |number| match number {
        Some(1) => Kind::Normal,
        Some(5) => Kind::Unused,
        Some(6) => Kind::Byte,
        _ => Kind::Special,
    };
    types.iter().map(|number| kind(number.unsigned())).collect()
}

/// Whether a key of the metadata tells the number of a token, or several.
pub(super) fn names_tokens(key: &str) -> bool {
    key.starts_with("tokenizer.")
        && (key.ends_with("_token_id")
            || key.ends_with("_token_ids")
            || key == "tokenizer.ggml.suppress_tokens")
}

/// The tokens whose numbers the metadata tells.
fn named(document: &Document) -> impl Iterator<Item = Token> {
    let told = document.pairs().filter(|(key, _)| names_tokens(key));
    let numbers = told.flat_map(|(_, value)| match value {
        Value::Scalar(number) => vec![*number],
        Value::Scalars(numbers) => numbers.iter().collect(),
        _ => Vec::new(),
    });
    numbers.filter_map(|number| Token::try_from(number.unsigned()?).ok())
}

/// `<unused17>`: what a model's makers left for later.
fn is_placeholder(text: &[u8]) -> bool {
    let number = text
        .strip_prefix(b"<unused")
        .and_then(|rest| rest.strip_suffix(b">"));
    number.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

/// A token in angle brackets; llama.cpp knows the ends of answers by such texts.
fn is_tag(text: &[u8]) -> bool {
    text.len() > 2 && text.starts_with(b"<") && text.ends_with(b">")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}
