//! Models with fewer tokens, before the real tokenizers: what they still have they cut as before, and
//! there is nothing that they can't write.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::convert::Infallible;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use driver::Engine;
use hob_engine::gpu::Computing;
use hob_engine::llama::{self, Words};
use hob_engine::prompt::Vocabulary as _;
use hob_ipc::tokens::{TEXT_BYTES_MAX, Tokenize};
use hob_ipc::{Command, EngineEvent, RequestId};
use hob_models::gguf::Document;
use hob_models::surgery::{Budget, Demand, Vocabulary, prune};
use llama_cpp_2::model::LlamaModel;
use proptest::prelude::*;

/// What the tests' models are for: hob's own documents, of which some is code.
const CORPUS: &str = concat!(
    include_str!("../../../README.md"),
    include_str!("../src/serve.rs")
);

/// A model, and what is left of it.
struct Pair {
    before: Words<'static>,
    after: Words<'static>,
    /// The tokens that are left, rising.
    kept: Vec<u32>,
    /// The file of what is left.
    file: File,
}

fn load(mut file: File) -> &'static LlamaModel {
    file.seek(SeekFrom::Start(0)).unwrap();
    let fd = OwnedFd::from(file);
    let model = llama::load(
        fd,
        hob_ipc::memory::Weights::Mapped,
        Computing::default(),
        &mut |_| true,
    )
    .unwrap();
    Box::leak(Box::new(model))
}

fn pair(path: &Path, budget: Budget) -> Pair {
    static BACKEND: OnceLock<()> = OnceLock::new();
    BACKEND.get_or_init(|| {
        // The backend is never stopped: dropping its proof of start does nothing.
        let _backend = llama::start_backend(false).unwrap();
    });
    let source = File::open(path).unwrap();
    let size = source.metadata().unwrap().len();
    let document = Document::read(&source, size).unwrap();
    let vocabulary = Vocabulary::read(&document).unwrap();
    let before = Words::new(load(source.try_clone().unwrap()));
    let mut demand = Demand {
        seen: vec![0; vocabulary.len()],
        weights: vec![0.0; vocabulary.len()],
    };
    for token in before.plain(CORPUS) {
        let token = usize::try_from(token).unwrap();
        demand.seen[token] += 1;
        demand.weights[token] += 1.0;
    }
    let kept = vocabulary.choose(&demand, budget).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let rewrite = prune(&document, &vocabulary, &kept).unwrap();
    let written = rewrite.write(&source, |bytes| {
        file.write_all(bytes).unwrap();
        Ok::<(), Infallible>(())
    });
    written.unwrap();
    Pair {
        before,
        after: Words::new(load(file.try_clone().unwrap())),
        kept,
        file,
    }
}

/// Byte-pair encoding, so small that most words are in pieces.
fn byte_pairs() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| pair(&driver::test_model(), Budget::Tokens(6000)))
}

/// `SentencePiece`.
fn sentence_pieces() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| pair(&driver::sliding_model(), Budget::Auto))
}

fn spelt(words: &Words<'_>, tokens: &[i32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in tokens {
        words.spell(*token, &mut bytes);
    }
    bytes
}

fn check(pair: &Pair, text: &str) {
    let (before, after) = (pair.before.plain(text), pair.after.plain(text));
    let old = |token: &i32| i32::try_from(pair.kept[usize::try_from(*token).unwrap()]).unwrap();
    let as_before: Vec<i32> = after.iter().map(old).collect();
    assert_eq!(
        spelt(&pair.after, &after),
        spelt(&pair.before, &before),
        "{text:?}"
    );
    let kept = |token: &i32| {
        pair.kept
            .binary_search(&u32::try_from(*token).unwrap())
            .is_ok()
    };
    if before.iter().all(kept) {
        assert_eq!(as_before, before, "{text:?}");
    }
    assert!(after.len() >= before.len(), "{text:?}");
}

/// Letters of one script, or of all.
fn text() -> impl Strategy<Value = String> {
    let scripts = [
        "Latin",
        "Greek",
        "Cyrillic",
        "Armenian",
        "Hebrew",
        "Arabic",
        "Devanagari",
        "Bengali",
        "Tamil",
        "Thai",
        "Georgian",
        "Hangul",
        "Ethiopic",
        "Khmer",
        "Hiragana",
        "Katakana",
        "Han",
    ];
    let of_one = scripts.map(|script| {
        let pattern = format!("([\\p{{{script}}}]{{1,9}}[ .,\n]?){{0,6}}");
        proptest::string::string_regex(&pattern).unwrap().boxed()
    });
    let words = Just(CORPUS.split(' ').collect::<Vec<_>>());
    let known = (words, any::<prop::sample::Index>(), 1usize..40).prop_map(|(words, at, count)| {
        let at = at.index(words.len());
        words[at..words.len().min(at + count)].join(" ")
    });
    prop_oneof![
        4 => proptest::strategy::Union::new(of_one),
        2 => known,
        1 => "\\PC{0,40}",
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn byte_pairs_write_all_text(text in text()) {
        check(byte_pairs(), &text);
    }

    #[test]
    fn sentence_pieces_write_all_text(text in text()) {
        check(sentence_pieces(), &text);
    }
}

#[test]
fn what_the_corpus_needs_is_kept_whole() {
    let pair = sentence_pieces();
    let (before, after) = (pair.before.plain(CORPUS), pair.after.plain(CORPUS));
    assert_eq!(after.len(), before.len());
    check(pair, CORPUS);
    check(byte_pairs(), CORPUS);
}

#[test]
fn an_engine_tells_tokens_and_answers_on() {
    let pair = byte_pairs();
    let file = pair.file.try_clone().unwrap();
    let mut engine = Engine::of_file(env!("CARGO_BIN_EXE_hob-engine"), file);
    let longest = "x".repeat(TEXT_BYTES_MAX);
    // The last has a byte that this vocabulary never had a token for.
    for (id, (text, is_exact)) in (1..).zip([
        ("The window is open.", true),
        ("Окно открыто.", true),
        ("", true),
        (longest.as_str(), true),
        ("a\u{4}b", false),
    ]) {
        engine.send(&Command::Tokenize(Tokenize {
            id: RequestId(id),
            text: text.to_owned(),
        }));
        let Some(EngineEvent::Tokenized(told)) = engine.next_work() else {
            panic!("no tokens");
        };
        assert_eq!((told.id.0, told.exact), (id, is_exact), "{text}");
        assert_eq!(told.tokens, pair.after.plain(text));
    }
    let answer = engine.ask(driver::complete(9, "The window of the kitchen is", 8));
    assert!(!answer.text.is_empty());
    assert_eq!(answer.finished().completion_tokens, 8);
}
