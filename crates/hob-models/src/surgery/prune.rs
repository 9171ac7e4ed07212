//! The model that has some of a model's tokens.

use super::vocabulary::{MERGES, SCORES, TOKENS, TYPES, names_tokens};
use super::{SurgeryError, Token, Vocabulary};
use crate::gguf::{Document, Rewrite, Scalar, Tensor, Texts, Value};

/// Tensors with something for each token, in their last dimension.
const BY_TOKEN: [&str; 3] = ["token_embd.weight", "output.weight", "output.bias"];
/// A description of the whole tokenizer in another format, which would no longer be true.
const OTHER_DESCRIPTION: &str = "tokenizer.huggingface.json";

/// The model that has of `document`'s tokens, which `vocabulary` was read from, those in `kept`, rising,
/// and is the same otherwise.
///
/// # Errors
/// [`SurgeryError::Embedding`], or when something has a part for each token that is not known to.
pub fn prune(
    document: &Document,
    vocabulary: &Vocabulary<'_>,
    kept: &[Token],
) -> Result<Rewrite, SurgeryError> {
    let mut rewrite = Rewrite::of(document);
    prune_within(&mut rewrite, document, vocabulary, kept)?;
    Ok(rewrite)
}

/// The same within a file in the making that has all of `document`'s tokens still.
///
/// # Errors
/// As of [`prune()`].
pub fn prune_within(
    rewrite: &mut Rewrite,
    document: &Document,
    vocabulary: &Vocabulary<'_>,
    kept: &[Token],
) -> Result<(), SurgeryError> {
    let all = vocabulary.len();
    for (key, value) in document.pairs() {
        match changed(key, value, vocabulary, kept)? {
            Change::None => {}
            Change::Set(value) => rewrite.set(key, value),
            Change::Remove => rewrite.remove(key),
        }
    }
    let size = format!("{}.vocab_size", document.header().architecture);
    if let Some(Value::Scalar(number)) = document.get(&size) {
        let fewer = number.replaced(kept.len() as u64);
        let fewer = fewer.ok_or_else(|| wrong(&size, "is not a whole number"))?;
        rewrite.set(&size, Value::Scalar(fewer));
    }
    let mut embeds = false;
    for tensor in document.tensors() {
        if by_token(tensor, all)? {
            embeds |= tensor.name() == BY_TOKEN[0];
            if !rewrite.keep_slices(tensor.name(), kept) {
                return Err(SurgeryError::Tensor(tensor.name().to_owned()));
            }
        }
    }
    if embeds {
        Ok(())
    } else {
        Err(SurgeryError::Embedding)
    }
}

/// Whether a tensor has something for each token.
fn by_token(tensor: &Tensor, all: usize) -> Result<bool, SurgeryError> {
    let dimensions = tensor.dimensions();
    let is_last = dimensions.last() == Some(&(all as u64));
    if BY_TOKEN.contains(&tensor.name()) {
        return if is_last && dimensions.len() <= 2 {
            Ok(true)
        } else {
            Err(SurgeryError::Embedding)
        };
    }
    if dimensions.contains(&(all as u64)) {
        return Err(SurgeryError::Tensor(tensor.name().to_owned()));
    }
    Ok(false)
}

enum Change {
    None,
    Set(Value),
    Remove,
}

fn wrong(key: &str, why: &'static str) -> SurgeryError {
    SurgeryError::Metadata {
        key: key.to_owned(),
        why,
    }
}

/// What becomes of a pair.
fn changed(
    key: &str,
    value: &Value,
    vocabulary: &Vocabulary<'_>,
    kept: &[Token],
) -> Result<Change, SurgeryError> {
    let renumber = |number: Scalar| renumbered(number, vocabulary.len(), kept);
    Ok(match (key, value) {
        (OTHER_DESCRIPTION, _) => Change::Remove,
        (TOKENS, Value::Texts(texts)) => Change::Set(Value::Texts(
            kept.iter()
                .filter_map(|token| texts.get(*token as usize))
                .collect(),
        )),
        (TYPES | SCORES, Value::Scalars(numbers)) => {
            Change::Set(Value::Scalars(numbers.select(kept)))
        }
        (MERGES, Value::Texts(merges)) => {
            Change::Set(Value::Texts(merges_among(merges, vocabulary, kept)))
        }
        (key, Value::Scalar(number)) if names_tokens(key) => match renumber(*number) {
            Some(number) => Change::Set(Value::Scalar(number)),
            None => Change::None,
        },
        (key, Value::Scalars(numbers)) if names_tokens(key) => {
            Change::Set(Value::Scalars(numbers.map(renumber)))
        }
        (key, Value::Scalars(numbers))
            if key.starts_with("tokenizer.") && numbers.len() == vocabulary.len() =>
        {
            return Err(wrong(
                key,
                "has one number for each token, and hob does not know why",
            ));
        }
        _ => Change::None,
    })
}

/// A token's number among those that are kept. One that the model does not have stays what it is: it is
/// still none of the model's.
fn renumbered(number: Scalar, all: usize, kept: &[Token]) -> Option<Scalar> {
    let token = Token::try_from(number.unsigned()?).ok()?;
    if token as usize >= all {
        return None;
    }
    // Whatever the metadata names is kept.
    let place = kept.binary_search(&token).ok()?;
    number.replaced(place as u64)
}

/// The pairs that join tokens that are kept to one that is, in their order.
fn merges_among(merges: &Texts, vocabulary: &Vocabulary<'_>, kept: &[Token]) -> Texts {
    let is_kept = |text: &[u8]| {
        let token = vocabulary.ids.get(text);
        token.is_some_and(|token| kept.binary_search(token).is_ok())
    };
    merges
        .iter()
        .filter(|pair| {
            // As llama.cpp does: the first space behind the first byte.
            let space = pair.iter().skip(1).position(|byte| *byte == b' ');
            space.is_some_and(|space| {
                let (left, right) = (&pair[..=space], &pair[space + 2..]);
                is_kept(left) && is_kept(right) && is_kept(&[left, right].concat())
            })
        })
        .collect()
}
