#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::fs::File;
use std::io::{Cursor, Write as _};

use proptest::prelude::*;

use super::*;
use crate::gguf::sample::Sample;
use crate::gguf::{Document, Value};

/// A model with these tokens, each with its type, and what else its tokenizer needs.
#[derive(Clone, Debug)]
struct Words {
    tokenizer: &'static str,
    tokens: Vec<(Vec<u8>, i32, f32)>,
    merges: Vec<Vec<u8>>,
}

fn strings(texts: &[&[u8]]) -> Vec<u8> {
    let one = |text: &&[u8]| [&(text.len() as u64).to_le_bytes(), *text].concat();
    texts.iter().flat_map(one).collect()
}

impl Words {
    fn sample(&self) -> Sample {
        let count = self.tokens.len() as u64;
        let texts: Vec<&[u8]> = self
            .tokens
            .iter()
            .map(|(text, ..)| text.as_slice())
            .collect();
        let merges: Vec<&[u8]> = self.merges.iter().map(Vec::as_slice).collect();
        let kinds = self
            .tokens
            .iter()
            .flat_map(|(_, kind, _)| kind.to_le_bytes());
        let scores = self
            .tokens
            .iter()
            .flat_map(|(.., score)| score.to_le_bytes());
        Sample::tiny()
            .without("tokenizer.ggml.tokens")
            .without("general.name")
            .text("tokenizer.ggml.model", self.tokenizer)
            .array("tokenizer.ggml.tokens", 8, count, &strings(&texts))
            .array(
                "tokenizer.ggml.token_type",
                5,
                count,
                &kinds.collect::<Vec<u8>>(),
            )
            .array(
                "tokenizer.ggml.scores",
                6,
                count,
                &scores.collect::<Vec<u8>>(),
            )
            .array(
                "tokenizer.ggml.merges",
                8,
                merges.len() as u64,
                &strings(&merges),
            )
            .u32("llama.vocab_size", self.tokens.len().try_into().unwrap())
            .u32("tokenizer.ggml.eos_token_id", 1)
            .without_tensors()
            // In place of the tensors of the tiny model, ones for so many tokens.
            .tensor("token_embd.weight", &[64, count], 2)
            .tensor("output_norm.weight", &[64], 0)
            .tensor("output.weight", &[64, count], 0)
    }
}

fn document(bytes: &[u8]) -> Document {
    Document::read(Cursor::new(bytes), bytes.len() as u64).unwrap()
}

fn refusal(sample: &Sample) -> SurgeryError {
    let whole = document(&sample.bytes());
    let read = Vocabulary::read(&whole);
    match read {
        Err(error) => error,
        Ok(vocabulary) => {
            let kept: Vec<Token> = (0..20).collect();
            prune(&whole, &vocabulary, &kept).unwrap_err()
        }
    }
}

fn written(bytes: &[u8], rewrite: &crate::gguf::Rewrite) -> Vec<u8> {
    let mut source: File = tempfile::tempfile().unwrap();
    source.write_all(bytes).unwrap();
    let mut out = Vec::new();
    let outcome = rewrite.write(&source, |piece| -> Result<(), Infallible> {
        out.extend_from_slice(piece);
        Ok(())
    });
    outcome.unwrap();
    out
}

/// Control tokens, letters, and what is joined of them: an ordinary word list.
fn byte_pairs() -> Words {
    let mut tokens: Vec<(Vec<u8>, i32, f32)> = (0..16)
        .map(|n| (format!("<|{n}|>").into_bytes(), 3, 0.0))
        .collect();
    let mut merges = Vec::new();
    tokens.extend("abcdef".bytes().map(|letter| (vec![letter], 1, 0.0)));
    for (left, right) in [
        ("a", "b"),
        ("c", "d"),
        ("ab", "cd"),
        ("e", "f"),
        ("abcd", "ef"),
    ] {
        merges.push(format!("{left} {right}").into_bytes());
        tokens.push((format!("{left}{right}").into_bytes(), 1, 0.0));
    }
    Words {
        tokenizer: "gpt2",
        tokens,
        merges,
    }
}

fn chosen(
    words: &Words,
    counts: &[(Token, u32)],
    budget: Budget,
) -> Result<Vec<String>, SurgeryError> {
    let whole = document(&words.sample().bytes());
    let vocabulary = Vocabulary::read(&whole)?;
    let mut all = vec![0; vocabulary.len()];
    for (token, count) in counts {
        all[*token as usize] = *count;
    }
    let weights = all.iter().map(|count| f64::from(*count)).collect();
    let seen = all.into_iter().map(u64::from).collect();
    let demand = Demand { seen, weights };
    let kept = vocabulary.choose(&demand, budget)?;
    let name =
        |token: &Token| String::from_utf8_lossy(&words.tokens[*token as usize].0).into_owned();
    Ok(kept
        .iter()
        .map(name)
        .filter(|name| !name.starts_with('<'))
        .collect())
}

