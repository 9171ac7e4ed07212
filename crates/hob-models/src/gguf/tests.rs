#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::Cursor;

use proptest::prelude::*;

use super::sample::Sample;
use super::{GgufError, Header};

fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read(Cursor::new(bytes), bytes.len() as u64)
}

fn refusal(sample: &Sample) -> String {
    read(&sample.bytes()).unwrap_err().to_string()
}

#[test]
fn a_small_model_is_described() {
    for version in [2, 3] {
        let header = read(&Sample::tiny().version(version).bytes()).unwrap();
        assert_eq!(header.architecture, "llama");
        assert_eq!(header.name.as_deref(), Some("Tiny"));
        assert_eq!(header.parameters, 64 * 5 + 64);
        assert_eq!(header.quantization, "Q4_0");
        assert_eq!(header.main_tensor_type, "F32");
        assert_eq!((header.n_ctx_train, header.n_layer), (1024, 2));
        assert_eq!((header.n_embd, header.n_ff, header.n_head), (64, 128, 4));
        assert_eq!(header.n_head_kv, [2, 2]);
        assert_eq!((header.key_length, header.value_length), (16, 16));
        assert_eq!(header.vocabulary, 5);
        assert_eq!(header.chat_template.as_deref(), Some("{{ messages }}"));
        assert_eq!(header.weights_bytes, 180 + 256);
        assert_eq!(header.tensors, 2);
    }
}

#[test]
fn what_is_no_model_is_refused() {
    assert!(matches!(read(b""), Err(GgufError::Empty)));
    assert!(matches!(read(b"GG"), Err(GgufError::Truncated { .. })));
    assert!(matches!(
        read(b"<html>not found</html>"),
        Err(GgufError::NotGguf { magic }) if &magic == b"<htm"
    ));
    assert!(matches!(
        read(&Sample::tiny().version(1).bytes()),
        Err(GgufError::Version { version: 1 })
    ));
    assert!(matches!(
        read(&Sample::tiny().version(3u32.swap_bytes()).bytes()),
        Err(GgufError::BigEndian)
    ));
}

#[test]
fn every_cut_of_a_model_is_refused() {
    let bytes = Sample::tiny().bytes();
    assert!(read(&bytes).is_ok());
    // The last tensor's data ends the file, so that no byte is spare.
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn one_part_of_several_is_refused() {
    let split = Sample::tiny().raw("split.count", 2, &3u16.to_le_bytes());
    assert!(matches!(
        read(&split.bytes()),
        Err(GgufError::Split { parts: 3 })
    ));
    let whole = Sample::tiny().raw("split.count", 2, &1u16.to_le_bytes());
    assert!(read(&whole.bytes()).is_ok());
}

#[test]
fn absurd_lengths_are_refused_before_anything_is_allocated() {
    let huge = u64::MAX.to_le_bytes();
    assert!(refusal(&Sample::tiny().raw("x", 8, &huge)).contains("more than"));
    assert!(refusal(&Sample::tiny().array("x", 4, u64::MAX, &[])).contains("more than"));
    assert!(
        refusal(&Sample::tiny().array("x", 8, 1 << 20, &[])).contains("header's size")
            || refusal(&Sample::tiny().array("x", 8, 1 << 20, &[])).contains("byte")
    );
    // A string of a permitted length that the file does not have.
    let mut long = Sample::empty().header();
    long[16] = 1;
    long.extend(5u64.to_le_bytes());
    assert!(matches!(read(&long), Err(GgufError::Truncated { .. })));
    let template = "x".repeat((1 << 20) + 1);
    assert!(refusal(&Sample::tiny().text("other", &template)).contains("more than"));
}

#[test]
fn values_that_the_format_forbids_are_refused() {
    assert!(refusal(&Sample::tiny().array("x", 9, 1, &[0; 12])).contains("arrays of arrays"));
    assert!(refusal(&Sample::tiny().raw("x", 13, &[0; 8])).contains("no type 13"));
    assert!(refusal(&Sample::tiny().raw("x", 7, &[2])).contains("true or false"));
    assert!(refusal(&Sample::tiny().raw("x", 8, b"\x01\0\0\0\0\0\0\0\xff")).contains("utf-8"));
    assert!(
        refusal(
            &Sample::tiny()
                .u32("general.name2", 1)
                .u32("general.name2", 1)
        )
        .contains("twice")
    );
    assert!(refusal(&Sample::tiny().u32("general.alignment", 24)).contains("power of two"));
}

#[test]
fn a_language_model_must_say_what_it_is() {
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.embedding_length",
        "llama.context_length",
        "tokenizer.ggml.tokens",
    ] {
        assert!(refusal(&Sample::tiny().without(key)).contains(key));
    }
    let wrong = Sample::tiny().without("llama.block_count");
    assert!(refusal(&wrong.text("llama.block_count", "two")).contains("whole number"));
    let many = Sample::tiny().without("llama.block_count");
    assert!(refusal(&many.u32("llama.block_count", 1 << 30)).contains("sane range"));
}

