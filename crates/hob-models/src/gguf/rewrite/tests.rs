#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::convert::Infallible;
use std::fs::File;
use std::io::{Cursor, Write as _};

use proptest::prelude::*;

use super::*;
use crate::gguf::sample::Sample;
use crate::gguf::{Document, GgufError, Header, Scalar, Value};

fn document(bytes: &[u8]) -> Result<Document, GgufError> {
    Document::read(Cursor::new(bytes), bytes.len() as u64)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn written(rewrite: &Rewrite, source: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let outcome = rewrite.write(&file(source), |bytes| -> Result<(), Infallible> {
        out.extend_from_slice(bytes);
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(out.len() as u64, rewrite.size());
    out
}

/// A model with a value of each type.
fn every_type() -> Sample {
    let mut sample = Sample::tiny();
    for (tag, width) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4)]
        .into_iter()
        .chain([(7, 1), (10, 8), (11, 8), (12, 8)])
    {
        // Of a fraction this is a NaN with bits of its own, of a whole number a negative one.
        let byte: u8 = if tag == 7 { 1 } else { 0xff };
        sample = sample
            .raw(&format!("scalar.{tag}"), tag, &vec![byte; width])
            .array(&format!("array.{tag}"), tag, 3, &vec![byte; 3 * width])
            .array(&format!("empty.{tag}"), tag, 0, &[]);
    }
    sample.array("empty.8", 8, 0, &[])
}

#[test]
fn what_is_read_is_written_the_same() {
    for version in [2, 3] {
        let bytes = every_type().version(version).bytes();
        let rewrite = Rewrite::of(&document(&bytes).unwrap());
        assert_eq!(written(&rewrite, &bytes), bytes);
        let copy = file(&bytes);
        assert!(rewrite.compare(&file(&bytes), &copy, |_| Ok(())).is_ok());
    }
}

#[test]
fn another_alignment_is_kept() {
    let bytes = Sample::tiny()
        .u32("general.alignment", 32)
        .u32("more", 1)
        .bytes();
    let whole = document(&bytes).unwrap();
    assert_eq!(written(&Rewrite::of(&whole), &bytes), bytes);
}

#[test]
fn rows_are_copied_as_they_are() {
    let bytes = Sample::tiny().bytes();
    let whole = document(&bytes).unwrap();
    let mut rewrite = Rewrite::of(&whole);
    assert!(rewrite.keep_slices("token_embd.weight", &[0, 2, 3]));
    assert!(!rewrite.keep_slices("missing.weight", &[0]));
    rewrite.set("general.name", Value::Text("Less".to_owned()));
    rewrite.set("new.key", Value::Scalar(Scalar::from(7)));
    rewrite.remove("tokenizer.chat_template");
    let out = written(&rewrite, &bytes);
    let less = document(&out).unwrap();
    assert_eq!(less.header().name.as_deref(), Some("Less"));
    assert_eq!(less.get("new.key"), Some(&Value::Scalar(Scalar::from(7))));
    assert_eq!(less.header().chat_template, None);
    assert_eq!(less.tensors()[0].dimensions(), [64, 3]);
    assert_eq!(less.tensors()[1].dimensions(), [64]);
    // A row of 64 elements in Q4_0 is two blocks of 18 bytes.
    let row = |data: u64, row: u64| {
        let start = usize::try_from(data + row * 36).unwrap();
        start..start + 36
    };
    for (new, old) in [(0, 0), (1, 2), (2, 3)] {
        assert_eq!(out[row(less.data, new)], bytes[row(whole.data, old)]);
    }
    let norm = |document: &Document, bytes: &[u8]| {
        let start = usize::try_from(document.data + document.tensors[1].offset()).unwrap();
        bytes[start..start + 256].to_vec()
    };
    assert_eq!(norm(&less, &out), norm(&whole, &bytes));
}

#[test]
fn what_is_not_as_written_is_found_out() {
    let bytes = Sample::tiny().bytes();
    let rewrite = Rewrite::of(&document(&bytes).unwrap());
    for at in [0, 40, bytes.len() - 1] {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 1;
        let outcome = rewrite.compare(&file(&bytes), &file(&spoilt), |_| Ok(()));
        assert!(matches!(outcome, Err(RewriteError::Sink(_))), "byte {at}");
    }
    let short = rewrite.compare(&file(&bytes), &file(&bytes[..bytes.len() - 1]), |_| Ok(()));
    assert!(matches!(short, Err(RewriteError::Sink(_))));
    let mut long = bytes.clone();
    long.push(0);
    let long = rewrite.compare(&file(&bytes), &file(&long), |_| Ok(()));
    assert!(matches!(long, Err(RewriteError::Sink(_))));
    // And a model that was cut meanwhile.
    let gone = rewrite.compare(&file(&bytes[..64]), &file(&bytes), |_| Ok(()));
    assert!(matches!(gone, Err(RewriteError::Source(_))));
}

#[test]
fn a_sink_that_fails_ends_it() {
    let bytes = Sample::tiny().bytes();
    let rewrite = Rewrite::of(&document(&bytes).unwrap());
    let outcome = rewrite.write(&file(&bytes), |_| Err("full"));
    assert!(matches!(outcome, Err(RewriteError::Sink("full"))));
}

#[test]
fn numbers_are_replaced_within_their_type() {
    let bytes = every_type()
        .raw("byte", 0, &[3])
        .raw("signed", 1, &[3])
        .bytes();
    let whole = document(&bytes).unwrap();
    let scalar = |key: &str| match whole.get(key) {
        Some(Value::Scalar(scalar)) => *scalar,
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!(scalar("byte").replaced(255).unwrap().unsigned(), Some(255));
    assert_eq!(scalar("byte").replaced(256), None);
    assert_eq!(
        scalar("signed").replaced(127).unwrap().unsigned(),
        Some(127)
    );
    assert_eq!(scalar("signed").replaced(128), None);
    // Negative, fractional, true.
    for tag in [1, 3, 5, 6, 7, 11, 12] {
        assert_eq!(scalar(&format!("scalar.{tag}")).unsigned(), None, "{tag}");
    }
    assert_eq!(scalar("scalar.10").unsigned(), Some(u64::MAX));
    assert_eq!(
        scalar("scalar.10").replaced(u64::MAX).unwrap(),
        scalar("scalar.10")
    );
    assert_eq!(scalar("scalar.12").replaced(1), None);
}

/// What may stand under a key.
fn value() -> impl Strategy<Value = (u32, Vec<u8>)> {
    let text = "\\PC{0,12}".prop_map(|text| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    });
    prop_oneof![
        any::<u32>().prop_map(|number| (4, number.to_le_bytes().to_vec())),
        any::<[u8; 8]>().prop_map(|bytes| (12, bytes.to_vec())),
        text.clone().prop_map(|text| (8, text)),
        proptest::collection::vec(text, 0..5).prop_map(|texts| {
            let mut bytes = 8u32.to_le_bytes().to_vec();
            bytes.extend((texts.len() as u64).to_le_bytes());
            bytes.extend(texts.concat());
            (9, bytes)
        }),
        proptest::collection::vec(any::<i16>(), 0..9).prop_map(|numbers| {
            let mut bytes = 3u32.to_le_bytes().to_vec();
            bytes.extend((numbers.len() as u64).to_le_bytes());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            (9, bytes)
        }),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    let values = proptest::collection::vec(value(), 0..6);
    let tensors =
        proptest::collection::vec((1u64..4, 1u64..6, prop_oneof![Just(0u32), Just(2)]), 0..4);
    (values, tensors).prop_map(|(values, tensors)| {
        let sample = values
            .iter()
            .enumerate()
            .fold(Sample::tiny(), |sample, (at, (tag, bytes))| {
                sample.raw(&format!("key.{at}"), *tag, bytes)
            });
        tensors
            .iter()
            .enumerate()
            .fold(sample, |sample, (at, (blocks, rows, tag))| {
                sample.tensor(&format!("t.{at}"), &[blocks * 32, *rows], *tag)
            })
    })
}

proptest! {
    #[test]
    fn any_model_is_written_as_it_was_read(sample in sample()) {
        let bytes = sample.bytes();
        let whole = document(&bytes).unwrap();
        prop_assert_eq!(written(&Rewrite::of(&whole), &bytes), bytes);
    }

    #[test]
    fn other_tensors_stay_when_rows_go(sample in sample(), mask in 1u32..32) {
        let bytes = sample.bytes();
        let whole = document(&bytes).unwrap();
        let rows: Vec<u32> = (0..5).filter(|row| mask >> row & 1 == 1).collect();
        let mut rewrite = Rewrite::of(&whole);
        prop_assert!(rewrite.keep_slices("token_embd.weight", &rows));
        let out = written(&rewrite, &bytes);
        let less = document(&out).unwrap();
        prop_assert!(less.pairs().eq(whole.pairs()));
        let of = |document: &Document, bytes: &[u8], name: &str| {
            let tensor = document.tensors().iter().find(|t| t.name() == name).unwrap();
            let start = usize::try_from(document.data + tensor.offset()).unwrap();
            bytes[start..start + usize::try_from(tensor.bytes()).unwrap()].to_vec()
        };
        for tensor in whole.tensors() {
            let (old, new) = (of(&whole, &bytes, tensor.name()), of(&less, &out, tensor.name()));
            if tensor.name() == "token_embd.weight" {
                let expected: Vec<u8> = rows
                    .iter()
                    .flat_map(|row| old[*row as usize * 36..][..36].to_vec())
                    .collect();
                prop_assert_eq!(new, expected);
            } else {
                prop_assert_eq!(new, old);
            }
        }
    }

    #[test]
    fn spoilt_models_are_refused_or_read_and_never_panic(
        sample in sample(),
        spoilt in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sample.bytes();
        for (at, byte) in spoilt {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(length.index(bytes.len()) + 1);
        let header = Header::read(Cursor::new(&bytes), bytes.len() as u64);
        match document(&bytes) {
            Ok(whole) => {
                prop_assert_eq!(whole.header(), &header.unwrap());
                // What is left is the head and the data; what lies behind is dropped.
                let out = written(&Rewrite::of(&whole), &bytes_padded(&bytes, &whole));
                let again = document(&out).unwrap();
                prop_assert_eq!(again.header(), whole.header());
            }
            Err(_) => prop_assert!(header.is_err()),
        }
    }
}

/// The last tensor's padding may be cut off.
fn bytes_padded(bytes: &[u8], document: &Document) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(
        bytes.len() + usize::try_from(document.alignment).unwrap(),
        0,
    );
    bytes
}
