#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::convert::Infallible;
use std::fs::File;
use std::io::{Cursor, Write as _};

use proptest::prelude::*;

use super::*;
use crate::gguf::sample::Sample;

/// What a layer has; the second, only every other one.
const PARTS: [&str; 3] = ["attn_q.weight", "attn_k.bias", "ffn_down.weight"];

fn name(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}")
}

/// A model of so many layers of unlike lengths, without what tells how many there are.
fn bare(architecture: &str, layers: usize) -> Sample {
    let key = |name: &str| format!("{architecture}.{name}");
    let sample = Sample::empty()
        .text("general.architecture", architecture)
        .u32(&key("embedding_length"), 64)
        .u32(&key("context_length"), 1024)
        .tokens(&["a", "b"])
        .tensor("token_embd.weight", &[64, 2], 2);
    (0..layers)
        .fold(sample, |sample, layer| {
            let rows = layer as u64 % 3 + 1;
            let sample = sample.tensor(&name(layer, PARTS[0]), &[32, rows], 2);
            let sample = if layer % 2 == 0 {
                sample.tensor(&name(layer, PARTS[1]), &[rows], 0)
            } else {
                sample
            };
            sample.tensor(&name(layer, PARTS[2]), &[64, rows], 0)
        })
        .tensor("output_norm.weight", &[64], 0)
}

fn numbers(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    numbers.flat_map(u32::to_le_bytes).collect()
}

/// The same, with lists of a number for each layer.
fn sample(architecture: &str, layers: usize) -> Sample {
    let key = |name: &str| format!("{architecture}.{name}");
    let count = u32::try_from(layers).unwrap();
    bare(architecture, layers)
        .u32(&key("block_count"), count)
        .u32(&key("attention.head_count"), 4)
        .array(
            &key("attention.head_count_kv"),
            4,
            layers as u64,
            &numbers((0..count).map(|layer| layer % 4 + 1)),
        )
        .array(
            &key("feed_forward_length"),
            5,
            layers as u64,
            &numbers((0..count).map(|layer| 100 + layer)),
        )
}

fn document(bytes: &[u8]) -> Document {
    Document::read(Cursor::new(bytes), bytes.len() as u64).unwrap()
}

fn without(bytes: &[u8], out: &[u32]) -> Result<Vec<u8>, SurgeryError> {
    let whole = document(bytes);
    let layers = Layers::read(&whole)?;
    let mut rewrite = Rewrite::of(&whole);
    layers.leave_out(&mut rewrite, out)?;
    let mut source: File = tempfile::tempfile().unwrap();
    source.write_all(bytes).unwrap();
    let mut written = Vec::new();
    let done = rewrite.write(&source, |piece| -> Result<(), Infallible> {
        written.extend_from_slice(piece);
        Ok(())
    });
    done.unwrap();
    assert_eq!(written.len() as u64, rewrite.size());
    Ok(written)
}

fn refusal(sample: &Sample) -> SurgeryError {
    Layers::read(&document(&sample.bytes())).unwrap_err()
}

fn refused_key(sample: &Sample) -> String {
    match refusal(sample) {
        SurgeryError::Metadata { key, .. } => key,
        other => panic!("{other}"),
    }
}

/// The bytes of a tensor, if it is there.
fn data<'b>(bytes: &'b [u8], document: &Document, name: &str) -> Option<&'b [u8]> {
    let tensor = document.tensors().iter().find(|t| t.name() == name)?;
    let start = document.data() + tensor.offset();
    let range = start..start + tensor.bytes();
    let range = range.start.try_into().unwrap()..range.end.try_into().unwrap();
    bytes.get(range)
}

fn list(document: &Document, key: &str) -> Vec<u64> {
    match document.get(key) {
        Some(Value::Scalars(numbers)) => numbers.iter().map(|n| n.unsigned().unwrap()).collect(),
        other => panic!("{key}: {other:?}"),
    }
}