#[test]
fn tensors_must_lie_in_the_file_one_after_the_other() {
    let tiny = Sample::tiny;
    assert!(refusal(&tiny().tensor_at("x", &[8], 0, 1, 32)).contains("not"));
    assert!(refusal(&tiny().tensor_at("x", &[8], 0, u64::MAX, 32)).contains("not"));
    assert!(refusal(&tiny().tensor("x", &[], 0)).contains("0 dimensions"));
    assert!(refusal(&tiny().tensor("x", &[1; 5], 0)).contains("5 dimensions"));
    assert!(refusal(&tiny().tensor("x", &[0], 0)).contains("out of range"));
    assert!(refusal(&tiny().tensor("x", &[33], 2)).contains("blocks of 32"));
    assert!(refusal(&tiny().tensor("x", &[32], 4)).contains("no tensor type 4"));
    assert!(refusal(&tiny().tensor("output_norm.weight", &[8], 0)).contains("twice"));
    assert!(refusal(&tiny().tensor(&"x".repeat(64), &[8], 0)).contains("more than the 63"));
    let offset = 192 + 256;
    let vast = tiny().tensor_at("x", &[1 << 40, 1 << 30], 0, offset, 32);
    assert!(refusal(&vast).contains("out of range"));
    let outside = tiny().tensor_at("x", &[1 << 40], 0, offset, 32);
    assert!(refusal(&outside).contains("tensor data"));
    assert!(refusal(&Sample::empty()).contains("without tensors"));
}

#[test]
fn memory_follows_layers_windows_and_sequences() {
    let header = read(&Sample::tiny().bytes()).unwrap();
    let memory = header.memory_needed(1024, 1);
    assert_eq!(memory.weights, 436);
    // 2 layers × 1024 tokens × 2 KV heads × (16 + 16) × 2 bytes.
    assert_eq!(memory.kv, 2 * 1024 * 2 * 32 * 2);
    assert_eq!(header.memory_needed(1024, 3).kv, 3 * memory.kv);
    assert_eq!(
        memory.total(),
        memory.weights + memory.kv + memory.compute_estimate
    );

    // The first layer of a period of two looks back 100 tokens: 100 + 256, in steps of 256.
    let windowed = Sample::tiny()
        .u32("llama.attention.sliding_window", 100)
        .u32("llama.attention.sliding_window_pattern", 2);
    let header = read(&windowed.bytes()).unwrap();
    assert_eq!(header.windowed, [true, false]);
    assert_eq!(header.memory_needed(1024, 1).kv, (512 + 1024) * 2 * 32 * 2);
    assert_eq!(header.memory_needed(256, 1).kv, (256 + 256) * 2 * 32 * 2);

    // A layer without KV heads keeps nothing, and neither do those between full ones.
    let heads: Vec<u8> = [0u32, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
    let hybrid = Sample::tiny()
        .without("llama.attention.head_count_kv")
        .array("llama.attention.head_count_kv", 4, 2, &heads);
    let header = read(&hybrid.bytes()).unwrap();
    assert_eq!(header.memory_needed(1024, 1).kv, 1024 * 2 * 32 * 2);
    let linear = Sample::tiny().u32("llama.full_attention_interval", 2);
    assert_eq!(read(&linear.bytes()).unwrap().n_head_kv, [0, 2]);
}

#[test]
fn a_vocabulary_is_streamed_quickly() {
    let tokens: Vec<String> = (0..262_144).map(|n| format!("token{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let sample = Sample::tiny()
        .without("tokenizer.ggml.tokens")
        .tokens(&tokens);
    let bytes = sample.bytes();
    let started = std::time::Instant::now();
    assert_eq!(read(&bytes).unwrap().vocabulary, 262_144);
    assert!(started.elapsed() < std::time::Duration::from_secs(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes);
        let mut model = b"GGUF\x03\0\0\0".to_vec();
        model.extend(bytes);
        let _ = read(&model);
    }

    #[test]
    fn no_mutation_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
    ) {
        let mut bytes = Sample::tiny()
            .u32("llama.attention.sliding_window", 100)
            .u32("llama.full_attention_interval", 2)
            .bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if !keep {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(header) = read(&bytes) {
            // Whatever passed stays within what the file can hold, and can be shown.
            prop_assert!(header.weights_bytes <= bytes.len() as u64);
            prop_assert!(header.n_layer as usize <= 1024);
            header.memory_needed(u32::MAX, u32::MAX).total();
        }
    }
}
