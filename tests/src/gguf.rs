//! Tiny GGUF files: valid ones that tell the fake engine what to do, and spoilt ones.
//!
//! The layout is that of GGUF version 3: magic, version, counts, metadata, tensor descriptions,
//! padding to the alignment, tensor data.

const ALIGNMENT: usize = 32;
const TYPE_UINT32: u32 = 4;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;
const TENSOR_F32: u32 = 0;

/// A GGUF file in the making.
#[derive(Clone, Debug, Default)]
pub struct Gguf {
    metadata: Vec<u8>,
    entries: u64,
}

impl Gguf {
    /// A model that any pre-parser takes: one block, one tensor, and `name` for `general.name`.
    pub fn tiny(name: &str) -> Self {
        Self::templated(name, "{{ messages }}")
    }

    /// The same with a chat template.
    pub fn templated(name: &str, template: &str) -> Self {
        Self::default()
            .string("general.architecture", "llama")
            .string("general.name", name)
            .uint32("general.file_type", 0)
            .uint32("llama.context_length", 131_072)
            .uint32("llama.block_count", 1)
            .uint32("llama.embedding_length", 8)
            .uint32("llama.feed_forward_length", 8)
            .uint32("llama.attention.head_count", 1)
            .uint32("llama.attention.head_count_kv", 1)
            .string("tokenizer.ggml.model", "gpt2")
            .strings("tokenizer.ggml.tokens", &["a", "b"])
            .string("tokenizer.chat_template", template)
    }

    /// Adds a string.
    #[must_use]
    pub fn string(mut self, key: &str, value: &str) -> Self {
        self.key(key, TYPE_STRING);
        push_string(&mut self.metadata, value);
        self
    }

    /// Adds a list of strings.
    #[must_use]
    pub fn strings(mut self, key: &str, values: &[&str]) -> Self {
        self.key(key, TYPE_ARRAY);
        self.metadata.extend_from_slice(&TYPE_STRING.to_le_bytes());
        let length = values.len() as u64;
        self.metadata.extend_from_slice(&length.to_le_bytes());
        for value in values {
            push_string(&mut self.metadata, value);
        }
        self
    }

    /// Adds a 32-bit number.
    #[must_use]
    pub fn uint32(mut self, key: &str, value: u32) -> Self {
        self.key(key, TYPE_UINT32);
        self.metadata.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.entries += 1;
        push_string(&mut self.metadata, key);
        self.metadata.extend_from_slice(&kind.to_le_bytes());
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend_from_slice(&3_u32.to_le_bytes());
        file.extend_from_slice(&1_u64.to_le_bytes());
        file.extend_from_slice(&self.entries.to_le_bytes());
        file.extend_from_slice(&self.metadata);
        push_string(&mut file, "token_embd.weight");
        file.extend_from_slice(&1_u32.to_le_bytes());
        file.extend_from_slice(&8_u64.to_le_bytes());
        file.extend_from_slice(&TENSOR_F32.to_le_bytes());
        file.extend_from_slice(&0_u64.to_le_bytes());
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.resize(file.len() + 8 * size_of::<f32>(), 0);
        file
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