proptest! {
    #[test]
    fn what_stays_is_the_same_under_new_numbers(
        layers in 1usize..14,
        out in proptest::collection::btree_set(0u32..14, 0..8),
    ) {
        let bytes = sample("llama", layers).bytes();
        let whole = document(&bytes);
        let out: Vec<u32> = out.into_iter().collect();
        let less = without(&bytes, &out);
        let count = u32::try_from(layers).unwrap();
        let stay: Vec<u32> = (0..count).filter(|layer| !out.contains(layer)).collect();
        if out.iter().any(|layer| *layer >= count) {
            let refused = matches!(less, Err(SurgeryError::NoSuchLayer { .. }));
            prop_assert!(refused);
            return Ok(());
        }
        if stay.is_empty() {
            prop_assert_eq!(less, Err(SurgeryError::AllLayers { all: layers }));
            return Ok(());
        }
        let less = less.unwrap();
        if out.is_empty() {
            prop_assert_eq!(&less, &bytes);
        }
        let fewer = document(&less);
        prop_assert_eq!(fewer.header().n_layer as usize, stay.len());
        let kv: Vec<u64> = stay.iter().map(|layer| u64::from(layer % 4 + 1)).collect();
        let width: Vec<u64> = stay.iter().map(|layer| u64::from(100 + layer)).collect();
        prop_assert_eq!(list(&fewer, "llama.attention.head_count_kv"), kv);
        prop_assert_eq!(list(&fewer, "llama.feed_forward_length"), width);
        for part in PARTS {
            for (new, old) in stay.iter().enumerate() {
                let before = data(&bytes, &whole, &name(*old as usize, part));
                prop_assert_eq!(data(&less, &fewer, &name(new, part)), before);
            }
            prop_assert_eq!(data(&less, &fewer, &name(stay.len(), part)), None);
        }
        for name in ["token_embd.weight", "output_norm.weight"] {
            prop_assert_eq!(data(&less, &fewer, name), data(&bytes, &whole, name));
        }
        // What is left out is what the layers were told to take.
        let told = Layers::read(&whole).unwrap();
        let saved: u64 = out.iter().map(|layer| told.bytes()[*layer as usize]).sum();
        let weights = |document: &Document| document.header().weights_bytes;
        prop_assert_eq!(weights(&whole) - weights(&fewer), saved);
    }

    #[test]
    fn a_layer_that_looks_through_a_window_still_does(
        layers in 1usize..20,
        out in proptest::collection::btree_set(0u32..20, 0..6),
        told in 0..3,
    ) {
        let period = 3;
        let pattern = "gemma3.attention.sliding_window_pattern";
        let whole = sample("gemma3", layers).u32("gemma3.attention.sliding_window", 512);
        let count = u32::try_from(layers).unwrap();
        let flags = (0..count).map(|layer| u32::from(layer % period != 1));
        let whole = match told {
            0 => whole,
            1 => whole.u32(pattern, period),
            _ => whole.array(pattern, 4, layers as u64, &numbers(flags)),
        };
        let bytes = whole.bytes();
        let out: Vec<u32> = out.into_iter().filter(|layer| *layer < count).collect();
        prop_assume!(out.len() < layers);
        let before = document(&bytes);
        let fewer = document(&without(&bytes, &out).unwrap());
        let windowed = (0..count).zip(&before.header().windowed);
        let windowed: Vec<bool> = windowed
            .filter(|(layer, _)| !out.contains(layer))
            .map(|(_, flag)| *flag)
            .collect();
        prop_assert_eq!(&fewer.header().windowed, &windowed);
        if !out.is_empty() && before.header().windowed.contains(&true) {
            let flags: Vec<u64> = windowed.into_iter().map(u64::from).collect();
            prop_assert_eq!(list(&fewer, pattern), flags);
        }
    }
}

#[test]
fn what_tells_layers_apart_is_refused() {
    let other = refusal(&sample("smollm3", 4));
    assert_eq!(other, SurgeryError::Layered("smollm3".to_owned()));
    assert!(other.hint().unwrap().contains("qwen3"));
    for pattern in ["leading_dense_block_count", "nextn_predict_layers"] {
        let key = format!("llama.{pattern}");
        assert_eq!(refused_key(&sample("llama", 4).u32(&key, 1)), key);
        let none = sample("llama", 4).u32(&key, 0).bytes();
        assert!(Layers::read(&document(&none)).is_ok());
    }
    let strange = "llama.attention.indexer.types";
    let list = |length: u64| {
        let elements = vec![0; usize::try_from(length).unwrap()];
        sample("llama", 4).array(strange, 0, length, &elements)
    };
    assert_eq!(refused_key(&list(4)), strange);
    assert!(Layers::read(&document(&list(3).bytes())).is_ok());
    let windows = "llama.attention.sliding_window";
    let windowed = "llama.attention.sliding_window_pattern";
    let pattern = sample("llama", 4).u32(windows, 64).u32(windowed, 2);
    assert_eq!(refused_key(&pattern), windows);
    // llama.cpp takes longer lists for wrong.
    let heads = "llama.attention.head_count_kv";
    let long = sample("llama", 4).without(heads);
    let long = long.array(heads, 4, 5, &numbers(1..6));
    assert_eq!(refused_key(&long), heads);
    assert_eq!(
        refused_key(&sample("gemma3", GEMMA3_SCALED_OTHERWISE)),
        "gemma3.block_count"
    );
}

#[test]
fn tensors_of_layers_that_there_are_not_are_refused() {
    for stray in [
        "blk.4.attn_q.weight",
        "blk.x.weight",
        "blk.01.weight",
        "blk.",
    ] {
        let more = sample("llama", 4).tensor(stray, &[32], 0);
        let expected = SurgeryError::LayerTensor(stray.to_owned());
        assert_eq!(refusal(&more), expected, "{stray}");
    }
}
