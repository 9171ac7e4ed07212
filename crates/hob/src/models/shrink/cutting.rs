//! How a model's tokenizer cuts the corpus, and sentences of many languages.

use std::collections::HashMap;
use std::fs::File;

use hob_ipc::tokens::TEXT_BYTES_MAX;
use hob_models::Sha256;

use super::Shop;
use super::excerpts::Excerpts;
use crate::failure::Failure;
use crate::models::samples::SAMPLES;

/// How a vocabulary cuts texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Cutting {
    /// How often each token came up in the corpus.
    pub(super) counts: Vec<u64>,
    /// Which share of a file's tokens it was, summed over the files.
    pub(super) shares: Vec<f64>,
    /// Bytes and tokens of each of the corpus's files.
    pub(super) files: Vec<(u64, u64)>,
    /// Tokens of each sample.
    pub(super) samples: Vec<u64>,
    /// Pieces of text that their tokens spell again.
    pub(super) exact: u64,
}

impl Shop {
    /// Has a model make tokens of the corpus, and of the samples; the digest of the
    /// corpus, if there is one.
    pub(super) fn cut(
        &mut self,
        what: &'static str,
        model: &File,
        vocabulary: usize,
    ) -> Result<(Cutting, Option<Sha256>), Failure> {
        self.meter.stage(what, self.corpus.bytes());
        let mut engine = self.engine(model, vocabulary)?;
        let mut cutting = Cutting {
            counts: vec![0; vocabulary],
            shares: vec![0.0; vocabulary],
            files: vec![(0, 0); self.corpus.files().len()],
            ..Cutting::default()
        };
        let (meter, interrupt) = (&mut self.meter, &self.interrupt);
        let (corpus, holds_out) = (&self.corpus, self.holds_out);
        let mut held_out = Vec::new();
        let mut excerpts = Excerpts::of(corpus.lengths());
        let mut of_file = OfFile::default();
        let mut each = |file: usize, text: &str| {
            interrupt.check()?;
            if of_file.file != file {
                std::mem::take(&mut of_file).add_to(&mut cutting.shares);
                of_file.file = file;
            }
            let (bytes, tokens) = &mut cutting.files[file];
            let (counted, apart) = if holds_out {
                corpus.part(file, *bytes, text)
            } else {
                (text, "")
            };
            for (part, counts) in [(counted, true), (apart, false)] {
                if part.is_empty() {
                    continue;
                }
                if counts {
                    excerpts.add(file, part);
                }
                let found = engine.tokenize(part)?;
                for token in found.tokens.iter().filter(|_| counts) {
                    cutting.counts[*token as usize] += 1;
                    of_file.count(*token);
                }
                *tokens += found.tokens.len() as u64;
                cutting.exact += u64::from(found.exact);
            }
            if !apart.is_empty() {
                held_out.push(apart.to_owned());
            }
            *bytes += text.len() as u64;
            meter.advance(text.len() as u64);
            Ok(())
        };
        let digest = if self.corpus.files().is_empty() {
            None
        } else {
            Some(self.corpus.read(TEXT_BYTES_MAX, &mut each)?)
        };
        of_file.add_to(&mut cutting.shares);
        self.held_out = held_out;
        self.excerpts = excerpts.found();
        for (_, text) in SAMPLES {
            let found = engine.tokenize(text)?;
            cutting.exact += u64::from(found.exact);
            cutting.samples.push(found.tokens.len() as u64);
        }
        Ok((cutting, digest))
    }
}

/// How often tokens came up in one file.
#[derive(Default)]
struct OfFile {
    file: usize,
    counts: HashMap<u32, u32>,
    all: f64,
}

impl OfFile {
    fn count(&mut self, token: u32) {
        let count = self.counts.entry(token).or_default();
        *count = count.saturating_add(1);
        self.all += 1.0;
    }

    fn add_to(self, shares: &mut [f64]) {
        for (token, count) in self.counts {
            if let Some(share) = shares.get_mut(token as usize) {
                *share += f64::from(count) / self.all;
            }
        }
    }
}

impl Cutting {
    /// Of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(bytes, _)| bytes).sum()
    }

    /// Of all files.
    pub(super) fn tokens(&self) -> u64 {
        self.files.iter().map(|(_, tokens)| tokens).sum()
    }
}