#[test]
fn a_token_stays_with_all_that_it_is_joined_of() {
    let words = byte_pairs();
    let abcd = 24;
    assert_eq!(words.tokens[abcd].0, b"abcd");
    let few = chosen(&words, &[(24, 1)], Budget::Tokens(25)).unwrap();
    assert_eq!(few, ["a", "b", "c", "d", "e", "f", "ab", "cd", "abcd"]);
    // Where there is no room for all of them there is none for it; the next one may fit.
    let fewer = chosen(&words, &[(24, 9), (25, 1)], Budget::Tokens(23)).unwrap();
    assert_eq!(fewer, ["a", "b", "c", "d", "e", "f", "ef"]);
    // What the corpus has no need of comes in the order in which it was learned.
    let learned = chosen(&words, &[], Budget::Tokens(24)).unwrap();
    assert_eq!(learned, ["a", "b", "c", "d", "e", "f", "ab", "cd"]);
}

#[test]
fn what_counts_most_stays_first_also_if_it_did_not_come_up() {
    let words = byte_pairs();
    let whole = document(&words.sample().bytes());
    let vocabulary = Vocabulary::read(&whole).unwrap();
    let choose = |weights: &[(usize, f64)], tokens| {
        let mut demand = Demand {
            seen: vec![0; 27],
            weights: vec![0.0; 27],
        };
        for (at, weight) in weights {
            demand.weights[*at] = *weight;
        }
        vocabulary.choose(&demand, Budget::Tokens(tokens)).unwrap()
    };
    let (ab, cd, ef) = (22, 23, 25);
    assert!(choose(&[(cd, 1.0), (ab, 0.9)], 23).contains(&23));
    assert!(choose(&[(cd, 1.0), (ab, 1.1)], 23).contains(&22));
    // What counts little goes before what was learned first.
    assert!(choose(&[(ab, 1.0), (ef, 0.2)], 24).contains(&25));
    assert!(choose(&[(cd, 1.0), (ab, f64::NAN)], 23).contains(&23));
}

#[test]
fn budgets_that_can_not_be_are_refused() {
    let words = byte_pairs();
    assert_eq!(
        chosen(&words, &[], Budget::Tokens(21)),
        Err(SurgeryError::TooFew {
            wanted: 21,
            least: 22
        })
    );
    for budget in [Budget::Tokens(27), Budget::Tokens(usize::MAX), Budget::Auto] {
        let all = chosen(&words, &[], budget);
        assert_eq!(all, Err(SurgeryError::Nothing { all: 27 }), "{budget:?}");
    }
}

#[test]
fn a_pruned_model_says_the_same_of_fewer_tokens() {
    let words = byte_pairs();
    let bytes = words.sample().array(
        "tokenizer.ggml.eog_token_ids",
        5,
        2,
        &[25, 0, 0, 0, 1, 0, 0, 0],
    );
    let bytes = bytes.u32("tokenizer.ggml.padding_token_id", 1000).bytes();
    let whole = document(&bytes);
    let vocabulary = Vocabulary::read(&whole).unwrap();
    let kept = vocabulary
        .choose(&Demand::default(), Budget::Tokens(24))
        .unwrap();
    // Token 25, `ef`, is named by the metadata.
    assert!(kept.contains(&25), "{kept:?}");
    let out = written(&bytes, &prune(&whole, &vocabulary, &kept).unwrap());
    let less = document(&out);
    assert_eq!(less.header().vocabulary, 24);
    let number = |key: &str| match less.get(key) {
        Some(Value::Scalar(number)) => number.unsigned(),
        _ => None,
    };
    assert_eq!(number("llama.vocab_size"), Some(24));
    assert_eq!(number("tokenizer.ggml.eos_token_id"), Some(1));
    // It was none of the model's tokens, and is none.
    assert_eq!(number("tokenizer.ggml.padding_token_id"), Some(1000));
    let Some(Value::Scalars(ends)) = less.get("tokenizer.ggml.eog_token_ids") else {
        panic!("no ends");
    };
    let ends: Vec<_> = ends.iter().map(|end| end.unsigned()).collect();
    assert_eq!(ends, [Some(23), Some(1)]);
    let Some(Value::Texts(merges)) = less.get("tokenizer.ggml.merges") else {
        panic!("no merges");
    };
    assert_eq!(merges.iter().collect::<Vec<_>>(), [&b"a b"[..], b"e f"]);
    for tensor in less.tensors() {
        let has = tensor.dimensions().last();
        assert_eq!(has == Some(&24), tensor.name() != "output_norm.weight");
    }
    let again = Vocabulary::read(&less).unwrap();
    assert!(
        kept.iter()
            .zip(again.texts.iter())
            .all(|(old, text)| { vocabulary.texts.get(*old as usize) == Some(text) })
    );
}

