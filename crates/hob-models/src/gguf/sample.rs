//! Writes small GGUF files for tests.

/// A GGUF file being put together.
#[derive(Debug)]
pub(crate) struct Sample {
    version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<(String, Vec<u64>, u32, u64, u64)>,
    data: u64,
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

impl Sample {
    pub(crate) fn empty() -> Self {
        Self {
            version: 3,
            keys: Vec::new(),
            tensors: Vec::new(),
            data: 0,
        }
    }

    /// A whole tiny model: two layers, five tokens.
    pub(crate) fn tiny() -> Self {
        Self::empty()
            .text("general.architecture", "llama")
            .text("general.name", "Tiny")
            .u32("general.file_type", 2)
            .u32("llama.block_count", 2)
            .u32("llama.embedding_length", 64)
            .u32("llama.context_length", 1024)
            .u32("llama.feed_forward_length", 128)
            .u32("llama.attention.head_count", 4)
            .u32("llama.attention.head_count_kv", 2)
            .tokens(&["a", "b", "c", "d", "e"])
            .text("tokenizer.chat_template", "{{ messages }}")
            .tensor("token_embd.weight", &[64, 5], 2)
            .tensor("output_norm.weight", &[64], 0)
    }

    pub(crate) fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn raw(mut self, key: &str, tag: u32, value: &[u8]) -> Self {
        let mut bytes = string(key.as_bytes());
        bytes.extend(tag.to_le_bytes());
        bytes.extend(value);
        self.keys.push(bytes);
        self
    }

    pub(crate) fn text(self, key: &str, text: &str) -> Self {
        self.raw(key, 8, &string(text.as_bytes()))
    }

    pub(crate) fn u32(self, key: &str, number: u32) -> Self {
        self.raw(key, 4, &number.to_le_bytes())
    }

    pub(crate) fn array(self, key: &str, tag: u32, length: u64, elements: &[u8]) -> Self {
        let mut value = tag.to_le_bytes().to_vec();
        value.extend(length.to_le_bytes());
        value.extend(elements);
        self.raw(key, 9, &value)
    }

    pub(crate) fn tokens(self, tokens: &[&str]) -> Self {
        let elements: Vec<u8> = tokens.iter().flat_map(|t| string(t.as_bytes())).collect();
        self.array("tokenizer.ggml.tokens", 8, tokens.len() as u64, &elements)
    }

    /// Replaces a key's pair.
    pub(crate) fn without(mut self, key: &str) -> Self {
        let start = string(key.as_bytes());
        self.keys.retain(|pair| !pair.starts_with(&start));
        self
    }

    /// Takes all tensors away.
    pub(crate) fn without_tensors(mut self) -> Self {
        self.tensors.clear();
        self.data = 0;
        self
    }

    /// Adds a tensor of type `F32` (0), `Q4_0` (2) or any other (counted as `F32`).
    pub(crate) fn tensor(self, name: &str, dimensions: &[u64], tag: u32) -> Self {
        let elements: u64 = dimensions.iter().product();
        let bytes = if tag == 2 {
            elements / 32 * 18
        } else {
            elements * 4
        };
        let offset = self.data;
        self.tensor_at(name, dimensions, tag, offset, bytes)
    }

    pub(crate) fn tensor_at(
        mut self,
        name: &str,
        dimensions: &[u64],
        tag: u32,
        offset: u64,
        bytes: u64,
    ) -> Self {
        self.tensors
            .push((name.to_owned(), dimensions.to_vec(), tag, offset, bytes));
        self.data = (self.data + bytes).next_multiple_of(32);
        self
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.iter().flatten());
        for (name, dimensions, tag, offset, _) in &self.tensors {
            bytes.extend(string(name.as_bytes()));
            bytes.extend(u32::try_from(dimensions.len()).unwrap_or(0).to_le_bytes());
            bytes.extend(dimensions.iter().flat_map(|d| d.to_le_bytes()));
            bytes.extend(tag.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        let start = bytes.len();
        let data = usize::try_from(self.data).unwrap_or(0);
        bytes.resize(start + data, 0);
        for (_, _, _, offset, length) in &self.tensors {
            let whole = u64::try_from(data).unwrap_or(0);
            let end = offset.saturating_add(*length);
            let (from, to) = ((*offset).min(whole), end.min(whole));
            let range = |at: u64| start + usize::try_from(at).unwrap_or(0);
            // Padding between tensors stays zero.
            for (byte, value) in bytes[range(from)..range(to)]
                .iter_mut()
                .zip((0u8..251).cycle())
            {
                *byte = value.wrapping_add(u8::try_from(from % 251).unwrap_or(0));
            }
        }
        bytes
    }
}
