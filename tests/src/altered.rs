//! A real model with another chat template and other names of some tokens: its weights know nothing of
//! either, which no grammar minds.

use std::io::{Cursor, Read as _};

const ALIGNMENT: usize = 32;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const TEMPLATE: &str = "tokenizer.chat_template";
const TOKENS: &str = "tokenizer.ggml.tokens";

/// The file `model` with `template` for its chat template, and the tokens of these numbers renamed.
///
/// # Panics
/// If it is no GGUF of version 3 that has both.
pub fn altered(model: &[u8], template: &str, tokens: &[(usize, &str)]) -> Vec<u8> {
    let mut reader = Reader(Cursor::new(model));
    assert_eq!(reader.bytes(4), b"GGUF");
    assert_eq!(reader.u32(), 3);
    let (tensors, pairs) = (reader.u64(), reader.u64());
    let mut file = b"GGUF".to_vec();
    file.extend_from_slice(&3_u32.to_le_bytes());
    file.extend_from_slice(&tensors.to_le_bytes());
    file.extend_from_slice(&pairs.to_le_bytes());
    for _ in 0..pairs {
        let key = reader.string();
        let kind = reader.u32();
        push(&mut file, &key);
        file.extend_from_slice(&kind.to_le_bytes());
        match key.as_slice() {
            key if key == TEMPLATE.as_bytes() => {
                reader.string();
                push(&mut file, template.as_bytes());
            }
            key if key == TOKENS.as_bytes() => {
                let (kind, count) = (reader.u32(), reader.u64());
                assert_eq!(kind, STRING);
                file.extend_from_slice(&kind.to_le_bytes());
                file.extend_from_slice(&count.to_le_bytes());
                for number in 0..usize::try_from(count).unwrap() {
                    let token = reader.string();
                    let renamed = tokens.iter().find(|(of, _)| *of == number);
                    push(
                        &mut file,
                        renamed.map_or(&token, |(_, name)| name.as_bytes()),
                    );
                }
            }
            _ => {
                let from = reader.at();
                reader.skip(kind);
                file.extend_from_slice(&model[from..reader.at()]);
            }
        }
    }
    let from = reader.at();
    for _ in 0..tensors {
        reader.string();
        let dimensions = reader.u32();
        reader.bytes(8 * dimensions as usize + 4 + 8);
    }
    file.extend_from_slice(&model[from..reader.at()]);
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file.extend_from_slice(&model[reader.at().next_multiple_of(ALIGNMENT)..]);
    file
}

fn push(file: &mut Vec<u8>, text: &[u8]) {
    file.extend_from_slice(&(text.len() as u64).to_le_bytes());
    file.extend_from_slice(text);
}

struct Reader<'a>(Cursor<&'a [u8]>);

impl Reader<'_> {
    fn at(&self) -> usize {
        usize::try_from(self.0.position()).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn string(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.u64()).unwrap();
        self.bytes(length)
    }

    fn skip(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => drop(self.bytes(1)),
            2 | 3 => drop(self.bytes(2)),
            4..=6 => drop(self.bytes(4)),
            10..=12 => drop(self.bytes(8)),
            STRING => drop(self.string()),
            ARRAY => {
                let (kind, count) = (self.u32(), self.u64());
                for _ in 0..count {
                    self.skip(kind);
                }
            }
            other => panic!("there is no type {other}"),
        }
    }
}