#[test]
fn what_is_not_known_is_refused() {
    let sample = || byte_pairs().sample();
    let architecture = sample()
        .without("general.architecture")
        .text("general.architecture", "mamba");
    let architecture = ["block_count", "embedding_length", "context_length"]
        .iter()
        .fold(architecture, |sample, key| {
            sample.u32(&format!("mamba.{key}"), 2)
        });
    assert_eq!(
        refusal(&architecture),
        SurgeryError::Architecture("mamba".to_owned())
    );
    let tokenizer = sample()
        .without("tokenizer.ggml.model")
        .text("tokenizer.ggml.model", "bert");
    assert_eq!(
        refusal(&tokenizer),
        SurgeryError::Tokenizer("bert".to_owned())
    );
    let metadata = |error: SurgeryError| match error {
        SurgeryError::Metadata { key, .. } => key,
        other => panic!("{other}"),
    };
    for key in ["tokenizer.ggml.merges", "tokenizer.ggml.token_type"] {
        assert_eq!(metadata(refusal(&sample().without(key))), key);
        assert_eq!(
            metadata(refusal(&sample().without(key).array(key, 4, 1, &[0; 4]))),
            key
        );
    }
    let strange = sample().array("tokenizer.ggml.weights", 0, 27, &[0; 27]);
    assert_eq!(metadata(refusal(&strange)), "tokenizer.ggml.weights");
    let tensor = sample().tensor("heads.weight", &[64, 27], 0);
    assert_eq!(
        refusal(&tensor),
        SurgeryError::Tensor("heads.weight".to_owned())
    );
    let other = sample()
        .without_tensors()
        .tensor("token_embd.weight", &[64, 26], 0);
    assert_eq!(refusal(&other), SurgeryError::Embedding);
    let none = sample()
        .without_tensors()
        .tensor("output_norm.weight", &[64], 0);
    assert_eq!(refusal(&none), SurgeryError::Embedding);
    let mut pieces = byte_pairs();
    pieces.tokenizer = "llama";
    assert_eq!(refusal(&pieces.sample()), SurgeryError::NoBytes);
    for error in [SurgeryError::NoBytes, SurgeryError::Embedding] {
        assert_eq!(error.hint(), None);
    }
    assert!(refusal(&architecture).hint().unwrap().contains("llama"));
}

/// What a tokenizer makes of a text: a plain statement of both kinds, to compare with.
fn tokenize(words: &Words, text: &str) -> Vec<Vec<u8>> {
    let has = |text: &[u8]| words.tokens.iter().any(|(token, ..)| token == text);
    let mut pieces: Vec<Vec<u8>> = text.chars().map(|c| c.to_string().into_bytes()).collect();
    loop {
        let joined = |at: usize| [pieces[at].clone(), pieces[at + 1].clone()].concat();
        let places = 0..pieces.len().saturating_sub(1);
        let best = if words.tokenizer == "gpt2" {
            let rank = |at: usize| {
                let pair = [&pieces[at], &b" "[..], &pieces[at + 1]].concat();
                words.merges.iter().position(|merge| *merge == pair)
            };
            places
                .filter_map(|at| Some((rank(at)?, at)))
                .min()
                .map(|(_, at)| at)
        } else {
            let score = |at: usize| {
                let joined = joined(at);
                let found = words.tokens.iter().rfind(|(token, ..)| *token == joined);
                found.map(|(.., score)| *score)
            };
            let mut best: Option<(f32, usize)> = None;
            for at in places {
                if let Some(score) = score(at)
                    && best.is_none_or(|(so_far, _)| score > so_far)
                {
                    best = Some((score, at));
                }
            }
            best.map(|(_, at)| at)
        };
        let Some(at) = best else {
            break;
        };
        pieces[at] = joined(at);
        pieces.remove(at + 1);
    }
    let bytes = |piece: Vec<u8>| -> Vec<Vec<u8>> {
        if has(&piece) {
            vec![piece]
        } else {
            piece
                .iter()
                .map(|byte| format!("<0x{byte:02X}>").into_bytes())
                .collect()
        }
    };
    pieces.into_iter().flat_map(bytes).collect()
}

/// Some vocabulary over a few letters: each word is joined of two that were there before.
fn any_words(tokenizer: &'static str) -> impl Strategy<Value = Words> {
    let joins = proptest::collection::vec((any::<u16>(), any::<u16>(), 0i8..20), 1..40);
    joins.prop_map(move |joins| {
        let mut tokens: Vec<(Vec<u8>, i32, f32)> = (0..16)
            .map(|n| (format!("<|{n}|>").into_bytes(), 3, 0.0))
            .collect();
        if tokenizer == "llama" {
            tokens.extend((0..256).map(|byte| (format!("<0x{byte:02X}>").into_bytes(), 6, 0.0)));
        }
        let mut parts: Vec<Vec<u8>> = "abcä<>"
            .chars()
            .map(|c| c.to_string().into_bytes())
            .collect();
        tokens.extend(parts.iter().map(|part| (part.clone(), 1, -1000.0)));
        let mut merges: Vec<Vec<u8>> = Vec::new();
        for (left, right, score) in joins {
            let left = parts[usize::from(left) % parts.len()].clone();
            let right = parts[usize::from(right) % parts.len()].clone();
            let whole = [left.clone(), right.clone()].concat();
            let merge = [left, b" ".to_vec(), right].concat();
            if whole.len() > 24 || merges.contains(&merge) {
                continue;
            }
            merges.push(merge);
            if !parts.contains(&whole) {
                parts.push(whole.clone());
                tokens.push((whole, 1, f32::from(score)));
            }
        }
        Words {
            tokenizer,
            tokens,
            merges,
        }
    })
}

fn pruned(words: &Words, kept: &[Token]) -> Words {
    let whole = words.sample().bytes();
    let document = document(&whole);
    let vocabulary = Vocabulary::read(&document).unwrap();
    let out = written(&whole, &prune(&document, &vocabulary, kept).unwrap());
    let less = self::document(&out);
    let Some(Value::Texts(merges)) = less.get("tokenizer.ggml.merges") else {
        panic!("no merges");
    };
    Words {
        tokenizer: words.tokenizer,
        tokens: kept
            .iter()
            .map(|token| words.tokens[*token as usize].clone())
            .collect(),
        merges: merges.iter().map(<[u8]>::to_vec).collect(),
    }
}

fn cuts_alike(words: &Words, counts: &[u64], room: usize, texts: &[String]) {
    let whole = document(&words.sample().bytes());
    let vocabulary = Vocabulary::read(&whole).unwrap();
    let least = vocabulary.fixed.len();
    let budget = Budget::Tokens(least + room % (vocabulary.len() - least).max(1));
    let counts: Vec<u64> = counts
        .iter()
        .copied()
        .cycle()
        .take(vocabulary.len())
        .collect();
    let weights = counts.iter().rev();
    let demand = Demand {
        weights: weights
            .map(|count| f64::from(u8::try_from(*count).unwrap()))
            .collect(),
        seen: counts,
    };
    let Ok(kept) = vocabulary.choose(&demand, budget) else {
        return;
    };
    assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
    let less = pruned(words, &kept);
    let known: BTreeSet<&[u8]> = less
        .tokens
        .iter()
        .map(|(text, ..)| text.as_slice())
        .collect();
    let bytes: HashMap<Vec<u8>, u8> = (0..=255)
        .map(|byte| (format!("<0x{byte:02X}>").into_bytes(), byte))
        .collect();
    for text in texts {
        let (before, after) = (tokenize(words, text), tokenize(&less, text));
        let spelt = after.iter().flat_map(|token| match bytes.get(token) {
            Some(byte) => vec![*byte],
            None => token.clone(),
        });
        assert_eq!(spelt.collect::<Vec<u8>>(), text.as_bytes());
        assert!(after.iter().all(|token| known.contains(token.as_slice())));
        if before.iter().all(|token| known.contains(token.as_slice())) {
            assert_eq!(before, after, "{text}");
        }
    }
}

proptest! {
    #[test]
    fn byte_pairs_cut_alike_what_they_still_have(
        words in any_words("gpt2"),
        counts in proptest::collection::vec(0u64..4, 7),
        room in any::<u16>(),
        texts in proptest::collection::vec("[abcä<>]{0,24}", 12),
    ) {
        cuts_alike(&words, &counts, room.into(), &texts);
    }

    #[test]
    fn sentence_pieces_cut_alike_what_they_still_have(
        words in any_words("llama"),
        counts in proptest::collection::vec(0u64..4, 7),
        room in any::<u16>(),
        texts in proptest::collection::vec("[abcäß<>]{0,24}", 12),
    ) {
        cuts_alike(&words, &counts, room.into(), &texts);
    }
}
